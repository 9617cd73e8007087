//! What a core has asked control about credentials and not heard of yet, so that one client cannot fill the queues of all.
//!
//! Questions belong to a client, and to a part of what it does (a user that it tries). The same question may be asked again:
//! control answers all who ask it at once. Called by `basic` and `introspect`.

use crate::base::Tick;
use crate::policy::recall::Digest;
use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

/// Clients whose questions are open at the same time.
const MOST_CLIENTS: usize = 1024;
/// How long a question may be open; control answers earlier, unless who asked has gone.
const ASKED: Duration = Duration::from_secs(30);

/// What is open.
#[derive(Debug, Default)]
pub struct Asking(RefCell<HashMap<Digest, Vec<Open>>>);

#[derive(Debug)]
struct Open {
    question: Digest,
    part: Digest,
    until: Tick,
}

/// A question, by digests.
#[derive(Clone, Copy, Debug)]
pub struct Topic {
    /// What is asked.
    pub question: Digest,
    /// The part of what the client does.
    pub part: Digest,
    /// The client.
    pub client: Digest,
}

/// How many different questions may be open.
#[derive(Clone, Copy, Debug)]
pub struct Most {
    /// Of one part of one client.
    pub of_part: usize,
    /// Of one client.
    pub of_client: usize,
}

impl Asking {
    /// Whether this may be asked now; if so, it counts until [`Asking::end`].
    pub fn begin(&self, topic: &Topic, most: Most, now: Tick) -> bool {
        let all = &mut *self.0.borrow_mut();
        if all.len() >= MOST_CLIENTS && !all.contains_key(&topic.client) {
            return false;
        }
        let open = all.entry(topic.client).or_default();
        let until = now.after(ASKED);
        if let Some(same) = open.iter_mut().find(|open| open.question == topic.question) {
            same.until = until;
            return true;
        }
        let of_part = open.iter().filter(|open| open.part == topic.part).count();
        if open.len() >= most.of_client || of_part >= most.of_part {
            return false;
        }
        open.push(Open { question: topic.question, part: topic.part, until });
        true
    }

    /// The reply is there.
    pub fn end(&self, topic: &Topic) {
        let all = &mut *self.0.borrow_mut();
        let Some(open) = all.get_mut(&topic.client) else { return };
        open.retain(|open| open.question != topic.question);
        if open.is_empty() {
            all.remove(&topic.client);
        }
    }

    /// Lets go of questions whose askers have gone.
    pub fn sweep(&self, now: Tick) {
        self.0.borrow_mut().retain(|_, open| {
            open.retain(|open| now < open.until);
            !open.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(client: u16, part: u8, question: u8) -> Topic {
        let mut name = [0; 32];
        name[..2].copy_from_slice(&client.to_le_bytes());
        Topic { question: [question; 32], part: [part; 32], client: name }
    }

    #[test]
    fn different_questions_of_a_client_are_bounded_and_the_same_one_is_not() {
        let asking = Asking::default();
        let most = Most { of_part: 2, of_client: 3 };
        let begin =
            |client, part, question| asking.begin(&topic(client, part, question), most, Tick::ZERO);
        for (client, part, question, expected) in [
            (1, 1, 1, true),
            (1, 1, 2, true),
            (1, 1, 3, false),
            (1, 1, 1, true),
            (1, 2, 4, true),
            (1, 3, 5, false),
            (2, 1, 1, true),
        ] {
            assert_eq!(begin(client, part, question), expected, "{client} {part} {question}");
        }
        asking.end(&topic(1, 1, 2));
        assert!(begin(1, 1, 3));
        asking.end(&topic(2, 1, 1));
        assert_eq!(asking.0.borrow().len(), 1);
        asking.sweep(Tick::ZERO.after(ASKED));
        assert!(asking.0.borrow().is_empty());
    }

    #[test]
    fn clients_are_bounded_too() {
        let asking = Asking::default();
        let most = Most { of_part: 1, of_client: 1 };
        let begun = (0..2000).filter(|n| asking.begin(&topic(*n, 0, 0), most, Tick::ZERO)).count();
        assert_eq!(begun, MOST_CLIENTS);
    }
}
