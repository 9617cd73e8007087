//! What a tunnel is counted and logged by: gauges while it stands, its octets as they move, one record when it ends.
//!
//! It holds the meters and the names themselves, never the snapshot they came from. A connection that is turned away before it
//! became a tunnel is counted and logged here, too. Called by `tunnel`, `upgrade` and `serve::relayed`.

use crate::base::meters::Meters;
use crate::base::{Tick, tick};
use crate::http::Fault;
use crate::observe::Record;
use crate::observe::kept::Kept;
use crate::shard::Shard;
use crate::snapshot::{GroupLive, Listener, TargetLive};
use std::cell::Cell;
use std::sync::Arc;

/// Whom a tunnel is counted for.
#[derive(Debug)]
pub struct Parties {
    /// Where it came in.
    pub listener: Arc<Meters>,
    /// The rule that took it; `None` for the listener's default.
    pub rule: Option<Arc<Meters>>,
    /// The group it was sent to.
    pub group: Arc<GroupLive>,
    /// The target.
    pub target: Arc<TargetLive>,
}

impl Parties {
    fn each(&self, what: impl FnMut(&Meters)) {
        let all = [
            Some(&*self.listener),
            self.rule.as_deref(),
            Some(&self.group.meters),
            Some(&self.target.meters),
        ];
        all.into_iter().flatten().for_each(what);
    }
}

/// The account of one tunnel.
#[derive(Debug)]
pub struct Account {
    parties: Parties,
    worker: usize,
    began: Tick,
    // `None` where nothing is logged.
    kept: Option<Kept>,
    moved: Cell<[u64; 2]>,
}

impl Account {
    /// Counts a tunnel in. `kept` is what is known of it by now, where that is logged; its octets so far are counted already.
    pub fn open(shard: &Shard, parties: Parties, began: Tick, kept: Option<Kept>) -> Account {
        let worker = shard.worker;
        parties.each(|meters| {
            let cell = meters.cell(worker);
            cell.tunnels.add(1);
            cell.open_tunnels.add(1);
        });
        Account { parties, worker, began, kept, moved: Cell::default() }
    }

    /// So many octets have moved by now: from the client, and to it.
    pub fn moved(&self, up: u64, down: u64) {
        let [up_before, down_before] = self.moved.replace([up, down]);
        self.parties.each(|meters| {
            let cell = meters.cell(self.worker);
            cell.bytes_in.add(up.saturating_sub(up_before));
            cell.bytes_out.add(down.saturating_sub(down_before));
        });
    }

    /// The tunnel has ended; `fault` says why, unless both sides had finished.
    pub fn finish(self, shard: &Shard, fault: Option<Fault>) {
        if let Some(fault) = fault {
            shard.pulse.faults.add(fault);
        }
        let Some(kept) = &self.kept else { return };
        let [up, down] = self.moved.get();
        let mut record = kept.record();
        record.wall_micros = tick::wall_micros();
        record.bytes_in += up;
        record.bytes_out += down;
        record.body_in += up;
        record.body_out += down;
        record.total = Some(Tick::now().since(self.began));
        record.reason = fault.map(Fault::code);
        record.reason_text = fault.map(Fault::sentence);
        shard.record(&record);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.parties.each(|meters| meters.cell(self.worker).open_tunnels.sub(1));
    }
}

/// Counts and logs a connection that did not become a tunnel. `record` is what is known of it.
pub fn turned_away(
    shard: &Shard,
    listener: &Listener,
    others: &[&Meters],
    fault: Fault,
    record: Record<'_>,
) {
    for meters in others.iter().copied().chain([&*listener.meters]) {
        let cell = meters.cell(shard.worker);
        cell.faults.add(1);
        cell.bytes_in.add(record.bytes_in);
        cell.bytes_out.add(record.bytes_out);
    }
    shard.pulse.faults.add(fault);
    if shard.logs() {
        let (reason, reason_text) = (Some(fault.code()), Some(fault.sentence()));
        shard.record(&Record { reason, reason_text, ..record });
    }
}
