//! What rules change on the way, over real sockets: requests, responses, error pages, answers from files.
//!
//! Clients and targets are raw: what arrives is looked at octet by octet, on both sides.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods)]

mod support;

use std::net::SocketAddr;
use support::h2origin::H2Origin;
use support::h2raw::{H2, request_with};
use support::{Client, Message, Origin, Ringgate, eventually, free_address, get};

/// Of "password", with cost 4.
const QUICK: &str = "$2y$04$abcdefghijklmnopqrstuughE8Ev8uGFaUgY2cNEySvxngrb/Jzdm";

/// A file with one listener, a group of these targets, and rules.
fn file(listen: SocketAddr, target: SocketAddr, rules: &str) -> String {
    format!(
        "[[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\n\n[group.all]\ntargets = [\"{target}\"]\n\
         health = {{ type = \"off\" }}\n\n{rules}\n"
    )
}

/// A rule that takes paths below `/NAME` and sends them on.
fn rule(name: &str, what: &str) -> String {
    format!("[[rule]]\nname = '{name}'\nwhen = {{ path = '/{name}*' }}\nforward = 'all'\n{what}\n")
}

fn started(target: SocketAddr, rules: &str) -> (Ringgate, SocketAddr) {
    let listen = free_address();
    (Ringgate::start(&file(listen, target, rules)), listen)
}

/// Sends `head` and `body`, with its length; what comes back.
#[track_caller]
fn ask(to: SocketAddr, head: &str, body: &str) -> Message {
    let method = head.split(' ').next().unwrap();
    let length =
        if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    Client::connect(to).send(format!("{head}\r\n{length}\r\n{body}")).response_to(method)
}

fn answering(fields: &str, body: &str) -> Origin {
    let length = body.len();
    Origin::answering(format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {length}\r\n\r\n{body}"))
}

#[test]
fn requests_go_where_the_file_says() {
    let origin = Origin::echo();
    let rules = [
        rule("whole", "request = { path = '/v2/#{query.id:-none}/#{capture.1}' }"),
        rule("strip", "request = { strip_prefix = '/strip', add_prefix = '/v1' }"),
        rule(
            "regex",
            "request = { path_regex = { match = '^/regex/([0-9]+)', replace = '/n/$1' } }",
        ),
        rule("host", "request = { host = '#{header.x-tenant}.internal:81' }"),
        rule("target", "request = { host = 'target' }"),
        rule(
            "query",
            "request = { query = { remove = ['a'], rename = { b = 'c' }, set = { d = '#{header.x-tenant}' }, add = { b = '2' } } }",
        ),
        rule(
            "form",
            "request = { body = 'all=#{query}', content_type = 'application/x-www-form-urlencoded' }",
        ),
        rule("same", ""),
    ];
    let (_ringgate, listen) = started(origin.address, &rules.concat());
    let target = origin.address.to_string();
    for (path, line, host) in [
        ("/whole/a%20b/c?id=x%2Fy", "/v2/x%2Fy//a%20b/c", "a.test"),
        ("/whole?x=1", "/v2/none/?x=1", "a.test"),
        ("/strip/x?y=1", "/v1/x?y=1", "a.test"),
        ("/strip", "/v1/", "a.test"),
        ("/stripped", "/v1/stripped", "a.test"),
        ("/regex/12/x", "/n/12/x", "a.test"),
        ("/regex/x", "/regex/x", "a.test"),
        ("/host", "/host", "shop.internal:81"),
        ("/target", "/target", target.as_str()),
        ("/query?a=1&b=1&x=%20&%61=3", "/query?c=1&x=%20&d=shop&b=2", "a.test"),
        ("/same?a=1", "/same?a=1", "a.test"),
    ] {
        if line.contains("x%2Fy") {
            // An encoded separator is refused wherever it comes from.
            let answer = ask(listen, &format!("GET {path} HTTP/1.1\r\nHost: a.test"), "");
            assert_eq!((answer.status(), answer.reason()), (400, "unfit_value"), "{path}");
            continue;
        }
        let head = format!("GET {path} HTTP/1.1\r\nHost: a.test\r\nX-Tenant: shop");
        let answer = ask(listen, &head, "");
        assert_eq!(answer.status(), 200, "{path}: {}", answer.text());
        let sent = origin.last();
        assert_eq!((sent.target(), sent.header("host")), (line, Some(host)), "{path}");
        assert_eq!(sent.header("x-forwarded-host"), Some("a.test"));
        let prefix = (path == "/strip" || path.starts_with("/strip/")).then_some("/strip");
        assert_eq!(sent.header("x-forwarded-prefix"), prefix, "{path}");
    }
    ask(listen, "POST /form?a=1&admin=true HTTP/1.1\r\nHost: a.test", "x");
    assert_eq!(origin.last().text(), "all=a%3D1%26admin%3Dtrue", "one value, whatever it is");
}

/// Hazards URI-04, H1-33 and HDR-04: what a client puts into a value stays in that value.
#[test]
fn a_client_cannot_climb_out_of_a_value() {
    let origin = Origin::echo();
    let rules = [
        rule("path", "request = { path = '/t/#{header.x-v}/api' }"),
        rule("capture", "request = { path_regex = { match = '^/capture(.*)$', replace = '$1' } }"),
        rule("host", "request = { host = '#{header.x-v}.internal' }"),
        rule(
            "field",
            "request = { headers = { set = { x-q = '#{query.q}', x-v = 'set' } } }\n\
             response = { headers = { set = { x-r = '#{query.q}' } } }",
        ),
        "[[rule]]\nname = 'away'\nwhen = { path = '/away' }\nredirect = { path = '/#{query.q}', query = '' }\n".to_owned(),
        "[[rule]]\nname = 'say'\nwhen = { path = '/say' }\nrespond = { status = 200, body = '<p>#{query.q}', content_type = 'text/html', headers = { x-q = '#{query.q}' } }\n".to_owned(),
    ];
    let (_ringgate, listen) = started(origin.address, &rules.concat());
    let with = |path: &str, value: &str| {
        ask(listen, &format!("GET {path} HTTP/1.1\r\nHost: a.test\r\nX-V: {value}"), "")
    };
    for value in ["..", "%2e%2e", "../../admin", "..;x", "a/../b", ".", "..%2f", "\\.."] {
        let answer = with("/path", value);
        if answer.status() == 200 {
            let target = origin.last().target().to_owned();
            assert!(target.starts_with("/t/") && target.ends_with("/api"), "{value}: {target}");
            assert_eq!(target.matches('/').count(), 3, "{value}: {target}");
        } else {
            assert_eq!((answer.status(), answer.reason()), (400, "unfit_value"), "{value}");
        }
    }
    assert_eq!(with("/path", "..").status(), 400);
    for value in ["evil.test/", "a b", "a@evil.test", "a:80", ""] {
        assert_eq!(with("/host", value).reason(), "unfit_value", "{value}");
    }
    // What begins with two slashes would be a host for some.
    let answer = with("/capture//evil.test/x", "");
    assert_eq!((answer.status(), origin.last().target()), (200, "/evil.test/x"));
    let split = "%0d%0aset-cookie:%20a=b%0d%0a%0d%0a%3Cscript%3E";
    let answer = with(&format!("/field?q={split}"), "client's");
    let kept = "%0D%0Aset-cookie: a=b%0D%0A%0D%0A<script>";
    assert_eq!(origin.last().header("x-q"), Some(kept));
    assert_eq!(origin.last().header("x-v"), Some("set"));
    assert_eq!(origin.last().header("set-cookie"), None);
    assert_eq!((answer.header("x-r"), answer.header("set-cookie")), (Some(kept), None));
    let away = with(&format!("/away?q={split}"), "");
    let location = "http://a.test/%0D%0Aset-cookie%3A%20a%3Db%0D%0A%0D%0A%3Cscript%3E";
    assert_eq!((away.status(), away.header("location")), (302, Some(location)));
    assert_eq!(away.header("set-cookie"), None);
    let said = with(&format!("/say?q={split}"), "");
    assert!(said.text().ends_with("a=b \n \n&lt;script&gt;"), "{:?}", said.text());
    assert_eq!((said.header("x-q"), said.header("set-cookie")), (Some(kept), None));
}

#[test]
fn fields_of_requests_are_changed() {
    let origin = Origin::echo();
    let rules = [
        rule(
            "fields",
            "request = { headers = { rename = { x-old = 'x-new' }, remove = ['x-gone', 'cookie'], \
             set = { x-ip = '#{client_ip}', x-empty = '#{header.none}', authorization = 'Basic x' }, add = { x-tag = 'b' } } }",
        ),
        "[[rule]]\nname = 'user'\nwhen = { path = '/user' }\nforward = 'all'\npolicy = 'known'\n\
         request = { headers = { set = { x-said = '#{header.x-user}|#{consumer}' }, rename = { x-user = 'x-also' } } }\n"
            .to_owned(),
        format!("[policy.known.basic]\nusers = {{ ann = '{QUICK}' }}\nheader = 'X-User'\n"),
    ];
    let (_ringgate, listen) = started(origin.address, &rules.concat());
    ask(
        listen,
        "GET /fields HTTP/1.1\r\nHost: a.test\r\nX-Old: 1\r\nx-old: 2\r\nX-New: 3\r\nX-Gone: 4\r\nCookie: a=b\r\n\
         X-Ip: forged\r\nX-Empty: 5\r\nAuthorization: Bearer x\r\nX-Tag: a",
        "",
    );
    let sent = origin.last();
    assert_eq!(sent.all("x-new"), ["1", "2"]);
    assert_eq!(sent.all("x-tag"), ["a", "b"]);
    for (name, value) in [
        ("x-old", None),
        ("x-gone", None),
        ("cookie", None),
        ("x-ip", Some("127.0.0.1")),
        ("x-empty", None),
        ("authorization", Some("Basic x")),
    ] {
        assert_eq!(sent.header(name), value, "{name}");
    }
    // What a policy has found goes before what a client says of itself (hazard HDR-04).
    let head = "GET /user HTTP/1.1\r\nHost: a.test\r\nX-User: forged\r\nAuthorization: Basic YW5uOnBhc3N3b3Jk";
    assert_eq!(ask(listen, head, "").status(), 200);
    let sent = origin.last();
    assert_eq!((sent.header("x-said"), sent.header("x-user")), (Some("ann|ann"), Some("ann")));
    assert_eq!(sent.header("x-also"), None);
}

#[test]
fn bodies_of_requests_are_changed() {
    let origin = Origin::echo();
    let rules = [
        rule(
            "json",
            "request = { json = { keep = ['a', 'b', 'n', 'items.*.id'], remove = ['b.secret'], rename = { a = 'x.y' }, \
             set = { 'by' = '#{client_ip}', 'copy' = '#{body.b}', 'one' = 1 } }, limit = '1KiB' }",
        ),
        rule(
            "body",
            "request = { body = '{\"q\":\"#{query.q}\",\"a\":\"#{body.a}\"}', content_type = 'application/json' }",
        ),
        rule("read", "request = { path = '/read/#{body.id:-none}', limit = '1KiB' }"),
    ];
    let (_ringgate, listen) = started(origin.address, &rules.concat());
    let json = "Content-Type: application/json";
    let post = |path: &str, fields: &str, body: &str| {
        ask(listen, &format!("POST {path} HTTP/1.1\r\nHost: a.test\r\n{fields}"), body)
    };
    let body = r#"{"a":"v","b":{"secret":1,"c":2.50},"n":12345678901234567890123,"items":[{"id":1,"x":2}],"z":0}"#;
    post("/json", &format!("{json}\r\nContent-MD5: x\r\nDigest: y"), body);
    let sent = origin.last();
    let expected = r#"{"b":{"c":2.50},"n":12345678901234567890123,"items":[{"id":1}],"x":{"y":"v"},"by":"127.0.0.1","copy":{"secret":1,"c":2.50},"one":1}"#;
    assert_eq!(sent.text(), expected);
    assert_eq!(sent.header("content-length"), Some(&*expected.len().to_string()));
    assert_eq!((sent.header("content-md5"), sent.header("digest")), (None, None));
    for (fields, body, status, reason) in [
        (json, "{", 400, "bad_json"),
        (json, "[1]", 400, "bad_json"),
        (json, r#"{"a":1,"a":2}"#, 400, "bad_json"),
        (json, &"[".repeat(100), 400, "bad_json"),
        (json, &format!("\"{}\"", "x".repeat(2000)), 413, "body_too_large"),
        ("Content-Type: text/plain", "x", 415, "json_wanted"),
        ("X: y", "{}", 415, "json_wanted"),
        (&format!("{json}\r\nContent-Encoding: gzip"), "x", 400, "bad_json"),
        (&format!("{json}\r\nContent-Encoding: exi"), "x", 415, "json_wanted"),
    ] {
        let answer = post("/json", fields, body);
        assert_eq!((answer.status(), answer.reason()), (status, reason), "{fields} {body}");
    }
    assert_eq!(ask(listen, "GET /json HTTP/1.1\r\nHost: a.test", "").status(), 200);
    // A body in chunks is one with a length then, and the next request of the connection is not touched.
    let mut client = Client::connect(listen);
    client.send(format!(
        "POST /json HTTP/1.1\r\nHost: a.test\r\n{json}\r\nTransfer-Encoding: chunked\r\n\r\n\
         4\r\n{{\"a\"\r\n4\r\n: 1}}\r\n0\r\n\r\n\
         POST /body?q=%22%0a HTTP/1.1\r\nHost: a.test\r\n{json}\r\nContent-Length: 9\r\n\r\n{{\"a\":\"\\\\\"}}\
         GET /same HTTP/1.1\r\nHost: a.test\r\n\r\n"
    ).replace("Content-Length: 9", "Content-Length: 10"));
    assert_eq!(client.response().status(), 200);
    assert_eq!(client.response().status(), 200);
    let mut sent = origin.requests();
    let (second, first) = (sent.pop().unwrap(), sent.pop().unwrap());
    assert_eq!(first.text(), r#"{"x":{"y":1},"by":"127.0.0.1","one":1}"#);
    assert_eq!(second.text(), r#"{"q":"\"\n","a":"\\"}"#);
    assert_eq!(second.header("content-type"), Some("application/json"));
    assert_eq!(client.response().status(), 404);
    post("/body", "Content-Type: text/plain\r\nContent-Encoding: x", "anything");
    let sent = origin.last();
    assert_eq!(
        (sent.text().as_str(), sent.header("content-encoding")),
        (r#"{"q":"","a":""}"#, None)
    );
    post("/read", json, r#"{"id":7}"#);
    assert_eq!((origin.last().target(), origin.last().text().as_str()), ("/read/7", r#"{"id":7}"#));
    post("/read", "Content-Type: text/plain", r#"{"id":7}"#);
    assert_eq!(origin.last().target(), "/read/none");
}

// A member of a gzip file (RFC 1952).
fn gzip(text: &str) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn what_must_be_read_is_decompressed() {
    let body = r#"{"a":1,"secret":2}"#;
    let origin = Origin::script(move |conn| {
        while let Some(request) = conn.request()? {
            let coded = gzip(if request.target() == "/strict/bad" { "[" } else { body });
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
                coded.len()
            );
            conn.send([head.into_bytes(), coded].concat())?;
        }
        Ok(())
    });
    let schema = r#"{ "type": "object", "required": ["a"] }"#;
    let rules = [
        rule("json", "request = { json = { remove = ['secret'] }, limit = '1KiB' }"),
        rule("read", "request = { path = '/read/#{body.a}', limit = '1KiB' }"),
        rule("strict", "response = { json = { remove = ['secret'] }, strict = true }"),
        rule("valid", "policy = 'v'"),
        format!("[policy.v.validate]\nlimit = '1KiB'\nbody = {{ schema = '{schema}' }}\n"),
    ];
    let (_ringgate, listen) = started(origin.address, &rules.concat());
    let post = |path: &str, text: &str| {
        let coded = gzip(text);
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: a.test\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n\
             Accept-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
            coded.len()
        );
        let mut client = Client::connect(listen);
        client.send([head.into_bytes(), coded].concat());
        client.response()
    };
    assert_eq!(post("/json/a", body).status(), 200);
    let sent = origin.last();
    assert_eq!((sent.text().as_str(), sent.header("content-encoding")), (r#"{"a":1}"#, None));
    assert_eq!(post("/read/a", body).status(), 200);
    let sent = origin.last();
    assert_eq!((sent.target(), sent.header("content-encoding")), ("/read/1", Some("gzip")));
    assert_eq!(sent.body, gzip(body), "it is sent as it came");
    let large = format!("\"{}\"", "x".repeat(2000));
    assert_eq!(post("/json/a", &large).reason(), "body_too_large");
    let answer = post("/strict/a", body);
    assert_eq!((answer.text().as_str(), answer.header("content-encoding")), (r#"{"a":1}"#, None));
    assert_eq!(post("/strict/bad", body).reason(), "bad_response_json");
    assert_eq!(post("/valid/a", body).status(), 200);
    assert_eq!(origin.last().body, gzip(body), "it is sent as it came");
    assert_eq!(post("/valid/a", r#"{"b":1}"#).reason(), "validation_failed");
    assert_eq!(post("/valid/a", &large).reason(), "body_too_large");
}

#[test]
fn fields_and_cookies_of_responses_are_changed() {
    let origin = answering(
        "Server: x\r\nX-Secret: 1\r\nX-Old: 2\r\nSet-Cookie: sid=1; Path=/app; SameSite=None\r\n\
         set-cookie: __Host-t=1; Secure; Path=/\r\nSet-Cookie: plain=2\r\nCache-Control: no-store\r\n",
        "ok",
    );
    let rules = [
        rule(
            "fields",
            "response = { headers = { remove = ['x-secret'], rename = { x-old = 'x-new' }, \
             set = { x-from = '#{target} #{status} #{response.header.server}', cache-control = 'private' }, add = { vary = 'x-a' } }, \
             cookies = { names = ['sid', '__Host-*'], secure = true, http_only = true, same_site = 'lax', path = { '/app' = '/' } } }",
        ),
        rule("status", "response = { status = { '200' = 203 } }"),
    ];
    let (_ringgate, listen) = started(origin.address, &rules.concat());
    let answer = get(listen, "/fields");
    assert_eq!(answer.text(), "ok");
    let from = format!("{} 200 x", origin.address);
    for (name, value) in [
        ("x-secret", None),
        ("x-old", None),
        ("x-new", Some("2")),
        ("x-from", Some(from.as_str())),
        ("cache-control", Some("private")),
        ("vary", Some("x-a")),
        ("server", Some("x")),
    ] {
        assert_eq!(answer.header(name), value, "{name}");
    }
    let mut cookies = answer.all("set-cookie");
    cookies.sort_unstable();
    assert_eq!(
        cookies,
        [
            "__Host-t=1; Path=/; Secure; HttpOnly; SameSite=Lax",
            "plain=2",
            "sid=1; Path=/; Secure; HttpOnly; SameSite=Lax",
        ]
    );
    let answer = get(listen, "/status");
    assert_eq!(answer.start, "HTTP/1.1 203 Non-Authoritative Information");
}

/// Fields are changed in answers of ringgate's own, too; what those say of themselves stays.
#[test]
fn own_answers_are_changed_too() {
    let rules = [
        rule("gone", "response = { headers = { set = { x-a = '#{status}', content-type = 'text/evil' }, remove = ['retry-after'] } }"),
        "[[rule]]\nname = 'say'\nwhen = { path = '/say' }\nrespond = { status = 200, body = 'x' }\n\
         response = { headers = { set = { x-a = '#{status}' } } }\n".to_owned(),
    ];
    let (_ringgate, listen) = started(free_address(), &rules.concat());
    let answer = get(listen, "/gone");
    assert_eq!((answer.status(), answer.reason()), (502, "connect_failed"));
    assert_eq!(answer.header("x-a"), Some("502"));
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    assert_eq!(get(listen, "/say").header("x-a"), Some("200"));
}

#[test]
fn json_of_responses_is_changed() {
    let body = r#"{"data":[{"id":1,"secret":2},{"id":3}],"n":1.10}"#;
    let origin = Origin::script(move |conn| {
        while let Some(request) = conn.request()? {
            assert_eq!(request.header("range"), None);
            let json = "Content-Type: application/json\r\nETag: \"e\"\r\nContent-MD5: x\r\nAccept-Ranges: bytes\r\n";
            let (length, half) = (body.len(), body.len() / 2);
            let answer = match request.target() {
                "/json/chunks" => format!(
                    "HTTP/1.1 200 OK\r\n{json}Transfer-Encoding: chunked\r\n\r\n{half:x}\r\n{}\r\n{:x}\r\n{}\r\n0\r\nX-T: 1\r\n\r\n",
                    &body[..half],
                    length - half,
                    &body[half..]
                ),
                "/json/text" | "/strict/text" => {
                    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
                        .to_owned()
                }
                "/json/coded" => format!(
                    "HTTP/1.1 200 OK\r\n{json}Content-Encoding: br\r\nContent-Length: 2\r\n\r\nok"
                ),
                "/json/broken" | "/strict/broken" => {
                    format!("HTTP/1.1 200 OK\r\n{json}Content-Length: 2\r\n\r\n{{]")
                }
                "/json/long" | "/strict/long" => format!(
                    "HTTP/1.1 200 OK\r\n{json}Content-Length: 2000\r\n\r\n{}",
                    "1".repeat(2000)
                ),
                "/json/none" => format!("HTTP/1.1 204 No Content\r\n{json}\r\n"),
                "/json/known" | "/text/known" => {
                    format!("HTTP/1.1 304 Not Modified\r\n{json}\r\n")
                }
                "/json/head" => {
                    format!("HTTP/1.1 200 OK\r\n{json}Content-Length: {length}\r\n\r\n")
                }
                "/json/until" => {
                    conn.send(format!("HTTP/1.1 200 OK\r\n{json}\r\n{body}"))?;
                    return Ok(());
                }
                _ => format!("HTTP/1.1 200 OK\r\n{json}Content-Length: {length}\r\n\r\n{body}"),
            };
            conn.send(answer)?;
        }
        Ok(())
    });
    let map =
        "json = { remove = ['data.*.secret'], set = { by = '#{client_ip}' } }, limit = '1KiB'";
    let rules = [
        rule("json", &format!("response = {{ {map} }}")),
        rule("strict", &format!("response = {{ {map}, strict = true }}")),
        rule("text", "response = { headers = { set = { x-a = '1' } } }"),
    ];
    let (ringgate, listen) = started(origin.address, &rules.concat());
    let expected = r#"{"data":[{"id":1},{"id":3}],"n":1.10,"by":"127.0.0.1"}"#;
    let mut client = Client::connect(listen);
    for path in ["/json/plain", "/json/chunks", "/strict/plain", "/json/until"] {
        client.send(format!(
            "GET {path} HTTP/1.1\r\nHost: a.test\r\nAccept-Encoding: gzip\r\nRange: bytes=0-1\r\n\r\n"
        ));
        let answer = client.response();
        assert_eq!((answer.status(), answer.text().as_str()), (200, expected), "{path}");
        assert_eq!(answer.header("etag"), Some("W/\"e\""), "{path}");
        for gone in ["content-md5", "accept-ranges", "transfer-encoding"] {
            assert_eq!(answer.header(gone), None, "{path}");
        }
        // To say nothing would be to take any (RFC 9110 section 12.5.3).
        assert_eq!(origin.last().all("accept-encoding"), ["identity"]);
    }
    assert_eq!(origin.connections(), 1, "whole bodies leave connections in use");
    for (path, body) in [
        ("/json/text", "ok".to_owned()),
        ("/json/coded", "ok".to_owned()),
        ("/json/broken", "{]".to_owned()),
        ("/json/long", "1".repeat(2000)),
    ] {
        let answer = client.get(path);
        assert_eq!((answer.status(), answer.text()), (200, body), "{path}");
        assert!(answer.header("etag").is_none_or(|tag| tag == "\"e\""), "{path}");
    }
    assert_eq!(client.get("/json/none").status(), 204);
    let head = client.send("HEAD /json/head HTTP/1.1\r\nHost: a.test\r\n\r\n").response_to("HEAD");
    assert_eq!((head.status(), head.header("content-length")), (200, None));
    // What it was told of was mapped, unless it has the target's own (RFC 9110 section 15.4.5).
    for (path, known, tag) in [
        ("/json/known", "If-None-Match: W/\"e\"", "W/\"e\""),
        ("/json/known", "If-None-Match: \"e\"", "\"e\""),
        ("/json/known", "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT", "W/\"e\""),
        ("/text/known", "If-None-Match: W/\"e\"", "\"e\""),
    ] {
        let answer = ask(listen, &format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n{known}"), "");
        assert_eq!((answer.status(), answer.all("etag")), (304, vec![tag]), "{path} {known}");
    }
    for path in ["/strict/text", "/strict/broken", "/strict/long"] {
        let answer = client.get(path);
        assert_eq!((answer.status(), answer.reason()), (502, "bad_response_json"), "{path}");
    }
    for (reason, count) in [("media_type", 2.0), ("too_large", 2.0), ("malformed", 3.0)] {
        let series = format!("ringgate_unmapped_bodies_total{{reason=\"{reason}\"}}");
        assert_eq!(ringgate.metric(&series), Some(count), "{reason}");
    }
}

/// Hazard H1-18: what was replaced is taken off its connection, or the connection is not used again.
#[test]
fn bodies_of_responses_are_replaced() {
    let origin = Origin::script(|conn| {
        while let Some(request) = conn.request()? {
            let fields = "Content-Type: text/html\r\nETag: \"e\"\r\nLast-Modified: x\r\nContent-Encoding: br\r\n\
                          Content-Language: de\r\nAccept-Ranges: bytes\r\nX-Kept: 1\r\n";
            let body = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad";
            let answer = match request.target() {
                "/page/chunks" => format!("HTTP/1.1 200 OK\r\n{fields}Transfer-Encoding: chunked\r\n\r\n2a\r\n{body}\r\n0\r\n\r\n").replace("2a", &format!("{:x}", body.len())),
                "/page/long" => format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 1000000\r\n\r\n{body}"),
                "/page/part" => format!("HTTP/1.1 206 Partial Content\r\n{fields}Content-Range: bytes 0-2/9\r\nContent-Length: 3\r\n\r\nbad"),
                "/page/error" => format!("HTTP/1.1 404 Not Found\r\n{fields}Content-Length: 3\r\n\r\nbad"),
                "/page/empty" => format!("HTTP/1.1 304 Not Modified\r\n{fields}\r\n"),
                _ if request.method() == "HEAD" => format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 99\r\n\r\n"),
                _ => format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len()),
            };
            conn.send(answer)?;
        }
        Ok(())
    });
    let rules = rule(
        "page",
        "response = { body = '{\"s\":#{status},\"q\":\"#{query.q}\"}', content_type = 'application/json' }",
    );
    let (_ringgate, listen) = started(origin.address, &rules);
    let mut client = Client::connect(listen);
    let replaced = r#"{"s":200,"q":"\u003c\u003e"}"#;
    for path in ["/page", "/page/chunks", "/page/part"] {
        assert_eq!(client.get(path).text(), r#"{"s":200,"q":""}"#, "{path}");
    }
    assert_eq!(origin.connections(), 1);
    let answer = client.get("/page?q=%3C%3E");
    assert_eq!((answer.status(), answer.text().as_str()), (200, replaced));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("x-kept"), Some("1"));
    for gone in [
        "etag",
        "last-modified",
        "content-encoding",
        "content-language",
        "accept-ranges",
        "content-range",
    ] {
        assert_eq!(answer.header(gone), None, "{gone}");
    }
    let answer = client.get("/page/part");
    assert_eq!((answer.status(), answer.header("content-range")), (200, None));
    let answer = client.get("/page/error");
    assert_eq!((answer.status(), answer.text().as_str()), (404, "bad"));
    let answer = client.send("HEAD /page HTTP/1.1\r\nHost: a.test\r\n\r\n").response_to("HEAD");
    let length = r#"{"s":200,"q":""}"#.len().to_string();
    assert_eq!((answer.status(), answer.header("content-length")), (200, Some(&*length)));
    assert_eq!(client.get("/page/empty").status(), 304);
    let before = origin.connections();
    assert_eq!(client.get("/page/long").status(), 200);
    assert_eq!(client.get("/page").status(), 200);
    assert_eq!(origin.connections(), before + 1, "what is not drained is not used again");
    assert_eq!(client.get("/page").text(), r#"{"s":200,"q":""}"#);
}

#[test]
fn errors_have_pages() {
    let origin = Origin::script(|conn| {
        while let Some(request) = conn.request()? {
            let status = request.target().rsplit('/').next().unwrap_or_default().to_owned();
            conn.send(format!("HTTP/1.1 {status} X\r\nContent-Length: 3\r\nETag: \"e\"\r\nRetry-After: 9\r\n\r\nbad"))?;
        }
        Ok(())
    });
    let (listen, dead) = (free_address(), free_address());
    let pages = "errors = [\n\
        { status = ['502-504'], body = '<p>#{reason}: #{detail}</p><i>#{header.user-agent}</i>', status_to = 503 },\n\
        { status = '500', from = 'targets', body = '{\"title\":\"#{status}\",\"id\":\"#{request_id}\"}', content_type = 'application/problem+json' },\n\
        { status = '404', from = 'all', file = 'lost.html' } ]\n";
    let rules = [
        rule("app", pages),
        rule("plain", ""),
        format!("[[rule]]\nname = 'dead'\nwhen = {{ path = '/dead*' }}\nforward = 'dead'\n{pages}"),
        format!("[group.dead]\ntargets = ['{dead}']\nhealth = {{ type = 'off' }}\n"),
    ];
    let listener = "errors = [{ status = ['400-599'], from = 'all', body = 'sorry #{status} #{reason}', content_type = 'text/plain' }]";
    let text = file(listen, origin.address, &rules.concat()).replacen(
        "name = \"web\"",
        &format!("name = \"web\"\n{listener}"),
        1,
    );
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("lost.html");
    std::fs::write(&page, "<h1>lost</h1> #{path}").unwrap();
    let text = text.replace("'lost.html'", &format!("'{}'", page.display()));
    let ringgate = Ringgate::start_in(dir, &text);
    let answer = ask(listen, "GET /dead HTTP/1.1\r\nHost: a.test\r\nUser-Agent: <b>", "");
    assert_eq!((answer.status(), answer.reason()), (503, "connect_failed"));
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(answer.text().starts_with("<p>connect_failed: No connection"), "{}", answer.text());
    assert!(answer.text().ends_with("<i>&lt;b&gt;</i>"), "{}", answer.text());
    assert!(answer.header("retry-after").is_some() && answer.header("x-request-id").is_some());
    let head = ask(listen, "HEAD /dead HTTP/1.1\r\nHost: a.test\r\nUser-Agent: <b>", "");
    assert_eq!(
        (head.status(), head.header("content-length")),
        (503, answer.header("content-length"))
    );
    let answer = get(listen, "/app/500");
    assert_eq!((answer.status(), answer.header("etag")), (500, None));
    assert_eq!(answer.header("retry-after"), Some("9"));
    let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(problem["title"], "500");
    // A page of ringgate's own is none for targets: the listener's is.
    assert_eq!(get(listen, "/app/502").text(), "sorry 502 ");
    assert_eq!(get(listen, "/app/404").text(), "<h1>lost</h1> app/404");
    assert_eq!(get(listen, "/app/200").text(), "bad");
    assert_eq!(get(listen, "/plain/503").text(), "sorry 503 ");
    assert_eq!(get(listen, "/nobody").text(), "sorry 404 no_route");
    let refused = ask(listen, "GET / HTTP/1.1\r\nHost: a b", "");
    assert_eq!((refused.status(), refused.text().as_str()), (400, "sorry 400 host_invalid"));
    // A call of gRPC is told in its own way.
    let call = ask(
        listen,
        "POST /dead HTTP/1.1\r\nHost: a.test\r\nContent-Type: application/grpc\r\nTE: trailers",
        "x",
    );
    assert_eq!(
        (call.status(), call.header("grpc-status"), call.text().as_str()),
        (200, Some("14"), "")
    );
    // The file is read again.
    std::fs::write(&page, "<h1>found</h1>").unwrap();
    ringgate.reload(&text);
    eventually("the page is the new one", || get(listen, "/app/404").text() == "<h1>found</h1>");
}

#[test]
fn answers_lie_in_files_and_are_made() {
    let listen = free_address();
    let dir = tempfile::tempdir().unwrap();
    let logo = dir.path().join("logo.svg");
    std::fs::write(&logo, "<svg>#{not a template}</svg>").unwrap();
    let rules = "[[rule]]\nname = 'logo'\nwhen = { path = '/logo' }\nrespond = { file = 'logo.svg', headers = { cache-control = 'max-age=60' } }\n\
         [[rule]]\nname = 'hi'\nwhen = { path = '/hi/*', host = '*.test' }\n\
         respond = { status = 201, body = '{\"to\":\"#{capture.1}\",\"at\":\"#{host.1}\",\"m\":\"#{method}\"}', \
         content_type = 'application/json', headers = { x-id = '#{request_id}', x-none = '#{header.x-none}' } }\n";
    let text = file(listen, free_address(), rules);
    let ringgate = Ringgate::start_in(dir, &text);
    let answer = get(listen, "/logo");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "<svg>#{not a template}</svg>"));
    assert_eq!(answer.header("content-type"), Some("image/svg+xml"));
    assert_eq!(answer.header("cache-control"), Some("max-age=60"));
    let tag = answer.header("etag").unwrap().to_owned();
    let head = ask(listen, "HEAD /logo HTTP/1.1\r\nHost: a.test", "");
    assert_eq!((head.status(), head.header("content-length")), (200, Some("28")));
    for (known, status) in [
        (tag.clone(), 304),
        (format!("\"x\", W/{tag}"), 304),
        ("*".to_owned(), 304),
        ("\"x\"".to_owned(), 200),
    ] {
        let head = format!("GET /logo HTTP/1.1\r\nHost: a.test\r\nIf-None-Match: {known}");
        let answer = ask(listen, &head, "");
        assert_eq!((answer.status(), answer.header("etag")), (status, Some(&*tag)), "{known}");
        let (length, body) = if status == 304 { (None, 0) } else { (Some("28"), 28) };
        assert_eq!((answer.header("content-length"), answer.body.len()), (length, body), "{known}");
    }
    let answer = ask(listen, "POST /hi/a%20%22b HTTP/1.1\r\nHost: shop.test", "ignored");
    assert_eq!(
        (answer.status(), answer.text().as_str()),
        (201, r#"{"to":"a%20%22b","at":"shop","m":"POST"}"#)
    );
    assert_eq!(
        (answer.header("x-id"), answer.header("x-none")),
        (answer.header("x-request-id").or(answer.header("x-id")), None)
    );
    std::fs::write(&logo, "<svg/>").unwrap();
    ringgate.reload(&text);
    let answer = get(listen, "/logo");
    assert!(answer.text() == "<svg/>" && answer.header("etag") != Some(&*tag));
}

#[test]
fn streams_of_http2_are_changed_alike() {
    let origin = H2Origin::script(&[], |conn| {
        while let Some((stream, request)) = conn.request() {
            let path = request.header(":path").unwrap_or_default().to_owned();
            let fields =
                [("content-type", "application/json"), ("etag", "\"e\""), ("set-cookie", "a=1")];
            conn.answer(stream, &fields, format!("{{\"path\":\"{path}\",\"x\":1}}").as_bytes());
        }
    });
    let listen = free_address();
    let rules = [
        rule(
            "json",
            "request = { path = '/v2/#{host}', json = { set = { a = 1 } }, headers = { set = { x-a = '#{method}' } } }\n\
             response = { json = { remove = ['x'] }, cookies = { secure = true }, headers = { set = { x-s = '#{status}' } } }",
        ),
        rule("page", "response = { body = 'made', status = { '200' = 203 } }"),
    ];
    let text = file(listen, origin.address, &rules.concat()).replacen(
        "[group.all]",
        "[group.all]\nprotocol = \"h2c\"",
        1,
    );
    let _ringgate = Ringgate::start(&text);
    let mut h2 = H2::open(listen);
    let json = [("content-type", "application/json"), ("content-length", "8")];
    h2.head(1, 4, &request_with("POST", "/json", &json));
    h2.frame(0, 1, 1, r#"{"b": 2}"#);
    let answer = h2.outcome(1).answer();
    assert_eq!((answer.status(), answer.text().as_str()), (200, r#"{"path":"/v2/a.test"}"#));
    assert_eq!(answer.header("etag"), Some("W/\"e\""));
    assert_eq!(answer.header("set-cookie"), Some("a=1; Secure"));
    assert_eq!(answer.header("x-s"), Some("200"));
    let sent = origin.requests().pop().unwrap();
    assert_eq!((sent.text().as_str(), sent.header("x-a")), (r#"{"b":2,"a":1}"#, Some("POST")));
    let answer = h2.fetch(3, "/page");
    assert_eq!((answer.status(), answer.text().as_str()), (203, "made"));
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    // The same from a client of HTTP/1.
    let answer = get(listen, "/page");
    assert_eq!((answer.status(), answer.text().as_str()), (203, "made"));
}

/// Hazard H1-28: what a rule changes in heads comes by no trailer section.
#[test]
fn trailers_say_nothing_that_heads_may_not() {
    let fields = [("x-gone", "1"), ("x-old", "2"), ("x-new", "3"), ("x-set", "4"), ("x-sum", "5")];
    let origin = H2Origin::script(&[], move |conn| {
        while let Some((stream, _)) = conn.request() {
            conn.respond(stream, 0, "200", &[]);
            conn.data(stream, 0, b"x");
            conn.trailers(stream, &fields);
        }
    });
    let listen = free_address();
    let changes = "{ headers = { remove = ['x-gone'], rename = { x-old = 'x-new' }, set = { x-set = 'ours' } } }";
    let rules = rule("changed", &format!("request = {changes}\nresponse = {changes}"));
    let text = file(listen, origin.address, &rules);
    let _ringgate =
        Ringgate::start(&text.replacen("[group.all]", "[group.all]\nprotocol = \"h2c\"", 1));
    let mut h2 = H2::open(listen);
    h2.head(1, 4, &request_with("POST", "/changed", &[]));
    h2.frame(0, 0, 1, "x");
    let ours = [("x-ringgate-attempt", "7")];
    h2.head(1, 5, &[&fields[..], &ours[..]].concat());
    let answer = h2.outcome(1).answer();
    let kept = [("x-sum".to_owned(), "5".to_owned())];
    assert_eq!((answer.header("x-set"), answer.trailers.as_slice()), (Some("ours"), &kept[..]));
    let sent = origin.requests().pop().unwrap();
    assert_eq!((sent.header("x-set"), sent.trailers.as_slice()), (Some("ours"), &kept[..]));
}

#[test]
fn what_cannot_work_is_said_before_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.toml");
    let check = |rules: &str, parts: &[&str]| {
        std::fs::write(&path, file(free_address(), free_address(), rules)).unwrap();
        let (code, text) = support::ringgate::command(&["check", "-c", path.to_str().unwrap()]);
        assert_eq!(code, 2, "{text}");
        parts.iter().for_each(|part| assert!(text.contains(part), "{text}\n--- without {part}"));
    };
    check(
        &format!(
            "[policy.known.basic]\nusers = {{ ann = '{QUICK}' }}\nheader = 'X-User'\n{}",
            rule("r", "policy = 'known'\nrequest = { headers = { set = { X-User = 'admin' } } }")
        ),
        &["rule.r.request.headers: found x-user, by which a policy tells targets"],
    );
    let page = dir.path().join("page.html");
    std::fs::write(&page, "#{nope}").unwrap();
    check(
        &format!(
            "[[rule]]\nname = 's'\nwhen = {{ path = '/s' }}\nrespond = {{ file = 'no/such.html' }}\n{}",
            rule("r", &format!("errors = [{{ status = '500', file = '{}' }}]", page.display()))
        ),
        &["/no/such.html: No such file", "rule.r.errors.file: ", "a template that is none"],
    );
    std::fs::write(&page, vec![b'x'; (1 << 20) + 1]).unwrap();
    check(
        &format!(
            "[[rule]]\nname = 's'\nwhen = {{ path = '/s' }}\nrespond = {{ file = '{}' }}\n",
            page.display()
        ),
        &["1048577 octets, expected at most 1048576"],
    );
}
