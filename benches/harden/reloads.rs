//! Reloads under load: two good files in turn, every tenth time a broken one.

use crate::support::ringgate::ask;
use crate::support::{Load, Origin, Ringgate, eventually, free_address};
use crate::{Options, Row, process};
use rustix::process::Signal;
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

pub fn measure(options: &Options) -> Vec<Row> {
    let count = options.of(1000, 60);
    let origins = [Origin::saying("aaa"), Origin::saying("bbb"), Origin::saying("ccc")];
    let targets = origins.each_ref().map(|o| o.address);
    let (listen, more) = (free_address(), free_address());
    let files = [good(listen, None, &targets, 40), good(listen, Some(more), &targets[..2], 10)];
    let broken = files[0].replacen("forward = \"all\"", "forward = \"nowhere\"", 1);
    let ringgate = Ringgate::start(&files[0]);
    let start =
        || Load::start(listen, 4, |answer| answer.status() == 200 && answer.body.len() == 3);
    // Buffers, pools and the allocator come to rest first.
    let load = start();
    (0..options.of(100, 20)).for_each(|n| reload(&ringgate, &files[n % 2], "ok"));
    load.stop();
    let (memory, descriptors) = at_rest(&ringgate);
    let (load, began) = (start(), Instant::now());
    let mut refused = 0;
    for n in 0..count {
        if n % 10 == 9 {
            reload(&ringgate, &broken, "failed");
            refused += 1;
        } else {
            reload(&ringgate, &files[n % 2], "ok");
        }
    }
    reload(&ringgate, &files[1], "ok");
    let took = began.elapsed();
    let (answered, failed) = load.stop();
    for failure in failed.iter().take(5) {
        eprintln!("reloads: {failure}");
    }
    let (memory_after, descriptors_after) = at_rest(&ringgate);
    let growth = memory_after as f64 / memory as f64 - 1.0;
    let requests = format!(
        "{count} reloads ({refused} refused) in {:.0} s: {} of {answered} requests failed",
        took.as_secs_f64(),
        failed.len()
    );
    let flat = format!(
        "{:.1} -> {:.1} MiB ({:+.1} %), {descriptors} -> {descriptors_after} descriptors",
        process::mib(memory),
        process::mib(memory_after),
        growth * 100.0
    );
    vec![
        Row::new("reloads under load", "1,000: 0 failed", requests, failed.is_empty()),
        Row::new(
            "memory over the reloads",
            "<= 5 % more",
            flat,
            growth <= 0.05 && descriptors_after <= descriptors + 4,
        ),
    ]
}

/// Memory and descriptors when no client is there and the pools are empty.
fn at_rest(ringgate: &Ringgate) -> (u64, usize) {
    let idle = || {
        ringgate.sum("ringgate_target_idle_connections", &[])
            + ringgate.sum("ringgate_worker_connections", &[])
    };
    eventually("connections are closed", || idle() == 0.0);
    std::thread::sleep(Duration::from_millis(300));
    (process::resident(ringgate), process::descriptors(ringgate))
}

fn reload(ringgate: &Ringgate, file: &str, result: &str) {
    let before = ringgate.reloads(result);
    ringgate.write(file);
    ringgate.signal(Signal::HUP);
    eventually("the reload is counted", || ringgate.reloads(result) > before);
    assert_eq!(ask(ringgate.admin(), "/healthz").status(), 200);
}

fn good(
    listen: SocketAddr,
    more: Option<SocketAddr>,
    targets: &[SocketAddr],
    rules: usize,
) -> String {
    let targets: Vec<String> = targets.iter().map(|t| format!("\"{t}\"")).collect();
    let mut text = format!(
        "[[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\ndefault = {{ forward = \"all\" }}\n\n\
         [group.all]\ntargets = [{}]\nhealth = {{ type = \"tcp\", interval = \"1s\" }}\npool = {{ idle_timeout = \"500ms\" }}\n",
        targets.join(", ")
    );
    if let Some(more) = more {
        write!(text, "\n[[listener]]\nname = \"more\"\nbind = [\"{more}\"]\n").unwrap();
    }
    for n in 0..rules {
        write!(text, "\n[[rule]]\nname = \"r{n}\"\nrespond = {{ status = 200, body = \"{n}\" }}\n[rule.when]\npath = [\"/r{n}/*\"]\nhost = [\"*.r{n}.test\"]\n").unwrap();
    }
    text
}
