//! The workers: starting them, telling them things, replacing one that died.

use crate::base::lease::Budget;
use crate::net::runtime::{self, Driver, Ringer};
use crate::shard::{AccessLog, Message, Pulse};
use crate::snapshot::Snapshot;
use crate::worker::{self, Start};
use crossbeam::channel::{Sender, unbounded};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedSender;

/// All workers.
#[derive(Debug)]
pub struct Crew {
    /// How they wait for the kernel.
    pub driver: Driver,
    /// The CPU of each; `None` where none is pinned.
    pub cpus: Vec<Option<core_affinity::CoreId>>,
    hands: Vec<Hand>,
    connections: Arc<Budget>,
    graveyard: Sender<Arc<Snapshot>>,
    ended: UnboundedSender<Ended>,
}

#[derive(Debug)]
struct Hand {
    mailbox: Sender<Message>,
    ringer: Ringer,
    pulse: Arc<Pulse>,
    running: bool,
}

/// A worker's thread has ended.
#[derive(Debug)]
pub struct Ended {
    /// Which.
    pub worker: usize,
    /// Why, unless it was drained.
    pub error: Option<String>,
}

impl Crew {
    /// Workers to be, one for each of `cpus`.
    pub fn new(
        driver: Driver,
        cpus: Vec<Option<core_affinity::CoreId>>,
        max_connections: u64,
        graveyard: Sender<Arc<Snapshot>>,
        ended: UnboundedSender<Ended>,
    ) -> Crew {
        let connections = Budget::new(max_connections);
        Crew { driver, cpus, hands: Vec::new(), connections, graveyard, ended }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.cpus.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.cpus.is_empty()
    }

    /// Starts worker `id`, for the first time or in place of one that died.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(&mut self, id: usize, snapshot: Arc<Snapshot>, log: AccessLog) -> io::Result<()> {
        let (mailbox, letters) = unbounded();
        let (ringer, doorbell) = runtime::doorbell()?;
        let pulse = match self.hands.get(id) {
            Some(before) => Arc::clone(&before.pulse),
            None => Arc::default(),
        };
        let start = Start {
            id,
            workers: self.len(),
            cpu: self.cpus.get(id).copied().flatten(),
            driver: self.driver,
            snapshot,
            log,
            connections: Arc::clone(&self.connections),
            mailbox: letters,
            doorbell,
            graveyard: self.graveyard.clone(),
            pulse: Arc::clone(&pulse),
        };
        let ended = self.ended.clone();
        let body = move || {
            let result = catch_unwind(AssertUnwindSafe(|| worker::run(start)));
            let error = match result {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("panicked".to_owned()),
            };
            // Control may have gone already.
            let _ = ended.send(Ended { worker: id, error });
        };
        std::thread::Builder::new().name(format!("worker-{id}")).spawn(body)?;
        let hand = Hand { mailbox, ringer, pulse, running: true };
        match self.hands.get_mut(id) {
            Some(slot) => *slot = hand,
            None => self.hands.push(hand),
        }
        Ok(())
    }

    /// Tells worker `id`.
    pub fn tell(&self, id: usize, message: Message) {
        if let Some(hand) = self.hands.get(id)
            && hand.mailbox.send(message).is_ok()
        {
            hand.ringer.ring();
        }
    }

    /// Tells every worker what `message` makes for it.
    pub fn tell_all(&self, message: impl Fn(usize) -> Message) {
        (0..self.hands.len()).for_each(|id| self.tell(id, message(id)));
    }

    /// Rings every doorbell, so that workers look up.
    pub fn ring_all(&self) {
        self.hands.iter().for_each(|h| h.ringer.ring());
    }

    /// Notes that a worker has ended.
    pub fn note_end(&mut self, id: usize) {
        if let Some(hand) = self.hands.get_mut(id) {
            hand.running = false;
        }
    }

    /// Whether any worker runs.
    pub fn any_running(&self) -> bool {
        self.hands.iter().any(|h| h.running)
    }

    /// What each worker shows, in order.
    pub fn pulses(&self) -> Vec<Arc<Pulse>> {
        self.hands.iter().map(|h| Arc::clone(&h.pulse)).collect()
    }
}
