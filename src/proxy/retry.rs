//! Whether, and when, a request is tried again: what `protect::retry` says, where repeating is sound.
//!
//! Sound is: the body is here whole, and the method is idempotent or nothing was sent (RFC 9110 section 9.2.2). Every attempt after the
//! first is paid for by the group's budget, but one: that for a connection that the target closed as it was used again,
//! which is nobody's failure (hazard UP-02); and those that targets did not begin to process. Called by `forward`, and by `receive` for statuses.

use crate::base::Tick;
use crate::http::Fault;
use crate::protect::Retry;
use crate::proxy::{Exchange, policies};
use crate::shard::Epoch;
use crate::shard::epoch::GroupCore;
use std::time::Duration;

/// What the rule says of second attempts, or else the group; `None` where neither says anything.
#[inline]
pub fn settings<'e>(
    epoch: &'e Epoch,
    rule: Option<usize>,
    group: &'e GroupCore,
) -> Option<&'e Retry> {
    let rule = rule.and_then(|at| epoch.snapshot.rules.get(at));
    let of_rule = rule.and_then(|rule| rule.traffic.retry.as_deref());
    of_rule.or(group.group.traffic.retry.as_deref())
}

/// Whether the request may be sent again after it was sent.
pub fn is_repeatable(x: &Exchange<'_>) -> bool {
    x.scratch.request.method.is_idempotent() && x.body_is_here()
}

/// Whether one more attempt may be made now, which is paid for then.
pub fn pay(x: &mut Exchange<'_>, group: &GroupCore, retry: &Retry) -> bool {
    let now = Tick::now();
    let late = x.scratch.trace.deadline.is_some_and(|deadline| deadline <= now);
    let trace = &mut x.scratch.trace;
    let paid =
        trace.repeats > 0 && !late && group.budget.withdraw(retry, &group.group.live.reserve, now);
    if paid {
        trace.repeats -= 1;
    }
    paid
}

/// Whether the response whose head was parsed is not passed on, since another attempt is made instead, which is paid for then.
/// A target that says when to come again is taken at its word.
pub fn is_unwanted(x: &mut Exchange<'_>, head: &[u8]) -> bool {
    let epoch = x.epoch;
    let group = x.scratch.trace.group.and_then(|at| epoch.groups.get(at));
    let Some(group) = group else { return false };
    let Some(retry) = settings(epoch, x.scratch.trace.rule, group) else { return false };
    retry.takes(x.scratch.response.status)
        && x.scratch.response.view(head).first("retry-after").is_none()
        && pay(x, group, retry)
}

/// Waits before the next attempt, as is the default where nothing is said of it.
///
/// # Errors
/// [`Fault::ClientGone`]
pub async fn back_off(x: &Exchange<'_>, retry: Option<&Retry>) -> Result<(), Fault> {
    let attempts = x.scratch.trace.retries;
    let usual = Retry::default();
    let wait = x.shard.with_rng(|rng| retry.unwrap_or(&usual).wait(attempts, rng));
    pause(x, wait).await
}

/// Waits.
///
/// # Errors
/// [`Fault::ClientGone`]
pub async fn pause(x: &Exchange<'_>, wait: Duration) -> Result<(), Fault> {
    let until = Tick::now().after(wait);
    let until = x.scratch.trace.deadline.map_or(until, |deadline| deadline.min(until));
    policies::wait(x, until).await
}
