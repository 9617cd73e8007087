//! What a version 2 PROXY header says beside the addresses (section 2.2 of the specification): type, length, value.
//!
//! [`check`] walks all of them when a header is parsed; [`Said::of`] reads those that mean something here from octets that
//! passed it. Whether any of it may be believed is the caller's to know (HDR-07). `write` writes the same types.

use crate::http::proxy_protocol::Malformed;

/// PP2_TYPE_ALPN
pub(super) const ALPN: u8 = 0x01;
/// PP2_TYPE_AUTHORITY
pub(super) const AUTHORITY: u8 = 0x02;
/// PP2_TYPE_CRC32C
pub(super) const CRC32C: u8 = 0x03;
/// PP2_TYPE_UNIQUE_ID
pub(super) const UNIQUE_ID: u8 = 0x05;
/// PP2_TYPE_SSL
pub(super) const SSL: u8 = 0x20;
/// PP2_SUBTYPE_SSL_VERSION
pub(super) const SSL_VERSION: u8 = 0x21;
/// PP2_SUBTYPE_SSL_CN
pub(super) const SSL_CN: u8 = 0x22;
/// PP2_SUBTYPE_SSL_CIPHER
pub(super) const SSL_CIPHER: u8 = 0x23;

/// PP2_CLIENT_SSL: the client came by TLS.
pub(super) const CLIENT_SSL: u8 = 0x01;
/// PP2_CLIENT_CERT_CONN, PP2_CLIENT_CERT_SESS: it showed a certificate on this connection, or when the session began.
pub(super) const CLIENT_CERT: u8 = 0x02 | 0x04;

/// Octets of a host name (HAProxy refuses longer ones, too).
pub(super) const AUTHORITY_LONGEST: usize = 255;
/// Octets of a unique id (section 2.2.5).
pub(super) const UNIQUE_ID_LONGEST: usize = 128;

/// What is said of a client beside its addresses; what is not said is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said<'a> {
    /// The protocol that was negotiated (RFC 7301), such as `h2`.
    pub alpn: &'a [u8],
    /// The host that it asked for: the name in the TLS handshake, where there was one.
    pub authority: &'a [u8],
    /// What tells the connection from others; opaque, at most 128 octets.
    pub unique_id: &'a [u8],
    /// How it came by TLS, if it did.
    pub tls: Option<SaidTls<'a>>,
}

/// A client's TLS; what is not said is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SaidTls<'a> {
    /// `TLSv1.3`
    pub version: &'a [u8],
    /// As OpenSSL calls it.
    pub cipher: &'a [u8],
    /// The common name in the client's certificate.
    pub common_name: &'a [u8],
    /// Whether it showed a certificate that was verified.
    pub verified: bool,
}

impl<'a> Said<'a> {
    /// Reads what `tlvs` say, of which a type that comes again counts only once. What [`check`] would refuse says nothing.
    pub fn of(tlvs: &'a [u8]) -> Said<'a> {
        let mut said = Said::default();
        for (kind, value) in Walk(tlvs).flatten() {
            let slot = match kind {
                ALPN => &mut said.alpn,
                AUTHORITY => &mut said.authority,
                UNIQUE_ID => &mut said.unique_id,
                SSL => {
                    said.tls = said.tls.or_else(|| tls(value));
                    continue;
                }
                _ => continue,
            };
            if slot.is_empty() {
                *slot = value;
            }
        }
        said
    }
}

// PP2_TYPE_SSL: flags, the result of verification (0 is success), then types of its own.
fn tls(value: &[u8]) -> Option<SaidTls<'_>> {
    let (&[client, verify @ ..], more) = value.split_first_chunk::<5>()?;
    if client & CLIENT_SSL == 0 {
        return None;
    }
    let verified = client & CLIENT_CERT != 0 && verify == [0; 4];
    let mut tls = SaidTls { verified, ..SaidTls::default() };
    for (kind, value) in Walk(more).flatten() {
        let slot = match kind {
            SSL_VERSION => &mut tls.version,
            SSL_CN => &mut tls.common_name,
            SSL_CIPHER => &mut tls.cipher,
            _ => continue,
        };
        if slot.is_empty() {
            *slot = value;
        }
    }
    Some(tls)
}

/// Walks the type-length-values, which are the last octets of `header`.
///
/// # Errors
/// [`Malformed::Tlv`] for one that does not fit its place or its type, [`Malformed::Checksum`].
pub(super) fn check(header: &[u8], tlvs: &[u8]) -> Result<(), Malformed> {
    let mut at = header.len() - tlvs.len();
    let mut checked = false;
    for one in Walk(tlvs) {
        let (kind, value) = one?;
        at += 3;
        match kind {
            CRC32C => {
                let wanted = value.try_into().ok().map(u32::from_be_bytes);
                if checked || wanted != Some(crc32c_without(header, at)) {
                    return Err(Malformed::Checksum);
                }
                checked = true;
            }
            AUTHORITY if value.len() > AUTHORITY_LONGEST => return Err(Malformed::Tlv),
            UNIQUE_ID if value.len() > UNIQUE_ID_LONGEST => return Err(Malformed::Tlv),
            SSL => {
                let (_, more) = value.split_first_chunk::<5>().ok_or(Malformed::Tlv)?;
                Walk(more).try_for_each(|one| one.map(|_| ()))?;
            }
            _ => {}
        }
        at += value.len();
    }
    Ok(())
}

// The values with their types; an error, and then nothing, where one does not fit.
struct Walk<'a>(&'a [u8]);

impl<'a> Iterator for Walk<'a> {
    type Item = Result<(u8, &'a [u8]), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = std::mem::take(&mut self.0);
        if rest.is_empty() {
            return None;
        }
        let value = rest.split_first_chunk::<3>().and_then(|(&[kind, high, low], after)| {
            let length = usize::from(u16::from_be_bytes([high, low]));
            let (value, next) = after.split_at_checked(length)?;
            self.0 = next;
            Some((kind, value))
        });
        Some(value.ok_or(Malformed::Tlv))
    }
}

/// The CRC32c (RFC 4960 appendix B) of the header with zeros for the four octets at `at`.
pub(super) fn crc32c_without(header: &[u8], at: usize) -> u32 {
    let octets =
        header.iter().enumerate().map(|(i, b)| if i.wrapping_sub(at) < 4 { 0 } else { *b });
    !octets.fold(!0, |crc, octet| {
        let entry = TABLE.get(usize::from(crc as u8 ^ octet)).copied().unwrap_or_default();
        crc >> 8 ^ entry
    })
}

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut octet = 0;
    while octet < 256 {
        let (mut crc, mut bit) = (octet as u32, 0);
        while bit < 8 {
            // The Castagnoli polynomial, its bits reversed.
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[octet] = crc;
        octet += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len()).unwrap().to_be_bytes();
        [&[kind], &length[..], value].concat()
    }

    #[test]
    fn the_checksum_is_the_one_of_the_standard() {
        // RFC 3720 appendix B.4, and the check value of the catalogue of CRCs.
        for (octets, expected) in [
            (vec![0; 32], 0x8a91_36aa),
            (vec![0xff; 32], 0x62a8_ab43),
            ((0..32).collect(), 0x46dd_794e),
            (b"123456789".to_vec(), 0xe306_9283),
        ] {
            assert_eq!(crc32c_without(&octets, 64), expected, "{octets:?}");
        }
    }

    #[test]
    fn reads_what_is_said() {
        let ssl = |client: u8, verify: u8| {
            let more = [
                tlv(SSL_VERSION, b"TLSv1.3"),
                tlv(SSL_CN, b"alice"),
                tlv(SSL_CIPHER, b"TLS_AES_128_GCM_SHA256"),
                tlv(0x24, b"SHA256"),
            ];
            tlv(SSL, &[&[client, 0, 0, 0, verify][..], &more.concat()].concat())
        };
        let tlvs = [
            tlv(0x04, b"\0\0\0"),
            tlv(ALPN, b"h2"),
            tlv(AUTHORITY, b"a.test"),
            tlv(AUTHORITY, b"b.test"),
            tlv(UNIQUE_ID, b"7f"),
            tlv(0xea, b"\x01vpce-1"),
        ]
        .concat();
        let plain = Said { alpn: b"h2", authority: b"a.test", unique_id: b"7f", tls: None };
        assert_eq!(Said::of(&tlvs), plain);
        let tls = SaidTls {
            version: b"TLSv1.3",
            cipher: b"TLS_AES_128_GCM_SHA256",
            common_name: b"alice",
            verified: false,
        };
        for (client, verify, expected) in [
            (0, 0, None),
            (CLIENT_SSL, 0, Some(tls)),
            (CLIENT_SSL | 2, 0, Some(SaidTls { verified: true, ..tls })),
            (CLIENT_SSL | 4, 0, Some(SaidTls { verified: true, ..tls })),
            (CLIENT_SSL | 2, 20, Some(tls)),
        ] {
            let all = [tlvs.clone(), ssl(client, verify)].concat();
            assert_eq!(Said::of(&all), Said { tls: expected, ..plain }, "{client} {verify}");
            assert_eq!(check(&all, &all), Ok(()));
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        for bad in [
            vec![1],
            vec![1, 0],
            vec![1, 0, 2, 0],
            tlv(AUTHORITY, &[b'a'; 256]),
            tlv(UNIQUE_ID, &[b'a'; 129]),
            tlv(SSL, &[1, 0, 0, 0]),
            tlv(SSL, &[1, 0, 0, 0, 0, SSL_CN]),
            tlv(SSL, &[1, 0, 0, 0, 0, SSL_CN, 0, 2, b'a']),
        ] {
            assert_eq!(check(&bad, &bad), Err(Malformed::Tlv), "{bad:?}");
        }
        for good in [tlv(AUTHORITY, &[b'a'; 255]), tlv(UNIQUE_ID, &[0; 128]), tlv(SSL, &[0; 5])] {
            assert_eq!(check(&good, &good), Ok(()), "{good:?}");
        }
    }
}
