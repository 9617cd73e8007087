//! How a request head deviates from the protocol, in AWS ALB's classes and reasons, and what one meaning it can be given.
//!
//! [`judge`] reads a head that the strict parser has refused, as leniently as servers in the field do, and names the worst
//! that it finds. Where one meaning is left it writes the head anew ([`Judgement::mended`]); the strict parser then has the last
//! word on that. Nothing here runs for a compliant request. What each mode lets pass is [`Mode::lets_pass`].

mod framing;
mod lines;

use framing::Lengths;
use lines::{Line, RequestLine};

/// `desync` of a listener: what is done with requests that deviate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Only what is well-formed and has one meaning.
    #[default]
    Strict,
    /// What can be given one meaning, too; where the meaning was in doubt both connections close afterwards.
    Defensive,
    /// As defensive, but connections stay, and even what ALB calls severe passes where it has a body length.
    Monitor,
}

/// How far a request deviates. As ALB names them, mildest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// As the RFCs say.
    #[default]
    Compliant,
    /// Not compliant, and read in the same way by everyone.
    Acceptable,
    /// Servers may disagree on where it ends.
    Ambiguous,
    /// Servers do disagree, or it is no request at all.
    Severe,
}

impl Class {
    /// As ALB writes it.
    pub fn name(self) -> &'static str {
        match self {
            Class::Compliant => "Compliant",
            Class::Acceptable => "Acceptable",
            Class::Ambiguous => "Ambiguous",
            Class::Severe => "Severe",
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident $class:ident,)*) => {
        /// Why a request is not compliant: the codes of ALB's access log, and below them four that it does not name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[$doc])* $variant,)* }

        impl Reason {
            /// All of them, in the order of their definition.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)*];

            /// How bad it is.
            pub fn class(self) -> Class {
                match self { $(Reason::$variant => Class::$class,)* }
            }

            /// As ALB writes it.
            pub fn name(self) -> &'static str {
                match self { $(Reason::$variant => stringify!($variant),)* }
            }

            /// The position in [`Reason::ALL`], for counters.
            pub fn index(self) -> usize {
                self as usize
            }
        }
    };
}

reasons! {
    /// The target has control characters.
    AmbiguousUri Ambiguous,
    /// Content-Length is not a number.
    BadContentLength Severe,
    /// A field has a NUL or a CR.
    BadHeader Severe,
    /// Transfer-Encoding has a value that is none, or `chunked` is not the last of them.
    BadTransferEncoding Severe,
    /// The target has a NUL or a CR.
    BadUri Severe,
    /// The method is no token.
    BadMethod Severe,
    /// The version is none of HTTP/1.
    BadVersion Severe,
    /// Both Transfer-Encoding and Content-Length.
    BothTeClPresent Ambiguous,
    /// Content-Length several times, always the same.
    DuplicateContentLength Ambiguous,
    /// A field without a name, or a line of white space.
    EmptyHeader Ambiguous,
    /// Content-Length: 0 with GET or HEAD.
    GetHeadZeroContentLength Acceptable,
    /// Content-Length several times, not always the same.
    MultipleContentLength Severe,
    /// Transfer-Encoding: chunked several times.
    MultipleTransferEncodingChunked Severe,
    /// A field name that is no token, or a control character in a value.
    NonCompliantHeader Acceptable,
    /// A version of HTTP/1 that does not exist, or white space around it.
    NonCompliantVersion Acceptable,
    /// White space in the target.
    SpaceInUri Acceptable,
    /// A field name that some servers take for Transfer-Encoding or Content-Length.
    SuspiciousHeader Ambiguous,
    /// GET or HEAD with content.
    UndefinedContentLengthSemantics Ambiguous,
    /// GET or HEAD with chunked content, Transfer-Encoding in HTTP/1.0, or `identity`, which there is no more.
    UndefinedTransferEncodingSemantics Ambiguous,
    /// No target between method and version.
    MissingUri Severe,
    /// A field line without a colon.
    MissingHeaderColon Ambiguous,
    /// A field that goes on in the next line (RFC 9112 section 5.2).
    MultilineHeader Ambiguous,
    /// A line that ends in LF without CR.
    NonCrLfLineTermination Acceptable,
}

/// What was found in a refused head.
#[derive(Debug, Default)]
pub struct Judgement {
    /// The worst of all; `None` when nothing that concerns framing was found.
    pub reason: Option<Reason>,
    /// The head with one meaning, complete with its empty line; `None` when none can be given.
    pub mended: Option<Vec<u8>>,
    /// The client spoke HTTP/1.0, though the mended head says 1.1: a Transfer-Encoding had to be honoured (RFC 9112
    /// section 6.1).
    pub spoke_http10: bool,
}

impl Judgement {
    /// The class of the worst reason.
    pub fn class(&self) -> Class {
        self.reason.map_or(Class::Compliant, Reason::class)
    }

    fn note(&mut self, reason: Reason) {
        if reason.class() > self.class() {
            self.reason = Some(reason);
        }
    }
}

impl Mode {
    /// Whether a mended request of this class goes on.
    pub fn lets_pass(self, class: Class) -> bool {
        match self {
            Mode::Strict => false,
            Mode::Defensive => class < Class::Severe,
            Mode::Monitor => true,
        }
    }

    /// Which connections close after a request of this class.
    pub fn closes(self, class: Class) -> Closes {
        match self {
            // What is strict and still ambiguous is GET with content: where it ends is certain here, but not to every target.
            Mode::Strict if class >= Class::Ambiguous => Closes::Target,
            Mode::Defensive if class >= Class::Ambiguous => Closes::Both,
            Mode::Monitor if class >= Class::Severe => Closes::Both,
            _ => Closes::Neither,
        }
    }
}

/// Which connections close after an exchange: whatever either side still believes to be a part of it then reaches nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Closes {
    /// None for this reason.
    #[default]
    Neither,
    /// The target's.
    Target,
    /// The client's, too.
    Both,
}

/// Whether servers may take `name` for Transfer-Encoding or Content-Length, which it is not.
pub fn is_suspicious(name: &[u8]) -> bool {
    use lines::{Alike, Meant};
    let alike = lines::resemblance(name);
    matches!(alike, Some(Alike::Length(Meant::Perhaps) | Alike::Coding(Meant::Perhaps)))
}

/// Reads a refused head, complete with its empty line.
pub fn judge(head: &[u8]) -> Judgement {
    let mut judgement = Judgement::default();
    let mut lines = lines::split(head, &mut judgement);
    let Some(first) = lines.next() else { return judgement };
    let start = RequestLine::read(first, &mut judgement);
    let mut lengths = Lengths::default();
    let mut kept = Vec::new();
    for line in lines::unfold(lines, &mut judgement) {
        match Line::read(&line, &mut judgement) {
            Line::Length(value, meant) => lengths.note_length(&value, meant, &mut judgement),
            Line::Coding(value, meant) => lengths.note_coding(&value, meant, &mut judgement),
            Line::Field(name, value) => {
                kept.extend_from_slice(&name);
                kept.extend_from_slice(b": ");
                kept.extend_from_slice(&value);
                kept.extend_from_slice(b"\r\n");
            }
            Line::Dropped => {}
        }
    }
    let Some(start) = start else { return judgement };
    let framing = lengths.settle(&start, &mut judgement);
    judgement.spoke_http10 = start.http10 && framing.is_chunked();
    let mut mended = start.write(judgement.spoke_http10);
    mended.extend_from_slice(&kept);
    framing.write(&mut mended);
    mended.extend_from_slice(b"\r\n");
    judgement.mended = Some(mended);
    judgement
}

#[cfg(test)]
mod tests;
