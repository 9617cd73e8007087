//! The workers: starting them, telling them things, replacing one that died or hangs.
//!
//! A worker has a place (its CPU and its listening sockets, for as long as the process runs) and a number (its pulse and its
//! cells in all meters). One that died is started again under its number, after a wait that doubles while it keeps dying.
//! One that hangs keeps its number, its connections and its leases: its successor in the same place gets another number.

use crate::base::Tick;
use crate::base::meters::SPARE;
use crate::net::runtime::{self, Driver, Ringer};
use crate::shard::{AccessLog, Ask, Machine, Message, Pulse, Seat};
use crate::snapshot::Snapshot;
use crate::worker::{self, Start};
use crossbeam::channel::{Sender, unbounded};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

/// All workers.
#[derive(Debug)]
pub struct Crew {
    /// How they wait for the kernel.
    pub driver: Driver,
    /// The CPU of each place; `None` where none is pinned.
    pub cpus: Vec<Option<core_affinity::CoreId>>,
    // By number.
    pulses: Vec<Arc<Pulse>>,
    // By place.
    hands: Vec<Hand>,
    retired: Vec<Retired>,
    machine: Arc<Machine>,
    graveyard: Sender<Arc<Snapshot>>,
    ended: UnboundedSender<Ended>,
    asks: UnboundedSender<Ask>,
}

// One worker's thread.
#[derive(Debug)]
struct Hand {
    number: usize,
    mailbox: Sender<Message>,
    ringer: Ringer,
    retired: Arc<AtomicBool>,
    running: bool,
    started: Tick,
    // Deaths in a row, each soon after its start.
    deaths: u32,
    // When one that died is started again.
    due: Tick,
}

#[derive(Debug)]
struct Retired {
    hand: Hand,
    // Once it is awake: when what it still has is broken off.
    cut: Tick,
}

/// A worker's thread has ended.
#[derive(Debug)]
pub struct Ended {
    /// Its number.
    pub worker: usize,
    /// Why, unless it was drained.
    pub error: Option<String>,
}

/// What the end of a thread means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A worker is missing; it is started again after this long.
    Died(Duration),
    /// One that had been replaced has finished.
    Finished,
}

/// Why a worker was not replaced.
#[derive(Debug)]
pub enum NotReplaced {
    /// It is alive, or has been replaced already.
    NoNeed,
    /// As many hang as there may be.
    TooMany,
    /// No thread can be started.
    Failed(io::Error),
}

/// A worker that lived this long did not die of its start.
const SETTLED: Duration = Duration::from_secs(10);
/// The first wait before a worker is started again.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// The nice value of a thread that hangs.
const LOWEST_PRIORITY: i32 = 19;

impl Crew {
    /// Workers to be, one for each of `cpus`.
    pub fn new(
        driver: Driver,
        cpus: Vec<Option<core_affinity::CoreId>>,
        machine: Arc<Machine>,
        graveyard: Sender<Arc<Snapshot>>,
        ended: UnboundedSender<Ended>,
        asks: UnboundedSender<Ask>,
    ) -> Crew {
        let pulses = (0..cpus.len() + SPARE).map(|_| Arc::default()).collect();
        let (hands, retired) = (Vec::new(), Vec::new());
        Crew { driver, cpus, pulses, hands, retired, machine, graveyard, ended, asks }
    }

    /// How many places there are.
    pub fn len(&self) -> usize {
        self.cpus.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.cpus.is_empty()
    }

    /// Starts the worker of a place, for the first time or again after it died.
    ///
    /// # Errors
    /// When the thread cannot be started; a worker that died is due again later then.
    pub fn start(
        &mut self,
        place: usize,
        snapshot: Arc<Snapshot>,
        log: AccessLog,
    ) -> io::Result<()> {
        let (number, deaths) = match self.hands.get(place) {
            Some(dead) => (Some(dead.number), dead.deaths),
            None => (self.vacant(), 0),
        };
        let number = number.ok_or_else(|| io::Error::other("no number is free"))?;
        let started = self.spawn(place, number, deaths, snapshot, log);
        match (started, self.hands.get_mut(place)) {
            (Ok(hand), Some(slot)) => *slot = hand,
            (Ok(hand), None) => self.hands.push(hand),
            (Err(error), slot) => {
                if let Some(dead) = slot {
                    dead.due = Tick::now().after(LONGEST_WAIT);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Lets another worker serve in the place of one that hangs; the place.
    ///
    /// # Errors
    /// When that is not needed, or not possible.
    pub fn replace(
        &mut self,
        number: usize,
        snapshot: Arc<Snapshot>,
        log: AccessLog,
    ) -> Result<usize, NotReplaced> {
        let place = self.hands.iter().position(|h| h.number == number && h.running);
        let place = place.ok_or(NotReplaced::NoNeed)?;
        if !self.pulses.get(number).is_some_and(|p| p.stuck.load(Ordering::Relaxed)) {
            return Err(NotReplaced::NoNeed);
        }
        let fresh = self.vacant().ok_or(NotReplaced::TooMany)?;
        let current = Arc::clone(&snapshot);
        let hand = self.spawn(place, fresh, 0, snapshot, log).map_err(NotReplaced::Failed)?;
        let slot = self.hands.get_mut(place).ok_or(NotReplaced::NoNeed)?;
        let stuck = std::mem::replace(slot, hand);
        self.retire(stuck);
        // It offers no place to those that wait on it, who would keep others from having one.
        current.groups.iter().for_each(|group| group.live.line.vacate(number));
        Ok(place)
    }

    // From here on it accepts nothing, whenever it wakes: the flag is seen before the message is.
    fn retire(&mut self, hand: Hand) {
        hand.retired.store(true, Ordering::Release);
        if let Some(pulse) = self.pulses.get(hand.number) {
            pulse.seat.set(Seat::Retired);
            // One that runs in circles must not keep its successor from the CPU that both are pinned to.
            let thread = rustix::process::Pid::from_raw(pulse.thread.load(Ordering::Relaxed));
            if thread.is_some() {
                let _ = rustix::process::setpriority_process(thread, LOWEST_PRIORITY);
            }
        }
        hand.tell(Message::Retire);
        self.retired.push(Retired { hand, cut: Tick::NEVER });
    }

    /// A worker that was replaced is awake: it gets until `cut` to finish.
    pub fn finish(&mut self, number: usize, cut: Tick) {
        for retired in self.retired.iter_mut().filter(|r| r.hand.number == number) {
            retired.cut = cut;
        }
    }

    /// What has to be done now and then: workers that finish look up, and are cut off when their time is over. The
    /// places whose workers are due to be started again.
    pub fn tend(&mut self, now: Tick) -> Vec<usize> {
        for retired in &mut self.retired {
            retired.hand.ringer.ring();
            if retired.cut <= now {
                retired.cut = Tick::NEVER;
                retired.hand.tell(Message::Cut);
            }
        }
        let due = |(_, hand): &(usize, &Hand)| !hand.running && hand.due <= now;
        self.hands.iter().enumerate().filter(due).map(|(place, _)| place).collect()
    }

    fn vacant(&self) -> Option<usize> {
        self.pulses.iter().position(|pulse| pulse.seat.get() == Seat::Vacant)
    }

    fn spawn(
        &self,
        place: usize,
        number: usize,
        deaths: u32,
        snapshot: Arc<Snapshot>,
        log: AccessLog,
    ) -> io::Result<Hand> {
        let (mailbox, letters) = unbounded();
        let (ringer, doorbell) = runtime::doorbell()?;
        self.machine.post.open(number, mailbox.clone(), ringer.try_clone()?);
        let retired = Arc::new(AtomicBool::new(false));
        let pulse = self.pulses.get(number).map(Arc::clone).unwrap_or_default();
        let start = Start {
            id: number,
            workers: self.len(),
            cpu: self.cpus.get(place).copied().flatten(),
            driver: self.driver,
            snapshot,
            log,
            machine: Arc::clone(&self.machine),
            mailbox: letters,
            doorbell,
            asks: self.asks.clone(),
            graveyard: self.graveyard.clone(),
            pulse: Arc::clone(&pulse),
            pulses: self.pulses(),
            retired: Arc::clone(&retired),
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
            let _ = ended.send(Ended { worker: number, error });
        };
        // It has its first beat to live up to from now on.
        let started = Tick::now();
        pulse.beat.store(started.nanos(), Ordering::Relaxed);
        pulse.thread.store(0, Ordering::Relaxed);
        pulse.stuck.store(false, Ordering::Relaxed);
        let before = pulse.seat.get();
        pulse.seat.set(Seat::Serving);
        let thread = std::thread::Builder::new().name(format!("worker-{number}")).spawn(body);
        if let Err(error) = thread {
            pulse.seat.set(before);
            return Err(error);
        }
        Ok(Hand { number, mailbox, ringer, retired, running: true, started, deaths, due: started })
    }

    /// Tells the worker of a place.
    pub fn tell(&self, place: usize, message: Message) {
        if let Some(hand) = self.hands.get(place) {
            hand.tell(message);
        }
    }

    /// Tells the worker of every place what `message` makes for it.
    pub fn tell_all(&self, message: impl Fn(usize) -> Message) {
        (0..self.hands.len()).for_each(|place| self.tell(place, message(place)));
    }

    /// Tells every worker to end what is still in flight, also those that were replaced.
    pub fn cut_all(&self) {
        self.tell_all(|_| Message::Cut);
        self.retired.iter().for_each(|r| r.hand.tell(Message::Cut));
    }

    /// Rings every doorbell, so that workers look up.
    pub fn ring_all(&self) {
        self.hands.iter().for_each(|h| h.ringer.ring());
        self.retired.iter().for_each(|r| r.hand.ringer.ring());
    }

    /// Notes that a worker has ended. `current` is the configuration in use.
    pub fn note_end(&mut self, number: usize, current: &Snapshot, now: Tick) -> End {
        let pulse = self.pulses.get(number).map(Arc::clone).unwrap_or_default();
        pulse.accepting.store(false, Ordering::Relaxed);
        pulse.connections.store(0, Ordering::Relaxed);
        pulse.busy.store(0, Ordering::Relaxed);
        pulse.streams.vacate();
        pulse.stuck.store(false, Ordering::Relaxed);
        vacate(current, number);
        let Some(hand) = self.hands.iter_mut().find(|h| h.number == number) else {
            self.retired.retain(|r| r.hand.number != number);
            pulse.seat.set(Seat::Vacant);
            return End::Finished;
        };
        let wait;
        (hand.deaths, wait) = backoff(hand.deaths, now.since(hand.started));
        (hand.running, hand.due) = (false, now.after(wait));
        pulse.seat.set(Seat::Dead);
        End::Died(wait)
    }

    /// Whether any worker runs.
    pub fn any_running(&self) -> bool {
        self.hands.iter().any(|h| h.running) || !self.retired.is_empty()
    }

    /// What workers show, by their numbers.
    pub fn pulses(&self) -> Vec<Arc<Pulse>> {
        self.pulses.clone()
    }
}

impl Hand {
    fn tell(&self, message: Message) {
        if self.mailbox.send(message).is_ok() {
            self.ringer.ring();
        }
    }
}

// Deaths in a row with this one, and how long to wait: a worker that dies at once, again and again, must not keep the
// process busy with starting it.
fn backoff(deaths: u32, lived: Duration) -> (u32, Duration) {
    let deaths = if lived >= SETTLED { 1 } else { deaths.saturating_add(1) };
    let doublings = deaths.saturating_sub(1).min(16);
    (deaths, FIRST_WAIT.saturating_mul(1 << doublings).min(LONGEST_WAIT))
}

// The thread is gone and all that it held; its gauges say so only if somebody says it.
fn vacate(current: &Snapshot, number: usize) {
    current.listeners.iter().for_each(|l| l.meters.vacate(number));
    current.rules.iter().for_each(|r| r.meters.vacate(number));
    for group in &current.groups {
        group.live.meters.vacate(number);
        group.live.line.vacate(number);
        group.targets.iter().for_each(|t| t.live.meters.vacate(number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, AccessLog as Where};
    use crate::control::watchdog::{self, Alarm};
    use crate::net::listen;
    use crate::observe::{self, Format};
    use crate::protect::Importance;
    use crate::snapshot::{self, compile::Context};
    use crossbeam::channel::bounded;
    use std::net::TcpStream;
    use std::time::SystemTime;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
        let deadline = SystemTime::now() + Duration::from_secs(10);
        while !done() {
            assert!(SystemTime::now() < deadline, "not within 10 s: {what}");
            std::thread::yield_now();
        }
    }

    fn drivers() -> impl Iterator<Item = Driver> {
        let ring = runtime::probe_ring().is_ok();
        [Driver::Epoll, Driver::IoUring].into_iter().filter(move |d| *d == Driver::Epoll || ring)
    }

    fn no_log() -> AccessLog {
        AccessLog { sink: None, format: Arc::new(Format::parse("json").unwrap()) }
    }

    fn crew(driver: Driver) -> (Crew, UnboundedReceiver<Ended>, Arc<Snapshot>, AccessLog) {
        let text = "[[listener]]\nname = \"web\"\nbind = [\"127.0.0.1:0\"]\n\
                    [group.g]\ntargets = [\"127.0.0.1:2\"]\n";
        let config = config::parse(text, "test.toml", &|_| None).unwrap();
        let context = Context { generation: 1, workers: 1, old: None, resolve: &|_| Vec::new() };
        let snapshot = Arc::new(snapshot::compile(&config, context).unwrap());
        let (graveyard, _) = unbounded();
        let (tell, ended) = unbounded_channel();
        let log = observe::start(Where::Off).unwrap();
        let log =
            AccessLog { sink: Some(log.sink()), format: Arc::new(Format::parse("json").unwrap()) };
        let machine = Arc::new(Machine::new(100, &config.limits));
        (
            Crew::new(driver, vec![None], machine, graveyard, tell, unbounded_channel().0),
            ended,
            snapshot,
            log,
        )
    }

    // Hazards RT-01 to RT-03: the queue is control's, so what waits in it is served by the successor.
    #[test]
    fn a_worker_that_died_is_replaced_and_its_queue_is_served() {
        for driver in drivers() {
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
            let line = &snapshot.groups[0].live.line;
            assert!(line.enter(0, Importance::High, 9).is_some());
            assert_eq!(crew.note_end(0, &snapshot, Tick::now()), End::Died(FIRST_WAIT));
            assert!(line.is_empty(), "nobody of it waits any more");
            assert_eq!(crew.tend(Tick::now().after(FIRST_WAIT)), [0]);
            crew.start(0, snapshot, no_log()).unwrap();
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

    // Hazard RT-02: what a worker that hangs leaves in its queue, its successor serves; the socket outlives its end.
    #[test]
    fn a_worker_that_hangs_is_replaced_and_takes_nothing_more() {
        for driver in drivers() {
            let (mut crew, mut ended, snapshot, log) = crew(driver);
            let socket = listen::bind("127.0.0.1:0".parse().unwrap(), 16, None).unwrap();
            let address = listen::address_of(&socket).unwrap();
            let (listener, port) = (snapshot.listeners[0].id, address.port());
            let serve = |crew: &Crew, token| {
                let socket = socket.try_clone().unwrap();
                crew.tell(0, Message::Listen { listener, port, socket, token });
            };
            #[expect(clippy::disallowed_methods, reason = "a client, not a worker")]
            let connect = || TcpStream::connect(address).unwrap();
            let (tell, mut alarms) = unbounded_channel();
            crew.start(0, Arc::clone(&snapshot), log).unwrap();
            watchdog::start(crew.pulses(), tell).unwrap();
            serve(&crew, 1);
            let open = |number: usize| crew_open(&crew.pulses(), number);
            let held = connect();
            wait_until("a connection is open", || open(0) == 1);

            let (word, hang) = bounded(0);
            crew.tell(0, Message::Hang(hang));
            word.send(()).unwrap();
            let waiting = connect();
            wait_until("the alarm is given", || matches!(alarms.try_recv(), Ok(Alarm::Replace(0))));
            let line = &snapshot.groups[0].live.line;
            assert!(line.enter(0, Importance::Normal, 9).is_some());
            assert_eq!(crew.replace(0, Arc::clone(&snapshot), no_log()).unwrap(), 0);
            assert!(line.is_empty(), "who waits there keeps nobody else waiting");
            serve(&crew, 1);
            let pulses = crew.pulses();
            let open = |number: usize| crew_open(&pulses, number);
            wait_until("what was queued is served by the other", || open(1) == 1);
            let more: Vec<TcpStream> = (0..8).map(|_| connect()).collect();
            wait_until("and what comes then", || open(1) == 9);
            let again = crew.replace(0, Arc::clone(&snapshot), no_log());
            assert!(matches!(again, Err(NotReplaced::NoNeed)), "{again:?}");
            assert_eq!(open(0), 1, "its connection stays counted");

            word.send(()).unwrap();
            wait_until("it is seen to wake", || matches!(alarms.try_recv(), Ok(Alarm::Awake(0))));
            drop(held);
            wait_until("it ends", || {
                crew.tend(Tick::now());
                matches!(ended.try_recv(), Ok(Ended { worker: 0, error: None }))
            });
            assert_eq!(crew.note_end(0, &snapshot, Tick::now()), End::Finished);
            assert_eq!(pulses[0].seat.get(), Seat::Vacant);
            let last = connect();
            wait_until("the socket is served after its end", || open(1) == 10);
            drop((waiting, more, last));
            crew.tell(0, Message::Drain);
            wait_until("the other drains", || {
                crew.ring_all();
                ended.try_recv().is_ok()
            });
        }
    }

    fn crew_open(pulses: &[Arc<Pulse>], number: usize) -> u64 {
        pulses[number].connections.load(Ordering::Relaxed)
    }

    #[test]
    fn as_many_may_hang_as_there_are_spare_numbers() {
        let (mut crew, mut ended, snapshot, log) = crew(Driver::Epoll);
        crew.start(0, Arc::clone(&snapshot), log).unwrap();
        let pulses = crew.pulses();
        let mut wakes = Vec::new();
        for (number, pulse) in pulses.iter().enumerate().take(SPARE + 1) {
            let (wake, hang) = bounded::<()>(0);
            crew.tell(0, Message::Hang(hang));
            wakes.push(wake);
            pulse.stuck.store(true, Ordering::Relaxed);
            let replaced = crew.replace(number, Arc::clone(&snapshot), no_log());
            match replaced {
                Ok(place) => assert!(place == 0 && number < SPARE),
                Err(why) => {
                    assert!(matches!(why, NotReplaced::TooMany) && number == SPARE, "{why:?}")
                }
            }
        }
        drop(wakes);
        crew.tell(0, Message::Drain);
        let mut left = SPARE + 1;
        wait_until("all end", || {
            crew.ring_all();
            while let Ok(Ended { worker, error: None }) = ended.try_recv() {
                let end = crew.note_end(worker, &snapshot, Tick::now());
                assert_eq!(end == End::Finished, worker != SPARE);
                left -= 1;
            }
            left == 0
        });
        assert!(!crew.any_running());
    }

    // Hazard OPS-12.
    #[test]
    fn dying_again_and_again_is_waited_for_longer_and_longer() {
        let (mut deaths, mut waits) = (0, Vec::new());
        for _ in 0..9 {
            let wait;
            (deaths, wait) = backoff(deaths, Duration::from_millis(3));
            waits.push(wait.as_millis());
        }
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(backoff(u32::MAX, Duration::ZERO), (u32::MAX, LONGEST_WAIT));
        assert_eq!(backoff(7, SETTLED), (1, FIRST_WAIT), "one that served for a while starts anew");
    }
}
