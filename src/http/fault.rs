//! What can go wrong with an exchange, as one value: who failed, how, and what the client is told.
//!
//! Every fault maps to one status, one stable reason code (`x-ringgate-reason`, logs, metrics) and one plain
//! sentence. The meanings of the statuses are those of AWS ALB.

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// The client sent something that cannot be served.
    Client,
    /// The target failed.
    Target,
    /// ringgate's own state or configuration.
    Gateway,
}

macro_rules! faults {
    ($($(#[$doc:meta])* $variant:ident $party:ident $status:literal $code:literal $text:literal,)*) => {
        /// Why ringgate answers by itself, or gives up.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "each has its sentence")]
        pub enum Fault { $($variant,)* }

        impl Fault {
            /// All of them, in the order of their definition.
            pub const ALL: &'static [Fault] = &[$(Fault::$variant,)*];

            /// The status of the answer. 460 is never sent: the client has gone.
            pub fn status(self) -> u16 {
                match self { $(Fault::$variant => $status,)* }
            }

            /// The stable reason code.
            pub fn code(self) -> &'static str {
                match self { $(Fault::$variant => $code,)* }
            }

            /// One plain sentence.
            pub fn sentence(self) -> &'static str {
                match self { $(Fault::$variant => $text,)* }
            }

            /// Who failed.
            pub fn party(self) -> Party {
                match self { $(Fault::$variant => Party::$party,)* }
            }
        }
    };
}

faults! {
    BareLf Client 400 "bare_lf" "A line of the request ends in LF without CR (RFC 9112 section 2.2).",
    RequestLine Client 400 "bad_request_line" "The request line is malformed (RFC 9112 section 3).",
    Target Client 400 "bad_target" "The request target is malformed or has octets that must be percent-encoded (RFC 9112 section 3.2).",
    EncodedSeparator Client 400 "encoded_separator" "The path has a percent-encoded separator or NUL, which servers interpret differently.",
    PathAboveRoot Client 400 "path_above_root" "The path climbs above the root with dot segments.",
    FieldLine Client 400 "bad_field" "A field line of the request is malformed (RFC 9112 section 5).",
    HostMissing Client 400 "host_missing" "An HTTP/1.1 request needs exactly one Host field (RFC 9112 section 3.2).",
    HostInvalid Client 400 "host_invalid" "The host is malformed (RFC 9110 section 7.2).",
    HostMismatch Client 400 "host_mismatch" "The request target and the Host field name different hosts.",
    RepeatedField Client 400 "repeated_field" "A field that may come only once comes several times (RFC 9110 section 5.3).",
    ContentLength Client 400 "bad_content_length" "Content-Length is repeated or not a plain decimal number (RFC 9112 section 6.3).",
    BothLengths Client 400 "both_te_and_cl" "The request has both Transfer-Encoding and Content-Length (RFC 9112 section 6.1).",
    TransferEncoding Client 400 "bad_transfer_encoding" "Transfer-Encoding is not exactly one `chunked` (RFC 9112 section 6.1).",
    UnknownCoding Client 501 "unknown_transfer_coding" "The transfer coding is not implemented; only chunked is.",
    Suspicious Client 400 "suspicious_field" "A field name resembles Transfer-Encoding or Content-Length, and servers may take it for that.",
    Nominated Client 400 "bad_connection_option" "Connection names a field that is not for this hop only (RFC 9110 section 7.6.1).",
    ConnectionField Client 400 "connection_field" "The HTTP/2 request has a field that speaks of a connection (RFC 9113 section 8.2.2).",
    Chunk Client 400 "bad_chunk" "The chunked body is malformed (RFC 9112 section 7.1).",
    GrpcWebText Client 400 "bad_grpc_web_text" "The text of the gRPC-Web request is no base64.",
    Trailers Client 400 "bad_trailers" "The trailer section is malformed or too large.",
    ProxyHeader Client 400 "bad_proxy_header" "The connection does not begin with a PROXY header that the listener takes, or comes from nobody in `server.trusted_proxies`.",
    LineTooLong Client 414 "uri_too_long" "The request line is longer than `limits.line`.",
    HeadTooLarge Client 431 "head_too_large" "The request head is larger than `limits.head` (over HTTP/2 also `limits.http2.header_list`), or a line longer than `limits.line`.",
    TooManyFields Client 431 "too_many_fields" "The request has more fields than `limits.headers`.",
    BodyTooLarge Client 413 "body_too_large" "The request body is larger than its limit.",
    Http2Error Client 400 "h2_protocol_error" "The client broke a rule of HTTP/2 (RFC 9113).",
    Http2Excess Client 400 "h2_excess" "The client sent more control frames or resets over HTTP/2 than `limits.http2` allows.",
    Misdirected Client 421 "misdirected_request" "The host is not served to clients that have shaken hands as this one has (RFC 9110 section 15.5.20).",
    MethodRefused Client 405 "method_refused" "CONNECT and TRACE are not served.",
    MethodTooLong Client 501 "unknown_method" "The method is longer than 32 octets.",
    VersionUnsupported Client 505 "version_unsupported" "Only HTTP/1.0, HTTP/1.1 and HTTP/2 are spoken here.",
    ExpectationFailed Client 417 "expectation_failed" "The only expectation that can be met is 100-continue (RFC 9110 section 10.1.1).",
    HeaderTimeout Client 408 "header_timeout" "The request head did not arrive within `timeouts.header`.",
    BodyTooSlow Client 408 "body_too_slow" "The request body arrived more slowly than `limits.min_rate`.",
    BodyTimeout Client 408 "body_timeout" "The request body made no progress for `timeouts.body`.",
    ClientGone Client 460 "client_gone" "The client closed the connection before the answer was complete.",
    ReadTooSlow Client 460 "read_too_slow" "The client read the answer more slowly than `limits.min_rate`.",
    WriteTimeout Client 460 "write_timeout" "The client did not read the answer for `timeouts.body`.",
    UpgradeRefused Client 501 "upgrade_refused" "An extended CONNECT (RFC 8441) is served only for WebSocket, version 13, where the rule's `upgrade` allows it and the group speaks HTTP/1.1.",
    OriginRefused Client 403 "origin_refused" "The rule's `origins` do not have the Origin that asks to switch protocols.",
    ClientHello Client 400 "bad_client_hello" "The connection does not begin with a TLS ClientHello.",
    TunnelReset Client 460 "tunnel_client_reset" "The client reset the tunnel.",
    TunnelTargetReset Target 460 "tunnel_target_reset" "The target reset the tunnel.",
    TunnelIdle Gateway 460 "tunnel_idle" "The tunnel carried no octet in either direction for `timeouts.idle`.",
    TunnelCut Gateway 460 "tunnel_cut" "The tunnel's target was removed, or ringgate stopped, and the time to drain was over.",
    TunnelFull Gateway 503 "too_many_tunnels" "As many tunnels are open as `limits.tunnels` allows.",
    BreakerOpen Gateway 503 "breaker_open" "The group's targets failed too often and are given a rest; try again later.",
    QueueFull Gateway 503 "queue_full" "Every target of the group has as many requests as `bounds` allows, and as many wait as its `queue` allows.",
    QueueTimeout Gateway 503 "queue_timeout" "No target of the group had room for the request within the `queue_timeout` of its `bounds`.",
    TargetFull Gateway 503 "target_full" "The target has as many connections as `max_connections` of its group's `bounds` allows.",
    UnfitValue Client 400 "unfit_value" "What the request says makes no path and no host that the rule may send on.",
    JsonUnfit Client 400 "bad_json" "The rule changes the JSON of the request, and its body is none that can be: malformed, nested deeper than 64 levels, with a name twice, or no object.",
    JsonWanted Client 415 "json_wanted" "The rule changes JSON, and the request's body is of another type or has a content coding.",
    Injected Gateway 503 "injected" "The rule's `inject` makes this request fail on purpose.",
    InjectedReset Gateway 460 "injected_reset" "The rule's `inject` resets the connection of this request on purpose.",
    NoRoute Gateway 404 "no_route" "No rule takes this request.",
    NoTarget Gateway 503 "no_target" "The group has no target that can take requests.",
    Overloaded Gateway 503 "overloaded" "ringgate has no room for this connection.",
    TooManyFromClient Gateway 503 "too_many_connections" "The client's address has as many connections as `limits.client_connections` allows.",
    Shed Gateway 503 "shed" "As many requests are in flight, or as much memory or as many files are in use, as limits allow; try again soon.",
    Loop Gateway 508 "loop" "The request has passed through here too often.",
    Internal Gateway 500 "internal" "An error inside ringgate; it is in the log.",
    PolicyUnavailable Gateway 503 "policy_unavailable" "A policy that must decide on this request cannot; nobody passes until it can.",
    PatternBlocked Gateway 403 "pattern_blocked" "The request matches a pattern that is blocked.",
    AddressDenied Gateway 403 "address_denied" "The client's address may not come here.",
    RateLimited Gateway 429 "rate_limited" "More requests came than the rate allows; try again later.",
    TooManyInFlight Gateway 429 "too_many_in_flight" "As many requests are in flight as are allowed at the same time; try again later.",
    WindowExceeded Gateway 403 "window_exceeded" "More requests came from this address than the window allows.",
    QuotaExceeded Gateway 429 "quota_exceeded" "The quota of this period is used up.",
    TokenMissing Gateway 401 "token_missing" "The request has no token, and needs one.",
    TokenInvalid Gateway 401 "token_invalid" "The token is malformed, not signed by a trusted issuer, or for somebody else.",
    TokenExpired Gateway 401 "token_expired" "The token has expired.",
    TokenScope Gateway 403 "insufficient_scope" "The token does not have the scope or claim that this needs.",
    TokenKeysUnavailable Gateway 503 "token_keys_unavailable" "The issuer's keys could not be fetched yet, so that no token can be verified.",
    ApiKeyMissing Gateway 401 "api_key_missing" "The request has no API key, and needs one.",
    ApiKeyInvalid Gateway 401 "api_key_invalid" "The API key is not known.",
    CredentialsMissing Gateway 401 "credentials_missing" "The request has no user name and password, and needs them.",
    CredentialsInvalid Gateway 401 "credentials_invalid" "The user name or the password is wrong.",
    SignatureMissing Gateway 401 "signature_missing" "The request is not signed as it must be (RFC 9421).",
    SignatureInvalid Gateway 401 "signature_invalid" "The signature of the request does not verify, or is too old (RFC 9421).",
    LoginRequired Gateway 401 "login_required" "A login is needed, and this client cannot be sent to one.",
    LoginFailed Gateway 401 "login_failed" "The login did not succeed, was answered twice, or took too long; try again.",
    LogoutRefused Gateway 403 "logout_refused" "A logout is taken only from the site itself, with GET or POST.",
    ClaimsTooLarge Gateway 500 "claims_too_large" "What the identity provider says of the user, with its tokens, is larger than the cookies of a session may be.",
    ProviderFailed Gateway 561 "identity_provider_failed" "The identity provider failed or answered with something that cannot be used.",
    DecisionRefused Gateway 403 "authorization_refused" "The authorisation service refused the request.",
    DecisionUnavailable Gateway 503 "authorization_unavailable" "The service that decides on this request cannot be reached.",
    OriginNotAllowed Gateway 403 "cors_origin_refused" "Pages of this origin may not do this.",
    Invalid Gateway 400 "validation_failed" "The request is not what the service behind expects.",
    MediaTypeRefused Gateway 415 "media_type_refused" "The service behind does not take content of this type.",
    ConnectFailed Target 502 "connect_failed" "No connection to a target could be opened.",
    ConnectTimeout Target 504 "connect_timeout" "No connection to a target could be opened within `timeouts.connect`.",
    TargetTlsFailed Target 502 "target_tls_failed" "No TLS session with a target could be agreed on, or the target ended it; the log says why.",
    TargetClosed Target 502 "target_closed" "The target closed the connection before it answered.",
    TargetReset Target 502 "target_reset" "The target reset the connection before it answered.",
    ResponseTimeout Target 504 "response_timeout" "The target did not answer within `timeouts.response`, or `retry.per_try`.",
    TargetProtocol Target 502 "target_protocol" "The target does not speak HTTP/2, or broke a rule of it (RFC 9113).",
    DeadlineExceeded Target 504 "deadline_exceeded" "The target did not answer within `timeouts.total`, or the time that the client gave in grpc-timeout.",
    ResponseHead Target 502 "bad_response_head" "The target's response head is malformed.",
    ResponseTooLarge Target 502 "response_head_too_large" "The target's response head is larger than `limits.response_head`.",
    ResponseFraming Target 502 "bad_response_framing" "The target's response has ambiguous or malformed framing (RFC 9112 section 6.3).",
    UnaskedUpgrade Target 502 "unasked_upgrade" "The target switched protocols without being asked.",
    BadUpgrade Target 502 "bad_upgrade" "The target's 101 does not answer the handshake: Upgrade, Connection or Sec-WebSocket-Accept is missing or wrong (RFC 6455 section 4.2.2).",
    TooManyInterim Target 502 "too_many_interim" "The target sent too many 1xx responses.",
    TruncatedBody Target 502 "truncated_body" "The target closed the connection in the middle of the body.",
    BodyStalled Target 504 "body_stalled" "The target's body made no progress for `timeouts.body`.",
    ResponseChunk Target 502 "bad_response_chunk" "The target's chunked body is malformed.",
    ResponseJson Target 502 "bad_response_json" "The rule changes the JSON of the response, and its body is none that can be, or is too large.",
    ResponseCoding Target 502 "bad_response_coding" "The target's body is no content of its Content-Encoding, or becomes far larger than it is.",
    NotCached Client 504 "not_cached" "The request asks for a stored response only (`only-if-cached`), and there is none that would do (RFC 9111 section 5.2.1.7).",
    PartFailed Target 502 "part_failed" "A part that the answer cannot do without has failed.",
    PartTimeout Target 504 "part_timeout" "A part that the answer cannot do without did not come in time.",
}

impl Fault {
    /// Those that policies refuse with.
    pub fn of_policies() -> &'static [Fault] {
        let (first, last) = (Fault::PolicyUnavailable.index(), Fault::MediaTypeRefused.index());
        Fault::ALL.get(first..=last).unwrap_or_default()
    }

    /// The position in [`Fault::of_policies`]; `None` for any other.
    pub fn policy_index(self) -> Option<usize> {
        let at = self.index().checked_sub(Fault::PolicyUnavailable.index())?;
        (at < Fault::of_policies().len()).then_some(at)
    }

    /// The position in [`Fault::ALL`], for counters.
    pub fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_indices_agree() {
        let mut codes: Vec<_> = Fault::ALL.iter().map(|f| f.code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Fault::ALL.len());
        for (index, fault) in Fault::ALL.iter().enumerate() {
            assert_eq!(fault.index(), index);
        }
    }
}
