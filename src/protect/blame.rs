//! What an attempt says of its target: that it is well, that it is not, or nothing.
//!
//! What clients do to themselves is never held against a target: who leaves, who sends too slowly, and who gives no time to
//! answer. Which failures count is the file's choice. Pure; read by `outlier` and `breaker`.

use crate::http::Fault;
use std::ops::RangeInclusive;

/// Which failures count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blame {
    /// Statuses of a target's own answers.
    pub statuses: Vec<RangeInclusive<u16>>,
    /// No connection, or no TLS session.
    pub connect: bool,
    /// No answer in time, or one that stalls.
    pub timeout: bool,
    /// A connection that ends before its answer does.
    pub reset: bool,
    /// An answer that is malformed.
    pub protocol: bool,
}

impl Default for Blame {
    fn default() -> Blame {
        // 501 and 505 to 511 can be had by asking for them.
        let statuses = vec![500..=500, 502..=504];
        Blame { statuses, connect: true, timeout: true, reset: true, protocol: true }
    }
}

/// What an attempt says of its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has answered well.
    Good,
    /// It has failed.
    Bad(Cause),
    /// Nothing.
    Silent,
}

/// How a target has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// With such a status.
    Status,
    /// It could not be reached.
    Connect,
    /// It took too long.
    Timeout,
    /// It broke off.
    Reset,
    /// It said something malformed.
    Protocol,
}

impl Blame {
    /// Judges an attempt by its fault, or by the status of its answer.
    #[inline]
    pub fn judge(&self, fault: Option<Fault>, status: u16) -> Outcome {
        let Some(fault) = fault else {
            let bad = status >= 400 && self.statuses.iter().any(|range| range.contains(&status));
            return if bad { Outcome::Bad(Cause::Status) } else { Outcome::Good };
        };
        let Some(cause) = cause(fault) else { return Outcome::Silent };
        let counts = match cause {
            Cause::Connect => self.connect,
            Cause::Timeout => self.timeout,
            Cause::Reset => self.reset,
            Cause::Protocol => self.protocol,
            Cause::Status => false,
        };
        if counts { Outcome::Bad(cause) } else { Outcome::Silent }
    }
}

/// How a target has failed with this fault; `None` where it is not the target that has.
pub fn cause(fault: Fault) -> Option<Cause> {
    match fault {
        Fault::ConnectFailed | Fault::ConnectTimeout | Fault::TargetTlsFailed => {
            Some(Cause::Connect)
        }
        Fault::ResponseTimeout | Fault::BodyStalled | Fault::DeadlineExceeded => {
            Some(Cause::Timeout)
        }
        Fault::TargetReset | Fault::TargetClosed | Fault::TruncatedBody => Some(Cause::Reset),
        Fault::TargetProtocol
        | Fault::ResponseHead
        | Fault::ResponseTooLarge
        | Fault::ResponseFraming
        | Fault::ResponseChunk
        | Fault::UnaskedUpgrade
        | Fault::BadUpgrade
        | Fault::TooManyInterim => Some(Cause::Protocol),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::fault::Party;

    #[test]
    fn what_an_attempt_says() {
        use Outcome::{Bad, Good, Silent};
        let all = Blame::default();
        let none = Blame {
            statuses: Vec::new(),
            connect: false,
            timeout: false,
            reset: false,
            protocol: false,
        };
        for (fault, status, by_all, by_none) in [
            (None, 200, Good, Good),
            (None, 404, Good, Good),
            (None, 500, Bad(Cause::Status), Good),
            (None, 501, Good, Good),
            (None, 503, Bad(Cause::Status), Good),
            (None, 0, Good, Good),
            (Some(Fault::ConnectFailed), 0, Bad(Cause::Connect), Silent),
            (Some(Fault::ResponseTimeout), 200, Bad(Cause::Timeout), Silent),
            (Some(Fault::TruncatedBody), 200, Bad(Cause::Reset), Silent),
            (Some(Fault::ResponseHead), 0, Bad(Cause::Protocol), Silent),
            (Some(Fault::ClientGone), 200, Silent, Silent),
            (Some(Fault::BodyTimeout), 0, Silent, Silent),
            (Some(Fault::Shed), 0, Silent, Silent),
            (Some(Fault::WriteTimeout), 500, Silent, Silent),
        ] {
            assert_eq!(all.judge(fault, status), by_all, "{fault:?} {status}");
            assert_eq!(none.judge(fault, status), by_none, "{fault:?} {status}");
        }
    }

    #[test]
    fn nobody_but_targets_is_blamed() {
        for fault in Fault::ALL.iter().filter(|fault| cause(**fault).is_some()) {
            assert!(fault.party() == Party::Target && fault.status() != 460, "{fault:?}");
        }
        let blamed = Fault::ALL.iter().filter(|fault| cause(**fault).is_some()).count();
        assert_eq!(blamed, 17, "those that speak of connections, time and framing");
    }
}
