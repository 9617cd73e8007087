//! The attributes of cookies that targets set, as the file wants them (RFC 6265 section 4.1, its successor for prefixes and SameSite).
//!
//! An attribute is replaced where it stands, or added; a browser takes the last of several, so there is only one afterwards. What the
//! prefixes `__Host-` and `__Secure-` promise is kept. Called by `proxy::change` for each `Set-Cookie`.

/// As written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CookieSettings {
    /// Whose; names, or prefixes with `*` at their end. Empty for all.
    pub names: Vec<String>,
    /// `Secure` is added.
    pub secure: bool,
    /// `HttpOnly` is added.
    pub http_only: bool,
    /// `SameSite`, whatever the target says.
    pub same_site: Option<SameSite>,
    /// Domains and what they become; `*` for any, to nothing for the host alone.
    pub domain: Vec<(String, String)>,
    /// Beginnings of paths and what they become.
    pub path: Vec<(String, String)>,
}

/// `SameSite`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the value of that name")]
pub enum SameSite {
    Strict,
    Lax,
    None,
}

impl SameSite {
    fn text(self) -> &'static str {
        match self {
            SameSite::Strict => "Strict",
            SameSite::Lax => "Lax",
            SameSite::None => "None",
        }
    }
}

impl CookieSettings {
    /// Appends what the value of a `Set-Cookie` becomes.
    pub fn apply(&self, value: &[u8], out: &mut Vec<u8>) {
        let mut parts = value.split(|b| *b == b';').map(<[u8]>::trim_ascii);
        let pair = parts.next().unwrap_or_default();
        let name = pair.split(|b| *b == b'=').next().unwrap_or_default().trim_ascii();
        if !self.is_meant(name) {
            out.extend_from_slice(value);
            return;
        }
        let prefixed = |prefix: &[u8]| {
            name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        let host = prefixed(b"__Host-");
        let mut secure = self.secure || host || prefixed(b"__Secure-");
        out.extend_from_slice(pair);
        let mut same_site = self.same_site.map(|same_site| same_site.text().as_bytes());
        let (mut had_secure, mut had_http_only) = (false, false);
        for part in parts.filter(|part| !part.is_empty()) {
            let at = memchr::memchr(b'=', part).unwrap_or(part.len());
            let (attribute, of) = part.split_at(at);
            let of = of.get(1..).unwrap_or_default().trim_ascii();
            match attribute.trim_ascii().to_ascii_lowercase().as_slice() {
                b"secure" => had_secure = true,
                b"httponly" => had_http_only = true,
                // The target's last one, where the file says nothing.
                b"samesite" if self.same_site.is_none() => same_site = Some(of),
                b"samesite" => {}
                b"domain" if !host => self.domain(of, out),
                b"domain" => {}
                b"path" if !host => self.path(of, out),
                b"path" => {}
                _ => attribute_of(part, b"", out),
            }
        }
        if host {
            attribute_of(b"Path=", b"/", out);
        }
        // A browser takes SameSite=None only from cookies that are Secure.
        secure |= same_site.is_some_and(|value| value.eq_ignore_ascii_case(b"none"));
        if secure || had_secure {
            attribute_of(b"Secure", b"", out);
        }
        if self.http_only || had_http_only {
            attribute_of(b"HttpOnly", b"", out);
        }
        if let Some(same_site) = same_site {
            attribute_of(b"SameSite=", same_site, out);
        }
    }

    fn is_meant(&self, name: &[u8]) -> bool {
        let is = |meant: &String| match meant.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix.as_bytes()),
            None => meant.as_bytes() == name,
        };
        self.names.is_empty() || self.names.iter().any(is)
    }

    // A leading dot says nothing (RFC 6265 section 5.2.3).
    fn domain(&self, domain: &[u8], out: &mut Vec<u8>) {
        let plain = domain.strip_prefix(b".").unwrap_or(domain);
        let is = |old: &str| {
            old == "*" || plain.eq_ignore_ascii_case(old.trim_start_matches('.').as_bytes())
        };
        match self.domain.iter().find(|(old, _)| is(old)) {
            Some((_, new)) if new.is_empty() => {}
            Some((_, new)) => attribute_of(b"Domain=", new.as_bytes(), out),
            None => attribute_of(b"Domain=", domain, out),
        }
    }

    fn path(&self, path: &[u8], out: &mut Vec<u8>) {
        let found = self.path.iter().find_map(|(old, new)| Some((behind(path, old)?, new)));
        attribute_of(b"Path=", b"", out);
        match found {
            Some((b"", new)) => out.extend_from_slice(new.as_bytes()),
            Some((rest, new)) => {
                out.extend_from_slice(new.strip_suffix('/').unwrap_or(new).as_bytes());
                out.push(b'/');
                out.extend_from_slice(rest.strip_prefix(b"/").unwrap_or(rest));
            }
            None => out.extend_from_slice(path),
        }
    }
}

// The rest of a path behind whole segments.
fn behind<'p>(path: &'p [u8], old: &str) -> Option<&'p [u8]> {
    let rest = path.strip_prefix(old.as_bytes())?;
    let whole = rest.is_empty() || rest.first() == Some(&b'/') || old.ends_with('/');
    whole.then_some(rest)
}

fn attribute_of(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"; ");
    out.extend_from_slice(name);
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(settings: &CookieSettings, before: &str, after: &str) {
        let mut out = Vec::new();
        settings.apply(before.as_bytes(), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), after, "{before}");
    }

    fn hard() -> CookieSettings {
        CookieSettings {
            secure: true,
            http_only: true,
            same_site: Some(SameSite::Lax),
            ..CookieSettings::default()
        }
    }

    #[test]
    fn attributes_are_added_and_replaced_once() {
        let hard = hard();
        check(&hard, "a=1", "a=1; Secure; HttpOnly; SameSite=Lax");
        check(&hard, "a=1; path=/x;secure; Secure", "a=1; Path=/x; Secure; HttpOnly; SameSite=Lax");
        check(
            &hard,
            "a=b=c ;  SameSite=None; Max-Age=5; SAMESITE=strict; Expires=Wed, 21 Oct 2026 07:28:00 GMT;",
            "a=b=c; Max-Age=5; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Secure; HttpOnly; SameSite=Lax",
        );
        check(
            &hard,
            "a=1; Partitioned; Priority=High",
            "a=1; Partitioned; Priority=High; Secure; HttpOnly; SameSite=Lax",
        );
        let nothing = CookieSettings::default();
        check(&nothing, "a=1; SameSite=Lax; HttpOnly", "a=1; HttpOnly; SameSite=Lax");
    }

    #[test]
    fn same_site_none_is_secure() {
        let none = CookieSettings { same_site: Some(SameSite::None), ..CookieSettings::default() };
        check(&none, "a=1", "a=1; Secure; SameSite=None");
        check(&CookieSettings::default(), "a=1; samesite=none", "a=1; Secure; SameSite=none");
    }

    #[test]
    fn only_those_named_are_changed() {
        let named = CookieSettings { names: vec!["sid".into(), "app_*".into()], ..hard() };
        check(&named, "sid=1", "sid=1; Secure; HttpOnly; SameSite=Lax");
        check(&named, "app_x=1", "app_x=1; Secure; HttpOnly; SameSite=Lax");
        check(&named, "SID=1; path=/", "SID=1; path=/");
        check(&named, "sid2=1", "sid2=1");
    }

    #[test]
    fn domains_and_paths_are_rewritten() {
        let pair = |old: &str, new: &str| (old.to_owned(), new.to_owned());
        let moved = CookieSettings {
            domain: vec![pair("app.internal", "example.com"), pair("old.test", "")],
            path: vec![pair("/app/", "/"), pair("/", "/v1/")],
            ..CookieSettings::default()
        };
        check(&moved, "a=1; Domain=.APP.internal; Path=/app/x", "a=1; Domain=example.com; Path=/x");
        check(&moved, "a=1; Domain=old.test; Path=/y", "a=1; Path=/v1/y");
        check(&moved, "a=1; Domain=other.test", "a=1; Domain=other.test");
        let whole = CookieSettings {
            path: vec![pair("/app", "/"), pair("/old/", "/new"), pair("/x", "/y")],
            ..CookieSettings::default()
        };
        for (before, after) in [
            ("/app", "/"),
            ("/app/", "/"),
            ("/app/x/", "/x/"),
            ("/application", "/application"),
            ("/old/x", "/new/x"),
            ("/old/", "/new"),
            ("/old", "/old"),
            ("/x", "/y"),
            ("/x/", "/y/"),
            ("/x/z", "/y/z"),
            ("/xz", "/xz"),
        ] {
            check(&whole, &format!("a=1; Path={before}"), &format!("a=1; Path={after}"));
        }
        let any = CookieSettings { domain: vec![pair("*", "")], ..CookieSettings::default() };
        check(&any, "a=1; Domain=x.test", "a=1");
    }

    #[test]
    fn what_prefixes_promise_is_kept() {
        let pair = |old: &str, new: &str| (old.to_owned(), new.to_owned());
        let moved = CookieSettings {
            domain: vec![pair("*", "example.com")],
            path: vec![pair("/", "/v1/")],
            ..CookieSettings::default()
        };
        check(&moved, "__Host-a=1; Path=/; Secure", "__Host-a=1; Path=/; Secure");
        check(&moved, "__host-a=1; Domain=x; path=/y", "__host-a=1; Path=/; Secure");
        check(&moved, "__Secure-a=1; Path=/", "__Secure-a=1; Path=/v1/; Secure");
    }
}
