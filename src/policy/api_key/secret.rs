//! Keys as text: how a new one is written, and the hash that files hold of it.
//!
//! A key has 256 random bits, so that its plain SHA-256 cannot be searched for; a slow hash would only slow every request.
//! Its checksum lets scanners of repositories and logs tell it from other text. Randomness is the caller's. Called by the
//! check of API keys, the reader of consumers and `ringgate key`.

use aws_lc_rs::digest;

/// SHA-256 of a key.
pub type Digest = [u8; 32];

/// What a hash begins with in a file.
pub const SCHEME: &str = "sha256:";
/// What new keys begin with.
pub const PREFIX: &str = "rg_";

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
// 62^43 is more than 2^256, and 62^6 more than 2^32.
const SECRET: usize = 43;
const CHECK: usize = 6;

/// The hash of a key.
#[inline]
pub fn digest(key: &[u8]) -> Digest {
    let mut octets = [0; 32];
    let digest = digest::digest(&digest::SHA256, key);
    for (to, from) in octets.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    octets
}

/// A key made of 32 random octets: the prefix, the octets in base 62, and six digits of their CRC-32.
pub fn key(random: &[u8; 32]) -> String {
    let secret = base62(random, SECRET);
    let check = checksum(&secret);
    format!("{PREFIX}{secret}{check}")
}

/// Whether a text is a key that [`key`] has made, by its form and checksum.
pub fn is_key(text: &str) -> bool {
    let Some(rest) = text.strip_prefix(PREFIX).filter(|rest| rest.len() == SECRET + CHECK) else {
        return false;
    };
    rest.split_at_checked(SECRET).is_some_and(|(secret, check)| checksum(secret) == check)
}

/// A hash as files hold it.
pub fn written(digest: &Digest) -> String {
    use std::fmt::Write;
    let mut text = String::from(SCHEME);
    for octet in digest {
        let _ = write!(text, "{octet:02x}");
    }
    text
}

/// The hash that a file holds.
pub fn parse(text: &str) -> Option<Digest> {
    let hex = text.strip_prefix(SCHEME)?.as_bytes();
    if hex.len() != 64 {
        return None;
    }
    let digit = |octet: u8| char::from(octet).to_digit(16);
    let mut digest = [0; 32];
    for (to, pair) in digest.iter_mut().zip(hex.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *to = u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()?;
    }
    Some(digest)
}

fn checksum(secret: &str) -> String {
    base62(&crc32fast::hash(secret.as_bytes()).to_be_bytes(), CHECK)
}

/// A big-endian number in `width` digits of base 62.
fn base62(octets: &[u8], width: usize) -> String {
    let mut number = octets.to_vec();
    let mut digits = Vec::with_capacity(width);
    for _ in 0..width {
        let mut rest = 0_u32;
        for octet in &mut number {
            let value = rest << 8 | u32::from(*octet);
            *octet = u8::try_from(value / 62).unwrap_or(0);
            rest = value % 62;
        }
        digits.push(char::from(DIGITS.get(rest as usize).copied().unwrap_or(b'0')));
    }
    digits.iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_where_their_octets_do_and_check_themselves() {
        let mut keys: Vec<String> = (0..=255).map(|n| key(&[n; 32])).collect();
        for key in &keys {
            assert!(key.len() == 52 && is_key(key), "{key}");
            let mut wrong = key.clone().into_bytes();
            wrong[20] = if wrong[20] == b'a' { b'b' } else { b'a' };
            assert!(!is_key(std::str::from_utf8(&wrong).unwrap()));
        }
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 256);
        assert_eq!(base62(&[0, 61], 3), "00z");
        assert_eq!(base62(&[0, 62], 3), "010");
        assert!(!is_key("rg_") && !is_key(&format!("rg_{}", "ä".repeat(25))));
    }

    #[test]
    fn hashes_are_read_as_they_are_written() {
        let of_abc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(written(&digest(b"abc")), of_abc);
        assert_eq!(parse(of_abc), Some(digest(b"abc")));
        assert_eq!(parse(&of_abc.to_uppercase().replace("SHA", "sha")), Some(digest(b"abc")));
        for wrong in ["", "sha256:", "sha256:ba78", "md5:ba", &of_abc.replace('b', "g"), "rg_x"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
