//! Valid requests with a few seeded changes each: what nobody thought of.

use super::{Basket, TOKEN, smuggled, smuggled_chunk};

/// Adds mutations until the basket holds `wanted`.
pub fn fill(basket: &mut Basket, rng: &mut fastrand::Rng, wanted: usize) {
    let bases = bases();
    while basket.all.len() < wanted {
        let mut bytes = bases[rng.usize(..bases.len())].clone();
        for _ in 0..rng.usize(1..4) {
            change(&mut bytes, rng);
        }
        basket.perhaps("mutation", bytes);
    }
}

fn bases() -> Vec<Vec<u8>> {
    let n = smuggled().len();
    let inside = smuggled();
    let chunk = smuggled_chunk();
    [
        format!("GET /{TOKEN} HTTP/1.1\r\nHost: a.test\r\nUser-Agent: x\r\nAccept: */*\r\n\r\n{inside}"),
        format!("POST /{TOKEN} HTTP/1.1\r\nHost: a.test\r\nContent-Type: text/plain\r\nContent-Length: {n}\r\n\r\n{inside}"),
        format!("POST /{TOKEN}?a=b HTTP/1.1\r\nHost: a.test:80\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n{chunk}"),
        format!("PUT /{TOKEN} HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX-T: y\r\n\r\n{inside}"),
        format!("HEAD /{TOKEN} HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n{inside}"),
        format!("OPTIONS * HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 1\r\nX-Token: {TOKEN}\r\n\r\n{inside}"),
        format!("DELETE http://a.test/{TOKEN} HTTP/1.1\r\nHost: a.test\r\nCookie: a=b; c=d\r\nContent-Length: {n}\r\n\r\n{inside}"),
        format!("POST /{TOKEN} HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: {n}\r\n\r\n{inside}"),
        format!("GET /a/../{TOKEN}/%41?x HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 192.0.2.1\r\nConnection: x-a\r\nX-A: b\r\n\r\n"),
        format!("POST /{TOKEN} HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\nContent-Length: {n}\r\n\r\n{inside}"),
        format!("GET /{TOKEN} HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\r\n{inside}"),
        format!("PATCH /{TOKEN} HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc\r\nGET /{TOKEN} HTTP/1.1\r\nHost: a.test\r\n\r\n{inside}"),
    ]
    .map(String::into_bytes)
    .to_vec()
}

/// What is put into a message in the middle.
const PIECES: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b"\0",
    b":",
    b";",
    b",",
    b"\"",
    b"%",
    b"#",
    b"\\",
    b"/",
    b"//",
    b"/../",
    b"%2e%2e/",
    b"?",
    b"0",
    b"1",
    b"f",
    b"-",
    b"+",
    b"_",
    b"\xa0",
    b"\x85",
    b"\xff",
    b"\x0b",
    b"chunked",
    b"identity",
    b"close",
    b"HTTP/1.0",
    b"HTTP/1.1",
    b" HTTP/1.1\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length: 10\r\n",
    b"\r\nContent-Length: 3",
    b"Transfer-Encoding: chunked\r\n",
    b"\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: x\r\n",
    b"Host: b.test\r\n",
    b"\r\nHost: b.test",
    b"Connection: close\r\n",
    b"Expect: 100-continue\r\n",
    b"\r\n ",
    b"\r\n\t",
    b"X: y\r\n",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n",
];

fn change(bytes: &mut Vec<u8>, rng: &mut fastrand::Rng) {
    if bytes.len() < 4 {
        return;
    }
    // Mostly in the head, where it matters.
    let head = memchr::memmem::find(bytes, b"\r\n\r\n").unwrap_or(bytes.len() - 1) + 1;
    let at = if rng.u8(..4) > 0 { rng.usize(..head) } else { rng.usize(..bytes.len()) };
    match rng.u8(..9) {
        0 => {
            bytes.remove(at);
        }
        1 => bytes[at] = rng.u8(..),
        2 => bytes.insert(at, rng.u8(..)),
        3 | 4 => {
            let piece = PIECES[rng.usize(..PIECES.len())];
            bytes.splice(at..at, piece.iter().copied());
        }
        5 => {
            // A piece of the message, once more, elsewhere.
            let from = rng.usize(..bytes.len());
            let to = (from + rng.usize(1..40)).min(bytes.len());
            let piece = bytes[from..to].to_vec();
            bytes.splice(at..at, piece);
        }
        6 => {
            let to = (at + rng.usize(1..20)).min(bytes.len());
            bytes.drain(at..to);
        }
        7 => {
            // A whole line, doubled.
            let start = bytes[..at].iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
            let end =
                bytes[at..].iter().position(|b| *b == b'\n').map_or(bytes.len(), |n| at + n + 1);
            let line = bytes[start..end].to_vec();
            bytes.splice(start..start, line);
        }
        _ => bytes[at] ^= 0x20,
    }
}
