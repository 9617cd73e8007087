//! Content codings: which responses get one and which it is, and bodies coded and decoded as they stream.
//!
//! `facts` reads of a response whether it may be coded, `negotiate` what its client takes (RFC 9110 section 12.5.3), `encode` and
//! `decode` are the libraries in pieces of a bounded size. Pure: `proxy::coding` asks and changes heads, `proxy::stages` feeds
//! bodies through.

pub mod decode;
pub mod encode;
pub mod facts;
pub mod negotiate;

pub use decode::{Decoder, Limit, decode};
pub use encode::Encoder;
pub use facts::Facts;
pub use negotiate::Accepted;

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// RFC 8878, in a window of at most 8 MiB (RFC 9659).
    Zstd,
    /// RFC 7932
    Brotli,
    /// RFC 1952
    Gzip,
    /// RFC 1950; it is taken off, never put on: peers have disagreed on what it is.
    Deflate,
}

/// What is no content of its coding, or becomes larger than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It is malformed, cut short, or followed by something else.
    Malformed,
    /// It would become larger than it may, or is of more streams.
    TooLarge,
}

/// What is compressed, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Those that are put on, the best first.
    pub algorithms: Vec<Coding>,
    /// How hard each tries.
    pub level: Levels,
    /// Which media types are compressed, in lower case; one `*` in each stands for any octets.
    pub types: Vec<String>,
    /// Octets that a body of a known length must have.
    pub min_size: u64,
    /// Whether a coding is taken off for a client that does not take it.
    pub decompress: bool,
    /// Whether targets are left to think that no client takes any coding.
    pub offload: bool,
    /// Whether also that is compressed which is for one client alone: what was asked for with cookies or credentials, and what
    /// sets cookies. What of it an attacker can have repeated in a body, its compressed length tells him (BREACH).
    pub private: bool,
}

/// What a rule says of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Choice {
    /// Nothing: what its listener says holds.
    #[default]
    Listeners,
    /// Its responses are left as they are.
    Off,
    /// This.
    On(Box<Settings>),
}

/// How hard each coding tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// 1 to 9.
    pub gzip: u8,
    /// 2 to 4: below, octets that come in small pieces become more of them; above, a block takes longer than other connections may
    /// wait.
    pub brotli: u8,
    /// 1 to 6: above, a block takes longer than other connections may wait.
    pub zstd: u8,
}

impl Default for Levels {
    fn default() -> Levels {
        Levels { gzip: 4, brotli: 4, zstd: 3 }
    }
}

impl Levels {
    /// That of one coding.
    pub fn of(&self, coding: Coding) -> u8 {
        match coding {
            Coding::Gzip | Coding::Deflate => self.gzip,
            Coding::Brotli => self.brotli,
            Coding::Zstd => self.zstd,
        }
    }
}

/// What is text in one way or another. Events of servers are not among them: compressed, each open stream holds a compressor.
pub const TYPES: &[&str] = &[
    "text/html",
    "text/css",
    "text/plain",
    "text/csv",
    "text/markdown",
    "text/xml",
    "text/javascript",
    "text/vtt",
    "text/x-component",
    "application/json",
    "application/*+json",
    "application/x-ndjson",
    "application/javascript",
    "application/x-javascript",
    "application/xml",
    "application/*+xml",
    "application/yaml",
    "application/toml",
    "application/graphql",
    "application/wasm",
    "application/vnd.ms-fontobject",
    "application/x-font-ttf",
    "font/ttf",
    "font/otf",
    "image/svg+xml",
    "image/bmp",
    "image/x-icon",
    "image/vnd.microsoft.icon",
];

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            algorithms: vec![Coding::Zstd, Coding::Brotli, Coding::Gzip],
            level: Levels::default(),
            types: TYPES.iter().map(|kind| (*kind).to_owned()).collect(),
            min_size: 1024,
            decompress: false,
            offload: false,
            private: true,
        }
    }
}

impl Settings {
    /// Whether content of this type (the field's value) is compressed. What streams calls or events is not taken for text: it has to
    /// be named.
    pub fn covers(&self, content_type: &[u8]) -> bool {
        let essence = content_type.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
        if essence.get(..16).is_some_and(|start| start.eq_ignore_ascii_case(b"application/grpc")) {
            return false;
        }
        let by_name = essence.eq_ignore_ascii_case(b"text/event-stream");
        self.types.iter().any(|pattern| match pattern.split_once('*') {
            Some(_) if by_name => false,
            Some((start, end)) => {
                let (start, end) = (start.as_bytes(), end.as_bytes());
                let most = essence.len().saturating_sub(start.len());
                essence.get(..start.len()).is_some_and(|s| s.eq_ignore_ascii_case(start))
                    && end.len() <= most
                    && essence
                        .get(essence.len() - end.len()..)
                        .is_some_and(|e| e.eq_ignore_ascii_case(end))
            }
            None => essence.eq_ignore_ascii_case(pattern.as_bytes()),
        })
    }
}

impl Coding {
    /// All that are known.
    pub const ALL: [Coding; 4] = [Coding::Zstd, Coding::Brotli, Coding::Gzip, Coding::Deflate];

    /// As `Content-Encoding` names it; `None` for one that is not known.
    pub fn of(name: &[u8]) -> Option<Coding> {
        let known: [(&[u8], Coding); 5] = [
            (b"gzip", Coding::Gzip),
            (b"br", Coding::Brotli),
            (b"zstd", Coding::Zstd),
            (b"deflate", Coding::Deflate),
            // RFC 9110 section 8.4.1.3: the same.
            (b"x-gzip", Coding::Gzip),
        ];
        known.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, coding)| *coding)
    }

    /// Its name (RFC 9110 section 18.6).
    pub fn name(self) -> &'static str {
        match self {
            Coding::Zstd => "zstd",
            Coding::Brotli => "br",
            Coding::Gzip => "gzip",
            Coding::Deflate => "deflate",
        }
    }
}

/// The codings of `Content-Encoding`, in the order in which they were put on; `None` where one is not known, or where there are more
/// than anyone means.
pub fn codings<'v>(values: impl Iterator<Item = &'v [u8]>) -> Option<Vec<Coding>> {
    let mut all = Vec::new();
    let named = values.flat_map(|value| value.split(|b| *b == b',')).map(<[u8]>::trim_ascii);
    for name in named.filter(|n| !n.is_empty() && !n.eq_ignore_ascii_case(b"identity")) {
        if all.len() == MOST_CODINGS {
            return None;
        }
        all.push(Coding::of(name)?);
    }
    Some(all)
}

/// Codings that one body may have.
pub const MOST_CODINGS: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_known_by_name_or_pattern() {
        let settings = |types: &[&str]| Settings {
            types: types.iter().map(|t| (*t).to_owned()).collect(),
            ..Settings::default()
        };
        for (types, kind, expected) in [
            (TYPES, "text/html", true),
            (TYPES, "Text/HTML; charset=utf-8", true),
            (TYPES, "application/json", true),
            (TYPES, "application/problem+json", true),
            (TYPES, "image/svg+xml", true),
            (TYPES, "image/png", false),
            (TYPES, "video/mp4", false),
            (TYPES, "application/zip", false),
            (TYPES, "application/octet-stream", false),
            (TYPES, "text/event-stream", false),
            (TYPES, "", false),
            (TYPES, "application/+jso", false),
            (&["text/*"][..], "text/x", true),
            (&["text/*"], "texts/x", false),
            (&["text/*"], "text/event-stream", false),
            (&["*"], "text/event-stream", false),
            (&["*"], "image/png", true),
            (&["*"], "application/grpc+proto", false),
            (&["application/grpc"], "application/grpc", false),
            (&["a/*b"], "a/b", true),
            (&["ab*ba"], "aba", false),
            (&["text/event-stream"], "text/event-stream;charset=utf-8", true),
        ] {
            assert_eq!(settings(types).covers(kind.as_bytes()), expected, "{types:?} {kind}");
        }
    }

    #[test]
    fn lists_of_codings_are_read_in_order() {
        let of = |values: &[&str]| codings(values.iter().map(|v| v.as_bytes()));
        let (gzip, brotli, deflate) = (Coding::Gzip, Coding::Brotli, Coding::Deflate);
        for (values, expected) in [
            (&["gzip"][..], Some(vec![gzip])),
            (&["X-GZIP"], Some(vec![gzip])),
            (&["gzip, br"], Some(vec![gzip, brotli])),
            (&["deflate", "br"], Some(vec![deflate, brotli])),
            (&["identity"], Some(vec![])),
            (&[""], Some(vec![])),
            (&["gzip,"], Some(vec![gzip])),
            (&["gzip, gzip, gzip"], None),
            (&["compress"], None),
            (&["gzip;q=1"], None),
        ] {
            assert_eq!(of(values), expected, "{values:?}");
        }
    }
}
