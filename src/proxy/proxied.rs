//! The PROXY header that a target is sent for an exchange, where its group asks for one.
//!
//! It names the client as limits and logs know it, and where that client connected to. What the balancer in front said of the
//! client goes on. Called by `forward` for each connection that it opens.

use crate::http::proxy_protocol::{Behind, Said, Version, write};
use crate::proxy::{Client, Exchange};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The header for this exchange.
pub fn header(x: &Exchange<'_>, version: Version) -> Vec<u8> {
    let peer = x.client.peer;
    let ip = x.client_ip();
    // The port is known of the peer alone, not of whom it names in X-Forwarded-For.
    let port = if ip == peer.ip().to_canonical() { peer.port() } else { 0 };
    let source = SocketAddr::new(ip, port);
    let said = match version {
        Version::V1 => Said::default(),
        Version::V2 => said(x),
    };
    write::client(version, &Behind { source, destination: destination(x.client, ip), said })
}

/// The header for a connection that is relayed as it is; `name` is what it asked for, if that is known.
pub fn of_connection(client: &Client, name: &[u8], version: Version) -> Vec<u8> {
    let source = client.peer;
    let mut said = client.said();
    if said.authority.is_empty() {
        said.authority = name;
    }
    write::client(version, &Behind { source, destination: destination(client, source.ip()), said })
}

fn destination(client: &Client, source: IpAddr) -> SocketAddr {
    let passed = client.passed.as_ref().and_then(|p| p.destination);
    passed.or_else(|| client.sock.local_addr()).unwrap_or_else(|| {
        let unknown: IpAddr = match source {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        SocketAddr::new(unknown, client.port)
    })
}

fn said<'a>(x: &'a Exchange<'_>) -> Said<'a> {
    let mut said = x.client.said();
    if said.authority.is_empty() {
        said.authority = &x.scratch.request.host;
    }
    // A request has a connection of its own, and so the id of the request is the id of the connection.
    said.unique_id = &x.scratch.request_id;
    said
}
