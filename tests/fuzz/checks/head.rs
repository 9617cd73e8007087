//! A head read in the plainest way, to hold the parsers' reading against: lines at CRLF, names before the first colon.
//!
//! It reads only what was accepted, so whatever it cannot read is a finding. Used for requests and responses.

/// The start line and the fields of a section that ends in an empty line.
pub struct Plain<'a> {
    /// The request or status line, without its CRLF.
    pub start: &'a [u8],
    /// Names as they stand, values without blanks around them.
    pub fields: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> Plain<'a> {
    /// Splits a section; `blank_before_colon` is the one leniency for responses (RFC 9112 section 5.1).
    pub fn read(section: &'a [u8], blank_before_colon: bool) -> Plain<'a> {
        let text = section.escape_ascii();
        let mut lines = Vec::new();
        let mut rest = section;
        while let Some(at) = rest.windows(2).position(|two| two == b"\r\n") {
            lines.push(&rest[..at]);
            rest = &rest[at + 2..];
        }
        assert!(rest.is_empty(), "the section does not end in CRLF: {text}");
        assert_eq!(
            lines.pop(),
            Some(&b""[..]),
            "the section does not end in an empty line: {text}"
        );
        assert!(lines.iter().all(|line| !line.is_empty()), "an empty line inside: {text}");
        let start = lines.remove(0);
        let fields = lines.into_iter().map(|line| {
            let colon = line.iter().position(|b| *b == b':').expect("a field line without colon");
            let (name, value) = (&line[..colon], &line[colon + 1..]);
            // Only after the name: a blank before it would continue the line above.
            let name = match blank_before_colon && !matches!(name.first(), Some(b' ' | b'\t')) {
                true => strip(name),
                false => name,
            };
            assert!(is_token(name), "a name that is no token: {:?}", name.escape_ascii());
            assert!(is_text(value), "a value with a control: {:?}", value.escape_ascii());
            (name, strip(value))
        });
        Plain { start, fields: fields.collect() }
    }

    /// The values of every field of this name.
    pub fn all(&self, name: &str) -> Vec<&'a [u8]> {
        let same = |field: &&(&[u8], &[u8])| field.0.eq_ignore_ascii_case(name.as_bytes());
        self.fields.iter().filter(same).map(|field| field.1).collect()
    }

    /// The options of every `Connection` field, in lower case.
    pub fn connection(&self) -> Vec<Vec<u8>> {
        let lines = self.all("connection");
        let options = lines.iter().flat_map(|line| line.split(|b| *b == b','));
        options.map(|o| strip(o).to_ascii_lowercase()).filter(|o| !o.is_empty()).collect()
    }

    /// Whether the connection stays, from the version and the options alone (RFC 9112 section 9.3).
    pub fn stays(&self, one_dot_one: bool) -> bool {
        let options = self.connection();
        let has = |name: &[u8]| options.iter().any(|o| o == name);
        !has(b"close") && (one_dot_one || has(b"keep-alive"))
    }
}

/// Decimal digits that fit 18 places, as a number.
pub fn length(value: &[u8]) -> u64 {
    assert!(!value.is_empty() && value.len() <= 18, "a length of {} digits", value.len());
    assert!(value.iter().all(u8::is_ascii_digit), "no length: {:?}", value.escape_ascii());
    String::from_utf8_lossy(value).parse().expect("digits are a number")
}

/// Whether a name or method consists of what RFC 9110 section 5.6.2 calls a token.
pub fn is_token(text: &[u8]) -> bool {
    let other = b"!#$%&'*+-.^_`|~";
    !text.is_empty() && text.iter().all(|b| b.is_ascii_alphanumeric() || other.contains(b))
}

/// Whether it has no control character but HTAB.
pub fn is_text(value: &[u8]) -> bool {
    value.iter().all(|b| *b == 9 || (*b >= 32 && *b != 127))
}

/// Without blanks and tabs around it.
pub fn strip(mut text: &[u8]) -> &[u8] {
    let blank = |b: Option<&u8>| matches!(b, Some(b' ' | b'\t'));
    while blank(text.first()) {
        text = &text[1..];
    }
    while blank(text.last()) {
        text = &text[..text.len() - 1];
    }
    text
}
