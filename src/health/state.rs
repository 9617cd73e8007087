//! The words: states, reasons and outcomes. Their names and codes are ALB's and never change, since dashboards and
//! alarms hang on them.

use std::fmt;

/// What a target is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// No probe has told yet.
    Initial,
    /// Probes succeed.
    Healthy,
    /// Probes fail.
    Unhealthy,
    /// No rule leads to its group.
    Unused,
    /// It was removed; requests in flight still finish.
    Draining,
    /// Nobody probes it.
    Unavailable,
}

impl State {
    /// Every state, for metrics that show all of them.
    pub const ALL: [State; 6] = [
        State::Initial,
        State::Healthy,
        State::Unhealthy,
        State::Unused,
        State::Draining,
        State::Unavailable,
    ];

    /// The lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            State::Initial => "initial",
            State::Healthy => "healthy",
            State::Unhealthy => "unhealthy",
            State::Unused => "unused",
            State::Draining => "draining",
            State::Unavailable => "unavailable",
        }
    }
}

/// Why a target is in a state other than healthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No probe has ended yet.
    RegistrationInProgress,
    /// Too few probes have ended to judge.
    InitialHealthChecking,
    /// A probe was answered with a status that does not count as success.
    ResponseCodeMismatch,
    /// A probe was not answered in time.
    Timeout,
    /// A probe failed otherwise: no connection, or no HTTP.
    FailedHealthChecks,
    /// The target's group is not used.
    NotInUse,
    /// The target was removed.
    DeregistrationInProgress,
    /// Health checks are off.
    HealthCheckDisabled,
    /// The probe could not be made, for a reason on our side.
    InternalError,
}

impl Reason {
    /// ALB's code.
    pub fn code(self) -> &'static str {
        match self {
            Reason::RegistrationInProgress => "Elb.RegistrationInProgress",
            Reason::InitialHealthChecking => "Elb.InitialHealthChecking",
            Reason::ResponseCodeMismatch => "Target.ResponseCodeMismatch",
            Reason::Timeout => "Target.Timeout",
            Reason::FailedHealthChecks => "Target.FailedHealthChecks",
            Reason::NotInUse => "Target.NotInUse",
            Reason::DeregistrationInProgress => "Target.DeregistrationInProgress",
            Reason::HealthCheckDisabled => "Target.HealthCheckDisabled",
            Reason::InternalError => "Elb.InternalError",
        }
    }

    /// One plain sentence.
    pub fn sentence(self) -> &'static str {
        match self {
            Reason::RegistrationInProgress => "The first health check has not ended yet.",
            Reason::InitialHealthChecking => {
                "Health checks fail, but not yet as often as makes a new target unhealthy."
            }
            Reason::ResponseCodeMismatch => {
                "Health checks are answered with a status that does not count as success."
            }
            Reason::Timeout => "Health checks are not answered in time.",
            Reason::FailedHealthChecks => "Health checks fail: no connection, or no valid answer.",
            Reason::NotInUse => "No rule leads to the target's group.",
            Reason::DeregistrationInProgress => {
                "The target was removed; requests that it still holds may finish."
            }
            Reason::HealthCheckDisabled => "Health checks are off, so the target is always used.",
            Reason::InternalError => "A health check could not be made.",
        }
    }
}

/// How a probe ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Success,
    /// With a status that does not count as success.
    Status(u16),
    /// Not in time.
    Timeout,
    /// Otherwise; the text says how.
    Failed(String),
    /// It could not be made, for a reason on our side; the text says why. No judgement about the target follows.
    Internal(String),
}

impl Outcome {
    /// The reason a failure gives; `None` for success.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Outcome::Success => None,
            Outcome::Status(_) => Some(Reason::ResponseCodeMismatch),
            Outcome::Timeout => Some(Reason::Timeout),
            Outcome::Failed(_) => Some(Reason::FailedHealthChecks),
            Outcome::Internal(_) => Some(Reason::InternalError),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Success => f.write_str("success"),
            Outcome::Status(status) => write!(f, "answered with status {status}"),
            Outcome::Timeout => f.write_str("no answer in time"),
            Outcome::Failed(text) | Outcome::Internal(text) => f.write_str(text),
        }
    }
}
