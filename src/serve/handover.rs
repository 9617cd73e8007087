//! Hands a connection that was just accepted to a worker that is measurably less busy.
//!
//! The kernel spreads connections by a hash, not by what they cost: long-lived ones pile up, and two big clients may meet on one
//! worker while another idles. Compared are how busy the threads are, and how many connections they have. Nothing has been read
//! of a connection then, so it makes no difference to it who serves it. What is being served stays where it is.
//! [`choose`] decides; [`Peers`] is what one worker sees of the others. Called by `accept` and by the worker.

use crate::base::Tick;
use crate::serve::accept;
use crate::shard::handed::Passed;
use crate::shard::{Message, Pulse, Seat, Shard};
use rustix::time::{ClockId, clock_gettime};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What a worker has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// How much of its time its thread runs, in thousandths.
    pub busy: u64,
    /// Client connections open, and handed to it.
    pub connections: u64,
}

/// What makes another worker the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its thread has more time left.
    Busy,
    /// It has fewer connections.
    Connections,
}

/// A thread that runs less than this, in thousandths, has time for what comes.
const HALF: u64 = 500;
/// Less than this between two threads, in thousandths, is within what measuring and chance make.
const MARGIN: u64 = 250;
/// Fewer connections than this between two workers matter to nobody.
const FEW: u64 = 8;
/// Workers looked at for one connection: with more of them, others the next time.
const LOOK: usize = 16;
/// Connections that a worker hands over between two sweeps since it is busy: what they change is measured only later.
const AT_ONCE: u32 = 4;
/// Silent for longer than this is handed nothing. It is before the watchdog calls it stuck.
const SILENT: Duration = Duration::from_millis(500);
/// Sweeps that the measure of time looks back on: half a second.
const SWEEPS: u64 = 5;

/// Who should serve a connection instead, of `others` named by their numbers; `None` to keep it.
pub fn choose(own: Load, others: impl Iterator<Item = (usize, Load)>) -> Option<(usize, Why)> {
    let (mut idlest, mut emptiest) = (None, None);
    for (number, load) in others {
        let key = (load.busy, load.connections, number);
        if idlest.is_none_or(|least| key < least) {
            idlest = Some(key);
        }
        // Who is much busier has few connections since they are big.
        let key = (load.connections, load.busy, number);
        if load.busy < own.busy + MARGIN && emptiest.is_none_or(|least| key < least) {
            emptiest = Some(key);
        }
    }
    if let Some((busy, _, number)) = idlest
        && own.busy >= HALF.max(busy + MARGIN)
    {
        return Some((number, Why::Busy));
    }
    let (connections, _, number) = emptiest?;
    let most = connections + FEW.max(connections / 4);
    (own.connections > most).then_some((number, Why::Connections))
}

/// The share of time in use, in thousandths, after one more sweep. Recent sweeps count most.
pub fn smoothed(before: u64, ran: Duration, passed: Duration) -> u64 {
    let permille = ran.as_nanos().saturating_mul(1000).checked_div(passed.as_nanos());
    let sample = permille.map_or(before, |p| u64::try_from(p).unwrap_or(1000).min(1000));
    // Rounded, so that it reaches both ends.
    let sum = before * (SWEEPS - 1) + sample;
    if sample >= before { sum.div_ceil(SWEEPS) } else { sum / SWEEPS }
}

/// The other workers, as one worker sees them.
#[derive(Debug)]
pub struct Peers {
    own: usize,
    // By number, its own too.
    pulses: Vec<Arc<Pulse>>,
    // Where to look first.
    from: Cell<usize>,
    // Connections that may still be handed over before the next sweep, since it is busy.
    left: Cell<u32>,
    // When time was last measured, and how long the thread had run.
    measured: Cell<(Tick, Duration)>,
}

impl Peers {
    /// What the worker with this number sees, on its own thread.
    pub fn new(own: usize, pulses: Vec<Arc<Pulse>>) -> Peers {
        let measured = Cell::new((Tick::now(), thread_time()));
        Peers { own, pulses, from: Cell::new(0), left: Cell::new(AT_ONCE), measured }
    }

    /// Hands a connection over where that is better.
    ///
    /// # Errors
    /// When it is not: a connection to be served here, nearly always the same.
    pub fn give(&self, shard: &Shard, passed: Passed) -> Result<(), Passed> {
        let Some((number, why)) = self.better(&shard.pulse) else { return Err(passed) };
        let Some(peer) = self.pulses.get(number) else { return Err(passed) };
        if why == Why::Busy {
            let Some(left) = self.left.get().checked_sub(1) else { return Err(passed) };
            self.left.set(left);
        }
        peer.handed.push(passed)?;
        if !shard.post.tell(number, Message::Handed) {
            // Its thread has just ended: nobody is told, so one has to be taken back, whichever it is.
            if let Some(passed) = peer.handed.pop() {
                return Err(passed);
            }
        }
        shard.pulse.handed_over.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn better(&self, own: &Pulse) -> Option<(usize, Why)> {
        let load = load_of(own);
        // Nobody can be so much better: nothing of others is looked at.
        if load.busy < HALF && load.connections <= FEW {
            return None;
        }
        let (now, generation) = (Tick::now(), own.generation.load(Ordering::Relaxed));
        let (count, from) = (self.pulses.len(), self.from.get());
        self.from.set(from.wrapping_add(LOOK) % count.max(1));
        let numbers = (0..count.min(LOOK)).map(|step| (from + step) % count);
        let others = numbers.filter(|number| *number != self.own).filter_map(|number| {
            let pulse = self.pulses.get(number)?;
            // One that serves another configuration may not know the listener.
            let same = pulse.generation.load(Ordering::Relaxed) == generation;
            (same && serves(pulse, now)).then(|| (number, load_of(pulse)))
        });
        choose(load, others)
    }

    /// Serves what was handed to this worker, and what was handed to others that will not take it.
    pub fn collect(&self, shard: &Rc<Shard>) {
        let now = Tick::now();
        for (number, pulse) in self.pulses.iter().enumerate() {
            if pulse.handed.is_empty() || (number != self.own && serves(pulse, now)) {
                continue;
            }
            // As many as fit: others may fill it meanwhile.
            for _ in 0..crate::shard::handed::MOST {
                let Some(passed) = pulse.handed.pop() else { break };
                accept::take_handed(shard, passed);
            }
        }
    }

    /// Measures how busy this thread is, and looks after what nobody takes.
    pub fn sweep(&self, shard: &Rc<Shard>, now: Tick) {
        let (before, ran_before) = self.measured.get();
        let ran = thread_time();
        let busy = shard.pulse.busy.load(Ordering::Relaxed);
        let busy = smoothed(busy, ran.saturating_sub(ran_before), now.since(before));
        shard.pulse.busy.store(busy, Ordering::Relaxed);
        self.measured.set((now, ran));
        self.left.set(AT_ONCE);
        self.collect(shard);
    }
}

fn load_of(pulse: &Pulse) -> Load {
    let waiting = u64::try_from(pulse.handed.len()).unwrap_or(u64::MAX);
    Load {
        busy: pulse.busy.load(Ordering::Relaxed),
        connections: pulse.connections.load(Ordering::Relaxed).saturating_add(waiting),
    }
}

fn serves(pulse: &Pulse, now: Tick) -> bool {
    pulse.seat.get() == Seat::Serving
        && pulse.accepting.load(Ordering::SeqCst)
        && !pulse.stuck.load(Ordering::Relaxed)
        && now.since(Tick::from_nanos(pulse.beat.load(Ordering::Relaxed))) < SILENT
}

// How long this thread has run on a CPU.
fn thread_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(own: (u64, u64), others: &[(u64, u64)], expected: Option<(usize, Why)>) {
        let load = |(busy, connections)| Load { busy, connections };
        let each = others.iter().map(|other| load(*other)).enumerate();
        assert_eq!(choose(load(own), each), expected, "{own:?} beside {others:?}");
    }

    // Hazard RT-21.
    #[test]
    fn goes_where_there_is_measurably_less_to_do() {
        let busy = |number| Some((number, Why::Busy));
        let fewer = |number| Some((number, Why::Connections));
        check((1000, 100), &[], None);
        // By time: from half of it, and a quarter of it apart.
        check((500, 1), &[(250, 1)], busy(0));
        check((499, 1), &[(0, 1)], None);
        check((500, 1), &[(251, 1)], None);
        check((1000, 1), &[(751, 1)], None);
        check((900, 2), &[(600, 0), (100, 7), (100, 5), (300, 0)], busy(2));
        // Big clients are few: many small ones elsewhere do not matter.
        check((900, 1), &[(50, 1000)], busy(0));
        check((50, 1000), &[(900, 1)], None);
        check((50, 1000), &[(299, 1)], fewer(0));
        check((50, 1000), &[(300, 1)], None);
        // By number: eight, or a quarter.
        check((0, 8), &[(0, 0)], None);
        check((0, 9), &[(0, 0)], fewer(0));
        check((0, 125), &[(0, 100)], None);
        check((0, 126), &[(0, 100)], fewer(0));
        check((0, 30), &[(0, 20), (10, 5), (3, 5), (400, 0)], fewer(2));
    }

    #[test]
    fn nobody_hands_back_what_was_handed_over() {
        for own in 0..40 {
            for other in 0..40 {
                for (a, b) in [(0, 0), (900, 100), (100, 900), (600, 500)] {
                    let one = Load { busy: a, connections: own };
                    let two = Load { busy: b, connections: other };
                    let there = choose(one, std::iter::once((1, two)));
                    let two = Load { connections: other + 1, ..two };
                    let back = choose(two, std::iter::once((0, one)));
                    assert!(there.is_none() || back.is_none(), "{one:?} {two:?}");
                }
            }
        }
    }

    #[test]
    fn time_in_use_is_smoothed_and_reaches_both_ends() {
        let ms = Duration::from_millis;
        let steps = |mut busy, ran, count| {
            (0..count).for_each(|_| busy = smoothed(busy, ms(ran), ms(100)));
            busy
        };
        assert_eq!(steps(0, 100, 1), 200);
        assert_eq!(steps(0, 100, 5), 673);
        assert_eq!(steps(0, 100, 50), 1000);
        assert_eq!(steps(1000, 0, 50), 0);
        assert_eq!(steps(0, 500, 0), 0);
        assert_eq!(smoothed(300, ms(1), ms(0)), 300, "no time has passed");
        assert_eq!(smoothed(1000, ms(500), ms(100)), 1000, "never more than all of it");
    }
}
