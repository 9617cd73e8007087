//! What control tells a worker: put into a queue, and the doorbell rung. The worker never waits for control.

use crate::policy::Reply;
use crate::shard::AccessLog;
use crate::snapshot::{GroupLive, Snapshot, TargetLive};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// One message to a worker.
#[derive(Debug)]
pub enum Message {
    /// Serve by this snapshot from the next request on.
    Publish(Arc<Snapshot>),
    /// Serve this listening socket too.
    Listen {
        /// [`crate::snapshot::Listener::id`].
        listener: u32,
        /// The port it is bound to.
        port: u16,
        /// A duplicate of the socket; control keeps the other.
        socket: OwnedFd,
        /// Names the socket in [`Message::Unlisten`].
        token: u64,
    },
    /// Stop serving a listening socket: take what is queued, then close it.
    Unlisten {
        /// From [`Message::Listen`].
        token: u64,
    },
    /// What a policy has asked.
    Replied {
        /// From the question.
        ticket: u64,
        /// What control has found out.
        reply: Reply,
    },
    /// A target of this group may have room: it is the turn of somebody who waits here.
    Room(Arc<GroupLive>),
    /// Close an idle connection to this target.
    Spare(Arc<TargetLive>),
    /// What requests with these tickets wait for has ended.
    Landed(Vec<u64>),
    /// Another worker has accepted a connection for this one: it is in its [`crate::shard::Handed`].
    Handed,
    /// Write access records so from now on.
    Log(AccessLog),
    /// Stop accepting, finish what is in flight, end the thread.
    Drain,
    /// Leave the listening sockets to a successor as they are, finish what is in flight, end the thread.
    Retire,
    /// End what is still in flight, too.
    Cut,
    /// Die, to see who notices.
    #[cfg(test)]
    Panic,
    /// Hang until there was a word, and another one; or nobody is left to say it.
    #[cfg(test)]
    Hang(crossbeam::channel::Receiver<()>),
}
