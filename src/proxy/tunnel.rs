//! A tunnel: octets go from each of two sockets to the other, as they are, until both have ended or nothing moves any more.
//!
//! Each direction ends for itself (FIN is passed on), waits for itself, and holds a block only while it has octets in hand. Once
//! one has moved [`SPLICE_AFTER`] octets between two kernel sockets, it moves them through a pipe of the worker instead, without
//! copying. Nothing of the configuration is held: a tunnel may outlive many reloads. Called by `serve`.

use crate::base::Tick;
use crate::http::Fault;
use crate::net::sock::to_the_end_of_the_queue;
use crate::net::{Buf, Side, Sock};
use crate::policy::concurrency::Held;
use crate::proxy::account::Account;
use crate::shard::{Shard, TargetConn, TargetCore, TunnelPlace};
use crate::snapshot::GroupLive;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

/// Two connections that are to be joined.
pub struct Tunnel {
    /// The target's.
    pub conn: TargetConn,
    /// What is counted and logged when it ends.
    pub account: Account,
    /// How long no octet may come either way.
    pub idle: Duration,
    /// Octets that the client sent before the tunnel stood.
    pub from_client: Buf,
    /// Octets that the target sent before.
    pub from_target: Buf,
    /// Its place among `limits.tunnels`.
    pub place: TunnelPlace,
    /// Places that policies have given the request.
    pub held: Vec<Held>,
    /// Counts it on its target.
    pub load: Load,
}

/// Counts a tunnel in flight on a target and in its group, for algorithms that look at it, until it is dropped.
#[derive(Debug)]
pub struct Load(Rc<TargetCore>, Arc<GroupLive>);

impl Load {
    /// Counts one.
    pub fn count(target: &Rc<TargetCore>, group: &Arc<GroupLive>) -> Load {
        target.live.load.fetch_add(1, Ordering::Relaxed);
        group.load.fetch_add(1, Ordering::Relaxed);
        Load(Rc::clone(target), Arc::clone(group))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.live.load.fetch_sub(1, Ordering::Relaxed);
        self.1.load.fetch_sub(1, Ordering::Relaxed);
    }
}

// Octets of one direction after which they are no longer copied: chatter needs no pipe.
const SPLICE_AFTER: u64 = 64 << 10;
// Octets after which other connections get their turn (hazard RT-15).
const TURN: usize = 1 << 20;
// How often what moved is counted while the tunnel stands.
const SETTLE: Duration = Duration::from_secs(1);

impl Tunnel {
    /// Relays until it ends; counts and logs it.
    pub async fn run(self, shard: &Shard, client: &Sock) {
        let Tunnel { conn, account, idle, from_client, from_target, place, held, load } = self;
        let now = Tick::now();
        let ended = match conn.sock() {
            Some(target) => {
                let relay = Relay {
                    shard,
                    client,
                    target,
                    idle,
                    account: &account,
                    last: Cell::new(now),
                    settled: Cell::new(now),
                    moved: Default::default(),
                    quiet: Cell::new(false),
                };
                let ended = relay.both(from_client, from_target).await;
                relay.settle();
                ended
            }
            None => Some(Fault::Internal),
        };
        drop((load, held, place));
        account.finish(shard, ended);
    }
}

/// Which direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// From the client to the target.
    Up = 0,
    /// From the target to the client.
    Down = 1,
}

/// Why a direction did not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    /// The one that sends has reset the connection.
    Source,
    /// The one that receives has.
    Sink,
    /// Nothing moved for too long, either way.
    Idle,
    /// The time to drain is over.
    Cut,
}

struct Relay<'a> {
    shard: &'a Shard,
    client: &'a Sock,
    target: &'a Sock,
    idle: Duration,
    account: &'a Account,
    // When an octet moved last, either way; while waiting, `quiet`, it is exact, else it is about to be set.
    last: Cell<Tick>,
    quiet: Cell<bool>,
    settled: Cell<Tick>,
    moved: [Cell<u64>; 2],
}

impl Relay<'_> {
    // `None` when both sides have ended it, as they should.
    async fn both(&self, from_client: Buf, from_target: Buf) -> Option<Fault> {
        let mut up = pin!(self.direction(Way::Up, from_client));
        let mut down = pin!(self.direction(Way::Down, from_target));
        let mut open = [true, true];
        let mut fault = None;
        poll_fn(|cx| {
            for way in [Way::Up, Way::Down] {
                let Some(open) = open.get_mut(way as usize).filter(|open| **open) else { continue };
                let polled = match way {
                    Way::Up => up.as_mut().poll(cx),
                    Way::Down => down.as_mut().poll(cx),
                };
                match polled {
                    Poll::Pending => {}
                    Poll::Ready(Ok(())) => *open = false,
                    // It reads no more, but what it has sent before is still on its way.
                    Poll::Ready(Err(Broken::Sink)) => {
                        *open = false;
                        fault.get_or_insert(self.fault(way, Broken::Sink));
                    }
                    Poll::Ready(Err(broken)) => {
                        let fault = *fault.get_or_insert(self.fault(way, broken));
                        return Poll::Ready(Some(fault));
                    }
                }
            }
            if open.contains(&true) { Poll::Pending } else { Poll::Ready(fault) }
        })
        .await
    }

    // What a broken direction means; a reset goes on to the other side.
    fn fault(&self, way: Way, broken: Broken) -> Fault {
        match (way, broken) {
            (Way::Up, Broken::Source) | (Way::Down, Broken::Sink) => {
                self.target.reset_on_close();
                Fault::TunnelReset
            }
            (Way::Down, Broken::Source) | (Way::Up, Broken::Sink) => {
                self.client.reset_on_close();
                Fault::TunnelTargetReset
            }
            (_, Broken::Idle) => Fault::TunnelIdle,
            // A stream of HTTP/2 ends so when its client has reset it.
            (_, Broken::Cut) if self.client.is_gone() => Fault::TunnelReset,
            (_, Broken::Cut) => Fault::TunnelCut,
        }
    }

    fn ends(&self, way: Way) -> (&Sock, &Sock) {
        match way {
            Way::Up => (self.client, self.target),
            Way::Down => (self.target, self.client),
        }
    }

    fn count(&self, way: Way, octets: usize) -> u64 {
        self.quiet.set(false);
        let Some(moved) = self.moved.get(way as usize) else { return 0 };
        moved.set(moved.get() + octets as u64);
        moved.get()
    }

    async fn direction(&self, way: Way, mut buf: Buf) -> Result<(), Broken> {
        let (from, to) = self.ends(way);
        let mut splices = from.can_splice() && to.can_splice();
        let mut in_a_row = 0;
        let mut drained = buf.is_empty();
        loop {
            let octets = buf.len();
            self.write(way, &mut buf).await?;
            let moved = self.count(way, octets);
            in_a_row += octets;
            if splices && moved >= SPLICE_AFTER {
                buf = self.shard.buffers.none();
                match self.splice(way).await? {
                    Spliced::Ended => return Ok(()),
                    Spliced::Refused => splices = false,
                    // Those that have pipes may need them for long.
                    Spliced::NoPipe => {}
                }
            }
            if in_a_row >= TURN {
                in_a_row = 0;
                self.give_way(way).await?;
            }
            if drained {
                // A read that did not fill its block has taken all there was: another would find nothing.
                buf = self.shard.buffers.none();
                in_a_row = 0;
                self.wait(way, Side::Read).await?;
            }
            if self.read(way, &mut buf).await? == 0 {
                to.finish_writing();
                return Ok(());
            }
            drained = !buf.is_brimful();
        }
    }

    // All of `buf`.
    async fn write(&self, way: Way, buf: &mut Buf) -> Result<(), Broken> {
        let (_, to) = self.ends(way);
        while !buf.is_empty() {
            match to.try_write(&[IoSlice::new(buf.filled())]) {
                Ok(n) => buf.consume(n),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(way, Side::Write).await?
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Broken::Sink),
            }
        }
        Ok(())
    }

    // At least one octet; 0 at the end of the stream.
    async fn read(&self, way: Way, buf: &mut Buf) -> Result<usize, Broken> {
        let (from, _) = self.ends(way);
        loop {
            if buf.capacity() == 0 {
                *buf = self.shard.buffers.small();
            } else if buf.is_brimful() && buf.capacity() < crate::net::buf::LARGE {
                // It streams.
                *buf = self.shard.buffers.large();
            }
            match from.try_read(buf.spare()) {
                Ok(n) => {
                    buf.fill(n);
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    *buf = self.shard.buffers.none();
                    self.wait(way, Side::Read).await?;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Broken::Source),
            }
        }
    }

    // Through pipes, for as long as there are any.
    async fn splice(&self, way: Way) -> Result<Spliced, Broken> {
        let (from, to) = self.ends(way);
        let mut in_a_row = 0;
        loop {
            let Some(mut pipe) = self.shard.pipes.lease() else { return Ok(Spliced::NoPipe) };
            loop {
                match from.splice_into(&mut pipe) {
                    Ok(0) => {
                        to.finish_writing();
                        return Ok(Spliced::Ended);
                    }
                    Ok(n) => in_a_row += n,
                    Err(e) => match e.kind() {
                        io::ErrorKind::WouldBlock => break,
                        io::ErrorKind::Interrupted => continue,
                        io::ErrorKind::PermissionDenied
                        | io::ErrorKind::Unsupported
                        | io::ErrorKind::InvalidInput => return Ok(Spliced::Refused),
                        _ => return Err(Broken::Source),
                    },
                }
                while pipe.held() > 0 {
                    match to.splice_from(&mut pipe) {
                        Ok(n) => _ = self.count(way, n),
                        Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                            self.wait(way, Side::Write).await?;
                        }
                        Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                        Err(_) => return Err(Broken::Sink),
                    }
                }
                if in_a_row >= TURN {
                    in_a_row = 0;
                    self.give_way(way).await?;
                }
            }
            // A stream that pauses holds no pipe.
            drop(pipe);
            in_a_row = 0;
            self.wait(way, Side::Read).await?;
        }
    }

    async fn give_way(&self, way: Way) -> Result<(), Broken> {
        to_the_end_of_the_queue().await;
        self.wait(way, Side::Write).await
    }

    // Waits for the sender to send or the receiver to make room.
    async fn wait(&self, way: Way, side: Side) -> Result<(), Broken> {
        let (from, to) = self.ends(way);
        let sock = if side == Side::Read { from } else { to };
        if sock.is_cut() {
            return Err(Broken::Cut);
        }
        loop {
            let now = self.look_at_the_clock();
            let deadline = self.last.get().after(self.idle);
            if deadline <= now {
                return Err(Broken::Idle);
            }
            sock.arm(side, deadline);
            let ended = match side {
                Side::Read => sock.readable().await,
                Side::Write => sock.writable().await,
            };
            match ended {
                Ok(()) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::TimedOut && sock.is_cut() => {
                    return Err(Broken::Cut);
                }
                // The other direction may have moved something since.
                Err(e) if e.kind() == io::ErrorKind::TimedOut => {}
                Err(_) if side == Side::Read => return Err(Broken::Source),
                Err(_) => return Err(Broken::Sink),
            }
        }
    }

    fn look_at_the_clock(&self) -> Tick {
        let now = Tick::now();
        if !self.quiet.replace(true) {
            self.last.set(now);
            if now.since(self.settled.get()) >= SETTLE {
                self.settled.set(now);
                self.settle();
            }
        }
        now
    }

    fn settle(&self) {
        let [up, down] = &self.moved;
        self.account.moved(up.get(), down.get());
    }
}

/// How splicing went.
enum Spliced {
    /// To the end of the stream.
    Ended,
    /// The system does not do it for these sockets.
    Refused,
    /// No pipe is free.
    NoPipe,
}
