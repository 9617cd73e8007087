//! ALB's classes and reasons, and the one meaning that is left.

use super::*;

// A request with these field lines, and what is found in it.
fn judged(method: &str, fields: &str) -> Judgement {
    judge(format!("{method} /foo HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes())
}

fn check(method: &str, fields: &str, reason: Reason, framing: &str) {
    let judgement = judged(method, fields);
    assert_eq!(judgement.reason, Some(reason), "{fields:?}");
    let mended = judgement.mended.unwrap_or_default();
    let mended = String::from_utf8_lossy(&mended).into_owned();
    assert_eq!(mended, format!("{method} /foo HTTP/1.1\r\nHost: a\r\n{framing}\r\n"), "{fields:?}");
}

const CHUNKED: &str = "transfer-encoding: chunked\r\n";

#[test]
fn lengths_and_codings_are_classified_as_alb_does() {
    use Reason::*;
    for (fields, reason, framing) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", BothTeClPresent, CHUNKED),
        (
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            DuplicateContentLength,
            "content-length: 5\r\n",
        ),
        (
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            MultipleContentLength,
            "content-length: 5\r\n",
        ),
        ("Content-Length: 5, 5\r\n", BadContentLength, ""),
        ("Content-Length: +5\r\n", BadContentLength, ""),
        ("Content-Length:\r\n", BadContentLength, ""),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            MultipleTransferEncodingChunked,
            CHUNKED,
        ),
        ("Transfer-Encoding: chunked, chunked\r\n", MultipleTransferEncodingChunked, CHUNKED),
        ("Transfer-Encoding: xchunked\r\n", BadTransferEncoding, ""),
        ("Transfer-Encoding:\r\n", BadTransferEncoding, ""),
        ("Transfer-Encoding: \"chunked\"\r\n", BadTransferEncoding, ""),
        ("Transfer-Encoding: ,chunked\r\n", BadTransferEncoding, CHUNKED),
        ("Transfer-Encoding: chunked,\r\n", BadTransferEncoding, CHUNKED),
        ("Transfer-Encoding: chunked, identity\r\n", BadTransferEncoding, CHUNKED),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
            BadTransferEncoding,
            CHUNKED,
        ),
        (
            "Transfer-Encoding: chunked, gzip\r\n",
            BadTransferEncoding,
            "transfer-encoding: gzip\r\n",
        ),
        ("Transfer-Encoding: identity\r\n", BadTransferEncoding, ""),
        (
            "Transfer-Encoding: gzip, identity\r\n",
            BadTransferEncoding,
            "transfer-encoding: gzip\r\n",
        ),
        ("Transfer-Encoding: identity, chunked\r\n", UndefinedTransferEncodingSemantics, CHUNKED),
    ] {
        check("POST", fields, reason, framing);
    }
}

#[test]
fn names_that_resemble_are_suspicious() {
    for name in [
        "Transfer-Encoding ",
        "Transfer-Encoding\t",
        " Transfer-Encoding",
        "\u{1}Transfer-Encoding",
        "Transfer- Encoding",
        "Transfer_Encoding",
        "Transfer---Encoding",
        "Content_Length",
        "Content-Length ",
        "Tran\u{17f}fer-Encoding",
        "Transfer-Encod\u{131}ng",
        "Transfer-Encoding x",
        "transferencoding",
    ] {
        let length = name.starts_with("Content");
        let value = if length { "5" } else { "chunked" };
        check("POST", &format!("{name}: {value}\r\n"), Reason::SuspiciousHeader, "");
    }
    for plain in ["content-lengths", "x-content-length", "transfer-encoding-x", "te", ""] {
        assert!(!is_suspicious(plain.as_bytes()), "{plain}");
    }
}

// What a look-alike says is judged with the rest, and never framed by.
#[test]
fn what_resembles_is_compared() {
    use Reason::*;
    const LENGTH: &str = "content-length: 5\r\n";
    for (fields, reason, framing) in [
        ("Content-Length : 100\r\nContent-Length: 5\r\n", MultipleContentLength, LENGTH),
        ("Content-Length: 5\r\n Content-Length: 100\r\n", MultipleContentLength, LENGTH),
        ("Content-Length : 5\r\nContent-Length: 5\r\n", SuspiciousHeader, LENGTH),
        ("Content_Length: five\r\nContent-Length: 5\r\n", BadContentLength, LENGTH),
        (
            "Transfer-Encoding : chunked\r\nTransfer-Encoding: chunked\r\n",
            MultipleTransferEncodingChunked,
            CHUNKED,
        ),
        ("Transfer_Encoding: xchunked\r\n", BadTransferEncoding, ""),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding\t: identity\r\n",
            BadTransferEncoding,
            CHUNKED,
        ),
        ("Transfer-Encoding : chunked\r\nContent-Length: 5\r\n", SuspiciousHeader, LENGTH),
        ("Content-Length : 5\r\nTransfer-Encoding: chunked\r\n", SuspiciousHeader, CHUNKED),
    ] {
        check("POST", fields, reason, framing);
    }
}

#[test]
fn fields_are_classified_as_alb_does() {
    use Reason::*;
    for (fields, reason, kept) in [
        (": x\r\n", EmptyHeader, ""),
        (":a: x\r\n", EmptyHeader, ""),
        ("  \t : x\r\n", EmptyHeader, ""),
        ("   \r\n", EmptyHeader, ""),
        ("x-a : b\r\n", NonCompliantHeader, ""),
        ("\u{1}x-a: b\r\n", NonCompliantHeader, ""),
        ("x-a: b\u{1}c\r\n", NonCompliantHeader, "x-a: b c\r\n"),
        ("x-a: b\0c\r\n", BadHeader, "x-a: b c\r\n"),
        ("x-a: b\rc\r\n", BadHeader, "x-a: b c\r\n"),
        ("x-\0a: b\r\n", BadHeader, ""),
        ("x-a : b\0c\r\n", BadHeader, ""),
        ("\0Transfer-Encoding: chunked\r\n", BadHeader, ""),
        ("\rTransfer-Encoding: chunked\r\n", BadHeader, ""),
        ("Content-Length\0: 5\r\n", BadHeader, ""),
        ("\r\r\n", BadHeader, ""),
        ("x\0a\r\n", BadHeader, ""),
        ("x-a\r\n", MissingHeaderColon, ""),
        ("x-a: b\r\n c\r\n", MultilineHeader, "x-a: b c\r\n"),
        ("x-a: b\n", NonCrLfLineTermination, "x-a: b\r\n"),
    ] {
        check("POST", fields, reason, kept);
    }
}

#[test]
fn request_lines_are_classified_as_alb_does() {
    use Reason::*;
    for (line, reason, mended) in [
        ("GET /a b HTTP/1.1", SpaceInUri, Some("GET /a%20b HTTP/1.1")),
        ("GET /a\u{1} HTTP/1.1", AmbiguousUri, Some("GET /a%01 HTTP/1.1")),
        ("GET /a\u{7f} HTTP/1.1", AmbiguousUri, Some("GET /a%7F HTTP/1.1")),
        ("GET /a\tb HTTP/1.1", AmbiguousUri, Some("GET /a%09b HTTP/1.1")),
        ("GET \t/a HTTP/1.1", AmbiguousUri, Some("GET /a HTTP/1.1")),
        ("GET /a\t HTTP/1.1", AmbiguousUri, Some("GET /a HTTP/1.1")),
        ("GET /a\tHTTP/1.1", AmbiguousUri, None),
        ("GET /a\rHTTP/1.1", BadUri, None),
        ("GET  /a HTTP/1.1", SpaceInUri, Some("GET /a HTTP/1.1")),
        ("GET /a  HTTP/1.1", SpaceInUri, Some("GET /a HTTP/1.1")),
        ("GET /a \tHTTP/1.1", NonCompliantVersion, Some("GET /a HTTP/1.1")),
        ("GET /a HTTP/1.1\t", NonCompliantVersion, Some("GET /a HTTP/1.1")),
        ("GET /a HTTP/1.1\tHTTP/1.1", BadVersion, None),
        ("GET /a\0 HTTP/1.1", BadUri, None),
        ("GET /a\rb HTTP/1.1", BadUri, None),
        ("GE(T / HTTP/1.1", BadMethod, None),
        (" GET / HTTP/1.1", BadMethod, None),
        ("GET / HTTP/1.2", NonCompliantVersion, Some("GET / HTTP/1.1")),
        ("GET / HTTP/1.1 ", NonCompliantVersion, Some("GET / HTTP/1.1")),
        ("GET / HTTP/2.0", BadVersion, None),
        ("GET / HTTPS/1.1", BadVersion, None),
        ("GET /", NonCompliantVersion, None),
        ("GET HTTP/1.1", MissingUri, None),
    ] {
        let judgement = judge(format!("{line}\r\nHost: a\r\n\r\n").as_bytes());
        assert_eq!(judgement.reason, Some(reason), "{line:?}");
        let got = judgement.mended.map(|m| String::from_utf8_lossy(&m).into_owned());
        assert_eq!(got, mended.map(|m| format!("{m}\r\nHost: a\r\n\r\n")), "{line:?}");
    }
}

// As ALB's classifier; the strict parser has said what it thinks of them.
#[test]
fn octets_above_ascii_in_a_target_have_no_class() {
    let judgement = judge("GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n".as_bytes());
    assert_eq!((judgement.reason, judgement.class()), (None, Class::Compliant));
    let mended = b"GET /%C3%A9 HTTP/1.1\r\nHost: a\r\n\r\n".as_slice();
    assert_eq!(judgement.mended.as_deref(), Some(mended));
}

#[test]
fn the_worst_counts() {
    let judgement = judged("GET", "x-a : b\r\nContent-Length: 5\r\nContent-Length: 6\r\n");
    assert_eq!(judgement.reason, Some(Reason::MultipleContentLength));
    assert_eq!(judged("GET", "Content-Length: 0\r\nx y\r\n").class(), Class::Ambiguous);
}

#[test]
fn a_coding_in_http_1_0_is_honoured_and_remembered() {
    let head = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n";
    let judgement = judge(head);
    assert_eq!(judgement.reason, Some(Reason::UndefinedTransferEncodingSemantics));
    assert!(judgement.spoke_http10);
    assert_eq!(
        judgement.mended.as_deref(),
        Some(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n".as_slice())
    );
}

#[test]
fn what_is_mended_is_left_alone_the_second_time() {
    for fields in ["x-a: b\r\n c\r\nContent-Length: 1\r\nContent-Length: 1\r\n", "x-a: b\u{1}c\r\n"]
    {
        let once = judged("POST", fields).mended.unwrap_or_default();
        let again = judge(&once);
        assert_eq!((again.reason, again.mended.as_ref()), (None, Some(&once)));
    }
}

#[test]
fn modes_differ_in_what_passes_and_what_closes() {
    use Class::*;
    let passes = |mode: Mode| [Acceptable, Ambiguous, Severe].map(|class| mode.lets_pass(class));
    assert_eq!(passes(Mode::Strict), [false, false, false]);
    assert_eq!(passes(Mode::Defensive), [true, true, false]);
    assert_eq!(passes(Mode::Monitor), [true, true, true]);
    let closes = |mode: Mode| [Acceptable, Ambiguous, Severe].map(|class| mode.closes(class));
    use Closes::{Both, Neither, Target};
    assert_eq!(closes(Mode::Strict), [Neither, Target, Target]);
    assert_eq!(closes(Mode::Defensive), [Neither, Both, Both]);
    assert_eq!(closes(Mode::Monitor), [Neither, Neither, Both]);
}
