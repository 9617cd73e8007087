//! What no client should send: each with the reasons that ringgate may give. Behind each stands a hidden request, which
//! no target may ever see.

use crate::request::HIDDEN;

/// A name, the octets, the reasons.
pub type Hostile = (&'static str, Vec<u8>, &'static [&'static str]);

const GET: &str = "GET /a/x?t=EVIL& HTTP/1.1\r\n";
const HOST: &str = "host: sim.test\r\n";

/// All of them.
pub fn table() -> Vec<Hostile> {
    let mut all = heads();
    all.extend(lines());
    all.extend(sizes());
    all
}

// A whole head with the given fields.
fn with(fields: &str) -> Vec<u8> {
    format!("POST /a/x?t=EVIL& HTTP/1.1\r\n{HOST}{fields}\r\n").into_bytes()
}

fn heads() -> Vec<Hostile> {
    vec![
        (
            "te and cl",
            with("content-length: 5\r\ntransfer-encoding: chunked\r\n"),
            &["both_te_and_cl"],
        ),
        (
            "cl and te",
            with("transfer-encoding: chunked\r\ncontent-length: 5\r\n"),
            &["both_te_and_cl"],
        ),
        (
            "two lengths",
            with("content-length: 5\r\ncontent-length: 6\r\n"),
            &["bad_content_length"],
        ),
        ("a signed length", with("content-length: +5\r\n"), &["bad_content_length"]),
        ("a list of lengths", with("content-length: 5, 5\r\n"), &["bad_content_length"]),
        (
            "a coding twice",
            with("transfer-encoding: chunked, chunked\r\n"),
            &["bad_transfer_encoding"],
        ),
        (
            "a coding in two lines",
            with("transfer-encoding: chunked\r\ntransfer-encoding: x\r\n"),
            &["bad_transfer_encoding"],
        ),
        (
            "a tab in a coding",
            with("transfer-encoding: \x0bchunked\r\n"),
            &["bad_field", "bad_transfer_encoding"],
        ),
        ("a look-alike", with("content_length: 5\r\n"), &["suspicious_field"]),
        ("another coding", with("transfer-encoding: gzip\r\n"), &["unknown_transfer_coding"]),
        ("two hosts", with("host: other.test\r\n"), &["host_missing"]),
        (
            "a content type twice",
            with("content-type: a/b\r\ncontent-type: a/c\r\n"),
            &["repeated_field"],
        ),
        (
            "an expectation",
            with("expect: 200-ok\r\ncontent-length: 5\r\n"),
            &["expectation_failed"],
        ),
        ("a nominated host", with("connection: host\r\n"), &["bad_connection_option"]),
        ("a folded line", with("x-a: b\r\n c\r\n"), &["bad_field"]),
        ("a blank before a colon", with("content-length : 5\r\n"), &["bad_field"]),
        ("a NUL in a value", with("x-a: b\0c\r\n"), &["bad_field"]),
        ("a CR in a value", with("x-a: b\rcontent-length: 5\r\n"), &["bad_field"]),
        ("a line without a name", with(": x\r\n"), &["bad_field"]),
        ("no host", format!("{GET}x-a: b\r\n\r\n").into_bytes(), &["host_missing"]),
        ("a bad host", format!("{GET}host: a b\r\n\r\n").into_bytes(), &["host_invalid"]),
        (
            "another host",
            b"GET http://a.test/a/x?t=EVIL& HTTP/1.1\r\nhost: b.test\r\n\r\n".to_vec(),
            &["host_mismatch"],
        ),
    ]
}

fn lines() -> Vec<Hostile> {
    let line = |line: &str| format!("{line}\r\n{HOST}\r\n").into_bytes();
    vec![
        ("bare LF", format!("{GET}host: sim.test\n\r\n").into_bytes(), &["bare_lf"]),
        ("LF only", b"GET /a/x?t=EVIL& HTTP/1.1\nhost: sim.test\n\n".to_vec(), &["bare_lf"]),
        ("a leading LF", format!("\n{GET}{HOST}\r\n").into_bytes(), &["bare_lf"]),
        (
            "three empty lines",
            format!("\r\n\r\n\r\n{GET}{HOST}\r\n").into_bytes(),
            &["bad_request_line"],
        ),
        ("a leading blank", line(" GET /a/x?t=EVIL& HTTP/1.1"), &["bad_request_line"]),
        ("two blanks", line("GET  /a/x?t=EVIL& HTTP/1.1"), &["bad_request_line", "bad_target"]),
        ("no version", line("GET /a/x?t=EVIL&"), &["bad_request_line"]),
        (
            "a blank in the target",
            line("GET /a/x?t=EVIL& y HTTP/1.1"),
            &["bad_request_line", "version_unsupported"],
        ),
        (
            "a NUL in the target",
            line("GET /a/\0x?t=EVIL& HTTP/1.1"),
            &["bad_request_line", "bad_target"],
        ),
        ("a quote in the target", line("GET /a/\"x?t=EVIL& HTTP/1.1"), &["bad_target"]),
        ("a fragment", line("GET /a/x#y HTTP/1.1"), &["bad_target"]),
        ("no slash", line("GET a/x HTTP/1.1"), &["bad_target"]),
        ("an encoded slash", line("GET /a%2fx?t=EVIL& HTTP/1.1"), &["encoded_separator"]),
        ("above the root", line("GET /a/../../x?t=EVIL& HTTP/1.1"), &["path_above_root"]),
        ("a tunnel", line("CONNECT sim.test:80 HTTP/1.1"), &["method_refused"]),
        ("a trace", line("TRACE /a/x?t=EVIL& HTTP/1.1"), &["method_refused"]),
        (
            "a long method",
            line("GETGETGETGETGETGETGETGETGETGETGETGET /a/x?t=EVIL& HTTP/1.1"),
            &["unknown_method"],
        ),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), &["version_unsupported"]),
        ("HTTP/1.2", line("GET /a/x?t=EVIL& HTTP/1.2"), &["version_unsupported"]),
        ("TLS", vec![22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3], &["bad_request_line"]),
        ("zeros", vec![0; 64], &["bad_request_line"]),
        ("HTTP/0.9", b"GET /a/x\r\n\r\n".to_vec(), &["bad_request_line"]),
    ]
}

fn sizes() -> Vec<Hostile> {
    let fields = |count: usize| "x-a: b\r\n".repeat(count);
    vec![
        (
            "a long line",
            format!("GET /a/{}?t=EVIL& HTTP/1.1\r\n{HOST}\r\n", "x".repeat(2000)).into_bytes(),
            &["uri_too_long"],
        ),
        ("a long field", with(&format!("x-a: {}\r\n", "x".repeat(2000))), &["head_too_large"]),
        (
            "a large head",
            with(&format!("x-a: {}\r\n", "x".repeat(900)).repeat(6)),
            &["head_too_large"],
        ),
        ("many fields", with(&fields(40)), &["too_many_fields"]),
        (
            "a head without end",
            format!("{GET}{}", "x-a: bcdefghijklmnopqrstuvwxyz\r\n".repeat(200)).into_bytes(),
            &["too_many_fields", "head_too_large"],
        ),
    ]
}

/// Bodies that are none, behind a head that is forwarded: a name, the octets after the head, the reason.
pub const BODIES: [(&str, &str, &str); 9] = [
    ("no size", "x\r\nhello\r\n0\r\n\r\n", "bad_chunk"),
    ("a negative size", "-5\r\nhello\r\n0\r\n\r\n", "bad_chunk"),
    ("a hexadecimal prefix", "0x5\r\nhello\r\n0\r\n\r\n", "bad_chunk"),
    ("a huge size", "fffffffffffffffff\r\nhello\r\n0\r\n\r\n", "bad_chunk"),
    ("bare LF", "5\nhello\r\n0\r\n\r\n", "bad_chunk"),
    ("bare LF in an extension", "5;a\nb\r\nhello\r\n0\r\n\r\n", "bad_chunk"),
    ("data too long", "5\r\nhello!\r\n0\r\n\r\n", "bad_chunk"),
    ("a trailer without a name", "5\r\nhello\r\n0\r\n: x\r\n\r\n", "bad_trailers"),
    ("a bare LF trailer", "5\r\nhello\r\n0\r\nx-a: b\n\r\n", "bad_trailers"),
];

/// The hostile octets, with hidden requests behind them.
pub fn with_followers(octets: &[u8], followers: usize) -> Vec<u8> {
    [octets, HIDDEN.repeat(followers).as_bytes()].concat()
}
