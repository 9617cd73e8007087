//! The cookies of a policy: their names, the shards of a session, and how they are set and cleared.
//!
//! `NAME~0`, `NAME~1` ... are the shards of the session, `NAME~login~STATE` is one login under way; over TLS the names begin
//! with `__Host-`, which browsers take only with Secure, Path=/ and no Domain (RFC 6265bis section 4.1.3). Values are opaque
//! here. Called by `session`, `login` and `logout`.

use crate::http::write::{built_field, number};
use crate::http::{Fields, write};
use crate::policy::Consumed;

/// The shards that a session may have: what fits beside a request's other lines (`limits.line` is 16 KiB).
pub const MOST_SHARDS: usize = 4;
/// The most octets of one shard's name and value; browsers take 4096 with the attributes.
pub const SHARD: usize = 3800;

/// The names for one way to come.
#[derive(Debug)]
pub struct Names {
    secure: bool,
    /// What the session is bound to.
    pub base: String,
    shards: Vec<String>,
    login: String,
}

const HOST: &str = "__Host-";

impl Names {
    /// The names of a policy's cookies, over TLS or without.
    pub fn new(name: &str, secure: bool) -> Names {
        let base = if secure { format!("{HOST}{name}") } else { name.to_owned() };
        Names {
            secure,
            shards: (0..MOST_SHARDS).map(|n| format!("{base}~{n}")).collect(),
            login: format!("{base}~login~"),
            base,
        }
    }

    /// Every cookie of a policy, whichever way it came.
    pub fn consumed(name: &str) -> Vec<Consumed> {
        let prefix = |host: &str| Consumed::CookiePrefix(format!("{host}{name}~").into());
        vec![prefix(""), prefix(HOST)]
    }

    /// The session's cookie of a request, in its shards; `None` where there is none, or not all of it.
    pub fn session<'a>(&self, fields: Fields<'a>) -> Option<Shards<'a>> {
        let mut found: [Option<&[u8]>; MOST_SHARDS] = [None; MOST_SHARDS];
        for (name, value) in fields.cookies() {
            let Some(rest) = name.strip_prefix(self.base.as_bytes()) else { continue };
            let [b'~', digit] = rest else { continue };
            let at = usize::from(digit.wrapping_sub(b'0'));
            if let Some(place) = found.get_mut(at) {
                place.get_or_insert(value);
            }
        }
        // The first octet says how many there are: one that an earlier session has left over is not taken for a part.
        let (count, first) = found.first().copied().flatten()?.split_first()?;
        let count = usize::from(count.wrapping_sub(b'0'));
        let mut parts = [first, b"", b"", b""];
        for at in 1..count {
            *parts.get_mut(at)? = found.get(at).copied().flatten()?;
        }
        (count > 0).then_some(Shards(parts))
    }

    /// Writes lines that set a session's cookie, and clear what the request has beyond its shards; false if it is larger than
    /// the shards hold.
    pub fn set_session(
        &self,
        out: &mut Vec<u8>,
        fields: Fields<'_>,
        sealed: &str,
        max_age: u64,
    ) -> bool {
        let room = self.room();
        let count = sealed.len().div_ceil(room).max(1);
        if count > MOST_SHARDS {
            return false;
        }
        let mut rest = sealed;
        for (at, name) in self.shards.iter().enumerate() {
            if at >= count {
                self.clear(out, fields, name);
                continue;
            }
            let (part, after) = rest.split_at(room.min(rest.len()));
            let count = [b'0' + u8::try_from(count).unwrap_or_default()];
            let first: &[u8] = if at == 0 { &count } else { b"" };
            self.write(out, name, &[first, part.as_bytes()], max_age);
            rest = after;
        }
        true
    }

    /// Writes lines that clear every shard that the request has.
    pub fn clear_session(&self, out: &mut Vec<u8>, fields: Fields<'_>) {
        self.shards.iter().for_each(|name| self.clear(out, fields, name));
    }

    /// The logins of a request: state and value.
    pub fn logins<'a>(&self, fields: Fields<'a>) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let prefix = self.login.as_bytes();
        fields.cookies().filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, value)))
    }

    /// Writes a line that sets the cookie of a login.
    pub fn set_login(&self, out: &mut Vec<u8>, state: &str, sealed: &str, max_age: u64) {
        let name = format!("{}{state}", self.login);
        self.write(out, &name, &[sealed.as_bytes()], max_age);
    }

    /// Writes a line that clears the cookie of a login.
    pub fn clear_login(&self, out: &mut Vec<u8>, state: &[u8]) {
        // What a browser sent is not written back unless it is a state.
        if let Ok(state) = std::str::from_utf8(state)
            && state.len() <= 64
            && state.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
        {
            let name = format!("{}{state}", self.login);
            self.write(out, &name, &[], 0);
        }
    }

    // The octets of one shard's value, beside its name, `~0`, `=` and the count.
    fn room(&self) -> usize {
        SHARD.saturating_sub(self.base.len() + 4).max(1)
    }

    fn clear(&self, out: &mut Vec<u8>, fields: Fields<'_>, name: &str) {
        if fields.cookies().any(|(n, _)| n == name.as_bytes()) {
            self.write(out, name, &[], 0);
        }
    }

    fn write(&self, out: &mut Vec<u8>, name: &str, value: &[&[u8]], max_age: u64) {
        let mut cookie = Vec::with_capacity(SHARD + 96);
        cookie.extend_from_slice(name.as_bytes());
        cookie.push(b'=');
        value.iter().for_each(|part| cookie.extend_from_slice(part));
        cookie.extend_from_slice(b"; Path=/; Max-Age=");
        number(&mut cookie, max_age);
        cookie.extend_from_slice(b"; HttpOnly; SameSite=Lax");
        if self.secure {
            cookie.extend_from_slice(b"; Secure");
        }
        built_field(out, b"set-cookie", &cookie);
    }
}

/// A session's cookie as it came.
#[derive(Clone, Copy)]
pub struct Shards<'a>([&'a [u8]; MOST_SHARDS]);

impl<'a> Shards<'a> {
    /// Its parts, in order; empty ones may follow.
    pub fn parts(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.0.into_iter()
    }

    /// Its value.
    pub fn whole(&self) -> Vec<u8> {
        self.0.concat()
    }
}

/// Lines that every answer of a login has: nobody keeps it.
pub fn unstored(out: &mut Vec<u8>) {
    write::field(out, b"cache-control", b"no-store");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::fields::OwnedFields;

    /// What a browser sends back after these lines.
    fn sent_back(lines: &[u8]) -> OwnedFields {
        let text = String::from_utf8(lines.to_vec()).unwrap();
        let mut fields = OwnedFields::default();
        for line in text.lines() {
            let cookie = line.strip_prefix("set-cookie: ").unwrap();
            if !cookie.contains("Max-Age=0;") {
                fields.push("cookie", cookie.split(';').next().unwrap());
            }
        }
        fields
    }

    // AUTH-16: the attributes.
    #[test]
    fn cookies_have_every_attribute_that_guards_them() {
        let mut out = Vec::new();
        let none = OwnedFields::default();
        assert!(Names::new("rg-a", true).set_session(&mut out, none.view(), "value", 60));
        let text = String::from_utf8(out).unwrap();
        let first = text.lines().next().unwrap();
        assert_eq!(
            first,
            "set-cookie: __Host-rg-a~0=1value; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure"
        );
        let mut out = Vec::new();
        Names::new("rg-a", false).set_login(&mut out, "st", "v", 9);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "set-cookie: rg-a~login~st=v; Path=/; Max-Age=9; HttpOnly; SameSite=Lax\r\n"
        );
    }

    #[test]
    fn a_session_comes_back_whole_whatever_its_length() {
        let names = Names::new("rg-a", true);
        let (room, none) = (names.room(), OwnedFields::default());
        for len in [1, room - 1, room, room + 1, 2 * room, 3 * room + 1, 4 * room] {
            let (sealed, mut out) = ("x".repeat(len), Vec::new());
            assert!(names.set_session(&mut out, none.view(), &sealed, 60), "{len}");
            let longest = out.split(|b| *b == b'\n').map(<[u8]>::len).max().unwrap();
            assert!(longest <= 4096, "{longest}");
            let fields = sent_back(&out);
            assert_eq!(names.session(fields.view()).unwrap().whole(), sealed.as_bytes(), "{len}");
        }
        let mut out = Vec::new();
        assert!(!names.set_session(&mut out, none.view(), &"x".repeat(4 * room + 1), 60));
        assert!(out.is_empty());
    }

    #[test]
    fn parts_that_are_missing_or_left_over_are_no_session() {
        let names = Names::new("n", false);
        let check = |cookie: &str, expected: Option<&str>| {
            let fields: OwnedFields = [("cookie", cookie)].into_iter().collect();
            let got = names.session(fields.view()).map(|s| s.whole());
            assert_eq!(got.as_deref(), expected.map(str::as_bytes), "{cookie}");
        };
        check("n~0=1ab", Some("ab"));
        check("n~1=cd; n~0=2ab", Some("abcd"));
        check("n~0=1ab; n~1=cd", Some("ab"));
        check("n~0=2ab", None);
        check("n~1=cd", None);
        check("n~0=", None);
        check("n~0=0ab", None);
        check("n~0=9ab; n~1=c; n~2=d; n~3=e", None);
        check("n~0=1ab; n~0=1cd", Some("ab"));
        check("m~0=1ab; n~x=1; n~00=1; n~login~0=1", None);
    }

    #[test]
    fn everything_that_came_is_cleared() {
        let names = Names::new("n", true);
        let fields: OwnedFields =
            [("cookie", "__Host-n~0=3a; __Host-n~1=b; x=y; __Host-n~2=c; __Host-n~login~s=1")]
                .into_iter()
                .collect();
        let mut out = Vec::new();
        names.clear_session(&mut out, fields.view());
        names.logins(fields.view()).for_each(|(state, _)| names.clear_login(&mut out, state));
        names.clear_login(&mut out, b"a; Domain=evil");
        // A shorter session clears what a longer one has left.
        let mut shorter = Vec::new();
        assert!(names.set_session(&mut shorter, fields.view(), "v", 60));
        let shorter = String::from_utf8(shorter).unwrap();
        assert!(shorter.contains("__Host-n~1=;") && shorter.contains("__Host-n~2=;"), "{shorter}");
        let text = String::from_utf8(out).unwrap();
        let cleared: Vec<&str> = text.lines().filter_map(|l| l.split(['=', ' ']).nth(1)).collect();
        assert_eq!(cleared, ["__Host-n~0", "__Host-n~1", "__Host-n~2", "__Host-n~login~s"]);
        assert_eq!(text.matches("Max-Age=0; HttpOnly; SameSite=Lax; Secure").count(), 4);
    }
}
