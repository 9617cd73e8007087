//! JSON as it may be judged: one text that every reader understands alike.
//!
//! RFC 8259 leaves open what a repeated name or deep nesting means, and a service behind may take another value than the one
//! that was judged: both are refused here (RFC 7493 section 2.3), as is whatever else serde_json refuses: octets that are no
//! UTF-8, lone surrogates, numbers beyond a double, anything behind the end.

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

/// The most levels that can be asked for: serde_json itself goes no deeper than 128.
pub const MOST_LEVELS: usize = 120;

/// Reads one text.
///
/// # Errors
/// What is wrong with it, with line and column; nothing of its content.
pub fn parse(text: &[u8], levels: usize) -> Result<Value, String> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = Strict(levels).deserialize(&mut reader).map_err(|error| error.to_string())?;
    reader.end().map_err(|error| error.to_string())?;
    Ok(value)
}

// So many more levels may be opened.
#[derive(Clone, Copy)]
struct Strict(usize);

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Strict {
    fn deeper<E: Error>(self) -> Result<Strict, E> {
        let left = self.0.checked_sub(1);
        left.map(Strict).ok_or_else(|| E::custom("arrays and objects are nested too deeply"))
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        serde_json::Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number that is none"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(inner)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value_seed(inner)?;
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("an object has a name twice"));
            }
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_every_reader_reads_alike() {
        for text in [
            "null",
            " [1, -2, 2.5e3, true, \"\\u00e9\\ud83d\\ude00\"] ",
            r#"{"a": {"a": 1}, "b": []}"#,
            "18446744073709551615",
        ] {
            let value: Value = serde_json::from_str(text).unwrap();
            assert_eq!(parse(text.as_bytes(), 4).as_ref(), Ok(&value), "{text}");
        }
    }

    #[test]
    fn refuses_what_readers_read_differently() {
        let deep = |n: usize| [vec![b'['; n], vec![b']'; n]].concat();
        let check = |text: &[u8], levels: usize, part: &str| {
            let error = parse(text, levels).unwrap_err();
            assert!(error.contains(part), "{error:?} for {:?}", String::from_utf8_lossy(text));
        };
        check(br#"{"a": 1, "a": 2}"#, 9, "twice");
        check(br#"{"a": 1, "\u0061": 2}"#, 9, "twice");
        check(br#"[{"x": {"b": 1, "b": 1}}]"#, 9, "twice");
        check(&deep(5), 4, "too deeply");
        assert!(parse(&deep(4), 4).is_ok());
        assert!(parse(&deep(MOST_LEVELS), MOST_LEVELS).is_ok());
        check(&deep(100_000), 64, "too deeply");
        check(&deep(100_000), usize::MAX, "recursion");
        check(b"{\"a\": \"\xff\"}", 9, "line 1");
        check(br#""\ud800""#, 9, "line 1");
        check(b"NaN", 9, "line 1");
        check(b"[Infinity]", 9, "line 1");
        check(b"1e999", 9, "out of range");
        check(b"1 2", 9, "trailing");
        check(b"{\"a\":1}\0", 9, "trailing");
        check(b"\xef\xbb\xbf{}", 9, "line 1");
        check(b"{\"a\":1,}", 9, "line 1");
        check(b"// x\n1", 9, "line 1");
        check(b"", 9, "EOF");
    }

    #[test]
    fn an_error_quotes_nothing_of_the_text() {
        for text in [r#"{"password": hunter2}"#, r#"{"hunter2": 1, "hunter2": 2}"#, "\"hunter2"] {
            assert!(!parse(text.as_bytes(), 9).unwrap_err().contains("hunter2"));
        }
    }
}
