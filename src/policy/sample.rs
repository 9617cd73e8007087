//! A request for the tests of policies.

use crate::base::Tick;
use crate::http::fields::{OwnedFields, RequestView};
use crate::policy::Subject;
use std::net::{IpAddr, Ipv4Addr};

/// A GET of `path`, with what follows a `?` as its query, by https from 127.0.0.1 for host `a.test`.
pub fn subject<'a>(path: &'a str, fields: &'a OwnedFields) -> Subject<'a> {
    octets(path.as_bytes(), fields)
}

/// [`subject`] of any octets.
pub fn octets<'a>(target: &'a [u8], fields: &'a OwnedFields) -> Subject<'a> {
    let (path, query) = match target.iter().position(|b| *b == b'?') {
        Some(at) => (&target[..at], Some(&target[at + 1..])),
        None => (target, None),
    };
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    Subject {
        view: RequestView {
            method: b"GET",
            host: b"a.test",
            path,
            query,
            fields: fields.view(),
            peer: address,
        },
        client: address,
        scheme: "https",
        port: 443,
        listener: "web",
        rule: "rule",
        tls: None,
        body: None,
        decoded: false,
        preflight: false,
        now: Tick::ZERO,
        unix: 0,
    }
}
