//! Header compression: every representation, and what is none (RFC 7541).

use super::Expect::*;
use super::Section;
use super::support::h2raw::*;
use super::support::hpack::{indexed_literal, integer, literals, text};

/// Section 4.3 of RFC 9113 has COMPRESSION_ERROR; h2 says PROTOCOL_ERROR of some. Both end the connection, which is what
/// keeps the tables of both sides the same.
const COMPRESSION: &[u32] = &[COMPRESSION_ERROR, PROTOCOL_ERROR];

fn request_then(more: &[u8]) -> Vec<u8> {
    [&literals(&request("GET", "/"))[..], more].concat()
}

/// Section 6, appendices A and B.
#[test]
fn representations() {
    let mut s = Section::start();
    // GET, http, /, and :authority by the static name.
    let short = |first: u8, bits: u8| {
        let mut block = vec![0x82, 0x86, 0x84];
        integer(&mut block, first, bits, 1);
        text(&mut block, b"a.test");
        block
    };
    for (name, block) in [
        ("indexed", short(0x40, 6)),
        ("without indexing", short(0, 4)),
        ("never indexed", short(0x10, 4)),
        ("a new name", request_then(&indexed_literal("x-new", "1"))),
        ("a new name, never indexed", request_then(&[&[0x10][..], b"\x05x-new\x011"].concat())),
        ("a table size first", [&[0x20][..], &request_then(&[])].concat()),
        ("two table sizes first", [&[0x20, 0x3f, 0xe1, 0x1f][..], &request_then(&[])].concat()),
        // custom-key: custom-value, of appendix C.4.3.
        ("Huffman", {
            let key = [0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f];
            let value = [0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf];
            request_then(&[&[0x40, 0x88][..], &key, &[0x89], &value].concat())
        }),
    ] {
        s.case(name, Status(200), |h2| h2.frame(HEADERS, WHOLE, 1, block));
    }
    let mut h2 = H2::open(s.address);
    h2.frame(HEADERS, WHOLE, 1, request_then(&indexed_literal("x-kept", "once")));
    assert_eq!(h2.outcome(1).status(), 200);
    // 62 is the entry that was made last.
    h2.frame(HEADERS, WHOLE, 3, request_then(&[0x80 | 62]));
    let echoed = h2.outcome(3).answer().text();
    if !echoed.contains("x-kept: once\r\n") {
        s.fail(format!("from the dynamic table: {echoed}"));
    }
    s.end();
}

/// Sections 2.3.3, 4.2, 5.1, 5.2, 6.1, 6.3.
#[test]
fn malformed() {
    let mut s = Section::start();
    let sized = |n: usize| {
        let mut out = Vec::new();
        integer(&mut out, 0x20, 5, n);
        out
    };
    for (name, more) in [
        ("index 0", vec![0x80]),
        ("an index beyond the table", vec![0xff, 0x00]),
        ("an index far beyond the table", vec![0xff, 0xff, 0xff, 0xff, 0x07]),
        ("a name beyond the table", vec![0x7f, 0x0f, 1, b'a']),
        (
            "an integer that overflows",
            vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        ),
        ("a table size at the end", sized(0)),
        ("a string that is cut", vec![0, 5, b'a']),
        ("a value that is cut", vec![0, 1, b'a', 5]),
        (
            "padding of more than 7 bits",
            vec![0, 0x85, 0xf2, 0xb2, 0x4a, 0x84, 0xff, 0x84, 0x49, 0x50, 0x9f, 0xff],
        ),
        ("padding of zeros", vec![0, 0x85, 0xf2, 0xb2, 0x4a, 0x84, 0xff, 0x83, 0x49, 0x50, 0x90]),
        (
            "EOS in a string",
            vec![
                0, 0x85, 0xf2, 0xb2, 0x4a, 0x84, 0xff, 0x87, 0x49, 0x50, 0x9f, 0xff, 0xff, 0xff,
                0xff,
            ],
        ),
    ] {
        s.case(name, Connection(COMPRESSION), |h2| {
            h2.frame(HEADERS, WHOLE, 1, request_then(&more));
        });
    }
    s.case("a table size beyond the announced one", Connection(COMPRESSION), |h2| {
        h2.frame(HEADERS, WHOLE, 1, [sized(4097), request_then(&[])].concat());
    });
    s.case("a block that is cut", Connection(COMPRESSION), |h2| {
        let block = request_then(&[]);
        h2.frame(HEADERS, WHOLE, 1, &block[..block.len() - 3]);
    });
    s.end();
}
