//! What gRPC says beside HTTP/2: which requests are calls, their deadlines, their statuses, and answers without a body.
//!
//! Pure: no socket, no clock. Messages inside bodies are not looked at; gRPC-Web's framing is `grpc_web`. Called by
//! `proxy`. The rules are those of gRPC's PROTOCOL-HTTP2.md and http-grpc-status-mapping.md.

use crate::http::{Fault, write};
use std::time::Duration;

/// What a request or a response speaks, by its `Content-Type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Call {
    /// Plain HTTP.
    #[default]
    No,
    /// gRPC.
    Grpc,
    /// gRPC-Web, with messages as they are.
    Web,
    /// gRPC-Web, with messages in base64.
    WebText,
}

impl Call {
    /// What a media type stands for: `application/grpc`, `application/grpc+proto; x=y` and their like; names go without
    /// regard to case (RFC 9110 section 8.3.1).
    pub fn of(content_type: &[u8]) -> Call {
        Call::split(content_type).0
    }

    // Also the format of the messages: `+proto`, `+json`, or nothing.
    fn split(content_type: &[u8]) -> (Call, &[u8]) {
        let kind = content_type.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
        let (base, format) = match memchr::memchr(b'+', kind) {
            Some(at) => kind.split_at(at),
            None => (kind, &[] as &[u8]),
        };
        let is = |name: &str| base.eq_ignore_ascii_case(name.as_bytes());
        let call = match base.len() {
            16 if is(GRPC) => Call::Grpc,
            20 if is(WEB) => Call::Web,
            25 if is(WEB_TEXT) => Call::WebText,
            _ => Call::No,
        };
        (call, format)
    }

    /// Whether it is gRPC-Web.
    pub fn is_web(self) -> bool {
        matches!(self, Call::Web | Call::WebText)
    }

    /// The media type with this call's name and the message format of `like`, which is a gRPC or gRPC-Web type.
    pub fn media_type(self, like: &[u8]) -> Vec<u8> {
        let (_, format) = Call::split(like);
        let name = match self {
            Call::No | Call::Grpc => GRPC,
            Call::Web => WEB,
            Call::WebText => WEB_TEXT,
        };
        [name.as_bytes(), format].concat()
    }
}

const GRPC: &str = "application/grpc";
const WEB: &str = "application/grpc-web";
const WEB_TEXT: &str = "application/grpc-web-text";

/// The statuses of gRPC and their names; a status is its index.
pub const STATUSES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// CANCELLED.
pub const CANCELLED: u16 = 1;
/// UNKNOWN.
pub const UNKNOWN: u16 = 2;
/// DEADLINE_EXCEEDED.
pub const DEADLINE_EXCEEDED: u16 = 4;

/// Reads `grpc-status`: up to five digits. A number that no status has is allowed (it means UNKNOWN).
pub fn status(value: &[u8]) -> Option<u16> {
    let fits = (1..=5).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    if !fits {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// The name of a status.
pub fn name(status: u16) -> &'static str {
    STATUSES.get(usize::from(status)).copied().unwrap_or("UNKNOWN")
}

/// The status for an answer with this HTTP status and no `grpc-status` (http-grpc-status-mapping.md).
pub fn status_of_http(status: u16) -> u16 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => UNKNOWN,
    }
}

/// The status that a client is told for `fault`: that of the HTTP status, as Envoy does it, but where gRPC has a better
/// one. What is too large is RESOURCE_EXHAUSTED, as gRPC's own libraries say it.
pub fn status_of(fault: Fault) -> u16 {
    match fault {
        Fault::DeadlineExceeded => DEADLINE_EXCEEDED,
        Fault::BodyTooLarge | Fault::HeadTooLarge | Fault::TooManyFields => 8,
        Fault::RateLimited | Fault::TooManyInFlight | Fault::QuotaExceeded => 8,
        Fault::Invalid => 3,
        fault => status_of_http(fault.status()),
    }
}

/// Reads `grpc-timeout`: one to eight digits and a unit (`H`, `M`, `S`, `m`, `u`, `n`). What is none is no deadline,
/// as in gRPC's own servers.
pub fn timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let n: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    match unit {
        b'H' => Some(Duration::from_secs(n * 3600)),
        b'M' => Some(Duration::from_secs(n * 60)),
        b'S' => Some(Duration::from_secs(n)),
        b'm' => Some(Duration::from_millis(n)),
        b'u' => Some(Duration::from_micros(n)),
        b'n' => Some(Duration::from_nanos(n)),
        _ => None,
    }
}

/// The value of `grpc-timeout` for what is left, in the finest unit whose number has eight digits at most, rounded down: the
/// target gives up no later than the client.
pub fn timeout_value(left: Duration) -> String {
    let units = [(left.as_nanos(), 'n'), (left.as_micros(), 'u'), (left.as_millis(), 'm')];
    let seconds = u128::from(left.as_secs());
    let coarse = [(seconds, 'S'), (seconds / 60, 'M'), (seconds / 3600, 'H')];
    let fits = |(n, _): &(u128, char)| *n <= 99_999_999;
    let (n, unit) = units.into_iter().chain(coarse).find(fits).unwrap_or((99_999_999, 'H'));
    format!("{n}{unit}")
}

/// Appends the fields of an answer that ringgate makes to a call: everything but the status line (which is that of 200)
/// and what frames it. There is no body: this is the form that gRPC calls Trailers-Only.
pub fn trailers_only(out: &mut Vec<u8>, call: Call, like: &[u8], status: u16, message: &str) {
    write::built_field(out, b"content-type", &call.media_type(like));
    out.extend_from_slice(b"grpc-status: ");
    write::number(out, u64::from(status));
    out.extend_from_slice(b"\r\ngrpc-message: ");
    percent_encode(out, message.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends `message` with every octet that is not a visible character or a space percent-encoded, and `%` as well.
pub fn percent_encode(out: &mut Vec<u8>, message: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for octet in message {
        match octet {
            b' '..=b'~' if *octet != b'%' => out.push(*octet),
            _ => {
                let digit = |n: u8| DIGITS.get(usize::from(n)).copied().unwrap_or(b'0');
                out.extend_from_slice(&[b'%', digit(octet >> 4), digit(octet & 15)]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_calls_by_their_media_type() {
        let cases: &[(&str, Call)] = &[
            ("application/grpc", Call::Grpc),
            ("application/grpc+proto", Call::Grpc),
            ("Application/GRPC+json ; x=y", Call::Grpc),
            ("application/grpc;x", Call::Grpc),
            ("application/grpc-web", Call::Web),
            ("application/grpc-web+proto", Call::Web),
            ("application/grpc-web-text", Call::WebText),
            ("application/grpc-web-text+proto;charset=x", Call::WebText),
            ("application/grpcx", Call::No),
            ("application/grpc-weird", Call::No),
            ("application/json", Call::No),
            ("x; application/grpc", Call::No),
            ("", Call::No),
        ];
        for (text, expected) in cases {
            assert_eq!(Call::of(text.as_bytes()), *expected, "{text}");
        }
    }

    #[test]
    fn media_types_keep_the_message_format() {
        let check = |call: Call, like: &str, expected: &str| {
            assert_eq!(call.media_type(like.as_bytes()), expected.as_bytes());
        };
        check(Call::Grpc, "application/grpc-web-text+proto; x", "application/grpc+proto");
        check(Call::Web, "application/grpc", "application/grpc-web");
        check(Call::WebText, "application/grpc+json", "application/grpc-web-text+json");
    }

    #[test]
    fn reads_and_writes_timeouts() {
        let cases: &[(&str, Option<Duration>)] = &[
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("99999999S", Some(Duration::from_secs(99_999_999))),
            ("250m", Some(Duration::from_millis(250))),
            ("07u", Some(Duration::from_micros(7))),
            ("0n", Some(Duration::ZERO)),
            ("100000000n", None),
            ("S", None),
            ("", None),
            ("1", None),
            ("1 S", None),
            ("-1S", None),
            ("+1S", None),
            ("1.5S", None),
            ("1s", None),
        ];
        for (text, expected) in cases {
            assert_eq!(timeout(text.as_bytes()), *expected, "{text}");
        }
        for (left, expected) in [
            (Duration::from_nanos(99_999_999), "99999999n"),
            (Duration::from_millis(100), "100000u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_secs(100_000), "100000S"),
            (Duration::from_secs(99_999_999 * 60 + 59), "99999999M"),
            (Duration::MAX, "99999999H"),
        ] {
            assert_eq!(timeout_value(left), expected);
        }
    }

    #[test]
    fn a_written_timeout_is_never_longer_than_what_was_left() {
        let mut nanos: u128 = 1;
        while nanos < u128::from(u64::MAX) {
            let left = Duration::from_nanos(u64::try_from(nanos).unwrap());
            let read = timeout(timeout_value(left).as_bytes()).unwrap();
            assert!(read <= left && left - read <= left / 90_000, "{left:?} {read:?}");
            nanos = nanos * 17 / 10 + 1;
        }
    }

    #[test]
    fn statuses_have_names_and_come_from_faults() {
        assert_eq!((status(b"0"), status(b"16"), status(b"99")), (Some(0), Some(16), Some(99)));
        for bad in ["", "-1", "1 ", "x", "123456", "99999"] {
            assert_eq!(status(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!((name(14), name(99)), ("UNAVAILABLE", "UNKNOWN"));
        for fault in Fault::ALL {
            let status = status_of(*fault);
            assert!(status != 0 && usize::from(status) < STATUSES.len(), "{fault:?}");
        }
        assert_eq!(status_of(Fault::NoRoute), 12);
        assert_eq!(status_of(Fault::NoTarget), 14);
        assert_eq!(status_of(Fault::ConnectTimeout), 14);
        assert_eq!(status_of(Fault::DeadlineExceeded), 4);
    }

    #[test]
    fn messages_are_percent_encoded() {
        let mut out = Vec::new();
        percent_encode(&mut out, "50% of ö\r\n~\u{7f}".as_bytes());
        assert_eq!(out, b"50%25 of %C3%B6%0D%0A~%7F");
        let mut out = Vec::new();
        trailers_only(&mut out, Call::Grpc, b"application/grpc+proto", 14, "no");
        let expected =
            "content-type: application/grpc+proto\r\ngrpc-status: 14\r\ngrpc-message: no\r\n";
        assert_eq!(out, expected.as_bytes());
    }
}
