//! Tells workers by their numbers, from any thread: replies from control, and what one worker has for another.
//!
//! Looking up a mailbox takes no lock, sending never blocks. Control alone opens mailboxes (`control::crew`).

use crate::net::runtime::Ringer;
use crate::shard::Message;
use arc_swap::ArcSwap;
use crossbeam::channel::Sender;
use std::collections::HashMap;
use std::sync::Arc;

/// Every worker's mailbox.
#[derive(Clone, Debug, Default)]
pub struct Post(Arc<ArcSwap<Boxes>>);

/// Each worker's mailbox and doorbell, by its number.
type Boxes = HashMap<usize, Arc<(Sender<Message>, Ringer)>>;

impl Post {
    /// Tells a worker; false if there is none of this number.
    pub fn tell(&self, number: usize, message: Message) -> bool {
        let boxes = self.0.load();
        let Some(entry) = boxes.get(&number) else { return false };
        let (mailbox, ringer) = &**entry;
        let sent = mailbox.send(message).is_ok();
        if sent {
            ringer.ring();
        }
        sent
    }

    /// The numbers of all workers.
    pub fn numbers(&self) -> Vec<usize> {
        self.0.load().keys().copied().collect()
    }

    /// Letters for a number go to this mailbox from now on. Control alone calls this.
    pub fn open(&self, number: usize, mailbox: Sender<Message>, ringer: Ringer) {
        let entry = Arc::new((mailbox, ringer));
        self.0.rcu(|boxes| {
            let mut boxes = Boxes::clone(boxes);
            boxes.insert(number, Arc::clone(&entry));
            boxes
        });
    }
}
