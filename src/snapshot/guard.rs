//! Takes targets of a group out and back: no more of them at the same time than the file says, and never the last one.
//!
//! Called by workers, who count failures in a row, and by control, which looks at shares and at the time. Whoever has taken one
//! out logs it; nobody waits for another: of two that take out one too many together, each takes it back.

use crate::balance::Zones;
use crate::base::{Rng, Tick};
use crate::health;
use crate::protect::outlier::{OutlierSettings, Reason};
use crate::snapshot::{Group, Target};
use std::sync::atomic::Ordering;
use std::time::Duration;

impl Group {
    /// Takes out the target at `place`; for how long, if it was. `lasts` is left out where it follows from how often it was
    /// out lately.
    pub fn eject(
        &self,
        settings: &OutlierSettings,
        place: usize,
        reason: Reason,
        lasts: Option<Duration>,
        now: Tick,
        rng: &mut Rng,
    ) -> Option<Duration> {
        let watch = &self.targets.get(place)?.live.guard.watch;
        if watch.is_out() || !self.leaves_others(settings, place) {
            return None;
        }
        let lasts = lasts.unwrap_or_else(|| settings.lasts(watch.times(), rng));
        if !watch.eject(reason, now, now.after(lasts)) {
            return None;
        }
        if !self.leaves_others(settings, place) {
            watch.undo();
            // Whoever has planned meanwhile has seen it out.
            self.live.version.fetch_add(1, Ordering::Release);
            return None;
        }
        watch.count(reason);
        self.live.version.fetch_add(1, Ordering::Release);
        Some(lasts)
    }

    /// Takes back those whose time has come, or all that are out where nothing says any more that they should be; what is
    /// called for each.
    pub fn restore(&self, now: Tick, mut each: impl FnMut(&Target)) {
        let settings = self.traffic.outlier.as_deref();
        for target in &self.targets {
            let watch = &target.live.guard.watch;
            let Some(out) = watch.out() else { continue };
            if out.until > now && settings.is_some() {
                continue;
            }
            target.live.returned(now);
            watch.restore(settings.and_then(|settings| settings.consecutive));
            self.live.version.fetch_add(1, Ordering::Release);
            each(target);
        }
    }

    /// Targets that are out.
    pub fn ejected(&self) -> usize {
        self.targets.iter().filter(|target| target.live.guard.watch.is_out()).count()
    }

    // Whether, with the one at `place` out, no more are than may be, and another is left to take its requests.
    fn leaves_others(&self, settings: &OutlierSettings, place: usize) -> bool {
        let (mut out, mut left) = (1, 0);
        for (_, target) in self.targets.iter().enumerate().filter(|(at, _)| *at != place) {
            if target.live.guard.watch.is_out() {
                out += 1;
            } else if self.is_of_use(target) {
                left += 1;
            }
        }
        left > 0 && out <= settings.most_of(self.targets.len())
    }

    fn is_of_use(&self, target: &Target) -> bool {
        let in_reach = target.local || self.traffic.balance.zones != Zones::Only;
        in_reach && target.weight > 0 && health::usable(target.live.health())
    }
}
