//! Finds a target for a connection that is relayed, and opens one to it: another target where one cannot be reached.
//!
//! Nothing has been sent yet, so that any target is as good as another. Requests go their own way (`forward`), since they may be
//! sent over connections that are open already. Called by `serve::relayed`.

use crate::balance;
use crate::base::Tick;
use crate::http::Fault;
use crate::proxy::{Client, guard, load, proxied};
use crate::shard::epoch::GroupCore;
use crate::shard::{Shard, TargetConn};
use crate::snapshot::KeySource;
use crate::upstream;
use std::net::IpAddr;
use std::time::Duration;

/// Who is connected to whom.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// The client.
    pub client: &'a Client,
    /// The name it asked for; empty where it named none.
    pub name: &'a [u8],
}

/// What came of it, whether it went well or not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attempts {
    /// The last target that was tried: an index into the group's.
    pub target: Option<usize>,
    /// Attempts after the first.
    pub retries: u32,
    /// What all of them took.
    pub took: Duration,
}

// Targets tried for one connection, at most.
const MOST_TRIES: usize = 6;

/// Opens a connection to a target of `group`.
///
/// # Errors
/// [`Fault::NoTarget`] when there is none; why the last one could not be reached.
pub async fn dial(
    shard: &Shard,
    group: &GroupCore,
    caller: Caller<'_>,
    attempts: &mut Attempts,
) -> Result<TargetConn, Fault> {
    let key = match &group.group.key {
        KeySource::Client => Some(address_key(caller.client.peer.ip())),
        KeySource::None | KeySource::Request(_) => None,
    };
    let began = Tick::now();
    let version = group.group.proxy_protocol;
    let header = version.map(|v| proxied::of_connection(caller.client, caller.name, v));
    let header = header.unwrap_or_default();
    let most = (group.group.retries as usize + 1).min(MOST_TRIES);
    let mut tried = [0_usize; MOST_TRIES];
    let mut last = Fault::NoTarget;
    for tries in 0..most {
        let before = tried.get(..tries).unwrap_or_default();
        let picked = match shard.with_rng(|rng| group.pick(key, before, rng)) {
            None if tries > 0 => group.last_resort(before),
            picked => picked,
        };
        let Some(place) = picked else { return Err(last) };
        let target = group.targets.get(place).ok_or(Fault::Internal)?;
        if let Some(slot) = tried.get_mut(tries) {
            *slot = place;
        }
        attempts.target = Some(place);
        attempts.retries = u32::try_from(tries).unwrap_or(u32::MAX);
        let (sock, timeout) = (&caller.client.sock, group.group.connect);
        let dialled = Tick::now();
        let opened = upstream::connect(shard, sock, target, timeout, &header).await;
        attempts.took = Tick::now().since(began);
        let (took, fault) = (Tick::now().since(dialled), opened.as_ref().err().copied());
        load::dialled(group, target, took, fault);
        // A client that left has ended the wait for the target, which says nothing of it.
        if !sock.is_cut() {
            guard::dialled(shard, group, place, took, fault);
        }
        match opened {
            Ok(conn) => return Ok(conn),
            Err(Fault::Shed) => return Err(Fault::Shed),
            Err(fault) => last = fault,
        }
        if sock.is_cut() {
            return Err(Fault::TunnelCut);
        }
    }
    Err(last)
}

fn address_key(ip: IpAddr) -> u64 {
    match ip.to_canonical() {
        IpAddr::V4(v4) => balance::hash_key(&v4.octets()),
        IpAddr::V6(v6) => balance::hash_key(&v6.octets()),
    }
}
