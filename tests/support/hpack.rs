//! Header compression (RFC 7541) as a test needs it: literals out, anything in.
//!
//! The static table is looked at by name only where a test asks for it; Huffman codes are derived from their lengths, since
//! the code is canonical (appendix B).

use std::collections::VecDeque;

/// Name and value.
pub type Field = (String, String);

/// `fields` as literals without indexing, no Huffman code: what is sent is what stands here, whatever it is.
pub fn literals<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        text(&mut out, name.as_ref());
        text(&mut out, value.as_ref());
    }
    out
}

/// One literal with incremental indexing: it enters the dynamic table.
pub fn indexed_literal(name: &str, value: &str) -> Vec<u8> {
    let mut out = vec![0x40];
    text(&mut out, name.as_bytes());
    text(&mut out, value.as_bytes());
    out
}

/// Appends a string without Huffman code.
pub fn text(out: &mut Vec<u8>, octets: &[u8]) {
    integer(out, 0, 7, octets.len());
    out.extend_from_slice(octets);
}

/// Appends an integer with a prefix of `bits` below the bits of `first` (section 5.1).
pub fn integer(out: &mut Vec<u8>, first: u8, bits: u8, mut n: usize) {
    let most = (1 << bits) - 1;
    if n < most {
        out.push(first | n as u8);
        return;
    }
    out.push(first | most as u8);
    n -= most;
    while n >= 128 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// The decoder of one direction of a connection.
#[derive(Default)]
pub struct Decoder {
    dynamic: VecDeque<Field>,
}

impl Decoder {
    /// The fields of a whole block; `None` if it is malformed.
    pub fn decode(&mut self, mut block: &[u8]) -> Option<Vec<Field>> {
        let mut fields = Vec::new();
        let block = &mut block;
        while let Some(&first) = block.first() {
            if first & 0x80 != 0 {
                fields.push(self.entry(number(block, 7)?)?);
                continue;
            }
            if first & 0xe0 == 0x20 {
                // The size of the table: entries beyond it are never referred to again.
                number(block, 5)?;
                continue;
            }
            let indexing = first & 0x40 != 0;
            let index = number(block, if indexing { 6 } else { 4 })?;
            let name = if index == 0 { string(block)? } else { self.entry(index)?.0 };
            let field = (name, string(block)?);
            if indexing {
                self.dynamic.push_front(field.clone());
                self.dynamic.truncate(4096 / 32);
            }
            fields.push(field);
        }
        Some(fields)
    }

    fn entry(&self, index: usize) -> Option<Field> {
        match index {
            0 => None,
            1..=61 => {
                let (name, value) = STATIC[index - 1];
                Some((name.to_owned(), value.to_owned()))
            }
            _ => self.dynamic.get(index - 62).cloned(),
        }
    }
}

fn take<'b>(block: &mut &'b [u8], len: usize) -> Option<&'b [u8]> {
    let (taken, rest) = block.split_at_checked(len)?;
    *block = rest;
    Some(taken)
}

fn number(block: &mut &[u8], bits: u8) -> Option<usize> {
    let most = (1usize << bits) - 1;
    let mut n = usize::from(take(block, 1)?[0]) & most;
    if n < most {
        return Some(n);
    }
    for shift in (0..28).step_by(7) {
        let octet = take(block, 1)?[0];
        n += usize::from(octet & 0x7f) << shift;
        if octet & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

fn string(block: &mut &[u8]) -> Option<String> {
    let huffman = block.first()? & 0x80 != 0;
    let len = number(block, 7)?;
    let octets = take(block, len)?;
    let octets = if huffman { unhuffman(octets)? } else { octets.to_vec() };
    Some(octets.into_iter().map(char::from).collect())
}

fn unhuffman(octets: &[u8]) -> Option<Vec<u8>> {
    let (mut out, mut code, mut len) = (Vec::new(), 0u32, 0u8);
    let codes = codes();
    for octet in octets {
        for bit in (0..8).rev() {
            code = code << 1 | u32::from(octet >> bit & 1);
            len += 1;
            if let Some(symbol) = codes.get(&(len, code)) {
                out.push(u8::try_from(*symbol).ok()?);
                (code, len) = (0, 0);
            }
        }
    }
    // What is left is the beginning of EOS: ones only.
    (len < 8 && code == (1 << len) - 1).then_some(out)
}

fn codes() -> &'static std::collections::HashMap<(u8, u32), usize> {
    static CODES: std::sync::OnceLock<std::collections::HashMap<(u8, u32), usize>> =
        std::sync::OnceLock::new();
    CODES.get_or_init(|| {
        let mut order: Vec<usize> = (0..LENGTHS.len()).collect();
        order.sort_by_key(|symbol| (LENGTHS[*symbol], *symbol));
        let (mut code, mut length) = (0u32, LENGTHS[order[0]]);
        let mut codes = std::collections::HashMap::new();
        for symbol in order {
            code <<= LENGTHS[symbol] - length;
            length = LENGTHS[symbol];
            codes.insert((length, code), symbol);
            code += 1;
        }
        codes
    })
}

// The lengths of the codes of each octet, and of EOS (appendix B).
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

// Appendix A.
#[rustfmt::skip]
const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""), ("cache-control", ""),
    ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""),
    ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""),
    ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""),
    ("location", ""), ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""),
    ("www-authenticate", ""),
];
