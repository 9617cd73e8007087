//! One JSON object of the answers of several services, each under its name, and what becomes of those that fail.
//!
//! Parts go into it as they were written, checked before: numbers keep their digits, members their order. No field of a part is
//! a field of the whole but what `freshness` makes of them. Called by `proxy::aggregate`.

use crate::fanout::json::{self, Pointer};
use std::time::Duration;

/// `aggregate`: the parts that one answer is made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AggregateSettings {
    /// In the order of the file, which is that of the answer.
    pub parts: Vec<PartSettings>,
    /// How long all of them together may take.
    pub timeout: Duration,
    /// Octets that the whole may have.
    pub limit: u64,
    /// Octets of the client's body that parts may be sent.
    pub body: u64,
    /// Whether the answer says what has failed under `_errors`.
    pub errors: bool,
    /// The status where every part is there.
    pub status: u16,
    /// The status where some part is not.
    pub partial_status: u16,
}

/// One of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PartSettings {
    /// The name that it gets.
    pub name: String,
    /// Who is asked, by the group's name.
    pub group: String,
    /// The method.
    pub method: String,
    /// Whether there is no answer without it.
    pub required: bool,
    /// What stands for it where it is missing, as JSON.
    pub default: Option<String>,
    /// How long it may take; `None` for as long as the whole.
    pub timeout: Option<Duration>,
    /// What of its answer is taken; the whole where it is empty.
    pub pick: Pointer,
}

/// The name under which an answer says what has failed.
pub const ERRORS: &str = "_errors";

/// Why a part is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Its time was over.
    Late,
    /// The code of what went wrong on the way.
    Failed(&'static str),
    /// It answered with another status than 2xx.
    Status(u16),
    /// Its answer does not call itself JSON, has a content coding, is none, or is nested too deeply.
    NotJson,
    /// Its answer is larger than the whole may be.
    TooLarge,
    /// There is nothing at `pick`.
    Nothing,
    /// What the request has put into its path makes no path.
    Path,
}

impl Missing {
    /// A stable code.
    pub fn code(self) -> &'static str {
        match self {
            Missing::Late => "timeout",
            Missing::Failed(code) => code,
            Missing::Status(_) => "status",
            Missing::NotJson => "not_json",
            Missing::TooLarge => "too_large",
            Missing::Nothing => "nothing_there",
            Missing::Path => "bad_path",
        }
    }
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Missing::Late => f.write_str("did not answer in time"),
            Missing::Failed(code) => write!(f, "failed: {code}"),
            Missing::Status(status) => write!(f, "answered with status {status}"),
            Missing::NotJson => f.write_str("did not answer with JSON"),
            Missing::TooLarge => f.write_str("answered with more than fits"),
            Missing::Nothing => f.write_str("answered with nothing at its pick"),
            Missing::Path => f.write_str("has no path that could be asked for"),
        }
    }
}

/// What a service has answered with, judged: the text that goes under the part's name.
///
/// # Errors
/// Why it does not count.
pub fn judge<'a>(
    part: &PartSettings,
    status: u16,
    content_type: &[u8],
    coded: bool,
    body: &'a [u8],
) -> Result<&'a str, Missing> {
    if !matches!(status, 200..300) {
        return Err(Missing::Status(status));
    }
    if !is_json(content_type) || coded {
        return Err(Missing::NotJson);
    }
    json::find(body, &part.pick).map_err(|_| Missing::NotJson)?.ok_or(Missing::Nothing)
}

/// Whether a media type is that of JSON (RFC 8259 section 11, RFC 6839 section 3.1).
pub fn is_json(content_type: &[u8]) -> bool {
    let kind = content_type.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    let kind = kind.to_ascii_lowercase();
    kind == b"application/json" || (kind.contains(&b'/') && kind.ends_with(b"+json"))
}

/// What is made of the parts, which come with their names.
#[derive(Debug, PartialEq, Eq)]
pub struct Whole {
    /// The body.
    pub body: Vec<u8>,
    /// The names of parts that are not there.
    pub missing: Vec<String>,
}

/// Merges the parts, each of which is what [`judge`] has let through.
///
/// # Errors
/// The position of the part that there is no answer without, or that does not fit any more, and why it is missing. Where
/// every part is missing, the first.
pub fn merge(
    settings: &AggregateSettings,
    parts: &[Result<&str, Missing>],
) -> Result<Whole, (usize, Missing)> {
    let each = || settings.parts.iter().zip(parts);
    let failed = each().position(|(part, got)| part.required && got.is_err());
    let none = (!parts.iter().any(Result::is_ok)).then_some(0);
    if let Some(at) = failed.or(none) {
        let why = parts.get(at).and_then(|got| got.err()).unwrap_or(Missing::Nothing);
        return Err((at, why));
    }
    let limit = usize::try_from(settings.limit).unwrap_or(usize::MAX);
    let (mut body, mut missing) = (b"{".to_vec(), Vec::new());
    for (at, (part, got)) in each().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        name(&mut body, &part.name);
        let text = got.unwrap_or_else(|_| {
            missing.push(part.name.clone());
            part.default.as_deref().unwrap_or("null")
        });
        body.extend_from_slice(text.as_bytes());
        // With room for the brace.
        if body.len() >= limit {
            return Err((at, Missing::TooLarge));
        }
    }
    if settings.errors && !missing.is_empty() {
        errors(&mut body, each());
    }
    body.push(b'}');
    Ok(Whole { body, missing })
}

// Small, however large the parts are: not held against the limit.
fn errors<'a>(
    body: &mut Vec<u8>,
    parts: impl Iterator<Item = (&'a PartSettings, &'a Result<&'a str, Missing>)>,
) {
    body.push(b',');
    name(body, ERRORS);
    body.push(b'{');
    for (at, (part, why)) in parts.filter_map(|(p, got)| Some((p, got.err()?))).enumerate() {
        if at > 0 {
            body.push(b',');
        }
        name(body, &part.name);
        body.extend_from_slice(b"{\"code\":\"");
        body.extend_from_slice(why.code().as_bytes());
        body.push(b'"');
        if let Missing::Status(status) = why {
            body.extend_from_slice(format!(",\"status\":{status}").as_bytes());
        }
        body.push(b'}');
    }
    body.push(b'}');
}

fn name(body: &mut Vec<u8>, name: &str) {
    // Writing to a Vec does not fail.
    let _ = serde_json::to_writer(&mut *body, name);
    body.push(b':');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str, required: bool, default: Option<&str>) -> PartSettings {
        let default = default.map(str::to_owned);
        PartSettings { name: name.into(), required, default, ..PartSettings::default() }
    }

    fn settings(errors: bool) -> AggregateSettings {
        AggregateSettings {
            parts: vec![
                part("user", true, None),
                part("orders", false, Some("[]")),
                part("we\"ird", false, None),
            ],
            limit: 200,
            errors,
            ..AggregateSettings::default()
        }
    }

    #[track_caller]
    fn check(
        errors: bool,
        parts: [Result<&str, Missing>; 3],
        expected: Result<(&str, &str), (usize, Missing)>,
    ) {
        let merged = merge(&settings(errors), &parts);
        let shown = merged.map(|w| (String::from_utf8(w.body).unwrap(), w.missing.join(",")));
        assert_eq!(shown, expected.map(|(body, missing)| (body.to_owned(), missing.to_owned())));
        if let Ok((body, _)) = shown {
            assert!(json::parse(body.as_bytes()).is_ok(), "{body}");
        }
    }

    #[test]
    fn parts_stand_under_their_names_as_they_were_written() {
        let parts = [Ok(r#"{"id": 1.50,"id":2}"#), Ok("[1]"), Ok("null")];
        check(true, parts, Ok((r#"{"user":{"id": 1.50,"id":2},"orders":[1],"we\"ird":null}"#, "")));
    }

    #[test]
    fn a_part_that_may_be_missing_gets_its_default_or_null() {
        let parts = [Ok("1"), Err(Missing::Status(404)), Err(Missing::Late)];
        let plain = r#"{"user":1,"orders":[],"we\"ird":null"#;
        check(false, parts, Ok((&format!("{plain}}}"), "orders,we\"ird")));
        let told =
            r#","_errors":{"orders":{"code":"status","status":404},"we\"ird":{"code":"timeout"}}}"#;
        check(true, parts, Ok((&format!("{plain}{told}"), "orders,we\"ird")));
    }

    #[test]
    fn a_part_that_must_be_there_fails_the_whole() {
        check(true, [Err(Missing::Late), Ok("1"), Ok("2")], Err((0, Missing::Late)));
        let failed = Missing::Failed("connect_failed");
        check(true, [Err(failed), Err(Missing::Late), Ok("2")], Err((0, failed)));
    }

    #[test]
    fn of_nothing_nothing_is_made() {
        let mut settings = settings(false);
        settings.parts[0].required = false;
        let merged =
            merge(&settings, &[Err(Missing::Nothing), Err(Missing::Late), Err(Missing::Late)]);
        assert_eq!(merged, Err((0, Missing::Nothing)));
    }

    #[test]
    fn the_whole_has_a_bound() {
        let long = format!("\"{}\"", "x".repeat(150));
        check(
            false,
            [Ok(&long), Ok("1"), Ok("2")],
            Ok((&format!("{{\"user\":{long},\"orders\":1,\"we\\\"ird\":2}}"), "")),
        );
        check(false, [Ok("1"), Ok(&long), Ok(&long)], Err((2, Missing::TooLarge)));
    }

    #[test]
    fn only_json_with_2xx_counts() {
        let pick = |text: &str| PartSettings {
            pick: Pointer::parse(text).unwrap(),
            ..PartSettings::default()
        };
        let (whole, items) = (pick(""), pick("/items"));
        let json: &[u8] = b"application/json; charset=utf-8";
        for (part, status, kind, body, expected) in [
            (&whole, 200, json, " {} ", Ok("{}")),
            (&whole, 204, json, "", Err(Missing::NotJson)),
            (&whole, 299, b"Application/Problem+JSON" as &[u8], "1", Ok("1")),
            (&whole, 304, json, "1", Err(Missing::Status(304))),
            (&whole, 500, json, "1", Err(Missing::Status(500))),
            (&whole, 200, b"text/plain", "1", Err(Missing::NotJson)),
            (&whole, 200, b"", "1", Err(Missing::NotJson)),
            (&whole, 200, b"application/jsonp", "1", Err(Missing::NotJson)),
            (&whole, 200, json, "{", Err(Missing::NotJson)),
            (&items, 200, json, r#"{"items": [ 1 ] }"#, Ok("[ 1 ]")),
            (&items, 200, json, r#"{"items": [ 1 ] "#, Err(Missing::NotJson)),
            (&items, 200, json, "{}", Err(Missing::Nothing)),
        ] {
            assert_eq!(
                judge(part, status, kind, false, body.as_bytes()),
                expected,
                "{status} {body}"
            );
        }
        assert_eq!(judge(&whole, 200, json, true, b"1"), Err(Missing::NotJson));
    }
}
