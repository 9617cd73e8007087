//! Hosts and targets, wrong in every way that somebody once accepted.
//!
//! Hazards H1-23 to H1-25. The hidden request is the body of the odd one, and stays there.

use super::{Basket, METHODS, TOKEN, smuggled, tokened};

pub fn post(start: &str, fields: &str) -> Vec<u8> {
    let inside = smuggled();
    format!("{start}\r\n{fields}Content-Length: {}\r\n\r\n{inside}", inside.len()).into_bytes()
}

/// Host fields, alone and beside an absolute target that agrees or does not.
pub fn hosts(basket: &mut Basket) {
    let hosts = [
        "a.test",
        "A.TEST",
        "a.test.",
        "a.test:80",
        "a.test:080",
        "a.test:",
        "a.test:0",
        "a.test:65535",
        "a.test:65536",
        "a.test:99999",
        "a.test:-1",
        "a.test:+80",
        "a.test:8x",
        "a.test:80:80",
        "a.test :80",
        "a.test: 80",
        "",
        " ",
        "a..test",
        ".a.test",
        ".",
        "..",
        "-",
        "a.test, b.test",
        "a.test,b.test",
        "a.test b.test",
        "a.test;b.test",
        "a.test\tb.test",
        "user@a.test",
        "user:pw@a.test",
        "@a.test",
        "a.test@",
        "a.test/path",
        "/a.test",
        "a.test\\b",
        "a.test?x",
        "a.test#x",
        "a.test%2fb",
        "a%2etest",
        "a%00test",
        "%61.test",
        "http://a.test",
        "//a.test",
        "[::1]",
        "[::1]:80",
        "[::1",
        "::1]",
        "::1",
        "[::1]x",
        "[::1]:",
        "[v1.x]",
        "[fe80::1%25eth0]",
        "[::ffff:1.2.3.4]",
        "127.0.0.1",
        "127.1",
        "0x7f.1",
        "2130706433",
        "127.0.0.1:0",
        "localhost",
        "a_b.test",
        "a!b.test",
        "a'b.test",
        "a\"b.test",
        "a<b>.test",
        "a{b}.test",
        "a|b.test",
        "a^b.test",
        "a`b.test",
        "*.test",
        "*",
        "a\0.test",
        "a\x0b.test",
        "\u{e9}.test",
        "xn--a.test",
        "a\u{3002}test",
        "a.test\u{a0}",
        "a.test\r",
        "a.test\r\nHost: a.test",
        "a.test\r\nHost: b.test",
        "a.test\r\nhost:",
        "\r\nHost: a.test",
        "a.test\r\nHost : b.test",
        "a.test\r\n Host: b.test",
        "a.test\r\nX-Host: b.test",
        "a.test\r\nHost_: b.test",
        "a.test\r\nX-Forwarded-Host: b.test",
        "a.test\r\nForwarded: host=b.test",
    ];
    for host in hosts {
        for method in METHODS {
            basket.never(
                "host",
                post(&format!("{method} /{TOKEN} HTTP/1.1"), &format!("Host: {host}\r\n")),
            );
        }
        let plain = host.split('\r').next().unwrap_or_default();
        basket
            .never("host", post(&format!("POST /{TOKEN} HTTP/1.0"), &format!("Host: {host}\r\n")));
        basket.never(
            "host",
            post(&format!("POST http://{plain}/{TOKEN} HTTP/1.1"), "Host: a.test\r\n"),
        );
        basket.never(
            "host",
            post(&format!("POST http://{plain}/{TOKEN} HTTP/1.1"), &format!("Host: {host}\r\n")),
        );
        basket.never(
            "host",
            post(&format!("GET http://a.test/{TOKEN} HTTP/1.1"), &format!("Host: {host}\r\n")),
        );
        basket.never("host", post(&format!("GET http://{plain}/{TOKEN} HTTP/1.1"), ""));
        basket.never("host", post(&format!("GET http://{plain}/{TOKEN} HTTP/1.0"), ""));
    }
    for long in [100, 255, 256, 300, 1000, 5000] {
        basket.never(
            "host",
            post(
                &format!("GET /{TOKEN} HTTP/1.1"),
                &format!("Host: {}.test\r\n", "a".repeat(long)),
            ),
        );
        basket.never(
            "host",
            post(
                &format!("GET /{TOKEN} HTTP/1.1"),
                &format!("Host: {}test\r\n", "a.".repeat(long)),
            ),
        );
    }
    basket.never("host", post(&format!("GET /{TOKEN} HTTP/1.1"), ""));
}

/// Targets of every form.
pub fn targets(basket: &mut Basket) {
    let targets = [
        "",
        "*",
        "/",
        "//",
        "///T",
        "/T",
        "/T/",
        "/T//a",
        "//T",
        "/./T",
        "/../T",
        "/a/../T",
        "/a/../../T",
        "/a/./T",
        "/a/..;/T",
        "/..;/T",
        "/%2e/T",
        "/%2e%2e/T",
        "/%2E%2e/T",
        "/.%2e/T",
        "/a/%2e%2e/T",
        "/a%2f..%2fT",
        "/a%2fT",
        "/a%2FT",
        "/a%5cT",
        "/a\\T",
        "/a\\..\\T",
        "/%00T",
        "/T%00",
        "/T%",
        "/T%2",
        "/T%zz",
        "/T%0d%0aX:%20y",
        "/T%0aX",
        "/T%20HTTP/1.1",
        "/T%09",
        "/T%u002f",
        "/T%c0%af",
        "/T%e0%80%af",
        "/%54",
        "/T#f",
        "/T?a#f",
        "/T?",
        "/T??",
        "/T?a=b&c",
        "/T?a=%00",
        "/T?a=/../b",
        "/T;a=b",
        "/T;/../b",
        "/T:80",
        "/T@b",
        "/T!$&'()*+,;=",
        "/T~_-.",
        "/T\"",
        "/T<a>",
        "/T{a}",
        "/T|a",
        "/T^a",
        "/T`a",
        "/T[a]",
        "/T\u{e9}",
        "/T\u{7f}",
        "/T\u{1}",
        "/T\0",
        "/T a",
        "/T\ta",
        "/T  ",
        "/ T",
        "T",
        "a.test/T",
        "a.test:80",
        "a.test:80/T",
        "http:/T",
        "http:T",
        "http://",
        "http:///T",
        "http://a.test",
        "http://a.test?T",
        "http://a.test/T",
        "HTTP://a.test/T",
        "https://a.test/T",
        "http://A.TEST/T",
        "http://a.test:80/T",
        "http://a.test:81/T",
        "http://a.test:/T",
        "http://user@a.test/T",
        "http://a.test@b.test/T",
        "http://b.test/T",
        "http://a.test#/T",
        "http://a.test\\T",
        "http://a.test//T",
        "http://a.test/../T",
        "http://a.test/%2e%2e/T",
        "http://[::1]/T",
        "http:// a.test/T",
        "ftp://a.test/T",
        "file:///T",
        "javascript:T",
        "data:,T",
        "ws://a.test/T",
        "unix:/T",
        "gopher://a.test/T",
        "://a.test/T",
        "http//a.test/T",
        "h://a.test/T",
        "//a.test/T",
        "\\\\a.test\\T",
        "/http://a.test/T",
        "?T",
        "#T",
        ";T",
        ".T",
        "..",
        ".",
        "%2fT",
        "/T HTTP/1.0",
        "/T\u{a0}HTTP/1.1",
    ];
    for target in targets {
        let target = tokened(target);
        for method in METHODS {
            for version in ["1.1", "1.0"] {
                basket.never(
                    "target",
                    post(&format!("{method} {target} HTTP/{version}"), "Host: a.test\r\n"),
                );
            }
        }
    }
    for size in [1000, 7000, 8150, 8192, 16_300, 16_384, 20_000, 70_000] {
        let long = "a".repeat(size);
        basket.never("target", post(&format!("GET /{TOKEN}/{long} HTTP/1.1"), "Host: a.test\r\n"));
        basket.never("target", post(&format!("GET /{TOKEN}?{long} HTTP/1.1"), "Host: a.test\r\n"));
        let deep = "/a".repeat(size / 2);
        basket.never("target", post(&format!("GET {deep}/{TOKEN} HTTP/1.1"), "Host: a.test\r\n"));
        let up = "/a/..".repeat(size / 5);
        basket.never("target", post(&format!("GET {up}/{TOKEN} HTTP/1.1"), "Host: a.test\r\n"));
    }
}
