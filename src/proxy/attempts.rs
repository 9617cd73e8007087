//! The attempts to have one request answered: which targets were tried, whether there is to be another, and with which target.
//!
//! What the file says of it is `protect::retry`'s; what an attempt is, and what it ends with, `forward`'s, which calls this.

use crate::http::Fault;
use crate::protect::Retry;
use crate::proxy::forward::Failure;
use crate::proxy::{Exchange, retry, steer};
use crate::shard::epoch::GroupCore;
use crate::snapshot::KeySource;
use crate::{balance, config};

// Targets tried for one request, at most.
const MOST_TRIES: usize = 6;
// Times that one request is sent again since a target did not begin to process it.
const MOST_UNPROCESSED: u32 = 8;
/// The targets tried for one request, and what came of it so far.
#[derive(Default)]
pub(super) struct Walk {
    tried: [usize; MOST_TRIES],
    tries: usize,
    /// Sent once more on a fresh connection.
    pub resent: bool,
    unprocessed: u32,
    /// The last one had no room for a connection after all.
    pub crowded: bool,
    /// What the last attempt has failed with.
    pub last: Option<Fault>,
}

impl Walk {
    /// Their places in the group.
    pub fn tried(&self) -> &[usize] {
        self.tried.get(..self.tries).unwrap_or_default()
    }

    /// This one is tried now.
    pub fn enter(&mut self, place: usize) {
        if let Some(slot) = self.tried.get_mut(self.tries) {
            *slot = place;
            self.tries += 1;
        }
    }

    /// It was not tried after all.
    pub fn crowded(&mut self, place: usize) {
        self.crowded = true;
        if self.tried().last() == Some(&place) {
            self.tries -= 1;
        }
    }

    /// Another attempt is with this one already.
    pub fn avoid(&mut self, place: Option<usize>) {
        place.into_iter().for_each(|place| self.enter(place));
    }

    /// Whether another target is dialled after one could not be reached, which has cost none of them anything.
    pub fn dials_again(
        &self,
        x: &mut Exchange<'_>,
        group: &GroupCore,
        retry: Option<&Retry>,
    ) -> bool {
        match retry {
            Some(retry) if !retry.on.connect => false,
            Some(retry) if retry::is_repeatable(x) && !x.scratch.trace.once => {
                self.tries < MOST_TRIES && retry::pay(x, group, retry)
            }
            // Nothing was sent, so that it is sound for every method.
            _ => {
                let most = group.group.retries as usize + usize::from(self.resent);
                self.tries <= most.min(MOST_TRIES - 1)
            }
        }
    }

    /// Whether there is to be a wait before the next attempt.
    ///
    /// # Errors
    /// The failure, where there is to be none.
    pub fn goes_on(
        &mut self,
        x: &mut Exchange<'_>,
        group: &GroupCore,
        retry: Option<&Retry>,
        failure: Failure,
    ) -> Result<bool, Fault> {
        let wait = match failure {
            Failure::Final(Fault::ResponseTimeout) => {
                let again =
                    retry.is_some_and(|retry| retry.on.timeout && retry::pay(x, group, retry));
                if !again {
                    return Err(Fault::ResponseTimeout);
                }
                self.last = Some(Fault::ResponseTimeout);
                true
            }
            Failure::Final(fault) => return Err(fault),
            // It is paid for.
            Failure::Unwanted => true,
            // It was closed as it was used again, which is nobody's failure (hazard UP-02). On a fresh one it is free only where
            // nobody says what second attempts may cost.
            Failure::Dead(fault) if !self.resent && (x.scratch.trace.reused || retry.is_none()) => {
                if !retry::is_repeatable(x) {
                    return Err(fault);
                }
                // Nor is it why a client should leave its target.
                if x.scratch.trace.reused && group.group.traffic.sticky.is_some() {
                    self.tries -= 1;
                }
                (self.resent, self.last) = (true, Some(fault));
                false
            }
            Failure::Dead(fault) => {
                let again =
                    retry.is_some_and(|retry| retry.on.reset && retry::pay(x, group, retry));
                if !again {
                    return Err(fault);
                }
                self.last = Some(fault);
                true
            }
            Failure::Unprocessed(fault) | Failure::Refused(fault) => {
                self.unprocessed += 1;
                if self.unprocessed > MOST_UNPROCESSED || !x.body_is_here() {
                    return Err(fault);
                }
                self.last = Some(fault);
                if let (Failure::Refused(_), Some(place)) = (failure, x.scratch.trace.target) {
                    // Where there is no other, it is not asked again at once for a second time.
                    steer::was_full(x, group, place);
                    self.unprocessed > 1
                } else {
                    // It may be the same target again, on another connection.
                    self.tries -= 1;
                    false
                }
            }
        };
        x.scratch.trace.retries += 1;
        Ok(wait)
    }
}

/// The target for the next attempt: the one that the client should stay with, then one that was not tried, then any that may do.
pub(super) fn choose(
    x: &mut Exchange<'_>,
    group: &GroupCore,
    key: Option<u64>,
    walk: &Walk,
) -> Option<usize> {
    if walk.tries == 0
        && let Some(stays) = steer::target(x, group)
    {
        return Some(stays);
    }
    let before = walk.tried();
    let picked = x.shard.with_rng(|rng| group.pick(key, before, rng));
    let sent = x.scratch.trace.retries > 0;
    match picked {
        // The only target may be tried again on a fresh connection, and any that has only refused a stream; and any, where the rule
        // wants another attempt.
        None if (walk.resent && walk.tries == 1) || walk.unprocessed > 0 => {
            x.shard.with_rng(|rng| group.pick(key, &[], rng))
        }
        None if walk.tries > 0 => group.last_resort(before).or_else(|| {
            let again = sent && walk.tries < MOST_TRIES;
            again.then(|| x.shard.with_rng(|rng| group.pick(key, &[], rng))).flatten()
        }),
        picked => picked,
    }
}

/// The hash of what the group's algorithm goes by, if it does.
pub(super) fn hash_key(x: &Exchange<'_>, source: &KeySource) -> Option<u64> {
    match source {
        KeySource::None => None,
        KeySource::Client => Some(match x.client_ip() {
            std::net::IpAddr::V4(v4) => balance::hash_key(&v4.octets()),
            std::net::IpAddr::V6(v6) => balance::hash_key(&v6.octets()),
        }),
        KeySource::Request(key) => {
            let view = x.view();
            let value = match key {
                config::HashKey::Header(name) => view.fields.first(name),
                config::HashKey::Cookie(name) => {
                    view.fields.cookies().find(|(n, _)| *n == name.as_bytes()).map(|(_, v)| v)
                }
                config::HashKey::Query(name) => {
                    view.query_pairs().find(|(n, _)| *n == name.as_bytes()).map(|(_, v)| v)
                }
            };
            value.map(balance::hash_key)
        }
    }
}
