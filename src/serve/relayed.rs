//! One client connection that is relayed as it is: protocol tcp, and tls by the name in its ClientHello.
//!
//! It is admitted, given a target by the rules that name its listener, and joined to it. There is no one to explain anything to:
//! what cannot be relayed is closed, counted and logged with a reason; who speaks TLS is sent an alert. Called by `accept`.

use crate::base::Tick;
use crate::base::meters::Meters;
use crate::config::Protocol;
use crate::http::{Fault, Fields, RequestView};
use crate::net::{Buf, Side};
use crate::observe::Record;
use crate::observe::kept::Kept;
use crate::proxy::Client;
use crate::proxy::account::{self, Account, Parties};
use crate::proxy::dial::{self, Attempts, Caller};
use crate::proxy::tunnel::{Load, Tunnel};
use crate::serve::accept::{Counted, Open};
use crate::serve::hello::{Hello, INTERNAL_ERROR, Malformed, Reader, UNRECOGNIZED_NAME};
use crate::serve::proxied;
use crate::shard::epoch::GroupCore;
use crate::shard::{Epoch, Shard};
use crate::snapshot::{Action, Listener, Rule};
use crate::tls::Facts;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// The most octets of a ClientHello with its records.
const LONGEST_HELLO: usize = 64 << 10;
// An alert is a few octets to a connection with an empty queue: either there is room for them, or nobody listens.
const ALERT_WAIT: Duration = Duration::from_millis(100);

/// Serves a client until its connection has ended. `accepted` is the configuration that it was accepted under.
pub async fn serve(mut client: Client, open: Open, accepted: Rc<Epoch>) {
    let shard = &open.shard;
    let Some(listener) = accepted.snapshot.listener(client.listener) else { return };
    let _counted = Counted::new(listener, shard.worker);
    // All of this is let go before octets are relayed: an old configuration is not kept by its connections.
    let joined = Box::pin(join(shard, &accepted, listener, &mut client)).await;
    drop(accepted);
    if let Some(tunnel) = joined {
        Box::pin(tunnel.run(shard, &client.sock)).await;
    }
}

/// What is known of a connection on its way to a target.
#[derive(Default)]
struct Known<'s> {
    began: Tick,
    hello: Hello,
    // The same for the record: nothing was agreed on here, so version and cipher stay empty.
    facts: Option<Facts>,
    rule: Option<&'s Rule>,
    group: Option<&'s GroupCore>,
    attempts: Attempts,
    octets: u64,
}

async fn join(
    shard: &Rc<Shard>,
    epoch: &Rc<Epoch>,
    listener: &Listener,
    client: &mut Client,
) -> Option<Tunnel> {
    let mut buf = shard.buffers.none();
    if listener.proxy_protocol.is_some() {
        match proxied::read(shard, epoch, listener, client).await {
            Ok(behind) => buf = behind.unwrap_or(buf),
            Err(()) => return None,
        }
    }
    let mut known = Known { began: Tick::now(), ..Known::default() };
    let joined = find_and_join(shard, epoch, listener, client, &mut buf, &mut known).await;
    let (fault, alert) = match joined {
        Ok(mut tunnel) => {
            tunnel.from_client = buf;
            return Some(tunnel);
        }
        Err(Refused::Quietly) => return None,
        Err(Refused::With(fault)) => (fault, alert_for(fault).to_vec()),
        Err(Refused::Malformed(alert)) => (Fault::ClientHello, alert),
    };
    if listener.protocol == Protocol::Tls && !alert.is_empty() {
        let _ = client.sock.write_all(&alert, ALERT_WAIT).await;
    }
    let others = [known.rule.map(|r| &*r.meters), known.group.map(|g| &g.group.live.meters)];
    let others: Vec<&Meters> = others.into_iter().flatten().collect();
    let record = record(shard, epoch, listener, client, &known);
    let total = Some(Tick::now().since(known.began));
    account::turned_away(shard, listener, &others, fault, Record { total, ..record });
    None
}

fn alert_for(fault: Fault) -> &'static [u8] {
    match fault {
        Fault::NoRoute => &UNRECOGNIZED_NAME,
        Fault::HeaderTimeout => &[],
        _ => &INTERNAL_ERROR,
    }
}

/// Why a connection is not relayed.
enum Refused {
    /// It ended before it said anything.
    Quietly,
    With(Fault),
    /// What it said is no ClientHello; this is sent back.
    Malformed(Vec<u8>),
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Refused {
        Refused::With(fault)
    }
}

async fn find_and_join<'s>(
    shard: &Rc<Shard>,
    epoch: &'s Rc<Epoch>,
    listener: &'s Listener,
    client: &Client,
    buf: &mut Buf,
    known: &mut Known<'s>,
) -> Result<Tunnel, Refused> {
    if listener.protocol == Protocol::Tls {
        client.sock.arm(Side::Read, known.began.after(listener.header));
        known.hello = read_hello(shard, client, buf).await?;
        let (name, alpn) = (known.hello.name.clone(), known.hello.alpn.clone());
        known.facts = Some(Facts {
            name: name.map(String::into_boxed_str),
            alpn: alpn.map(|one| one.into_bytes().into_boxed_slice()),
            ..Facts::default()
        });
        client.sock.arm(Side::Read, Tick::NEVER);
    }
    known.octets = buf.len() as u64;
    let place = shard.tunnel_place().ok_or(Fault::TunnelFull)?;
    // While it is being connected it is a request like any other.
    let _in_flight = shard.place(&epoch.snapshot, None).ok_or(Fault::Shed)?;
    let group = route(shard, epoch, listener, client, known)?;
    known.group = Some(group);
    let name = known.hello.name.as_deref().unwrap_or_default().as_bytes();
    let caller = Caller { client, name };
    let conn = dial::dial(shard, group, caller, &mut known.attempts).await?;
    let parties = Parties {
        listener: Arc::clone(&listener.meters),
        rule: known.rule.map(|r| Arc::clone(&r.meters)),
        group: Arc::clone(&group.group.live),
        target: Arc::clone(&conn.target().live),
    };
    // Its octets are counted as they are passed on.
    let record = Record { bytes_in: 0, ..record(shard, epoch, listener, client, known) };
    let kept = shard.logs().then(|| Kept::of(&record));
    let account = Account::open(shard, parties, known.began, kept);
    let load = Load::count(conn.target(), &group.group.live);
    let idle = known.rule.and_then(|r| r.idle).unwrap_or(listener.idle);
    let (from_client, from_target) = (shard.buffers.none(), shard.buffers.none());
    let held = Vec::new();
    Ok(Tunnel { conn, account, idle, from_client, from_target, place, held, load })
}

async fn read_hello(shard: &Shard, client: &Client, buf: &mut Buf) -> Result<Hello, Refused> {
    let mut reader = Reader::default();
    let mut taken = 0;
    loop {
        let fresh = buf.filled().get(taken..).unwrap_or_default();
        match reader.take(fresh, taken == 0) {
            Ok(Some(hello)) => return Ok(hello),
            Ok(None) => taken = buf.len(),
            Err(Malformed { alert }) => return Err(Refused::Malformed(alert)),
        }
        if buf.is_empty() {
            // Who says nothing yet costs no block.
            client.sock.readable().await.map_err(|e| ended(&e, true))?;
            *buf = shard.buffers.small();
        } else if buf.spare().is_empty() && !buf.grow(LONGEST_HELLO) {
            return Err(Refused::Malformed(Vec::new()));
        }
        match client.sock.read(buf.spare()).await {
            Ok(0) if buf.is_empty() => return Err(Refused::Quietly),
            Ok(0) => return Err(Refused::Malformed(Vec::new())),
            Ok(n) => buf.fill(n),
            Err(e) => return Err(ended(&e, buf.is_empty())),
        }
    }
}

fn ended(error: &io::Error, silent: bool) -> Refused {
    match error.kind() {
        io::ErrorKind::TimedOut => Refused::With(Fault::HeaderTimeout),
        _ if silent => Refused::Quietly,
        _ => Refused::Malformed(Vec::new()),
    }
}

// The group that the rules of this listener send it to.
fn route<'s>(
    shard: &Shard,
    epoch: &'s Epoch,
    listener: &'s Listener,
    client: &Client,
    known: &mut Known<'s>,
) -> Result<&'s GroupCore, Fault> {
    let snapshot = &epoch.snapshot;
    let view = RequestView {
        method: b"",
        host: known.hello.name.as_deref().unwrap_or_default().as_bytes(),
        path: b"",
        query: None,
        fields: Fields::new(&[], &[]),
        peer: client.peer.ip(),
    };
    let found = snapshot.routes.find_named(listener.route, &view);
    known.rule = found.and_then(|id| snapshot.rules.get(id.0 as usize));
    let action = known.rule.map_or(&listener.default, |rule| &rule.action);
    let Action::Forward { groups, weights } = action else { return Err(Fault::NoRoute) };
    let chosen = match groups.as_slice() {
        [only] => Some(*only),
        several => shard.with_rng(|rng| weights.pick(rng)).and_then(|at| several.get(at).copied()),
    };
    chosen.and_then(|at| epoch.groups.get(at)).ok_or(Fault::NoTarget)
}

fn record<'r>(
    shard: &Shard,
    epoch: &'r Epoch,
    listener: &'r Listener,
    client: &Client,
    known: &'r Known<'_>,
) -> Record<'r> {
    let target = known.group.zip(known.attempts.target);
    let target = target.and_then(|(group, at)| group.targets.get(at));
    Record {
        client: client.peer.ip().to_canonical(),
        peer: Some(client.peer),
        listener: &listener.name,
        rule: known.rule.map_or("", |r| &r.name),
        rule_priority: known.rule.and_then(|r| r.priority),
        group: known.group.map_or("", |g| &g.group.name),
        target: target.map(|t| &*t.live.name),
        scheme: listener.protocol.name(),
        host: known.hello.name.as_deref().unwrap_or_default().as_bytes(),
        tls: known.facts.as_ref(),
        bytes_in: known.octets,
        connect_time: target.map(|_| known.attempts.took),
        retries: known.attempts.retries,
        generation: epoch.snapshot.generation,
        worker: shard.worker,
        action: if known.group.is_some() { "forward" } else { "none" },
        wall_micros: crate::base::tick::wall_micros(),
        ..Record::default()
    }
}
