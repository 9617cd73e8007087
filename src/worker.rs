//! One worker: pin, build the runtime, adopt listeners, serve until drained.
//!
//! It hears from control through a mailbox and a doorbell, and is seen by control through its pulse. Dropping the runtime
//! with waits in flight is sound: the kernel never owns one of its buffers (`net`).

use crate::base::Tick;
use crate::net::Timers;
use crate::net::listen::Acceptor;
use crate::net::runtime::{self, Doorbell, Driver, Ticker};
use crate::serve::accept::{self, Door};
use crate::serve::handover::Peers;
use crate::shard::{AccessLog, Ask, Epoch, Machine, Message, Pulse, Shard};
use crate::snapshot::Snapshot;
use crossbeam::channel::{Receiver, Sender};
use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc::UnboundedSender;

/// What a worker is started with.
#[derive(Debug)]
pub struct Start {
    /// Its number: which pulse and which cells of meters are its own.
    pub id: usize,
    /// How many there are.
    pub workers: usize,
    /// The CPU to be pinned to.
    pub cpu: Option<core_affinity::CoreId>,
    /// How to wait for the kernel.
    pub driver: Driver,
    /// The configuration to begin with.
    pub snapshot: Arc<Snapshot>,
    /// Where access records go.
    pub log: AccessLog,
    /// What all workers share.
    pub machine: Arc<Machine>,
    /// Messages from control.
    pub mailbox: Receiver<Message>,
    /// Where questions of policies go.
    pub asks: UnboundedSender<Ask>,
    /// Rings when there is one.
    pub doorbell: OwnedFd,
    /// Where snapshots go to be freed.
    pub graveyard: Sender<Arc<Snapshot>>,
    /// What control sees.
    pub pulse: Arc<Pulse>,
    /// What control sees of all workers, by their numbers.
    pub pulses: Vec<Arc<Pulse>>,
    /// Set by control when a successor has taken over: then nothing more is accepted.
    pub retired: Arc<AtomicBool>,
}

/// Runs a worker on the calling thread until it is drained.
///
/// # Errors
/// When the driver cannot be built.
pub fn run(start: Start) -> std::io::Result<()> {
    let thread = rustix::thread::gettid().as_raw_nonzero().get();
    start.pulse.thread.store(thread, Ordering::Relaxed);
    if let Some(cpu) = start.cpu
        && !core_affinity::set_for_current(cpu)
    {
        tracing::warn!(worker = start.id, cpu = cpu.id, "cannot pin the worker to its CPU");
    }
    runtime::run(start.driver, || main(start))
}

async fn main(start: Start) {
    let (ticker, doorbell) = match (Ticker::start(), Doorbell::adopt(start.doorbell)) {
        (Ok(ticker), Ok(doorbell)) => (ticker, doorbell),
        (ticker, doorbell) => {
            tracing::error!(worker = start.id, ?ticker, ?doorbell, "the worker cannot start");
            return;
        }
    };
    let epoch = Epoch::bind(start.snapshot, None, start.workers, start.graveyard.clone());
    let timers = Rc::new(Timers::default());
    let shares = start.machine.shares(start.workers);
    let shard = Shard::new(start.id, epoch, timers, start.log, shares, start.pulse);
    shard.asks.connect(start.id, start.asks);
    if let Err(error) = shard.delays.start() {
        tracing::warn!(worker = start.id, %error, "requests that are held back go on at the next sweep");
    }
    let peers = Rc::new(Peers::new(start.id, start.pulses));
    let worker = Rc::new(Worker {
        shard: Rc::clone(&shard),
        peers: Rc::clone(&peers),
        workers: start.workers,
        graveyard: start.graveyard,
        retired: start.retired,
        doors: RefCell::default(),
        offers: RefCell::default(),
    });
    keep_sweeping(Rc::clone(&worker), Rc::new(ticker));
    shard.sweep(Tick::now());
    worker.hear(&doorbell, &start.mailbox).await;
    shard.sweep(Tick::now());
}

// Deadlines and doors depend on it: a panic does not end it.
fn keep_sweeping(worker: Rc<Worker>, ticker: Rc<Ticker>) {
    let again = (Rc::clone(&worker), Rc::clone(&ticker));
    let sweep = async move {
        while ticker.tick().await.is_ok() {
            let now = Tick::now();
            worker.shard.sweep(now);
            worker.peers.sweep(&worker.shard, now);
            worker.adopt_what_is_left();
        }
    };
    runtime::spawn(sweep, move || {
        let (worker, ticker) = again;
        worker.shard.pulse.panics.fetch_add(1, Ordering::Relaxed);
        tracing::error!(worker = worker.shard.worker, "the sweep panicked; starting it again");
        keep_sweeping(worker, ticker);
    });
}

// A socket that control wants served.
struct Offer {
    listener: u32,
    port: u16,
    socket: OwnedFd,
    token: u64,
}

struct Worker {
    shard: Rc<Shard>,
    peers: Rc<Peers>,
    workers: usize,
    graveyard: Sender<Arc<Snapshot>>,
    retired: Arc<AtomicBool>,
    doors: RefCell<HashMap<u64, Rc<Door>>>,
    // What could not be adopted yet, for want of descriptors or memory: at most one for each socket that control has.
    offers: RefCell<Vec<Offer>>,
}

impl Worker {
    // Until drained: then the thread ends, and with it whatever connection is left.
    async fn hear(&self, doorbell: &Doorbell, mailbox: &Receiver<Message>) {
        loop {
            while let Ok(message) = mailbox.try_recv() {
                self.take(message);
            }
            if self.shard.is_draining() {
                // Nobody hands anything to one that accepts nothing; what was handed before is served.
                self.peers.collect(&self.shard);
                if self.shard.connections() == 0 {
                    return;
                }
            }
            // While draining, control rings every now and then, so that the end is seen.
            if !doorbell.rung().await {
                return;
            }
        }
    }

    fn take(&self, message: Message) {
        match message {
            Message::Publish(snapshot) => {
                // What was handed over is of listeners that the new one may not have.
                self.peers.collect(&self.shard);
                let old = self.shard.epoch();
                let graveyard = self.graveyard.clone();
                let epoch = Epoch::bind(snapshot, Some(&old), self.workers, graveyard);
                self.shard.adopt(epoch, Tick::now());
            }
            Message::Listen { listener, port, socket, token } => {
                self.listen(Offer { listener, port, socket, token });
            }
            Message::Unlisten { token } => {
                self.offers.borrow_mut().retain(|offer| offer.token != token);
                if let Some(door) = self.doors.borrow_mut().remove(&token) {
                    self.close(&door);
                }
                self.see_doors();
            }
            Message::Replied { ticket, reply } => self.shard.asks.reply(ticket, reply),
            Message::Room(live) => self.shard.lines.called(&live),
            Message::Spare(live) => self.shard.spare(&live),
            Message::Landed(tickets) => self.shard.landings.land(&tickets),
            Message::Handed => self.peers.collect(&self.shard),
            Message::Log(log) => self.shard.set_log(log),
            Message::Drain => {
                self.offers.take();
                let doors = std::mem::take(&mut *self.doors.borrow_mut());
                doors.values().for_each(|door| self.close(door));
                self.shard.drain();
                self.see_doors();
            }
            Message::Retire => {
                // Stopping a socket would stop it for the successor, too.
                self.offers.take();
                let doors = std::mem::take(&mut *self.doors.borrow_mut());
                doors.values().for_each(|door| door.closing.set(true));
                self.shard.drain();
                self.see_doors();
            }
            Message::Cut => self.shard.timers.expire_all(),
            #[cfg(test)]
            Message::Panic => panic!("asked to"),
            #[cfg(test)]
            Message::Hang(words) => drop((words.recv(), words.recv())),
        }
    }

    fn listen(&self, offer: Offer) {
        if let Err(error) = self.adopt(&offer) {
            let worker = self.shard.worker;
            tracing::error!(worker, %error, "cannot serve a listener yet; trying again");
            self.offers.borrow_mut().push(offer);
        }
    }

    fn adopt_what_is_left(&self) {
        if self.offers.borrow().is_empty() {
            return;
        }
        let mut offers = self.offers.take();
        offers.retain(|offer| self.adopt(offer).is_err());
        self.offers.borrow_mut().append(&mut offers);
    }

    fn adopt(&self, offer: &Offer) -> std::io::Result<()> {
        let acceptor = Acceptor::adopt(offer.socket.try_clone()?, Arc::clone(&self.retired))?;
        let (listener, port, closing) = (offer.listener, offer.port, false.into());
        let peers = Rc::clone(&self.peers);
        let door = Rc::new(Door { acceptor, listener, port, closing, peers });
        self.doors.borrow_mut().insert(offer.token, Rc::clone(&door));
        accept::begin_at(door, Rc::clone(&self.shard));
        self.see_doors();
        Ok(())
    }

    // Nothing queued is lost: the queue is emptied first.
    fn close(&self, door: &Rc<Door>) {
        door.closing.set(true);
        if let Err(error) = accept::take_queued(door, &self.shard, usize::MAX) {
            let worker = self.shard.worker;
            tracing::warn!(worker, %error, "closing a listener with connections queued");
        }
        // The accept task waits on this socket: it must not be what keeps it open.
        door.acceptor.stop();
    }

    fn see_doors(&self) {
        let open = !self.doors.borrow().is_empty();
        self.shard.pulse.accepting.store(open, Ordering::SeqCst);
    }
}
