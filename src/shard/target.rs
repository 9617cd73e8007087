//! A target as one worker knows it: its idle connections, and all its open ones, so that a removal can end them. Those of
//! HTTP/2, which many exchanges share, are in [`Channels`].
//!
//! A connection taken from here is closed when dropped; it comes back only through [`TargetCore::keep`], which the
//! caller may use only after the message on it has ended for certain.

use crate::base::Tick;
use crate::net::Sock;
use crate::net::timer::Slot;
use crate::shard::channel::{Channel, Channels};
use crate::shard::{Held, Opened};
use crate::snapshot::TargetLive;
use crate::tls::Failure;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// One worker's side of a target. Lives as long as an epoch or a connection needs it.
#[derive(Debug)]
pub struct TargetCore {
    /// What all workers share of it.
    pub live: Arc<TargetLive>,
    // This worker's TLS with it, which holds the sessions that can be resumed.
    tls: Option<TargetTls>,
    // Why the last handshake failed.
    unshaken: RefCell<Option<Failure>>,
    /// Its connections of HTTP/2.
    pub channels: Channels,
    /// Connections that it may have, all workers together, as the newest configuration says.
    pub most: Cell<u32>,
    // Whether the newest configuration has it no longer.
    retired: Cell<bool>,
    idle: RefCell<Vec<Idle>>,
    // The slots of the clients that open connections, and streams, serve now.
    open: RefCell<Slab<Option<Rc<Slot>>>>,
    // Of these, streams.
    streams: Cell<usize>,
}

/// What a TLS session with a target begins with.
#[derive(Clone, Debug)]
pub struct TargetTls {
    /// For rustls.
    pub config: Arc<ClientConfig>,
    /// Whom the target must prove to be.
    pub name: ServerName<'static>,
}

#[derive(Debug)]
struct Idle {
    conn: Registered,
    since: Tick,
}

// A socket that is listed in `open` for as long as it lives.
#[derive(Debug)]
struct Registered {
    sock: Sock,
    key: usize,
    // Behind the socket, which is closed before its place is free.
    opened: Opened,
}

impl Drop for Registered {
    fn drop(&mut self) {
        // The driver may close it a moment later, and whoever takes its place must not be there before the target hears.
        if self.opened.is_bounded() {
            self.sock.finish_writing();
        }
    }
}

/// An open connection to a target, in use by one exchange.
#[derive(Debug)]
pub struct TargetConn {
    conn: Option<Registered>,
    // A place on a connection of HTTP/2 instead, and its key in `open`.
    place: Option<(Rc<Channel>, usize)>,
    target: Rc<TargetCore>,
    /// Whether it has carried a request before.
    pub reused: bool,
    /// The request's own place with the target: it is in flight for as long as it has the connection.
    pub held: Held,
}

impl TargetCore {
    /// A target without connections.
    pub fn new(live: Arc<TargetLive>) -> Rc<TargetCore> {
        let tls = live.opening.tls.as_ref();
        let tls = tls.map(|(dial, name)| TargetTls { config: dial.config(), name: name.clone() });
        Rc::new(TargetCore {
            live,
            tls,
            unshaken: RefCell::default(),
            channels: Channels::default(),
            most: Cell::new(u32::MAX),
            retired: Cell::new(false),
            streams: Cell::new(0),
            idle: RefCell::default(),
            open: RefCell::default(),
        })
    }

    /// What a TLS session with it begins with; `None` where it speaks plain TCP.
    pub fn tls(&self) -> Option<&TargetTls> {
        self.tls.as_ref()
    }

    /// Remembers why a handshake failed.
    pub fn note_unshaken(&self, failure: Failure) {
        self.unshaken.replace(Some(failure));
    }

    /// Why the last handshake that failed did.
    pub fn unshaken(&self) -> Option<Failure> {
        self.unshaken.borrow().clone()
    }

    /// The idle connection that was used last. One on which the target has sent something or that it has closed
    /// is dropped: whatever it says now answers no request of ours (hazard UP-03). Asking costs a system call a request, a
    /// fortieth of its cost; not to ask for the first moments would let a target that answers twice reach the next client.
    pub fn take(self: &Rc<TargetCore>, client: &Sock) -> Option<TargetConn> {
        loop {
            let idle = self.idle.borrow_mut().pop()?;
            if idle.conn.sock.has_news() {
                self.forget(idle.conn);
                continue;
            }
            let slot = client.slot();
            if let Some(open) = self.open.borrow_mut().get_mut(idle.conn.key) {
                *open = Some(Rc::clone(&slot));
            }
            idle.conn.sock.join(slot);
            return Some(TargetConn {
                conn: Some(idle.conn),
                place: None,
                target: Rc::clone(self),
                reused: true,
                held: Held::default(),
            });
        }
    }

    /// Takes up a connection that was just opened.
    pub fn opened(self: &Rc<TargetCore>, sock: Sock, opened: Opened) -> TargetConn {
        let key = self.open.borrow_mut().insert(Some(sock.slot()));
        let conn = Some(Registered { sock, key, opened });
        let (target, held) = (Rc::clone(self), Held::default());
        TargetConn { conn, place: None, target, reused: false, held }
    }

    /// Takes a place for one stream on a connection of HTTP/2.
    pub fn place_on(
        self: &Rc<TargetCore>,
        channel: Rc<Channel>,
        client: &Sock,
        reused: bool,
    ) -> TargetConn {
        let key = self.open.borrow_mut().insert(Some(client.slot()));
        channel.enter();
        self.streams.set(self.streams.get() + 1);
        let (target, held) = (Rc::clone(self), Held::default());
        TargetConn { conn: None, place: Some((channel, key)), target, reused, held }
    }

    /// Keeps a connection for reuse, unless there are `most` already, or nobody will ask for it.
    pub fn keep(mut conn: TargetConn, now: Tick, most: usize) {
        let target = Rc::clone(&conn.target);
        if let Some(registered) = conn.conn.take() {
            let mut idle = target.idle.borrow_mut();
            if idle.len() < most && !target.retired.get() {
                if let Some(open) = target.open.borrow_mut().get_mut(registered.key) {
                    *open = None;
                }
                idle.push(Idle { conn: registered, since: now });
            } else {
                drop(idle);
                target.forget(registered);
            }
        }
    }

    /// Closes connections that have been idle for `oldest`, and reads off the gauges; done every sweep.
    pub fn sweep(&self, now: Tick, oldest: Duration, worker: usize) {
        self.expire_idle(now, oldest);
        self.channels.sweep(now, oldest);
        let (channels, unused) = self.channels.count();
        let cell = self.live.meters.cell(worker);
        let own = self.open.borrow().len().saturating_sub(self.streams.get());
        cell.connections.set((own + channels) as u64);
        cell.idle.set((self.idle.borrow().len() + unused) as u64);
    }

    fn expire_idle(&self, now: Tick, oldest: Duration) {
        if self.idle.borrow().first().is_none_or(|first| now.since(first.since) < oldest) {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let fresh = idle.iter().position(|i| now.since(i.since) < oldest).unwrap_or(idle.len());
        let expired: Vec<Idle> = idle.drain(..fresh).collect();
        drop(idle);
        expired.into_iter().for_each(|i| self.forget(i.conn));
    }

    /// Closes the connection that has been idle for longest. Whether there is room for another one now: one of HTTP/2 takes its
    /// time to end.
    pub fn spare(&self) -> bool {
        let mut idle = self.idle.borrow_mut();
        let oldest = (!idle.is_empty()).then(|| idle.remove(0));
        drop(idle);
        match oldest {
            Some(oldest) => self.forget(oldest.conn),
            None => {
                self.channels.spare();
                return false;
            }
        }
        true
    }

    /// Whether a request would find a connection, or could open one; one that is a stream, with `streams`. Who is told so and
    /// finds none asks again at once: what is said here must be what it then meets.
    pub fn has_room(&self, streams: bool) -> bool {
        let most = self.most.get();
        most == u32::MAX
            || self.idle() > 0
            || self.live.guard.connections.value() < most
            || (streams && self.channels.has_room())
    }

    /// The newest configuration has it no longer: its connections end with what is on them now. An idle one would take the place
    /// of another, and never be used.
    pub fn retire(&self) {
        self.retired.set(true);
        self.close_idle();
    }

    /// Closes all idle connections; those of HTTP/2 end with their last stream.
    pub fn close_idle(&self) {
        self.channels.close();
        let idle = std::mem::take(&mut *self.idle.borrow_mut());
        idle.into_iter().for_each(|i| self.forget(i.conn));
    }

    /// Ends every exchange on this target.
    pub fn cut(&self) {
        self.close_idle();
        for slot in self.open.borrow().iter().filter_map(|(_, slot)| slot.as_ref()) {
            slot.expire();
        }
    }

    /// Whether it has no connection.
    pub fn is_unused(&self) -> bool {
        self.open.borrow().is_empty() && self.channels.is_empty()
    }

    /// Idle connections.
    pub fn idle(&self) -> usize {
        self.idle.borrow().len()
    }

    fn forget(&self, conn: Registered) {
        self.open.borrow_mut().try_remove(conn.key);
    }
}

impl TargetConn {
    /// The connection of HTTP/2 that it has a place on.
    #[inline]
    pub fn channel(&self) -> Option<&Rc<Channel>> {
        self.place.as_ref().map(|(channel, _)| channel)
    }

    /// The socket; `None` only after [`TargetCore::keep`], and for a place on a connection of HTTP/2.
    #[inline]
    pub fn sock(&self) -> Option<&Sock> {
        self.conn.as_ref().map(|c| &c.sock)
    }

    /// Its target.
    pub fn target(&self) -> &Rc<TargetCore> {
        &self.target
    }
}

impl Drop for TargetConn {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take() {
            self.target.forget(conn);
        }
        if let Some((channel, key)) = self.place.take() {
            channel.leave();
            if self.target.retired.get() {
                self.target.channels.close();
            }
            self.target.streams.set(self.target.streams.get() - 1);
            self.target.open.borrow_mut().try_remove(key);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config;
    use crate::net::Timers;
    use crate::net::memory::{Shape, pair};
    use crate::shard::{Lines, Post};
    use crate::snapshot::compile::{Context, compile};

    /// A target of a group, as one of two workers knows it.
    pub fn sample() -> Rc<TargetCore> {
        let file = "[[listener]]\nname = 'l'\nbind = '127.0.0.1:1'\ndefault = { forward = 'g' }\n\
                    [group.g]\ntargets = ['127.0.0.1:2']\n";
        let config = config::parse(file, "a.toml", &|_| None).unwrap();
        let context = Context { generation: 1, workers: 2, old: None, resolve: &|_| Vec::new() };
        let snapshot = compile(&config, context).unwrap();
        TargetCore::new(Arc::clone(&snapshot.groups[0].targets[0].live))
    }

    #[test]
    fn what_is_removed_keeps_no_connection_from_its_successor() {
        let (target, lines) = (sample(), Rc::new(Lines::new(0, Post::default())));
        let timers = Rc::new(Timers::default());
        target.most.set(2);
        let open = || {
            let sock = Sock::in_memory(pair(Shape::default(), [None, None]).0, &timers);
            target.opened(sock, lines.open(&target).unwrap())
        };
        let (idle, busy) = (open(), open());
        assert!(lines.open(&target).is_none() && !target.has_room(false));
        TargetCore::keep(idle, Tick::now(), 9);
        assert!(target.idle() == 1 && target.has_room(false));
        target.retire();
        assert_eq!((target.idle(), target.live.guard.connections.value()), (0, 1));
        TargetCore::keep(busy, Tick::now(), 9);
        assert_eq!((target.idle(), target.live.guard.connections.value()), (0, 0));
        assert!(target.is_unused());
    }
}
