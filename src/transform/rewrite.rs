//! Where a request goes on to: its path and host, made of what the client has asked for.
//!
//! Routing is done by then and not repeated; what does not match stays as it is, as with ALB. A path that was made anew is
//! canonical again, and climbs nowhere: whatever a client puts into a value, no dot segment and no second `/` at the front comes out
//! of it (hazard URI-04). Called by `proxy::change`, and by whoever says what would be sent.

use crate::http::host;
use crate::http::path::{PathPolicy, canonical};
use crate::transform::escape::Place;
use crate::transform::fields::FieldChanges;
use crate::transform::json::JsonChanges;
use crate::transform::page::Content;
use crate::transform::query::QueryChanges;
use crate::transform::template::{Facts, Template};
use regex::bytes::Regex;

/// `request` of a rule: what is changed before a target gets it.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestSettings {
    /// The path.
    pub path: PathChange,
    /// The host.
    pub host: HostChange,
    /// The query.
    pub query: QueryChanges,
    /// Field lines.
    pub headers: FieldChanges,
    /// Instead of the client's body.
    pub body: Option<Content>,
    /// What becomes of a body of JSON.
    pub json: Option<JsonChanges>,
    /// Octets that a body may have that is read.
    pub limit: u64,
}

/// The largest body that is read unless the file says otherwise.
pub const LIMIT: u64 = 1 << 20;

impl Default for RequestSettings {
    fn default() -> RequestSettings {
        RequestSettings {
            path: PathChange::default(),
            host: HostChange::default(),
            query: QueryChanges::default(),
            headers: FieldChanges::default(),
            body: None,
            json: None,
            limit: LIMIT,
        }
    }
}

/// What becomes of the path.
#[derive(Clone, Debug, PartialEq)]
pub enum PathChange {
    /// Another one.
    Whole(Template),
    /// The same without its beginning, with a part replaced, behind another beginning: each where it is given, in this order.
    Parts {
        /// Whole segments, without `/` at the end.
        strip: Option<String>,
        /// What the first match becomes.
        regex: Option<(Pattern, Template)>,
        /// What stands before.
        add: Option<Template>,
    },
}

impl Default for PathChange {
    fn default() -> PathChange {
        PathChange::Parts { strip: None, regex: None, add: None }
    }
}

/// What becomes of the host.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum HostChange {
    /// It stays.
    #[default]
    Same,
    /// The target's name.
    Target,
    /// Another one.
    Made(Template),
    /// With its first match replaced.
    Regex(Pattern, Template),
}

/// A compiled regular expression, equal to those of the same text.
#[derive(Clone, Debug)]
pub struct Pattern(pub Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

/// What is made of a request cannot be sent: it climbs, or is no host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfit;

/// The longest target that is made, in octets.
const LONGEST_TARGET: usize = 64 << 10;

impl RequestSettings {
    /// The templates of what a target is asked for: the path, the host and the query.
    pub fn of_target(&self) -> impl Iterator<Item = &Template> {
        let path = match &self.path {
            PathChange::Whole(whole) => [Some(whole), None],
            PathChange::Parts { regex, add, .. } => [regex.as_ref().map(|(_, r)| r), add.as_ref()],
        };
        let host = match &self.host {
            HostChange::Made(host) | HostChange::Regex(_, host) => Some(host),
            HostChange::Same | HostChange::Target => None,
        };
        path.into_iter().flatten().chain(host).chain(self.query.templates())
    }

    /// The templates in it.
    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        let body = self.body.iter().map(|body| &body.template);
        let json = self.json.iter().flat_map(JsonChanges::templates);
        self.of_target().chain(self.headers.templates()).chain(body).chain(json)
    }

    /// Those that read what the rule's patterns have caught: a replacement reads what its own has.
    pub fn templates_of_rule(&self) -> impl Iterator<Item = &Template> {
        let own = |template: &&Template| {
            let path = matches!(&self.path, PathChange::Parts { regex: Some((_, r)), .. } if std::ptr::eq(r, *template));
            let host = matches!(&self.host, HostChange::Regex(_, r) if std::ptr::eq(r, *template));
            path || host
        };
        self.templates().filter(move |template| !own(template))
    }

    /// Whether the body must be read.
    pub fn reads_body(&self) -> bool {
        self.body.is_some() || self.json.is_some() || self.templates().any(Template::reads_body)
    }

    /// The path and query that are sent; `None` where they stay as they are.
    ///
    /// # Errors
    /// [`Unfit`]
    pub fn target(&self, facts: &Facts<'_>, policy: PathPolicy) -> Result<Option<Vec<u8>>, Unfit> {
        // `OPTIONS *` has no path.
        if facts.view.path.first() != Some(&b'/') {
            return Ok(None);
        }
        let path = self.path.apply(facts, policy)?;
        let changes_query = self.query != QueryChanges::default();
        if path.is_none() && !changes_query {
            return Ok(None);
        }
        let mut target = path.unwrap_or_else(|| facts.view.path.to_vec());
        let path_ends = target.len();
        target.push(b'?');
        match changes_query {
            true => self.query.apply(facts, &mut target),
            false => target.extend_from_slice(facts.view.query.unwrap_or_default()),
        }
        // A query that is empty by now says nothing; one that was sent empty stays.
        let sent_empty = !changes_query && facts.view.query.is_some();
        if target.len() == path_ends + 1 && !sent_empty {
            target.truncate(path_ends);
        }
        if target.len() > LONGEST_TARGET { Err(Unfit) } else { Ok(Some(target)) }
    }

    /// The beginning that the path has lost, for targets that write whole addresses.
    pub fn stripped(&self, path: &[u8]) -> Option<&str> {
        let PathChange::Parts { strip: Some(prefix), .. } = &self.path else { return None };
        without(path, prefix).map(|_| prefix.as_str())
    }

    /// The host that is sent; `None` where it stays, or is the target's.
    ///
    /// # Errors
    /// [`Unfit`]
    pub fn host(&self, facts: &Facts<'_>) -> Result<Option<Vec<u8>>, Unfit> {
        let host = match &self.host {
            HostChange::Same | HostChange::Target => return Ok(None),
            HostChange::Made(template) => template.text(facts, Place::Host),
            HostChange::Regex(pattern, template) => {
                match replaced(pattern, template, facts, facts.view.host, Place::Host) {
                    Some(host) => host,
                    None => return Ok(None),
                }
            }
        };
        host::canonical(&host, &mut Vec::new()).map_err(|_| Unfit)?;
        Ok(Some(host))
    }
}

impl PathChange {
    fn apply(&self, facts: &Facts<'_>, policy: PathPolicy) -> Result<Option<Vec<u8>>, Unfit> {
        let before = facts.view.path;
        let path = match self {
            PathChange::Whole(template) => template.text(facts, Place::Path),
            PathChange::Parts { strip, regex, add } => {
                let stripped = strip.as_ref().and_then(|prefix| without(before, prefix));
                let mut path = stripped.unwrap_or(before).to_vec();
                if let Some((pattern, template)) = regex
                    && let Some(other) = replaced(pattern, template, facts, &path, Place::Path)
                {
                    path = other;
                }
                if let Some(add) = add {
                    let mut whole = add.text(facts, Place::Path);
                    let at = whole.len() - whole.iter().rev().take_while(|b| **b == b'/').count();
                    whole.truncate(at);
                    whole.extend_from_slice(&path);
                    path = whole;
                }
                path
            }
        };
        if path == before {
            return Ok(None);
        }
        settled(path, policy).map(Some)
    }
}

// The rest of a path behind whole segments.
fn without<'p>(path: &'p [u8], prefix: &str) -> Option<&'p [u8]> {
    match path.strip_prefix(prefix.as_bytes())? {
        [] => Some(b"/"),
        rest if rest.first() == Some(&b'/') => Some(rest),
        _ => None,
    }
}

// The text with its first match replaced.
fn replaced(
    pattern: &Pattern,
    template: &Template,
    facts: &Facts<'_>,
    text: &[u8],
    place: Place,
) -> Option<Vec<u8>> {
    let caught = pattern.0.captures(text)?;
    let found = caught.get(0)?;
    let mut out = text.get(..found.start())?.to_vec();
    template.fill(&Facts { caught: Some(&caught), ..*facts }, place, &mut out);
    out.extend_from_slice(text.get(found.end()..)?);
    Some(out)
}

/// A path that was made, as one that was received: canonical. Dot segments are refused rather than followed, since what they
/// are made of comes from a client; and what begins with two slashes some servers take for a host.
///
/// # Errors
/// [`Unfit`]
pub fn settled(path: Vec<u8>, policy: PathPolicy) -> Result<Vec<u8>, Unfit> {
    let start = path.iter().take_while(|b| **b == b'/').count();
    let mut whole = b"/".to_vec();
    whole.extend_from_slice(path.get(start..).unwrap_or_default());
    let is_dots = |segment: &[u8]| {
        let plain: Vec<u8> = percent_encoding::percent_decode(segment).collect();
        // Where separators may be encoded, servers take those for separators, too. What follows a semicolon some leave out of a
        // segment.
        plain.split(|b| matches!(b, b'/' | b'\\')).any(|piece| {
            let name = piece.split(|b| *b == b';').next().unwrap_or_default();
            matches!(name, b"." | b"..")
        })
    };
    if whole.split(|b| *b == b'/').any(is_dots) {
        return Err(Unfit);
    }
    let mut out = Vec::new();
    match canonical(&whole, policy, &mut out) {
        Ok(true) => Ok(out),
        Ok(false) => Ok(whole),
        Err(_) => Err(Unfit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::RequestView;
    use crate::http::fields::OwnedFields;
    use crate::transform::captures::Captures;
    use crate::transform::template::Scope;
    use proptest::prelude::*;

    fn template(text: &str) -> Template {
        Template::parse(text, Scope::REQUEST).unwrap()
    }

    fn pattern(text: &str) -> Pattern {
        Pattern(Regex::new(text).unwrap())
    }

    fn whole(text: &str) -> RequestSettings {
        RequestSettings { path: PathChange::Whole(template(text)), ..RequestSettings::default() }
    }

    fn parts(
        strip: Option<&str>,
        regex: Option<(&str, &str)>,
        add: Option<&str>,
    ) -> RequestSettings {
        let path = PathChange::Parts {
            strip: strip.map(str::to_owned),
            regex: regex.map(|(p, r)| (pattern(p), template(r))),
            add: add.map(template),
        };
        RequestSettings { path, ..RequestSettings::default() }
    }

    fn with_view<R>(
        path: &str,
        query: Option<&str>,
        value: &str,
        f: impl FnOnce(Facts<'_>) -> R,
    ) -> R {
        let fields: OwnedFields = [("x-v", value)].into_iter().collect();
        let view = RequestView {
            method: b"GET",
            host: b"shop.a.test",
            path: path.as_bytes(),
            query: query.map(str::as_bytes),
            fields: fields.view(),
            peer: [127, 0, 0, 1].into(),
        };
        let captures = Captures::new(&["*.a.test".to_owned()], &["/c/*".to_owned()], &[]);
        f(Facts { captures: Some(&captures), ..Facts::of(view) })
    }

    #[track_caller]
    fn check(settings: &RequestSettings, target: &str, expected: Option<&str>) {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let got =
            with_view(path, query, "v w", |facts| settings.target(&facts, PathPolicy::default()));
        let got = got.map(|target| target.map(|t| String::from_utf8(t).unwrap()));
        assert_eq!(got, Ok(expected.map(str::to_owned)), "{target}");
    }

    #[test]
    fn paths_are_made_anew() {
        check(&whole("/v2/#{path}"), "/a/b?q=1", Some("/v2/a/b?q=1"));
        check(&whole("/v2/#{path}"), "/a?", Some("/v2/a?"));
        check(&whole("/t/#{host.1}/#{capture.1}"), "/c/x/y", Some("/t/shop/x/y"));
        check(&whole("/t/#{header.x-v}"), "/a", Some("/t/v%20w"));
        check(&whole("/#{path}"), "/a", None);
        check(&whole("#{header.none}"), "/a", Some("/"));
        check(&whole("/x"), "*", None);
        check(&RequestSettings::default(), "/a?b", None);
    }

    #[test]
    fn beginnings_go_and_come() {
        check(&parts(Some("/api"), None, None), "/api/x?q", Some("/x?q"));
        check(&parts(Some("/api"), None, None), "/api", Some("/"));
        check(&parts(Some("/api"), None, None), "/apix", None);
        check(&parts(Some("/api"), None, None), "/x/api", None);
        check(&parts(Some("/api"), None, Some("/v2/")), "/api/x", Some("/v2/x"));
        check(&parts(None, None, Some("/#{host.1}")), "/x", Some("/shop/x"));
        check(&parts(Some("/api"), None, Some("/v2")), "/x", Some("/v2/x"));
        let settings = parts(Some("/api"), None, None);
        assert_eq!(settings.stripped(b"/api/x"), Some("/api"));
        assert_eq!(settings.stripped(b"/apix"), None);
    }

    #[test]
    fn the_first_match_is_replaced() {
        let old = parts(None, Some(("^/old/(.*)$", "/new/#{capture.1}")), None);
        check(&old, "/old/a/b?q=1", Some("/new/a/b?q=1"));
        check(&old, "/other", None);
        check(&parts(None, Some(("b", "x")), None), "/a/b/b", Some("/a/x/b"));
        let named = parts(None, Some(("/(?<id>[0-9]+)", "/id-#{capture.id}")), None);
        check(&named, "/a/12/b", Some("/a/id-12/b"));
    }

    #[test]
    fn hosts_are_made_anew() {
        let host = |host: HostChange, value: &str| {
            let settings = RequestSettings { host, ..RequestSettings::default() };
            let got = with_view("/", None, value, |facts| settings.host(&facts));
            got.map(|host| host.map(|h| String::from_utf8(h).unwrap()))
        };
        let some = |text: &str| Ok(Some(text.to_owned()));
        let made = |text: &str| HostChange::Made(template(text));
        assert_eq!(host(HostChange::Same, ""), Ok(None));
        assert_eq!(host(made("#{host.1}.internal:8080"), ""), some("shop.internal:8080"));
        assert_eq!(host(made("#{header.x-v}.internal"), "a"), some("a.internal"));
        for evil in ["a/b", "a b", "a@b", "a\r\nx: y", "a..b", "", "a:1"] {
            assert_eq!(host(made("#{header.x-v}.internal"), evil), Err(Unfit), "{evil:?}");
        }
        let regex = |p: &str, r: &str| HostChange::Regex(pattern(p), template(r));
        assert_eq!(
            host(regex("^(.*)\\.a\\.test$", "#{capture.1}.b.test"), ""),
            some("shop.b.test")
        );
        assert_eq!(host(regex("^none$", "x"), ""), Ok(None));
    }

    /// Hazard URI-04: whatever a client sends, the path stays below what the file says.
    #[test]
    fn nothing_climbs_out_of_a_value() {
        for value in
            ["..", ".", "%2e%2e", "../x", "a/../b", "a%2f..", "..;x", "\\..", "a\0b", "?", "#"]
        {
            let got = with_view("/p", None, value, |facts| {
                whole("/t/#{header.x-v}/api").target(&facts, PathPolicy::default())
            });
            match got {
                Err(Unfit) => {}
                Ok(path) => {
                    let path = String::from_utf8(path.unwrap()).unwrap();
                    assert_eq!(path.matches('/').count(), 3, "{value:?}: {path}");
                }
            }
        }
        // Where separators may be encoded, a segment may be several for who decodes them.
        let keep = PathPolicy { merge_slashes: true, keep_separators: true };
        for (value, fits) in [
            ("../../admin", false),
            ("a/..", false),
            ("..\\admin", false),
            ("a/.;x/b", false),
            ("a/b", true),
            ("a/..b", true),
            ("...", true),
        ] {
            let got = with_view("/p", None, value, |facts| {
                whole("/t/#{header.x-v}/api").target(&facts, keep)
            });
            assert_eq!(got.is_ok(), fits, "{value:?}: {got:?}");
        }
        // Two values that make one segment.
        let joined = whole("/t/#{header.x-v}#{header.x-v}/api");
        let got = with_view("/p", None, ".", |facts| joined.target(&facts, PathPolicy::default()));
        assert_eq!(got, Err(Unfit));
    }

    #[test]
    fn two_slashes_are_no_host() {
        let keep = PathPolicy { merge_slashes: false, keep_separators: true };
        let got = with_view("/s//evil.test/x", None, "", |facts| {
            parts(Some("/s"), None, None).target(&facts, keep)
        });
        assert_eq!(got, Ok(Some(b"/evil.test/x".to_vec())));
    }

    proptest! {
        #[test]
        fn what_is_made_is_canonical(
            path in "/([a./]|%2F|%20|c/){0,8}",
            value in "([a./%;\\\\]|%2e|%2F|\u{e4}| ){0,6}",
            merge: bool,
            keep: bool,
        ) {
            let policy = PathPolicy { merge_slashes: merge, keep_separators: keep };
            let mut received = Vec::new();
            if let Ok(changed) = canonical(path.as_bytes(), policy, &mut received) {
                let path = if changed { String::from_utf8(received).unwrap() } else { path };
                for settings in [
                    whole("/t/#{header.x-v}/#{path}"),
                    whole("#{header.x-v}#{capture.1}"),
                    parts(Some("/c"), Some(("a(.*)", "#{capture.1}b")), Some("/#{header.x-v}")),
                ] {
                    let made = with_view(&path, None, &value, |facts| settings.target(&facts, policy));
                    let Ok(Some(made)) = made else { continue };
                    let mut again = Vec::new();
                    prop_assert_eq!(canonical(&made, policy, &mut again), Ok(false), "{:?}", made);
                    prop_assert!(!made.starts_with(b"//"));
                }
            }
        }
    }
}
