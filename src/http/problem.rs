//! The answers that ringgate makes itself: `application/problem+json` (RFC 9457), or plain text for who prefers it.
//!
//! Only the body is made here; the head is written where all heads are written.

use crate::http::write::phrase;
use crate::http::{Fault, Fields};

/// The media type of an own answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// `application/problem+json`
    Json,
    /// `text/plain`
    Text,
}

impl Media {
    /// What the client prefers by its `Accept` (RFC 9110 section 12.5.1); JSON unless some `text/` type is wanted more.
    pub fn preferred(fields: Fields<'_>) -> Media {
        let (mut json, mut text) = (0, 0);
        let mut named = false;
        for range in fields.all("accept").flat_map(|line| line.split(|b| *b == b',')) {
            named = true;
            let mut parts = range.split(|b| *b == b';').map(<[u8]>::trim_ascii);
            let kind = parts.next().unwrap_or_default();
            let quality = parts.find_map(quality).unwrap_or(1000);
            let is = |names: &[&[u8]]| names.iter().any(|name| kind.eq_ignore_ascii_case(name));
            if is(&[b"application/problem+json", b"application/json", b"application/*", b"*/*"]) {
                json = json.max(quality);
            }
            if is(&[b"text/plain", b"text/html", b"text/*"]) {
                text = text.max(quality);
            }
        }
        if named && text > json { Media::Text } else { Media::Json }
    }

    /// As it is written in `Content-Type`.
    pub fn name(self) -> &'static str {
        match self {
            Media::Json => "application/problem+json",
            Media::Text => "text/plain; charset=utf-8",
        }
    }
}

// `q=0.5` in thousandths.
fn quality(parameter: &[u8]) -> Option<u32> {
    let [b'q' | b'Q', b'=', value @ ..] = parameter else {
        return None;
    };
    let q: f32 = std::str::from_utf8(value).ok()?.parse().ok()?;
    Some((q.clamp(0.0, 1.0) * 1000.0) as u32)
}

/// Appends the body that explains `fault` with its status. `detail` is said instead of the fault's own sentence. `request_id` is one of ours or a checked one: letters, digits, `-`.
pub fn body(
    out: &mut Vec<u8>,
    (fault, status): (Fault, u16),
    detail: Option<&str>,
    request_id: &[u8],
    media: Media,
) {
    let sentence = detail.unwrap_or(fault.sentence());
    match media {
        Media::Json => {
            out.extend_from_slice(b"{\"type\":\"urn:ringgate:");
            out.extend_from_slice(fault.code().as_bytes());
            out.extend_from_slice(b"\",\"title\":\"");
            out.extend_from_slice(phrase(status).as_bytes());
            out.extend_from_slice(b"\",\"status\":");
            crate::http::write::number(out, u64::from(status));
            out.extend_from_slice(b",\"detail\":");
            // It may say what was found in a request. Writing to a Vec cannot fail.
            let _ = serde_json::to_writer(&mut *out, sentence);
            out.extend_from_slice(b",\"code\":\"");
            out.extend_from_slice(fault.code().as_bytes());
            out.extend_from_slice(b"\",\"request_id\":\"");
            out.extend_from_slice(request_id);
            out.extend_from_slice(b"\"}\n");
        }
        Media::Text => {
            crate::http::write::number(out, u64::from(status));
            out.push(b' ');
            out.extend_from_slice(phrase(status).as_bytes());
            out.extend_from_slice(b"\n");
            out.extend(sentence.bytes().map(|b| if b.is_ascii_control() { b' ' } else { b }));
            out.extend_from_slice(b"\ncode: ");
            out.extend_from_slice(fault.code().as_bytes());
            out.extend_from_slice(b"\nrequest id: ");
            out.extend_from_slice(request_id);
            out.push(b'\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::fields::OwnedFields;

    #[test]
    fn every_fault_makes_valid_json() {
        for fault in Fault::ALL {
            let mut out = Vec::new();
            body(&mut out, (*fault, fault.status()), None, b"0123abcd", Media::Json);
            let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(value["code"], fault.code());
            assert_eq!(value["status"], fault.status());
            assert_eq!(value["detail"], fault.sentence());
        }
    }

    #[test]
    fn what_was_found_cannot_break_the_form() {
        let found = "a\"b\r\nx: y\u{7f}";
        for media in [Media::Json, Media::Text] {
            let mut out = Vec::new();
            body(&mut out, (Fault::Invalid, 422), Some(found), b"id", media);
            let text = String::from_utf8(out).unwrap();
            match media {
                Media::Json => {
                    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
                    assert_eq!((&value["detail"], &value["status"]), (&found.into(), &422.into()));
                }
                Media::Text => assert!(text.contains("a\"b  x: y \ncode: "), "{text}"),
            }
        }
    }

    #[test]
    fn browsers_get_text_and_programs_json() {
        let check = |accept: &str, expected| {
            let fields: OwnedFields = [("Accept", accept)].into_iter().collect();
            assert_eq!(Media::preferred(fields.view()), expected, "{accept}");
        };
        check("*/*", Media::Json);
        check("application/json", Media::Json);
        check("text/html,application/xhtml+xml,*/*;q=0.8", Media::Text);
        check("text/plain", Media::Text);
        check("text/plain;q=0.1, application/json", Media::Json);
        assert_eq!(Media::preferred(OwnedFields::default().view()), Media::Json);
    }
}
