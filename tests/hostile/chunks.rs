//! Chunked bodies said in every wrong way: sizes, extensions, line ends, trailers.
//!
//! Hazards H1-07, H1-08, H1-28. The hidden request is the chunk's data: whoever reads another size sets it free.

use super::{Basket, TOKEN, cat, smuggled};

fn head(method: &str) -> String {
    format!("{method} /{TOKEN} HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n")
}

/// Size spellings (N is the right size in hexadecimal) as the first, a middle and the last chunk.
pub fn sizes(basket: &mut Basket) {
    let data = smuggled();
    let n = format!("{:x}", data.len());
    let long = |c: &str, times: usize| c.repeat(times);
    let mut sizes: Vec<String> = [
        "N",
        "",
        " ",
        "0x",
        "0xN",
        "0XN",
        "xN",
        "+N",
        "-N",
        " N",
        "\tN",
        "N ",
        "N\t",
        "N \t ",
        "_N",
        "N_",
        "N_0",
        "0N",
        "00N",
        "00000000000000N",
        "000000000000000N",
        "0000000000000000N",
        "00000000000000000N",
        "N.",
        "N.0",
        "Ne0",
        "N,N",
        "N N",
        "Nh",
        "Ng",
        "NL",
        "\"N\"",
        "'N'",
        "(N)",
        "N(x)",
        "%N",
        "N%",
        "N;",
        "N;a",
        "N;a=b",
        "N;a=\"b\"",
        "N;a=\"b",
        "N;a=\"b;c\"",
        "N;a=\"\\\"\"",
        "N ;a",
        "N; a",
        "N;a =b",
        "N;a= b",
        "N;;",
        "N;=",
        "N;=b",
        "N;a;b;c",
        "N;a,b",
        "N;\u{e9}",
        "N;a=\u{e9}",
        "N:a",
        "N=a",
        "N/a",
        "N\0",
        "\0N",
        "N\r",
        "N\x0b",
        "N\x0c",
        "N\u{a0}",
        "N\u{85}",
        "N;a\0b",
        "N;a\rb",
        "N;a\nb",
        "N\n",
        "N;\n",
        "N;a\n",
        "N\n0",
        "N;a\r0",
        "\nN",
        "\rN",
        "\r\nN",
        "N\r\n",
        "\u{ff11}",
        "fffffffffffffff",
        "ffffffffffffffff",
        "10000000000000000",
        "1000000000000000N",
        "10000000000000000N",
        "100000000N",
        "8000000000000000",
        "7fffffffffffffff",
        "7fffffff",
        "80000000",
        "ffffffff",
        "100000000",
        "-1",
        "-0",
        "+0",
        "0x0",
        "0;",
        "0;a",
        "00",
        "000000000000000",
        "0000000000000000000000000000",
        "0 ",
        " 0",
        "0\t",
        "0\0",
        "0\n",
        "0;\n",
        "0\r",
        "GET",
        "a",
        "A",
    ]
    .iter()
    .map(|s| s.replace('N', &n))
    .collect();
    for times in [15, 16, 63, 255, 1024, 4000, 4094, 4095, 4096, 4097, 8192, 20_000, 70_000] {
        sizes.push(format!("{n};{}", long("e", times)));
        sizes.push(format!("{n};a={}", long("\"", times)));
        sizes.push(format!("{n}{}", long(" ", times.min(4096))));
        sizes.push(format!("{}{n}", long("0", times.min(4096))));
        sizes.push(format!("{n}{}", long(";a", times.min(4096))));
    }
    for size in &sizes {
        for method in ["POST", "GET"] {
            let head = head(method);
            let upper = size.to_ascii_uppercase();
            for size in [size, &upper] {
                basket.never(
                    "chunk-size",
                    format!("{head}{size}\r\n{data}\r\n0\r\n\r\n").into_bytes(),
                );
                basket.never(
                    "chunk-size",
                    format!("{head}2\r\nab\r\n{size}\r\n{data}\r\n0\r\n\r\n").into_bytes(),
                );
                // As the last chunk: the trailer section is never a request either.
                basket
                    .never("chunk-size", format!("{head}2\r\nab\r\n{size}\r\n{data}").into_bytes());
            }
        }
    }
    ends(basket, &data, &n);
}

/// What stands where CRLF must stand after a size, after the data, and after the last chunk.
fn ends(basket: &mut Basket, data: &str, n: &str) {
    let odd = [
        "\n",
        "\r",
        "\r\r\n",
        "\n\r",
        "\r\n\r\n",
        "\n\n",
        " \r\n",
        "\r \n",
        "\0\r\n",
        "",
        "x\r\n",
        "\r\nx",
        "0",
        "\t",
        "\u{b}\r\n",
    ];
    for method in ["POST", "PUT", "GET", "DELETE"] {
        let head = head(method);
        for end in odd {
            basket.never("chunk-end", format!("{head}{n}{end}{data}\r\n0\r\n\r\n").into_bytes());
            basket.never("chunk-end", format!("{head}{n}\r\n{data}{end}0\r\n\r\n").into_bytes());
            basket.never("chunk-end", format!("{head}{n}\r\n{data}\r\n0{end}\r\n").into_bytes());
            basket.never("chunk-end", format!("{head}{n}\r\n{data}\r\n0\r\n{end}").into_bytes());
            // A wrong end right before a request: nothing may be served behind it.
            basket.perhaps("chunk-end", format!("{head}3\r\nabc\r\n0\r\n{end}{data}").into_bytes());
            basket.perhaps("chunk-end", format!("{head}3\r\nabc\r\n0{end}\r\n{data}").into_bytes());
            basket
                .never("chunk-end", format!("{head}3\r\nabc{end}{data}\r\n0\r\n\r\n").into_bytes());
        }
        // Data that is longer or shorter than its size.
        for wrong in [1, 2, 3, 5, 20] {
            let short = data.len().saturating_sub(wrong);
            let long = data.len() + wrong;
            basket
                .never("chunk-end", format!("{head}{short:x}\r\n{data}\r\n0\r\n\r\n").into_bytes());
            basket
                .never("chunk-end", format!("{head}{long:x}\r\n{data}\r\n0\r\n\r\n").into_bytes());
        }
    }
}

/// Every octet in every place of a chunked body.
pub fn octets(basket: &mut Basket) {
    let data = smuggled();
    let n = format!("{:x}", data.len());
    let (n, data) = (n.as_bytes(), data.as_bytes());
    let head = head("POST");
    let head = head.as_bytes();
    for octet in 0..=255_u8 {
        let c = &[octet];
        let bodies: [Vec<u8>; 13] = [
            cat(&[c, n, b"\r\n", data, b"\r\n0\r\n\r\n"]),
            cat(&[&n[..1], c, &n[1..], b"\r\n", data, b"\r\n0\r\n\r\n"]),
            cat(&[n, c, b"\r\n", data, b"\r\n0\r\n\r\n"]),
            cat(&[n, b"\r", c, b"\n", data, b"\r\n0\r\n\r\n"]),
            cat(&[n, b";", c, b"\r\n", data, b"\r\n0\r\n\r\n"]),
            cat(&[n, b";a", c, b"b\r\n", data, b"\r\n0\r\n\r\n"]),
            cat(&[n, b";a=\"", c, b"\"\r\n", data, b"\r\n0\r\n\r\n"]),
            cat(&[n, b"\r\n", data, c, b"\r\n0\r\n\r\n"]),
            cat(&[n, b"\r\n", data, b"\r", c, b"\n0\r\n\r\n"]),
            cat(&[n, b"\r\n", data, b"\r\n", c, b"0\r\n\r\n"]),
            cat(&[n, b"\r\n", data, b"\r\n0", c, b"\r\n\r\n"]),
            cat(&[n, b"\r\n", data, b"\r\n0\r\n", c, b"X: y\r\n\r\n"]),
            cat(&[n, b"\r\n", data, b"\r\n0\r\nX: ", c, b"y\r\n\r\n"]),
        ];
        for body in &bodies {
            basket.never("chunk-octet", cat(&[head, body]));
        }
    }
}

/// Trailers that say what only a head may say, and trailers that are none.
pub fn trailers(basket: &mut Basket) {
    let names = [
        "Content-Length",
        "Transfer-Encoding",
        "Host",
        "Authorization",
        "Cookie",
        "X-Real-IP",
        "X-Forwarded-For",
        "Connection",
        "Trailer",
        "TE",
        "Expect",
        "Upgrade",
        "Content-Type",
        "Content-Encoding",
        "Set-Cookie",
        "X_A",
        "X-Checksum",
        "Content_Length",
        "X-Request-Id",
        "Via",
        "Forwarded",
        "Proxy",
        "Max-Forwards",
        "Range",
    ];
    let lines = [
        ": x\r\n",
        "x\r\n",
        "NAME\r\n",
        "NAME: x\n",
        "NAME: x\r",
        " NAME: x\r\n",
        "NAME : x\r\n",
        "NAME: x\r\n y\r\n",
        "NAME: x\0\r\n",
        "NAME: 5\r\n",
        "NAME: chunked\r\n",
        "NAME: \r\n",
        "NAME:x\r\nNAME:y\r\n",
        "NAME: a.test\r\nX: y\r\n",
    ];
    for name in names {
        for line in lines {
            let line = line.replace("NAME", name);
            for announced in [String::new(), format!("Trailer: {name}\r\n")] {
                let head = format!(
                    "POST /{TOKEN} HTTP/1.1\r\nHost: a.test\r\n{announced}Transfer-Encoding: chunked\r\n\r\n"
                );
                let data = smuggled();
                let body = format!("{:x}\r\n{data}\r\n0\r\n{line}\r\n", data.len());
                basket.never("trailer", format!("{head}{body}").into_bytes());
                // Whatever the trailers are, what follows them is another request or nothing.
                let body = format!("3\r\nabc\r\n0\r\n{line}\r\n{data}");
                basket.perhaps("trailer", format!("{head}{body}").into_bytes());
            }
        }
    }
    for count in [10, 63, 64, 65, 200, 1000] {
        let many: String = (0..count).map(|i| format!("X-{i}: y\r\n")).collect();
        let head = head("POST");
        basket.never("trailer", format!("{head}0\r\n{many}\r\n").into_bytes());
    }
    for size in [1 << 10, 8 << 10, 16 << 10, 100 << 10] {
        let head = head("POST");
        basket.never("trailer", format!("{head}0\r\nX: {}\r\n\r\n", "y".repeat(size)).into_bytes());
    }
}
