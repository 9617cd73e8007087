//! What cookies carry, sealed: AES-256-GCM under keys that are derived from the secrets of the file.
//!
//! The first secret seals, every one of them opens, so that secrets can be replaced without logging anybody out (hazard
//! AUTH-16). What is sealed is bound to its purpose by the associated data: moved elsewhere, it does not open. Nothing here
//! knows what the octets mean. What is sealed for one use is nothing to another: each has a domain, which the keys are derived with.
//! Called by `policy::oidc` and `sticky`.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Octets that nobody may see.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// A secret.
    pub fn new(octets: &[u8]) -> Secret {
        Secret(octets.into())
    }

    /// Its octets.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// The keys, the sealing one first.
pub struct Ring(Vec<Key>);

struct Key {
    id: [u8; ID],
    key: LessSafeKey,
}

// Octets that tell which key it was.
const ID: usize = 4;
// A form of its own begins with another octet.
const VERSION: u8 = 1;

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ring({} keys)", self.0.len())
    }
}

/// What a seal has held.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened {
    /// The octets.
    pub plain: Vec<u8>,
    /// Whether the sealing key was the one that seals now.
    pub current: bool,
}

impl Ring {
    /// The keys of these secrets in a domain; `None` where there is no secret, or the library refuses.
    pub fn of(domain: &[u8], secrets: &[Secret]) -> Option<Ring> {
        let key = |secret: &Secret| {
            let id = derive::<ID>(domain, secret, b"cookie key id")?;
            let octets = derive::<32>(domain, secret, b"cookie key")?;
            let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &octets).ok()?);
            Some(Key { id, key })
        };
        let keys = secrets.iter().map(key).collect::<Option<Vec<Key>>>()?;
        (!keys.is_empty()).then_some(Ring(keys))
    }

    /// Which keys these are, in which order: other keys have another number, but for a chance of one in millions.
    pub fn number(&self) -> u64 {
        self.0.iter().fold(0, |number: u64, key| {
            number.rotate_left(23) ^ u64::from(u32::from_be_bytes(key.id))
        })
    }

    /// Seals octets, as a text that a cookie can carry.
    pub fn seal(&self, bound: &[u8], mut plain: Vec<u8>) -> Option<String> {
        let key = self.0.first()?;
        let nonce = random::<NONCE_LEN>()?;
        let aad = Aad::from(bound);
        key.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut plain)
            .ok()?;
        let mut whole = Vec::with_capacity(1 + ID + NONCE_LEN + plain.len());
        whole.push(VERSION);
        whole.extend_from_slice(&key.id);
        whole.extend_from_slice(&nonce);
        whole.extend_from_slice(&plain);
        Some(base64url(&whole))
    }

    /// Opens what [`Ring::seal`] made with the same `bound`; `None` for anything else.
    pub fn open(&self, bound: &[u8], text: &[u8]) -> Option<Opened> {
        let mut whole = from_base64url(text)?;
        let (plain, current) = self.open_octets(bound, &mut whole)?;
        Some(Opened { plain: plain.to_vec(), current })
    }

    /// As [`Ring::open`], in room for the octets that the text spells; whether the sealing key was the one that seals now.
    pub fn open_in<'r>(
        &self,
        bound: &[u8],
        text: &[u8],
        room: &'r mut [u8],
    ) -> Option<(&'r [u8], bool)> {
        let len = URL_SAFE_NO_PAD.decode_slice(text, room).ok()?;
        self.open_octets(bound, room.get_mut(..len)?)
    }

    fn open_octets<'r>(&self, bound: &[u8], whole: &'r mut [u8]) -> Option<(&'r [u8], bool)> {
        let (head, rest) = whole.split_at_mut_checked(1 + ID + NONCE_LEN)?;
        let (version, head) = head.split_first()?;
        let (id, nonce) = head.split_at_checked(ID)?;
        if *version != VERSION {
            return None;
        }
        let at = self.0.iter().position(|key| key.id == id)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let plain = self.0.get(at)?.key.open_in_place(nonce, Aad::from(bound), rest).ok()?;
        Some((plain, at == 0))
    }
}

/// So many octets that belong to a domain, a secret and a purpose (RFC 5869).
pub fn derive<const N: usize>(domain: &[u8], secret: &Secret, purpose: &[u8]) -> Option<[u8; N]> {
    let keying: Prk = Salt::new(HKDF_SHA256, domain).extract(secret.octets());
    let mut out = [0; N];
    keying.expand(&[purpose], Octets(N)).ok()?.fill(&mut out).ok()?;
    Some(out)
}

/// So many octets that nobody can guess.
pub fn random<const N: usize>() -> Option<[u8; N]> {
    let mut out = [0; N];
    SystemRandom::new().fill(&mut out).ok()?;
    Some(out)
}

/// base64url without padding (RFC 4648 section 5).
pub fn base64url(octets: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(octets)
}

/// The octets of [`base64url`]; `None` for anything but the one right spelling of them.
pub fn from_base64url(text: &[u8]) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

struct Octets(usize);

impl KeyType for Octets {
    fn len(&self) -> usize {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(octet: u8) -> Secret {
        Secret::new(&[octet; 32])
    }

    // AUTH-16: tampering with each byte, and with the end.
    #[test]
    fn what_was_changed_anywhere_does_not_open() {
        let ring = Ring::of(b"a", &[secret(1)]).unwrap();
        let text = ring.seal(b"bound", b"who it is".to_vec()).unwrap();
        assert_eq!(ring.open(b"bound", text.as_bytes()).unwrap().plain, b"who it is");
        for at in 0..text.len() {
            for other in [b'A', b'B', b'_', b'-', b'z', b'=', 0] {
                let mut changed = text.clone().into_bytes();
                if changed[at] != other {
                    changed[at] = other;
                    assert_eq!(ring.open(b"bound", &changed), None, "octet {at} as {other}");
                }
            }
            assert_eq!(ring.open(b"bound", &text.as_bytes()[..at]), None, "cut at {at}");
        }
        let longer = format!("{text}A");
        assert_eq!(ring.open(b"bound", longer.as_bytes()), None);
        assert_eq!(ring.open(b"elsewhere", text.as_bytes()), None);
    }

    // AUTH-16: rotation.
    #[test]
    fn old_secrets_open_and_the_first_seals() {
        let old = Ring::of(b"a", &[secret(1)]).unwrap();
        let text = old.seal(b"", b"x".to_vec()).unwrap();
        let both = Ring::of(b"a", &[secret(2), secret(1)]).unwrap();
        assert_eq!(both.open(b"", text.as_bytes()).map(|o| o.current), Some(false));
        let fresh = both.seal(b"", b"x".to_vec()).unwrap();
        assert_eq!(both.open(b"", fresh.as_bytes()).map(|o| o.current), Some(true));
        assert_eq!(old.open(b"", fresh.as_bytes()), None);
        let only = Ring::of(b"a", &[secret(2)]).unwrap();
        assert_eq!(only.open(b"", text.as_bytes()), None, "the old secret has gone");
        let elsewhere = Ring::of(b"b", &[secret(2)]).unwrap();
        assert_eq!(elsewhere.open(b"", fresh.as_bytes()), None, "another domain");
        assert!(Ring::of(b"a", &[]).is_none());
        let numbers = [&old, &both, &only, &elsewhere].map(Ring::number);
        let distinct: std::collections::HashSet<u64> = numbers.into_iter().collect();
        assert_eq!(distinct.len(), 4, "{numbers:?}");
        assert_eq!(Ring::of(b"a", &[secret(1)]).unwrap().number(), old.number());
    }

    #[test]
    fn what_is_opened_in_place_is_the_same() {
        let ring = Ring::of(b"a", &[secret(2), secret(1)]).unwrap();
        let text = ring.seal(b"bound", b"twelve bytes".to_vec()).unwrap();
        assert_eq!(text.len(), 60);
        let mut room = [0; 45];
        let opened = ring.open_in(b"bound", text.as_bytes(), &mut room);
        assert_eq!(opened, Some((&b"twelve bytes"[..], true)));
        assert_eq!(ring.open_in(b"bound", text.as_bytes(), &mut [0; 44]), None, "no room");
        assert_eq!(ring.open_in(b"other", text.as_bytes(), &mut room), None);
        assert_eq!(ring.open_in(b"bound", b"", &mut room), None);
    }

    #[test]
    fn two_seals_of_the_same_differ() {
        let ring = Ring::of(b"a", &[secret(1)]).unwrap();
        assert_ne!(ring.seal(b"", b"x".to_vec()), ring.seal(b"", b"x".to_vec()));
        assert_ne!(derive::<32>(b"a", &secret(1), b"a"), derive::<32>(b"a", &secret(1), b"b"));
    }

    #[test]
    fn base64url_has_one_spelling() {
        assert_eq!(from_base64url(base64url(&[0xfb, 0xff]).as_bytes()), Some(vec![0xfb, 0xff]));
        for bad in ["-_8=", "+/8", "-_9", "-_ 8", "-_8\n", "a"] {
            assert_eq!(from_base64url(bad.as_bytes()), None, "{bad}");
        }
    }
}
