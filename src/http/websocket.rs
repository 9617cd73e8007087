//! The WebSocket handshake (RFC 6455 section 4) as values: is a key one, what answers it, is a list of options a given one.
//!
//! Frames are not looked at: once the handshake is done, octets are relayed as they are. Called by `proxy::upgrade`.

use crate::http::request::trim;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// The only version there is (RFC 6455 section 4.1).
pub const VERSION: &[u8] = b"13";

/// `Sec-WebSocket-Accept`: always so many octets.
pub type Accept = [u8; 28];

/// A fresh key from 16 random octets.
pub fn key(random: [u8; 16]) -> String {
    BASE64_STANDARD.encode(random)
}

/// What a server answers to a key; `None` if it is none: base64 of 16 octets.
pub fn accept(key: &[u8]) -> Option<Accept> {
    let mut octets = [0; 18];
    let fits = key.len() == 24 && BASE64_STANDARD.decode_slice(key, &mut octets) == Ok(16);
    if !fits {
        return None;
    }
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID].concat());
    let mut accept = [0; 28];
    BASE64_STANDARD.encode_slice(hash.as_ref(), &mut accept).ok()?;
    Some(accept)
}

// RFC 6455 section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Whether a list such as that of `Connection` has `option`, in any case.
pub fn has_option(list: &[u8], option: &[u8]) -> bool {
    list.split(|b| *b == b',').map(trim).any(|one| one.eq_ignore_ascii_case(option))
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 6455 section 1.3.
    #[test]
    fn answers_keys() {
        let answer = accept(b"dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(answer.as_ref().map(|a| &a[..]), Some(&b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="[..]));
        assert!(accept(key([7; 16]).as_bytes()).is_some());
        for bad in [
            "",
            "x",
            "dGhlIHNhbXBsZSBub25jZQ=",
            "dGhlIHNhbXBsZSBub25jZSEh",
            "dGhlIHNhbXBsZSBub25jZQ!=",
        ] {
            assert_eq!(accept(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn finds_options() {
        for (list, expected) in [
            ("upgrade", true),
            ("keep-alive, Upgrade", true),
            ("keep-alive ,\tUPGRADE ", true),
            ("upgraded", false),
            ("up grade", false),
            ("", false),
        ] {
            assert_eq!(has_option(list.as_bytes(), b"upgrade"), expected, "{list}");
        }
    }
}
