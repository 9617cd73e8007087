//! What clients are told at the edge, and what targets are: `hsts`, `redirect_https`, `proxy_protocol`.

use super::{BASE, good, problems};
use ringgate::config::Hsts;
use ringgate::http::proxy_protocol::Version;

/// The only problem of `text` (with a listener and a group behind it) is at `line` and `key`, and says `part`.
#[track_caller]
fn check(text: &str, line: u32, key: &str, part: &str) {
    let found = problems(&format!("{text}\n{BASE}"));
    assert_eq!(found.len(), 1, "{text}\n{found:#?}");
    assert_eq!((found[0].place.line, found[0].key.as_str()), (line, key), "{text}");
    let said = found[0].to_string();
    assert!(said.contains(part), "{text}\n{said}\n--- without\n{part}");
}

fn listener(lines: &str) -> String {
    format!("[[listener]]\nname = 'a'\nbind = '0.0.0.0:1'\n{lines}")
}

#[test]
fn a_listener_may_send_all_to_https() {
    for (value, port) in
        [("true", Some(443)), ("false", None), ("8443", Some(8443)), ("443", Some(443))]
    {
        let config = good(&listener(&format!("redirect_https = {value}")));
        assert_eq!(config.listeners[0].redirect_https, port, "{value}");
    }
    const KIND: &str = "expected true, false or a port from 1 to 65535";
    for wrong in ["0", "65536", "'yes'", "'443'", "[]"] {
        check(
            &listener(&format!("redirect_https = {wrong}")),
            4,
            "listener.a.redirect_https",
            KIND,
        );
    }
}

#[test]
fn hsts_says_for_how_long() {
    const KIND: &str = "expected seconds, or a duration such as \"365d\" or \"12h\"";
    for (text, key, part) in [
        ("{}", ".max_age", "found nothing, expected seconds"),
        ("{ max_age = '1y' }", ".max_age", KIND),
        ("{ max_age = 'd' }", ".max_age", KIND),
        ("{ max_age = '4000d' }", ".max_age", KIND),
        ("{ max_age = -1 }", ".max_age", KIND),
        ("{ max_age = '99999999999999999999d' }", ".max_age", KIND),
        ("{ max_age = 1, sub = true }", ".sub", "unknown key"),
        ("{ max_age = 1, preload = 1 }", ".preload", "true or false"),
        ("{ max_age = '365d', preload = true }", "", "include_subdomains = true"),
        (
            "{ max_age = '364d', preload = true, include_subdomains = true }",
            "",
            "a max_age of at least \"365d\"",
        ),
    ] {
        let text = listener(&format!(
            "protocol = 'https'\ntls = {{ certificates = [{{ cert = 'a', key = 'b' }}] }}\nhsts = {text}"
        ));
        check(&text, 6, &format!("listener.a.hsts{key}"), part);
    }
    let hsts = |text: &str| {
        let text = listener(&format!(
            "protocol = 'https'\ntls = {{ certificates = [{{ cert = 'a', key = 'b' }}] }}\nhsts = {text}"
        ));
        good(&text).listeners[0].hsts
    };
    let plain = Hsts { max_age: 31_536_000, include_subdomains: false, preload: false };
    assert_eq!(hsts("{ max_age = '365d' }"), Some(plain));
    assert_eq!(hsts("{ max_age = 31536000 }"), Some(plain));
    assert_eq!(hsts("{ max_age = '12h' }"), Some(Hsts { max_age: 43_200, ..plain }));
    assert_eq!(hsts("{ max_age = 0 }"), Some(Hsts { max_age: 0, ..plain }));
    let whole = Hsts { include_subdomains: true, preload: true, ..plain };
    let text = "{ max_age = '365d', include_subdomains = true, preload = true }";
    assert_eq!(hsts(text), Some(whole));
}

#[test]
fn each_belongs_to_its_protocol() {
    check(
        &listener("hsts = { max_age = '365d' }"),
        4,
        "listener.a.hsts",
        "only with protocol = \"https\": browsers ignore it elsewhere",
    );
    check(
        &listener(
            "protocol = 'https'\ntls = { certificates = [{ cert = 'a', key = 'b' }] }\nredirect_https = true",
        ),
        6,
        "listener.a.redirect_https",
        "only with protocol = \"http\"",
    );
}

#[test]
fn targets_may_be_sent_proxy_headers() {
    for (word, version) in [("off", None), ("v1", Some(Version::V1)), ("v2", Some(Version::V2))] {
        let config = good(&format!("[group.g]\ntargets = []\nproxy_protocol = '{word}'"));
        assert_eq!(config.groups[0].proxy_protocol, version);
    }
    let any = "[group.g]\ntargets = []\nproxy_protocol = 'any'";
    check(any, 3, "group.g.proxy_protocol", "one of off, v1, v2");
}

#[test]
fn targets_may_speak_tls() {
    use ringgate::tls::client::{ALPN_H2, ALPN_HTTP1};
    let tls =
        |text: &str| good(&format!("[group.g]\ntargets = ['a:1']\n{text}")).groups[0].tls.clone();
    assert!(tls("").is_none() && tls("tls = false").is_none() && tls("protocol = 'h2c'").is_none());
    let whole = tls("tls = true").unwrap();
    assert!(whole.verify && whole.ca.is_none() && !whole.only_13);
    assert_eq!(whole.alpn, ALPN_HTTP1);
    assert_eq!(tls("protocol = 'h2'").unwrap().alpn, ALPN_H2);
    let whole = tls(
        "tls = { verify = true, ca = 'x/ca.pem', server_name = 's', client_cert = '/c', client_key = 'k', min = '1.3' }",
    )
    .unwrap();
    let paths: Vec<_> = whole.materials().map(|m| m.path.display().to_string()).collect();
    assert_eq!(paths, ["x/ca.pem", "/c", "k"]);
    assert_eq!((whole.server_name.as_deref(), whole.only_13), (Some("s"), true));
    for (text, key, part) in [
        ("tls = 1", "", "true, false or a table of verify"),
        ("tls = { verify = 'no' }", ".verify", "true or false"),
        ("tls = { insecure = true }", ".insecure", "unknown key"),
        ("tls = { ca = '' }", ".ca", "the path of a file in PEM"),
        ("tls = { ca = 'a', verify = false }", ".ca", "ca only where targets are verified"),
        ("tls = { server_name = '*.a' }", ".server_name", "a DNS name or an address"),
        ("tls = { client_cert = 'a' }", ".client_cert", "both, or none"),
        ("tls = { client_key = 'a' }", ".client_key", "both, or none"),
        ("tls = { min = '1.1' }", ".min", "one of 1.2, 1.3"),
    ] {
        check(&format!("[group.g]\ntargets = []\n{text}"), 3, &format!("group.g.tls{key}"), part);
    }
    for (text, key, part) in [
        ("targets = ['unix:/a']\ntls = true", "tls", "a Unix socket has no name"),
        (
            "protocol = 'h2c'\ntargets = []\ntls = true",
            "tls",
            "protocol = \"h2\" for HTTP/2 over TLS",
        ),
        (
            "protocol = 'h2'\ntargets = []\ntls = false",
            "tls",
            "protocol = \"h2c\" for HTTP/2 without",
        ),
        ("protocol = 'h2'\ntargets = []\nproxy_protocol = 'v2'", "proxy_protocol", "many clients"),
    ] {
        let line = 1 + u32::try_from(text.lines().count()).unwrap();
        check(&format!("[group.g]\n{text}"), line, &format!("group.g.{key}"), part);
    }
}
