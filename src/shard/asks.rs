//! What a worker's policies have asked control, until the replies come.
//!
//! A question goes out over a channel that never blocks; the reply comes through the mailbox and wakes the request that waits
//! for it. A request that goes away takes its question along, and no question outlives [`LONGEST`], whatever control does.

use crate::base::Tick;
use crate::policy::{Question, Reply};
use slab::Slab;
use std::cell::RefCell;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

/// A question on its way to control.
#[derive(Debug)]
pub struct Ask {
    /// Who asks.
    pub worker: usize,
    /// Names the question in the reply.
    pub ticket: u64,
    /// What is asked.
    pub question: Box<Question>,
}

/// The questions of one worker.
#[derive(Debug, Default)]
pub struct Asks {
    to: RefCell<Option<(usize, UnboundedSender<Ask>)>>,
    open: RefCell<Slab<Open>>,
    asked: RefCell<u32>,
}

#[derive(Debug)]
struct Open {
    // Tells this question from an earlier one in the same place.
    number: u32,
    until: Tick,
    reply: Option<Reply>,
    waker: Option<Waker>,
}

// Questions of one worker that are open at the same time: what comes beyond is not asked.
const MOST: usize = 4096;
/// The longest that a question is waited for; control's own deadlines are shorter.
pub const LONGEST: Duration = Duration::from_secs(65);

impl Asks {
    /// Questions go to `to` from now on.
    pub fn connect(&self, worker: usize, to: UnboundedSender<Ask>) {
        self.to.replace(Some((worker, to)));
        // A worker that follows another of its number is not taken for it.
        self.asked.replace(fastrand::u32(..));
    }

    /// Asks, and waits for the reply without holding up anybody else.
    pub async fn ask(&self, question: Box<Question>, now: Tick) -> Reply {
        match self.send(question, now) {
            Some(place) => {
                let waiting = Waiting { asks: self, place };
                poll_fn(|context| waiting.poll(context.waker())).await
            }
            None => Reply::Unasked(Arc::from("too many questions are open")),
        }
    }

    /// Takes a reply that control has sent; one that nobody waits for any more is dropped.
    pub fn reply(&self, ticket: u64, reply: Reply) {
        let place = usize::try_from(ticket & u64::from(u32::MAX)).unwrap_or(usize::MAX);
        let mut open = self.open.borrow_mut();
        let Some(one) = open.get_mut(place).filter(|o| u64::from(o.number) == ticket >> 32) else {
            return;
        };
        one.reply = Some(reply);
        if let Some(waker) = one.waker.take() {
            waker.wake();
        }
    }

    /// Gives up on questions that control has not answered in time.
    pub fn sweep(&self, now: Tick) {
        for (_, one) in &mut *self.open.borrow_mut() {
            if one.until <= now && one.reply.is_none() {
                one.reply = Some(Reply::Failed(Arc::from("no reply in time")));
                if let Some(waker) = one.waker.take() {
                    waker.wake();
                }
            }
        }
    }

    fn send(&self, question: Box<Question>, now: Tick) -> Option<usize> {
        let to = self.to.borrow();
        let (worker, to) = to.as_ref()?;
        let mut open = self.open.borrow_mut();
        if open.len() >= MOST {
            return None;
        }
        let number = {
            let mut asked = self.asked.borrow_mut();
            *asked = asked.wrapping_add(1);
            *asked
        };
        let until = now.after(LONGEST);
        let place = open.insert(Open { number, until, reply: None, waker: None });
        let ticket = u64::from(number) << 32 | u64::try_from(place).unwrap_or(u64::MAX >> 32);
        if to.send(Ask { worker: *worker, ticket, question }).is_err() {
            open.remove(place);
            return None;
        }
        Some(place)
    }
}

struct Waiting<'a> {
    asks: &'a Asks,
    place: usize,
}

impl Waiting<'_> {
    fn poll(&self, waker: &Waker) -> Poll<Reply> {
        let mut open = self.asks.open.borrow_mut();
        let Some(one) = open.get_mut(self.place) else { return Poll::Pending };
        match one.reply.take() {
            Some(reply) => Poll::Ready(reply),
            None => {
                one.waker = Some(waker.clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.asks.open.borrow_mut().try_remove(self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::Context;
    use tokio::sync::mpsc::unbounded_channel;

    fn question() -> Box<Question> {
        Box::new(Question::Password { hash: Arc::from("h"), password: Vec::new() })
    }

    #[test]
    fn a_reply_reaches_the_one_that_asked_and_nobody_after_it() {
        let asks = Asks::default();
        let mut context = Context::from_waker(Waker::noop());
        let (to, mut from) = unbounded_channel();
        asks.connect(3, to);
        let first = {
            let mut waiting = pin!(asks.ask(question(), Tick::ZERO));
            assert!(waiting.as_mut().poll(&mut context).is_pending());
            from.try_recv().unwrap()
        };
        assert_eq!((first.worker, asks.open.borrow().len()), (3, 0), "it went away");
        let mut waiting = pin!(asks.ask(question(), Tick::ZERO));
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        let second = from.try_recv().unwrap();
        asks.reply(first.ticket, Reply::Password(true));
        assert!(waiting.as_mut().poll(&mut context).is_pending(), "not the one it waits for");
        asks.reply(second.ticket, Reply::Password(false));
        let reply = waiting.as_mut().poll(&mut context);
        assert!(matches!(reply, Poll::Ready(Reply::Password(false))), "{reply:?}");
    }

    #[test]
    fn nobody_waits_for_ever() {
        let asks = Asks::default();
        let mut context = Context::from_waker(Waker::noop());
        let mut unheard = pin!(asks.ask(question(), Tick::ZERO));
        assert!(matches!(unheard.as_mut().poll(&mut context), Poll::Ready(Reply::Unasked(_))));
        let (to, _from) = unbounded_channel();
        asks.connect(0, to);
        let mut waiting = pin!(asks.ask(question(), Tick::ZERO));
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        asks.sweep(Tick::ZERO.after(LONGEST));
        assert!(matches!(waiting.as_mut().poll(&mut context), Poll::Ready(Reply::Failed(_))));
    }
}
