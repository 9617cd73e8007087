//! Fields that change what a request means to the next hop: Connection, Expect, Upgrade, and twins of our own.
//!
//! Hazards H1-15, H1-20 to H1-22, and the nominations of RFC 9110 section 7.6.1.

use super::{Basket, METHODS, TOKEN, smuggled, smuggled_chunk};

fn with(method: &str, fields: &str) -> Vec<u8> {
    let inside = smuggled();
    let length = inside.len();
    format!("{method} /{TOKEN} HTTP/1.1\r\nHost: a.test\r\n{fields}Content-Length: {length}\r\n\r\n{inside}")
        .into_bytes()
}

fn chunked(method: &str, fields: &str) -> Vec<u8> {
    let inside = smuggled_chunk();
    format!("{method} /{TOKEN} HTTP/1.1\r\nHost: a.test\r\n{fields}Transfer-Encoding: chunked\r\n\r\n{inside}")
        .into_bytes()
}

const NAMES: [&str; 34] = [
    "Content-Length",
    "Transfer-Encoding",
    "Host",
    "Authorization",
    "Cookie",
    "Connection",
    "Expect",
    "Upgrade",
    "TE",
    "Trailer",
    "Keep-Alive",
    "Proxy-Connection",
    "Proxy-Authorization",
    "Proxy",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Forwarded-Port",
    "X-Real-IP",
    "X-Request-Id",
    "Forwarded",
    "Via",
    "Content-Type",
    "Date",
    "Origin",
    "Referer",
    "User-Agent",
    "Max-Forwards",
    "HTTP2-Settings",
    "X-Ringgate-Reason",
    "If-None-Match",
    "Range",
    "X-Custom",
    "Accept-Encoding",
];

/// Nominating what must not be nominated, in every spelling.
pub fn connection(basket: &mut Basket) {
    for name in NAMES {
        for method in ["GET", "POST"] {
            for value in [
                name.to_owned(),
                name.to_ascii_lowercase(),
                format!("close, {name}"),
                format!("{name}, keep-alive"),
                format!("keep-alive,{name}"),
                format!("\"{name}\""),
                format!("{name};x"),
                format!("{name} x"),
                format!(",{name}"),
                format!("{name},"),
                format!("\t{name}\t"),
                name.replace('-', "_"),
                format!("{name}\0"),
                format!("x\r\nConnection: {name}"),
                format!("{name}\r\n , x"),
            ] {
                let fields = format!("Connection: {value}\r\n{name}: x\r\n");
                // The value given may itself be a length that ends before the hidden request.
                basket.never("connection", with(method, &fields));
                basket.never("connection", chunked(method, &format!("Connection: {value}\r\n")));
                basket.never("connection", with(method, &format!("Connection: {value}\r\n")));
            }
        }
    }
    for value in [
        "",
        ",",
        ", ,",
        "close, close",
        "keep-alive, close",
        "close\r\nConnection: keep-alive",
        "CLOSE",
        "closed",
        "close;",
        "\"close\"",
        "clo\0se",
        "close\u{a0}",
    ] {
        for method in METHODS {
            basket.never("connection", with(method, &format!("Connection: {value}\r\n")));
            basket.never(
                "connection",
                with(method, &format!("Proxy-Connection: {value}\r\nKeep-Alive: {value}\r\n")),
            );
        }
    }
    let many: String = (0..60).map(|i| format!("x-{i}, ")).collect();
    basket.never("connection", with("POST", &format!("Connection: {many}\r\n")));
}

/// Expectations, with the body at once.
pub fn expect(basket: &mut Basket) {
    let values = [
        "100-continue",
        "100-Continue",
        "100-CONTINUE",
        " 100-continue ",
        "100-continue\t",
        "100-continue,",
        ",100-continue",
        "100-continue, x",
        "x, 100-continue",
        "y 100-continue",
        "100-continue 100-continue",
        "100-continue, 100-continue",
        "100-continue\r\nExpect: 100-continue",
        "100-continue\r\nExpect: x",
        "x\r\nExpect: 100-continue",
        "",
        "x",
        "100",
        "100-continu",
        "100-continues",
        "200-ok",
        "\"100-continue\"",
        "100-continue;a=b",
        "100-continue\0",
        "\u{b}100-continue",
        "100-continue\u{b}",
        "100-continue\u{a0}",
        "\r\n 100-continue",
        "100-\r\n continue",
        "1\u{30}0-continue",
        "100_continue",
        "100-continue\r",
        "101-continue",
        "100-CONTINUE\u{20}x",
        "=100-continue",
    ];
    for value in values {
        for method in METHODS {
            let fields = format!("Expect: {value}\r\n");
            basket.never("expect", with(method, &fields));
            basket.never("expect", chunked(method, &fields));
            // Without a body, and with one that never comes whole.
            let head = format!("{method} /{TOKEN} HTTP/1.1\r\nHost: a.test\r\n{fields}");
            basket.perhaps("expect", format!("{head}\r\n").into_bytes());
            basket.perhaps(
                "expect",
                format!("{head}Content-Length: 0\r\n\r\n{}", smuggled()).into_bytes(),
            );
            basket.never(
                "expect",
                format!("{head}Content-Length: 5000\r\n\r\n{}", smuggled()).into_bytes(),
            );
            let old = format!(
                "{method} /{TOKEN} HTTP/1.0\r\nHost: a.test\r\n{fields}Content-Length: {}\r\n\r\n{}",
                smuggled().len(),
                smuggled()
            );
            basket.never("expect", old.into_bytes());
        }
    }
}

/// Upgrades that are not served: what follows must not be taken for a tunnel.
pub fn upgrade(basket: &mut Basket) {
    let values = [
        "h2c",
        "H2C",
        "h2",
        "websocket",
        "WebSocket",
        "websocket, h2c",
        "h2c, websocket",
        "TLS/1.0",
        "HTTP/2.0",
        "h2c\r\nUpgrade: websocket",
        "",
        "x",
        "h2c,",
        "\"h2c\"",
        "h2c\0",
    ];
    let connections = [
        "Upgrade",
        "upgrade, HTTP2-Settings",
        "Upgrade, HTTP2-Settings",
        "keep-alive, Upgrade",
        "close, Upgrade",
        "HTTP2-Settings",
        "",
    ];
    let more = [
        "",
        "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
        "HTTP2-Settings:\r\n",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
        "Sec-WebSocket-Version: 777\r\n",
    ];
    for value in values {
        for connection in connections {
            for more in more {
                let fields = format!("Upgrade: {value}\r\nConnection: {connection}\r\n{more}");
                basket.never("upgrade", with("GET", &fields));
                basket.never("upgrade", chunked("POST", &fields));
                // Behind a GET without a body comes a request, or the first frames of another protocol.
                let head = format!("GET /{TOKEN} HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n");
                basket.perhaps("upgrade", format!("{head}{}", smuggled()).into_bytes());
                basket.never(
                    "upgrade",
                    format!(
                        "{head}PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0{}",
                        smuggled()
                    )
                    .into_bytes(),
                );
            }
        }
    }
}

/// Twins of fields that are stripped, added or believed: with underscores, repeated, and beside the real one.
pub fn twins(basket: &mut Basket) {
    for name in NAMES {
        let under = name.replace('-', "_");
        let spellings = [
            under.clone(),
            under.to_ascii_lowercase(),
            format!("HTTP_{under}"),
            format!("X-{name}"),
            format!("{name}_"),
            format!("_{name}"),
            name.replacen('-', "_", 1),
            name.replace('-', "."),
            name.replace('-', ""),
            name.replace('-', "--"),
            format!("{name}."),
        ];
        for spelling in spellings {
            for value in ["0", "chunked", "a.test", "h2c"] {
                basket.never("twin", with("POST", &format!("{spelling}: {value}\r\n")));
                basket.never("twin", chunked("PUT", &format!("{spelling}: {value}\r\n")));
            }
        }
        for value in ["192.0.2.1", "192.0.2.1, 192.0.2.2", "x\r\nX-A: y", "", "\u{e9}"] {
            basket.never("twin", with("GET", &format!("{name}: {value}\r\n{name}: {value}\r\n")));
        }
    }
    for count in [100, 126, 127, 128, 129, 200, 999, 1001, 5000] {
        let many: String = (0..count).map(|i| format!("X-{i}: y\r\n")).collect();
        basket.never("fields", with("POST", &many));
        basket.never("fields", chunked("GET", &many));
        let same: String = (0..count).map(|_| "X-A: y\r\n").collect();
        basket.never("fields", with("POST", &same));
        let hops: String = (0..count).map(|i| format!("10.0.0.{}, ", i % 256)).collect();
        basket.never("fields", with("POST", &format!("X-Forwarded-For: {hops}1\r\n")));
    }
    for size in [1 << 10, 8 << 10, 16_300, 16_384, 17_000, 33_000, 65_000, 66_000, 120_000] {
        basket.never("fields", with("POST", &format!("X-A: {}\r\n", "y".repeat(size))));
        basket.never("fields", with("POST", &format!("{}: y\r\n", "X".repeat(size))));
        basket.never("fields", with("POST", &format!("Cookie: {}\r\n", "a=b; ".repeat(size / 5))));
    }
}
