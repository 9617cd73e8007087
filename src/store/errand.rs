//! What an exchange remembers of its store while its request is with a target.

use crate::base::Tick;
use crate::cache::{Ask, Key, Status};
use crate::store::{Claim, Entry, Stamp};
use std::sync::Arc;

/// What is to be done with the response to a request that was sent on.
#[derive(Debug)]
pub struct Errand {
    /// What the request is for.
    pub key: Key,
    /// What it asks of the cache; `None` if its response is none for the store.
    pub ask: Option<Ask>,
    /// That others wait for it.
    pub claim: Option<Claim>,
    /// What is stored already, and is not what there is any more where a whole response comes.
    pub old: Option<Arc<Entry>>,
    /// What the store looked like when it was sent.
    pub stamp: Stamp,
    /// When that was.
    pub asked: Tick,
    /// What is told of it.
    pub status: Status,
}
