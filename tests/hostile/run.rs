//! One ringgate before several origins, all inputs through it in batches, and the sum of what was found.

use super::drive::{self, Case};
use super::judge::{Evidence, Finding, Kind, Lane, Record, judge};
use super::origins::{MORE, NEEDED, Seen, Server};
use super::{Hidden, Template, generate};
use crate::support::{Ringgate, free_address, get};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What a run did and found.
pub struct Report {
    pub inputs: usize,
    pub exchanges: usize,
    pub origins: Vec<&'static str>,
    pub requests: usize,
    pub forwarded: usize,
    pub findings: Vec<Finding>,
    pub took: Duration,
}

impl Report {
    pub fn count(&self, kind: Kind) -> usize {
        self.findings.iter().filter(|f| f.kind == kind).count()
    }

    /// One line for a table.
    pub fn line(&self) -> String {
        format!(
            "{} inputs x {} origins ({}): {} smuggled, {} crashes, {} desynchronised, {} hung, {} unaccounted; {} requests, {} forwarded, {:.0} s",
            self.inputs,
            self.origins.len(),
            self.origins.join(" "),
            self.count(Kind::Smuggled),
            self.count(Kind::Crashed),
            self.count(Kind::Desynchronised),
            self.count(Kind::Hung),
            self.count(Kind::Unaccounted),
            self.requests,
            self.forwarded,
            self.took.as_secs_f64(),
        )
    }
}

/// What a run is made of.
pub struct Plan {
    pub seed: u64,
    pub inputs: usize,
    /// Whether to take the origins that need not be installed, where they are.
    pub all_origins: bool,
    /// `desync` of the listeners. In another mode than strict a hidden request may be a request, but a logged one.
    pub mode: &'static str,
    /// Inputs judged together.
    pub batch: usize,
}

/// A file that only grows, read on from where the last look ended.
struct Tail {
    path: PathBuf,
    offset: usize,
}

impl Tail {
    fn lines(&mut self) -> Vec<String> {
        let all = std::fs::read(&self.path).unwrap_or_default();
        let fresh = all.get(self.offset..).unwrap_or_default();
        let end = fresh.iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
        self.offset += end;
        String::from_utf8_lossy(&fresh[..end]).lines().map(str::to_owned).collect()
    }
}

pub fn run(plan: &Plan) -> Report {
    let began = Instant::now();
    let mut templates = generate(plan.seed, plan.inputs);
    if plan.mode != "strict" {
        templates.iter_mut().for_each(|template| template.hidden = Hidden::Perhaps);
    }
    let names = NEEDED.iter().chain(if plan.all_origins { &MORE[..] } else { &[] });
    let mut servers: Vec<Server> = names.filter_map(|name| Server::start(name)).collect();
    let addresses: Vec<SocketAddr> = servers.iter().map(|_| free_address()).collect();
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("access.json");
    let mut ringgate = Ringgate::start_in(
        dir,
        &config(&servers, &addresses, &log.display().to_string(), plan.mode),
    );
    let mut report = Report {
        inputs: templates.len(),
        exchanges: 0,
        origins: servers.iter().map(|s| s.name).collect(),
        requests: 0,
        forwarded: 0,
        findings: Vec::new(),
        took: Duration::ZERO,
    };
    let mut accounts = Accounts {
        log: Tail { path: log, offset: 0 },
        origins: servers.iter().map(|s| Tail { path: s.log.clone(), offset: 0 }).collect(),
    };
    let lanes: Vec<Lane> =
        servers.iter().map(|s| Lane { name: s.name.to_owned(), echoes: s.echoes }).collect();
    for (number, batch) in templates.chunks(plan.batch).enumerate() {
        let first = number * plan.batch;
        let cases = drive::send(batch, first, &addresses, plan.seed);
        let (records, seen) = accounts.settle(&cases, &lanes);
        let evidence = Evidence {
            templates: batch,
            first,
            cases: &cases,
            records: &records,
            lanes: &lanes,
            seen: &seen,
        };
        report.findings.extend(judge(&evidence));
        report.exchanges += cases.len();
        report.requests += records.len();
        report.forwarded += records.iter().filter(|r| r.target_status.is_some()).count();
        control(&mut ringgate, &mut servers, &addresses, &mut report.findings);
        let _ = accounts.settle(&[], &lanes);
    }
    report.took = began.elapsed();
    report
}

struct Accounts {
    log: Tail,
    origins: Vec<Tail>,
}

impl Accounts {
    /// Everything that was logged since the last look, once nothing more comes and every forwarded request has been
    /// seen; servers write their logs when they like.
    fn settle(&mut self, cases: &[Case], lanes: &[Lane]) -> (Vec<Record>, Vec<Vec<Seen>>) {
        let mut records: Vec<Record> = Vec::new();
        let mut seen: Vec<Vec<Seen>> = vec![Vec::new(); self.origins.len()];
        let deadline = Instant::now() + Duration::from_secs(12);
        let least = cases.iter().filter(|c| !c.received.is_empty()).count();
        loop {
            let mut fresh = 0;
            for line in self.log.lines() {
                records.push(
                    serde_json::from_str(&line)
                        .unwrap_or_else(|e| panic!("{e} in the access log: {line}")),
                );
                fresh += 1;
            }
            for (tail, seen) in self.origins.iter_mut().zip(&mut seen) {
                let lines = tail.lines();
                fresh += lines.len();
                seen.extend(lines.iter().filter_map(|line| super::origins::line(line)));
            }
            let whole = records.len() >= least && all_seen(&records, lanes, &seen);
            if (fresh == 0 && whole) || Instant::now() > deadline {
                return (records, seen);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

fn all_seen(records: &[Record], lanes: &[Lane], seen: &[Vec<Seen>]) -> bool {
    lanes.iter().zip(seen).all(|(lane, seen)| {
        let ids: std::collections::HashSet<&str> = seen.iter().map(|s| s.id.as_str()).collect();
        let mine = records.iter().filter(|r| r.listener == lane.name);
        let missing = mine
            .filter(|r| r.target_status.is_some() && !ids.contains(r.request_id.as_str()))
            .count();
        let unread = seen.iter().filter(|s| matches!(s.id.as_str(), "-" | "")).count();
        missing <= unread
    })
}

/// Between batches: everything lives, nothing panicked, and a plain request is answered as ever.
fn control(
    ringgate: &mut Ringgate,
    servers: &mut [Server],
    addresses: &[SocketAddr],
    findings: &mut Vec<Finding>,
) {
    let mut bad = |lane: usize, text: String| {
        findings.push(Finding { kind: Kind::Crashed, number: usize::MAX, lane, text });
    };
    ringgate.assert_alive();
    for metric in [
        "ringgate_task_panics_total",
        "ringgate_worker_restarts_total",
        "ringgate_log_dropped_records_total",
    ] {
        let value = ringgate.metric(metric);
        if value != Some(0.0) {
            bad(usize::MAX, format!("{metric} is {value:?}\n{}", ringgate.output()));
        }
    }
    let internal = ringgate.metric("ringgate_faults_total{reason=\"internal\"}").unwrap_or(0.0);
    if internal > 0.0 {
        bad(usize::MAX, format!("{internal} internal errors"));
    }
    for (lane, (server, address)) in servers.iter_mut().zip(addresses).enumerate() {
        if !server.alive() {
            bad(lane, format!("{} has ended", server.name));
            continue;
        }
        let answer = get(*address, "/control");
        let right = answer.status() == 200 && answer.text() == "seen";
        if !right {
            bad(lane, format!("{} answers the control request with {:?}", server.name, answer));
        }
    }
}

/// One listener for each origin, so that no part of an input decides where it goes.
fn config(servers: &[Server], addresses: &[SocketAddr], log: &str, mode: &str) -> String {
    let mut text = format!(
        "[timeouts]\nheader = \"1s\"\nbody = \"1s\"\nkeep_alive = \"2s\"\nresponse = \"5s\"\n\n[log]\naccess = \"{log}\"\nformat = \"json\"\n"
    );
    for (server, address) in servers.iter().zip(addresses) {
        let (name, target) = (server.name, server.address);
        write!(
            text,
            "\n[[listener]]\nname = \"{name}\"\nbind = [\"{address}\"]\ndesync = \"{mode}\"\nhttp2 = false\ndefault = {{ forward = \"{name}\" }}\n\n\
             [[rule]]\nname = \"limited-{name}\"\nlistener = [\"{name}\"]\nforward = \"{name}\"\n[rule.when]\npath = [\"/limited/*\"]\n[rule.limits]\nbody = \"10B\"\n\n\
             [group.{name}]\ntargets = [\"{target}\"]\nhealth = {{ type = \"off\" }}\npool = {{ idle_timeout = \"2s\" }}\n"
        )
        .unwrap();
    }
    text + "\n[[rule]]\nname = \"local\"\nrespond = { status = 200, body = \"local\" }\n[rule.when]\npath = [\"/local/*\"]\n\n\
            [[rule]]\nname = \"moved\"\nredirect = { path = \"/elsewhere/#{path}\", status = 301 }\n[rule.when]\npath = [\"/moved/*\"]\n"
}

/// The findings, a few of each kind, with what was sent.
pub fn explain(report: &Report, plan: &Plan) -> String {
    let templates: Vec<Template> = generate(plan.seed, plan.inputs);
    let mut by_kind: BTreeMap<(Kind, String), Vec<&Finding>> = BTreeMap::new();
    for finding in &report.findings {
        let family = templates.get(finding.number).map_or("-", |t| t.family);
        by_kind.entry((finding.kind, family.to_owned())).or_default().push(finding);
    }
    let mut text = format!("seed {}\n", plan.seed);
    for ((kind, family), findings) in by_kind {
        writeln!(text, "== {kind:?} in {family}: {}", findings.len()).unwrap();
        for finding in findings.iter().take(4) {
            let lane = report.origins.get(finding.lane).unwrap_or(&"-");
            writeln!(text, "-- to {lane}, input {}: {}", finding.number, finding.text).unwrap();
            if let Some(template) = templates.get(finding.number) {
                let bytes = template.with_token(finding.number);
                writeln!(text, "   {:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(600)]))
                    .unwrap();
            }
        }
    }
    text
}
