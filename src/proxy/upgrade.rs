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

/// Notes what the request asks for, where it may: then it is passed on.
///
/// # Errors
/// [`Fault::OriginRefused`], [`Fault::TunnelFull`].
pub fn offer(x: &mut Exchange<'_>, rule: Option<&Rule>) -> Result<(), Fault> {
    let head = &x.scratch.request;
    if !head.fields.iter().any(|f| f.known == Known::Upgrade) {
        return Ok(());
    }
    let every;
    let upgrades = match rule {
        Some(rule) => &rule.upgrades,
        None => {
            every = Upgrades::default();
            &every
        }
    };
    let fields = x.view().fields;
    let Some((protocol, accept)) = asked(x, fields, upgrades) else { return Ok(()) };
    if !upgrades.admits(fields.first("origin")) {
        return Err(Fault::OriginRefused);
    }
    let place = Some(x.shard.tunnel_place().ok_or(Fault::TunnelFull)?);
    let idle = rule.and_then(|r| r.idle).unwrap_or(x.listener.idle);
    let protocol = protocol.to_vec();
    x.upgrade = Some(Box::new(Upgrade {
        protocol,
        accept,
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

// The value of a field that comes once.
fn only<'b>(fields: Fields<'b>, name: &str) -> Option<&'b [u8]> {
    let mut all = fields.all(name);
    all.next().filter(|_| all.next().is_none())
}

/// Writes what asks the target for it.
pub fn fields(x: &Exchange<'_>, out: &mut Vec<u8>) {
    if let Some(upgrade) = &x.upgrade {
        out.extend_from_slice(b"connection: upgrade\r\n");
        write::field(out, b"upgrade", &upgrade.protocol);
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
    receive::status_and_fields(x, up.filled(), &mut out);
    fields(x, &mut out);
    out.extend_from_slice(b"\r\n");
    up.consume(len);
    x.keep = false;
    x.scratch.trace.status = x.scratch.response.status;
    x.scratch.trace.bytes_out += out.len() as u64;
    let sent = x.client.sock.write_all(&out, stall).await;
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
        load: Load::count(conn.target()),
        conn,
    };
    upgrade.tunnel = Some(Box::new(tunnel));
}
