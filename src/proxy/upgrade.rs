//! Requests that ask to switch protocols (RFC 9110 section 7.8), WebSocket above all (RFC 6455 section 4).
//!
//! Only what a rule allows is passed on, only when it is a valid handshake, and a 101 is taken only as the answer to it (hazards
//! WS-01, H1-20, H1-21); octets that the client sent behind its request wait until then. Anything else is served as if nothing
//! had been asked. Called at one place each by `exchange`, `upstream_head`, `receive`, `forward` and `finish`.

use crate::http::websocket::{self, Accept};
use crate::http::{Fault, Fields, Framing, Known, Method, Version, write};
use crate::net::Buf;
use crate::observe::kept::Kept;
use crate::proxy::account::{Account, Parties};
use crate::proxy::tunnel::{Load, Tunnel};
use crate::proxy::{Exchange, receive};
use crate::shard::{TargetConn, TunnelPlace};
use crate::snapshot::{Group, Rule, Target, Upgrades};
use std::sync::Arc;
use std::time::Duration;

/// A switch of protocols that is under way.
pub struct Upgrade {
    // As the client wrote it.
    protocol: Vec<u8>,
    // What answers a WebSocket's key.
    accept: Option<Accept>,
    // The key, where the client has sent none: over HTTP/2 there is nothing to prove (RFC 8441 section 5).
    key: Option<String>,
    idle: Duration,
    place: Option<TunnelPlace>,
    // Octets that the target sent behind its 101, once it has.
    early: Option<Buf>,
    conn: Option<TargetConn>,
    tunnel: Option<Box<Tunnel>>,
}

impl Upgrade {
    /// The tunnel that the request has become, if it has.
    pub fn into_tunnel(self) -> Option<Box<Tunnel>> {
        self.tunnel
    }
}

/// Whether it is an extended CONNECT of HTTP/2 (RFC 8441), written as the GET that it would be in HTTP/1.1. To it a 2xx means
/// that the tunnel stands, so no other answer may be one (hazard WS-06).
pub fn is_connect(x: &Exchange<'_>) -> bool {
    let head = &x.scratch.request;
    // No other request of HTTP/2 has the field (RFC 9113 section 8.2.2).
    head.version == Version::Http2 && head.fields.iter().any(|f| f.known == Known::Upgrade)
}

/// Notes what the request asks for, where it may: then it is passed on. `group` is where it goes.
///
/// # Errors
/// [`Fault::UpgradeRefused`], [`Fault::OriginRefused`], [`Fault::TunnelFull`].
pub fn offer(x: &mut Exchange<'_>, rule: Option<&Rule>, group: usize) -> Result<(), Fault> {
    let head = &x.scratch.request;
    if !head.fields.iter().any(|f| f.known == Known::Upgrade) {
        return Ok(());
    }
    let plain = x.epoch.groups.get(group).is_some_and(|g| !g.group.protocol.is_h2());
    let every;
    let upgrades = match rule {
        Some(rule) => &rule.upgrades,
        None => {
            every = Upgrades::default();
            &every
        }
    };
    let fields = x.view().fields;
    let mut key = None;
    let asked = match is_connect(x) {
        true => Some(asked_by_connect(x, fields, upgrades, &mut key).ok_or(Fault::UpgradeRefused)?),
        false => asked(x, fields, upgrades),
    };
    let Some((protocol, accept)) = asked.filter(|_| plain) else {
        return if is_connect(x) { Err(Fault::UpgradeRefused) } else { Ok(()) };
    };
    if !upgrades.admits(fields.first("origin")) {
        return Err(Fault::OriginRefused);
    }
    let place = Some(x.shard.tunnel_place().ok_or(Fault::TunnelFull)?);
    let idle = rule.and_then(|r| r.idle).unwrap_or(x.listener.idle);
    let protocol = protocol.to_vec();
    x.upgrade = Some(Box::new(Upgrade {
        protocol,
        accept,
        key,
        idle,
        place,
        early: None,
        conn: None,
        tunnel: None,
    }));
    Ok(())
}

// The protocol of a valid request for one, and what answers it.
fn asked<'b>(
    x: &Exchange<'_>,
    fields: Fields<'b>,
    upgrades: &Upgrades,
) -> Option<(&'b [u8], Option<Accept>)> {
    let head = &x.scratch.request;
    let protocol = only(fields, "upgrade")?;
    upgrades.find(protocol)?;
    let plain = head.version == Version::Http11 && head.framing == Framing::None;
    let connection = fields.all("connection").any(|v| websocket::has_option(v, b"upgrade"));
    if !plain || !connection {
        return None;
    }
    if !protocol.eq_ignore_ascii_case(b"websocket") {
        return Some((protocol, None));
    }
    let version = only(fields, "sec-websocket-version")?;
    let accept = websocket::accept(only(fields, "sec-websocket-key")?)?;
    let valid = head.method == Method::Get && version == websocket::VERSION;
    valid.then_some((protocol, Some(accept)))
}

// The same of an extended CONNECT, to which a key is made.
fn asked_by_connect<'b>(
    x: &Exchange<'_>,
    fields: Fields<'b>,
    upgrades: &Upgrades,
    key: &mut Option<String>,
) -> Option<(&'b [u8], Option<Accept>)> {
    let protocol = only(fields, "upgrade")?;
    let websocket = upgrades.find(protocol)? == "websocket";
    let version = only(fields, "sec-websocket-version")? == websocket::VERSION;
    if !websocket || !version || fields.first("sec-websocket-key").is_some() {
        return None;
    }
    let key = key.insert(websocket::key(x.shard.with_rng(|rng| rng.u128(..)).to_be_bytes()));
    Some((protocol, websocket::accept(key.as_bytes())))
}

// The value of a field that comes once.
fn only<'b>(fields: Fields<'b>, name: &str) -> Option<&'b [u8]> {
    let mut all = fields.all(name);
    all.next().filter(|_| all.next().is_none())
}

/// Writes what asks the target for it.
pub fn fields(x: &Exchange<'_>, out: &mut Vec<u8>) {
    let Some(upgrade) = &x.upgrade else { return };
    out.extend_from_slice(b"connection: upgrade\r\n");
    write::field(out, b"upgrade", &upgrade.protocol);
    if let Some(key) = &upgrade.key {
        write::field(out, b"sec-websocket-key", key.as_bytes());
    }
}

/// Whether a 101 would be an answer.
pub fn is_offered(x: &Exchange<'_>) -> bool {
    x.upgrade.is_some()
}

/// Judges the target's 101, which has been parsed into the scratch; `head` is its octets.
///
/// # Errors
/// [`Fault::BadUpgrade`].
pub fn judge(x: &Exchange<'_>, head: &[u8]) -> Result<(), Fault> {
    let upgrade = x.upgrade.as_ref().ok_or(Fault::UnaskedUpgrade)?;
    let fields = x.scratch.response.view(head);
    let protocol = only(fields, "upgrade").ok_or(Fault::BadUpgrade)?;
    let connection = fields.all("connection").any(|v| websocket::has_option(v, b"upgrade"));
    let accepted = match &upgrade.accept {
        Some(accept) => only(fields, "sec-websocket-accept") == Some(&accept[..]),
        None => true,
    };
    let same = protocol.eq_ignore_ascii_case(&upgrade.protocol);
    if same && connection && accepted && x.scratch.response.version == Version::Http11 {
        Ok(())
    } else {
        Err(Fault::BadUpgrade)
    }
}

/// Tells the client that the protocol is switched; `len` octets of `up` are the target's 101.
///
/// # Errors
/// [`Fault::ClientGone`], [`Fault::WriteTimeout`].
pub async fn switch(
    x: &mut Exchange<'_>,
    up: &mut Buf,
    len: usize,
    stall: Duration,
) -> Result<(), Fault> {
    let mut out = std::mem::take(&mut x.scratch.reply);
    out.clear();
    let stream = x.client.sock.stream().is_some();
    if stream {
        // RFC 8441 section 5: it is as successful as any CONNECT, and nothing was to be proved.
        let head = up.filled();
        let response = &mut x.scratch.response;
        response.status = 200;
        let accept = |name: &[u8]| name.eq_ignore_ascii_case(b"sec-websocket-accept");
        response.fields.retain(|f| !accept(f.name.of(head)));
    }
    receive::status_and_fields(x, up.filled(), &mut out);
    if !stream {
        fields(x, &mut out);
    }
    // A session that was refreshed for this request is lost if its cookie is.
    out.extend_from_slice(&x.scratch.findings.response);
    out.extend_from_slice(b"\r\n");
    up.consume(len);
    x.keep = false;
    x.scratch.trace.status = x.scratch.response.status;
    x.scratch.trace.bytes_out += out.len() as u64;
    let sent = match x.client.sock.stream() {
        Some(stream) => stream.send_head(&out, false),
        None => x.client.sock.write_all(&out, stall).await,
    };
    out.clear();
    x.scratch.reply = out;
    sent.map_err(|e| receive::client_fault(&e))?;
    let early = std::mem::replace(up, x.shard.buffers.none());
    if let Some(upgrade) = &mut x.upgrade {
        upgrade.early = Some(early);
    }
    Ok(())
}

/// Keeps the target's connection for the tunnel, if there is to be one; else it is closed.
pub fn hold(x: &mut Exchange<'_>, conn: TargetConn) {
    if let Some(upgrade) = x.upgrade.as_mut().filter(|upgrade| upgrade.early.is_some()) {
        upgrade.conn = Some(conn);
    }
}

/// Whether the request has become a tunnel, whose record is written when that ends.
pub fn has_switched(x: &Exchange<'_>) -> bool {
    x.upgrade.as_ref().is_some_and(|upgrade| upgrade.conn.is_some())
}

/// Makes the tunnel, of all that the exchange has; `kept` is what is logged in the end.
pub fn depart(
    x: &mut Exchange<'_>,
    rule: Option<&Rule>,
    group: Option<&Group>,
    target: Option<&Target>,
    kept: Option<Kept>,
) {
    let (Some(group), Some(target)) = (group, target) else { return };
    let parties = Parties {
        listener: Arc::clone(&x.listener.meters),
        rule: rule.map(|r| Arc::clone(&r.meters)),
        group: Arc::clone(&group.live),
        target: Arc::clone(&target.live),
    };
    let Some(upgrade) = &mut x.upgrade else { return };
    let (Some(conn), Some(place)) = (upgrade.conn.take(), upgrade.place.take()) else { return };
    let none = || x.shard.buffers.none();
    let mut from_client = std::mem::replace(&mut *x.buf, none());
    from_client.consume(x.scratch.request.len);
    let tunnel = Tunnel {
        account: Account::open(x.shard, parties, x.scratch.trace.began, kept),
        idle: upgrade.idle,
        from_client,
        from_target: upgrade.early.take().unwrap_or_else(none),
        place,
        held: std::mem::take(&mut x.scratch.findings.held),
        load: Load::count(conn.target(), &group.live),
        conn,
    };
    upgrade.tunnel = Some(Box::new(tunnel));
}
