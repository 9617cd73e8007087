//! Answers what policies ask: whether a password belongs to a hash, and what a service beside the data path says.
//!
//! All of it runs on a thread of its own with a runtime of its own, so that neither a reload nor the admin pages keep requests
//! waiting; hashing runs on further threads of low priority, which leave the cores to the workers. Everything is bounded: what is
//! open, what hashes, what is called at the same time in all and at one service, how long, how much is read and how much is
//! kept. What cannot be answered is answered with [`Reply::Failed`] or [`Reply::Unasked`], and the policy refuses. Called by `service`.

pub(in crate::control) mod call;
mod flights;

use crate::admin::AskStat;
use crate::base::Tick;
use crate::control::resolve::Resolver;
use crate::policy::basic::hash;
use crate::policy::{Question, Reply};
use crate::shard::Ask;
use call::Calls;
use flights::{Asker, Flights};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::LocalSet;

/// Questions that are open at the same time, of all workers together.
const MOST_OPEN: usize = 16_384;
/// Passwords that wait for a thread; beyond that they would be answered after their clients have gone.
const MOST_PASSWORDS: usize = 256;
/// How long a password waits for a thread.
const PASSWORD_WAIT: Duration = Duration::from_secs(10);
/// The nice value of threads that hash: a password waits rather than requests of others.
const HASHING_PRIORITY: i32 = 10;

/// Where policies' questions are answered.
#[derive(Clone, Debug)]
pub struct Answers {
    to: UnboundedSender<Ask>,
    stats: Arc<Stats>,
}

/// What was asked since the start, for metrics.
#[derive(Debug, Default)]
pub struct Stats {
    /// Passwords asked about.
    pub passwords: AtomicU64,
    /// Calls asked for.
    pub calls: AtomicU64,
    /// Calls that were answered with what another one in flight, or shortly before, was told.
    pub calls_shared: AtomicU64,
    /// Passwords that could not be checked.
    pub passwords_failed: AtomicU64,
    /// Calls without an answer: not reached, too slow, too large, or too many.
    pub calls_failed: AtomicU64,
    /// Calls that were made: the count that belongs to [`Stats::call_nanos`].
    pub calls_made: AtomicU64,
    /// How long calls that were made took, summed, in nanoseconds; waiting for a place is counted in.
    pub call_nanos: AtomicU64,
    /// Questions that are open now.
    pub open: AtomicU64,
}

impl Stats {
    /// What there is to show.
    pub fn counts(&self) -> AskStat {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        AskStat {
            passwords: value(&self.passwords),
            passwords_failed: value(&self.passwords_failed),
            calls: value(&self.calls),
            calls_shared: value(&self.calls_shared),
            calls_made: value(&self.calls_made),
            calls_failed: value(&self.calls_failed),
            call_nanos: value(&self.call_nanos),
            open: value(&self.open),
        }
    }
}

impl Answers {
    /// Begins to answer: at most `cpus` passwords are hashed at the same time, names are resolved by `resolver`. `reply` is
    /// told who asked, the ticket and the reply, on the answering thread; it must not block.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(
        cpus: usize,
        resolver: Resolver,
        reply: impl Fn(usize, u64, Reply) + Send + 'static,
    ) -> std::io::Result<Answers> {
        let (to, asks) = unbounded_channel();
        let stats = Arc::new(Stats::default());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .thread_name("ringgate-hash")
            .max_blocking_threads(cpus.max(1))
            .on_thread_start(step_back)
            .build()?;
        let counted = Arc::clone(&stats);
        std::thread::Builder::new().name("ringgate-ask".to_owned()).spawn(move || {
            let desk = Desk::new(cpus, resolver, counted, Box::new(reply));
            LocalSet::new().block_on(&runtime, serve(desk, asks));
        })?;
        Ok(Answers { to, stats })
    }

    /// Takes a question; its reply comes later, and always.
    pub fn take(&self, ask: Ask) {
        // The thread ends with the process.
        let _ = self.to.send(ask);
    }

    /// Where questions may be sent without a way through the caller.
    pub fn sender(&self) -> UnboundedSender<Ask> {
        self.to.clone()
    }

    /// What was asked so far.
    pub fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.stats)
    }
}

fn step_back() {
    // Without the right to, it hashes at the priority of all others.
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), HASHING_PRIORITY);
}

async fn serve(desk: Rc<Desk>, mut asks: UnboundedReceiver<Ask>) {
    while let Some(ask) = asks.recv().await {
        take(&desk, ask);
    }
}

type Deliver = Box<dyn Fn(usize, u64, Reply)>;

struct Desk {
    stats: Arc<Stats>,
    flights: Flights,
    calls: Calls,
    hashing: Semaphore,
    // Passwords that hash or wait.
    passwords: Cell<usize>,
    open: Cell<usize>,
    deliver: Deliver,
}

impl Desk {
    fn new(cpus: usize, resolver: Resolver, stats: Arc<Stats>, deliver: Deliver) -> Rc<Desk> {
        Rc::new(Desk {
            stats,
            flights: Flights::default(),
            calls: Calls::new(resolver),
            hashing: Semaphore::new(cpus.max(1)),
            passwords: Cell::new(0),
            open: Cell::new(0),
            deliver,
        })
    }

    fn set_open(&self, open: usize) {
        self.open.set(open);
        self.stats.open.store(open as u64, Ordering::Relaxed);
    }

    fn tell(&self, asker: Asker, reply: Reply) {
        self.set_open(self.open.get().saturating_sub(1));
        (self.deliver)(asker.worker, asker.ticket, reply);
    }

    async fn answer(&self, question: Question) -> Reply {
        let call = match question {
            Question::Password { hash, password } => {
                let reply = self.password(hash, password).await;
                count_failure(&reply, &self.stats.passwords_failed);
                return reply;
            }
            Question::Call(call) => call,
        };
        let began = Tick::now();
        let reply = self.calls.make(call).await;
        let nanos = u64::try_from(Tick::now().since(began).as_nanos()).unwrap_or(u64::MAX);
        self.stats.calls_made.fetch_add(1, Ordering::Relaxed);
        self.stats.call_nanos.fetch_add(nanos, Ordering::Relaxed);
        count_failure(&reply, &self.stats.calls_failed);
        reply
    }

    async fn password(&self, hash: Arc<str>, password: Vec<u8>) -> Reply {
        let Some(_place) = Place::take(&self.passwords, MOST_PASSWORDS) else {
            return failed("too many passwords wait to be checked");
        };
        let Ok(permit) = tokio::time::timeout(PASSWORD_WAIT, self.hashing.acquire()).await else {
            return failed("no thread was free to check the password");
        };
        let checked = tokio::task::spawn_blocking(move || hash::verify(&hash, &password)).await;
        drop(permit);
        checked.map_or_else(|_| failed("the password could not be checked"), Reply::Password)
    }
}

fn count_failure(reply: &Reply, counter: &AtomicU64) {
    if reply.failure().is_some() {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

fn failed(why: &str) -> Reply {
    Reply::Failed(Arc::from(why))
}

fn unasked(why: &str) -> Reply {
    Reply::Unasked(Arc::from(why))
}

fn take(desk: &Rc<Desk>, ask: Ask) {
    let asker = Asker { worker: ask.worker, ticket: ask.ticket };
    let is_call = matches!(*ask.question, Question::Call(_));
    let count = if is_call { &desk.stats.calls } else { &desk.stats.passwords };
    count.fetch_add(1, Ordering::Relaxed);
    desk.set_open(desk.open.get() + 1);
    if desk.open.get() > MOST_OPEN {
        let failures =
            if is_call { &desk.stats.calls_failed } else { &desk.stats.passwords_failed };
        failures.fetch_add(1, Ordering::Relaxed);
        return desk.tell(asker, unasked("too many questions are open"));
    }
    let (key, keep) = flights::key(&ask.question);
    if let Some(key) = key {
        if let Some(reply) = desk.flights.kept(&key, Tick::now()) {
            desk.stats.calls_shared.fetch_add(1, Ordering::Relaxed);
            return desk.tell(asker, reply);
        }
        if desk.flights.join(key, asker) {
            if is_call {
                desk.stats.calls_shared.fetch_add(1, Ordering::Relaxed);
            }
            return;
        }
    }
    let flight = Flight { desk: Rc::clone(desk), key, keep, alone: asker, reply: None };
    tokio::task::spawn_local(fly(flight, *ask.question));
}

async fn fly(mut flight: Flight, question: Question) {
    let reply = flight.desk.answer(question).await;
    flight.reply = Some(reply);
}

/// A question under way. However it ends, even by a panic, everybody who waits for it is told.
struct Flight {
    desk: Rc<Desk>,
    key: Option<[u8; 32]>,
    keep: Duration,
    alone: Asker,
    reply: Option<Reply>,
}

impl Drop for Flight {
    fn drop(&mut self) {
        let reply = self.reply.take().unwrap_or_else(|| failed("the question was broken off"));
        let Some(key) = self.key else {
            return self.desk.tell(self.alone, reply);
        };
        self.desk.flights.keep(key, &reply, self.keep, Tick::now());
        for asker in self.desk.flights.land(&key) {
            self.desk.tell(asker, reply.clone());
        }
    }
}

/// One of a bounded number of places.
struct Place<'a>(&'a Cell<usize>);

impl<'a> Place<'a> {
    fn take(taken: &'a Cell<usize>, most: usize) -> Option<Place<'a>> {
        if taken.get() >= most {
            return None;
        }
        taken.set(taken.get() + 1);
        Some(Place(taken))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests;
