//! The only clock. Time is read once where something happens and handed down as a value, so that every
//! decision below can be tested with a scripted `now`.
//!
//! Monotonic: it never jumps with the wall clock. Wall time exists only for the `Date` field and for logs. A simulation
//! scripts both for its own thread ([`script`]); everywhere else that costs one relaxed load of a flag nobody sets.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Nanoseconds since this process first asked for the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(u64);

static START: OnceLock<Instant> = OnceLock::new();
// Whether any thread has a scripted clock.
static SCRIPTED: AtomicBool = AtomicBool::new(false);

thread_local! {
    static SCRIPT: Cell<Option<Tick>> = const { Cell::new(None) };
    // What the wall clock says at the start of the process, where a script does not begin one of its own.
    static WALL: Cell<Option<u64>> = const { Cell::new(None) };
}

/// As [`script`], with the wall clock standing at `wall_micros` since 1970. For rehearsals, which must believe what is valid now.
pub fn rehearse(now: Option<Tick>, wall_micros: u64) {
    script(now);
    WALL.set(now.map(|_| wall_micros));
}

/// What the clock says on this thread from now on; `None` for the time that it is. For simulations.
pub fn script(now: Option<Tick>) {
    SCRIPTED.store(true, Ordering::Relaxed);
    SCRIPT.set(now);
}

#[inline]
fn scripted() -> Option<Tick> {
    if SCRIPTED.load(Ordering::Relaxed) { SCRIPT.get() } else { None }
}

impl Tick {
    /// The start of the process: smaller than every other tick.
    pub const ZERO: Tick = Tick(0);
    /// Never: larger than every other tick.
    pub const NEVER: Tick = Tick(u64::MAX);

    /// Reads the monotonic clock, or the script.
    #[expect(clippy::disallowed_methods, reason = "the one place where the clock is read")]
    pub fn now() -> Tick {
        if let Some(now) = scripted() {
            return now;
        }
        let start = START.get_or_init(Instant::now);
        Tick(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX - 1))
    }

    /// A tick at a given distance from the start, for tests and scripted clocks.
    pub const fn from_nanos(nanos: u64) -> Tick {
        Tick(nanos)
    }

    /// Nanoseconds since the start.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// The tick `wait` later; saturates at [`Tick::NEVER`].
    pub fn after(self, wait: Duration) -> Tick {
        Tick(self.0.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this is; zero if it is not.
    pub fn since(self, earlier: Tick) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

// Where a scripted wall clock begins: 2025-01-01T00:00:00Z.
const SCRIPT_BEGAN_MICROS: u64 = 1_735_689_600_000_000;

/// Wall time in microseconds since 1970, for `Date` and logs only; zero before 1970. It follows a scripted clock.
pub fn wall_micros() -> u64 {
    if let Some(now) = scripted() {
        return WALL.get().unwrap_or(SCRIPT_BEGAN_MICROS + now.nanos() / 1000);
    }
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_holds_on_its_own_thread_until_it_ends() {
        script(Some(Tick::from_nanos(7_000)));
        assert_eq!(Tick::now(), Tick::from_nanos(7_000));
        assert_eq!(wall_micros(), SCRIPT_BEGAN_MICROS + 7);
        std::thread::scope(|scope| {
            scope.spawn(|| assert!(wall_micros() > SCRIPT_BEGAN_MICROS + 7));
        });
        script(None);
        assert!(wall_micros() > SCRIPT_BEGAN_MICROS + 7);
    }

    #[test]
    fn saturates_instead_of_wrapping() {
        assert_eq!(Tick::NEVER.after(Duration::from_secs(1)), Tick::NEVER);
        assert_eq!(Tick::ZERO.since(Tick::NEVER), Duration::ZERO);
        let later = Tick::ZERO.after(Duration::from_millis(2));
        assert_eq!(later.since(Tick::ZERO), Duration::from_millis(2));
    }
}
