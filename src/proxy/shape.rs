//! What becomes of a response before its client gets it: other fields, another body, a content coding, a place in the store.
//!
//! Only responses to rules that ask for it come here. Called by `receive`, which sends what is left to be sent.

use crate::http::Fault;
use crate::net::{Buf, Sock};
use crate::proxy::Exchange;
use crate::proxy::stages::Stages;
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
    let rule = x.scratch.trace.rule.and_then(|at| x.epoch.snapshot.rules.get(at));
    let rule = rule.filter(|_| !x.scratch.trace.inner);
    rule.is_some_and(|rule| rule.traffic.shaped)
}

/// Decides on the parsed response, whose head is the first `head` octets of `up`.
///
/// # Errors
/// What goes wrong while another answer is made and sent.
pub async fn prepare(
    _x: &mut Exchange<'_>,
    _sock: &Sock,
    _up: &mut Buf,
    _head: usize,
    _stall: Duration,
) -> Result<Shape, Fault> {
    Ok(Shape::Pass(None))
}
