//! Finds the end of a head or trailer section, and refuses what an edge must refuse on the way.
//!
//! Resumable: octets are looked at once, however the section arrives in pieces. It judges line ends and sizes
//! only; what the lines say is the parsers' work. httparse would accept bare LF everywhere, so this runs first.

use crate::http::Fault;

/// What a section may measure.
#[derive(Clone, Copy, Debug)]
pub struct SectionLimits {
    /// Octets of the whole section.
    pub size: usize,
    /// Octets of one line with its CRLF.
    pub line: usize,
    /// Lines besides the start line and the empty one.
    pub fields: usize,
    /// Whether LF alone ends a line, too: for a head that `desync` may mend.
    pub bare_lf: bool,
}

/// How far the search has come. One per section; start with `default()`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scan {
    seen: usize,
    line_start: usize,
    lines: usize,
}

impl Scan {
    /// Looks at what has arrived of the section so far (`buf` begins with its first octet). Returns the section's length,
    /// with its empty line, once it is complete.
    ///
    /// # Errors
    /// [`Fault::BareLf`] for a line that does not end in CRLF, [`Fault::LineTooLong`] for the first line,
    /// [`Fault::HeadTooLarge`], [`Fault::TooManyFields`].
    #[inline]
    pub fn find_end(&mut self, buf: &[u8], limits: &SectionLimits) -> Result<Option<usize>, Fault> {
        let fresh = buf.get(self.seen..).unwrap_or_default();
        for at in memchr::memchr_iter(b'\n', fresh) {
            let lf = self.seen + at;
            // What the octets before this one broke was broken first, even if all arrived at once.
            self.check_sizes(lf, limits)?;
            let bare = lf == 0 || buf.get(lf - 1) != Some(&b'\r');
            if bare && !limits.bare_lf {
                return Err(Fault::BareLf);
            }
            let line = lf + 1 - self.line_start;
            if line > limits.line {
                return Err(self.too_long());
            }
            if line == 2 - usize::from(bare) {
                return Ok(Some(lf + 1));
            }
            self.line_start = lf + 1;
            self.lines += 1;
            if self.lines > limits.fields + 1 {
                return Err(Fault::TooManyFields);
            }
        }
        self.seen = buf.len();
        self.check_sizes(self.seen, limits)?;
        Ok(None)
    }

    /// Judges the first `len` octets, which end inside the section.
    #[inline]
    fn check_sizes(&self, len: usize, limits: &SectionLimits) -> Result<(), Fault> {
        let line = len - self.line_start;
        if line > limits.line || len >= limits.size { Err(self.too_long()) } else { Ok(()) }
    }

    /// A request line that alone is more than a head may be is too long for a line, too.
    fn too_long(&self) -> Fault {
        if self.lines == 0 { Fault::LineTooLong } else { Fault::HeadTooLarge }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: SectionLimits = SectionLimits { size: 64, line: 32, fields: 3, bare_lf: false };

    fn check(input: &[u8], expected: Result<Option<usize>, Fault>) {
        assert_eq!(Scan::default().find_end(input, &LIMITS), expected, "whole {input:?}");
        // Every split agrees with the whole.
        for cut in 0..input.len() {
            let mut scan = Scan::default();
            let first = scan.find_end(&input[..cut], &LIMITS);
            let got = match first {
                Ok(None) => scan.find_end(input, &LIMITS),
                decided => decided,
            };
            assert_eq!(got, expected, "split at {cut} of {input:?}");
        }
    }

    #[test]
    fn finds_the_empty_line() {
        check(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Ok(Some(27)));
        check(b"GET / HTTP/1.1\r\nHost: a\r\n", Ok(None));
        check(b"\r\n", Ok(Some(2)));
    }

    #[test]
    fn takes_bare_lf_where_it_may_be_mended() {
        let limits = SectionLimits { bare_lf: true, ..LIMITS };
        for (input, len) in
            [("a\nb\n\nrest", 5), ("a\nb\r\n\nrest", 6), ("a\r\nb\n\r\nrest", 7), ("a\nx\n\n", 5)]
        {
            let found = Scan::default().find_end(input.as_bytes(), &limits);
            assert_eq!(found, Ok(Some(len)), "{input:?}");
        }
    }

    #[test]
    fn refuses_bare_lf_and_sizes() {
        check(b"GET / HTTP/1.1\nHost: a\r\n\r\n", Err(Fault::BareLf));
        check(b"GET / HTTP/1.1\r\nHost: a\r\n\n", Err(Fault::BareLf));
        check(b"a\r\nb\r\nc\r\nd\r\ne\r\n\r\n", Err(Fault::TooManyFields));
        check(&[b'a'; 33], Err(Fault::LineTooLong));
        check(&[b"a\r\n".as_slice(), &[b'a'; 33]].concat(), Err(Fault::HeadTooLarge));
    }
}
