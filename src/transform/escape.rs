//! How a value is written where it stands, so that it stays one value there: never the author's business.
//!
//! A value that comes from a path or a query is percent-encoded already, others are plain octets. Text of the file itself is not
//! escaped. Called by `template`.

/// Where a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the value of a field: no control character, so that it cannot begin a line.
    Field,
    /// In a path: one segment or a part of it, unless it comes from a path.
    Path,
    /// In a query as a whole: one key or value, unless it is a query.
    Query,
    /// In one key or value of a query or a form, whatever it is made of.
    Parameter,
    /// In a host, which is judged as a whole.
    Host,
    /// In a string of JSON.
    Json,
    /// In HTML or XML: text, or a quoted attribute.
    Html,
    /// In plain text.
    Text,
}

impl Place {
    /// Where values in a body of this media type stand; `None` for a type in which they cannot be told from what is around them.
    pub fn in_body(content_type: &str) -> Option<Place> {
        let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let (kind, subtype) = kind.split_once('/')?;
        Some(match (kind, subtype) {
            // Not JavaScript: whether a value stands in a string there, in a template or in code, nothing says.
            ("application" | "text", "json") | ("application", "x-ndjson") => Place::Json,
            (_, subtype) if subtype.ends_with("+json") => Place::Json,
            ("text", "html" | "xml") | ("application", "xml") => Place::Html,
            (_, subtype) if subtype.ends_with("+xml") => Place::Html,
            ("application", "x-www-form-urlencoded") => Place::Parameter,
            ("text", "plain" | "markdown") => Place::Text,
            _ => return None,
        })
    }
}

/// How a value comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coded {
    /// As it is meant.
    Plain,
    /// As a part of a canonical path.
    Path,
    /// As a query, or some pairs of one.
    Query,
}

/// Appends `value` as it is written at `place`.
pub fn write(value: &[u8], coded: Coded, place: Place, out: &mut Vec<u8>) {
    match (place, coded) {
        (Place::Path, Coded::Path) | (Place::Query, Coded::Query) | (Place::Host, _) => {
            out.extend_from_slice(value);
        }
        (Place::Path, _)
        | (Place::Query, Coded::Plain)
        | (Place::Parameter, Coded::Plain | Coded::Query) => percent(value, is_unreserved, out),
        // What divides pairs, and what forms read as a space.
        (Place::Query | Place::Parameter, Coded::Path) => {
            percent(value, |b| is_unreserved(b) || b"%/:@!$'()*,".contains(&b), out);
        }
        (Place::Field, _) => {
            percent(value, |b| b == b'\t' || (b >= b' ' && b != 0x7f), out);
        }
        (Place::Json, _) => json(&String::from_utf8_lossy(value), out),
        (Place::Html, _) => html(&String::from_utf8_lossy(value), out),
        (Place::Text, _) => {
            let text = String::from_utf8_lossy(value);
            out.extend(text.bytes().map(|b| match b {
                b'\t' | b'\n' => b,
                b if b.is_ascii_control() => b' ',
                b => b,
            }));
        }
    }
}

fn is_unreserved(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~')
}

const DIGITS: &[u8; 16] = b"0123456789ABCDEF";

fn percent(value: &[u8], stays: impl Fn(u8) -> bool, out: &mut Vec<u8>) {
    for &b in value {
        if stays(b) {
            out.push(b);
        } else {
            out.extend_from_slice(&[
                b'%',
                DIGITS[usize::from(b >> 4)],
                DIGITS[usize::from(b & 15)],
            ]);
        }
    }
}

// RFC 8259 section 7. What could end a script or begin a tag is escaped, too: answers end up in pages.
fn json(text: &str, out: &mut Vec<u8>) {
    for c in text.chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '<' | '>' | '&' | '\'' | '\u{7f}' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes());
            }
            c => push(c, out),
        }
    }
}

fn html(text: &str, out: &mut Vec<u8>) {
    for c in text.chars() {
        match c {
            '&' => out.extend_from_slice(b"&amp;"),
            '<' => out.extend_from_slice(b"&lt;"),
            '>' => out.extend_from_slice(b"&gt;"),
            '"' => out.extend_from_slice(b"&quot;"),
            '\'' => out.extend_from_slice(b"&#39;"),
            '`' => out.extend_from_slice(b"&#96;"),
            '\t' | '\n' => push(c, out),
            c if c.is_control() => out.push(b' '),
            c => push(c, out),
        }
    }
}

fn push(c: char, out: &mut Vec<u8>) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(value: &[u8], coded: Coded, place: Place) -> String {
        let mut out = Vec::new();
        write(value, coded, place, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn a_value_stays_one_value_where_it_stands() {
        for (value, coded, place, expected) in [
            ("a\r\nb: 1", Coded::Plain, Place::Field, "a%0D%0Ab: 1"),
            ("\0\x7f\tä", Coded::Plain, Place::Field, "%00%7F\tä"),
            ("../a/b?c#d", Coded::Plain, Place::Path, "..%2Fa%2Fb%3Fc%23d"),
            ("a/b%20c", Coded::Path, Place::Path, "a/b%20c"),
            ("a=1&b", Coded::Query, Place::Path, "a%3D1%26b"),
            ("a b&c=d+%", Coded::Plain, Place::Query, "a%20b%26c%3Dd%2B%25"),
            ("a/b%20c&d=+;", Coded::Path, Place::Query, "a/b%20c%26d%3D%2B%3B"),
            ("a=1&b=%20", Coded::Query, Place::Query, "a=1&b=%20"),
            ("a=1&b=%20", Coded::Query, Place::Parameter, "a%3D1%26b%3D%2520"),
            ("a/b%20c&d=+;", Coded::Path, Place::Parameter, "a/b%20c%26d%3D%2B%3B"),
            ("a b&c=d+%", Coded::Plain, Place::Parameter, "a%20b%26c%3Dd%2B%25"),
            (
                "a\"b\\c\n</script>\u{2028}",
                Coded::Plain,
                Place::Json,
                "a\\\"b\\\\c\\n\\u003c/script\\u003e\\u2028",
            ),
            (
                "<a href='x' \"&`\0",
                Coded::Plain,
                Place::Html,
                "&lt;a href=&#39;x&#39; &quot;&amp;&#96; ",
            ),
            ("a\r\nb\x1b", Coded::Plain, Place::Text, "a \nb "),
        ] {
            assert_eq!(written(value.as_bytes(), coded, place), expected, "{value:?} {place:?}");
        }
        assert_eq!(written(b"\xff", Coded::Plain, Place::Json), "\u{fffd}");
        assert_eq!(written(b"\xff", Coded::Plain, Place::Path), "%FF");
    }

    #[test]
    fn json_is_what_was_meant() {
        for c in (0..0x3000_u32).filter_map(char::from_u32) {
            let text =
                format!("\"{}\"", written(c.to_string().as_bytes(), Coded::Plain, Place::Json));
            assert_eq!(serde_json::from_str::<String>(&text).unwrap(), c.to_string(), "{c:?}");
        }
    }

    #[test]
    fn media_types_say_where_values_stand() {
        for (kind, expected) in [
            ("application/json", Some(Place::Json)),
            ("application/problem+json; charset=utf-8", Some(Place::Json)),
            ("Text/HTML; charset=utf-8", Some(Place::Html)),
            ("application/soap+xml", Some(Place::Html)),
            ("image/svg+xml", Some(Place::Html)),
            ("text/plain", Some(Place::Text)),
            ("application/x-www-form-urlencoded", Some(Place::Parameter)),
            ("text/css", None),
            ("text/javascript; charset=utf-8", None),
            ("application/javascript", None),
            ("text", None),
            ("", None),
        ] {
            assert_eq!(Place::in_body(kind), expected, "{kind}");
        }
    }
}
