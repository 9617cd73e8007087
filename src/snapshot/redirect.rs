//! Redirects: ALB's templates, parsed once, filled in per request.
//!
//! Parts that are left out keep the request's. One departure from ALB: where only the scheme changes and the request
//! came on the old scheme's default port, the new scheme's default is used, rather than `https://host:80/`.

use crate::config::Redirect;
use crate::http::RequestView;

/// A compiled `redirect`.
#[derive(Debug)]
pub struct RedirectTemplate {
    /// The status of the answer.
    pub status: u16,
    scheme: Option<Template>,
    host: Option<Template>,
    port: Option<Template>,
    path: Option<Template>,
    query: Option<Template>,
}

#[derive(Debug)]
struct Template(Vec<Piece>);

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Protocol,
    Host,
    Port,
    Path,
    Query,
}

/// How the request reached ringgate.
#[derive(Clone, Copy, Debug)]
pub struct Via {
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The port that the client named, or the listener's.
    pub port: u16,
}

impl RedirectTemplate {
    /// Parses the templates; what is not a known `#{...}` stays text (the file's check has refused it).
    pub fn new(redirect: &Redirect) -> RedirectTemplate {
        let parse = |text: &Option<String>| text.as_deref().map(Template::parse);
        RedirectTemplate {
            status: redirect.status,
            scheme: parse(&redirect.scheme),
            host: parse(&redirect.host),
            port: parse(&redirect.port),
            path: parse(&redirect.path),
            query: parse(&redirect.query),
        }
    }

    /// Appends the `Location` for a request.
    pub fn location(&self, view: &RequestView<'_>, via: Via, out: &mut Vec<u8>) {
        let start = out.len();
        match &self.scheme {
            Some(scheme) => scheme.fill(view, via, out),
            None => out.extend_from_slice(via.scheme.as_bytes()),
        }
        let scheme = out.get(start..).unwrap_or_default();
        let default_port: u16 = if scheme == b"https" { 443 } else { 80 };
        let scheme_changed = scheme != via.scheme.as_bytes();
        out.extend_from_slice(b"://");
        match &self.host {
            Some(host) => host.fill(view, via, out),
            None => out.extend_from_slice(view.host),
        }
        self.port(view, via, default_port, scheme_changed, out);
        let path_start = out.len();
        match &self.path {
            Some(path) => path.fill(view, via, out),
            None => out.extend_from_slice(view.path),
        }
        if out.get(path_start) != Some(&b'/') {
            out.insert(path_start, b'/');
        }
        let query_start = out.len();
        out.push(b'?');
        match (&self.query, view.query) {
            (Some(query), _) => query.fill(view, via, out),
            (None, Some(query)) => out.extend_from_slice(query),
            (None, None) => {}
        }
        if out.len() == query_start + 1 {
            out.truncate(query_start);
        }
    }

    fn port(
        &self,
        view: &RequestView<'_>,
        via: Via,
        default: u16,
        scheme_changed: bool,
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        out.push(b':');
        match &self.port {
            Some(port) => port.fill(view, via, out),
            None if scheme_changed => crate::http::write::number(out, u64::from(default)),
            None => crate::http::write::number(out, u64::from(via.port)),
        }
        let written = out.get(start + 1..).unwrap_or_default();
        if written.is_empty() || written == default.to_string().as_bytes() {
            out.truncate(start);
        }
    }
}

impl Template {
    fn parse(text: &str) -> Template {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find("#{") {
            let (before, from) = rest.split_at(at);
            let known = [
                ("#{protocol}", Piece::Protocol),
                ("#{host}", Piece::Host),
                ("#{port}", Piece::Port),
                ("#{path}", Piece::Path),
                ("#{query}", Piece::Query),
            ];
            let found = known.into_iter().find(|(name, _)| from.starts_with(name));
            let (taken, piece) = match found {
                Some((name, piece)) => (name.len(), piece),
                None => (2, Piece::Text("#{".to_owned())),
            };
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            pieces.push(piece);
            rest = from.get(taken..).unwrap_or_default();
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Template(pieces)
    }

    fn fill(&self, view: &RequestView<'_>, via: Via, out: &mut Vec<u8>) {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Protocol => out.extend_from_slice(via.scheme.as_bytes()),
                Piece::Host => out.extend_from_slice(view.host),
                Piece::Port => crate::http::write::number(out, u64::from(via.port)),
                // ALB: `#{path}` comes without its leading slash.
                Piece::Path => {
                    out.extend_from_slice(view.path.strip_prefix(b"/").unwrap_or(view.path));
                }
                Piece::Query => out.extend_from_slice(view.query.unwrap_or_default()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::fields::OwnedFields;

    fn check(redirect: Redirect, port: u16, expected: &str) {
        let fields = OwnedFields::default();
        let view = RequestView {
            method: b"GET",
            host: b"a.example",
            path: b"/x/y",
            query: Some(b"q=1"),
            fields: fields.view(),
            peer: [127, 0, 0, 1].into(),
        };
        let mut out = Vec::new();
        RedirectTemplate::new(&redirect).location(&view, Via { scheme: "http", port }, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn fills_templates_and_keeps_the_rest() {
        let some = |s: &str| Some(s.to_owned());
        let https = Redirect { scheme: some("https"), ..Redirect::default() };
        check(https.clone(), 80, "https://a.example/x/y?q=1");
        check(Redirect { port: some("443"), ..https.clone() }, 8080, "https://a.example/x/y?q=1");
        check(
            Redirect { port: some("8443"), ..https.clone() },
            80,
            "https://a.example:8443/x/y?q=1",
        );
        check(Redirect { port: some("#{port}"), ..https }, 8080, "https://a.example:8080/x/y?q=1");
        let moved = Redirect { path: some("/new/#{path}"), query: some(""), ..Redirect::default() };
        check(moved, 8080, "http://a.example:8080/new/x/y");
        let host = Redirect {
            host: some("www.#{host}"),
            query: some("#{query}&v=2"),
            ..Redirect::default()
        };
        check(host, 80, "http://www.a.example/x/y?q=1&v=2");
    }
}
