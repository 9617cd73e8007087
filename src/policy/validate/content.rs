//! The media type of a request's body, and ranges of media types. Called by the policy and by `openapi`.

use crate::http::Fault;
use crate::policy::Subject;
use crate::policy::validate::Refused;

/// A range of media types: `application/json`, `text/*`, `application/*+json`, `*/*`; lower-case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range(String);

/// What `Content-Type` and `Content-Encoding` say of a body.
#[derive(Debug)]
pub struct Content {
    essence: String,
    // Why what is inside cannot be read, if so.
    hidden: Option<&'static str>,
}

impl Range {
    /// Reads one; parameters are left out. `None` where it is no media type.
    pub fn parse(text: &str) -> Option<Range> {
        let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let (kind, subtype) = essence.split_once('/')?;
        let token = |text: &str| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"!#$&^_.+-*".contains(&b);
            !text.is_empty() && text.bytes().all(plain)
        };
        let fits = token(kind) && token(subtype) && (kind != "*" || subtype == "*");
        fits.then_some(Range(essence))
    }

    /// Whether a media type (lower-case, without parameters) lies in it.
    pub fn takes(&self, essence: &str) -> bool {
        let (Some((kind, subtype)), Some((of_kind, of_subtype))) =
            (self.0.split_once('/'), essence.split_once('/'))
        else {
            return false;
        };
        if kind != "*" && kind != of_kind {
            return false;
        }
        match subtype.strip_prefix('*') {
            Some(suffix) => of_subtype.ends_with(suffix),
            None => subtype == of_subtype,
        }
    }

    /// How closely it describes what lies in it: an exact type before a suffix, and that before all.
    pub fn precision(&self) -> usize {
        match self.0.split_once('/') {
            Some(("*", _)) => 0,
            Some((_, "*")) => 1,
            Some((_, subtype)) if subtype.starts_with('*') => 2,
            _ => 3,
        }
    }
}

impl Content {
    /// What a head says of its body.
    ///
    /// # Errors
    /// Where it says it twice: a service may take either.
    pub(super) fn of(subject: &Subject<'_>) -> Result<Content, Refused> {
        let view = &subject.view;
        let mut types = view.fields.all("content-type");
        let text = types.next().unwrap_or_default();
        if types.next().is_some() {
            return Err(Refused::invalid(
                "The request has several Content-Type fields.".to_owned(),
            ));
        }
        let text = String::from_utf8_lossy(text).to_ascii_lowercase();
        let mut parts = text.split(';').map(str::trim);
        let essence = parts.next().unwrap_or_default().to_owned();
        let charset = parts.find_map(|part| part.strip_prefix("charset="));
        let charset = charset.map(|charset| charset.trim_matches('"'));
        let coded = |line: &[u8]| !line.is_empty() && !line.eq_ignore_ascii_case(b"identity");
        let hidden = if !subject.decoded && view.fields.all("content-encoding").any(coded) {
            Some("its content coding cannot be taken off")
        } else if charset.is_some_and(|charset| !matches!(charset, "utf-8" | "us-ascii")) {
            Some("its charset is not UTF-8")
        } else {
            None
        };
        Ok(Content { essence, hidden })
    }

    /// The media type without parameters; empty where there is none.
    pub fn essence(&self) -> &str {
        &self.essence
    }

    /// Whether it is JSON (RFC 8259, RFC 6839 section 3.1).
    pub fn is_json(&self) -> bool {
        matches!(self.essence.as_str(), "application/json" | "text/json")
            || (self.essence.contains('/') && self.essence.ends_with("+json"))
    }

    /// That what is inside can be read.
    ///
    /// # Errors
    /// Where it is still compressed, or in another charset.
    pub(super) fn plain(&self) -> Result<(), Refused> {
        match self.hidden {
            None => Ok(()),
            Some(why) => Err(Refused {
                fault: Fault::MediaTypeRefused,
                detail: format!("The body cannot be judged: {why}."),
            }),
        }
    }

    /// That it is of a type that is not taken.
    pub(super) fn refused(&self) -> Refused {
        let detail = if self.essence.is_empty() {
            "The body has no Content-Type.".to_owned()
        } else {
            "Content of this Content-Type is not taken.".to_owned()
        };
        Refused { fault: Fault::MediaTypeRefused, detail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_take_their_types() {
        let check = |range: &str, essence: &str, expected: bool| {
            assert_eq!(Range::parse(range).unwrap().takes(essence), expected, "{range} {essence}");
        };
        check("application/json", "application/json", true);
        check("Application/JSON; charset=utf-8", "application/json", true);
        check("application/json", "application/jsonp", false);
        check("application/json", "", false);
        check("text/*", "text/plain", true);
        check("text/*", "texts/plain", false);
        check("application/*+json", "application/problem+json", true);
        check("application/*+json", "application/json", false);
        check("*/*", "image/png", true);
        check("*/*", "", false);
        for none in ["", "json", "a/", "/b", "*/json", "a b/c", "a/b/c"] {
            assert_eq!(Range::parse(none), None, "{none}");
        }
        let precise = |range: &str| Range::parse(range).unwrap().precision();
        assert!(precise("a/b") > precise("a/*+b") && precise("a/*+b") > precise("a/*"));
        assert!(precise("a/*") > precise("*/*"));
    }
}
