//! What the admin endpoints show, gathered from the snapshot, the workers' pulses and the health trackers.

use crate::admin::{
    AcmeStat, AggregateStat, CacheStat, CodingStat, Scrape, Source, StreamStat, TargetStat,
    TlsStat, UsageStat, WorkerStat,
};
use crate::base::{Tick, tick};
use crate::config::Config;
use crate::control::watch::Healths;
use crate::control::{acme, answers, explain, guards, jwks, ledger};
use crate::http::Fault;
use crate::http::desync::Reason;
use crate::http::grpc;
use crate::http::path::PathPolicy;
use crate::observe::LogHandle;
use crate::protect::Importance;
use crate::shard::{HandshakeCounts, Pulse, Seat, Unmapped, handshakes};
use crate::snapshot::mirrors::MirrorTotals;
use crate::snapshot::{self, Snapshot};
use crate::store::{Purge, Purged, Store};
use crate::tls::facts::CIPHERS;
use crate::tls::{self, Certificate};
use crate::transform::compress::Coding;
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// What control shares with the admin endpoints.
#[derive(Debug)]
pub struct Shared {
    /// The configuration in use.
    pub current: ArcSwap<Snapshot>,
    /// As it is written.
    pub config: ArcSwap<Config>,
    /// By the numbers of workers; some are vacant.
    pub pulses: Vec<Arc<Pulse>>,
    /// What is known of names that certificates are obtained for.
    pub acme: acme::Known,
    /// What policies have asked.
    pub answers: Arc<answers::Stats>,
    /// What the probes know.
    pub healths: Healths,
    /// What is known of the usage ledger.
    pub usage: Arc<ledger::Stat>,
    /// Stored responses.
    pub store: Arc<Store>,
    /// The access log.
    pub log: LogHandle,
    /// The driver's name.
    pub driver: &'static str,
    /// Seconds since 1970.
    pub started_unix: u64,
    /// Changes of certificates that were taken up.
    pub takings_ok: AtomicU64,
    /// Changes of certificates that were of no use.
    pub takings_failed: AtomicU64,
    /// Reloads that were accepted.
    pub reloads_ok: AtomicU64,
    /// Reloads that were refused.
    pub reloads_failed: AtomicU64,
    /// Whether the last one was accepted.
    pub last_reload_ok: AtomicBool,
    /// When that was.
    pub last_reload_unix: AtomicU64,
    /// Workers that were replaced.
    pub worker_restarts: AtomicU64,
    /// Client connections that are taken at most.
    pub max_connections: AtomicU64,
    /// Whether the process is stopping.
    pub stopping: AtomicBool,
}

// A worker whose sweep has not run for this long is not counted as alive.
const ALIVE_WITHIN: Duration = Duration::from_secs(1);

impl Shared {
    // Those that are there, and those that were and have counted something.
    fn workers(&self) -> Vec<WorkerStat> {
        let stat = |(id, pulse): (usize, &Arc<Pulse>)| WorkerStat {
            id,
            gone: pulse.seat.get() == Seat::Vacant,
            alive: pulse.seat.get() != Seat::Dead && silence(pulse) < ALIVE_WITHIN,
            connections: pulse.connections.load(Ordering::Relaxed),
            busy: pulse.busy.load(Ordering::Relaxed),
            handed_over: pulse.handed_over.load(Ordering::Relaxed),
            requests: pulse.requests.load(Ordering::Relaxed),
        };
        let seen = |w: &WorkerStat| !w.gone || w.requests > 0;
        self.pulses.iter().enumerate().map(stat).filter(seen).collect()
    }

    // Why a worker does not serve; `None` if it does.
    fn missing(&self, id: usize, pulse: &Pulse, generation: u64) -> Option<String> {
        match pulse.seat.get() {
            Seat::Vacant | Seat::Retired => return None,
            Seat::Dead => return Some(format!("worker {id} died and is started again")),
            Seat::Serving => {}
        }
        let silence = silence(pulse);
        if pulse.stuck.load(Ordering::Relaxed) {
            return Some(format!("worker {id} is stuck, without a sign of life for {silence:.1?}"));
        }
        if silence >= ALIVE_WITHIN {
            return Some(format!("worker {id} gives no sign of life"));
        }
        if !pulse.accepting.load(Ordering::Relaxed) {
            return Some(format!("worker {id} does not accept connections yet"));
        }
        (pulse.generation.load(Ordering::Relaxed) != generation)
            .then(|| format!("worker {id} has not taken up configuration {generation} yet"))
    }

    fn targets(&self, snapshot: &Snapshot) -> Vec<TargetStat> {
        let now = Tick::now();
        let mut stats = Vec::new();
        for group in &snapshot.groups {
            for target in &group.targets {
                let known = self.healths.of(&group.name, &target.live.name);
                let state = known.as_ref().map_or(target.live.health(), |t| t.state());
                let totals = target.live.meters.sum();
                stats.push(TargetStat {
                    group: group.name.to_string(),
                    target: target.live.name.to_string(),
                    zone: target.zone.clone(),
                    weight: target.weight,
                    state: state.name(),
                    reason: known.as_ref().and_then(|t| t.reason()).map(|r| r.code().to_owned()),
                    description: known
                        .as_ref()
                        .and_then(|t| t.reason())
                        .map(|r| r.sentence().to_owned()),
                    last_error: known.as_ref().and_then(|t| t.last_error()).map(str::to_owned),
                    since_seconds: known.as_ref().map_or(0, |t| now.since(t.since()).as_secs()),
                    idle_connections: totals.idle,
                    out: guards::out(&target.live, now),
                    ejections: guards::ejections(group, &target.live),
                    in_flight: guards::in_flight(group, &target.live),
                    opened: guards::opened(group, &target.live),
                    totals,
                });
            }
        }
        stats
    }
}

impl Shared {
    fn tls(&self, snapshot: &Snapshot) -> TlsStat {
        let sum = |count: &dyn Fn(&HandshakeCounts) -> u64| -> u64 {
            self.pulses.iter().map(|p| count(&p.handshakes)).sum()
        };
        let secure = |l: &'_ snapshot::Listener| l.secure.as_ref().map(|s| Arc::clone(&s.terms));
        let terms = snapshot.listeners.iter().filter_map(|l| Some((l, secure(l)?)));
        let certificates = terms.flat_map(|(listener, terms)| {
            let name = listener.name.to_string();
            let of = |c: &Arc<Certificate>| {
                let ends = u64::try_from(c.not_after).unwrap_or(0);
                (name.clone(), c.label.to_string(), ends)
            };
            terms.certificates.iter().map(of).collect::<Vec<_>>()
        });
        // Nothing is said of TLS where there is none.
        let certificates: Vec<_> = certificates.collect();
        let versions = handshakes::VERSIONS.iter().enumerate().filter(|_| !certificates.is_empty());
        let handshakes = versions.flat_map(|(at, version)| {
            [false, true].map(|again| (*version, again, sum(&|h| h.complete(at, again))))
        });
        let failures = tls::Reason::ALL.iter().map(|r| (r.code(), sum(&|h| h.failed(*r))));
        let ciphers = CIPHERS.iter().enumerate().map(|(at, c)| (*c, sum(&|h| h.with_cipher(at))));
        let protocols = handshakes::PROTOCOLS.iter().enumerate();
        let protocols = protocols.map(|(at, p)| (*p, sum(&|h| h.with_protocol(at))));
        TlsStat {
            handshakes: handshakes.collect(),
            ciphers: ciphers.filter(|(_, count)| *count > 0).collect(),
            protocols: protocols.filter(|(_, count)| *count > 0).collect(),
            failures: failures.filter(|(_, count)| *count > 0).collect(),
            certificates,
        }
    }
}

impl Shared {
    fn cache(&self, snapshot: &Snapshot) -> CacheStat {
        let storing = snapshot.rules.iter().filter_map(|rule| {
            let caching = rule.traffic.cache.as_deref()?;
            Some((rule.name.to_string(), caching.meters.sum()))
        });
        CacheStat { store: self.store.stat(), rules: storing.collect() }
    }
}

impl Source for Shared {
    fn scrape(&self) -> Scrape {
        let snapshot = self.current.load_full();
        let log = self.log.stats();
        let sum = |count: &dyn Fn(&Pulse) -> u64| self.pulses.iter().map(|p| count(p)).sum::<u64>();
        let deviations = Reason::ALL
            .iter()
            .map(|r| (r.class().name(), r.name(), sum(&|p| p.deviations.value(*r))));
        let faults = Fault::ALL.iter().map(|f| (f.code(), sum(&|p| p.faults.value(*f))));
        let calls = grpc::STATUSES.iter().enumerate();
        let calls = calls.map(|(at, name)| (*name, sum(&|p| p.calls.value(at))));
        let unmapped =
            Unmapped::ALL.iter().map(|why| (why.name(), sum(&|p| p.unmapped.value(*why))));
        Scrape {
            version: env!("CARGO_PKG_VERSION"),
            driver: self.driver,
            generation: snapshot.generation,
            started_unix: self.started_unix,
            workers: self.workers(),
            listeners: snapshot
                .listeners
                .iter()
                .map(|l| (l.name.to_string(), l.meters.sum()))
                .collect(),
            rules: snapshot.rules.iter().map(|r| (r.name.to_string(), r.meters.sum())).collect(),
            groups: snapshot
                .groups
                .iter()
                .map(|g| (g.name.to_string(), g.live.meters.sum()))
                .collect(),
            targets: self.targets(&snapshot),
            guards: guards::stats(&snapshot, Tick::now()),
            shed: Importance::ALL.map(|i| (i.name(), sum(&|p| p.shed.value(i)))).to_vec(),
            takings_ok: self.takings_ok.load(Ordering::Relaxed),
            takings_failed: self.takings_failed.load(Ordering::Relaxed),
            reloads_ok: self.reloads_ok.load(Ordering::Relaxed),
            reloads_failed: self.reloads_failed.load(Ordering::Relaxed),
            last_reload_ok: self.last_reload_ok.load(Ordering::Relaxed),
            last_reload_unix: self.last_reload_unix.load(Ordering::Relaxed),
            log_dropped: log.dropped_records,
            log_written_bytes: log.written_bytes,
            task_panics: sum(&|p| p.panics.load(Ordering::Relaxed)),
            worker_restarts: self.worker_restarts.load(Ordering::Relaxed),
            tls: self.tls(&snapshot),
            streams: StreamStat {
                connections: sum(&|p| p.streams.connections.value()),
                begun: sum(&|p| p.streams.begun.value()),
                open: sum(&|p| p.streams.open.value()),
                cancelled: sum(&|p| p.streams.cancelled.value()),
            },
            policies: snapshot
                .policies
                .iter()
                .map(|p| (p.name.to_string(), p.meters.sum()))
                .collect(),
            mirrors: snapshot.rules.iter().filter_map(|rule| mirror(&snapshot, rule)).collect(),
            aggregates: aggregates(&snapshot),
            injected: snapshot.rules.iter().flat_map(injected).collect(),
            asks: self.answers.counts(),
            codings: CodingStat {
                encoded: Coding::ALL
                    .iter()
                    .map(|coding| (coding.name(), sum(&|p| p.codings.value(*coding))))
                    .filter(|(_, count)| *count > 0)
                    .collect(),
                decoded: sum(&|p| p.codings.decoded.load(Ordering::Relaxed)),
                declined: sum(&|p| p.codings.declined.load(Ordering::Relaxed)),
                octets_in: sum(&|p| p.codings.octets_in.load(Ordering::Relaxed)),
                octets_out: sum(&|p| p.codings.octets_out.load(Ordering::Relaxed)),
            },
            jwks: jwks::stats(&snapshot),
            usage: usage_stat(&self.usage),
            cache: self.cache(&snapshot),
            acme: self.acme.all().into_iter().map(acme_stat).collect(),
            deviations: deviations.filter(|(_, _, count)| *count > 0).collect(),
            workers_stuck: sum(&|p| u64::from(p.stuck.load(Ordering::Relaxed))),
            max_connections: self.max_connections.load(Ordering::Relaxed),
            calls: calls.filter(|(_, count)| *count > 0).collect(),
            unmapped: unmapped.filter(|(_, count)| *count > 0).collect(),
            faults: faults.filter(|(_, count)| *count > 0).collect(),
        }
    }

    fn explain(&self, question: &[u8], json: bool) -> Result<String, String> {
        explain::live(&self.config.load(), &self.current.load(), question, json)
    }

    fn ready(&self) -> Result<(), String> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err("stopping".to_owned());
        }
        let generation = self.current.load().generation;
        let pulses = self.pulses.iter().enumerate();
        let missing = pulses.filter_map(|(id, pulse)| self.missing(id, pulse, generation));
        let missing: Vec<String> = missing.collect();
        if missing.is_empty() { Ok(()) } else { Err(missing.join("\n")) }
    }

    fn paths(&self) -> PathPolicy {
        self.config.load().server.paths
    }

    fn purge(&self, purge: &Purge) -> Purged {
        let purged = self.store.purge(purge, Tick::now());
        tracing::info!(
            ?purge,
            removed = purged.removed,
            stale = purged.stale,
            "stored responses purged"
        );
        purged
    }
}

fn mirror(snapshot: &Snapshot, rule: &snapshot::Rule) -> Option<(String, String, MirrorTotals)> {
    let mirror = rule.traffic.mirror.as_ref()?;
    let group = snapshot.groups.get(mirror.group)?;
    Some((rule.name.to_string(), group.name.to_string(), mirror.live.sum()))
}

fn aggregates(snapshot: &Snapshot) -> Vec<AggregateStat> {
    let rules = snapshot.rules.iter().map(|rule| (&*rule.name, "", &rule.action));
    let listeners = snapshot.listeners.iter().map(|l| ("", &*l.name, &l.default));
    let stat = |(rule, listener, action): (&str, &str, &snapshot::Action)| {
        let snapshot::Action::Aggregate(aggregate) = action else { return None };
        let live = &aggregate.live;
        let value = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let missing = aggregate.settings.parts.iter().zip(&live.missing);
        Some(AggregateStat {
            rule: rule.to_owned(),
            listener: listener.to_owned(),
            answers: [("whole", &live.whole), ("partial", &live.partial), ("failed", &live.failed)]
                .map(|(result, count)| (result, value(count)))
                .to_vec(),
            missing: missing.map(|(part, count)| (part.name.clone(), value(count))).collect(),
        })
    };
    rules.chain(listeners).filter_map(stat).collect()
}

fn injected(rule: &snapshot::Rule) -> Vec<(String, &'static str, u64)> {
    let Some(inject) = &rule.traffic.inject else { return Vec::new() };
    let counts = [
        ("delay", &inject.live.delayed),
        ("abort", &inject.live.aborted),
        ("reset", &inject.live.reset),
    ];
    let named = |(kind, count): (&'static str, &AtomicU64)| {
        (rule.name.to_string(), kind, count.load(Ordering::Relaxed))
    };
    counts.map(named).to_vec()
}

fn acme_stat((name, known): (String, acme::Progress)) -> AcmeStat {
    AcmeStat {
        name,
        last_success_unix: known.last_success,
        not_after_unix: known.not_after,
        successes: known.successes,
        failures: known.failures,
    }
}

fn usage_stat(stat: &ledger::Stat) -> Option<UsageStat> {
    let value = |of: &AtomicU64| of.load(Ordering::Relaxed);
    stat.used.load(Ordering::Relaxed).then(|| UsageStat {
        written: value(&stat.written),
        failed: value(&stat.failed),
        unwritten: value(&stat.unwritten),
        octets: value(&stat.octets),
        flushed_unix: value(&stat.flushed_unix),
    })
}

fn silence(pulse: &Pulse) -> Duration {
    Tick::now().since(Tick::from_nanos(pulse.beat.load(Ordering::Relaxed)))
}

/// Seconds since 1970.
pub fn unix_now() -> u64 {
    tick::wall_micros() / 1_000_000
}
