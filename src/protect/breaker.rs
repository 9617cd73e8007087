//! When a group is given a rest: too many of its answers were failures, so that more requests only make it worse.
//!
//! One word holds the state, the trials that were let in while it is half open, and how many of them went well, so that every
//! change of it is one compare-and-swap: never more trials than the file says, and each change is seen by exactly one. What
//! is counted in the window lies in one cell a worker; who meets a failure sums them up. Nothing is logged here.

use crate::base::Tick;
use crate::base::meters::{Counter, SPARE};
use crate::protect::{Blame, Outcome};
use crossbeam::utils::CachePadded;
use std::sync::OnceLock;
use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};
use std::time::Duration;

/// When a group is given a rest.
#[derive(Clone, Debug, PartialEq)]
pub struct BreakerSettings {
    /// What counts as a failure.
    pub blame: Blame,
    /// Failures among the requests of the window in ten-thousandths; `None` for not looking at it.
    pub failure_share: Option<u32>,
    /// The window.
    pub window: Duration,
    /// With fewer requests in the window its share says nothing.
    pub requests: u32,
    /// Failures in a row; `None` for not looking at it.
    pub consecutive: Option<u32>,
    /// How long the group rests.
    pub open: Duration,
    /// Requests that are then let in, and must all go well.
    pub trials: u32,
}

impl Default for BreakerSettings {
    fn default() -> BreakerSettings {
        BreakerSettings {
            blame: Blame::default(),
            failure_share: Some(5000),
            window: Duration::from_secs(10),
            requests: 20,
            consecutive: None,
            open: Duration::from_secs(10),
            trials: 3,
        }
    }
}

/// What a breaker lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Everything.
    Closed,
    /// Nothing.
    Open,
    /// A few, to see how they fare.
    HalfOpen,
}

impl State {
    /// All of them.
    pub const ALL: [State; 3] = [State::Closed, State::Open, State::HalfOpen];

    /// As logs and metrics say it.
    pub fn name(self) -> &'static str {
        match self {
            State::Closed => "closed",
            State::Open => "open",
            State::HalfOpen => "half_open",
        }
    }
}

/// What is done with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// It is let in.
    Free,
    /// It is let in as a trial of this phase, and what comes of it must be told.
    Trial {
        /// Tells it from trials of other times.
        phase: u32,
        /// Whether the breaker has become half open with it.
        first: bool,
    },
    /// It is not let in; later it may be.
    Refused(Duration),
}

/// The breaker of a group.
#[derive(Debug, Default)]
pub struct Breaker {
    word: CachePadded<AtomicU64>,
    // In nanoseconds of a tick. Until when nothing is let in; while it is half open, until when trials that were let in are waited
    // for.
    until: AtomicU64,
    since: AtomicU64,
    streak: AtomicU32,
    changes: [AtomicU64; 3],
    refused: AtomicU64,
    windows: OnceLock<Box<[CachePadded<Window>]>>,
}

// What one worker has counted, slice by slice.
#[derive(Debug, Default)]
struct Window {
    slices: [Slice; SLICES],
}

#[derive(Debug, Default)]
struct Slice {
    tag: AtomicU64,
    good: Counter,
    bad: Counter,
}

const SLICES: usize = 10;
/// The most trials.
pub const MOST_TRIALS: u64 = 1000;

// The state taken apart. What begins another phase makes void what was issued and counted in the one before.
#[derive(Clone, Copy)]
struct Word {
    state: State,
    issued: u32,
    passed: u32,
    phase: u32,
}

impl Word {
    fn of(word: u64) -> Word {
        let state = match word & 3 {
            1 => State::Open,
            2 => State::HalfOpen,
            _ => State::Closed,
        };
        let part = |shift: u32| (word >> shift) as u32 & 0x7fff;
        Word { state, issued: part(2), passed: part(17), phase: (word >> 32) as u32 }
    }

    fn pack(self) -> u64 {
        let Word { state, issued, passed, phase } = self;
        let counts = u64::from(issued & 0x7fff) << 2 | u64::from(passed & 0x7fff) << 17;
        state as u64 | counts | u64::from(phase) << 32
    }

    fn next(self, state: State) -> Word {
        Word { state, issued: 0, passed: 0, phase: self.phase.wrapping_add(1) }
    }
}

impl Breaker {
    /// Whether a request is let in.
    #[inline]
    pub fn enter(&self, settings: &BreakerSettings, now: impl FnOnce() -> Tick) -> Entry {
        let word = self.word.load(Acquire);
        if Word::of(word).state == State::Closed {
            return Entry::Free;
        }
        self.enter_late(word, settings, now())
    }

    #[cold]
    fn enter_late(&self, mut word: u64, settings: &BreakerSettings, now: Tick) -> Entry {
        loop {
            let was = Word::of(word);
            let left = Tick::from_nanos(self.until.load(Relaxed)).since(now);
            let next = match was.state {
                State::Closed => return Entry::Free,
                State::HalfOpen if was.issued < settings.trials => {
                    Word { issued: was.issued + 1, ..was }
                }
                // Also while it is half open: trials that take for ever, and those that were too few for the settings of now, must
                // not keep everybody else out.
                State::Open | State::HalfOpen if left.is_zero() => {
                    // First, so that whoever sees the new phase sees its time.
                    self.until.store(now.after(settings.open).nanos(), Relaxed);
                    Word { issued: 1, ..was.next(State::HalfOpen) }
                }
                State::Open => return self.refuse(left),
                State::HalfOpen => return self.refuse(left.min(Duration::from_secs(1))),
            };
            // Not the weak one: by one that fails for no reason, the time of a phase would be seen that nobody has begun.
            match self.word.compare_exchange(word, next.pack(), AcqRel, Acquire) {
                Ok(_) => {
                    let first = was.state == State::Open;
                    if first {
                        self.note(State::HalfOpen, now);
                    }
                    return Entry::Trial { phase: next.phase, first };
                }
                Err(found) => word = found,
            }
        }
    }

    fn refuse(&self, left: Duration) -> Entry {
        self.refused.fetch_add(1, Relaxed);
        Entry::Refused(left)
    }

    /// In how long a request that was not let in may be.
    pub fn rest(&self, now: Tick) -> Duration {
        let (open, second) = (Tick::from_nanos(self.until.load(Relaxed)), Duration::from_secs(1));
        match Word::of(self.word.load(Acquire)).state {
            State::Open => open.since(now),
            State::Closed | State::HalfOpen => open.since(now).min(second),
        }
    }

    /// A request that was let in as a trial has ended; the state that begins with it, if one does.
    pub fn tried(
        &self,
        settings: &BreakerSettings,
        phase: u32,
        outcome: Outcome,
        now: Tick,
    ) -> Option<State> {
        if outcome == Outcome::Silent {
            self.give_back(phase);
            return None;
        }
        let mut word = self.word.load(Acquire);
        loop {
            let was = Word::of(word);
            if was.state != State::HalfOpen || was.phase != phase {
                return None;
            }
            let next = match outcome {
                Outcome::Good if was.passed + 1 >= settings.trials => was.next(State::Closed),
                Outcome::Good => Word { passed: was.passed + 1, ..was },
                Outcome::Bad(_) | Outcome::Silent => {
                    self.until.store(now.after(settings.open).nanos(), Relaxed);
                    was.next(State::Open)
                }
            };
            match self.word.compare_exchange_weak(word, next.pack(), AcqRel, Acquire) {
                Ok(_) if next.state == State::HalfOpen => return None,
                Ok(_) => {
                    self.streak.store(0, Relaxed);
                    self.note(next.state, now);
                    return Some(next.state);
                }
                Err(found) => word = found,
            }
        }
    }

    /// A trial of this phase has ended without a word about its target: another one may take its place.
    pub fn give_back(&self, phase: u32) {
        let back = |word| {
            let was = Word::of(word);
            let of_it = was.state == State::HalfOpen && was.phase == phase;
            of_it.then(|| Word { issued: was.issued.saturating_sub(1), ..was }.pack())
        };
        // Where it is none of this phase any more, there is nothing to give back.
        let _ = self.word.fetch_update(AcqRel, Acquire, back);
    }

    /// Any other request has ended; whether the breaker has opened with it. Of requests that began before it opened, nothing
    /// is learnt any more.
    pub fn ended(
        &self,
        settings: &BreakerSettings,
        outcome: Outcome,
        now: Tick,
        (worker, workers): (usize, usize),
    ) -> bool {
        let word = self.word.load(Acquire);
        let was = Word::of(word);
        if was.state != State::Closed {
            return false;
        }
        let tag = tag(was.phase, now, settings.window);
        match outcome {
            Outcome::Silent => return false,
            Outcome::Good => {
                if self.streak.load(Relaxed) != 0 {
                    self.streak.store(0, Relaxed);
                }
                self.count(tag, worker, workers, true);
                return false;
            }
            Outcome::Bad(_) => self.count(tag, worker, workers, false),
        }
        let streak = self.streak.fetch_add(1, Relaxed).saturating_add(1);
        let row = settings.consecutive.is_some_and(|most| streak >= most);
        if !row && !self.is_too_much(settings, tag) {
            return false;
        }
        self.until.store(now.after(settings.open).nanos(), Relaxed);
        let opened =
            self.word.compare_exchange(word, was.next(State::Open).pack(), AcqRel, Acquire);
        if opened.is_ok() {
            self.note(State::Open, now);
        }
        opened.is_ok()
    }

    fn count(&self, tag: u64, worker: usize, workers: usize, good: bool) {
        let make = || (0..workers + SPARE).map(|_| CachePadded::default()).collect();
        let Some(window) = self.windows.get_or_init(make).get(worker) else { return };
        let Some(slice) = window.slices.get(tag as u32 as usize % SLICES) else { return };
        if slice.tag.load(Relaxed) != tag {
            slice.good.set(0);
            slice.bad.set(0);
            slice.tag.store(tag, Relaxed);
        }
        if good { slice.good.add(1) } else { slice.bad.add(1) }
    }

    fn is_too_much(&self, settings: &BreakerSettings, tag: u64) -> bool {
        let Some(most) = settings.failure_share else { return false };
        let (phase, newest) = (tag >> 32, tag as u32);
        let windows = self.windows.get().map(|all| all.iter()).into_iter().flatten();
        let (mut good, mut bad) = (0, 0);
        for slice in windows.flat_map(|window| &window.slices) {
            let tag = slice.tag.load(Relaxed);
            if tag >> 32 == phase && newest.wrapping_sub(tag as u32) < SLICES as u32 {
                good += slice.good.value();
                bad += slice.bad.value();
            }
        }
        let total = good + bad;
        total >= u64::from(settings.requests.max(1)) && bad * 10_000 >= total * u64::from(most)
    }

    fn note(&self, state: State, now: Tick) {
        self.since.store(now.nanos(), Relaxed);
        if let Some(count) = self.changes.get(state as usize) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// Becomes as another one stands, which stays as it is. What was counted of its windows is not taken over.
    pub fn follow(&self, other: &Breaker) {
        self.word.store(other.word.load(Acquire), Relaxed);
        self.until.store(other.until.load(Relaxed), Relaxed);
        self.since.store(other.since.load(Relaxed), Relaxed);
    }

    /// What it lets in, and since when; never asked anything, since the start.
    pub fn state(&self) -> (State, Tick) {
        let state = Word::of(self.word.load(Acquire)).state;
        (state, Tick::from_nanos(self.since.load(Relaxed)))
    }

    /// How often it has become so.
    pub fn changes(&self, state: State) -> u64 {
        self.changes.get(state as usize).map_or(0, |count| count.load(Relaxed))
    }

    /// Requests that were not let in.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }
}

// Counts of another phase, or of a window that is over, are told by their tag.
fn tag(phase: u32, now: Tick, window: Duration) -> u64 {
    let slice = u64::try_from(window.as_nanos() / SLICES as u128).unwrap_or(u64::MAX).max(1);
    // A tag of zero is what a cell begins with.
    u64::from(phase) << 32 | u64::from((now.nanos() / slice) as u32)
}

#[cfg(test)]
mod tests;
