//! Floods that keep within one machine's means, and what others feel beside them.
//!
//! Each flood opens connections at a steady pace and sends on each as much as is taken: what ringgate lets through of it,
//! what a connection costs, and the 99th percentile of requests that have nothing to do with it.

use crate::attacks::{Sent, Site};
use crate::clients::{latency, median};
use crate::frames::attack;
use crate::hostile::origins::Server;
use crate::process::{cpu_ns, forget_peak, mib, peak, resident};
use crate::support::{Ringgate, free_address};
use crate::tls::Certificate;
use crate::{Options, Row};
use std::net::SocketAddr;
use std::time::Duration;

/// Requests a second of the others.
const RATE: u32 = 1000;

struct Flood {
    name: &'static str,
    /// New connections a second.
    pace: u32,
    /// The most requests that one connection may have answered or forwarded.
    requests: Option<f64>,
}

const FLOODS: &[Flood] = &[
    Flood { name: "ClientHello, then nothing", pace: 500, requests: None },
    Flood { name: "rapid reset", pace: 50, requests: Some(200.0) },
    Flood { name: "made to reset", pace: 50, requests: Some(600.0) },
    Flood { name: "CONTINUATION without end", pace: 50, requests: Some(0.0) },
    Flood { name: "HPACK references", pace: 50, requests: Some(100.0) },
    Flood { name: "PING flood", pace: 50, requests: None },
];

pub fn measure(options: &Options) -> Vec<Row> {
    let origin = Server::start("nginx").expect("nginx is needed");
    let (others, web, tls) = (free_address(), free_address(), free_address());
    let certificate = Certificate::make("a.test");
    let ringgate = Ringgate::start(&format!(
        "{}{}{}[group.all]\ntargets = [\"{}\"]\nhealth = {{ type = \"off\" }}\n",
        listener("others", others, ""),
        listener("web", web, ""),
        listener("tls", tls, &certificate.listener()),
        origin.address
    ));
    let (rounds, secs) = options.of((3, 4), (1, 2));
    let site = Site {
        web,
        tls,
        flood: web,
        flood_octets: 0,
        time: Duration::from_secs(u64::from(secs)) + Duration::from_millis(500),
    };
    latency(options, others, RATE, secs);
    let before = cpu_ns(&ringgate);
    let calm: Vec<f64> = (0..rounds).map(|_| latency(options, others, RATE, secs).0).collect();
    let base = (cpu_ns(&ringgate) - before) as f64 / f64::from(rounds);
    let around = Around { options, ringgate: &ringgate, others, site, rounds, secs, base };
    let calm = median(calm);
    FLOODS.iter().flat_map(|flood| beside(&around, flood, calm)).collect()
}

struct Around<'a> {
    options: &'a Options,
    ringgate: &'a Ringgate,
    others: SocketAddr,
    site: Site,
    rounds: u32,
    secs: u32,
    /// CPU nanoseconds of one round without a flood.
    base: f64,
}

fn beside(around: &Around<'_>, flood: &Flood, calm: f64) -> Vec<Row> {
    let run = attack(flood.name);
    let ringgate = around.ringgate;
    forget_peak(ringgate);
    let memory = resident(ringgate);
    let requests = || ringgate.sum("ringgate_worker_requests_total", &[]);
    let (mut p99, mut failed, mut used, mut served) = (Vec::new(), 0, 0.0, 0.0);
    let (mut connections, mut note) = (0, String::new());
    for _ in 0..around.rounds {
        let (cpu, count) = (cpu_ns(ringgate), requests());
        let mut sent = Sent { gap: Duration::from_secs(1) / flood.pace, ..Sent::default() };
        let (us, lost) = std::thread::scope(|scope| {
            let attacker = scope.spawn(|| run(&around.site, &mut sent));
            let felt = latency(around.options, around.others, RATE, around.secs);
            if let Ok(Err(error)) = attacker.join() {
                note = format!(" ({error})");
            }
            felt
        });
        p99.push(us);
        failed += lost;
        used += (cpu_ns(ringgate) - cpu) as f64 - around.base;
        served += requests() - count - f64::from(RATE * around.secs);
        connections += sent.connections;
    }
    let each = |of: f64| of.max(0.0) / connections.max(1) as f64;
    let under = median(p99);
    let name = flood.name;
    let text = format!(
        "p99 {calm:.0} -> {under:.0} us at {RATE}/s beside {} connections/s, {failed} failed{note}",
        flood.pace
    );
    let doubled = under > 2.0 * calm.max(250.0);
    let cost = format!(
        "{:.0} us of CPU, {:.1} requests, {:.1} MiB more in all",
        each(used) / 1000.0,
        each(served),
        mib(peak(ringgate).saturating_sub(memory))
    );
    let figure = format!("a connection of: {name}");
    let others = format!("others beside: {name}");
    let fine = !doubled && failed == 0 && note.is_empty();
    vec![
        Row::new(others, "p99 at most doubles", text, fine),
        match flood.requests {
            Some(most) => {
                Row::new(figure, "few requests a connection", cost, each(served) <= most + 1.0)
            }
            None => Row::without_goal(figure, cost),
        },
    ]
}

fn listener(name: &str, bind: SocketAddr, more: &str) -> String {
    format!(
        "[[listener]]\nname = \"{name}\"\nbind = [\"{bind}\"]\ndefault = {{ forward = \"all\" }}\n{more}\n"
    )
}
