//! The field names that mean something to an intermediary, told apart once, when a head is parsed.
//!
//! Everything that is not here is passed on untouched. Called by the head parser and by who writes heads.

/// A field name that ringgate treats specially; [`Known::Other`] for all the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the field of that name")]
pub enum Known {
    Other,
    Host,
    Connection,
    ContentLength,
    TransferEncoding,
    Te,
    Trailer,
    Upgrade,
    KeepAlive,
    ProxyConnection,
    ProxyAuthorization,
    ProxyAuthenticate,
    Proxy,
    Expect,
    Via,
    Date,
    Server,
    Cookie,
    Accept,
    Origin,
    Authorization,
    ContentType,
    UserAgent,
    Referer,
    MaxForwards,
    Http2Settings,
    Forwarded,
    XForwardedFor,
    XForwardedProto,
    XForwardedPort,
    XForwardedHost,
    XForwardedServer,
    XForwardedPrefix,
    XForwardedPath,
    XForwardedUri,
    XForwardedMethod,
    XRequestId,
    XRealIp,
    XOriginalUrl,
    XRewriteUrl,
    XHttpMethodOverride,
    XHttpMethod,
    XMethodOverride,
    XRinggateReason,
    ClientCert,
    XForwardedClientCert,
}

/// How the fields begin that say who a client has proven to be.
const MTLS: &[u8] = b"x-amzn-mtls-clientcert";

impl Known {
    /// What `name` (case-insensitive) is.
    #[inline]
    pub fn of(name: &[u8]) -> Known {
        // By length first: most names are told apart by it alone.
        let candidates: &[(&[u8], Known)] = match name.len() {
            2 => &[(b"te", Known::Te)],
            3 => &[(b"via", Known::Via)],
            4 => &[(b"host", Known::Host), (b"date", Known::Date)],
            5 => &[(b"proxy", Known::Proxy)],
            6 => &[
                (b"expect", Known::Expect),
                (b"server", Known::Server),
                (b"cookie", Known::Cookie),
                (b"accept", Known::Accept),
                (b"origin", Known::Origin),
            ],
            7 => &[
                (b"trailer", Known::Trailer),
                (b"upgrade", Known::Upgrade),
                (b"referer", Known::Referer),
            ],
            9 => &[(b"forwarded", Known::Forwarded), (b"x-real-ip", Known::XRealIp)],
            10 => &[
                (b"connection", Known::Connection),
                (b"keep-alive", Known::KeepAlive),
                (b"user-agent", Known::UserAgent),
            ],
            12 => &[
                (b"content-type", Known::ContentType),
                (b"max-forwards", Known::MaxForwards),
                (b"x-request-id", Known::XRequestId),
            ],
            13 => &[
                (b"authorization", Known::Authorization),
                (b"x-rewrite-url", Known::XRewriteUrl),
                (b"x-http-method", Known::XHttpMethod),
            ],
            14 => &[
                (b"content-length", Known::ContentLength),
                (b"http2-settings", Known::Http2Settings),
                (b"x-original-url", Known::XOriginalUrl),
            ],
            15 => &[
                (b"x-forwarded-for", Known::XForwardedFor),
                (b"x-forwarded-uri", Known::XForwardedUri),
            ],
            16 => &[
                (b"proxy-connection", Known::ProxyConnection),
                (b"x-forwarded-port", Known::XForwardedPort),
                (b"x-forwarded-host", Known::XForwardedHost),
                (b"x-forwarded-path", Known::XForwardedPath),
            ],
            17 => &[
                (b"transfer-encoding", Known::TransferEncoding),
                (b"x-forwarded-proto", Known::XForwardedProto),
                (b"x-method-override", Known::XMethodOverride),
                (b"x-ringgate-reason", Known::XRinggateReason),
                (b"client-cert-chain", Known::ClientCert),
            ],
            18 => &[
                (b"proxy-authenticate", Known::ProxyAuthenticate),
                (b"x-forwarded-server", Known::XForwardedServer),
                (b"x-forwarded-prefix", Known::XForwardedPrefix),
                (b"x-forwarded-method", Known::XForwardedMethod),
            ],
            19 => &[(b"proxy-authorization", Known::ProxyAuthorization)],
            22 => &[(b"x-http-method-override", Known::XHttpMethodOverride)],
            11 => &[(b"client-cert", Known::ClientCert)],
            23 => &[(b"x-forwarded-client-cert", Known::XForwardedClientCert)],
            _ => &[],
        };
        // The ends tell nearly all of them apart; comparing octet by octet is what costs here.
        let ends = ends(name);
        let found = candidates
            .iter()
            .find(|(known, _)| ends == self::ends(known) && name.eq_ignore_ascii_case(known));
        match found {
            Some((_, known)) => *known,
            // A whole family: what targets are told of a client's certificate.
            None if name.get(..MTLS.len()).is_some_and(|n| n.eq_ignore_ascii_case(MTLS)) => {
                Known::ClientCert
            }
            None => Known::Other,
        }
    }
}

// The first and the last octet; letters in lower case.
#[inline]
fn ends(name: &[u8]) -> [u8; 2] {
    match name {
        [first, .., last] => [first | 0x20, last | 0x20],
        _ => [0; 2],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_names_in_any_case() {
        assert_eq!(Known::of(b"HOST"), Known::Host);
        assert_eq!(Known::of(b"x-Forwarded-For"), Known::XForwardedFor);
        assert_eq!(Known::of(b"transfer-encoding"), Known::TransferEncoding);
        for proof in [
            b"Client-Cert".as_slice(),
            b"client-cert-chain",
            b"X-Amzn-Mtls-Clientcert",
            b"x-amzn-mtls-clientcert-subject",
            b"x-amzn-mtls-clientcert-whatever",
        ] {
            assert_eq!(Known::of(proof), Known::ClientCert);
        }
        for other in [b"".as_slice(), b"hos", b"hostt", b"x-forwarded-foo", b"transfer_encoding"] {
            assert_eq!(Known::of(other), Known::Other);
        }
    }
}
