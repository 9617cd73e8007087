//! How long an answer may be kept that is made of several: as long as the part that may be kept the shortest.
//!
//! What any part forbids the whole forbids; what not all of them allow it does not allow (RFC 9111 section 5.2.2). A part that
//! does not say how long it is fresh is not. Called by `proxy::aggregate`.

use std::time::Duration;

/// What the parts have said so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freshness {
    parts: usize,
    // Directives of the whole, where any part has them.
    no_store: bool,
    private: bool,
    no_cache: bool,
    must_revalidate: bool,
    proxy_revalidate: bool,
    no_transform: bool,
    // Where every part has it.
    public: bool,
    // Seconds that are left, for any cache and for shared ones.
    max_age: u64,
    shared: u64,
    has_shared: bool,
    vary: Vec<String>,
}

/// The fields of one part that say so, each with its lines in order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Said<'a> {
    /// `Cache-Control`
    pub cache_control: &'a [&'a [u8]],
    /// `Age`
    pub age: Option<&'a [u8]>,
    /// `Expires`
    pub expires: Option<&'a [u8]>,
    /// `Date`
    pub date: Option<&'a [u8]>,
    /// `Vary`
    pub vary: &'a [&'a [u8]],
}

// Names in one Vary; a part with more is not kept.
const MOST_VARY: usize = 32;

impl Default for Freshness {
    fn default() -> Freshness {
        Freshness {
            parts: 0,
            no_store: false,
            private: false,
            no_cache: false,
            must_revalidate: false,
            proxy_revalidate: false,
            no_transform: false,
            public: true,
            max_age: u64::MAX,
            shared: u64::MAX,
            has_shared: false,
            vary: Vec::new(),
        }
    }
}

impl Freshness {
    /// Adds what a part says.
    pub fn add(&mut self, said: &Said<'_>) {
        self.parts += 1;
        let (mut max_age, mut shared, mut public) = (None, None, false);
        let mut qualified = false;
        for (name, value) in said.cache_control.iter().flat_map(|line| directives(line)) {
            match (name.as_str(), value) {
                ("no-store", _) => self.no_store = true,
                ("private", value) => {
                    self.private = true;
                    qualified |= value.is_some();
                }
                ("no-cache", value) => {
                    self.no_cache = true;
                    qualified |= value.is_some();
                }
                ("must-revalidate", _) => self.must_revalidate = true,
                ("proxy-revalidate", _) => self.proxy_revalidate = true,
                ("no-transform", _) => self.no_transform = true,
                ("public", _) => public = true,
                // RFC 9111 section 4.2.1: of two, the shorter one; what is no number is none.
                ("max-age", value) => least(&mut max_age, seconds(value.as_deref())),
                ("s-maxage", value) => least(&mut shared, seconds(value.as_deref())),
                _ => {}
            }
        }
        // Names of fields that the whole does not have mean nothing there: all of it is meant then.
        self.no_cache |= qualified;
        self.public &= public;
        let age = said.age.map_or(0, |age| seconds(std::str::from_utf8(age).ok()));
        let expires = said.expires.map(|expires| until(expires, said.date));
        let fresh = max_age.or(expires);
        self.no_cache |= fresh.is_none() && shared.is_none();
        self.max_age = self.max_age.min(fresh.unwrap_or(0).saturating_sub(age));
        self.has_shared |= shared.is_some();
        self.shared = self.shared.min(shared.or(fresh).unwrap_or(0).saturating_sub(age));
        self.vary(said.vary);
    }

    fn vary(&mut self, lines: &[&[u8]]) {
        for name in lines.iter().flat_map(|line| line.split(|b| *b == b',')) {
            let name = String::from_utf8_lossy(name.trim_ascii()).to_ascii_lowercase();
            if name.is_empty() || self.vary.contains(&name) {
                continue;
            }
            // RFC 9110 section 12.5.5: `*` depends on what nobody knows.
            if name == "*" || self.vary.len() >= MOST_VARY {
                self.no_store = true;
                continue;
            }
            self.vary.push(name);
        }
    }

    /// A part is missing: what stands for it is for this request alone.
    pub fn add_missing(&mut self) {
        self.no_store = true;
    }

    /// `Cache-Control` of the whole.
    pub fn cache_control(&self) -> String {
        if self.no_store || self.parts == 0 {
            return "no-store".to_owned();
        }
        let mut all = Vec::new();
        let mut any = |given: bool, name: &str| all.extend(given.then(|| name.to_owned()));
        any(self.private, "private");
        any(self.public && !self.private, "public");
        any(self.no_cache, "no-cache");
        any(self.must_revalidate, "must-revalidate");
        any(self.proxy_revalidate, "proxy-revalidate");
        any(self.no_transform, "no-transform");
        if !self.no_cache {
            all.push(format!("max-age={}", self.max_age));
            if self.has_shared && !self.private {
                all.push(format!("s-maxage={}", self.shared));
            }
        }
        all.join(", ")
    }

    /// `Vary` of the whole; empty for none.
    pub fn vary_names(&self) -> String {
        self.vary.join(", ")
    }
}

fn least(slot: &mut Option<u64>, value: u64) {
    *slot = Some(slot.map_or(value, |before| before.min(value)));
}

// Seconds; what is no number is stale (RFC 9111 section 4.2.1).
fn seconds(value: Option<&str>) -> u64 {
    let Some(value) = value else { return 0 };
    let value = value.trim();
    if value.is_empty() || !value.bytes().all(|b| b.is_ascii_digit()) {
        return 0;
    }
    value.parse().unwrap_or(1 << 31)
}

// Seconds from `Date` until `Expires`; none where either is no date (RFC 9111 section 5.3).
fn until(expires: &[u8], date: Option<&[u8]>) -> u64 {
    let parse = |octets: &[u8]| httpdate::parse_http_date(std::str::from_utf8(octets).ok()?).ok();
    let left = parse(expires).zip(date.and_then(parse)).map(|(e, d)| e.duration_since(d));
    left.and_then(Result::ok).as_ref().map_or(0, Duration::as_secs)
}

// The directives of a line: names in lower case, values without their quotes. Commas within quotes separate nothing.
fn directives(line: &[u8]) -> Vec<(String, Option<String>)> {
    let text = String::from_utf8_lossy(line);
    let (mut all, mut quoted, mut start) = (Vec::new(), false, 0);
    let mut ends = Vec::new();
    for (at, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => ends.push(at),
            _ => {}
        }
    }
    ends.push(text.len());
    for end in ends {
        let one = text.get(start..end).unwrap_or_default().trim();
        start = end + 1;
        let (name, value) = one.split_once('=').map_or((one, None), |(n, v)| (n, Some(v)));
        let value = value.map(|value| value.trim().trim_matches('"').to_owned());
        if !name.trim().is_empty() {
            all.push((name.trim().to_ascii_lowercase(), value));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(parts: &[&str], expected: &str) {
        let mut whole = Freshness::default();
        for part in parts {
            whole.add(&Said { cache_control: &[part.as_bytes()], ..Said::default() });
        }
        assert_eq!(whole.cache_control(), expected, "{parts:?}");
        let mut turned = Freshness::default();
        for part in parts.iter().rev() {
            turned.add(&Said { cache_control: &[part.as_bytes()], ..Said::default() });
        }
        assert_eq!(turned.cache_control(), expected, "{parts:?} the other way round");
    }

    #[test]
    fn the_whole_is_as_strict_as_its_strictest_part() {
        check(&[], "no-store");
        check(&["max-age=60"], "max-age=60");
        check(&["max-age=60", "max-age=10"], "max-age=10");
        check(&["public, max-age=60", "max-age=10"], "max-age=10");
        check(&["public, max-age=60", "PUBLIC,max-age=10"], "public, max-age=10");
        check(&["max-age=60", "no-store"], "no-store");
        check(&["max-age=60", "private, max-age=90"], "private, max-age=60");
        check(&["public, max-age=1", "private, max-age=90"], "private, max-age=1");
        check(&["max-age=60", ""], "no-cache");
        check(&["max-age=60", "no-cache"], "no-cache");
        check(&["max-age=60, s-maxage=5", "max-age=30"], "max-age=30, s-maxage=5");
        check(&["max-age=60", "s-maxage=90"], "max-age=0, s-maxage=60");
        check(&["max-age=60, s-maxage=5", "private, max-age=30"], "private, max-age=30");
        check(
            &["max-age=9, must-revalidate", "max-age=8, no-transform"],
            "must-revalidate, no-transform, max-age=8",
        );
        check(&["max-age=9, max-age=3"], "max-age=3");
        check(&["max-age=x"], "max-age=0");
        check(&["max-age=\"7\""], "max-age=7");
        check(&["max-age=99999999999999999999999"], "max-age=2147483648");
        check(&["private=\"a, no-store\", max-age=5"], "private, no-cache");
        check(&["max-age=60, stale-while-revalidate=9, immutable"], "max-age=60");
    }

    #[test]
    fn age_and_dates_count() {
        let of = |said: Said<'_>| {
            let mut whole = Freshness::default();
            whole.add(&said);
            whole.cache_control()
        };
        let minute: &[&[u8]] = &[b"max-age=60"];
        let aged =
            |age: &'static [u8]| Said { cache_control: minute, age: Some(age), ..Said::default() };
        assert_eq!(of(aged(b"45")), "max-age=15");
        assert_eq!(of(aged(b"61")), "max-age=0");
        let (date, later): (&[u8], &[u8]) =
            (b"Sun, 06 Nov 1994 08:49:37 GMT", b"Sun, 06 Nov 1994 08:50:37 GMT");
        let dated = |expires, date| Said { expires: Some(expires), date, ..Said::default() };
        assert_eq!(of(dated(later, Some(date))), "max-age=60");
        assert_eq!(of(dated(date, Some(later))), "max-age=0");
        assert_eq!(of(dated(b"0", Some(date))), "max-age=0");
        assert_eq!(of(dated(later, None)), "max-age=0");
        assert_eq!(of(Said { cache_control: minute, ..dated(later, Some(later)) }), "max-age=60");
    }

    #[test]
    fn what_parts_vary_by_the_whole_varies_by() {
        let mut whole = Freshness::default();
        let max: &[&[u8]] = &[b"max-age=5"];
        whole.add(&Said {
            cache_control: max,
            vary: &[b"Accept, Origin", b"accept"],
            ..Said::default()
        });
        whole.add(&Said { cache_control: max, vary: &[b" x-y ,, origin"], ..Said::default() });
        assert_eq!(whole.vary_names(), "accept, origin, x-y");
        assert_eq!(whole.cache_control(), "max-age=5");
        whole.add(&Said { cache_control: max, vary: &[b"*"], ..Said::default() });
        assert_eq!(whole.cache_control(), "no-store");
        let mut partial = Freshness::default();
        partial.add(&Said { cache_control: max, ..Said::default() });
        partial.add_missing();
        assert_eq!(partial.cache_control(), "no-store");
    }
}
