//! JSON that is merged and compared, against serde_json: the same texts are taken, a whole is what it is with itself, and what is
//! merged is JSON that says the same.
//!
//! The input is an answer's body.

use ringgate::fanout::compare::{Side, compare};
use ringgate::fanout::json::{MOST_DEPTH, Pointer, find, parse};
use ringgate::fanout::merge::{judge, merge};
use ringgate::fanout::{AggregateSettings, CompareSettings, PartSettings};
use serde_json::Value;

/// See the module's documentation.
pub fn json(data: &[u8]) {
    let taken = parse(data).is_ok();
    let whole = find(data, &Pointer::default());
    assert_eq!(whole.is_ok(), taken, "{:?}", data.escape_ascii());
    let value = serde_json::from_slice::<Value>(data).ok();
    if taken {
        // Not as a value: numbers may be larger than those of the library.
        assert!(serde_json::from_slice::<serde::de::IgnoredAny>(data).is_ok());
    } else if let Some(value) = &value {
        assert!(depth(value) > MOST_DEPTH, "{:?}", data.escape_ascii());
    }
    let side = Side { status: 200, json: true, body: data.to_vec(), ..Side::default() };
    // Not the same octets, so that it is read.
    let spaced = Side { body: [b" ", data].concat(), ..side.clone() };
    let outcome = compare(&CompareSettings::default(), &side, &spaced);
    assert_eq!(outcome.differences.is_empty(), taken, "{:?}", data.escape_ascii());
    if let (Ok(Some(text)), Some(value)) = (whole, value) {
        merged(data, text, &value);
    }
}

fn merged(data: &[u8], text: &str, value: &Value) {
    let part = |name: &str| PartSettings { name: name.to_owned(), ..PartSettings::default() };
    let settings = AggregateSettings {
        parts: vec![part("a"), part("\"")],
        limit: u64::MAX,
        ..AggregateSettings::default()
    };
    let judged = judge(&settings.parts[0], 200, b"application/json", false, data);
    assert_eq!(judged, Ok(text));
    let whole = merge(&settings, &[judged, Ok("[]")]).expect("both parts are there");
    let whole: Value = serde_json::from_slice(&whole.body).expect("JSON");
    assert_eq!((&whole["a"], &whole["\""]), (value, &Value::Array(Vec::new())));
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
