//! How old a stored response is, and whether it may be given (RFC 9111 section 4.2, RFC 5861, RFC 8246).
//!
//! Ages grow with the monotonic clock alone: a wall clock that jumps makes no stored response younger or immortal (hazard
//! OPS-13). Called for each request that finds a stored response.

use crate::base::Tick;
use crate::cache::ask::Ask;
use crate::cache::control::MaxStale;
use crate::cache::vary::Vary;
use std::time::Duration;

/// What is kept of a stored response's head for decisions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meta {
    /// Its status.
    pub status: u16,
    /// When it was received, or last validated.
    pub received: Tick,
    /// How old it was then.
    pub age: Duration,
    /// Up to which age it is fresh.
    pub lifetime: Duration,
    /// How long after that it may be given while it is fetched anew.
    pub stale_while_revalidate: Duration,
    /// How long after that it may be given when the target fails.
    pub stale_if_error: Duration,
    /// It is never given stale.
    pub strict: bool,
    /// It is never given without a validation.
    pub no_cache: bool,
    /// It does not change while it is fresh.
    pub immutable: bool,
    /// `ETag` as sent.
    pub etag: Option<Box<[u8]>>,
    /// `Last-Modified` as sent, with the seconds since 1970 that it says.
    pub modified: Option<(Box<[u8]>, u64)>,
    /// `Date`, or when it was received by the wall clock, in seconds since 1970.
    pub date: u64,
    /// Which fields of a request have chosen it.
    pub vary: Vary,
    /// What it can be purged by.
    pub tags: Vec<Box<[u8]>>,
}

/// When a response was asked for and received.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Times {
    /// When the request was sent.
    pub asked: Tick,
    /// When the head of the response was there.
    pub received: Tick,
    /// The same by the wall clock, in seconds since 1970.
    pub unix: u64,
}

/// What is to be done with a stored response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is given.
    Fresh,
    /// It is given although it is stale.
    Stale {
        /// Whether it is fetched anew meanwhile.
        refresh: bool,
    },
    /// It must be validated first, since it is stale or is never given without.
    Revalidate,
    /// It must be validated first, since the request asks for it.
    Asked,
}

impl Meta {
    /// How old it is (RFC 9111 section 4.2.3).
    pub fn age_at(&self, now: Tick) -> Duration {
        self.age.saturating_add(now.since(self.received))
    }

    /// Seconds that it will remain fresh; below zero, for which it has been stale.
    pub fn ttl(&self, now: Tick) -> i64 {
        let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        let age = self.age_at(now);
        match self.lifetime.checked_sub(age) {
            Some(left) => seconds(left),
            None => -seconds(age.saturating_sub(self.lifetime)),
        }
    }

    /// When nothing can make it useful any more without a validation: past its freshness and what may follow.
    pub fn expires(&self) -> Tick {
        let extra = match self.strict || self.no_cache {
            true => Duration::ZERO,
            false => self.stale_while_revalidate.max(self.stale_if_error),
        };
        self.received.after(self.lifetime.saturating_add(extra).saturating_sub(self.age))
    }

    /// Whether it answers other requests as it came, without a validation of its own for each.
    pub fn is_for_others(&self) -> bool {
        let judged = judge(self, &Ask::default(), self.received);
        matches!(judged, Verdict::Fresh | Verdict::Stale { .. })
    }

    /// Whether it can be validated.
    pub fn has_validator(&self) -> bool {
        self.etag.is_some() || self.modified.is_some()
    }

    /// Appends the field lines that ask the target whether it still holds (RFC 9111 section 4.3.1). Those of the client that
    /// are called so are held back.
    pub fn preconditions(&self, out: &mut Vec<u8>) {
        if let Some(etag) = &self.etag {
            crate::http::write::field(out, b"if-none-match", etag);
        }
        if let Some((modified, _)) = &self.modified {
            crate::http::write::field(out, b"if-modified-since", modified);
        }
    }

    // How long it has been stale; `None` while it is fresh.
    fn stale_for(&self, now: Tick) -> Option<Duration> {
        let age = self.age_at(now);
        if self.lifetime > age { None } else { Some(age.saturating_sub(self.lifetime)) }
    }
}

/// Whether a stored response answers the request, at this time.
pub fn judge(meta: &Meta, ask: &Ask, now: Tick) -> Verdict {
    if meta.no_cache {
        return Verdict::Revalidate;
    }
    if ask.no_cache {
        return Verdict::Asked;
    }
    let age = meta.age_at(now);
    let Some(stale) = meta.stale_for(now) else {
        // A reload asks for what cannot have changed (RFC 8246 section 2).
        let too_old = ask.max_age.is_some_and(|most| age > most);
        let reload = meta.immutable && ask.max_age == Some(Duration::ZERO);
        let soon_stale = meta.lifetime.saturating_sub(age) < ask.min_fresh;
        return if too_old && !reload || soon_stale { Verdict::Asked } else { Verdict::Fresh };
    };
    if meta.strict {
        return Verdict::Revalidate;
    }
    if ask.max_age.is_some_and(|most| age > most) || !ask.min_fresh.is_zero() {
        return Verdict::Asked;
    }
    let takes = match ask.max_stale {
        None => false,
        Some(MaxStale::Any) => true,
        Some(MaxStale::For(most)) => stale <= most,
    };
    if takes || stale < meta.stale_while_revalidate {
        return Verdict::Stale { refresh: stale < meta.stale_while_revalidate };
    }
    Verdict::Revalidate
}

/// Whether a stored response may be given since the target has failed: no answer, or one of 500, 502, 503, 504 (RFC 5861 section 4).
pub fn stale_if_error(meta: &Meta, ask: &Ask, now: Tick) -> bool {
    let window = meta.stale_if_error.max(ask.stale_if_error);
    !meta.strict && !meta.no_cache && meta.stale_for(now).unwrap_or_default() < window
}

/// Whether a status is one that [`stale_if_error`] speaks of.
pub fn is_failure(status: u16) -> bool {
    matches!(status, 500 | 502 | 503 | 504)
}
