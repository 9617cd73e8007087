//! Several messages on one connection: good ones around a bad one, empty lines between, deep pipelines.
//!
//! Hazards H1-19, H1-29, H1-30: what follows a message that was refused is never read.

use super::{Basket, TOKEN, smuggled, tokened};

/// Heads that must be refused, whole.
const BAD: &[&str] = &[
    "GET  /T HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "GET /T  HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "GET /T HTTP/1.1\nHost: a.test\n\n",
    "GET /T HTTP/1.1\r\nHost: a.test\r\n\n",
    "GET /T HTTP/1.1\r\nHost: a.test\n\r\n",
    "GET /T\r\n\r\n",
    "GET /T HTTP/0.9\r\n\r\n",
    "GET /T HTTP/2.0\r\nHost: a.test\r\n\r\n",
    "GET /T HTTP/1.1\r\n\r\n",
    "GET /T HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "GET /T HTTP/1.1\r\nHost: a b\r\n\r\n",
    "GET /T HTTP/1.1\r\nHost: a.test\r\nX\r\n\r\n",
    "GET /T HTTP/1.1\r\nHost: a.test\r\n: x\r\n\r\n",
    "GET /T HTTP/1.1\r\nHost: a.test\r\nX : y\r\n\r\n",
    "GET /T HTTP/1.1\r\nHost: a.test\r\nX: a\r\n b\r\n\r\n",
    "GET /T HTTP/1.1\r\n Host: a.test\r\n\r\n",
    "GET /T HTTP/1.1\r\nHost: a.test\r\nX: a\0b\r\n\r\n",
    "GET /T HTTP/1.1\r\nHost: a.test\r\nX: a\rb\r\n\r\n",
    "GET /T# HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "GET /../T HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "GET /T%2f HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "GET T HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "GET * HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "GET http://b.test/T HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "GET ftp://a.test/T HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "TRACE /T HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "POST /T HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "POST /T HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5, 5\r\n\r\nhello",
    "POST /T HTTP/1.1\r\nHost: a.test\r\nContent-Length: +5\r\n\r\nhello",
    "POST /T HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0x5\r\n\r\nhello",
    "POST /T HTTP/1.1\r\nHost: a.test\r\nContent-Length:\r\n\r\n",
    "POST /T HTTP/1.1\r\nHost: a.test\r\nContent-Length: -1\r\n\r\n",
    "POST /T HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /T HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "POST /T HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
    "POST /T HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "POST /T HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /T HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
    "POST /T HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n",
    "POST /T HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
    "POST /T HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n1;a\nb\r\na\r\n0\r\n\r\n",
    "POST /T HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
    "POST /T HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX\r\n\r\n",
    "POST /T HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n0\r\n\r\n",
    "POST /T HTTP/1.1\r\nHost: a.test\r\nConnection: Content-Length\r\nContent-Length: 5\r\n\r\nhello",
    "POST /T HTTP/1.1\r\nHost: a.test\r\nExpect: x\r\nContent-Length: 5\r\n\r\nhello",
    "\0",
    "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{3}\u{3}",
    "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "\r\n\r\n\r\n\r\n",
    " \r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "GARBAGE\r\n\r\n",
    "GET /T HTTP/1.1 \r\nHost: a.test\r\n\r\n",
    "GET /T HTTP/1.1\r\nHost: a.test\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n",
];

fn good(kind: usize, n: usize) -> String {
    match kind {
        0 => format!("GET /good{n}-{TOKEN} HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        1 => format!(
            "POST /good{n}-{TOKEN} HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello"
        ),
        2 => format!(
            "POST /good{n}-{TOKEN} HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        ),
        3 => format!("HEAD /good{n}-{TOKEN} HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        4 => format!(
            "PUT /local/good{n}-{TOKEN} HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc"
        ),
        _ => format!("OPTIONS * HTTP/1.1\r\nHost: a.test\r\nX-Token: {n}{TOKEN}\r\n\r\n"),
    }
}

/// Exactly the answers to what came before the bad one, one refusal, and the end.
pub fn good_bad_good(basket: &mut Basket) {
    for bad in BAD {
        let bad = tokened(bad);
        for kind in 0..6 {
            basket.never(
                "good-bad-good",
                format!("{}{bad}{}", good(kind, 1), smuggled()).into_bytes(),
            );
            basket.never(
                "good-bad-good",
                format!("{}{}{bad}{}", good(kind, 1), good(5 - kind, 2), smuggled()).into_bytes(),
            );
        }
        basket.never("good-bad-good", format!("{bad}{}", smuggled()).into_bytes());
    }
}

/// Empty lines, and what is not quite an empty line, before and between requests.
pub fn empty_lines(basket: &mut Basket) {
    for between in [
        "\r\n",
        "\n",
        "\r",
        "\n\r",
        "\r\r\n",
        " \r\n",
        "\t\r\n",
        "\0\r\n",
        "\r\n\n",
        "x\r\n",
        "\u{b}\r\n",
        "0\r\n",
    ] {
        for count in (0..12).chain([100, 4000, 20_000]) {
            let lines = between.repeat(count);
            basket.perhaps("empty-lines", format!("{lines}{}", smuggled()).into_bytes());
            basket.perhaps(
                "empty-lines",
                format!("{}{lines}{}", good(0, 1), smuggled()).into_bytes(),
            );
            basket.perhaps(
                "empty-lines",
                format!("{}{lines}{}", good(1, 1), smuggled()).into_bytes(),
            );
            basket.perhaps(
                "empty-lines",
                format!("{}{lines}{}", good(2, 1), smuggled()).into_bytes(),
            );
        }
    }
}

/// Pipelines of every mixture, and the last one cut at every octet.
pub fn pipelines(basket: &mut Basket) {
    for depth in 1..=24 {
        for first in 0..6 {
            let all: String = (0..depth).map(|n| good((first + n) % 6, n)).collect();
            basket.perhaps("pipeline", all.into_bytes());
            let same: String = (0..depth).map(|n| good(first, n)).collect();
            basket.perhaps("pipeline", same.into_bytes());
        }
    }
    for kind in 0..6 {
        let (whole, last) = (good(kind, 1), good(kind, 2));
        for cut in 0..last.len() {
            basket.perhaps("cut", format!("{whole}{}", &last[..cut]).into_bytes());
        }
    }
}
