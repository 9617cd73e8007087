//! Notices workers that give no sign of life, on a thread of its own: control may be busy with a reload just then.
//!
//! A worker's sweep writes the time into its pulse every 100 ms. [`Judge`] decides from that alone, without a clock: who is
//! silent for long is stuck, and who stays so is to be replaced. The thread says so in the error log and in the pulse, and
//! asks control, which alone starts workers. Time in which the watchdog itself did not run counts for nobody: then the
//! process was stopped, or the machine was.

use crate::base::Tick;
use crate::shard::{Pulse, Seat};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

/// How often it looks.
const LOOK: Duration = Duration::from_millis(100);
/// Silent for longer than this is stuck: with a beat and a look every 100 ms, it is seen within a second.
const STUCK: Duration = Duration::from_millis(700);
/// Silent for longer than this is replaced. A pause that ends before costs least if it is waited for.
const OVERDUE: Duration = Duration::from_secs(2);
/// A look that comes this long after the one before is late, and so are the beats.
const LATE: Duration = Duration::from_millis(600);
/// The least time between two requests to replace the same worker.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What control should do about a worker, named by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// It has been silent for too long: let another one serve.
    Replace(usize),
    /// It was replaced, and is awake after all: see to it that it comes to an end.
    Awake(usize),
}

/// What is known of one worker at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Sign {
    /// Who has the number.
    pub seat: Seat,
    /// When the worker's sweep last ran.
    pub beat: Tick,
}

/// What a look found out about a worker, named by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has been silent for this long.
    Stuck(usize, Duration),
    /// It still is, after this long.
    Overdue(usize, Duration),
    /// It gives signs of life again.
    Awake(usize),
    /// It has ended.
    Gone(usize),
}

/// The decisions: a function of beats and the times of looks.
#[derive(Debug)]
pub struct Judge {
    // When it last looked.
    last: Tick,
    // Silence before this is not counted.
    from: Tick,
    workers: Vec<Option<Silence>>,
}

#[derive(Clone, Copy, Debug)]
struct Silence {
    // The last sign of life.
    beat: Tick,
    asked: Option<Tick>,
}

impl Judge {
    /// Nobody is stuck.
    pub fn new(now: Tick) -> Judge {
        Judge { last: now, from: now, workers: Vec::new() }
    }

    /// Looks at all workers, by their numbers.
    pub fn look(&mut self, now: Tick, signs: &[Sign]) -> Vec<Verdict> {
        if now.since(self.last) > LATE {
            self.from = now;
        }
        self.last = now;
        self.workers.resize(signs.len(), None);
        let from = self.from;
        let each = self.workers.iter_mut().zip(signs).enumerate();
        each.filter_map(|(worker, (known, sign))| judge(worker, known, sign, from, now)).collect()
    }
}

fn judge(
    worker: usize,
    known: &mut Option<Silence>,
    sign: &Sign,
    from: Tick,
    now: Tick,
) -> Option<Verdict> {
    if matches!(sign.seat, Seat::Vacant | Seat::Dead) {
        return known.take().map(|_| Verdict::Gone(worker));
    }
    let silence = now.since(sign.beat.max(from));
    let Some(stuck) = known else {
        if silence <= STUCK {
            return None;
        }
        *known = Some(Silence { beat: sign.beat, asked: None });
        return Some(Verdict::Stuck(worker, now.since(sign.beat)));
    };
    if sign.beat > stuck.beat {
        *known = None;
        return Some(Verdict::Awake(worker));
    }
    let asked_lately = stuck.asked.is_some_and(|asked| now.since(asked) < ASK_AGAIN);
    if sign.seat != Seat::Serving || silence <= OVERDUE || asked_lately {
        return None;
    }
    stuck.asked = Some(now);
    Some(Verdict::Overdue(worker, now.since(sign.beat)))
}

/// Starts watching; ends when nobody hears the alarms any more.
///
/// # Errors
/// When the thread cannot be started.
pub fn start(pulses: Vec<Arc<Pulse>>, alarms: UnboundedSender<Alarm>) -> io::Result<()> {
    let body = move || watch(&pulses, &alarms);
    std::thread::Builder::new().name("watchdog".to_owned()).spawn(body).map(drop)
}

fn watch(pulses: &[Arc<Pulse>], alarms: &UnboundedSender<Alarm>) {
    let mut judge = Judge::new(Tick::now());
    while !alarms.is_closed() {
        #[expect(clippy::disallowed_methods, reason = "this thread has nothing else to do")]
        std::thread::sleep(LOOK);
        let sign = |pulse: &Arc<Pulse>| Sign { seat: pulse.seat.get(), beat: beat(pulse) };
        let signs: Vec<Sign> = pulses.iter().map(sign).collect();
        for verdict in judge.look(Tick::now(), &signs) {
            tell(verdict, pulses, alarms);
        }
    }
}

fn beat(pulse: &Pulse) -> Tick {
    Tick::from_nanos(pulse.beat.load(Ordering::Relaxed))
}

fn tell(verdict: Verdict, pulses: &[Arc<Pulse>], alarms: &UnboundedSender<Alarm>) {
    let (Verdict::Stuck(worker, _)
    | Verdict::Overdue(worker, _)
    | Verdict::Awake(worker)
    | Verdict::Gone(worker)) = verdict;
    let Some(pulse) = pulses.get(worker) else { return };
    let stuck = matches!(verdict, Verdict::Stuck(..) | Verdict::Overdue(..));
    pulse.stuck.store(stuck, Ordering::Relaxed);
    match verdict {
        Verdict::Stuck(_, silence) => {
            let doing = doing(pulse.thread.load(Ordering::Relaxed));
            tracing::error!(worker, ?silence, doing, "a worker is stuck");
        }
        // Control ends when nobody hears this any more, and this thread with it.
        Verdict::Overdue(..) => drop(alarms.send(Alarm::Replace(worker))),
        Verdict::Awake(_) if pulse.seat.get() == Seat::Retired => {
            tracing::warn!(worker, "a worker that was replaced is awake: it finishes what it has");
            let _ = alarms.send(Alarm::Awake(worker));
        }
        Verdict::Awake(_) => tracing::warn!(worker, "a worker that was stuck goes on"),
        Verdict::Gone(_) => {}
    }
}

/// What the kernel says that a thread of ours does (proc_pid_stat(5), the state).
fn doing(thread: i32) -> &'static str {
    let path = format!("/proc/self/task/{thread}/stat");
    let stat = std::fs::read_to_string(path).unwrap_or_default();
    // The name before it may hold anything but ends with the last parenthesis.
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    match state {
        Some('R') => "running",
        Some('S') => "waiting",
        Some('D') => "waiting for a device or for memory",
        Some('T' | 't') => "stopped by a debugger",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn at(ms: u64) -> Tick {
        Tick::from_nanos(ms * MS)
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    // Looks every 100 ms from 100 on, but for `pauses` (at, length), at one worker whose last beat `beat` tells.
    fn told(
        until: u64,
        pauses: &[(u64, u64)],
        seat: impl Fn(u64) -> Seat,
        beat: impl Fn(u64) -> u64,
    ) -> Vec<(u64, Verdict)> {
        let mut judge = Judge::new(at(0));
        let mut all = Vec::new();
        let mut now = 0;
        while now < until {
            now += 100 + pauses.iter().find(|(at, _)| *at == now).map_or(0, |(_, length)| *length);
            let sign = Sign { seat: seat(now), beat: at(beat(now)) };
            all.extend(judge.look(at(now), &[sign]).into_iter().map(|verdict| (now, verdict)));
        }
        all
    }

    fn serving(_: u64) -> Seat {
        Seat::Serving
    }

    // Hazard RT-02.
    #[test]
    fn a_silent_worker_is_stuck_then_overdue() {
        let all = told(5000, &[], serving, |now| now.min(1000));
        let expected = [
            (1800, Verdict::Stuck(0, ms(800))),
            (3100, Verdict::Overdue(0, ms(2100))),
            (4100, Verdict::Overdue(0, ms(3100))),
        ];
        assert_eq!(all, expected, "asked again in case it could not be replaced");
    }

    #[test]
    fn one_that_beats_is_never_stuck() {
        for lag in [0, 100, 400, 600, 700] {
            assert_eq!(
                told(9000, &[], serving, |now| now.saturating_sub(lag)),
                [],
                "{lag} ms late"
            );
        }
    }

    #[test]
    fn one_that_recovers_in_time_is_left_alone() {
        let all = told(5000, &[], serving, |now| if now < 2500 { now.min(1000) } else { now });
        assert_eq!(all, [(1800, Verdict::Stuck(0, ms(800))), (2500, Verdict::Awake(0))]);
    }

    #[test]
    fn one_that_never_began_to_beat_is_stuck() {
        assert_eq!(told(1000, &[], serving, |_| 0), [(800, Verdict::Stuck(0, ms(800)))]);
    }

    // Hazard OPS-13: SIGSTOP, a suspended machine, a gap in the clock.
    #[test]
    fn a_pause_of_the_watchdog_itself_counts_for_nobody() {
        for pause in [600, 3000, 1_000_000, 100_000_000_000] {
            // The worker's first beat after the pause comes as late as it may.
            let end = 1000 + pause + 100;
            let beat = |now: u64| if now < end + 700 { now.min(1000) } else { now };
            assert_eq!(told(end + 3000, &[(1000, pause)], serving, beat), [], "{pause} ms");
        }
    }

    #[test]
    fn a_pause_does_not_hide_one_that_is_stuck() {
        let all = told(9000, &[(1000, 3000)], serving, |now| now.min(1000));
        let expected = [
            (4900, Verdict::Stuck(0, ms(3900))),
            (6200, Verdict::Overdue(0, ms(5200))),
            (7200, Verdict::Overdue(0, ms(6200))),
            (8200, Verdict::Overdue(0, ms(7200))),
        ];
        assert_eq!(all, expected);
        // And one that is stuck already does not recover by it.
        let all = told(9000, &[(2000, 3000)], serving, |now| now.min(1000));
        assert_eq!(all.first(), Some(&(1800, Verdict::Stuck(0, ms(800)))));
        assert!(!all.iter().any(|(_, v)| matches!(v, Verdict::Awake(_))), "{all:?}");
        assert_eq!(all.get(1), Some(&(7200, Verdict::Overdue(0, ms(6200)))));
    }

    #[test]
    fn a_clock_that_goes_back_accuses_nobody() {
        let mut judge = Judge::new(at(5000));
        let sign = |beat| Sign { seat: Seat::Serving, beat: at(beat) };
        for (now, beat) in [(5100, 5100), (5200, 9000), (4000, 5200), (4100, 5200)] {
            assert_eq!(judge.look(at(now), &[sign(beat)]), []);
        }
    }

    #[test]
    fn a_replaced_worker_is_not_asked_for_again() {
        let seat = |now| if now < 3200 { Seat::Serving } else { Seat::Retired };
        let all = told(9000, &[], seat, |now| if now < 6000 { now.min(1000) } else { now });
        let expected = [
            (1800, Verdict::Stuck(0, ms(800))),
            (3100, Verdict::Overdue(0, ms(2100))),
            (6000, Verdict::Awake(0)),
        ];
        assert_eq!(all, expected);
    }

    #[test]
    fn nobody_watches_an_empty_or_dead_seat() {
        for seat in [Seat::Vacant, Seat::Dead] {
            assert_eq!(told(5000, &[], |_| seat, |_| 0), []);
        }
        let seat = |now| if now < 2500 { Seat::Serving } else { Seat::Dead };
        let all = told(5000, &[], seat, |now| now.min(1000));
        assert_eq!(all, [(1800, Verdict::Stuck(0, ms(800))), (2500, Verdict::Gone(0))]);
    }

    #[test]
    fn says_what_a_thread_does() {
        assert_eq!(doing(rustix::thread::gettid().as_raw_nonzero().get()), "running");
        assert_eq!(doing(0), "unknown");
    }
}
