//! How long a message is, said in every wrong way: Transfer-Encoding, Content-Length, both, neither.
//!
//! Hazards H1-01 to H1-06, H1-14, H1-16 to H1-18. The spellings of Transfer-Encoding follow PortSwigger's DesyncBox.

use super::{Basket, METHODS, TOKEN, cat, smuggled, smuggled_chunk};

/// Lines that some server somewhere has taken for `Transfer-Encoding: chunked`.
const CODINGS: &[&[u8]] = &[
    b"Transfer-Encoding: chunked",
    b"transfer-encoding: chunked",
    b"TrAnSFer-EnCODinG: cHuNkeD",
    b"TRANSFER-ENCODING: CHUNKED",
    b"Transfer-Encoding:chunked",
    b"Transfer-Encoding:  chunked",
    b"Transfer-Encoding:\tchunked",
    b"Transfer-Encoding: chunked ",
    b"Transfer-Encoding: chunked\t",
    b"Transfer-Encoding: chunked \t ",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding\t: chunked",
    b" Transfer-Encoding: chunked",
    b"\tTransfer-Encoding: chunked",
    b"Foo: bar\r\n Transfer-Encoding: chunked",
    b"Foo: bar\nTransfer-Encoding: chunked",
    b"Foo: bar\rTransfer-Encoding: chunked",
    b"Foo: bar\r\n\rTransfer-Encoding: chunked",
    b"Foo: bar\r\r\nTransfer-Encoding: chunked",
    b"Foo\r\nTransfer-Encoding: chunked",
    b": x\r\nTransfer-Encoding: chunked",
    b"Foo:\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding\n: chunked",
    b"Transfer-Encoding\r\n: chunked",
    b"Transfer-Encoding:\n chunked",
    b"Transfer-Encoding:\r\n chunked",
    b"Transfer-Encoding:\r\n\tchunked",
    b"Transfer-Encoding: \r\n chunked",
    b"Transfer-Encoding: chunked\r\n ",
    b"Transfer-Encoding: chunked\r\n , identity",
    b"Transfer-Encoding: chun\r\n ked",
    b"Transfer-Encoding: chunked\r",
    b"Transfer-Encoding: chunked\x00",
    b"Transfer-Encoding: \x00chunked",
    b"Transfer-Encoding\x00: chunked",
    b"Transfer-Encoding: \x0bchunked",
    b"Transfer-Encoding: chunked\x0b",
    b"Transfer-Encoding: \x0cchunked",
    b"Transfer-Encoding: \xa0chunked",
    b"Transfer-Encoding: chunked\xa0",
    b"Transfer-Encoding: \xff\xa0chunked",
    b"Transfer-Encoding: \x85chunked",
    b"Transfer-Encoding: \xe2\x80\x8bchunked",
    b"Transfer-Encoding: ch\xc4\xb1nked",
    b"Transfer-Encoding: chun\xe2\x84\xaaed",
    b"Transf\xc3\xa9r-Encoding: chunked",
    b"Transfer-Encoding: \"chunked\"",
    b"Transfer-Encoding: 'chunked'",
    b"Transfer-Encoding: chunked;p=1",
    b"Transfer-Encoding: chunked; q=0",
    b"Transfer-Encoding: chunked;",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: chunkedx",
    b"Transfer-Encoding: chunk",
    b"Transfer-Encoding: chunked chunked",
    b"Transfer-Encoding: cow chunked bar",
    b"Transfer-Encoding: chunked, cow",
    b"Transfer-Encoding: cow, chunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: identity, chunked",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, gzip",
    b"Transfer-Encoding: gzip",
    b"Transfer-Encoding: deflate",
    b"Transfer-Encoding: compress",
    b"Transfer-Encoding: trailers",
    b"Transfer-Encoding: ,chunked",
    b"Transfer-Encoding: chunked,",
    b"Transfer-Encoding: ,",
    b"Transfer-Encoding:",
    b"Transfer-Encoding: ",
    b"Transfer-Encoding: x",
    b"Transfer-Encoding: 0",
    b"Transfer-Encoding: (x) chunked",
    b"Transfer-Encoding: chunked (x)",
    b"Transfer-Encoding: =?UTF-8?B?Y2h1bmtlZA==?=",
    b"Transfer-Encoding: %63hunked",
    b"Transfer-Encoding: \\chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: cow",
    b"Transfer-Encoding: cow\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding:\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\ntransfer-encoding: x",
    b"Transfer-Encoding: chunked\r\nTransfer_Encoding: x",
    b"Transfer-%45ncoding: chunked",
    b"Transfer Encoding: chunked",
    b"Transfer_Encoding: chunked",
    b"Transfer\\Encoding: chunked",
    b"Transfer\x2d\x2dEncoding: chunked",
    b"TransferEncoding: chunked",
    b"Transfer-Encoding x: chunked",
    b"Transfer-Encoding-: chunked",
    b"-Transfer-Encoding: chunked",
    b"X-Transfer-Encoding: chunked",
    b"Transfer-Encoding2: chunked",
    b"Transfer-Encodin: chunked",
    b"\"Transfer-Encoding\": chunked",
    b"Transfer-Encoding;: chunked",
    b"Transfer-Encoding= chunked",
    b"Transfer-Encoding chunked",
    b"Transfer-Encoding",
    b"Transfer-Encoding:: chunked",
    b":Transfer-Encoding: chunked",
    b"Content-Encoding: chunked",
    b"TE: chunked",
    b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked",
    b"Connection: close, Transfer-Encoding\r\nTransfer-Encoding: chunked",
    b"Connection: Content-Length\r\nTransfer-Encoding: chunked",
    b"Expect: 100-continue\r\nTransfer-Encoding: chunked",
    b"Upgrade: h2c\r\nTransfer-Encoding: chunked",
];

/// Each spelling, with a Content-Length before it, behind it, or none; with the hidden request where the one or the
/// other reading would set it free.
pub fn codings(basket: &mut Basket) {
    for coding in CODINGS {
        for method in METHODS {
            conflict(basket, "te-spelling", method, coding);
        }
    }
}

fn conflict(basket: &mut Basket, family: &'static str, method: &str, coding: &[u8]) {
    let start = format!("{method} /{TOKEN} HTTP/1.1\r\nHost: a.test\r\n");
    let start = start.as_bytes();
    let ended = format!("0\r\n\r\n{}", smuggled());
    let length = format!("Content-Length: {}", ended.len());
    let (length, ended) = (length.as_bytes(), ended.as_bytes());
    basket.never(family, cat(&[start, length, b"\r\n", coding, b"\r\n\r\n", ended]));
    basket.never(family, cat(&[start, coding, b"\r\n", length, b"\r\n\r\n", ended]));
    let inside = smuggled_chunk();
    let short = format!("Content-Length: {}", inside.find('\n').unwrap_or(0) + 1);
    let (short, inside) = (short.as_bytes(), inside.as_bytes());
    basket.perhaps(family, cat(&[start, short, b"\r\n", coding, b"\r\n\r\n", inside]));
    basket.perhaps(family, cat(&[start, coding, b"\r\n", short, b"\r\n\r\n", inside]));
    basket.never(family, cat(&[start, coding, b"\r\n\r\n", inside]));
}

/// Every octet in every place of the two fields that frame.
pub fn octets(basket: &mut Basket) {
    let ended = format!("0\r\n\r\n{}", smuggled());
    let inside = smuggled();
    for octet in 0..=255_u8 {
        let c = &[octet];
        let te: [Vec<u8>; 10] = [
            cat(&[c, b"Transfer-Encoding: chunked"]),
            cat(&[b"Transfer", c, b"Encoding: chunked"]),
            cat(&[b"Transfer-", c, b"Encoding: chunked"]),
            cat(&[b"Transfer-Encoding", c, b": chunked"]),
            cat(&[b"Transfer-Encoding", c, b"chunked"]),
            cat(&[b"Transfer-Encoding:", c, b"chunked"]),
            cat(&[b"Transfer-Encoding: ", c, b"chunked"]),
            cat(&[b"Transfer-Encoding: chun", c, b"ked"]),
            cat(&[b"Transfer-Encoding: chunked", c]),
            cat(&[b"Foo: bar", c, b"Transfer-Encoding: chunked"]),
        ];
        for (place, line) in te.iter().enumerate() {
            let method = METHODS[(usize::from(octet) + place) % METHODS.len()];
            let start = format!("{method} /{TOKEN} HTTP/1.1\r\nHost: a.test\r\n");
            let length = format!("\r\nContent-Length: {}\r\n\r\n{ended}", ended.len());
            basket.never("te-octet", cat(&[start.as_bytes(), line, length.as_bytes()]));
            let chunk = format!("\r\n\r\n{}", smuggled_chunk());
            basket.never("te-octet", cat(&[start.as_bytes(), line, chunk.as_bytes()]));
        }
        let n = inside.len().to_string();
        let n = n.as_bytes();
        let cl: [Vec<u8>; 8] = [
            cat(&[c, b"Content-Length: ", n]),
            cat(&[b"Content", c, b"Length: ", n]),
            cat(&[b"Content-Length", c, b": ", n]),
            cat(&[b"Content-Length", c, n]),
            cat(&[b"Content-Length:", c, n]),
            cat(&[b"Content-Length: ", c, n]),
            cat(&[b"Content-Length: ", &n[..1], c, &n[1..]]),
            cat(&[b"Content-Length: ", n, c]),
        ];
        for (place, line) in cl.iter().enumerate() {
            let method = METHODS[(usize::from(octet) + place) % METHODS.len()];
            let start = format!("{method} /{TOKEN} HTTP/1.1\r\nHost: a.test\r\n");
            let end = format!("\r\n\r\n{inside}");
            // A mangled name is another field, and then there is no body: what follows is a request.
            basket.perhaps("cl-octet", cat(&[start.as_bytes(), line, end.as_bytes()]));
            let twice = cat(&[line, b"\r\nContent-Length: ", n]);
            basket.perhaps("cl-octet", cat(&[start.as_bytes(), &twice, end.as_bytes()]));
        }
    }
}

/// Content-Length in every wrong spelling, alone, before and behind a right one. The hidden request is the body.
pub fn lengths(basket: &mut Basket) {
    let inside = smuggled();
    let n = inside.len();
    let mut values: Vec<String> = [
        "",
        " ",
        "+N",
        "-N",
        "0xN",
        "0XN",
        "0oN",
        "0bN",
        "N ",
        " N",
        "\tN\t",
        "N\x0b",
        "N,",
        ",N",
        ", N",
        "N, N",
        "N,N",
        "N;N",
        "N ;x",
        "N N",
        "N\tN",
        "NeN",
        "Ne0",
        "N.0",
        "N.",
        ".N",
        "1_N",
        "N_",
        "_N",
        "\"N\"",
        "'N'",
        "(N)",
        "N(x)",
        "N%",
        "%30N",
        "\\N",
        "N\\",
        "N\r",
        "N\0",
        "\0N",
        "N\u{a0}",
        "\u{a0}N",
        "\u{661}",
        "\u{ff11}",
        "N\u{200b}",
        "0N",
        "00N",
        "000000000000000000N",
        "0000000000000000000000000000000000N",
        "Nl",
        "NL",
        "Nu",
        "Nx",
        "xN",
        "N/1",
        "N-",
        "-0",
        "+0",
        "--N",
        "++N",
        "NaN",
        "Infinity",
        "1e3",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "18446744073709551617",
        "4294967296",
        "4294967295",
        "2147483648",
        "99999999999999999999",
        "340282366920938463463374607431768211456",
        "999999999999999999",
        "1000000000000000000",
        "N\r\n N",
        "\r\n N",
        "N\r\n ",
        "chunked",
        "N;",
        "N\u{2c}\u{20}",
        "N=N",
        "N:N",
        "N&N",
        "N|N",
        "N+0",
        "N*1",
        "0,N",
        "N,0",
        "0, N",
        "-1",
        "-1, N",
    ]
    .iter()
    .map(|v| v.replace('N', &n.to_string()))
    .collect();
    // A number that is the right one modulo 2^32 or 2^64.
    values.push((u128::from(u32::MAX) + 1 + n as u128).to_string());
    values.push((u128::from(u64::MAX) + 1 + n as u128).to_string());
    values.push(format!("{:x}", n));
    values.push(format!("{:o}", n));
    for value in &values {
        for method in METHODS {
            for fields in [
                format!("Content-Length: {value}"),
                format!("Content-Length: {n}\r\nContent-Length: {value}"),
                format!("Content-Length: {value}\r\nContent-Length: {n}"),
                format!(
                    "Content-Length: {n}\r\nX: y\r\ncontent-length: {value}\r\nContent-Length: {n}"
                ),
            ] {
                let head =
                    format!("{method} /{TOKEN} HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n\r\n");
                // Zero in another base or a smaller number is a length, too.
                let legal =
                    value.trim().bytes().all(|b| b.is_ascii_digit()) && !value.trim().is_empty();
                let bytes = format!("{head}{inside}").into_bytes();
                let single = !fields.contains("\r\n");
                if legal && single && value.trim().parse::<u128>() != Ok(n as u128) {
                    basket.perhaps("cl-spelling", bytes);
                } else {
                    basket.never("cl-spelling", bytes);
                }
            }
        }
    }
}

/// Bodies where servers expect none, and bodies of requests that are answered without being read.
pub fn skipped_bodies(basket: &mut Basket) {
    let inside = smuggled();
    let sized = format!("Content-Length: {}\r\n\r\n{inside}", inside.len());
    let chunked = format!("Transfer-Encoding: chunked\r\n\r\n{}", smuggled_chunk());
    let methods =
        METHODS.iter().copied().chain(["PATCH", "PROPFIND", "TRACE", "CONNECT", "get", "X"]);
    for method in methods {
        for path in ["", "local/", "moved/", "limited/", "a/b/../", "local/../"] {
            for version in ["1.1", "1.0"] {
                for more in [
                    "",
                    "Connection: keep-alive\r\n",
                    "Connection: close\r\n",
                    "Expect: 100-continue\r\n",
                    "Content-Type: text/plain\r\nConnection: x\r\n",
                ] {
                    let head =
                        format!("{method} /{path}{TOKEN} HTTP/{version}\r\nHost: a.test\r\n{more}");
                    basket.never("skipped-body", format!("{head}{sized}").into_bytes());
                    basket.never("skipped-body", format!("{head}{chunked}").into_bytes());
                }
            }
        }
    }
}

/// HTTP/1.0 with what only HTTP/1.1 has, and without any length.
pub fn old_versions(basket: &mut Basket) {
    let n = smuggled().len();
    for method in METHODS {
        for connection in
            ["", "Connection: keep-alive\r\n", "Connection: close\r\n", "Keep-Alive: timeout=5\r\n"]
        {
            for host in ["Host: a.test\r\n", ""] {
                let head = format!("{method} /{TOKEN} HTTP/1.0\r\n{host}{connection}");
                let chunk = smuggled_chunk();
                basket.never(
                    "http-1.0",
                    format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunk}").into_bytes(),
                );
                let both = format!(
                    "{head}Transfer-Encoding: chunked\r\nContent-Length: {n}\r\n\r\n{chunk}"
                );
                basket.never("http-1.0", both.into_bytes());
                basket.never(
                    "http-1.0",
                    format!("{head}Transfer-Encoding: identity\r\n\r\n{chunk}").into_bytes(),
                );
                basket.perhaps("http-1.0", format!("{head}\r\n{}", smuggled()).into_bytes());
                basket.never(
                    "http-1.0",
                    format!("{head}Content-Length: {n}\r\n\r\n{}", smuggled()).into_bytes(),
                );
            }
        }
    }
}
