//! Request heads (hazards H1-01 to H1-29): what is accepted has one meaning, however it arrives and whoever reads it.
//!
//! The input is what a client sends, from its first octet.

use super::head::{self, Plain};
use super::split::splits;
use super::target::is_canonical;
use ringgate::config::Limits;
use ringgate::http::fault::Party;
use ringgate::http::path::PathPolicy;
use ringgate::http::request::is_token_octet;
use ringgate::http::scan::{Scan, SectionLimits};
use ringgate::http::{Fault, Framing, Known, Method, RequestHead, Version, write};
use std::net::IpAddr;
use std::ops::Range;

/// Empty lines before a request that are skipped, as `serve` does (RFC 9112 section 2.2).
const EMPTY_LINES: usize = 2;
const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// See the module's documentation.
pub fn request_head(data: &[u8]) {
    let defaults = Limits::default();
    let wide = SectionLimits {
        size: defaults.head as usize,
        line: defaults.line as usize,
        fields: defaults.headers,
        bare_lf: false,
    };
    let narrow = SectionLimits { size: 96, line: 48, fields: 3, bare_lf: false };
    for limits in [wide, narrow] {
        let whole = receive(data, &[data.len()], &limits);
        for ends in splits(data) {
            let cut = receive(data, &ends, &limits);
            assert_eq!(cut, whole, "cut at {ends:?}: {:?}", data.escape_ascii());
        }
        match whole {
            Arrived::Section(range) => {
                assert!(range.len() < limits.size + 1, "larger than it may be");
                judge(&data[range]);
            }
            Arrived::Refused(fault) => is_refusal(fault),
            Arrived::Nothing => {}
        }
    }
    // A section that no scan has seen may be refused or not, but nothing worse.
    let _ = RequestHead::default().parse(data, PathPolicy::default());
}

#[derive(Debug, PartialEq, Eq)]
enum Arrived {
    Section(Range<usize>),
    Refused(Fault),
    Nothing,
}

/// What `serve` makes of octets that arrive until each of `ends`.
fn receive(data: &[u8], ends: &[usize], limits: &SectionLimits) -> Arrived {
    let (mut scan, mut start, mut empty_lines) = (Scan::default(), 0, 0);
    for end in ends {
        while empty_lines < EMPTY_LINES && data[start..*end].starts_with(b"\r\n") {
            start += 2;
            empty_lines += 1;
        }
        let arrived = &data[start..*end];
        match arrived {
            [] | [b'\r'] => continue,
            [b'\n', ..] => return Arrived::Refused(Fault::BareLf),
            [first, ..] if !is_token_octet(*first) => return Arrived::Refused(Fault::RequestLine),
            _ => {}
        }
        match scan.find_end(arrived, limits) {
            Ok(None) => {}
            Ok(Some(len)) => return Arrived::Section(start..start + len),
            Err(fault) => return Arrived::Refused(fault),
        }
    }
    Arrived::Nothing
}

fn judge(section: &[u8]) {
    let end = section.windows(4).position(|four| four == b"\r\n\r\n");
    assert_eq!(end.map(|at| at + 4), Some(section.len()), "the section is not the first one");

    let mut head = RequestHead::default();
    let verdict = head.parse(section, PathPolicy::default());
    // A head that was used before must not remember anything.
    let mut used = RequestHead::default();
    used.parse(USED, PathPolicy::default()).expect("a head that is in order");
    assert_eq!(used.parse(section, PathPolicy::default()), verdict);
    if let Err(fault) = verdict {
        return is_refusal(fault);
    }
    assert_eq!(format!("{head:?}"), format!("{used:?}"), "{:?}", section.escape_ascii());
    assert_eq!(head.len, section.len());

    let plain = Plain::read(section, false);
    line_agrees(&head, section, &plain);
    fields_agree(&head, section, &plain);
    host_agrees(&head, section, &plain);
    assert_eq!(head.framing, framing(&plain, head.version), "{:?}", section.escape_ascii());
    assert_eq!(head.keep_alive, plain.stays(head.version == Version::Http11));
    says_the_same_anew(&head, section);
}

const USED: &[u8] = b"OPTIONS http://used:81/a/../b?c HTTP/1.1\r\nhost: used:81\r\nconnection: x-a, close\r\nte: trailers\r\n\
    max-forwards: 7\r\nexpect: 100-continue\r\ntransfer-encoding: chunked\r\n\r\n";

fn is_refusal(fault: Fault) {
    assert_eq!(fault.party(), Party::Client, "{fault:?}");
    assert!(matches!(fault.status(), 400 | 405 | 413 | 414 | 417 | 431 | 501 | 505), "{fault:?}");
}

fn line_agrees(head: &RequestHead, section: &[u8], plain: &Plain<'_>) {
    let words: Vec<&[u8]> = plain.start.split(|b| *b == b' ').collect();
    let [method, target, version] = words[..] else { panic!("{} words", words.len()) };
    assert_eq!(head.method_span.of(section), method);
    assert_eq!(head.target.of(section), target);
    let expected: &[u8] = if head.version == Version::Http11 { b"HTTP/1.1" } else { b"HTTP/1.0" };
    assert_eq!(version, expected);
    assert!(head::is_token(method) && method.len() <= 32);
    assert!(!matches!(method, b"CONNECT" | b"TRACE"));
    assert!(target.iter().all(|b| (33..127).contains(b) && *b != b'#' && *b != b'\\'));
    let view = head.view(section, PEER);
    if view.path == b"*" {
        assert!(method == b"OPTIONS" && view.query.is_none());
    } else {
        is_canonical(view.path, PathPolicy::default());
    }
    if let Some(query) = view.query {
        let tail = [b"?", query].concat();
        assert!(target.ends_with(&tail), "the query is not the target's end");
    }
}

fn fields_agree(head: &RequestHead, section: &[u8], plain: &Plain<'_>) {
    let read: Vec<_> = head.view(section, PEER).fields.iter().collect();
    let options = plain.connection();
    // RFC 9110 section 7.6.1: what Connection names is of this hop alone, whatever it is.
    let stays = |name: &[u8]| {
        let named = name.to_ascii_lowercase();
        Known::of(name) != Known::Other || named == b"close" || !options.contains(&named)
    };
    let kept: Vec<_> = plain.fields.iter().copied().filter(|(name, _)| stays(name)).collect();
    assert_eq!(read, kept);
    for (field, (name, _)) in head.fields.iter().zip(&kept) {
        assert_eq!(field.known, Known::of(name));
    }
    for name in ["host", "content-length", "transfer-encoding", "expect", "authorization"] {
        let values = plain.all(name);
        assert!(values.len() <= 1 && values.iter().all(|v| v.is_ascii()), "{name}: {values:?}");
    }
    for nominated in &head.nominated {
        let name = nominated.of(section).to_ascii_lowercase();
        assert!(options.contains(&name) && head::is_token(&name));
    }
    assert_eq!(
        head.expects_continue,
        !plain.all("expect").is_empty()
            && head.version == Version::Http11
            && head.framing != Framing::None
    );
}

fn host_agrees(head: &RequestHead, section: &[u8], plain: &Plain<'_>) {
    let hosts = plain.all("host");
    assert!(hosts.len() == 1 || head.version == Version::Http10, "{} hosts", hosts.len());
    let authority = head.authority.of(section);
    assert_eq!(authority.is_empty(), head.host.is_empty());
    let mut canonical = Vec::new();
    if !authority.is_empty() {
        let port = ringgate::http::host::canonical(authority, &mut canonical);
        assert_eq!(port, Ok(head.port));
    }
    assert_eq!(canonical, head.host);
    for named in hosts {
        let mut of_field = Vec::new();
        assert!(ringgate::http::host::canonical(named, &mut of_field).is_ok());
        assert_eq!(of_field, head.host, "two hosts in one request");
    }
}

/// The one framing that the fields may mean (RFC 9112 section 6.3, stricter: hazards H1-01 to H1-06, H1-16).
fn framing(plain: &Plain<'_>, version: Version) -> Framing {
    match (&plain.all("transfer-encoding")[..], &plain.all("content-length")[..]) {
        ([], []) => Framing::None,
        ([], [value]) => match head::length(value) {
            0 => Framing::None,
            n => Framing::Length(n),
        },
        ([coding], []) => {
            assert!(coding.eq_ignore_ascii_case(b"chunked"), "{:?}", coding.escape_ascii());
            assert_eq!(version, Version::Http11, "HTTP/1.0 knows no codings");
            Framing::Chunked
        }
        (codings, lengths) => panic!("framed twice: {codings:?} {lengths:?}"),
    }
}

/// Writes the head as it is sent on, without what belongs to one hop, and reads it again.
fn says_the_same_anew(head: &RequestHead, section: &[u8]) {
    let view = head.view(section, PEER);
    let own = |known| {
        matches!(
            known,
            Known::Host | Known::Connection | Known::ContentLength | Known::TransferEncoding
        )
    };
    let authority = head.authority.of(section);
    let mut anew = Vec::new();
    write::request_line(&mut anew, view.method, view.path, view.query);
    write::field(&mut anew, b"host", if authority.is_empty() { b"a" } else { authority });
    let mut kept = Vec::new();
    for field in head.fields.iter().filter(|f| !own(f.known)) {
        write::parsed_field(&mut anew, section, field);
        kept.push((field.name.of(section), field.value.of(section)));
    }
    match head.framing {
        Framing::Length(length) => write::content_length(&mut anew, length),
        Framing::Chunked => write::field(&mut anew, b"transfer-encoding", b"chunked"),
        Framing::None => {}
        Framing::Close => panic!("no request ends with its connection"),
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
    let mut again = RequestHead::default();
    let verdict = again.parse(&anew, PathPolicy::default());
    if head.version == Version::Http10 && verdict == Err(Fault::ExpectationFailed) {
        // Ignored in HTTP/1.0 and never sent on.
        return;
    }
    assert_eq!(verdict, Ok(()), "{text}");
    let second = again.view(&anew, PEER);
    assert_eq!((second.method, second.path), (view.method, view.path), "{text}");
    assert_eq!(second.query, view.query, "{text}");
    assert!(authority.is_empty() || second.host == view.host, "{text}");
    assert!(authority.is_empty() || again.port == head.port, "{text}");
    assert_eq!(again.framing, head.framing, "{text}");
    assert_eq!(again.keep_alive, head.keep_alive, "{text}");
    assert_eq!(again.takes_trailers, head.takes_trailers, "{text}");
    if again.method == Method::Options {
        assert_eq!(again.max_forwards, head.max_forwards, "{text}");
    }
    let read = second.fields.iter().zip(&again.fields).filter(|(_, f)| !own(f.known));
    assert!(read.map(|(pair, _)| pair).eq(kept), "{text}");
}
