//! A JSON Schema, compiled once: drafts 4 to 2020-12 as `$schema` says, 2020-12 where it says nothing.
//!
//! References lead nowhere outside the text, patterns are of the kind that takes linear time, formats are checked. Judging is
//! bounded by the size and depth of what is judged, times what the schema branches. Called by the policy and by `openapi`.

use crate::policy::validate::{Refused, json};
use jsonschema::{PatternOptions, Registry, ValidationOptions, Validator};
use serde_json::Value;

/// A schema.
#[derive(Debug)]
pub struct Schema(Validator);

// What is wrong with a larger text is not sought out: explaining branches of a schema copies what they judge.
const EXPLAINED: usize = 64 << 10;

impl Schema {
    /// Compiles a schema that stands for itself.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn build(schema: &Value) -> Result<Schema, String> {
        options().build(schema).map(Schema).map_err(|error| {
            format!(
                "no JSON Schema that can be used, at {:?}: {error}",
                error.instance_path().as_str()
            )
        })
    }

    /// Compiles the schema at `pointer` of the document that `registry` knows as `uri`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn inside(registry: &Registry<'_>, uri: &str, pointer: &str) -> Result<Schema, String> {
        let mut reference = format!("{uri}#");
        for octet in pointer.bytes() {
            match octet {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                    reference.push(char::from(octet));
                }
                _ => reference.push_str(&format!("%{octet:02X}")),
            }
        }
        let schema = serde_json::json!({ "$ref": reference });
        options()
            .with_registry(registry)
            .build(&schema)
            .map(Schema)
            .map_err(|error| format!("{pointer}: no JSON Schema that can be used: {error}"))
    }

    /// Whether a value is what it says.
    pub fn takes(&self, value: &Value) -> bool {
        self.0.is_valid(value)
    }

    /// What of a value is not what it says.
    pub fn explain(&self, value: &Value) -> Option<String> {
        let error = self.0.validate(value).err()?;
        let place = error.instance_path().as_str();
        let place = if place.is_empty() { String::new() } else { format!("{place}: ") };
        Some(format!("{place}{}", error.masked_with("the value")))
    }

    /// Judges a body that is JSON.
    ///
    /// # Errors
    /// Where it is not what the schema says.
    pub(super) fn judge_text(&self, text: &[u8], depth: usize) -> Result<(), Refused> {
        let value = json::parse(text, depth)
            .map_err(|why| Refused::invalid(format!("The body is no usable JSON: {why}.")))?;
        if self.takes(&value) {
            return Ok(());
        }
        let why = if text.len() <= EXPLAINED { self.explain(&value) } else { None };
        let why = why.map(|why| format!("The body is not as described: {why}."));
        Err(Refused::invalid(why.unwrap_or_else(|| "The body is not as described.".to_owned())))
    }
}

fn options<'a>() -> ValidationOptions<'a> {
    // Patterns: a client's text must not make one backtrack.
    jsonschema::options()
        .offline()
        .should_validate_formats(true)
        .with_pattern_options(PatternOptions::regex().size_limit(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(schema: &str, text: &str, wrong: Option<&str>) {
        let schema = Schema::build(&serde_json::from_str(schema).unwrap()).unwrap();
        let judged = schema.judge_text(text.as_bytes(), 64).map_err(|refused| refused.detail);
        match (judged, wrong) {
            (Ok(()), None) => {}
            (Err(detail), Some(part)) if detail.contains(part) => {}
            (judged, wrong) => panic!("{judged:?}, not {wrong:?}, for {text}"),
        }
    }

    #[test]
    fn judges_by_the_draft_that_it_names() {
        // `prefixItems` means something since 2020-12, a list of `items` until then.
        let new = r#"{"prefixItems": [{"type": "string"}], "items": false}"#;
        let old = r#"{"$schema": "http://json-schema.org/draft-07/schema#",
            "items": [{"type": "string"}], "additionalItems": false}"#;
        for schema in [new, old] {
            check(schema, r#"["a"]"#, None);
            check(schema, r#"[1]"#, Some("/0: the value is not of type \"string\""));
            check(schema, r#"["a", 1]"#, Some("not as described"));
        }
        let four = r#"{"$schema": "http://json-schema.org/draft-04/schema#",
            "maximum": 5, "exclusiveMaximum": true}"#;
        check(four, "4", None);
        check(four, "5", Some("maximum of 5"));
    }

    #[test]
    fn formats_are_checked() {
        for (format, right, wrong) in [
            ("date-time", "2026-01-02T03:04:05Z", "2026-13-02T03:04:05Z"),
            ("date", "2026-01-02", "2026-02-30"),
            ("email", "a@example.com", "a"),
            ("uuid", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "f81d4fae"),
            ("ipv4", "192.0.2.1", "192.0.2.256"),
            ("uri", "https://example.com/", "example"),
        ] {
            let schema = format!(r#"{{"type": "string", "format": "{format}"}}"#);
            check(&schema, &format!("{right:?}"), None);
            check(&schema, &format!("{wrong:?}"), Some(format));
        }
    }

    #[test]
    fn a_refusal_names_the_place_and_not_the_value() {
        let schema = r#"{"type": "object", "required": ["name"], "properties": {
            "name": {"type": "string", "maxLength": 3},
            "card": {"type": "string", "pattern": "^[0-9]+$"},
            "kind": {"enum": ["a", "b"]}}, "additionalProperties": false}"#;
        check(schema, r#"{"name": "abc", "card": "123", "kind": "b"}"#, None);
        for (text, part) in [
            (r#"{"card": "1"}"#, "\"name\" is a required property"),
            (r#"{"name": "hunter2"}"#, "/name: the value is longer than 3"),
            (r#"{"name": "a", "card": "hunter2"}"#, "/card: the value does not match"),
            (r#"{"name": "a", "kind": "hunter2"}"#, "/kind: the value is not one of"),
            (r#"{"name": "a", "other": "hunter2"}"#, "'other'"),
        ] {
            check(schema, text, Some(part));
            let schema = Schema::build(&serde_json::from_str(schema).unwrap()).unwrap();
            let refused = schema.judge_text(text.as_bytes(), 64).unwrap_err();
            assert!(!refused.detail.contains("hunter2"), "{refused:?}");
        }
    }

    #[test]
    fn references_do_not_leave_the_text() {
        for (schema, part) in [
            (r#"{"$ref": "https://example.com/x.json"}"#, "https://example.com/x.json"),
            (r#"{"$ref": "file:///etc/passwd"}"#, "file:///etc/passwd"),
            (r#"{"$ref": "other.json"}"#, "other.json"),
            (r##"{"$ref": "#/$defs/none"}"##, "/$defs/none"),
            (r#"{"pattern": "(?=x)"}"#, "regex"),
            (r#"{"pattern": "(a)\\1"}"#, "regex"),
            (r#"{"type": "text"}"#, "type"),
        ] {
            let error = Schema::build(&serde_json::from_str(schema).unwrap()).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_hostile_text_takes_bounded_time() {
        // Exponential for an engine that backtracks.
        let schema = r#"{"items": {"pattern": "^(a+)+$"}}"#;
        let text = format!("[{:?}]", "a".repeat(50_000) + "b");
        check(schema, &text, Some("not as described"));
        let unique = r#"{"uniqueItems": true}"#;
        let items: Vec<String> = (0..100_000).map(|n| n.to_string()).collect();
        check(unique, &format!("[{}]", items.join(",")), None);
        let tree = r##"{"type": "array", "items": {"$ref": "#"}}"##;
        check(tree, &format!("{}{}", "[".repeat(64), "]".repeat(64)), None);
    }
}
