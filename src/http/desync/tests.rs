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
        check("POST", &format!("{name}: chunked\r\n"), Reason::SuspiciousHeader, "");
    }
    for plain in ["content-lengths", "x-content-length", "transfer-encoding-x", "te", ""] {
        assert!(!is_suspicious(plain.as_bytes()), "{plain}");
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
        ("GET /\u{e9} HTTP/1.1", AmbiguousUri, Some("GET /%C3%A9 HTTP/1.1")),
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
