//! Line ends, folds, and every octet in every place of a head.
//!
//! Hazards H1-09 to H1-14. The hidden request is the body; a head that is taken apart elsewhere sets it free.

use super::{Basket, METHODS, TOKEN, cat, smuggled, smuggled_chunk};

/// Whole requests whose line ends are then broken one at a time.
fn bases() -> Vec<Vec<String>> {
    let inside = smuggled();
    let lines = |text: &str| text.split("\r\n").map(str::to_owned).collect::<Vec<String>>();
    vec![
        lines(&format!(
            "POST /{TOKEN} HTTP/1.1\r\nHost: a.test\r\nX-A: b\r\nContent-Length: {}\r\nX-C: d\r\n",
            inside.len()
        )),
        lines(&format!(
            "POST /{TOKEN} HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nX-C: d\r\n"
        )),
        lines(&format!(
            "GET /{TOKEN} HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n",
            inside.len()
        )),
        lines(&format!(
            "PUT /{TOKEN} HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\nContent-Length: {}\r\n",
            inside.len()
        )),
        lines(&format!(
            "OPTIONS /{TOKEN} HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: {}\r\n",
            inside.len()
        )),
    ]
}

/// Each line end of each base replaced by each wrong one; then all of them at once.
pub fn ends(basket: &mut Basket) {
    let odd: [&[u8]; 22] = [
        b"\n",
        b"\r",
        b"\r\r\n",
        b"\n\r",
        b"\r\n\n",
        b"\n\r\n",
        b"\r\n\r\n",
        b"",
        b" \r\n",
        b"\t\r\n",
        b"\0\r\n",
        b"\r\0\n",
        b"\x0b\r\n",
        b"\x0c\r\n",
        b"\x85",
        b"\xe2\x80\xa8",
        b"\r \n",
        b"\\r\\n",
        b"%0d%0a",
        b"\r\n \r\n",
        b"\r\n\t",
        b"\n\n",
    ];
    for base in bases() {
        let chunked = base.iter().any(|l| l.contains("chunked"));
        let body = if chunked { smuggled_chunk() } else { smuggled() };
        for end in odd {
            for broken in 0..base.len() {
                let mut bytes = Vec::new();
                for (i, line) in base.iter().enumerate() {
                    bytes.extend_from_slice(line.as_bytes());
                    bytes.extend_from_slice(if i == broken { end } else { b"\r\n" });
                }
                bytes.extend_from_slice(body.as_bytes());
                // An end too many cuts the fields off that make the rest a body; what is no end at all makes one line of two.
                let cut = end.starts_with(b"\r\n") || !end.iter().any(u8::is_ascii_control);
                if cut {
                    basket.perhaps("line-end", bytes)
                } else {
                    basket.never("line-end", bytes)
                }
            }
            let mut all: Vec<u8> = base.iter().flat_map(|l| [l.as_bytes(), end].concat()).collect();
            all.extend_from_slice(body.as_bytes());
            basket.perhaps("line-end", all);
        }
    }
}

/// Folds before and inside the fields that matter, and lines that are no fields.
pub fn folds(basket: &mut Basket) {
    let inside = smuggled();
    let n = inside.len();
    let fields = [
        ("Host", "a.test".to_owned()),
        ("Content-Length", n.to_string()),
        ("Transfer-Encoding", "chunked".to_owned()),
        ("Authorization", "Basic eA==".to_owned()),
        ("Cookie", "a=b".to_owned()),
        ("Connection", "close".to_owned()),
        ("Expect", "100-continue".to_owned()),
        ("X-Forwarded-For", "192.0.2.1".to_owned()),
        ("X-A", "b".to_owned()),
    ];
    let shapes = [
        "NAME:\r\n VALUE",
        "NAME:\r\n\tVALUE",
        "NAME: VALUE\r\n x",
        "NAME: VALUE\r\n\tx",
        "NAME: VALUE\r\n ",
        "NAME: VALUE\r\n \r\n x",
        " NAME: VALUE",
        "\tNAME: VALUE",
        "X-B: c\r\n NAME: VALUE",
        "NAME\r\n : VALUE",
        "NAME\r\n: VALUE",
        "NAME : VALUE",
        "NAME\t: VALUE",
        "NAME\0: VALUE",
        ": VALUE",
        "NAME",
        "NAME VALUE",
        ":NAME: VALUE",
        "NAME:: VALUE",
        "NAME=VALUE",
        "NAME; VALUE",
        "(NAME): VALUE",
        "NAME[0]: VALUE",
        "\"NAME\": VALUE",
        "NAME, X: VALUE",
        "NAME/: VALUE",
        "NAM\u{c9}: VALUE",
        "{NAME}: VALUE",
        "NAME@: VALUE",
        "NAME?: VALUE",
        "NAME\\: VALUE",
        "X-B:\n NAME: VALUE",
        "X-B: c\n\tNAME: VALUE",
        "X-B: c\r NAME: VALUE",
    ];
    for (name, value) in &fields {
        for shape in shapes {
            let line = shape.replace("NAME", name).replace("VALUE", value);
            for method in METHODS {
                let head = format!("{method} /{TOKEN} HTTP/1.1\r\n");
                let length = format!("Content-Length: {n}\r\n");
                for text in [
                    format!("{head}Host: a.test\r\n{length}{line}\r\n\r\n{inside}"),
                    format!("{head}{line}\r\nHost: a.test\r\n{length}\r\n{inside}"),
                ] {
                    basket.never("fold", text.into_bytes());
                }
            }
        }
    }
}

/// Every octet in every place of request line and fields.
pub fn octets(basket: &mut Basket) {
    let inside = smuggled();
    let rest = format!("Content-Length: {}\r\n\r\n{inside}", inside.len());
    let rest = rest.as_bytes();
    let path = format!("/{TOKEN}");
    let path = path.as_bytes();
    let host: &[u8] = b"Host: a.test\r\n";
    let line = |end: &[u8]| cat(&[b"POST ", path, b" HTTP/1.1", end, host]);
    for octet in 0..=255_u8 {
        let c = &[octet];
        let heads: [Vec<u8>; 20] = [
            cat(&[c, b"POST ", path, b" HTTP/1.1\r\n", host]),
            cat(&[b"PO", c, b"ST ", path, b" HTTP/1.1\r\n", host]),
            cat(&[b"POST", c, b" ", path, b" HTTP/1.1\r\n", host]),
            cat(&[b"POST", c, path, b" HTTP/1.1\r\n", host]),
            cat(&[b"POST ", c, path, b" HTTP/1.1\r\n", host]),
            cat(&[b"POST ", path, c, b" HTTP/1.1\r\n", host]),
            cat(&[b"POST ", path, b"?a", c, b"=b HTTP/1.1\r\n", host]),
            cat(&[b"POST ", path, b" ", c, b"HTTP/1.1\r\n", host]),
            cat(&[b"POST ", path, b" HTTP", c, b"1.1\r\n", host]),
            cat(&[b"POST ", path, b" HTTP/1", c, b"1\r\n", host]),
            cat(&[b"POST ", path, b" HTTP/1.", c, b"\r\n", host]),
            line(&cat(&[c, b"\r\n"])),
            line(&cat(&[b"\r", c, b"\n"])),
            line(&cat(&[b"\r\n", c])),
            cat(&[b"POST ", path, b" HTTP/1.1\r\n", b"Host: ", c, b"a.test\r\n"]),
            cat(&[b"POST ", path, b" HTTP/1.1\r\n", b"Host: a", c, b"test\r\n"]),
            cat(&[&line(b"\r\n"), c, b"X-A: b\r\n"]),
            cat(&[&line(b"\r\n"), b"X", c, b"A: b\r\n"]),
            cat(&[&line(b"\r\n"), b"X-A", c, b": b\r\n"]),
            cat(&[&line(b"\r\n"), b"X-A: ", c, b"b", c, b"\r\n"]),
        ];
        for head in &heads {
            basket.never("head-octet", cat(&[head, rest]));
        }
        for name in ["Authorization", "Cookie", "Connection", "Expect", "X-Request-Id"] {
            let line = cat(&[&line(b"\r\n"), name.as_bytes(), b": a", c, b"b\r\n"]);
            basket.never("head-octet", cat(&[&line, rest]));
        }
    }
}
