//! What becomes of a response before its client gets it: other fields, another body, a content coding, a place in the store.
//!
//! Only responses to rules that ask for it come here. Each step changes the parsed head in the scratch, the body in `up` where it
//! is here whole, or adds a stage; lines that this response alone gets are in `scratch.added`. Called by `receive`, which sends what
//! is left to be sent.

use crate::http::Fault;
use crate::net::{Buf, Sock};
use crate::proxy::stages::{Keeper, Stage, Stages};
use crate::proxy::{Exchange, cached, coding, dress, mirror};
use crate::snapshot::Rule;
use std::time::Duration;

/// How a response goes on.
#[derive(Debug)]
pub enum Shape {
    /// It is passed on, its body through these stages.
    Pass(Option<Stages>),
    /// It has been answered with something else; whether the target's connection may carry another request.
    Answered(bool),
}

/// Whether anything is done to responses of this exchange.
#[inline]
pub fn wants(x: &Exchange<'_>) -> bool {
    if x.scratch.trace.inner {
        return false;
    }
    let rule = x.scratch.trace.rule.and_then(|at| x.epoch.snapshot.rules.get(at));
    // Without a rule it is what the listener does with requests that none takes; its error pages may be for any rule.
    let shaped = rule.map_or(x.listener.compress.is_some(), |rule| rule.traffic.shaped);
    shaped || !x.listener.errors.is_empty()
}

/// Whether anything is done to a stored response of this rule before it is given: then it goes the way of a target's.
pub fn dresses(rule: &Rule) -> bool {
    let traffic = &rule.traffic;
    traffic.response.is_some() || traffic.compresses || traffic.bandwidth.is_some()
}

/// Decides on the parsed response, whose head is the first `head` octets of `up`.
///
/// # Errors
/// What goes wrong while another answer is made and sent.
pub async fn prepare(
    x: &mut Exchange<'_>,
    sock: &Sock,
    up: &mut Buf,
    head: usize,
    stall: Duration,
) -> Result<Shape, Fault> {
    x.scratch.added.clear();
    let mut stages = Stages::default();
    // First, so that what is compared is what the target has said.
    if let Some(tap) = mirror::tap(x, up.filled().get(..head).unwrap_or_default()) {
        stages.keep(Keeper::Tap(tap));
    }
    // Bodies that are replaced or mapped are here whole afterwards, as if the target had sent them; what is stored has been.
    let stored = x.scratch.trace.stored;
    let personal = !stored && dress::body(x, sock, up, head, stall).await?;
    let section = up.filled().get(..head).unwrap_or_default();
    // What was made of this request is for nobody else. What is stored is as the target has coded it.
    if !personal && let Some(filling) = cached::fill(x, section) {
        stages.keep(Keeper::Fill(Box::new(filling)));
    }
    if let Some(decoder) = coding::decode(x, section) {
        stages.push(Stage::Decode(decoder));
    }
    if let Some(encoder) = coding::encode(x, section) {
        stages.push(Stage::Encode(encoder));
    }
    // Last, so that the store keeps what the target has said: it is dressed whenever it is given.
    dress::dress(x, section);
    Ok(Shape::Pass(Some(stages).filter(|stages| !stages.is_empty())))
}
