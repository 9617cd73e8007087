//! The field names that mean something to an intermediary, told apart once, when a head is parsed.
//!
//! Everything that is not here is passed on untouched. Called by the head parser and by who writes heads.

macro_rules! known {
    ($($variant:ident $name:literal,)*) => {
        /// A field name that ringgate treats specially; [`Known::Other`] for all the rest.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "each is the field of that name")]
        pub enum Known { Other, $($variant,)* }

        impl Known {
            /// What `name` (case-insensitive) is.
            #[inline]
            pub fn of(name: &[u8]) -> Known {
                $(
                    if name.len() == $name.len() && name.eq_ignore_ascii_case($name.as_bytes()) {
                        return Known::$variant;
                    }
                )*
                Known::Other
            }
        }
    };
}

known! {
    Host "host",
    Connection "connection",
    ContentLength "content-length",
    TransferEncoding "transfer-encoding",
    Te "te",
    Trailer "trailer",
    Upgrade "upgrade",
    KeepAlive "keep-alive",
    ProxyConnection "proxy-connection",
    ProxyAuthorization "proxy-authorization",
    ProxyAuthenticate "proxy-authenticate",
    Proxy "proxy",
    Expect "expect",
    Via "via",
    Date "date",
    Server "server",
    Cookie "cookie",
    Accept "accept",
    Origin "origin",
    Authorization "authorization",
    ContentType "content-type",
    UserAgent "user-agent",
    Referer "referer",
    MaxForwards "max-forwards",
    Http2Settings "http2-settings",
    Forwarded "forwarded",
    XForwardedFor "x-forwarded-for",
    XForwardedProto "x-forwarded-proto",
    XForwardedPort "x-forwarded-port",
    XForwardedHost "x-forwarded-host",
    XForwardedServer "x-forwarded-server",
    XForwardedPrefix "x-forwarded-prefix",
    XForwardedPath "x-forwarded-path",
    XForwardedUri "x-forwarded-uri",
    XForwardedMethod "x-forwarded-method",
    XRequestId "x-request-id",
    XRealIp "x-real-ip",
    XOriginalUrl "x-original-url",
    XRewriteUrl "x-rewrite-url",
    XHttpMethodOverride "x-http-method-override",
    XHttpMethod "x-http-method",
    XMethodOverride "x-method-override",
    XRinggateReason "x-ringgate-reason",
}
