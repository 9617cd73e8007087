//! Bodies that take the place of others: answers of a rule, error pages, replaced bodies. And what else becomes of a response.
//!
//! Text is a template whose values are escaped by its media type; files are read by control, before anything is compiled. Called by
//! `proxy::change` and `proxy::reply`.

use crate::transform::cookies::CookieSettings;
use crate::transform::escape::Place;
use crate::transform::fields::FieldChanges;
use crate::transform::json::JsonChanges;
use crate::transform::rewrite::LIMIT;
use crate::transform::template::{Facts, Template};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// A body that is made of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// `Content-Type`.
    pub kind: String,
    /// What it is made of.
    pub template: Template,
    /// Where its values stand, as its type says.
    pub place: Place,
}

impl Content {
    /// The body.
    pub fn text(&self, facts: &Facts<'_>) -> Vec<u8> {
        self.template.text(facts, self.place)
    }
}

/// Whose answers an error page takes the place of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum From {
    /// Those that ringgate makes itself.
    #[default]
    Own,
    /// Those of targets.
    Targets,
    /// Both.
    All,
}

/// One of `errors`.
#[derive(Clone, Debug, PartialEq)]
pub struct ErrorPage {
    /// For which statuses.
    pub status: Vec<RangeInclusive<u16>>,
    /// Whose.
    pub from: From,
    /// The status instead.
    pub status_to: Option<u16>,
    /// The body.
    pub content: Content,
    /// Where its text lies, if not in the file itself.
    pub file: Option<PathBuf>,
}

impl ErrorPage {
    /// The first page for an answer of ringgate's own, or of a target.
    pub fn find(pages: &[ErrorPage], status: u16, own: bool) -> Option<&ErrorPage> {
        let whose = |from| match from {
            From::Own => own,
            From::Targets => !own,
            From::All => true,
        };
        pages.iter().find(|page| whose(page.from) && holds(&page.status, status))
    }
}

/// Whether a status lies in one of the ranges.
pub fn holds(ranges: &[RangeInclusive<u16>], status: u16) -> bool {
    ranges.iter().any(|range| range.contains(&status))
}

/// `response` and `errors` of a rule: what is changed before a client gets it.
#[derive(Clone, Debug, PartialEq)]
pub struct ResponseSettings {
    /// Field lines.
    pub headers: FieldChanges,
    /// Statuses and what they become.
    pub status: Vec<(RangeInclusive<u16>, u16)>,
    /// Instead of the target's body, for these statuses.
    pub body: Option<(Vec<RangeInclusive<u16>>, Content)>,
    /// What becomes of a body of JSON.
    pub json: Option<JsonChanges>,
    /// Octets that a body may have that is read.
    pub limit: u64,
    /// Whether a body that cannot be changed is an error; otherwise it goes on as it is.
    pub strict: bool,
    /// What becomes of cookies.
    pub cookies: Option<CookieSettings>,
    /// Error pages.
    pub errors: Vec<ErrorPage>,
}

impl Default for ResponseSettings {
    fn default() -> ResponseSettings {
        ResponseSettings {
            headers: FieldChanges::default(),
            status: Vec::new(),
            body: None,
            json: None,
            limit: LIMIT,
            strict: false,
            cookies: None,
            errors: Vec::new(),
        }
    }
}

impl ResponseSettings {
    /// The templates in it.
    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        let body = self.body.iter().map(|(_, content)| &content.template);
        let json = self.json.iter().flat_map(JsonChanges::templates);
        let errors = self.errors.iter().map(|page| &page.content.template);
        self.headers.templates().chain(body).chain(json).chain(errors)
    }

    /// Whether the body of responses is read: then targets must not encode it, nor send parts of it.
    pub fn reads_body(&self) -> bool {
        let by_template = |(_, content): &(_, Content)| content.template.reads_body();
        self.json.is_some() || self.body.as_ref().is_some_and(by_template)
    }

    /// What becomes of a status.
    pub fn status_of(&self, status: u16) -> u16 {
        let to = self.status.iter().find(|(range, _)| range.contains(&status));
        to.map_or(status, |(_, to)| *to)
    }
}

/// The media type of a file by its name; that of unknown octets otherwise.
pub fn kind_of(path: &Path) -> &'static str {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "txt" => "text/plain; charset=utf-8",
        "md" => "text/markdown; charset=utf-8",
        "json" | "map" => "application/json",
        "xml" => "application/xml",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "csv" => "text/csv; charset=utf-8",
        "webmanifest" => "application/manifest+json",
        "yaml" | "yml" => "application/yaml",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "ico" => "image/x-icon",
        "pdf" => "application/pdf",
        "wasm" => "application/wasm",
        "woff" => "font/woff",
        "woff2" => "font/woff2",
        "zip" => "application/zip",
        _ => "application/octet-stream",
    }
}

/// The fields of a representation that say nothing of another body in its place (RFC 9110 sections 8 and 14.3).
pub fn speaks_of_body(name: &[u8]) -> bool {
    const NAMES: [&str; 13] = [
        "content-length",
        "content-type",
        "content-encoding",
        "content-language",
        "content-location",
        "content-range",
        "content-md5",
        "content-digest",
        "repr-digest",
        "digest",
        "accept-ranges",
        "etag",
        "last-modified",
    ];
    const DISPOSITION: &[u8] = b"content-disposition";
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
        || name.eq_ignore_ascii_case(DISPOSITION)
}

/// The fields that say nothing of a body once its octets are others, while it means the same.
pub fn speaks_of_octets(name: &[u8]) -> bool {
    const NAMES: [&str; 6] = [
        "content-length",
        "content-md5",
        "content-digest",
        "repr-digest",
        "digest",
        "accept-ranges",
    ];
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

/// Whether a media type is JSON.
pub fn is_json(content_type: &[u8]) -> bool {
    let kind = content_type.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    let kind = kind.to_ascii_lowercase();
    kind == b"application/json" || (kind.starts_with(b"application/") && kind.ends_with(b"+json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_page_that_fits_is_taken() {
        let page = |first, last, from| ErrorPage {
            status: vec![first..=last],
            from,
            status_to: None,
            content: Content {
                kind: format!("text/{first}"),
                template: Template::default(),
                place: Place::Text,
            },
            file: None,
        };
        let pages =
            [page(502, 504, From::Own), page(500, 599, From::Targets), page(404, 404, From::All)];
        for (status, own, expected) in [
            (502, true, Some("text/502")),
            (502, false, Some("text/500")),
            (500, true, None),
            (404, true, Some("text/404")),
            (404, false, Some("text/404")),
            (200, false, None),
        ] {
            let found = ErrorPage::find(&pages, status, own).map(|page| page.content.kind.as_str());
            assert_eq!(found, expected, "{status} {own}");
        }
    }

    #[test]
    fn statuses_become_others() {
        let settings = ResponseSettings {
            status: vec![(404..=404, 200), (500..=599, 503)],
            ..ResponseSettings::default()
        };
        let all = [200, 404, 500, 503].map(|status| settings.status_of(status));
        assert_eq!(all, [200, 200, 503, 503]);
    }

    #[test]
    fn names_of_files_say_what_they_are() {
        for (name, kind) in [
            ("a/b.HTML", "text/html; charset=utf-8"),
            ("x.json", "application/json"),
            ("x.svg", "image/svg+xml"),
            ("x", "application/octet-stream"),
            (".txt", "application/octet-stream"),
        ] {
            assert_eq!(kind_of(Path::new(name)), kind, "{name}");
        }
        assert!(is_json(b"Application/JSON ; charset=utf-8") && is_json(b"application/hal+json"));
        assert!(!is_json(b"text/json") && !is_json(b"application/jsonp") && !is_json(b""));
    }
}
