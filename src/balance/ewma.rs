//! How long a target takes to answer: an average that follows a peak at once and forgets with time (as Finagle's peak EWMA).
//!
//! One number for all workers, in one atomic: they note and read without waiting for each other. Nothing is learnt of a target
//! that gets no requests, so what is known of it fades until it is tried again. Whoever notes a time decides what counts.

use crate::base::Tick;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Times are kept in units of 256 ns, up to 18 minutes ...
const TIME_SHIFT: u32 = 8;
/// ... and when they were noted in units of 1.05 ms, for 52 days.
const STAMP_SHIFT: u32 = 20;
/// Half of what is known is forgotten after so many of these: 4.3 s.
const HALF_LIFE: u32 = 1 << 12;
/// However little time has passed, a time that is noted moves the average by so much of the distance: a target with many requests
/// is not held for slow by the slowest of thousands.
const LEAST_STEP: f64 = 1.0 / 16.0;
/// What a request that failed counts as, if it took no longer: it must not look fast.
const FAILED: Duration = Duration::from_secs(1);
/// Attempts to note a time while other workers do.
const MOST_TRIES: usize = 4;

/// How one attempt went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sample {
    /// It was answered after this time.
    Answered(Duration),
    /// It was answered with an error of the target's after this time: an error is as bad as a second, on the average.
    Refused(Duration),
    /// It was not answered at all: as a peak, of a second at least.
    Failed(Duration),
}

/// The average time of a target; unknown at first.
#[derive(Debug, Default)]
pub struct PeakEwma(
    // The time in the upper half, 0 while it is unknown; when it was noted in the lower.
    AtomicU64,
);

impl PeakEwma {
    /// Takes in what one attempt took. One that another worker got ahead of several times is left out.
    pub fn note(&self, sample: Sample, now: Tick) {
        let (time, peaks) = match sample {
            Sample::Answered(time) => (units(time), true),
            Sample::Refused(time) => (units(time.max(FAILED)), false),
            Sample::Failed(time) => (units(time.max(FAILED)), true),
        };
        let now = stamp(now);
        let mut before = self.0.load(Ordering::Relaxed);
        for _ in 0..MOST_TRIES {
            let Some(after) = noted(before, time, peaks, now) else { return };
            match self.0.compare_exchange_weak(before, after, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(other) => before = other,
            }
        }
    }

    /// The time to expect, in units of 256 ns; `None` while nothing is known. It halves every 4.3 s in which nothing was noted.
    pub fn read(&self, now: Tick) -> Option<u32> {
        let (time, noted) = unpack(self.0.load(Ordering::Relaxed));
        let left = || f64::from(time) * left(elapsed(noted, stamp(now)));
        (time > 0).then(|| (left() as u32).max(1))
    }
}

/// What is known after `time` was noted; `None` where that changes nothing.
fn noted(before: u64, time: u32, peaks: bool, now: u32) -> Option<u64> {
    let (known, at) = unpack(before);
    if known == 0 || (peaks && time >= known) {
        return Some(pack(time, now));
    }
    let apart = f64::from(known.abs_diff(time));
    let nearer = (apart * (1.0 - left(elapsed(at, now))).max(LEAST_STEP)) as u32;
    // They are as good as the same.
    if nearer == 0 {
        return None;
    }
    Some(pack(if time < known { known - nearer } else { known + nearer }, now))
}

/// What is left of something after so long, as a part of it.
fn left(elapsed: u32) -> f64 {
    (-f64::from(elapsed) / f64::from(HALF_LIFE)).exp2()
}

/// Stamps wrap; one that lies ahead was noted by a worker whose clock was read a little later.
fn elapsed(from: u32, to: u32) -> u32 {
    let elapsed = to.wrapping_sub(from);
    if elapsed > u32::MAX / 2 { 0 } else { elapsed }
}

fn units(time: Duration) -> u32 {
    u32::try_from(time.as_nanos() >> TIME_SHIFT).unwrap_or(u32::MAX).max(1)
}

fn stamp(now: Tick) -> u32 {
    // The lower half is what is meant.
    u32::try_from((now.nanos() >> STAMP_SHIFT) & u64::from(u32::MAX)).unwrap_or_default()
}

fn pack(time: u32, stamp: u32) -> u64 {
    u64::from(time) << 32 | u64::from(stamp)
}

fn unpack(both: u64) -> (u32, u32) {
    let lower = both & u64::from(u32::MAX);
    let half = |half: u64| u32::try_from(half).unwrap_or_default();
    (half(both >> 32), half(lower))
}

#[cfg(test)]
mod tests {
    use super::Sample::{Answered, Failed, Refused};
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(ms: u64) -> Tick {
        Tick::ZERO.after(MS * u32::try_from(ms).unwrap())
    }

    /// Milliseconds that are read at the end, after these were noted at these milliseconds.
    fn read(notes: &[(u64, Sample)], end: u64) -> f64 {
        let ewma = PeakEwma::default();
        notes.iter().for_each(|(ms, sample)| ewma.note(*sample, at(*ms)));
        ewma.read(at(end)).map_or(f64::NAN, |units| f64::from(units) * 256.0 / 1e6)
    }

    #[track_caller]
    fn check(notes: &[(u64, Sample)], end: u64, expected: f64) {
        let found = read(notes, end);
        assert!((found - expected).abs() <= expected * 0.01, "{found} ms, expected {expected}");
    }

    #[test]
    fn what_was_noted_is_read_and_fades() {
        assert!(read(&[], 5).is_nan(), "nothing is known of a fresh target");
        check(&[(0, Answered(10 * MS))], 0, 10.0);
        check(&[(0, Answered(10 * MS))], 4_295, 5.0);
        check(&[(0, Answered(10 * MS))], 2_147, 7.07);
        check(&[(0, Answered(10 * MS))], 8_590, 2.5);
        assert!(read(&[(0, Answered(10 * MS))], 3_600_000) > 0.0, "it stays known");
    }

    #[test]
    fn a_peak_counts_at_once_and_calm_slowly() {
        let peak = [(0, Answered(10 * MS)), (10, Answered(100 * MS))];
        check(&peak, 10, 100.0);
        check(&[peak[0], peak[1], (11, Answered(10 * MS))], 11, 100.0 - 90.0 / 16.0);
        check(&[peak[0], peak[1], (4_305, Answered(10 * MS))], 4_305, 55.0);
        // Where many are answered, half of a peak is forgotten after eleven.
        let mut calm: Vec<_> = (0..11).map(|_| (11, Answered(10 * MS))).collect();
        calm.insert(0, peak[1]);
        check(&calm, 11, 54.25);
        calm.extend([(11, Answered(10 * MS)); 100]);
        check(&calm, 11, 10.08);
    }

    #[test]
    fn failures_do_not_look_fast() {
        check(&[(0, Answered(10 * MS)), (1, Failed(Duration::ZERO))], 1, 1_000.0);
        check(&[(0, Answered(10 * MS)), (1, Failed(5_000 * MS))], 1, 5_000.0);
        check(&[(0, Refused(MS))], 0, 1_000.0);
        check(&[(0, Answered(10 * MS)), (1, Refused(MS))], 1, 10.0 + 990.0 / 16.0);
        check(&[(0, Answered(10 * MS)), (4_295, Refused(MS))], 4_295, 505.0);
        check(&[(1, Refused(MS)); 200], 1, 1_000.0);
        let mut once = vec![(1, Answered(10 * MS)), (1, Refused(MS))];
        once.extend([(1, Answered(10 * MS)); 60]);
        check(&once, 1, 11.29);
    }

    #[test]
    fn clocks_that_differ_and_wrap_do_no_harm() {
        let ewma = PeakEwma::default();
        let wrap = Tick::from_nanos(1 << 52);
        ewma.note(Answered(10 * MS), Tick::from_nanos(wrap.nanos() - (1 << 21)));
        let before = ewma.read(wrap).unwrap();
        assert!(before > 38_000, "{before}");
        ewma.note(Answered(MS), Tick::from_nanos(wrap.nanos() - (1 << 25)));
        // Noted by a clock that was behind: a step, not all of it.
        let after = ewma.read(wrap).unwrap();
        assert!((36_000..before).contains(&after), "{after}");
        ewma.note(Answered(Duration::MAX), wrap);
        assert_eq!(ewma.read(wrap), Some(u32::MAX));
    }
}
