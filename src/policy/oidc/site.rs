//! The site as the browser sees it: its origin, whether a request is a page that somebody opens, whether it comes from the
//! site itself.
//!
//! The origin is the one of the file, or where the request came to. Every address that a browser is sent to begins with it or
//! with one of the provider's, so that no request can choose another (open redirects). Called by the other files of this folder.

use crate::http::RequestView;
use crate::policy::Subject;
use crate::policy::oidc::text;

/// Where a request came to.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// Whether the browser uses TLS, so that cookies are `Secure` and `__Host-`.
    pub secure: bool,
    /// What cookies are bound to: the host without port.
    pub host: &'a str,
    subject: &'a Subject<'a>,
    fixed: Option<&'a str>,
}

impl<'a> Site<'a> {
    /// The site of a request; `None` where it names no host. `fixed` is the origin of the file.
    pub fn of(subject: &'a Subject<'a>, fixed: Option<&'a str>) -> Option<Site<'a>> {
        let host = std::str::from_utf8(subject.view.host).ok().filter(|host| !host.is_empty())?;
        let secure = match fixed {
            Some(origin) => origin.starts_with("https://"),
            None => subject.scheme == "https",
        };
        Some(Site { secure, host, subject, fixed })
    }

    /// Whether the request came to the host of the file's origin, where the file gives one.
    pub fn is_origin(&self) -> bool {
        let fixed = self.fixed.and_then(text::address);
        fixed.is_none_or(|fixed| fixed.host == self.host)
    }

    /// `https://a.test:8443`, without the port where it is the usual one.
    pub fn origin(&self) -> String {
        if let Some(fixed) = self.fixed {
            return fixed.to_owned();
        }
        let usual = if self.secure { 443 } else { 80 };
        let (scheme, host) = (if self.secure { "https" } else { "http" }, self.host);
        match self.subject.port {
            port if port == usual => format!("{scheme}://{host}"),
            port => format!("{scheme}://{host}:{port}"),
        }
    }

    /// Path and query of the request, to come back to; without its query, or `/`, where it is longer than `most`.
    pub fn here(&self, most: usize) -> String {
        let view = &self.subject.view;
        let path = std::str::from_utf8(view.path).ok().filter(|path| path.starts_with('/'));
        let path = path.filter(|path| path.len() <= most).unwrap_or("/");
        let query = view.query.and_then(|query| std::str::from_utf8(query).ok());
        match query {
            Some(query) if path.len() + query.len() < most => format!("{path}?{query}"),
            _ => path.to_owned(),
        }
    }

    /// The address of a place on this site; what is no path leads to the root.
    pub fn address(&self, place: &str) -> String {
        let clean =
            place.starts_with('/') && place.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
        self.origin() + if clean { place } else { "/" }
    }
}

/// Whether a browser opens a page with this request, so that it can be sent to a login.
pub fn is_navigation(view: &RequestView<'_>) -> bool {
    if !matches!(view.method, b"GET" | b"HEAD") {
        return false;
    }
    if let Some(mode) = view.fields.first("sec-fetch-mode") {
        return mode.eq_ignore_ascii_case(b"navigate");
    }
    if view.fields.first("x-requested-with").is_some() || view.fields.first("upgrade").is_some() {
        return false;
    }
    let mut kinds = view.fields.all("accept").flat_map(|line| line.split(|b| *b == b','));
    kinds.any(|kind| {
        let kind = kind.split(|b| *b == b';').next().unwrap_or_default();
        kind.trim_ascii().eq_ignore_ascii_case(b"text/html")
    })
}

/// Whether a request that changes something was made by the site itself or by the user, not by another site. Browsers say
/// so with Sec-Fetch-Site; older ones, and those that came without TLS, with Origin or Referer.
pub fn is_own(view: &RequestView<'_>, origin: &str) -> bool {
    if let Some(site) = view.fields.first("sec-fetch-site") {
        return matches!(site, b"same-origin" | b"none");
    }
    if let Some(from) = view.fields.first("origin") {
        return from == origin.as_bytes();
    }
    let referer = view.fields.first("referer");
    let after = referer.and_then(|referer| referer.strip_prefix(origin.as_bytes()));
    after.is_some_and(|rest| matches!(rest.first(), None | Some(b'/' | b'?')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::oidc::tests::Asked;

    #[test]
    fn pages_are_told_from_calls() {
        let check = |method: &str, fields: &[(&str, &str)], expected: bool| {
            let asked = Asked::new(method, "/").fields(fields);
            let got = asked.with(|subject| is_navigation(&subject.view));
            assert_eq!(got, expected, "{method} {fields:?}");
        };
        let html = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
        check("GET", &[html], true);
        check("HEAD", &[html], true);
        check("GET", &[("sec-fetch-mode", "navigate"), ("accept", "*/*")], true);
        check("POST", &[html], false);
        check("POST", &[("sec-fetch-mode", "navigate")], false);
        check("GET", &[], false);
        check("GET", &[("accept", "*/*")], false);
        check("GET", &[("accept", "application/json")], false);
        check("GET", &[("accept", "application/json, text/html;q=0.9")], true);
        check("GET", &[("sec-fetch-mode", "cors"), html], false);
        check("GET", &[("sec-fetch-mode", "websocket")], false);
        check("GET", &[("x-requested-with", "XMLHttpRequest"), html], false);
        check("GET", &[("upgrade", "websocket"), html], false);
    }

    #[test]
    fn other_sites_are_told_from_the_own_one() {
        let check = |fields: &[(&str, &str)], expected: bool| {
            let asked = Asked::new("GET", "/").fields(fields);
            let got = asked.with(|subject| is_own(&subject.view, "https://a.test"));
            assert_eq!(got, expected, "{fields:?}");
        };
        check(&[("sec-fetch-site", "same-origin")], true);
        check(&[("sec-fetch-site", "none")], true);
        check(&[("sec-fetch-site", "same-site")], false);
        check(&[("sec-fetch-site", "cross-site"), ("origin", "https://a.test")], false);
        check(&[("origin", "https://a.test")], true);
        check(&[("origin", "https://a.test.evil")], false);
        check(&[("origin", "null")], false);
        check(&[("referer", "https://a.test/x")], true);
        check(&[("referer", "https://a.test.evil/x")], false);
        check(&[("referer", "https://a.test@evil/x")], false);
        check(&[], false);
    }

    // Open redirects: whatever the path is, the address stays on the site.
    #[test]
    fn no_place_leads_to_another_site() {
        Asked::new("GET", "/").with(|subject| {
            let site = Site::of(subject, None).unwrap();
            for (place, expected) in [
                ("/a?b=c", "https://a.test/a?b=c"),
                ("//evil.test/", "https://a.test//evil.test/"),
                ("/\\evil.test/", "https://a.test/"),
                ("https://evil.test/", "https://a.test/"),
                ("@evil.test/", "https://a.test/"),
                (".evil.test/", "https://a.test/"),
                ("", "https://a.test/"),
                ("/a\r\nset-cookie: x", "https://a.test/"),
                ("/a b", "https://a.test/"),
            ] {
                assert_eq!(site.address(place), expected, "{place:?}");
            }
        });
    }

    #[test]
    fn the_way_back_is_bounded() {
        let long = format!("/p?{}", "q".repeat(3000));
        for (target, most, expected) in [
            ("/p?q=1", 2000, "/p?q=1"),
            ("/p", 2000, "/p"),
            (long.as_str(), 2000, "/p"),
            ("/long/path", 5, "/"),
        ] {
            Asked::new("GET", target).with(|subject| {
                assert_eq!(Site::of(subject, None).unwrap().here(most), expected);
            });
        }
    }
}
