//! What is made to go wrong on purpose, for testing clients: answers that come late, answers that are errors.
//!
//! Who meets it is decided in `fanout`. A request that is held back costs no target anything, and goes as soon as nobody is left
//! to go on for. Called by `staged` and `aggregate`.

use crate::base::Tick;
use crate::fanout::inject::Abort;
use crate::http::Fault;
use crate::proxy::{Exchange, policies};
use crate::snapshot::Rule;
use std::sync::atomic::Ordering;

/// Delays the request, or fails it, as its rule says.
///
/// # Errors
/// The fault that was asked for; what ends a wait.
pub async fn inject(x: &mut Exchange<'_>, rule: &Rule) -> Result<(), Fault> {
    let Some(inject) = &rule.traffic.inject else { return Ok(()) };
    let draw = |below| x.shard.with_rng(|rng| rng.u64(..below));
    let meets = inject.settings.meet(x.view().fields, draw);
    let late = !meets.delay.is_zero();
    x.scratch.trace.injected = match (late, meets.abort) {
        (false, None) => return Ok(()),
        (true, None) => "delay",
        (false, Some(Abort::Status(_))) => "abort",
        (false, Some(Abort::Reset)) => "reset",
        (true, Some(Abort::Status(_))) => "delay+abort",
        (true, Some(Abort::Reset)) => "delay+reset",
    };
    if late {
        inject.live.delayed.fetch_add(1, Ordering::Relaxed);
        policies::wait(x, Tick::now().after(meets.delay)).await?;
    }
    match meets.abort {
        None => Ok(()),
        Some(Abort::Status(status)) => {
            inject.live.aborted.fetch_add(1, Ordering::Relaxed);
            x.scratch.trace.told = Some(status);
            Err(Fault::Injected)
        }
        Some(Abort::Reset) => {
            inject.live.reset.fetch_add(1, Ordering::Relaxed);
            x.client.sock.reset_on_close();
            Err(Fault::InjectedReset)
        }
    }
}
