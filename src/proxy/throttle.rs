//! Holds bodies to the rate that their rule gives them.
//!
//! What may move at once costs a look; what may not is written in pieces, each of which waits for its time as a request does
//! that a limit delays (`net::delay`). Nothing is read from the sender meanwhile, so that it is slowed down, too. The arithmetic
//! is `transform::bandwidth`'s. Called by `passing`, `receive`, `forward` and `staged`.

use crate::base::Tick;
use crate::http::Fault;
use crate::net::timer::Slot;
use crate::net::{Side, Sock, Waited};
use crate::proxy::Exchange;
use crate::shard::Shard;
use crate::transform::bandwidth::{self, Bandwidth};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// The rate of one body.
#[derive(Debug)]
pub struct Throttle {
    rate: Arc<bandwidth::Side>,
    // The shared bucket, if any, and that of this body alone.
    at: Option<usize>,
    own: AtomicU64,
    slot: Rc<Slot>,
    // Whose deadline the wait may use: that of the direction in which the body moves.
    side: Side,
}

/// Why a body does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut;

impl Throttle {
    /// That of the response's body, if it has one.
    pub fn of_response(x: &Exchange<'_>) -> Option<Throttle> {
        let rate = of(x)?.response.as_ref()?;
        Some(Throttle::new(x, rate, Side::Write))
    }

    /// That of the request's body, if it has one.
    pub fn of_request(x: &Exchange<'_>) -> Option<Throttle> {
        let rate = of(x)?.request.as_ref()?;
        Some(Throttle::new(x, rate, Side::Read))
    }

    fn new(x: &Exchange<'_>, rate: &Arc<bandwidth::Side>, side: Side) -> Throttle {
        let at = rate.bucket(x.client_ip());
        let (rate, slot) = (Arc::clone(rate), x.client.sock.slot());
        Throttle { rate, at, own: AtomicU64::new(0), slot, side }
    }

    /// Octets that should be written at a time.
    pub fn piece(&self) -> usize {
        self.rate.piece()
    }

    /// Waits until so many octets may move. What `from` sends meanwhile is taken off its connection, if others use that, too.
    ///
    /// # Errors
    /// [`Cut`] when nobody is left to go on for.
    pub async fn admit(
        &self,
        shard: &Shard,
        from: Option<&Sock>,
        octets: usize,
    ) -> Result<(), Cut> {
        let now = Tick::now();
        let until = self.rate.take(self.at, &self.own, octets as u64, now);
        if until <= now {
            return Ok(());
        }
        let mut wait = pin!(shard.delays.until_on(self.side, until, &self.slot));
        let waited = poll_fn(|cx| {
            if let Some(stream) = from.and_then(Sock::stream) {
                stream.absorb(cx);
            }
            wait.as_mut().poll(cx)
        });
        match waited.await {
            Waited::Due => Ok(()),
            Waited::Cut => Err(Cut),
        }
    }
}

/// Whether a response's body of so many octets may go out at once.
pub fn covers(x: &Exchange<'_>, octets: usize) -> bool {
    let Some(rate) = of(x).and_then(|bandwidth| bandwidth.response.as_ref()) else { return true };
    octets == 0 || rate.covers(rate.bucket(x.client_ip()), octets as u64, Tick::now())
}

/// Counts a response's body of so many octets, which goes out at once.
pub fn count(x: &Exchange<'_>, octets: usize) {
    let Some(rate) = of(x).and_then(|bandwidth| bandwidth.response.as_ref()) else { return };
    if octets > 0 {
        let at = rate.bucket(x.client_ip());
        rate.take(at, &AtomicU64::new(0), octets as u64, Tick::now());
    }
}

/// Waits until the request's body may be sent on, where it is here whole.
///
/// # Errors
/// [`Fault::ClientGone`]
pub async fn request(x: &Exchange<'_>) -> Result<(), Fault> {
    let octets = x.body_here().len();
    let Some(throttle) = Throttle::of_request(x).filter(|_| octets > 0) else { return Ok(()) };
    let admitted = throttle.admit(x.shard, None, octets).await;
    x.client.sock.arm(Side::Read, Tick::NEVER);
    match admitted {
        Ok(()) if !x.client.sock.is_gone() => Ok(()),
        _ => Err(Fault::ClientGone),
    }
}

fn of<'x>(x: &'x Exchange<'_>) -> Option<&'x Bandwidth> {
    let rule = x.scratch.trace.rule.and_then(|at| x.epoch.snapshot.rules.get(at))?;
    rule.traffic.bandwidth.as_deref().filter(|_| !x.scratch.trace.inner)
}
