//! What a limit counts by: the client's address, who it is, or a part of its request, as a keyed hash of 64 bits.
//!
//! A part that a request does not have, has empty or has twice is replaced by the client's address (hazard RL-04): leaving a
//! field out must not lead into a bucket that all such clients share, nor sending it twice into a fresh one. The hash has a
//! secret that is new for every process, so that nobody can choose keys that meet. Called by `rate`, `concurrency` and `window`.

pub mod table;

pub use table::{Place, Table};

use crate::policy::Subject;
use crate::policy::identity::Identity;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;

/// One part of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The client's address; of IPv6, its network.
    ClientIp,
    /// Who the sender is, as a policy before has found.
    Consumer,
    /// The consumer's plan.
    Plan,
    /// A claim of the token.
    Claim(Box<str>),
    /// A field's value (lower-case name).
    Header(Box<str>),
    /// A cookie's value.
    Cookie(Box<str>),
    /// The canonical path.
    Path,
    /// The method.
    Method,
    /// The host, lower-case.
    Host,
    /// The rule.
    Rule,
    /// All requests alike.
    Machine,
}

/// What is counted by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// All of them together.
    pub parts: Vec<Part>,
    /// The bits of an IPv6 address that count: who has one usually has a whole /64.
    pub ipv6_prefix: u8,
}

/// Keys that are remembered at the same time, unless the file says otherwise.
pub const KEYS: usize = 1 << 16;

impl Default for Key {
    fn default() -> Key {
        Key { parts: vec![Part::ClientIp], ipv6_prefix: 64 }
    }
}

impl Key {
    /// The hash of what this request is counted by; never zero.
    #[inline]
    pub fn hash(&self, secret: &RandomState, subject: &Subject<'_>, identity: &Identity) -> u64 {
        let mut hasher = secret.build_hasher();
        for part in &self.parts {
            if !part.write(&mut hasher, subject, identity) {
                self.write_address(&mut hasher, subject.client);
            }
        }
        hasher.finish().max(1)
    }

    fn write_address(&self, hasher: &mut impl Hasher, client: IpAddr) {
        match client.to_canonical() {
            IpAddr::V4(v4) => write(hasher, b'4', &v4.octets()),
            IpAddr::V6(v6) => {
                let bits = u32::from(self.ipv6_prefix.min(128));
                let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
                write(hasher, b'6', &(u128::from(v6) & mask).to_be_bytes());
            }
        }
    }
}

impl Part {
    // False where the request does not have it, has it empty, or more than once: then the address counts.
    fn write(&self, hasher: &mut impl Hasher, subject: &Subject<'_>, identity: &Identity) -> bool {
        let view = &subject.view;
        match self {
            Part::ClientIp => false,
            Part::Machine => true,
            Part::Consumer => some(hasher, b'u', identity.consumer.as_bytes()),
            Part::Plan => some(hasher, b'p', identity.plan.as_bytes()),
            Part::Claim(name) => {
                identity.claim(name).is_some_and(|text| some(hasher, b'c', text.as_bytes()))
            }
            Part::Header(name) => {
                only(view.fields.all(name)).is_some_and(|value| some(hasher, b'h', value))
            }
            Part::Cookie(name) => {
                let named = view.fields.cookies().filter(|(n, _)| *n == name.as_bytes());
                only(named.map(|(_, value)| value)).is_some_and(|value| some(hasher, b'k', value))
            }
            Part::Path => some(hasher, b'/', view.path),
            Part::Method => some(hasher, b'm', view.method),
            Part::Host => some(hasher, b'o', view.host),
            // What no rule has taken is one thing, too: the listener's default.
            Part::Rule => {
                write(hasher, b'r', subject.rule.as_bytes());
                true
            }
        }
    }
}

fn some(hasher: &mut impl Hasher, tag: u8, value: &[u8]) -> bool {
    if !value.is_empty() {
        write(hasher, tag, value);
    }
    !value.is_empty()
}

// With its kind and length, so that no two lists of parts are the same octets.
fn write(hasher: &mut impl Hasher, tag: u8, value: &[u8]) {
    hasher.write_u64((value.len() as u64) << 8 | u64::from(tag));
    hasher.write(value);
}

fn only<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Option<&'a [u8]> {
    let first = values.next()?;
    if values.next().is_some() { None } else { Some(first) }
}

#[cfg(test)]
pub(in crate::policy) mod tests {
    use super::*;
    use crate::base::Tick;
    use crate::http::RequestView;
    use crate::http::fields::OwnedFields;
    use crate::policy::identity::Claims;
    use std::rc::Rc;

    /// A request from `client` with these fields.
    pub(in crate::policy) fn subject<'a>(
        fields: &'a OwnedFields,
        client: &str,
        now: Tick,
    ) -> Subject<'a> {
        let client = client.parse().unwrap();
        let view = RequestView {
            method: b"GET",
            host: b"a.example",
            path: b"/p",
            query: None,
            fields: fields.view(),
            peer: client,
        };
        Subject {
            view,
            client,
            scheme: "http",
            port: 80,
            listener: "web",
            rule: "r",
            tls: None,
            body: None,
            decoded: false,
            preflight: false,
            now,
            unix: 1_800_000_000,
        }
    }

    fn fields(list: &[(&str, &str)]) -> OwnedFields {
        let mut fields = OwnedFields::default();
        list.iter().for_each(|(name, value)| fields.push(name, value));
        fields
    }

    struct Sent {
        client: &'static str,
        fields: &'static [(&'static str, &'static str)],
        consumer: &'static str,
        claims: &'static str,
    }

    const NOBODY: Sent = Sent { client: "192.0.2.1", fields: &[], consumer: "", claims: "{}" };

    fn same(parts: &[Part], one: &Sent, two: &Sent) -> bool {
        let key = Key { parts: parts.to_vec(), ..Key::default() };
        let secret = RandomState::new();
        let hash = |sent: &Sent| {
            let fields = fields(sent.fields);
            let subject = subject(&fields, sent.client, Tick::ZERO);
            let claims = Claims(serde_json::from_str(sent.claims).unwrap());
            let identity = Identity {
                consumer: sent.consumer.to_owned(),
                plan: String::new(),
                claims: Some(Rc::new(claims)),
            };
            key.hash(&secret, &subject, &identity)
        };
        hash(one) == hash(two)
    }

    // Hazard RL-03.
    #[test]
    fn an_ipv6_client_is_its_network_and_a_mapped_one_is_ipv4() {
        let from = |client| Sent { client, ..NOBODY };
        let ip = &[Part::ClientIp];
        assert!(same(ip, &from("2001:db8::1"), &from("2001:db8::ffff:2")));
        assert!(!same(ip, &from("2001:db8::1"), &from("2001:db8:0:1::1")));
        assert!(same(ip, &from("192.0.2.7"), &from("::ffff:192.0.2.7")));
        assert!(!same(ip, &from("192.0.2.7"), &from("192.0.2.8")));
        let secret = RandomState::new();
        for (prefix, alike) in [(128, false), (127, true), (56, true), (1, true)] {
            let key = Key { ipv6_prefix: prefix, ..Key::default() };
            let hash = |client| {
                let none = OwnedFields::default();
                key.hash(&secret, &subject(&none, client, Tick::ZERO), &Identity::default())
            };
            assert_eq!(hash("2001:db8::2") == hash("2001:db8::3"), alike, "/{prefix}");
        }
    }

    // Hazard RL-04: left out, empty, twice or in another case, a field neither joins strangers nor opens a new bucket.
    #[test]
    fn what_is_absent_empty_or_repeated_counts_as_the_address() {
        let with = |fields| Sent { fields, ..NOBODY };
        let elsewhere = |fields| Sent { fields, client: "192.0.2.2", ..NOBODY };
        for part in [Part::Header("x-key".into()), Part::Cookie("id".into())] {
            let parts = &[part];
            let absent = with(&[]);
            assert!(same(parts, &absent, &with(&[("X-Key", ""), ("Cookie", "id=")])));
            assert!(same(
                parts,
                &absent,
                &with(&[("x-key", "a"), ("X-KEY", "b"), ("Cookie", "id=a; id=b")])
            ));
            assert!(!same(parts, &absent, &elsewhere(&[])), "strangers share nothing");
            let a: &[_] = &[("x-key", "a"), ("cookie", "id=a")];
            assert!(same(parts, &with(a), &elsewhere(&[("X-Key", "a"), ("Cookie", "id=a")])));
            assert!(!same(parts, &with(a), &with(&[("x-key", "A"), ("cookie", "id=A")])));
        }
        let parts = &[Part::Consumer];
        assert!(!same(parts, &NOBODY, &elsewhere(&[])));
        let bob = |client| Sent { consumer: "bob", client, ..NOBODY };
        assert!(same(parts, &bob("192.0.2.1"), &bob("192.0.2.2")));
        let parts = &[Part::Claim("sub".into())];
        let sub = |claims| Sent { claims, ..NOBODY };
        assert!(!same(parts, &sub(r#"{"sub":"a"}"#), &sub(r#"{"sub":"b"}"#)));
        assert!(same(parts, &sub(r#"{"sub":""}"#), &sub("{}")));
        let parts = &[Part::Plan];
        assert!(!same(parts, &NOBODY, &elsewhere(&[])));
    }

    #[test]
    fn parts_are_combined_without_running_into_each_other() {
        let parts = &[Part::Header("a".into()), Part::Header("b".into())];
        let with = |fields| Sent { fields, ..NOBODY };
        let one = with(&[("a", "xy"), ("b", "z")]);
        assert!(!same(parts, &one, &with(&[("a", "x"), ("b", "yz")])));
        assert!(!same(parts, &one, &with(&[("a", "z"), ("b", "xy")])));
        assert!(same(&[Part::Machine], &one, &Sent { client: "2001:db8::1", ..NOBODY }));
        for part in [Part::Path, Part::Method, Part::Host, Part::Rule] {
            assert!(same(&[part], &NOBODY, &Sent { client: "192.0.2.2", ..NOBODY }));
        }
    }
}
