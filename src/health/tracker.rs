//! The state machine of one target in one group.
//!
//! A new target needs one success to become healthy; an unhealthy one needs as many in a row as the group says. It
//! becomes unhealthy after as many failures in a row as the group says, from either side.

use super::{Outcome, Reason, State};
use crate::base::Tick;

/// How much of an error's text is kept, in octets.
const ERROR_OCTETS: usize = 256;

/// How many probes in a row change the state; at least 1 each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Successes after which an unhealthy target is healthy.
    pub healthy: u32,
    /// Failures after which a target is unhealthy.
    pub unhealthy: u32,
}

/// A change of state, to be logged and counted once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The state before.
    pub from: State,
    /// The state now.
    pub to: State,
    /// Why; `None` for healthy.
    pub reason: Option<Reason>,
}

/// What is known of one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracker {
    thresholds: Thresholds,
    state: State,
    reason: Option<Reason>,
    last_error: Option<Box<str>>,
    since: Tick,
    streak: Streak,
}

/// Equal outcomes in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Streak {
    Successes(u32),
    Failures(u32),
}

impl Tracker {
    /// A target of which nothing is known.
    pub fn new(thresholds: Thresholds, now: Tick) -> Tracker {
        Tracker {
            thresholds,
            state: State::Initial,
            reason: Some(Reason::RegistrationInProgress),
            last_error: None,
            since: now,
            streak: Streak::Successes(0),
        }
    }

    /// A target whose health checks are off.
    pub fn unchecked(now: Tick) -> Tracker {
        Tracker {
            state: State::Unavailable,
            reason: Some(Reason::HealthCheckDisabled),
            ..Tracker::new(Thresholds { healthy: 1, unhealthy: 1 }, now)
        }
    }

    /// The same target after a reload, with the thresholds of now: what was learnt stays. One whose checks were off
    /// starts anew; one that was draining or unused is in use again and starts anew too.
    pub fn inherit(&self, thresholds: Thresholds, now: Tick) -> Tracker {
        match self.state {
            State::Initial | State::Healthy | State::Unhealthy => {
                Tracker { thresholds, ..self.clone() }
            }
            State::Unavailable | State::Draining | State::Unused => Tracker::new(thresholds, now),
        }
    }

    /// Takes in how a probe ended. Targets that drain, are unused or are not checked keep their state; a probe that
    /// could not be made changes nothing but the last error.
    pub fn observe(&mut self, outcome: &Outcome, now: Tick) -> Option<Transition> {
        if !matches!(self.state, State::Initial | State::Healthy | State::Unhealthy) {
            return None;
        }
        let Some(reason) = outcome.reason() else { return self.succeeded(now) };
        self.last_error = Some(cap(&outcome.to_string()).into());
        if reason == Reason::InternalError {
            return None;
        }
        self.failed(reason, now)
    }

    /// The target was removed: it takes no new requests.
    pub fn drain(&mut self, now: Tick) -> Option<Transition> {
        self.enter(State::Draining, Some(Reason::DeregistrationInProgress), now)
    }

    /// No rule leads to its group any more.
    pub fn unuse(&mut self, now: Tick) -> Option<Transition> {
        self.enter(State::Unused, Some(Reason::NotInUse), now)
    }

    /// What the target is good for.
    pub fn state(&self) -> State {
        self.state
    }

    /// Why; `None` for healthy.
    pub fn reason(&self) -> Option<Reason> {
        self.reason
    }

    /// What the last failed probe said, at most 256 octets; kept when the target recovers.
    pub fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// When it entered its state.
    pub fn since(&self) -> Tick {
        self.since
    }

    /// How many probes in a row ended alike: positive for successes, negative for failures.
    pub fn streak(&self) -> i64 {
        match self.streak {
            Streak::Successes(count) => i64::from(count),
            Streak::Failures(count) => -i64::from(count),
        }
    }

    fn succeeded(&mut self, now: Tick) -> Option<Transition> {
        let count = match self.streak {
            Streak::Successes(count) => count.saturating_add(1),
            Streak::Failures(_) => 1,
        };
        self.streak = Streak::Successes(count);
        match self.state {
            State::Initial => self.enter(State::Healthy, None, now),
            State::Unhealthy if count >= self.thresholds.healthy => {
                self.enter(State::Healthy, None, now)
            }
            _ => None,
        }
    }

    fn failed(&mut self, reason: Reason, now: Tick) -> Option<Transition> {
        let count = match self.streak {
            Streak::Failures(count) => count.saturating_add(1),
            Streak::Successes(_) => 1,
        };
        self.streak = Streak::Failures(count);
        match self.state {
            State::Initial | State::Healthy if count >= self.thresholds.unhealthy => {
                self.enter(State::Unhealthy, Some(reason), now)
            }
            State::Initial => {
                self.reason = Some(Reason::InitialHealthChecking);
                None
            }
            State::Unhealthy => {
                self.reason = Some(reason);
                None
            }
            _ => None,
        }
    }

    fn enter(&mut self, to: State, reason: Option<Reason>, now: Tick) -> Option<Transition> {
        let from = self.state;
        if from == to {
            return None;
        }
        self.state = to;
        self.reason = reason;
        self.since = now;
        Some(Transition { from, to, reason })
    }
}

/// The first [`ERROR_OCTETS`] octets, cut between characters.
fn cap(text: &str) -> &str {
    let end = (0..=ERROR_OCTETS.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.get(..end.unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE_TWO: Thresholds = Thresholds { healthy: 3, unhealthy: 2 };

    fn outcome(letter: char) -> Outcome {
        match letter {
            's' => Outcome::Success,
            'c' => Outcome::Status(503),
            't' => Outcome::Timeout,
            'f' => Outcome::Failed("connection refused".to_owned()),
            'i' => Outcome::Internal("no file descriptor".to_owned()),
            other => panic!("no outcome {other}"),
        }
    }

    /// Feeds one outcome a second and returns the tracker with the seconds at which its state changed.
    fn fed(thresholds: Thresholds, outcomes: &str) -> (Tracker, Vec<u64>) {
        let mut tracker = Tracker::new(thresholds, Tick::ZERO);
        let mut changed = Vec::new();
        for (second, letter) in (1..).zip(outcomes.chars()) {
            let before = tracker.state();
            let change = tracker.observe(&outcome(letter), Tick::from_nanos(second));
            assert_eq!(change.is_some(), before != tracker.state());
            assert!(change.is_none_or(|c| (c.from, c.to) == (before, tracker.state())));
            changed.extend(change.map(|_| second));
        }
        (tracker, changed)
    }

    #[test]
    fn outcomes_lead_to_states() {
        use State::{Healthy, Initial, Unhealthy};
        let cases: &[(&str, State, Option<Reason>, &[u64])] = &[
            ("", Initial, Some(Reason::RegistrationInProgress), &[]),
            ("s", Healthy, None, &[1]),
            ("f", Initial, Some(Reason::InitialHealthChecking), &[]),
            ("fs", Healthy, None, &[2]),
            ("ft", Unhealthy, Some(Reason::Timeout), &[2]),
            ("sf", Healthy, None, &[1]),
            ("sfsfsf", Healthy, None, &[1]),
            ("scc", Unhealthy, Some(Reason::ResponseCodeMismatch), &[1, 3]),
            ("sccss", Unhealthy, Some(Reason::ResponseCodeMismatch), &[1, 3]),
            ("sccssfsss", Healthy, None, &[1, 3, 9]),
            ("sccf", Unhealthy, Some(Reason::FailedHealthChecks), &[1, 3]),
            ("siiii", Healthy, None, &[1]),
            ("sfif", Unhealthy, Some(Reason::FailedHealthChecks), &[1, 4]),
        ];
        for (outcomes, state, reason, changed) in cases {
            let (tracker, when) = fed(THREE_TWO, outcomes);
            assert_eq!((tracker.state(), tracker.reason()), (*state, *reason), "{outcomes}");
            assert_eq!(when, *changed, "{outcomes}");
            let since = changed.last().copied().unwrap_or_default();
            assert_eq!(tracker.since(), Tick::from_nanos(since), "{outcomes}");
        }
    }

    #[test]
    fn a_reload_keeps_what_was_learnt() {
        let strict = Thresholds { healthy: 1, unhealthy: 1 };
        let (unhealthy, _) = fed(THREE_TWO, "sff");
        let mut kept = unhealthy.inherit(strict, Tick::from_nanos(9));
        assert_eq!((kept.state(), kept.since()), (State::Unhealthy, Tick::from_nanos(3)));
        assert_eq!(kept.last_error(), Some("connection refused"));
        assert!(kept.observe(&Outcome::Success, Tick::from_nanos(10)).is_some());
        let off = Tracker::unchecked(Tick::ZERO);
        assert_eq!(off.inherit(strict, Tick::ZERO).state(), State::Initial);
    }

    #[test]
    fn what_drains_or_is_not_checked_ignores_probes() {
        let (mut tracker, _) = fed(THREE_TWO, "s");
        let change = tracker.drain(Tick::from_nanos(5));
        let reason = Some(Reason::DeregistrationInProgress);
        let expected = Transition { from: State::Healthy, to: State::Draining, reason };
        assert_eq!(change, Some(expected));
        assert_eq!(tracker.drain(Tick::from_nanos(6)), None);
        assert_eq!(tracker.observe(&Outcome::Success, Tick::from_nanos(7)), None);
        assert_eq!((tracker.state(), tracker.since()), (State::Draining, Tick::from_nanos(5)));
        assert_eq!(Tracker::unchecked(Tick::ZERO).observe(&Outcome::Timeout, Tick::ZERO), None);
    }

    #[test]
    fn error_texts_are_cut_between_characters() {
        let mut tracker = Tracker::new(THREE_TWO, Tick::ZERO);
        let text = "x".to_owned() + &"ü".repeat(200);
        tracker.observe(&Outcome::Failed(text), Tick::ZERO);
        assert_eq!(tracker.last_error().map(str::len), Some(255));
        assert_eq!(tracker.streak(), -1);
    }
}
