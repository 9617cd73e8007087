//! The grammar of single values: names, addresses, patterns, tokens.
//!
//! Pure functions from a text to a value or to what is wrong with it. They look nothing up: whether a group exists is
//! for `check`. Called by the readers of the sections.

use crate::config::TargetAddress;
use crate::config::problem::Wrong;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// What [`name`] accepts.
pub(super) const NAME: &str = "a name of 1 to 64 letters, digits, \".\", \"_\" or \"-\"";
/// What [`bind`] accepts.
pub(super) const BIND: &str = "an address and port such as \"0.0.0.0:8080\" or \"[::]:8080\"";
/// What [`target`] accepts.
pub(super) const TARGET: &str = "a target such as \"10.0.0.1:80\", \"[fd00::1]:80\", \"api.internal:80\" \
                                 or \"unix:/run/app.sock\", with a port from 1 to 65535";
/// What [`network`] accepts.
pub(super) const NETWORK: &str = "an address or range such as \"192.0.2.1\" or \"10.0.0.0/8\"";
/// What [`host_pattern`] accepts.
pub(super) const HOST: &str =
    "a host such as \"api.example.com\" or \"*.example.com\", without scheme, port and path";
/// What [`path_pattern`] accepts.
pub(super) const PATH: &str = "a path pattern that begins with \"/\" or \"*\", percent-encoded";
/// What [`statuses`] accepts.
pub(super) const STATUSES: &str =
    "a status such as \"200\" or a range such as \"200-299\", within 200 to 599";

/// The longest pattern or template, in octets.
const LONGEST: usize = 2048;

/// A name of a listener, rule or group.
pub(super) fn name(text: &str) -> Result<String, Wrong> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let fits = (1..=64).contains(&text.len()) && text.bytes().all(allowed);
    if fits { Ok(text.to_owned()) } else { Wrong::plain() }
}

/// `token` of RFC 9110 section 5.6.2.
pub(super) fn is_token(text: &str) -> bool {
    let tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.len() <= 256 && text.bytes().all(tchar)
}

/// A field value that can be written as it stands: no control characters but HTAB (RFC 9110 section 5.5).
pub(super) fn is_field_value(text: &str) -> bool {
    text.trim_matches([' ', '\t']) == text && text.chars().all(|c| c == '\t' || !c.is_control())
}

/// An address to listen on. Port 0 lets the kernel choose one.
pub(super) fn bind(text: &str) -> Result<SocketAddr, Wrong> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if text.parse::<IpAddr>().is_ok() {
        return Wrong::hint("the port is missing");
    }
    match text.rsplit_once(':') {
        Some(("" | "*", port)) => Wrong::hint(format!("did you mean \"0.0.0.0:{port}\"?")),
        Some(("localhost", port)) => Wrong::hint(format!("did you mean \"127.0.0.1:{port}\"?")),
        _ => Wrong::plain(),
    }
}

/// Where requests go.
pub(super) fn target(text: &str) -> Result<TargetAddress, Wrong> {
    if let Some(path) = text.strip_prefix("unix:") {
        // sockaddr_un holds 108 octets with the closing NUL.
        let fits = path.starts_with('/') && path.len() < 108 && !path.contains('\0');
        let path = fits.then(|| TargetAddress::Unix(PathBuf::from(path)));
        let expected = "an absolute path of at most 107 octets after \"unix:\"".to_owned();
        return path.ok_or(Wrong { expected, hint: None });
    }
    if text.contains("://") {
        return Wrong::hint("a target has no scheme");
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return if address.port() == 0 { Wrong::plain() } else { Ok(TargetAddress::Ip(address)) };
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        let with_port = SocketAddr::new(address, 80);
        return Wrong::hint(format!("the port is missing, as in \"{with_port}\""));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Wrong::hint(format!("the port is missing, as in \"{text}:80\""));
    };
    if host.parse::<std::net::Ipv6Addr>().is_ok() {
        return Wrong::hint(format!("did you mean \"[{host}]:{port}\"?"));
    }
    let port = self::port(port).ok_or_else(Wrong::default)?;
    if is_dns_name(host) {
        return Ok(TargetAddress::Name(host.to_ascii_lowercase(), port));
    }
    Wrong::plain()
}

/// A port from 1 to 65535, in digits.
pub(super) fn port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0)
}

/// Letters, digits, `-` and `_` in labels of at most 63 octets. A last label of digits would be a mistyped IPv4 address
/// (RFC 1123 section 2.1).
pub(super) fn is_dns_name(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        (1..=63).contains(&label.len())
            && label.bytes().all(allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= 253
        && text.split('.').all(label)
        && !last.bytes().all(|byte| byte.is_ascii_digit())
}

/// A range of addresses; a plain address is a range of one.
pub(super) fn network(text: &str) -> Result<IpNet, Wrong> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    text.parse::<IpNet>().map(|net| net.trunc()).or_else(|_| Wrong::plain())
}

/// A host with `*` and `?`; lower-case, as hosts are compared.
pub(super) fn host_pattern(text: &str) -> Result<String, Wrong> {
    let lower = text.to_ascii_lowercase();
    if let Some((_, rest)) = lower.split_once("://") {
        let host = rest.split(['/', ':']).next().unwrap_or_default();
        return Wrong::hint(format!("did you mean {host:?}?"));
    }
    if let Some(host) = lower.strip_suffix('.') {
        return Wrong::hint(format!("did you mean {host:?}?"));
    }
    if !lower.is_ascii() {
        return Wrong::hint("write an international name in its ASCII form, xn--...");
    }
    if let Some(inside) = lower.strip_prefix('[') {
        let address = inside.strip_suffix(']');
        let allowed = |byte: u8| byte.is_ascii_hexdigit() || b":.*?".contains(&byte);
        return match address {
            Some(address) if !address.is_empty() && address.bytes().all(allowed) => Ok(lower),
            _ => Wrong::plain(),
        };
    }
    if let Some((host, port)) = lower.split_once(':') {
        return match self::port(port) {
            Some(_) => Wrong::hint(format!("a host has no port: did you mean {host:?}?")),
            None => Wrong::plain(),
        };
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_*?".contains(&byte);
    let fits = (1..=255).contains(&lower.len()) && lower.bytes().all(allowed);
    if fits { Ok(lower) } else { Wrong::plain() }
}

/// A path with `*` and `?`.
pub(super) fn path_pattern(text: &str) -> Result<String, Wrong> {
    if !text.starts_with(['/', '*']) {
        let hint = !text.is_empty() && !text.contains("://") && is_visible(text);
        return match hint {
            true => Wrong::hint(format!("did you mean \"/{text}\"?")),
            false => Wrong::plain(),
        };
    }
    if text.len() > LONGEST {
        return Wrong::expected(format!("at most {LONGEST} octets"));
    }
    if text.contains('#') {
        return Wrong::expected("a path without a fragment, which clients do not send");
    }
    if is_visible(text) { Ok(text.to_owned()) } else { Wrong::plain() }
}

/// A pattern over a value: anything but control characters.
pub(super) fn value_pattern(text: &str) -> Result<String, Wrong> {
    let fits = text.len() <= LONGEST && !text.chars().any(char::is_control);
    if fits { Ok(text.to_owned()) } else { Wrong::plain() }
}

/// A regular expression over a path that compiles within bounds.
pub(super) fn regex(text: &str) -> Result<String, Wrong> {
    /// Bytes of the compiled program; what one rule may cost.
    const SIZE: usize = 1 << 20;
    match regex::bytes::RegexBuilder::new(text).size_limit(SIZE).build() {
        Ok(_) => Ok(text.to_owned()),
        Err(regex::Error::CompiledTooBig(_)) => {
            Wrong::expected(format!("a regular expression that compiles to at most {SIZE} bytes"))
        }
        Err(error) => {
            let error = error.to_string();
            let reason = error.lines().last().unwrap_or_default();
            Wrong::hint(reason.trim_start_matches("error: ").to_owned())
        }
    }
}

/// A method. Methods are case-sensitive (RFC 9110 section 9.1), so `get` would match nothing that browsers send.
pub(super) fn method(text: &str) -> Result<String, Wrong> {
    const COMMON: [&str; 9] =
        ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    let upper = text.to_ascii_uppercase();
    if upper != text && COMMON.contains(&upper.as_str()) {
        return Wrong::hint(format!("methods are case-sensitive: did you mean {upper:?}?"));
    }
    if is_token(text) { Ok(text.to_owned()) } else { Wrong::plain() }
}

/// `"200"` or `"200-299"`.
pub(super) fn statuses(text: &str) -> Result<RangeInclusive<u16>, Wrong> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let status = |text: &str| text.trim().parse().ok().filter(|code| (200..=599).contains(code));
    match (status(first), status(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        _ => Wrong::plain(),
    }
}

/// Octets that a request target may hold as they are.
pub(super) fn is_visible(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: std::fmt::Debug>(
        parse: impl Fn(&str) -> Result<T, Wrong>,
        good: &[&str],
        bad: &[&str],
    ) {
        for text in good {
            assert!(parse(text).is_ok(), "{text:?} is refused: {:?}", parse(text));
        }
        for text in bad {
            assert!(parse(text).is_err(), "{text:?} is accepted: {:?}", parse(text));
        }
    }

    #[test]
    fn knows_names_and_addresses() {
        let (longest, longer) = ("n".repeat(64), "n".repeat(65));
        check(name, &["a", "A.b_c-9", &longest], &["", &longer, "a b", "a/b", "ä"]);
        let good = ["0.0.0.0:80", "[::]:80", "127.0.0.1:0"];
        check(
            bind,
            &good,
            &["", ":80", "80", "localhost:80", "0.0.0.0", "::1:80", "0.0.0.0:65536"],
        );
        check(network, &["10.0.0.0/8", "10.1.2.3/8", "::1", "fd00::/8"], &["", "10.0.0.0/33", "x"]);
        assert_eq!(network("10.1.2.3/8").unwrap().to_string(), "10.0.0.0/8");
    }

    #[test]
    fn knows_targets() {
        let good =
            ["10.0.0.1:80", "[::1]:1", "api:65535", "a-b.c_d.internal.:80", "unix:/a", "7a:80"];
        let bad = [
            "",
            "10.0.0.1",
            "10.0.0.1:0",
            "[::1]:0",
            "::1:80",
            "::1",
            "api",
            "api:0",
            "api:65536",
            "api:+80",
            "api:",
            ":80",
            "10.0.0.300:80",
            "1.2.3:80",
            "http://a:80",
            "a b:80",
            "-a:80",
            "a..b:80",
            "unix:",
            "unix:a",
            "[::1:80",
            "ä:80",
        ];
        check(target, &good, &bad);
        assert_eq!(target("API.x:80"), Ok(TargetAddress::Name("api.x".to_owned(), 80)));
    }

    #[test]
    fn knows_hosts_and_paths() {
        let bad =
            ["", "a b", "a:80", "http://a", "a/b", "a.", "ä.de", "[::1", "[]", "a:b", "[::1]:80"];
        check(host_pattern, &["a", "*.EXAMPLE.com", "a?c", "[::1]", "*", "10.0.0.1"], &bad);
        assert_eq!(host_pattern("A.b").unwrap(), "a.b");
        check(
            path_pattern,
            &["/", "*", "/a?c/*", "*.png", "/%20"],
            &["", "a", "/a b", "/ä", "/#x"],
        );
    }

    #[test]
    fn knows_methods_statuses_and_values() {
        check(method, &["GET", "PURGE", "M-SEARCH"], &["", "get", "Post", "A B", "GET,POST"]);
        check(statuses, &["200", "200-299", "599"], &["", "199", "600", "299-200", "2xx", "200-"]);
        check(regex, &["^/v[0-9]+/", "a|b"], &["(", "(?=x)", "a{1000}{1000}"]);
        assert!(is_field_value("a \t ü") && !is_field_value("a\r\n") && !is_field_value(" a"));
    }
}
