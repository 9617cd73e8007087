//! Looks after targets that were taken out: brings them back in time, and takes others out whose shares of failures, or whose
//! latencies, are worse than they should be.
//!
//! What is a failure, and who has failed too often in a row, workers see by themselves (`proxy::guard`); what was seen over an
//! interval is judged here (`protect::outlier`). Called by the loop of `service`, ten times a second.

use crate::base::{Rng, Tick};
use crate::protect::OutlierSettings;
use crate::protect::outlier::{Sums, judge};
use crate::snapshot::{Group, GroupLive, Snapshot, TargetLive};
use std::collections::HashMap;
use std::sync::Arc;

/// What was seen of groups when they were last looked at.
#[derive(Debug, Default)]
pub struct Guardian {
    generation: u64,
    // By what stays over reloads.
    groups: HashMap<*const GroupLive, Seen>,
    rng: Option<Rng>,
}

#[derive(Debug)]
struct Seen {
    // Its address is the key for as long as this is here.
    _live: Arc<GroupLive>,
    at: Tick,
    targets: HashMap<*const TargetLive, Sums>,
}

impl Guardian {
    /// Does what is due now.
    pub fn look(&mut self, snapshot: &Snapshot, now: Tick) {
        if self.generation != snapshot.generation {
            self.generation = snapshot.generation;
            let watched = |group: &&Arc<Group>| group.traffic.outlier.is_some();
            let kept: Vec<*const GroupLive> =
                snapshot.groups.iter().filter(watched).map(|g| Arc::as_ptr(&g.live)).collect();
            self.groups.retain(|key, _| kept.contains(key));
        }
        for group in &snapshot.groups {
            bring_back(group, now);
            if let Some(settings) = group.traffic.outlier.as_deref() {
                self.judge(group, settings, now);
            }
        }
    }

    fn judge(&mut self, group: &Group, settings: &OutlierSettings, now: Tick) {
        let rng = self.rng.get_or_insert_with(Rng::new);
        let key = Arc::as_ptr(&group.live);
        let Some(seen) = self.groups.get_mut(&key) else {
            let seen = Seen { _live: Arc::clone(&group.live), at: now, targets: sums(group) };
            self.groups.insert(key, seen);
            return;
        };
        if now.since(seen.at) < settings.interval {
            return;
        }
        let all = sums(group);
        let (mut places, mut since) = (Vec::new(), Vec::new());
        for (place, target) in group.targets.iter().enumerate() {
            let key = Arc::as_ptr(&target.live);
            let now = all.get(&key).copied().unwrap_or_default();
            // What it did before it was first looked at is not of this interval.
            let before = seen.targets.get(&key).copied().unwrap_or(now);
            let watch = &target.live.guard.watch;
            if !watch.is_out() {
                places.push(place);
                since.push(now.since(before));
                watch.forgive();
            }
        }
        (seen.at, seen.targets) = (now, all);
        for (at, reason) in judge(settings, &since) {
            let Some(place) = places.get(at).copied() else { continue };
            let lasts = group.eject(settings, place, reason, None, now, rng);
            let (Some(lasts), Some(target)) = (lasts, group.targets.get(place)) else { continue };
            tracing::warn!(
                group = &*group.name,
                target = &*target.live.name,
                reason = reason.code(),
                seconds = lasts.as_secs_f64(),
                "target taken out: {}",
                reason.sentence()
            );
        }
    }
}

fn bring_back(group: &Group, now: Tick) {
    group.restore(now, |target| {
        let (group, target) = (&*group.name, &*target.live.name);
        tracing::info!(group, target, "target taken back: its time is over");
    });
}

fn sums(group: &Group) -> HashMap<*const TargetLive, Sums> {
    let of = |target: &TargetLive| target.guard.watch.sums();
    group.targets.iter().map(|t| (Arc::as_ptr(&t.live), of(&t.live))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::protect::outlier::Reason;
    use crate::snapshot::compile::{Context, compile};
    use std::time::Duration;

    fn snapshot(group: &str, old: Option<&Snapshot>) -> Snapshot {
        in_zone("", group, old)
    }

    fn in_zone(zone: &str, group: &str, old: Option<&Snapshot>) -> Snapshot {
        let file = format!(
            "[server]\nzone = '{zone}'\n[[listener]]\nname = 'l'\nbind = '127.0.0.1:1'\ndefault = {{ forward = 'g' }}\n\
             [group.g]\nhealth = {{ type = 'off' }}\n{group}\n"
        );
        let config = config::parse(&file, "a.toml", &|_| None).unwrap_or_else(|p| panic!("{p}"));
        let generation = old.map_or(1, |old| old.generation + 1);
        compile(&config, Context { generation, workers: 2, old, resolve: &|_| Vec::new() }).unwrap()
    }

    const THREE: &str = "targets = ['127.0.0.1:2', '127.0.0.1:3', '127.0.0.1:4']";

    fn at(millis: u64) -> Tick {
        Tick::from_nanos(1_000_000_000 + millis * 1_000_000)
    }

    fn serve(snapshot: &Snapshot, place: usize, good: u32, bad: u32) {
        let watch = &snapshot.groups[0].targets[place].live.guard.watch;
        (0..bad).for_each(|n| _ = watch.bad(n as usize % 2, 2));
        (0..good).for_each(|n| watch.good(n as usize % 2, 2, Duration::from_millis(1)));
    }

    fn out(snapshot: &Snapshot) -> Vec<usize> {
        let targets = snapshot.groups[0].targets.iter().enumerate();
        targets.filter(|(_, t)| t.live.guard.watch.is_out()).map(|(at, _)| at).collect()
    }

    // Hazard UP-18: what two workers have seen counts together.
    #[test]
    fn who_fails_too_often_in_an_interval_is_out_until_its_time_is_over() {
        let snapshot =
            snapshot(&format!("{THREE}\noutlier = {{ interval = '1s', ejection = '5s' }}"), None);
        let mut guardian = Guardian::default();
        guardian.look(&snapshot, at(0));
        (0..2).for_each(|place| serve(&snapshot, place, 100, 0));
        serve(&snapshot, 2, 40, 60);
        guardian.look(&snapshot, at(900));
        assert_eq!(out(&snapshot), [] as [usize; 0], "the interval is not over");
        let version = snapshot.groups[0].live.version.load(std::sync::atomic::Ordering::Relaxed);
        guardian.look(&snapshot, at(1000));
        assert_eq!(out(&snapshot), [2]);
        let live = &snapshot.groups[0].live;
        assert!(live.version.load(std::sync::atomic::Ordering::Relaxed) > version);
        let watch = &snapshot.groups[0].targets[2].live.guard.watch;
        assert_eq!(watch.ejections(Reason::FailureShare), 1);
        guardian.look(&snapshot, at(5900));
        assert_eq!(out(&snapshot), [2]);
        // A tenth more by chance.
        guardian.look(&snapshot, at(6600));
        assert_eq!(out(&snapshot), [] as [usize; 0]);
        // What it did before does not count again.
        guardian.look(&snapshot, at(7700));
        assert_eq!((out(&snapshot).len(), watch.times()), (0, 0), "and its past is forgiven");
    }

    // Hazard UP-10: never more than the file says, never the last one.
    #[test]
    fn no_more_are_out_than_may_be() {
        for (targets, share, most) in [
            (THREE, "50%", 1),
            (THREE, "70%", 2),
            (THREE, "100%", 2),
            ("targets = ['127.0.0.1:2']", "100%", 0),
        ] {
            let outlier = format!("outlier = {{ interval = '1s', max_ejected = '{share}' }}");
            let snapshot = snapshot(&format!("{targets}\n{outlier}"), None);
            let mut guardian = Guardian::default();
            guardian.look(&snapshot, at(0));
            for place in 0..snapshot.groups[0].targets.len() {
                serve(&snapshot, place, 0, 100);
            }
            guardian.look(&snapshot, at(1000));
            assert_eq!(out(&snapshot).len(), most, "{share} of {targets}");
        }
    }

    #[test]
    fn who_takes_no_requests_of_this_zone_is_no_other() {
        let targets = "targets = [{ address = '127.0.0.1:2', zone = 'a' }, { address = '127.0.0.1:3', zone = 'b' }]";
        let mut rng = Rng::with_seed(1);
        for (zones, may) in [("only", false), ("prefer", true), ("off", true)] {
            let group = format!("{targets}\nzones = '{zones}'\noutlier = true");
            let snapshot = in_zone("a", &group, None);
            let group = &snapshot.groups[0];
            let settings = group.traffic.outlier.as_deref().unwrap();
            let lasts = group.eject(settings, 0, Reason::Slow, None, at(0), &mut rng);
            assert_eq!(lasts.is_some(), may, "{zones}");
        }
    }

    // However two that take out one too many together interleave: a plan that was made meanwhile is made anew.
    #[test]
    fn whatever_is_taken_out_or_back_is_planned_anew() {
        let snapshot = snapshot(&format!("{THREE}\noutlier = {{ max_ejected = '34%' }}"), None);
        let group = &snapshot.groups[0];
        let settings = group.traffic.outlier.as_deref().unwrap();
        let version = || group.live.version.load(std::sync::atomic::Ordering::Acquire);
        let start = std::sync::Barrier::new(2);
        for round in 0..5000 {
            let before = version();
            std::thread::scope(|scope| {
                for place in 0..2 {
                    let start = &start;
                    scope.spawn(move || {
                        let mut rng = Rng::with_seed(round);
                        start.wait();
                        group.eject(settings, place, Reason::RetryAfter, None, at(0), &mut rng)
                    });
                }
            });
            assert!(out(&snapshot).len() <= 1);
            assert!(version() > before, "round {round}");
            group.restore(at(1_000_000), |_| {});
        }
    }

    #[test]
    fn the_last_one_whose_health_is_good_stays() {
        use crate::health::State;
        let snapshot = snapshot(&format!("{THREE}\noutlier = {{ max_ejected = '100%' }}"), None);
        let group = &snapshot.groups[0];
        (0..2).for_each(|place| group.targets[place].live.set_health(State::Unhealthy));
        let settings = group.traffic.outlier.as_deref().unwrap();
        let mut rng = Rng::with_seed(1);
        assert!(group.eject(settings, 2, Reason::Slow, None, at(0), &mut rng).is_none());
        group.targets[0].live.set_health(State::Healthy);
        assert!(group.eject(settings, 2, Reason::Slow, None, at(0), &mut rng).is_some());
        assert_eq!(group.targets[2].live.state(), State::Unhealthy);
        assert_eq!(group.targets[2].live.health(), State::Unavailable);
    }

    #[test]
    fn a_reload_keeps_who_is_out_unless_nothing_watches_any_more() {
        let watched = format!("{THREE}\noutlier = true");
        let first = snapshot(&watched, None);
        let group = &first.groups[0];
        let settings = group.traffic.outlier.as_deref().unwrap();
        let mut rng = Rng::with_seed(1);
        assert!(group.eject(settings, 1, Reason::Consecutive, None, at(0), &mut rng).is_some());
        let mut guardian = Guardian::default();
        let second = snapshot(&watched, Some(&first));
        guardian.look(&second, at(100));
        assert_eq!(out(&second), [1]);
        let third = snapshot(THREE, Some(&second));
        guardian.look(&third, at(200));
        assert_eq!(out(&third), [] as [usize; 0]);
        assert!(guardian.groups.is_empty());
    }
}
