//! Methods, versions and whole request lines, wrong in every way that somebody once accepted.
//!
//! Hazards H1-26 and H1-27. The hidden request is the body of the odd one, and stays there.

use super::heads::post;
use super::{Basket, METHODS, TOKEN, tokened};

/// Methods, versions, and the request line as a whole.
pub fn lines(basket: &mut Basket) {
    let methods = [
        "GET",
        "get",
        "Get",
        "gET",
        "GETGET",
        "GE",
        "GETX",
        "G",
        "",
        " ",
        "POST",
        "post",
        "HEAD",
        "head",
        "CONNECT",
        "connect",
        "TRACE",
        "TRACK",
        "PATCH",
        "PURGE",
        "PRI",
        "DEBUG",
        "M-SEARCH",
        "!#$%&'*+-.^_`|~",
        "0",
        "1",
        "GET,POST",
        "GET/",
        "GET:",
        "GET;",
        "GET\"",
        "(GET)",
        "GET@",
        "GET\u{e9}",
        "GET\0",
        "GET\t",
        "\tGET",
        " GET",
        "\u{feff}GET",
        "GET\u{b}",
        "GET\r",
        "\rGET",
        "\nGET",
        "GET POST",
        "GET  ",
        "AAAAAAAAAAAAAAAA",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "PROPFIND",
        "LOCK",
        "MKCOL",
        "SEARCH",
        "QUERY",
        "HTTP/1.1",
    ];
    let versions = [
        "HTTP/1.1",
        "HTTP/1.0",
        "HTTP/0.9",
        "HTTP/1.2",
        "HTTP/1.9",
        "HTTP/2.0",
        "HTTP/2",
        "HTTP/3",
        "HTTP/1",
        "HTTP/1.",
        "HTTP/.1",
        "HTTP/",
        "HTTP",
        "",
        " ",
        "http/1.1",
        "Http/1.1",
        "HTTP/01.1",
        "HTTP/1.01",
        "HTTP/1.10",
        "HTTP/11",
        "HTTP/1,1",
        "HTTP/1 .1",
        "HTTP /1.1",
        "HTTP/ 1.1",
        "HTTP/1.1 ",
        "HTTP/1.1\t",
        " HTTP/1.1",
        "\tHTTP/1.1",
        "HTTP/1.1x",
        "HTTP/1.1 x",
        "HTTP/1.1\0",
        "HTTP/1.1\r",
        "XHTTP/1.1",
        "HTTP\\1.1",
        "HTTP/-1.1",
        "HTTP/+1.1",
        "HTTP/1.1;a",
        "HTTPS/1.1",
        "SIP/2.0",
        "ICY/1.1",
        "RTSP/1.0",
        "HTTP/\u{ff11}.1",
        "HTTP/1.\u{661}",
        "HTTP/9.9",
    ];
    for method in methods {
        for version in ["HTTP/1.1", "HTTP/1.0", "HTTP/2.0", ""] {
            basket
                .never("method", post(&format!("{method} /{TOKEN} {version}"), "Host: a.test\r\n"));
            basket.never("method", post(&format!("{method} * {version}"), "Host: a.test\r\n"));
        }
    }
    for version in versions {
        for method in METHODS {
            for connection in ["", "Connection: keep-alive\r\n"] {
                let fields = format!("Host: a.test\r\n{connection}");
                basket.never("version", post(&format!("{method} /{TOKEN} {version}"), &fields));
            }
        }
    }
    for size in [33, 64, 1000, 10_000, 70_000] {
        basket.never(
            "method",
            post(&format!("{} /{TOKEN} HTTP/1.1", "A".repeat(size)), "Host: a.test\r\n"),
        );
    }
    let wholes = [
        "GET",
        "GET /T",
        "GET /T\r\nHTTP/1.1",
        "GET\r\n/T HTTP/1.1",
        "/T GET HTTP/1.1",
        "HTTP/1.1 200 OK",
        "HTTP/1.1 /T GET",
        "GET\t/T\tHTTP/1.1",
        "GET  /T  HTTP/1.1",
        "GET /T HTTP/1.1 HTTP/1.1",
        "GET /T /U HTTP/1.1",
        "GET\u{b}/T\u{b}HTTP/1.1",
        "GET\u{c}/T HTTP/1.1",
        "GET\u{a0}/T HTTP/1.1",
        "GET /T\u{85}HTTP/1.1",
        "\r GET /T HTTP/1.1",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET /T HTTP/1.1",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n",
        "\u{16}\u{3}\u{1}",
        "SSH-2.0-x",
        "EHLO a.test",
        "{\"a\": 1}",
        "<?xml version=\"1.0\"?>",
        "0\r\n\r\nGET /T HTTP/1.1",
        "GET /T HTTP/1.1\r\n\r\nGET /T HTTP/1.1",
    ];
    for whole in wholes {
        for fields in ["Host: a.test\r\n", "", "Host: a.test\r\nConnection: close\r\n"] {
            basket.perhaps("request-line", post(&tokened(whole), fields));
        }
    }
}
