//! Content-Digest (RFC 9530): what a signature says of a body.

use crate::http::Fields;
use aws_lc_rs::digest::{self, SHA256, SHA512};
use sfv::{Dictionary, ListEntry, Parser};
use subtle::ConstantTimeEq as _;

/// The component that covers a body.
pub(crate) const COVERED: &str = "\"content-digest\"";

/// That every digest of the body which is of a known algorithm is right, and that there is one.
///
/// # Errors
/// What is not.
pub(crate) fn verify(fields: Fields<'_>, body: &[u8]) -> Result<(), String> {
    let lines: Vec<&[u8]> = fields.all("content-digest").collect();
    let joined = lines.join(b", ".as_slice());
    let digests: Dictionary = Parser::new(&joined)
        .parse()
        .map_err(|_| "Content-Digest is malformed (RFC 9530).".to_owned())?;
    let mut known = false;
    for (name, entry) in &digests {
        let algorithm = match name.as_str() {
            "sha-256" => &SHA256,
            "sha-512" => &SHA512,
            _ => continue,
        };
        let ListEntry::Item(item) = entry else {
            return Err("Content-Digest is malformed (RFC 9530).".to_owned());
        };
        let said = item.bare_item.as_byte_sequence().unwrap_or_default();
        let found = digest::digest(algorithm, body);
        if !bool::from(found.as_ref().ct_eq(said)) {
            return Err("The body is not that of its Content-Digest.".to_owned());
        }
        known = true;
    }
    if known {
        return Ok(());
    }
    Err("Content-Digest has neither sha-256 nor sha-512.".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::fields::OwnedFields;

    #[test]
    fn digests_hold_the_body() {
        let right = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:";
        let long = "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:";
        let check = |lines: &[&str], body: &str, part: Option<&str>| {
            let fields: OwnedFields = lines.iter().map(|line| ("Content-Digest", *line)).collect();
            let got = verify(fields.view(), body.as_bytes());
            match (&got, part) {
                (Ok(()), None) => {}
                (Err(why), Some(part)) if why.contains(part) => {}
                _ => panic!("{got:?} for {lines:?} and {body:?}"),
            }
        };
        let body = "{\"hello\": \"world\"}";
        check(&[right], body, None);
        check(&[long], body, None);
        check(&[right, long], body, None);
        check(&[&format!("md5=:AAAA:, {right}")], body, None);
        check(&[right], "{\"hello\": \"World\"}", Some("is not that"));
        check(&[right, "sha-512=:AAAA:"], body, Some("is not that"));
        check(&["md5=:AAAA:"], body, Some("neither"));
        check(&[], body, Some("neither"));
        check(&["sha-256=:X48:"], body, Some("is not that"));
        check(&["sha-256=X48"], body, Some("is not that"));
        check(&["sha-256=(:X48=:)"], body, Some("malformed"));
        check(&["SHA-256=:X48=:"], body, Some("malformed"));
    }
}
