//! Radix tries in flat memory: find everything whose literal octets stand at one end of a text.
//!
//! One forest holds many tries (one for each host pattern's paths). A key is *closed* (the text must end with it) or
//! *open* (anything may follow). Items carry a rank, and a search leaves out whatever cannot beat the best rank that
//! it has found so far. Knows nothing of hosts, paths or rules. Called by `index`.

use std::ops::Range;

/// The end of the text at which keys are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Keys are prefixes.
    Front,
    /// Keys are suffixes.
    Back,
}

/// What is put in.
#[derive(Clone, Debug)]
pub(super) struct Key<'k, T> {
    pub(super) text: &'k [u8],
    pub(super) open: bool,
    pub(super) rank: u32,
    pub(super) value: T,
}

/// Tries that share their memory.
#[derive(Debug)]
pub(super) struct Forest<T> {
    end: End,
    nodes: Vec<Node>,
    /// For each node the octet by which it is chosen.
    firsts: Vec<u8>,
    labels: Vec<u8>,
    items: Vec<Item<T>>,
}

/// A trie of a forest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Root(u32);

#[derive(Debug, Default)]
struct Node {
    /// The least rank here and below.
    best: u32,
    /// Octets of `labels`: what follows the first octet, which choosing the node has compared.
    label: (u32, u32),
    /// Nodes, with distinct first octets.
    children: (u32, u32),
    /// Items: the open ones from .0 to .1, the closed ones from .1 to .2, each by rank.
    items: (u32, u32, u32),
}

#[derive(Debug)]
struct Item<T> {
    rank: u32,
    value: T,
}

/// More octets, nodes or items than 32 bits count.
#[derive(Debug)]
pub(super) struct TooMany;

impl<T> Forest<T> {
    pub(super) fn new(end: End) -> Forest<T> {
        let (nodes, firsts, labels, items) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Forest { end, nodes, firsts, labels, items }
    }

    /// Plants a trie of `keys`.
    pub(super) fn plant(&mut self, mut keys: Vec<Key<'_, T>>) -> Result<Root, TooMany> {
        match self.end {
            End::Front => keys.sort_by(|a, b| {
                a.text.cmp(b.text).then(b.open.cmp(&a.open)).then(a.rank.cmp(&b.rank))
            }),
            End::Back => keys.sort_by(|a, b| {
                let (left, right) = (a.text.iter().rev(), b.text.iter().rev());
                left.cmp(right).then(b.open.cmp(&a.open)).then(a.rank.cmp(&b.rank))
            }),
        }
        let first_item = self.items.len();
        let root = self.grow(0)?;
        // What is left to do: a node, the sorted keys at and below it, and how many of their octets lie above it.
        let mut work = vec![(root, 0..keys.len(), 0)];
        while let Some((node, range, above)) = work.pop() {
            self.fill(node, &keys, range, above, first_item, &mut work)?;
        }
        let items = keys.into_iter().map(|key| Item { rank: key.rank, value: key.value });
        self.items.extend(items);
        offset(self.items.len())?;

        for at in (root as usize..self.nodes.len()).rev() {
            let node = &self.nodes[at];
            let here = &self.items[node.items.0 as usize..node.items.2 as usize];
            let below = &self.nodes[node.children.0 as usize..node.children.1 as usize];
            let ranks = here.iter().map(|i| i.rank).chain(below.iter().map(|n| n.best));
            self.nodes[at].best = ranks.min().unwrap_or(u32::MAX);
        }
        Ok(Root(root))
    }

    /// The least rank in a trie.
    pub(super) fn best(&self, root: Root) -> u32 {
        self.nodes.get(root.0 as usize).map_or(u32::MAX, |node| node.best)
    }

    /// Hands every item whose key stands at the end of `text` and whose rank is less than `best` to `take`, which may
    /// lower `best`.
    #[inline]
    pub(super) fn search(
        &self,
        root: Root,
        text: &[u8],
        best: &mut u32,
        mut take: impl FnMut(&T, u32, &mut u32),
    ) {
        let mut at = root.0 as usize;
        let mut rest = text;
        while let Some(node) = self.nodes.get(at) {
            if node.best >= *best {
                return;
            }
            if node.label.0 != node.label.1 {
                let label = slice(&self.labels, node.label);
                let below = match self.end {
                    End::Front => rest.strip_prefix(label),
                    End::Back => rest.strip_suffix(label),
                };
                let Some(below) = below else { return };
                rest = below;
            }
            let last = if rest.is_empty() { node.items.2 } else { node.items.1 };
            self.offer((node.items.0, node.items.1), best, &mut take);
            self.offer((node.items.1, last), best, &mut take);

            let next = match self.end {
                End::Front => rest.split_first(),
                End::Back => rest.split_last(),
            };
            let Some((next, below)) = next else { return };
            rest = below;
            let Some(child) = position(slice(&self.firsts, node.children), *next) else { return };
            at = node.children.0 as usize + child;
        }
    }

    #[inline]
    fn offer(&self, items: (u32, u32), best: &mut u32, take: &mut impl FnMut(&T, u32, &mut u32)) {
        for item in slice(&self.items, items) {
            if item.rank >= *best {
                return;
            }
            take(&item.value, item.rank, best);
        }
    }

    fn grow(&mut self, first: u8) -> Result<u32, TooMany> {
        let at = offset(self.nodes.len())?;
        self.nodes.push(Node::default());
        self.firsts.push(first);
        Ok(at)
    }

    /// Gives a node its label, items and children, and puts the children on the list of work. `range` is not empty
    /// but for the root of an empty trie.
    fn fill(
        &mut self,
        node: u32,
        keys: &[Key<'_, T>],
        range: Range<usize>,
        above: usize,
        first_item: usize,
        work: &mut Vec<(u32, Range<usize>, usize)>,
    ) -> Result<(), TooMany> {
        let list = &keys[range.clone()];
        let (Some(first), Some(last)) = (list.first(), list.last()) else { return Ok(()) };
        // They are sorted: what the first and the last share, all share.
        let (a, b) = (self.below(first.text, above), self.below(last.text, above));
        let shared = match self.end {
            End::Front => a.iter().zip(b).take_while(|(a, b)| a == b).count(),
            End::Back => a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count(),
        };
        let start = offset(self.labels.len())?;
        self.labels.extend_from_slice(match self.end {
            End::Front => &a[..shared],
            End::Back => &a[a.len() - shared..],
        });
        let label = (start, offset(self.labels.len())?);

        let depth = above + shared;
        let here = list.iter().take_while(|k| k.text.len() == depth).count();
        let open = list[..here].iter().filter(|k| k.open).count();
        let item = first_item + range.start;
        let items = (offset(item)?, offset(item + open)?, offset(item + here)?);

        let children = offset(self.nodes.len())?;
        let mut from = here;
        while let Some(octet) = list.get(from).and_then(|k| self.octet(k.text, depth)) {
            let same = |k: &Key<'_, T>| self.octet(k.text, depth) == Some(octet);
            let count = list[from..].iter().take_while(|k| same(k)).count();
            let child = self.grow(octet)?;
            work.push((child, range.start + from..range.start + from + count, depth + 1));
            from += count;
        }
        let children = (children, offset(self.nodes.len())?);
        self.nodes[node as usize] = Node { best: 0, label, children, items };
        Ok(())
    }

    /// What is left of a key below its first `depth` octets.
    fn below<'k>(&self, text: &'k [u8], depth: usize) -> &'k [u8] {
        match self.end {
            End::Front => &text[depth..],
            End::Back => &text[..text.len() - depth],
        }
    }

    fn octet(&self, text: &[u8], depth: usize) -> Option<u8> {
        match self.end {
            End::Front => self.below(text, depth).first().copied(),
            End::Back => self.below(text, depth).last().copied(),
        }
    }
}

fn slice<T>(list: &[T], range: (u32, u32)) -> &[T] {
    list.get(range.0 as usize..range.1 as usize).unwrap_or_default()
}

fn offset(at: usize) -> Result<u32, TooMany> {
    u32::try_from(at).map_err(|_| TooMany)
}
/// Most nodes have a handful of children, where a loop is quicker than a call. (Comparing 16 lanes of an integer at
/// once was slower than the loop, whose branches the processor runs ahead of.)
#[inline]
fn position(firsts: &[u8], octet: u8) -> Option<usize> {
    if firsts.len() <= 16 {
        return firsts.iter().position(|first| *first == octet);
    }
    memchr::memchr(octet, firsts)
}
