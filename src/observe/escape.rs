//! Bytes from strangers, made safe for one line of a log.
//!
//! Two ways: [`json`] for strings in JSON, always valid UTF-8; [`hex`] for text formats, printable ASCII with
//! `\xHH` for the rest, as Apache's mod_log_config does. Both cap the length of what they read, so that the
//! longest line has a bound, and neither lets a line break, a terminal's control sequence or a mark that
//! reorders text (CVE-2021-42574) through.

use std::time::Duration;

/// Bytes of a request target that are written.
pub const PATH_CAP: usize = 8 << 10;
/// Bytes of every other value that are written.
pub const VALUE_CAP: usize = 1 << 10;
/// Stands at the end of a value that was cut.
const CUT: &[u8] = b"...";
const HEX: &[u8; 16] = b"0123456789abcdef";

/// Octets that stand for themselves in both ways: printable ASCII but the quote and the backslash.
const PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0x20;
    while byte < 0x7f {
        table[byte] = byte != b'"' as usize && byte != b'\\' as usize;
        byte += 1;
    }
    table
};

/// Appends `value` as the inside of a JSON string, at most `cap` bytes of it. What is not UTF-8 becomes
/// U+FFFD; controls, line separators and marks of direction become `\u` escapes.
pub fn json(value: &[u8], cap: usize, out: &mut Vec<u8>) {
    let (value, cut) = capped(value, cap);
    if value.iter().all(|byte| PLAIN[usize::from(*byte)]) {
        out.extend_from_slice(value);
    } else {
        for chunk in value.utf8_chunks() {
            json_text(chunk.valid(), out);
            if !chunk.invalid().is_empty() {
                out.extend_from_slice(b"\\ufffd");
            }
        }
    }
    if cut {
        out.extend_from_slice(CUT);
    }
}

fn json_text(text: &str, out: &mut Vec<u8>) {
    let mut done = 0;
    for (at, c) in text.char_indices() {
        if !needs_escape(c) {
            continue;
        }
        out.extend_from_slice(text.as_bytes().get(done..at).unwrap_or_default());
        done = at + c.len_utf8();
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            _ => json_units(c, out),
        }
    }
    out.extend_from_slice(text.as_bytes().get(done..).unwrap_or_default());
}

fn json_units(c: char, out: &mut Vec<u8>) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        out.extend_from_slice(b"\\u");
        for shift in [12, 8, 4, 0] {
            out.push(HEX[usize::from(*unit >> shift & 15)]);
        }
    }
}

fn needs_escape(c: char) -> bool {
    match c {
        '"' | '\\' => true,
        '\0'..='\x1f' | '\x7f'..='\u{9f}' => true,
        _ if c.is_ascii() => false,
        // Soft hyphen, marks of direction, zero width, separators, bidirectional controls, byte order mark,
        // interlinear annotation, tags: nothing that a reader could see.
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' => {
            true
        }
        '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' => true,
        '\u{e0000}'..='\u{e007f}' => true,
        _ => false,
    }
}

/// Whether a text value stands between double quotes in its line, or ends at the next space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Between double quotes: a space stands for itself.
    Quoted,
    /// Alone: a space becomes `\x20`, so that no value can pass for two.
    Bare,
}

/// Appends `value` as printable ASCII, at most `cap` bytes of it; quotes, backslashes and all else become
/// `\xHH`. An empty value is written as `-`.
pub fn hex(value: &[u8], cap: usize, place: Place, out: &mut Vec<u8>) {
    if value.is_empty() {
        out.push(b'-');
        return;
    }
    let (value, cut) = capped(value, cap);
    let mut rest = value;
    while !rest.is_empty() {
        let run = rest.iter().position(|byte| !stands(*byte, place)).unwrap_or(rest.len());
        let (safe, tail) = rest.split_at(run);
        out.extend_from_slice(safe);
        let Some((byte, tail)) = tail.split_first() else { break };
        let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
        out.extend_from_slice(&[b'\\', b'x', high, low]);
        rest = tail;
    }
    if cut {
        out.extend_from_slice(CUT);
    }
}

fn stands(byte: u8, place: Place) -> bool {
    PLAIN[usize::from(byte)] && (byte != b' ' || place == Place::Quoted)
}

fn capped(value: &[u8], cap: usize) -> (&[u8], bool) {
    match value.get(..cap) {
        Some(head) if head.len() < value.len() => (head, true),
        _ => (value, false),
    }
}

/// Appends a whole number.
pub fn number(value: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends milliseconds with three decimals, as `12.345`.
pub fn millis(time: Duration, out: &mut Vec<u8>) {
    thousandths(time.as_micros(), out);
}

/// Appends seconds with three decimals, as `0.012`.
pub fn seconds(time: Duration, out: &mut Vec<u8>) {
    thousandths(time.as_millis(), out);
}

fn thousandths(value: u128, out: &mut Vec<u8>) {
    let value = u64::try_from(value).unwrap_or(u64::MAX);
    number(value / 1000, out);
    let rest = value % 1000;
    let digit = |n: u64| b'0' + u8::try_from(n % 10).unwrap_or(0);
    out.extend_from_slice(&[b'.', digit(rest / 100), digit(rest / 10), digit(rest)]);
}

/// Appends what `Display` writes; addresses do so without the heap.
pub fn display(value: impl std::fmt::Display, out: &mut Vec<u8>) {
    use std::io::Write;
    // Writing to a vector cannot fail.
    let _ = write!(out, "{value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn as_json(value: &[u8]) -> String {
        let mut out = Vec::new();
        json(value, VALUE_CAP, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn as_hex(value: &[u8], place: Place) -> String {
        let mut out = Vec::new();
        hex(value, VALUE_CAP, place, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_escapes_what_breaks_a_line_or_a_reader() {
        for (value, want) in [
            ("plain /path?q=1", "plain /path?q=1"),
            ("a\"b\\c", r#"a\"b\\c"#),
            ("a\r\n\tb", r"a\r\n\tb"),
            ("\x1b[31m\x00\x7f", r"\u001b[31m\u0000\u007f"),
            ("\u{9b}31m\u{85}", r"\u009b31m\u0085"),
            ("x\u{2028}\u{2029}y", r"x\u2028\u2029y"),
            ("\u{202e}\u{2066}\u{200f}", r"\u202e\u2066\u200f"),
            ("\u{e0041}", r"\udb40\udc41"),
            ("größe 漢字 🦀", "größe 漢字 🦀"),
        ] {
            assert_eq!(as_json(value.as_bytes()), want);
        }
        assert_eq!(as_json(b"a\xffb\xc3"), r"a\ufffdb\ufffd");
    }

    #[test]
    fn hex_leaves_printable_ascii_only() {
        assert_eq!(as_hex(b"", Place::Quoted), "-");
        assert_eq!(as_hex(b"a b", Place::Quoted), "a b");
        assert_eq!(as_hex(b"a b", Place::Bare), r"a\x20b");
        assert_eq!(as_hex(b"\"\\\r\n\x7f", Place::Quoted), r"\x22\x5c\x0d\x0a\x7f");
        assert_eq!(as_hex("ö".as_bytes(), Place::Quoted), r"\xc3\xb6");
    }

    #[test]
    fn long_values_are_cut_and_say_so() {
        let long = vec![b'a'; VALUE_CAP + 1];
        assert_eq!(as_json(&long).len(), VALUE_CAP + 3);
        assert!(as_hex(&long, Place::Bare).ends_with("a..."));
        assert!(!as_hex(&long[1..], Place::Bare).ends_with('.'));
    }

    #[test]
    fn times_have_three_decimals() {
        let mut out = Vec::new();
        millis(Duration::from_micros(12_045), &mut out);
        out.push(b' ');
        seconds(Duration::from_micros(12_945), &mut out);
        out.push(b' ');
        seconds(Duration::MAX, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "12.045 0.012 18446744073709551.615");
    }
}
