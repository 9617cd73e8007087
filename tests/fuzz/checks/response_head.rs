//! Response heads (hazard H1-32): a target's answer has one framing, and says the same when it is written anew.
//!
//! The input is what a target sends, from its first octet; it is judged as the answer to each kind of request.

use super::head::{self, Plain};
use super::split::splits;
use ringgate::config::Limits;
use ringgate::http::fault::Party;
use ringgate::http::scan::{Scan, SectionLimits};
use ringgate::http::{Framing, Known, Method, ResponseHead, Version, write};

/// See the module's documentation.
pub fn response_head(data: &[u8]) {
    let size = Limits::default().response_head as usize;
    let wide = SectionLimits { size, line: size, fields: 1000, bare_lf: false };
    let narrow = SectionLimits { size: 64, line: 40, fields: 2, bare_lf: false };
    for limits in [wide, narrow] {
        let whole = Scan::default().find_end(data, &limits);
        for ends in splits(data) {
            let mut scan = Scan::default();
            let mut cut = Ok(None);
            for end in ends {
                cut = scan.find_end(&data[..end], &limits);
                if cut != Ok(None) {
                    break;
                }
            }
            assert_eq!(cut, whole, "{:?}", data.escape_ascii());
        }
        if let Ok(Some(len)) = whole {
            for method in [Method::Get, Method::Head, Method::Post, Method::Other] {
                judge(&data[..len], method);
            }
        }
    }
    let _ = ResponseHead::default().parse(data, Method::Get);
}

fn judge(section: &[u8], method: Method) {
    let mut head = ResponseHead::default();
    let verdict = head.parse(section, method);
    // A head that was used before must not remember anything.
    let mut used = ResponseHead::default();
    let before =
        b"HTTP/1.0 304 X\r\ndate: x\r\nconnection: keep-alive, x-a\r\ncontent-length: 7\r\n\r\n";
    used.parse(before, Method::Head).expect("a head that is in order");
    assert_eq!(used.parse(section, method), verdict);
    if let Err(fault) = verdict {
        assert_eq!((fault.party(), fault.status()), (Party::Target, 502), "{fault:?}");
        return;
    }
    assert_eq!(format!("{head:?}"), format!("{used:?}"), "{:?}", section.escape_ascii());
    assert_eq!(head.len, section.len());

    let plain = Plain::read(section, true);
    status_line_agrees(&head, plain.start);
    let read: Vec<_> = head.view(section).iter().collect();
    assert_eq!(read, plain.fields);
    assert_eq!(head.has_date, !plain.all("date").is_empty());
    let (framing, declared) = framing(&plain, &head, method);
    assert_eq!(head.framing, framing, "{:?}", section.escape_ascii());
    assert_eq!(head.declared, declared, "{:?}", section.escape_ascii());
    let stays = plain.stays(head.version == Version::Http11)
        && framing != Framing::Close
        && !announces_what_never_comes(&plain, &head);
    assert_eq!(head.keep_alive, stays, "{:?}", section.escape_ascii());
    says_the_same_anew(&head, section, method);
}

fn status_line_agrees(head: &ResponseHead, line: &[u8]) {
    assert!((100..=599).contains(&head.status));
    assert!(head::is_text(line), "{:?}", line.escape_ascii());
    let version = if head.version == Version::Http11 { "HTTP/1.1" } else { "HTTP/1.0" };
    let start = format!("{version} {}", head.status);
    let rest = line.strip_prefix(start.as_bytes()).expect("the status line's own words");
    assert!(rest.is_empty() || rest.starts_with(b" "), "{:?}", line.escape_ascii());
}

/// The one framing that status, request and fields may mean (RFC 9112 section 6.3), and the length of a body that is
/// not sent.
fn framing(plain: &Plain<'_>, head: &ResponseHead, method: Method) -> (Framing, Option<u64>) {
    let (codings, lengths) = (plain.all("transfer-encoding"), plain.all("content-length"));
    assert!(codings.len() + lengths.len() <= 1, "framed twice: {codings:?} {lengths:?}");
    let length = lengths.first().map(|value| head::length(value));
    if let [coding] = codings[..] {
        assert!(coding.eq_ignore_ascii_case(b"chunked") && head.version == Version::Http11);
    }
    if method == Method::Head || matches!(head.status, 100..=199 | 204 | 304) {
        let told = head.status >= 200 && head.status != 204;
        return (Framing::None, length.filter(|_| told));
    }
    match (codings.first(), length) {
        (Some(_), _) => (Framing::Chunked, None),
        (None, Some(length)) => (Framing::Length(length), None),
        (None, None) => (Framing::Close, None),
    }
}

/// Content with a status that has none in answer to any method (RFC 9110 section 8.6).
fn announces_what_never_comes(plain: &Plain<'_>, head: &ResponseHead) -> bool {
    let coded = !plain.all("transfer-encoding").is_empty();
    let long = plain.all("content-length").iter().any(|value| head::length(value) > 0);
    matches!(head.status, 100..=199 | 204) && (coded || long)
}

/// Writes the head as it is passed on and reads it again.
fn says_the_same_anew(head: &ResponseHead, section: &[u8], method: Method) {
    let own =
        |known| matches!(known, Known::Connection | Known::ContentLength | Known::TransferEncoding);
    let mut anew = Vec::new();
    write::status_line(&mut anew, head.status, head.reason.of(section));
    let mut kept = Vec::new();
    for field in head.fields.iter().filter(|f| !own(f.known)) {
        write::parsed_field(&mut anew, section, field);
        kept.push((field.name.of(section), field.value.of(section)));
    }
    match (head.framing, head.declared) {
        (Framing::Length(length), _) | (Framing::None, Some(length)) => {
            write::content_length(&mut anew, length);
        }
        (Framing::Chunked, _) => write::field(&mut anew, b"transfer-encoding", b"chunked"),
        (Framing::None | Framing::Close, _) => {}
    }
    if !head.keep_alive {
        write::field(&mut anew, b"connection", b"close");
    }
    anew.extend_from_slice(b"\r\n");

    let text = anew.escape_ascii();
    let limits = SectionLimits {
        size: usize::MAX,
        line: usize::MAX,
        fields: usize::MAX - 1,
        bare_lf: false,
    };
    assert_eq!(Scan::default().find_end(&anew, &limits), Ok(Some(anew.len())), "{text}");
    let mut again = ResponseHead::default();
    assert_eq!(again.parse(&anew, method), Ok(()), "{text}");
    assert_eq!(again.status, head.status, "{text}");
    assert_eq!(again.reason.of(&anew), head.reason.of(section), "{text}");
    assert_eq!((again.framing, again.declared), (head.framing, head.declared), "{text}");
    assert_eq!(again.keep_alive, head.keep_alive, "{text}");
    let read = again.view(&anew).iter().zip(&again.fields).filter(|(_, f)| !own(f.known));
    assert!(read.map(|(pair, _)| pair).eq(kept.into_iter()), "{text}");
}
