//! The workers: starting them, telling them things, replacing one that died.

use crate::net::runtime::{self, Driver, Ringer};
use crate::shard::{AccessLog, Machine, Message, Pulse};
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
    machine: Arc<Machine>,
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
        machine: Arc<Machine>,
        graveyard: Sender<Arc<Snapshot>>,
        ended: UnboundedSender<Ended>,
    ) -> Crew {
        Crew { driver, cpus, hands: Vec::new(), machine, graveyard, ended }
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
            machine: Arc::clone(&self.machine),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, AccessLog as Where};
    use crate::net::listen;
    use crate::observe::{self, Format};
    use crate::snapshot::{self, compile::Context};
    use std::net::TcpStream;
    use std::sync::atomic::Ordering;
    use std::time::{Duration, SystemTime};
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
        let deadline = SystemTime::now() + Duration::from_secs(10);
        while !done() {
            assert!(SystemTime::now() < deadline, "not within 10 s: {what}");
            std::thread::yield_now();
        }
    }

    fn crew(driver: Driver) -> (Crew, UnboundedReceiver<Ended>, Arc<Snapshot>, AccessLog) {
        let text = "[[listener]]\nname = \"web\"\nbind = [\"127.0.0.1:0\"]\n";
        let config = config::parse(text, "test.toml", &|_| None).unwrap();
        let context = Context { generation: 1, workers: 1, old: None, resolve: &|_| Vec::new() };
        let snapshot = Arc::new(snapshot::compile(&config, context).unwrap());
        let (graveyard, _) = unbounded();
        let (tell, ended) = unbounded_channel();
        let log = observe::start(Where::Off).unwrap();
        let log =
            AccessLog { sink: Some(log.sink()), format: Arc::new(Format::parse("json").unwrap()) };
        let machine = Arc::new(Machine::new(&config.server, &config.limits));
        (Crew::new(driver, vec![None], machine, graveyard, tell), ended, snapshot, log)
    }

    // Hazards RT-01 to RT-03: the queue is control's, so what waits in it is served by the successor.
    #[test]
    fn a_worker_that_died_is_replaced_and_its_queue_is_served() {
        for driver in [Driver::Epoll, Driver::IoUring] {
            if driver == Driver::IoUring && runtime::probe_ring().is_err() {
                continue;
            }
            let (mut crew, mut ended, snapshot, log) = crew(driver);
            let socket = listen::bind("127.0.0.1:0".parse().unwrap(), 16, None).unwrap();
            let address = listen::address_of(&socket).unwrap();
            let listener = snapshot.listeners[0].id;
            crew.start(0, Arc::clone(&snapshot), log).unwrap();
            crew.tell(0, Message::Panic);
            wait_until("the death is noticed", || match ended.try_recv() {
                Ok(Ended { worker: 0, error }) => error.as_deref() == Some("panicked"),
                _ => false,
            });
            // Nobody serves the socket now; the kernel queues.
            #[expect(clippy::disallowed_methods, reason = "a client, not a worker")]
            let client = TcpStream::connect(address).unwrap();
            let log = AccessLog { sink: None, format: Arc::new(Format::parse("json").unwrap()) };
            crew.start(0, snapshot, log).unwrap();
            let port = address.port();
            let socket = socket.try_clone().unwrap();
            crew.tell(0, Message::Listen { listener, port, socket, token: 1 });
            let pulse = Arc::clone(&crew.pulses()[0]);
            wait_until("the queued connection is served", || {
                pulse.connections.load(Ordering::Relaxed) == 1
            });
            drop(client);
            crew.tell(0, Message::Drain);
            wait_until("it drains", || {
                crew.ring_all();
                ended.try_recv().is_ok()
            });
        }
    }
}
