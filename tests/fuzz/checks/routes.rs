//! The route table (hazard URI-06: fast and slow path of a matcher disagree) against rules tried one after the other, by
//! what `route`'s documentation says and with none of its code.
//!
//! The input is text; lines and words that say nothing are left out. A line that begins with `r` is a rule, one with `q` a
//! request, both followed by words:
//!
//! ```text
//! r p:1 l:0 h:*.a.b P:/x/* R:^/a m:GET H:name=value k:key=value c:name=value s:10.0.0.0/8
//! q GET a.b/x/y?k=v l:0 H:name=value s:10.1.2.3
//! ```

use regex::bytes::Regex;
use ringgate::http::fields::OwnedFields;
use ringgate::http::{Fields, RequestView};
use ringgate::route::{CompileError, ListenerId, RuleId, RuleSpec, Table};
use std::cmp::{Ordering, Reverse};
use std::net::{IpAddr, Ipv4Addr};

/// Rules and requests of one input.
const MOST: usize = 24;
/// Octets of one pattern.
const LONGEST: usize = 40;

/// See the module's documentation.
pub fn routes(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let rules: Vec<RuleSpec> = lines(&text, 'r').map(rule).collect();
    let table = match Table::compile(&rules) {
        Ok(table) => table,
        Err(CompileError::Regex { rule, value, problem }) => {
            let written = rules.get(rule.0 as usize).expect("a rule that exists");
            assert!(written.path_regex.contains(&value) && !problem.is_empty());
            assert!(Regex::new(&value).is_err());
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let mut order: Vec<u32> = (0..rules.len() as u32).collect();
    order.sort_by(|a, b| earlier(&rules[*a as usize], &rules[*b as usize]));
    let compiled: Vec<u32> = table.order().iter().map(|id| id.0).collect();
    assert_eq!(compiled, order, "{rules:#?}");

    let hidden = table.hidden();
    for (rule, by) in &hidden {
        let place = |id: &RuleId| order.iter().position(|rule| *rule == id.0);
        assert!(place(by) < place(rule), "{rule:?} is hidden by a later rule, {by:?}");
    }
    let regex = |text: &String| Regex::new(text).expect("the table has compiled it");
    let regexes: Vec<Vec<Regex>> =
        rules.iter().map(|rule| rule.path_regex.iter().map(regex).collect()).collect();
    for request in lines(&text, 'q').filter_map(Request::read) {
        let view = request.view();
        let takes = |rule: &u32| {
            request.is_taken_by(&rules[*rule as usize], &regexes[*rule as usize], &view)
        };
        let expected = order.iter().copied().find(takes);
        let found = table.find(request.listener, &view).map(|id| id.0);
        assert_eq!(found, expected, "{view:?}\n{rules:#?}");
        for rule in &order {
            let verdict = table.check(RuleId(*rule), request.listener, &view);
            assert_eq!(verdict.is_ok(), takes(rule), "{verdict:?} {view:?}\n{rules:#?}");
        }
        assert!(!hidden.iter().any(|(rule, _)| Some(rule.0) == found), "{found:?} is not hidden");
    }
}

/// The words of each line of a kind.
fn lines(text: &str, kind: char) -> impl Iterator<Item = std::str::SplitWhitespace<'_>> {
    let lines = text.lines().filter_map(move |line| line.strip_prefix(kind));
    lines.take(MOST).map(str::split_whitespace)
}

fn rule(words: std::str::SplitWhitespace<'_>) -> RuleSpec {
    let mut rule = RuleSpec::default();
    for (key, value) in words.filter_map(|word| word.split_once(':')) {
        if value.len() > LONGEST {
            continue;
        }
        match key {
            "p" => rule.priority = value.parse().ok(),
            "l" => rule.listeners.extend(value.parse().ok().map(ListenerId)),
            "h" => rule.host.push(value.to_owned()),
            "P" => rule.path.push(value.to_owned()),
            // Neither counted repetition nor classes: compiling those is slow, and their library's own affair.
            "R" => rule.path_regex.push(value.replace(['{', '\\'], "")),
            "m" => rule.method.push(value.to_owned()),
            "H" => named(&mut rule.header, value),
            "k" => named(&mut rule.query, value),
            "c" => named(&mut rule.cookie, value),
            "s" => rule.source.extend(value.parse::<ipnet::IpNet>()),
            _ => {}
        }
    }
    rule
}

/// `name=value` adds a value to the name before if it is the same one; `name` alone takes any value.
fn named(list: &mut Vec<(String, Vec<String>)>, text: &str) {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    match list.last_mut() {
        Some((last, values)) if last == name => values.extend(value),
        _ => list.push((name.to_owned(), value.into_iter().collect())),
    }
}

struct Request {
    method: String,
    host: String,
    path: String,
    query: Option<String>,
    fields: Vec<(String, String)>,
    owned: OwnedFields,
    peer: IpAddr,
    listener: ListenerId,
}

impl Request {
    fn read(mut words: std::str::SplitWhitespace<'_>) -> Option<Request> {
        let method = words.next()?.to_owned();
        let url = words.next()?;
        let (url, query) = match url.split_once('?') {
            Some((url, query)) => (url, Some(query.to_owned())),
            None => (url, None),
        };
        // A canonical host is in lower case; a path begins with a slash or is an asterisk.
        let (host, path) = url.split_at(url.find(['/', '*'])?);
        let (host, path) = (host.to_ascii_lowercase(), path.to_owned());
        let mut fields = Vec::new();
        let (mut peer, mut listener) = (IpAddr::V4(Ipv4Addr::LOCALHOST), ListenerId(0));
        for (key, value) in words.filter_map(|word| word.split_once(':')) {
            match key {
                "H" => {
                    let (name, value) = value.split_once('=').unwrap_or((value, ""));
                    fields.push((name.to_owned(), value.to_owned()));
                }
                "s" => peer = value.parse().unwrap_or(peer),
                "l" => listener = value.parse().map_or(listener, ListenerId),
                _ => {}
            }
        }
        let owned = fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        Some(Request { method, host, path, query, fields, owned, peer, listener })
    }

    fn view(&self) -> RequestView<'_> {
        let fields: Fields<'_> = self.owned.view();
        RequestView {
            method: self.method.as_bytes(),
            host: self.host.as_bytes(),
            path: self.path.as_bytes(),
            query: self.query.as_deref().map(str::as_bytes),
            fields,
            peer: self.peer,
        }
    }

    fn is_taken_by(&self, rule: &RuleSpec, regexes: &[Regex], view: &RequestView<'_>) -> bool {
        let fold = |text: &str| text.to_ascii_lowercase().into_bytes();
        let any = |list: &[String], takes: &dyn Fn(&String) -> bool| {
            list.is_empty() || list.iter().any(takes)
        };
        let folded = |values: &[String], text: &[u8]| {
            any(values, &|value| wild(&fold(value), &text.to_ascii_lowercase()))
        };
        let source = |net: &ipnet::IpNet| in_range(net, self.peer);
        let header = |(name, values): &(String, Vec<String>)| {
            let same = |f: &&(String, String)| f.0.eq_ignore_ascii_case(name);
            self.fields.iter().filter(same).any(|f| folded(values, f.1.as_bytes()))
        };
        let cookie = |(name, values): &(String, Vec<String>)| {
            view.fields.cookies().any(|(n, value)| {
                n == name.as_bytes() && any(values, &|v| wild(v.as_bytes(), value))
            })
        };
        let query = |(key, values): &(String, Vec<String>)| {
            view.query_pairs().any(|(k, value)| {
                let (k, value) = (percent_decoded(k), percent_decoded(value));
                let same = key == "*" || k.eq_ignore_ascii_case(key.as_bytes());
                same && folded(values, &value)
            })
        };
        (rule.listeners.is_empty() || rule.listeners.contains(&self.listener))
            && any(&rule.host, &|host| wild(&fold(host), self.host.as_bytes()))
            && any(&rule.path, &|path| wild(path.as_bytes(), self.path.as_bytes()))
            && (regexes.is_empty() || regexes.iter().any(|r| r.is_match(self.path.as_bytes())))
            && any(&rule.method, &|method| *method == self.method)
            && (rule.source.is_empty() || rule.source.iter().any(source))
            && rule.header.iter().all(header)
            && rule.cookie.iter().all(cookie)
            && rule.query.iter().all(query)
    }
}

/// `*` and `?` by a table: whether the first `t` octets match the first `p` of the pattern.
fn wild(pattern: &[u8], text: &[u8]) -> bool {
    let mut row = vec![false; text.len() + 1];
    row[0] = true;
    for symbol in pattern {
        let mut next = vec![false; text.len() + 1];
        next[0] = row[0] && *symbol == b'*';
        for t in 1..=text.len() {
            next[t] = match symbol {
                b'*' => row[t] || next[t - 1],
                b'?' => row[t - 1],
                octet => row[t - 1] && *octet == text[t - 1],
            };
        }
        row = next;
    }
    row[text.len()]
}

fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let (mut out, mut at) = (Vec::new(), 0);
    while at < text.len() {
        let digits = text.get(at + 1..at + 3).filter(|_| text[at] == b'%');
        let digits = digits.filter(|d| d.iter().all(u8::is_ascii_hexdigit));
        let octet = digits.and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 16).ok());
        out.push(octet.unwrap_or(text[at]));
        at += if octet.is_some() { 3 } else { 1 };
    }
    out
}

/// Bit by bit, IPv4 as the last 32 bits of an IPv4-mapped address.
fn in_range(net: &ipnet::IpNet, peer: IpAddr) -> bool {
    let bits = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => u128::from(v4.to_ipv6_mapped()),
        IpAddr::V6(v6) => u128::from(v6),
    };
    let length = match net {
        ipnet::IpNet::V4(v4) => 96 + u32::from(v4.prefix_len()),
        ipnet::IpNet::V6(v6) => u32::from(v6.prefix_len()),
    };
    // A range of IPv6 that is wider than all of IPv4 is about IPv6 only.
    let mapped = bits(peer) >> 32 == 0xffff;
    if mapped && length < 96 {
        return false;
    }
    let differ = bits(peer) ^ bits(net.addr());
    length == 0 || differ >> (128 - length) == 0
}

/// The order of rules, as `route`'s documentation gives it.
fn earlier(a: &RuleSpec, b: &RuleSpec) -> Ordering {
    match (a.priority, b.priority) {
        // The sort is stable: equal ones stay in the order of the file.
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => specific(a).cmp(&specific(b)),
    }
}

type Specific = ((u8, Reverse<usize>), (u8, Reverse<usize>, Reverse<usize>), Reverse<usize>);

/// Less is more specific: host, path, number of conditions.
fn specific(rule: &RuleSpec) -> Specific {
    let is_wild = |text: &str| text.contains(['*', '?']);
    let all = |text: &str| !text.is_empty() && text.chars().all(|c| c == '*');
    let literals = |text: &str| text.bytes().filter(|b| !matches!(b, b'*' | b'?')).count();
    let host = rule.host.iter().map(|text| match text {
        text if all(text) => (2, Reverse(0)),
        text if !is_wild(text) => (0, Reverse(0)),
        text => (1, Reverse(literals(text))),
    });
    let none = (3, Reverse(0), Reverse(0));
    let path = rule.path.iter().map(|text| match text {
        text if all(text) || (text.starts_with("/*") && all(&text[1..])) => none,
        text if !is_wild(text) => (0, Reverse(0), Reverse(0)),
        text => {
            let prefix = text.find(['*', '?']).unwrap_or_default();
            (1, Reverse(prefix), Reverse(literals(text)))
        }
    });
    let regex = if rule.path_regex.is_empty() { none } else { (2, Reverse(0), Reverse(0)) };
    let lists = [
        !rule.host.is_empty(),
        !rule.path.is_empty(),
        !rule.path_regex.is_empty(),
        !rule.method.is_empty(),
        !rule.source.is_empty(),
    ];
    let lists = lists.into_iter().filter(|given| *given).count();
    let conditions = lists + rule.header.len() + rule.query.len() + rule.cookie.len();
    (
        host.max().unwrap_or((2, Reverse(0))),
        path.max().unwrap_or(none).min(regex),
        Reverse(conditions),
    )
}
