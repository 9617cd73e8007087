//! The chunked transfer coding (RFC 9112 section 7.1): our own decoder, resumable at every octet.
//!
//! httparse's `parse_chunk_size` accepts an empty size, leading blanks and any octet in an extension, bare LF
//! included; each of these has been a way to smuggle. Here a size is 1 to 15 hexadecimal digits followed by CRLF or an
//! extension without control characters. Extensions are never forwarded: bodies are chunked anew.

use crate::http::Span;

/// Octets of chunk extensions in one message; more is an attack on whoever parses them.
const MAX_EXTENSIONS: u32 = 4096;

/// The decoder of one body.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chunks {
    state: State,
    left: u64,
    digits: u8,
    extensions: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    ExtensionName,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Done,
}

/// What the next octets of a chunked body are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Data, at this place of the input.
    Data(Span),
    /// Nothing more until further octets arrive.
    More,
    /// The last chunk's line is over: the trailer section follows.
    Last,
}

/// The body is malformed: the connection cannot be used further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl Chunks {
    /// Takes octets from the front of `input`; returns how many, and what they were. Call again with the rest.
    ///
    /// # Errors
    /// [`Malformed`], for good.
    pub fn next(&mut self, input: &[u8]) -> Result<(usize, Piece), Malformed> {
        let mut at = 0;
        while let Some(&octet) = input.get(at) {
            if self.state == State::Data {
                let have = (input.len() - at) as u64;
                let take = have.min(self.left);
                self.left -= take;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
                let end = at + take as usize;
                return Ok((end, Piece::Data(Span { start: at as u32, end: end as u32 })));
            }
            at += 1;
            self.step(octet)?;
            if self.state == State::Done {
                return Ok((at, Piece::Last));
            }
        }
        Ok((at, Piece::More))
    }

    fn step(&mut self, octet: u8) -> Result<(), Malformed> {
        self.state = match (self.state, octet) {
            (State::Size, b'\r') if self.digits > 0 => State::SizeLf,
            (State::Size, b';') if self.digits > 0 => State::ExtensionName,
            (State::Size, digit) if self.digits < 15 => {
                let value = char::from(digit).to_digit(16).ok_or(Malformed)?;
                self.left = self.left << 4 | u64::from(value);
                self.digits += 1;
                State::Size
            }
            (State::ExtensionName, b' ' | b'\t') => self.extension(State::ExtensionName)?,
            (State::ExtensionName, c) if crate::http::request::is_token_octet(c) => {
                self.extension(State::Extension)?
            }
            (State::Extension, b'\r') => State::SizeLf,
            (State::Extension, b'\t' | b' '..=b'~' | 0x80..) => self.extension(State::Extension)?,
            (State::SizeLf, b'\n') if self.left == 0 => State::Done,
            (State::SizeLf, b'\n') => State::Data,
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => {
                self.digits = 0;
                State::Size
            }
            _ => return Err(Malformed),
        };
        Ok(())
    }

    fn extension(&mut self, next: State) -> Result<State, Malformed> {
        self.extensions += 1;
        if self.extensions > MAX_EXTENSIONS { Err(Malformed) } else { Ok(next) }
    }
}

/// Writes the line before a chunk of `len` octets into `line`; returns the part that was written.
pub fn chunk_line(len: usize, line: &mut [u8; 18]) -> &[u8] {
    let digits = (usize::BITS - len.leading_zeros()).div_ceil(4).max(1) as usize;
    for i in 0..digits {
        let nibble = (len >> (4 * (digits - 1 - i))) & 15;
        if let (Some(slot), Some(digit)) = (line.get_mut(i), b"0123456789abcdef".get(nibble)) {
            *slot = *digit;
        }
    }
    if let Some(end) = line.get_mut(digits..digits + 2) {
        end.copy_from_slice(b"\r\n");
    }
    line.get(..digits + 2).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // Decodes `input`, given in pieces cut at `cuts`: the data, and how many octets were taken by the time of `Last`.
    fn decode(input: &[u8], cuts: &[usize]) -> Result<(Vec<u8>, Option<usize>), Malformed> {
        let (mut chunks, mut data, mut taken) = (Chunks::default(), Vec::new(), 0);
        let mut ends: Vec<usize> = cuts.iter().map(|c| c % (input.len() + 1)).collect();
        ends.sort_unstable();
        ends.push(input.len());
        for end in ends {
            loop {
                let piece = &input[taken..end];
                let (n, what) = chunks.next(piece)?;
                taken += n;
                match what {
                    Piece::Data(span) => data.extend_from_slice(span.of(piece)),
                    Piece::More => break,
                    Piece::Last => return Ok((data, Some(taken))),
                }
            }
        }
        Ok((data, None))
    }

    fn check(input: &str, expected: Result<(&str, Option<usize>), Malformed>) {
        let expected = expected.map(|(data, n)| (data.as_bytes().to_vec(), n));
        assert_eq!(decode(input.as_bytes(), &[]), expected, "{input:?}");
        for cut in 0..=input.len() {
            assert_eq!(decode(input.as_bytes(), &[cut]), expected, "{input:?} cut at {cut}");
        }
    }

    #[test]
    fn decodes() {
        check("5\r\nhello\r\n0\r\n\r\n", Ok(("hello", Some(13))));
        check("1\r\na\r\nA\r\n0123456789\r\n00\r\n", Ok(("a0123456789", Some(25))));
        check("5;a=\"b;c\"\r\nhello\r\n0;x\r\n", Ok(("hello", Some(23))));
        check("5\r\nhel", Ok(("hel", None)));
        check("0\r\nrest", Ok(("", Some(3))));
    }

    #[test]
    fn refuses_everything_else() {
        for bad in [
            "\r\n",
            " 5\r\nhello\r\n",
            "5 \r\n",
            "5\n",
            "5\r\r\n",
            "0x5\r\n",
            "+5\r\n",
            "-5\r\n",
            "5_0\r\n",
            "g\r\n",
            "5;\r\n",
            "5;a\n",
            "5;a\rb\r\n",
            "5;a\0\r\n",
            "5 ;a\r\n",
            "5\r\nhelloX\r\n",
            "5\r\nhello\n",
            "5\r\nhello\r5",
            "1000000000000000\r\n",
            ";a\r\n",
            "5,5\r\n",
            "5\t\r\n",
        ] {
            check(bad, Err(Malformed));
        }
        check(&format!("5;{}\r\n", "a".repeat(4097)), Err(Malformed));
    }

    #[test]
    fn writes_lines() {
        for (len, expected) in
            [(0, "0\r\n"), (1, "1\r\n"), (15, "f\r\n"), (16, "10\r\n"), (65536, "10000\r\n")]
        {
            assert_eq!(chunk_line(len, &mut [0; 18]), expected.as_bytes());
        }
        assert_eq!(chunk_line(usize::MAX, &mut [0; 18]).len(), 18);
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_however_it_is_cut(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
            cuts in prop::collection::vec(any::<usize>(), 0..6),
        ) {
            let mut wire = Vec::new();
            for part in &parts {
                wire.extend_from_slice(chunk_line(part.len(), &mut [0; 18]));
                wire.extend_from_slice(part);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\n");
            prop_assert_eq!(decode(&wire, &cuts), Ok((parts.concat(), Some(wire.len()))));
        }

        #[test]
        fn never_panics(input in prop::collection::vec(any::<u8>(), 0..200), cut: usize) {
            let _ = decode(&input, &[cut]);
        }
    }
}
