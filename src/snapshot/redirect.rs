//! Redirects: ALB's templates and more, parsed once, filled in per request.
//!
//! Parts that are left out keep the request's. One departure from ALB: where only the scheme changes and the request
//! came on the old scheme's default port, the new scheme's default is used, rather than `https://host:80/`.

use crate::config::Redirect;
use crate::http::{host, write};
use crate::transform::rewrite::Unfit;
use crate::transform::{Facts, Place, Template};

/// A compiled `redirect`.
#[derive(Debug)]
pub struct RedirectTemplate {
    /// The status of the answer.
    pub status: u16,
    // `None` for that of the request.
    scheme: Option<&'static str>,
    host: Option<Template>,
    port: Option<Template>,
    path: Option<Template>,
    query: Option<Template>,
}

impl RedirectTemplate {
    /// As written.
    pub fn new(redirect: &Redirect) -> RedirectTemplate {
        RedirectTemplate {
            status: redirect.status,
            scheme: match redirect.scheme.as_deref() {
                Some("https") => Some("https"),
                Some("http") => Some("http"),
                _ => None,
            },
            host: redirect.host.clone(),
            port: redirect.port.clone(),
            path: redirect.path.clone(),
            query: redirect.query.clone(),
        }
    }

    /// Whether it reads what patterns of its rule have matched.
    pub fn reads_captures(&self) -> bool {
        let templates = [&self.host, &self.path, &self.query];
        templates.into_iter().flatten().any(Template::reads_captures)
    }

    /// Appends the `Location` for a request.
    ///
    /// # Errors
    /// [`Unfit`] where the host that is made of it is none.
    pub fn location(&self, facts: &Facts<'_>, out: &mut Vec<u8>) -> Result<(), Unfit> {
        let view = &facts.view;
        let scheme = self.scheme.unwrap_or(facts.scheme);
        let default_port: u16 = if scheme == "https" { 443 } else { 80 };
        out.extend_from_slice(scheme.as_bytes());
        out.extend_from_slice(b"://");
        match &self.host {
            Some(template) => {
                let made = template.text(facts, Place::Host);
                host::canonical(&made, &mut Vec::new()).map_err(|_| Unfit)?;
                out.extend_from_slice(&made);
            }
            None => out.extend_from_slice(view.host),
        }
        self.port(facts, default_port, scheme != facts.scheme, out);
        let path_start = out.len();
        match &self.path {
            Some(path) => path.fill(facts, Place::Path, out),
            None => out.extend_from_slice(view.path),
        }
        if out.get(path_start) != Some(&b'/') {
            out.insert(path_start, b'/');
        }
        let query_start = out.len();
        out.push(b'?');
        match (&self.query, view.query) {
            (Some(query), _) => query.fill(facts, Place::Query, out),
            (None, Some(query)) => out.extend_from_slice(query),
            (None, None) => {}
        }
        if out.len() == query_start + 1 {
            out.truncate(query_start);
        }
        Ok(())
    }

    fn port(&self, facts: &Facts<'_>, default: u16, scheme_changed: bool, out: &mut Vec<u8>) {
        let start = out.len();
        out.push(b':');
        match &self.port {
            Some(port) => port.fill(facts, Place::Text, out),
            None if scheme_changed => write::number(out, u64::from(default)),
            None => write::number(out, u64::from(facts.port)),
        }
        let written = out.get(start + 1..).unwrap_or_default();
        if written.is_empty() || written == default.to_string().as_bytes() {
            out.truncate(start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::RequestView;
    use crate::http::fields::OwnedFields;
    use crate::transform::Scope;

    fn some(text: &str) -> Option<Template> {
        Some(Template::parse(text, Scope::RULE).unwrap())
    }

    #[track_caller]
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
        let facts = Facts { port, ..Facts::of(view) };
        let made = RedirectTemplate::new(&redirect).location(&facts, &mut out);
        let made = made.map(|()| String::from_utf8(out).unwrap());
        assert_eq!(made.as_deref(), Ok(expected));
    }

    #[test]
    fn fills_templates_and_keeps_the_rest() {
        let https = Redirect { scheme: Some("https".to_owned()), ..Redirect::default() };
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

    /// Hazards URI-08 and H1-33.
    #[test]
    fn a_value_stays_in_its_part() {
        let fields: OwnedFields = [("x-v", "evil.test/\r\nset-cookie: a=b")].into_iter().collect();
        let view = RequestView {
            method: b"GET",
            host: b"a.example",
            path: b"/x",
            query: Some(b"q=%0d%0a//evil.test"),
            fields: fields.view(),
            peer: [127, 0, 0, 1].into(),
        };
        let made = |redirect: Redirect| {
            let mut out = Vec::new();
            let made = RedirectTemplate::new(&redirect).location(&Facts::of(view), &mut out);
            made.map(|()| String::from_utf8(out).unwrap())
        };
        let host = Redirect { host: some("#{header.x-v}.example"), ..Redirect::default() };
        assert_eq!(made(host), Err(Unfit));
        let path = Redirect { path: some("/#{query.q}"), query: some(""), ..Redirect::default() };
        assert_eq!(made(path).unwrap(), "http://a.example/%0D%0A%2F%2Fevil.test");
        let query = Redirect { query: some("v=#{header.x-v}"), ..Redirect::default() };
        let expected = "http://a.example/x?v=evil.test%2F%0D%0Aset-cookie%3A%20a%3Db";
        assert_eq!(made(query).unwrap(), expected);
    }
}
