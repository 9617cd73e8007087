//! JSON (RFC 8259) as it is written: checked, walked by pointers (RFC 6901), and read into values that borrow.
//!
//! What a service has written goes on octet by octet: numbers keep their digits, members their order, and names that come
//! twice stay so. Nesting has a bound, since it is walked by recursion. Called by `compare` and `merge`.

use std::borrow::Cow;

/// Arrays and objects within each other, at most.
pub const MOST_DEPTH: usize = 64;

/// A value that borrows from its text.
#[derive(Clone, Debug, PartialEq)]
pub enum Json<'a> {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// As it is written.
    Number(&'a str),
    /// Without quotes and escapes.
    Text(Cow<'a, str>),
    /// In order.
    Array(Vec<Json<'a>>),
    /// In order, names that come twice included.
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

/// Octets that are no JSON, or are nested too deeply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotJson;

/// Where a value stands in another (RFC 6901): names and indices from the outside in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pointer(pub Vec<String>);

impl Pointer {
    /// `/items/0/id`; the empty text is the whole. `None` for anything else.
    pub fn parse(text: &str) -> Option<Pointer> {
        if text.is_empty() {
            return Some(Pointer::default());
        }
        let steps = text.strip_prefix('/')?.split('/').map(unescaped);
        steps.collect::<Option<Vec<String>>>().map(Pointer)
    }
}

// `~1` is a slash, `~0` a tilde; nothing else follows one.
fn unescaped(step: &str) -> Option<String> {
    let rest = step.replace("~0", "").replace("~1", "");
    (!rest.contains('~')).then(|| step.replace("~1", "/").replace("~0", "~"))
}

/// Appends one step of a pointer.
pub fn push_step(pointer: &mut String, step: &str) {
    pointer.push('/');
    for c in step.chars() {
        match c {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            c => pointer.push(c),
        }
    }
}

/// Reads one value and nothing else.
///
/// # Errors
/// [`NotJson`]
pub fn parse(octets: &[u8]) -> Result<Json<'_>, NotJson> {
    let mut scan = Scan::new(octets)?;
    let value = scan.value(0)?;
    scan.end().map(|()| value)
}

/// The text of the value at `pointer` in one that is checked whole; `None` where there is nothing. Of names that come twice
/// the last counts, as most readers have it.
///
/// # Errors
/// [`NotJson`]
pub fn find<'a>(octets: &'a [u8], pointer: &Pointer) -> Result<Option<&'a str>, NotJson> {
    let mut scan = Scan::new(octets)?;
    let found = scan.find(&pointer.0, 0)?;
    scan.end().map(|()| found)
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    fn new(octets: &'a [u8]) -> Result<Scan<'a>, NotJson> {
        let text = std::str::from_utf8(octets).map_err(|_| NotJson)?;
        Ok(Scan { text, at: 0 })
    }

    fn end(&mut self) -> Result<(), NotJson> {
        if self.next().is_none() { Ok(()) } else { Err(NotJson) }
    }

    // The next octet that is no white space, which is not taken.
    fn next(&mut self) -> Option<u8> {
        let rest = self.text.as_bytes().get(self.at..)?;
        self.at += rest.iter().take_while(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r')).count();
        self.text.as_bytes().get(self.at).copied()
    }

    // Takes an octet if it is the next.
    fn takes(&mut self, octet: u8) -> bool {
        let is = self.next() == Some(octet);
        self.at += usize::from(is);
        is
    }

    fn expect(&mut self, octet: u8) -> Result<(), NotJson> {
        if self.takes(octet) { Ok(()) } else { Err(NotJson) }
    }

    fn value(&mut self, depth: usize) -> Result<Json<'a>, NotJson> {
        match self.next() {
            Some(b'{') => {
                let mut members = Vec::new();
                self.members(depth, |scan, name| {
                    members.push((name, scan.value(depth + 1)?));
                    Ok(())
                })?;
                Ok(Json::Object(members))
            }
            Some(b'[') => {
                let mut items = Vec::new();
                self.items(depth, |scan, _| {
                    items.push(scan.value(depth + 1)?);
                    Ok(())
                })?;
                Ok(Json::Array(items))
            }
            Some(b'"') => self.string().map(Json::Text),
            Some(b't') => self.word("true").map(|()| Json::Bool(true)),
            Some(b'f') => self.word("false").map(|()| Json::Bool(false)),
            Some(b'n') => self.word("null").map(|()| Json::Null),
            _ => self.number().map(Json::Number),
        }
    }

    // Checks a value, and gives its text.
    fn skip(&mut self, depth: usize) -> Result<&'a str, NotJson> {
        let next = self.next();
        let start = self.at;
        match next {
            Some(b'{') => self.members(depth, |scan, _| scan.skip(depth + 1).map(|_| ()))?,
            Some(b'[') => self.items(depth, |scan, _| scan.skip(depth + 1).map(|_| ()))?,
            Some(b'"') => self.string().map(|_| ())?,
            Some(b't') => self.word("true")?,
            Some(b'f') => self.word("false")?,
            Some(b'n') => self.word("null")?,
            _ => self.number().map(|_| ())?,
        }
        self.text.get(start..self.at).ok_or(NotJson)
    }

    fn find(&mut self, steps: &[String], depth: usize) -> Result<Option<&'a str>, NotJson> {
        let Some((step, inner)) = steps.split_first() else {
            return self.skip(depth).map(Some);
        };
        let mut found = None;
        match self.next() {
            Some(b'{') => self.members(depth, |scan, name| {
                if name == *step {
                    found = scan.find(inner, depth + 1)?;
                    return Ok(());
                }
                scan.skip(depth + 1).map(|_| ())
            })?,
            Some(b'[') => {
                let wanted = index(step);
                self.items(depth, |scan, at| {
                    if Some(at) == wanted {
                        found = scan.find(inner, depth + 1)?;
                        return Ok(());
                    }
                    scan.skip(depth + 1).map(|_| ())
                })?;
            }
            _ => {
                self.skip(depth)?;
            }
        }
        Ok(found)
    }

    fn members(
        &mut self,
        depth: usize,
        mut each: impl FnMut(&mut Scan<'a>, Cow<'a, str>) -> Result<(), NotJson>,
    ) -> Result<(), NotJson> {
        self.expect(b'{')?;
        if depth >= MOST_DEPTH {
            return Err(NotJson);
        }
        if self.takes(b'}') {
            return Ok(());
        }
        loop {
            self.next();
            let name = self.string()?;
            self.expect(b':')?;
            each(self, name)?;
            if !self.takes(b',') {
                return self.expect(b'}');
            }
        }
    }

    fn items(
        &mut self,
        depth: usize,
        mut each: impl FnMut(&mut Scan<'a>, usize) -> Result<(), NotJson>,
    ) -> Result<(), NotJson> {
        self.expect(b'[')?;
        if depth >= MOST_DEPTH {
            return Err(NotJson);
        }
        if self.takes(b']') {
            return Ok(());
        }
        for at in 0.. {
            each(self, at)?;
            if !self.takes(b',') {
                break;
            }
        }
        self.expect(b']')
    }

    fn word(&mut self, word: &str) -> Result<(), NotJson> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        if !rest.starts_with(word) {
            return Err(NotJson);
        }
        self.at += word.len();
        Ok(())
    }

    fn digits(&mut self) -> usize {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let count = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        self.at += count;
        count
    }

    fn number(&mut self) -> Result<&'a str, NotJson> {
        let start = self.at;
        let peek = |scan: &Scan<'a>| scan.text.as_bytes().get(scan.at).copied();
        self.at += usize::from(peek(self) == Some(b'-'));
        let zero = peek(self) == Some(b'0');
        match self.digits() {
            0 => return Err(NotJson),
            1 => {}
            _ if zero => return Err(NotJson),
            _ => {}
        }
        if peek(self) == Some(b'.') {
            self.at += 1;
            if self.digits() == 0 {
                return Err(NotJson);
            }
        }
        if matches!(peek(self), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(peek(self), Some(b'+' | b'-')));
            if self.digits() == 0 {
                return Err(NotJson);
            }
        }
        self.text.get(start..self.at).ok_or(NotJson)
    }

    fn string(&mut self) -> Result<Cow<'a, str>, NotJson> {
        if self.text.as_bytes().get(self.at) != Some(&b'"') {
            return Err(NotJson);
        }
        let start = self.at + 1;
        let rest = self.text.as_bytes().get(start..).unwrap_or_default();
        let plain = rest.iter().take_while(|b| !matches!(b, b'"' | b'\\' | 0..=0x1f)).count();
        self.at = start + plain;
        if rest.get(plain) == Some(&b'"') {
            self.at += 1;
            return self.text.get(start..start + plain).map(Cow::Borrowed).ok_or(NotJson);
        }
        // Escapes are rare: the library that knows them reads them, and what has none of them passes.
        loop {
            match self.text.as_bytes().get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => self.at += 2,
                Some(0x20..) => self.at += 1,
                Some(_) | None => return Err(NotJson),
            }
        }
        self.at += 1;
        let quoted = self.text.get(start - 1..self.at).ok_or(NotJson)?;
        serde_json::from_str::<String>(quoted).map(Cow::Owned).map_err(|_| NotJson)
    }
}

// An index of an array: digits without leading zeros (RFC 6901 section 4).
fn index(step: &str) -> Option<usize> {
    let plain = step == "0" || (!step.starts_with('0') && step.bytes().all(|b| b.is_ascii_digit()));
    if plain { step.parse().ok() } else { None }
}

/// Whether two numbers are the same number, however they are written: `1`, `1.0` and `10e-1` are.
pub fn same_number(one: &str, other: &str) -> bool {
    one == other || matches!((Decimal::of(one), Decimal::of(other)), (Some(a), Some(b)) if a == b)
}

#[derive(PartialEq)]
struct Decimal {
    negative: bool,
    // Without zeros at either end.
    digits: String,
    exponent: i64,
}

impl Decimal {
    // `None` where the exponent is too large to be counted with.
    fn of(text: &str) -> Option<Decimal> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = [whole, fraction].concat();
        let digits = digits.trim_start_matches('0');
        let kept = digits.trim_end_matches('0');
        if kept.is_empty() {
            return Some(Decimal { negative: false, digits: String::new(), exponent: 0 });
        }
        let exponent: i64 = exponent.strip_prefix('+').unwrap_or(exponent).parse().ok()?;
        let places = i64::try_from(digits.len() - kept.len()).ok()?;
        let fraction = i64::try_from(fraction.len()).ok()?;
        let exponent = exponent.checked_add(places)?.checked_sub(fraction)?;
        Some(Decimal { negative, digits: kept.to_owned(), exponent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_library_takes_is_taken_and_nothing_else() {
        let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
        let texts = [
            "null",
            "true",
            "false",
            "0",
            "-0",
            "-1.5e+10",
            "1E5",
            "\"\"",
            "\"a\\n\\u00e9\"",
            "[]",
            "{}",
            " [ 1 , 2 ] ",
            "{\"a\":1,\"a\":2}",
            "{\"a\":{\"b\":[null]}}",
            "\"\\ud83d\\ude00\"",
            "\"ü\"",
            "",
            " ",
            "nul",
            "nulll",
            "01",
            "+1",
            "1.",
            ".5",
            "1e",
            "-",
            "\"",
            "\"\\\"",
            "\"\\x\"",
            "\"\t\"",
            "\"\\ud800\"",
            "[1,]",
            "[1 2]",
            "{,}",
            "{\"a\"}",
            "{a:1}",
            "{\"a\":1,}",
            "[",
            "}",
            "1 1",
            "\u{feff}1",
            "\"a\\",
            "[\"\\u12",
            "Infinity",
            "NaN",
            "'a'",
            "// x\n1",
            "\"\\\\\"",
            "\"\u{7f}\"",
            "{\"a\" : 1}",
        ];
        for text in texts.iter().map(|t| (*t).to_owned()).chain([deep(MOST_DEPTH)]) {
            let expected = serde_json::from_str::<serde_json::Value>(&text).is_ok();
            assert_eq!(parse(text.as_bytes()).is_ok(), expected, "{text}");
            let found = find(text.as_bytes(), &Pointer::default());
            assert_eq!(found.is_ok(), expected, "{text}");
        }
        assert_eq!(parse(deep(MOST_DEPTH + 1).as_bytes()), Err(NotJson));
        assert_eq!(find(deep(100_000).as_bytes(), &Pointer::default()), Err(NotJson));
        assert_eq!(parse(b"\"\xff\""), Err(NotJson));
    }

    #[test]
    fn every_beginning_of_a_text_is_refused() {
        let text = r#"{"a":[1.5e-3,"x\u00e9\\",{"b":null}],"c":true}"#;
        for end in 0..text.len() {
            assert_eq!(parse(&text.as_bytes()[..end]), Err(NotJson), "{end}");
        }
    }

    #[test]
    fn pointers_find_what_is_there_as_it_is_written() {
        let text = r#"{"a":[10, {"b": 1.50}],"x/y":{"~":"\u0041"},"":0,"d":1,"d":2, "w" : [ 1 ] }"#;
        for (pointer, expected) in [
            ("", Some(text)),
            ("/a/0", Some("10")),
            ("/a/1", Some("{\"b\": 1.50}")),
            ("/a/1/b", Some("1.50")),
            ("/a/2", None),
            ("/a/01", None),
            ("/a/-", None),
            ("/a/b", None),
            ("/x~1y/~0", Some("\"\\u0041\"")),
            ("/", Some("0")),
            ("/d", Some("2")),
            ("/d/x", None),
            ("/w", Some("[ 1 ]")),
            ("/none", None),
        ] {
            let pointer = Pointer::parse(pointer).unwrap();
            assert_eq!(find(text.as_bytes(), &pointer), Ok(expected), "{pointer:?}");
        }
        for wrong in ["a", "a/b", "/~2", "/~"] {
            assert_eq!(Pointer::parse(wrong), None, "{wrong}");
        }
        let mut pointer = String::new();
        push_step(&mut pointer, "x/y~");
        assert_eq!(
            (pointer.as_str(), Pointer::parse(&pointer)),
            ("/x~1y~0", Some(Pointer(vec!["x/y~".into()])))
        );
    }

    #[test]
    fn numbers_are_what_they_mean_and_not_how_they_are_written() {
        for (one, other, same) in [
            ("1", "1.0", true),
            ("1", "10e-1", true),
            ("1e2", "100", true),
            ("1E+2", "100.00", true),
            ("-0", "0.0", true),
            ("0e99", "0", true),
            ("0.001", "1e-3", true),
            ("1", "-1", false),
            ("12345678901234567890123", "12345678901234567890124", false),
            ("0.1", "0.10000000000000001", false),
            ("1e99999999999999999999", "1e99999999999999999999", true),
            ("1e99999999999999999999", "1e99999999999999999998", false),
        ] {
            assert_eq!(same_number(one, other), same, "{one} {other}");
            assert_eq!(same_number(other, one), same, "{other} {one}");
        }
    }
}
