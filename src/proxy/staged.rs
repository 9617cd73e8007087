//! A request that is not just sent on: what its rule does before, in order.
//!
//! Faults that are asked for, then answers from the store, then changes of the request, then copies; then it is sent on as any
//! other. Called by `exchange` for rules that say so.

use crate::http::Fault;
use crate::proxy::exchange::{Way, send_on};
use crate::proxy::{Exchange, cached, change, coding, inject, mirror, throttle};
use crate::snapshot::Rule;

/// Does what the rule says, and sends the request on unless it was answered.
///
/// # Errors
/// What any of it ends with.
pub async fn forward(x: &mut Exchange<'_>, way: &Way<'_>) -> Result<(), Fault> {
    coding::request(x);
    let Some(rule) = way.rule else { return send_on(x, way).await };
    let traffic = &rule.traffic;
    if traffic.inject.is_some() {
        inject::inject(x, rule).await?;
    }
    if traffic.cache.is_some() {
        if cached::answer(x, way, rule).await? {
            return Ok(());
        }
        let ended = on(x, way, rule).await;
        cached::after(x, ended);
        return ended;
    }
    on(x, way, rule).await
}

async fn on(x: &mut Exchange<'_>, way: &Way<'_>, rule: &Rule) -> Result<(), Fault> {
    let traffic = &rule.traffic;
    if traffic.request.is_some() || traffic.reads_response {
        change::request(x, rule).await?;
    }
    if traffic.mirror.is_some() {
        mirror::copy(x, rule).await?;
    }
    if traffic.bandwidth.is_some() {
        throttle::request(x).await?;
    }
    let sent = send_on(x, way).await;
    // An answer that nothing was kept of is none to compare with.
    x.scratch.tap = None;
    sent
}
