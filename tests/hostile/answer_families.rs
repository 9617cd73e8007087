//! The families of hostile answers: lengths, heads, extra octets, cuts, interim responses, sizes, octets.
//!
//! Hazards H1-32, RES-10, RES-11, UP-03, UP-08, UP-23. `answers` says what each expectation means.

use super::answers::{After, Expected, List};
use super::{TOKEN, cat};

/// Lengths that contradict each other or are none.
pub fn framing(list: &mut List) {
    let lengths = [
        "",
        "+5",
        "-5",
        "0x5",
        "5,5",
        "5, 5",
        "5;",
        "5 5",
        "5e0",
        "5.0",
        "five",
        "18446744073709551616",
        "99999999999999999999",
        "5\u{a0}",
        "\u{661}",
        "5\0",
    ];
    for value in lengths {
        list.refused("length", format!("HTTP/1.1 200 OK\r\nContent-Length: {value}\r\n\r\nhello"));
        list.refused(
            "length",
            format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: {value}\r\n\r\nhello"),
        );
    }
    for both in [
        "5\r\nContent-Length: 5",
        "5\r\nContent-Length: 6",
        "5\r\nTransfer-Encoding: chunked",
        "6\r\ncontent-length: 5",
    ] {
        list.refused(
            "length",
            format!("HTTP/1.1 200 OK\r\nContent-Length: {both}\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        );
    }
    let codings = [
        "",
        "x",
        "xchunked",
        "identity",
        "gzip",
        "gzip, chunked",
        "chunked, gzip",
        "chunked, chunked",
        "chunked,",
        ",chunked",
        "\"chunked\"",
        "chunked;a=b",
        "chunked\u{b}",
        "\u{a0}chunked",
        "chunked\r\nTransfer-Encoding: chunked",
        "chunked\r\nTransfer-Encoding: identity",
        "chunked\r\n x",
        "chun\0ked",
    ];
    for value in codings {
        list.refused(
            "coding",
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {value}\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        );
    }
    list.refused(
        "coding",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    );
    let chunks = [
        "\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhell\r\n0\r\n\r\n",
        "5\r\nhellooo\r\n0\r\n\r\n",
        "g\r\n",
        "ffffffffffffffffff\r\nhello",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "5;\0\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\n\r\n",
        "5\r\nhello\r\n0\r\nX\r\n\r\n",
        "5\r\nhello\r\n0\r\n: x\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: a\nY: b\r\n\r\n",
        "5\r\nhello\r\n0\r\n X: a\r\n\r\n",
        "5\r\nhello\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "1_0\r\nhello",
        "5\r\nhelloHTTP/1.1 200 OK\r\n\r\n",
    ];
    for body in chunks {
        list.broken(
            "chunk",
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}"),
        );
    }
}

/// Heads that are none.
pub fn heads(list: &mut List) {
    let heads = [
        "HTTP/1.1",
        "HTTP/1.1 \r\n\r\n",
        "HTTP/1.1 200",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 099 X\r\n\r\n",
        "HTTP/1.1 600 X\r\n\r\n",
        "HTTP/1.1 999 X\r\n\r\n",
        "HTTP/1.1 000 X\r\n\r\n",
        "HTTP/1.1 abc X\r\n\r\n",
        "HTTP/1.1 -20 X\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/1.1\t200 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.2 200 OK\r\n\r\n",
        "HTTP/0.9 200 OK\r\n\r\n",
        "HTTP/11 200 OK\r\n\r\n",
        "http/1.1 200 OK\r\n\r\n",
        " HTTP/1.1 200 OK\r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "\nHTTP/1.1 200 OK\r\n\r\n",
        "xHTTP/1.1 200 OK\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "200 OK\r\n\r\n",
        "garbage\r\n\r\n",
        "garbage",
        "\0",
        "\0\0\0\0\0\0\0\0",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\u{16}\u{3}\u{1}\0\u{5}hello",
        "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n",
        "<html>hello</html>",
        "{\"a\": 1}",
        "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\nhello",
        "HTTP/1.1 200 OK\rContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nX\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\n: x\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\n X: y\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nX: y\r\n z\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nX: y\r\n\tz\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nX\0: b\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 O\0K\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 O\rK\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nX Y: b\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\n(X): b\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\nPRI",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\ngarbage\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 101 X\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5",
        "",
    ];
    for head in heads {
        list.refused("head", head);
    }
}

/// Right answers with something behind them, and bodies where none may be.
pub fn extra(list: &mut List) {
    let poison =
        format!("HTTP/1.1 200 OK\r\nContent-Length: 15\r\nX-Poison: 1\r\n\r\npoison-{TOKEN}");
    let more: [&str; 7] = [
        &poison,
        "x",
        "\r\n",
        "\r\n\r\n",
        "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "0\r\n\r\n",
    ];
    for extra in more {
        list.exactly(
            "extra",
            "GET",
            format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello{extra}"),
            200,
            "hello",
        );
        list.exactly(
            "extra",
            "POST",
            format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello{extra}"),
            200,
            "hello",
        );
        let chunked = format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n{extra}"
        );
        list.exactly("extra", "GET", chunked, 200, "hello");
        list.exactly(
            "extra",
            "GET",
            format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n{extra}"),
            200,
            "",
        );
        list.exactly("extra", "GET", format!("HTTP/1.1 204 No Content\r\n\r\n{extra}"), 204, "");
        list.exactly(
            "extra",
            "GET",
            format!("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n{extra}"),
            304,
            "",
        );
        list.exactly(
            "extra",
            "HEAD",
            format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{extra}"),
            200,
            "",
        );
        list.exactly(
            "extra",
            "HEAD",
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{extra}"),
            200,
            "",
        );
    }
    for (method, status) in [("HEAD", 200), ("GET", 204), ("GET", 304)] {
        list.exactly(
            "extra-body",
            method,
            format!("HTTP/1.1 {status} X\r\nContent-Length: 5\r\n\r\nhello"),
            status,
            "",
        );
        list.exactly(
            "extra-body",
            method,
            format!(
                "HTTP/1.1 {status} X\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
            ),
            status,
            "",
        );
    }
    for (method, bytes) in [
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
        ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        ("POST", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
        ("GET", "HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 5\r\n\r\nhello"),
        (
            "POST",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        ),
    ] {
        let right = Expected::Exactly(200, b"hello".to_vec());
        for after in [After::Later, After::Stay, After::Close, After::Reset] {
            // A reset may overtake the answer, on the way to us and on the way to the client.
            let expected = if after == After::Reset { Expected::Anything } else { right.clone() };
            list.put("right", method, false, bytes.as_bytes().to_vec(), after, expected);
        }
    }
}

/// Right answers cut at every octet.
pub fn cuts(list: &mut List) {
    for whole in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3;a=b\r\nxyz\r\n0\r\nX-T: y\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    ] {
        let head = whole.rfind("HTTP/1.1").unwrap_or(0);
        let head = head + whole[head..].find("\r\n\r\n").unwrap_or(0) + 4;
        for cut in 0..whole.len() {
            if cut < head {
                list.refused("cut-head", &whole[..cut])
            } else {
                list.broken("cut-body", &whole[..cut])
            }
        }
    }
}

/// Interim responses, few and very many.
pub fn interim(list: &mut List) {
    let right = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    for status in [100, 102, 103, 150, 199] {
        for count in [1, 2, 8, 9, 50, 100] {
            let many = format!("HTTP/1.1 {status} X\r\nLink: a\r\n\r\n").repeat(count);
            list.exactly("interim", "GET", format!("{many}{right}"), 200, "hello");
            list.exactly("interim", "POST", format!("{many}{right}"), 200, "hello");
        }
        for count in [101, 1000, 20_000] {
            let many = format!("HTTP/1.1 {status} X\r\n\r\n").repeat(count);
            list.refused("interim", format!("{many}{right}"));
        }
        list.refused("interim", format!("HTTP/1.1 {status} X\r\n\r\n"));
        // A body where none can be is the next response's beginning.
        list.refused(
            "interim",
            format!("HTTP/1.1 {status} X\r\nContent-Length: 5\r\n\r\nhello{right}"),
        );
    }
}

/// More than a head may be.
pub fn large(list: &mut List) {
    for size in [70_000, 1_000_000] {
        let x = "x".repeat(size);
        list.refused("large", format!("HTTP/1.1 200 {x}\r\nContent-Length: 0\r\n\r\n"));
        list.refused("large", format!("HTTP/1.1 200 OK\r\nX: {x}\r\nContent-Length: 0\r\n\r\n"));
        list.refused("large", format!("HTTP/1.1 200 OK\r\n{x}: y\r\nContent-Length: 0\r\n\r\n"));
        list.refused(
            "large",
            format!("HTTP/1.1 200 OK\r\n{}\r\n\r\n", "X: y\r\n".repeat(size / 6)),
        );
        list.refused("large", &x);
        list.refused("large", "\r\n".repeat(size / 2));
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        list.broken("large", format!("{head}5;{x}\r\nhello\r\n0\r\n\r\n"));
        list.broken("large", format!("{head}5\r\nhello\r\n0\r\nX: {x}\r\n\r\n"));
        list.broken("large", format!("{head}{}5\r\nhello\r\n0\r\n\r\n", "0".repeat(size)));
    }
}

/// Every octet in every place.
pub fn octets(list: &mut List) {
    for octet in 0..=255_u8 {
        let c = &[octet];
        let end = b"Content-Length: 5\r\n\r\nhello";
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        for bytes in [
            cat(&[c, b"HTTP/1.1 200 OK\r\n", end]),
            cat(&[b"HTTP/1.", c, b" 200 OK\r\n", end]),
            cat(&[b"HTTP/1.1", c, b"200 OK\r\n", end]),
            cat(&[b"HTTP/1.1 20", c, b" OK\r\n", end]),
            cat(&[b"HTTP/1.1 200", c, b"OK\r\n", end]),
            cat(&[b"HTTP/1.1 200 O", c, b"K\r\n", end]),
            cat(&[b"HTTP/1.1 200 OK\r", c, b"\n", end]),
            cat(&[b"HTTP/1.1 200 OK\r\n", c, b"X: y\r\n", end]),
            cat(&[b"HTTP/1.1 200 OK\r\nX", c, b": y\r\n", end]),
            cat(&[b"HTTP/1.1 200 OK\r\nX: ", c, b"y\r\n", end]),
            cat(&[b"HTTP/1.1 200 OK\r\nContent-Length", c, b": 5\r\n\r\nhello"]),
            cat(&[b"HTTP/1.1 200 OK\r\nContent-Length: ", c, b"5\r\n\r\nhello"]),
            cat(&[
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: ",
                c,
                b"chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            ]),
            cat(&[chunked, c, b"5\r\nhello\r\n0\r\n\r\n"]),
            cat(&[chunked, b"5", c, b"\r\nhello\r\n0\r\n\r\n"]),
            cat(&[chunked, b"5;a", c, b"\r\nhello\r\n0\r\n\r\n"]),
            cat(&[chunked, b"5\r\nhello", c, b"\r\n0\r\n\r\n"]),
            cat(&[chunked, b"5\r\nhello\r\n0\r\n", c, b"X: y\r\n\r\n"]),
        ] {
            list.put("octet", "GET", false, bytes, After::Close, Expected::Anything);
        }
    }
}
