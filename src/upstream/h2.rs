//! Connections to targets that speak HTTP/2: opening them, running them, and a place on one for a stream.
//!
//! A worker keeps few of them to each target (`shard::channel`) and opens another when all are full. One task runs each;
//! it holds nothing that keeps it open, so it ends when nobody wants it any more (GOAWAY, then FIN), when the target ends
//! it, or when the target does not answer a PING. Limits are explicit (RFC 9113 section 10.5). Heads and bodies of streams
//! are `proxy`'s.

use crate::base::Tick;
use crate::http::Fault;
use crate::net::h2::wire::{Ends, SMALL_FRAMES};
use crate::net::h2::{Expired, Wire, drive};
use crate::net::{Side, Sock, runtime};
use crate::shard::channel::{Channel, MOST_STREAMS, Opening};
use crate::shard::{Shard, TargetConn, TargetCore};
use crate::snapshot::Group;
use crate::upstream::dial;
use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use h2::{Ping, PingPong};
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

// What a stream may have under way that nobody has read, and what all of one connection may: so much that no client that
// reads slowly keeps the others' answers from coming (hazard H2-14).
const STREAM_WINDOW: u32 = 64 << 10;
const WINDOW: u32 = STREAM_WINDOW * MOST_STREAMS as u32;
const SEND_BUFFER: usize = 64 << 10;
const FRAME: u32 = 16 << 10;
// Streams that were reset here and on which the target may still send.
const RESETS: usize = 100;
const RESET_MEMORY: Duration = Duration::from_secs(10);
// gRPC's servers take PINGs for an attack that come more often than every five minutes without anything else.
const PING_EVERY: Duration = Duration::from_secs(310);
const PING_AGAIN: Duration = Duration::from_secs(30);
const PONG_WAIT: Duration = Duration::from_secs(5);
// How long the target may read nothing of what is sent to it.
const STALL: Duration = Duration::from_secs(30);

/// A place for one stream on a connection that is open already; `None` where there is none with room.
pub fn open_place(client: &Sock, target: &Rc<TargetCore>) -> Option<TargetConn> {
    target.channels.pick().map(|channel| target.place_on(channel, client, true))
}

/// A place for one stream on a connection to `target`, which is opened where there is none with room. It is waited for no longer
/// than `timeout`.
///
/// # Errors
/// As [`crate::upstream::connect`].
pub async fn place(
    shard: &Rc<Shard>,
    client: &Sock,
    group: &Arc<Group>,
    target: &Rc<TargetCore>,
    timeout: Duration,
) -> Result<TargetConn, Fault> {
    let deadline = Tick::now().after(timeout);
    let mut opened = false;
    loop {
        if let Some(channel) = target.channels.pick() {
            return Ok(target.place_on(channel, client, !opened));
        }
        // Where the target allows few streams, others may have taken all that were opened in the meantime.
        if opened && Tick::now() >= deadline {
            return Err(Fault::ConnectTimeout);
        }
        let opening = target.channels.opening(|opening| begin(shard, group, target, opening));
        // A client that leaves does not wait, and must not be served when it is open. It is opened for others, too: one that has
        // less time than it may take ends its own wait alone.
        client.until(deadline, opening.wait()).await.map_err(|_| Fault::ConnectTimeout)??;
        opened = true;
    }
}

// Opens a connection in a task of its own: who asked for it may leave, others may have come to wait for it.
fn begin(shard: &Rc<Shard>, group: &Arc<Group>, target: &Rc<TargetCore>, opening: Rc<Opening>) {
    let guard = Begun { opening, target: Rc::downgrade(target) };
    let pulse = Arc::clone(&shard.pulse);
    let task = run(Rc::clone(shard), Arc::clone(group), guard);
    runtime::spawn(task, move || {
        pulse.panics.fetch_add(1, Ordering::Relaxed);
        tracing::error!("the task of a target's connection panicked; only its streams are lost");
    });
}

// An opening that ends, whatever becomes of the task.
struct Begun {
    opening: Rc<Opening>,
    target: Weak<TargetCore>,
}

impl Begun {
    fn fail(self, fault: Fault) {
        if let Some(target) = self.target.upgrade() {
            target.channels.failed(&self.opening, fault);
        }
    }

    fn open(self, channel: Channel) -> Weak<Channel> {
        let channel = Rc::new(channel);
        let weak = Rc::downgrade(&channel);
        if let Some(target) = self.target.upgrade() {
            target.channels.opened(&self.opening, channel);
        }
        weak
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if let Some(target) = self.target.upgrade()
            && !self.opening.has_ended()
        {
            target.channels.failed(&self.opening, Fault::ConnectFailed);
        }
    }
}

async fn run(shard: Rc<Shard>, group: Arc<Group>, begun: Begun) {
    let timer = shard.timers.register();
    let deadline = Tick::now().after(group.connect);
    let Some(target) = begun.target.upgrade() else { return };
    // Kept until the connection has ended.
    let Some(_place) = shard.lines.open(&target) else { return begun.fail(Fault::TargetFull) };
    let sock = match dial(&shard, Rc::clone(timer.slot()), &target, deadline, &[]).await {
        Ok(sock) => sock,
        Err(fault) => return begun.fail(fault),
    };
    drop(target);
    let wire = Wire::of_target(Rc::new(sock), &shard.buffers);
    let header_list = u32::try_from(shard.epoch().snapshot.limits.response_head).unwrap_or(FRAME);
    drop((shard, group));
    let handshake = Box::pin(builder(header_list).handshake(Ends(Rc::clone(&wire))));
    let mut session = Session::new(Rc::clone(&wire), handshake, begun, deadline);
    drive(&wire, STALL, |cx, expired| session.poll(cx, expired)).await;
}

// What an error before anything was asked means: no HTTP/2, unless the connection just broke.
fn fault_of(error: &h2::Error) -> Fault {
    if error.is_io() { Fault::ConnectFailed } else { Fault::TargetProtocol }
}

fn builder(header_list: u32) -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_frame_size(FRAME)
        .max_header_list_size(header_list)
        .max_send_buffer_size(SEND_BUFFER)
        .data_frame_budget(SMALL_FRAMES)
        .initial_max_send_streams(0)
        .max_concurrent_reset_streams(RESETS)
        .reset_stream_duration(RESET_MEMORY)
        // A response that is malformed costs its own stream; a path that always sends such must not cost the others
        // their connection now and then (hazard H2-13).
        .max_local_error_reset_streams(None);
    builder
}

type Handshake = Pin<Box<dyn Future<Output = Result<Both, h2::Error>>>>;
type Both = (SendRequest<Bytes>, Connection<Ends, Bytes>);

enum Phase {
    // Until what is ours to say has been said.
    Greeting(Handshake),
    // Until the target has said how many streams it takes: that it speaks HTTP/2 is known only then, and a request that
    // were sent before might wait behind others for ever.
    Settling(SendRequest<Bytes>, Box<Connection<Ends, Bytes>>),
    Open(Box<Connection<Ends, Bytes>>),
    Over,
}

struct Session {
    wire: Rc<Wire>,
    phase: Phase,
    // Until it is open.
    begun: Option<Begun>,
    channel: Weak<Channel>,
    ping: Option<PingPong>,
    armed: Tick,
    opened: Tick,
    // When the last PING was sent.
    asked: Option<Tick>,
    // Until when its answer is waited for.
    answer_by: Tick,
}

impl Session {
    fn new(wire: Rc<Wire>, handshake: Handshake, begun: Begun, deadline: Tick) -> Session {
        let mut session = Session {
            wire,
            phase: Phase::Greeting(handshake),
            begun: Some(begun),
            channel: Weak::new(),
            ping: None,
            armed: Tick::NEVER,
            opened: Tick::NEVER,
            asked: None,
            answer_by: Tick::NEVER,
        };
        session.arm(deadline);
        session
    }

    fn poll(&mut self, cx: &mut Context<'_>, expired: Expired) -> Poll<()> {
        // Once cut, no wait on the socket ever blocks again.
        if expired.write || (expired.read && self.wire.sock().is_cut()) {
            return self.fail(Fault::ConnectTimeout);
        }
        if let Phase::Greeting(handshake) = &mut self.phase
            && let Poll::Ready(opened) = handshake.as_mut().poll(cx)
        {
            match opened {
                Ok((sender, open)) => self.phase = Phase::Settling(sender, Box::new(open)),
                Err(error) => return self.fail(fault_of(&error)),
            }
        }
        if let Phase::Settling(sender, open) = &mut self.phase {
            if let Poll::Ready(ended) = Pin::new(open).poll(cx) {
                let fault = ended.err().map_or(Fault::TargetProtocol, |error| fault_of(&error));
                return self.fail(fault);
            }
            if sender.current_max_send_streams() > 0 {
                self.open();
            }
        }
        if let Phase::Open(open) = &mut self.phase {
            // An error has been told to every stream by then.
            if Pin::new(open).poll(cx).is_ready() {
                return Poll::Ready(());
            }
            return self.watch(cx, Tick::now());
        }
        if expired.read { self.fail(Fault::ConnectTimeout) } else { Poll::Pending }
    }

    fn open(&mut self) {
        let settling = std::mem::replace(&mut self.phase, Phase::Over);
        if let (Phase::Settling(sender, mut open), Some(begun)) = (settling, self.begun.take()) {
            self.ping = open.ping_pong();
            self.opened = Tick::now();
            self.phase = Phase::Open(open);
            self.channel = begun.open(Channel::new(sender, Rc::clone(&self.wire)));
            self.arm(Tick::NEVER);
        }
    }

    fn fail(&mut self, fault: Fault) -> Poll<()> {
        if let Some(begun) = self.begun.take() {
            begun.fail(fault);
        }
        Poll::Ready(())
    }

    // Asks now and then, and where an answer is overdue, whether the target is still there.
    fn watch(&mut self, cx: &mut Context<'_>, now: Tick) -> Poll<()> {
        let Some(ping) = &mut self.ping else { return Poll::Pending };
        if self.answer_by != Tick::NEVER {
            match ping.poll_pong(cx) {
                Poll::Ready(Ok(_)) => self.answer_by = Tick::NEVER,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending if now >= self.answer_by => return Poll::Ready(()),
                Poll::Pending => {}
            }
        }
        let channel = self.channel.upgrade();
        let busy = channel.as_ref().is_some_and(|channel| channel.streams() > 0);
        let suspected = channel.as_ref().is_some_and(|channel| channel.is_suspected());
        let due = match (self.asked, suspected) {
            (None, true) => now,
            (Some(asked), true) => asked.after(PING_AGAIN),
            (asked, false) => asked.unwrap_or(self.opened).after(PING_EVERY),
        };
        let waiting = self.answer_by != Tick::NEVER;
        if !waiting && (busy || suspected) && now >= due && ping.send_ping(Ping::opaque()).is_ok() {
            if let Some(channel) = channel {
                channel.settle();
            }
            self.asked = Some(now);
            self.answer_by = now.after(PONG_WAIT);
            // Sends it, and has the answer wake this.
            cx.waker().wake_by_ref();
        }
        let next = if self.answer_by != Tick::NEVER { self.answer_by } else { due };
        self.arm(if busy || suspected || waiting { next } else { Tick::NEVER });
        Poll::Pending
    }

    fn arm(&mut self, deadline: Tick) {
        if deadline != self.armed {
            self.armed = deadline;
            self.wire.sock().arm(Side::Read, deadline);
        }
    }
}
