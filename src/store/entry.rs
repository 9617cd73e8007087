//! One stored response: its head as it may be given, its body, and what the rules of caching know of it.
//!
//! Immutable but for three marks: how often it was asked for since the hand of eviction came by, since when it is called stale, and
//! until when its target is not asked again after it has failed.

use crate::base::Tick;
use crate::cache::{Key, Meta, lines};
use crate::http::Field;
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

/// A stored response.
#[derive(Debug)]
pub struct Entry {
    /// What it answers.
    pub key: Key,
    /// What tells it from other responses to the same key.
    pub variant: Box<[u8]>,
    /// The rule that has stored it.
    pub rule: Arc<str>,
    /// What freshness and validation need; [`Entry::meta`] says it as it is after a purge.
    pub stored: Meta,
    /// Its field lines, with an empty line behind them.
    pub lines: Box<[u8]>,
    /// Those of them that clients get.
    pub fields: Box<[Field]>,
    /// Its body. Shared with the entry that renews it.
    pub body: Arc<Box<[u8]>>,
    /// When it is of no use any more.
    pub until: Tick,
    heat: AtomicU8,
    // Both in nanoseconds of `Tick`; 0 for not.
    stale: AtomicU64,
    failing: AtomicU64,
}

// The most that an entry can be ahead of the hand.
const HOTTEST: u8 = 3;
// Reference counts, the slot in its bucket, the allocator's share of its blocks.
const BESIDE: usize = 256;
// How long what can be validated is kept past its use.
const TO_VALIDATE: Duration = Duration::from_secs(600);

impl Entry {
    /// A response with these field lines that nobody has asked for yet; clients do not get the field `hidden`.
    pub fn new(
        key: Key,
        variant: Box<[u8]>,
        rule: Arc<str>,
        stored: Meta,
        mut section: Vec<u8>,
        hidden: Option<&str>,
        body: Arc<Box<[u8]>>,
    ) -> Entry {
        let mut fields = lines::fields(&section);
        let is_hidden = |field: &Field, name: &str| {
            field.name.of(&section).eq_ignore_ascii_case(name.as_bytes())
        };
        fields.retain(|field| !hidden.is_some_and(|name| is_hidden(field, name)));
        section.extend_from_slice(b"\r\n");
        let more = if stored.has_validator() { TO_VALIDATE } else { Duration::ZERO };
        Entry {
            key,
            variant,
            rule,
            until: stored.expires().after(more),
            stored,
            lines: section.into_boxed_slice(),
            fields: fields.into_boxed_slice(),
            body,
            heat: AtomicU8::new(0),
            stale: AtomicU64::new(0),
            failing: AtomicU64::new(0),
        }
    }

    /// Octets that it takes.
    pub fn charge(&self) -> u64 {
        let meta = &self.stored;
        let validators = meta.etag.as_ref().map_or(0, |tag| tag.len())
            + meta.modified.as_ref().map_or(0, |(text, _)| text.len());
        let tags = meta.tags.iter().map(|tag| tag.len() + size_of::<Box<[u8]>>());
        let names = meta.vary.names().iter().map(|name| name.len() + size_of::<Box<str>>());
        let head = self.lines.len() + size_of_val::<[Field]>(&self.fields);
        let key = self.key.octets().len() + self.variant.len();
        let own = size_of::<Entry>() + BESIDE + validators + tags.chain(names).sum::<usize>();
        (own + key + head + self.body.len()) as u64
    }

    /// What freshness and validation need.
    #[inline]
    pub fn meta(&self) -> Cow<'_, Meta> {
        match self.stale.load(Ordering::Relaxed) {
            0 => Cow::Borrowed(&self.stored),
            since => {
                let mut meta = self.stored.clone();
                let age = meta.age_at(Tick::from_nanos(since));
                meta.lifetime = meta.lifetime.min(age);
                Cow::Owned(meta)
            }
        }
    }

    /// Notes that it was asked for. Nothing is written to what is hot already: all cores read it.
    #[inline]
    pub fn touch(&self) {
        let heat = self.heat.load(Ordering::Relaxed);
        if heat < HOTTEST {
            self.heat.store(heat + 1, Ordering::Relaxed);
        }
    }

    /// Its target has failed: until then it is not asked again while this may be given instead.
    pub fn note_failure(&self, until: Tick) {
        self.failing.store(until.nanos(), Ordering::Relaxed);
    }

    /// Whether its target has failed a moment ago.
    #[inline]
    pub fn is_failing(&self, now: Tick) -> bool {
        self.failing.load(Ordering::Relaxed) > now.nanos()
    }

    // Calls it stale; whether it was not before.
    pub(super) fn call_stale(&self, now: Tick) -> bool {
        let nanos = now.nanos().max(1);
        self.stale.compare_exchange(0, nanos, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    // Whether nobody has asked for it since the hand came by last; then a little less of what somebody had.
    pub(super) fn cool(&self) -> bool {
        let heat = self.heat.load(Ordering::Relaxed);
        self.heat.store(heat.saturating_sub(1), Ordering::Relaxed);
        heat == 0
    }

    pub(super) fn heat(&self) -> u8 {
        self.heat.load(Ordering::Relaxed)
    }
}
