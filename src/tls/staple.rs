//! An OCSP response (RFC 6960) as it is stapled to a handshake: whether it is worth sending, and until when.
//!
//! Read as far as that takes, and no further: its signature is for clients to verify, who know the issuer. A wrong or an old
//! one is worse than none, since clients that see it break the connection off. Called by what loads certificates.

use std::fmt;
use x509_parser::prelude::{ASN1Time, FromDer};

/// What a response says, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Staple {
    /// From when it counts, in seconds since 1970.
    pub this_update: u64,
    /// Until when; `None` where it does not say.
    pub next_update: Option<u64>,
}

/// Why a response is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It is no OCSP response in DER.
    Malformed,
    /// The responder did not answer the question.
    Unsuccessful,
    /// It does not speak of this certificate.
    OfAnother,
    /// It says that the certificate is revoked, or that the responder does not know it.
    NotGood,
    /// It has expired; when, in seconds since 1970.
    Expired(u64),
    /// It counts only later.
    NotYet(u64),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unfit::Malformed => "no OCSP response in DER",
            Unfit::Unsuccessful => "a response without an answer in it",
            Unfit::OfAnother => "a response about another certificate",
            Unfit::NotGood => "a response that does not call the certificate good",
            Unfit::Expired(_) => "a response that has expired",
            Unfit::NotYet(_) => "a response that is not valid yet",
        })
    }
}

/// How far clocks may differ.
const SKEW: u64 = 300;

// The tags that are met (X.690 section 8.1.2).
const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const OID: u8 = 0x06;
const ENUMERATED: u8 = 0x0a;
const SEQUENCE: u8 = 0x30;
const CONTEXT_0: u8 = 0xa0;
const GOOD: u8 = 0x80;
/// id-pkix-ocsp-basic
const BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 48, 1, 1];

/// Reads what `der` says about the certificate with this serial number (the octets of its INTEGER).
///
/// # Errors
/// Why it is not to be sent, whatever the time.
pub fn parse(der: &[u8], serial: &[u8]) -> Result<Staple, Unfit> {
    let basic = basic(der)?;
    let responses = responses(basic).ok_or(Unfit::Malformed)?;
    let mut rest = responses;
    while !rest.is_empty() {
        let (single, after) = expect(rest, SEQUENCE).ok_or(Unfit::Malformed)?;
        rest = after;
        let (of, staple) = read_single(single).ok_or(Unfit::Malformed)?;
        if of == serial {
            return staple.ok_or(Unfit::NotGood);
        }
    }
    Err(Unfit::OfAnother)
}

impl Staple {
    /// Whether it is to be sent at `now`, in seconds since 1970.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, now: u64) -> Result<(), Unfit> {
        if self.this_update > now + SKEW {
            return Err(Unfit::NotYet(self.this_update));
        }
        match self.next_update {
            Some(end) if end <= now => Err(Unfit::Expired(end)),
            _ => Ok(()),
        }
    }
}

/// OCSPResponse (RFC 6960 section 4.2.1): the content of its BasicOCSPResponse.
fn basic(der: &[u8]) -> Result<&[u8], Unfit> {
    let (response, end) = expect(der, SEQUENCE).ok_or(Unfit::Malformed)?;
    let (status, response) = expect(response, ENUMERATED).ok_or(Unfit::Malformed)?;
    if !end.is_empty() {
        return Err(Unfit::Malformed);
    }
    if status != [0] {
        return Err(Unfit::Unsuccessful);
    }
    let inner = || {
        let (bytes, _) = expect(response, CONTEXT_0)?;
        let (bytes, _) = expect(bytes, SEQUENCE)?;
        let (kind, bytes) = expect(bytes, OID)?;
        let (octets, _) = expect(bytes, OCTETS)?;
        (kind == BASIC).then_some(octets)
    };
    let octets = inner().ok_or(Unfit::Malformed)?;
    expect(octets, SEQUENCE).map(|(basic, _)| basic).ok_or(Unfit::Malformed)
}

/// The content of `responses` in ResponseData.
fn responses(basic: &[u8]) -> Option<&[u8]> {
    let (mut data, _) = expect(basic, SEQUENCE)?;
    if let Some((_, after)) = expect(data, CONTEXT_0) {
        // The version.
        data = after;
    }
    let (_, _, data) = take(data)?; // responderID
    let (_, _, data) = take(data)?; // producedAt
    expect(data, SEQUENCE).map(|(responses, _)| responses)
}

/// SingleResponse: the serial number, and what it says where the certificate is good.
fn read_single(single: &[u8]) -> Option<(&[u8], Option<Staple>)> {
    let (id, single) = expect(single, SEQUENCE)?;
    let (_, id) = expect(id, SEQUENCE)?;
    let (_, id) = expect(id, OCTETS)?;
    let (_, id) = expect(id, OCTETS)?;
    let (serial, _) = expect(id, INTEGER)?;
    let (status, _, single) = take(single)?;
    let (single, this_update) = time(single)?;
    let next_update = match expect(single, CONTEXT_0) {
        Some((next, _)) => Some(time(next)?.1),
        None => None,
    };
    Some((serial, (status == GOOD).then_some(Staple { this_update, next_update })))
}

fn time(der: &[u8]) -> Option<(&[u8], u64)> {
    let (rest, time) = ASN1Time::from_der(der).ok()?;
    Some((rest, u64::try_from(time.timestamp()).ok()?))
}

/// The content of an element with this tag, and what follows it.
fn expect(der: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    let (tag, content, rest) = take(der)?;
    (tag == wanted).then_some((content, rest))
}

/// Tag, content and rest; lengths are definite and at most four octets long, as DER has them.
fn take(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, der) = der.split_first()?;
    let (first, der) = der.split_first()?;
    let (length, der) = match first {
        0..=0x7f => (usize::from(*first), der),
        0x81..=0x84 => {
            let (octets, der) = der.split_at_checked(usize::from(first & 0x7f))?;
            (octets.iter().fold(0, |length, octet| length << 8 | usize::from(*octet)), der)
        }
        _ => return None,
    };
    let (content, rest) = der.split_at_checked(length)?;
    Some((*tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        let mut out = vec![tag];
        match content.len() {
            0..=127 => out.push(length[1]),
            _ => out.extend([0x82, length[0], length[1]]),
        }
        [out, content].concat()
    }

    const THIS: u64 = 1_767_225_600; // 2026-01-01
    const NEXT: u64 = 1_767_830_400; // 2026-01-08

    fn single(serial: &[u8], status: u8, next: bool) -> Vec<u8> {
        let algorithm = tlv(SEQUENCE, &[&tlv(OID, &[&[0x2b, 14, 3, 2, 26]])]);
        let hash = tlv(OCTETS, &[&[1; 20]]);
        let id = tlv(SEQUENCE, &[&algorithm, &hash, &hash, &tlv(INTEGER, &[serial])]);
        let this = tlv(0x18, &[b"20260101000000Z"]);
        let end = tlv(CONTEXT_0, &[&tlv(0x18, &[b"20260108000000Z"])]);
        tlv(SEQUENCE, &[&id, &[status, 0], &this, if next { &end } else { b"" }])
    }

    fn response(status: u8, singles: &[Vec<u8>]) -> Vec<u8> {
        let responder = tlv(0xa2, &[&tlv(OCTETS, &[&[2; 20]])]);
        let produced = tlv(0x18, &[b"20260101000000Z"]);
        let data = tlv(SEQUENCE, &[&responder, &produced, &tlv(SEQUENCE, &[&singles.concat()])]);
        let signature = tlv(0x03, &[&[0; 257]]);
        let basic = tlv(SEQUENCE, &[&data, &signature]);
        let bytes = tlv(SEQUENCE, &[&tlv(OID, &[BASIC]), &tlv(OCTETS, &[&basic])]);
        tlv(SEQUENCE, &[&tlv(ENUMERATED, &[&[status]]), &tlv(CONTEXT_0, &[&bytes])])
    }

    #[test]
    fn reads_what_is_said_about_the_certificate() {
        let good = Staple { this_update: THIS, next_update: Some(NEXT) };
        let other = single(&[9], 0x81, true);
        for (singles, expected) in [
            (vec![single(&[1, 2], GOOD, true)], Ok(good)),
            (vec![single(&[1, 2], GOOD, false)], Ok(Staple { next_update: None, ..good })),
            (vec![other.clone(), single(&[1, 2], GOOD, true)], Ok(good)),
            (vec![other], Err(Unfit::OfAnother)),
            (vec![], Err(Unfit::OfAnother)),
            (vec![single(&[1, 2], 0x82, true)], Err(Unfit::NotGood)),
        ] {
            assert_eq!(parse(&response(0, &singles), &[1, 2]), expected);
        }
        assert_eq!(parse(&response(6, &[]), &[1]), Err(Unfit::Unsuccessful));
    }

    #[test]
    fn counts_from_its_beginning_to_its_end() {
        let staple = Staple { this_update: THIS, next_update: Some(NEXT) };
        for (now, expected) in [
            (THIS - SKEW - 1, Err(Unfit::NotYet(THIS))),
            (THIS - SKEW, Ok(())),
            (NEXT - 1, Ok(())),
            (NEXT, Err(Unfit::Expired(NEXT))),
        ] {
            assert_eq!(staple.check(now), expected, "{now}");
        }
        assert_eq!(Staple { next_update: None, ..staple }.check(NEXT * 2), Ok(()));
    }

    #[test]
    fn what_is_cut_or_changed_is_refused_without_a_panic() {
        let whole = response(0, &[single(&[1, 2], GOOD, true)]);
        for end in 0..whole.len() {
            assert!(parse(&whole[..end], &[1, 2]).is_err(), "{end}");
        }
        let mut rng = crate::base::Rng::with_seed(3);
        for _ in 0..20_000 {
            let mut broken = whole.clone();
            let at = rng.usize(..broken.len());
            broken[at] = rng.u8(..);
            let _ = parse(&broken, &[1, 2]);
        }
        assert_eq!(parse(b"-----BEGIN", &[1]), Err(Unfit::Malformed));
        assert_eq!(parse(&[whole, vec![0]].concat(), &[1, 2]), Err(Unfit::Malformed));
    }
}
