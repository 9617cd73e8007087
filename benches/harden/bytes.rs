//! What a hostile octet costs, in CPU time and in memory, against one of a normal request.
//!
//! CPU time is that of ringgate's threads. It is set against the octets that an attacker sends: on the wire, with the 66
//! that each segment costs him on Ethernet, and, for who wants it stricter, without them. Memory is the growth while
//! many connections are held, against what they have sent.

use crate::attacks::{ATTACKS, Sent, Site, normal, repeat};
use crate::frames;
use crate::hostile::origins::Server;
use crate::process::{cpu_ns, forget_peak, peak, resident};
use crate::support::{Origin, Ringgate, free_address};
use crate::tls::Certificate;
use crate::{Options, Row};
use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const MOST: f64 = 20.0;

pub fn measure(options: &Options) -> Vec<Row> {
    let mut rows = processor(options);
    rows.extend(memory(options));
    rows
}

fn processor(options: &Options) -> Vec<Row> {
    let origin = Server::start("nginx").expect("nginx is needed");
    let answer =
        "HTTP/1.1 103 X\r\n\r\n".repeat(100) + "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone";
    let flooding = Origin::answering(answer.clone());
    let (web, flood, tls) = (free_address(), free_address(), free_address());
    let certificate = Certificate::make("a.test");
    let ringgate = Ringgate::start(&format!(
        "{}\n[[listener]]\nname = \"flood\"\nbind = [\"{flood}\"]\ndefault = {{ forward = \"flood\" }}\n\n\
         [[listener]]\nname = \"tls\"\nbind = [\"{tls}\"]\ndefault = {{ forward = \"all\" }}\n{}\n\
         [group.flood]\ntargets = [\"{}\"]\nhealth = {{ type = \"off\" }}\n\n\
         [[rule]]\nname = \"local\"\nrespond = {{ status = 200, body = \"x\" }}\n[rule.when]\npath = [\"/local\"]\n",
        before(web, origin.address),
        certificate.listener(),
        flooding.address
    ));
    let time = Duration::from_millis(options.of(2500, 300));
    let site = Site { web, flood, flood_octets: answer.len() as u64, tls, time };
    let idle = idle(&ringgate);
    let cost = |run: &dyn Fn(&mut Sent) -> std::io::Result<()>| {
        let (began, before) = (Instant::now(), cpu_ns(&ringgate));
        let mut sent = Sent::default();
        let ended = run(&mut sent);
        std::thread::sleep(Duration::from_millis(30));
        let used = (cpu_ns(&ringgate) - before) as f64 - idle * began.elapsed().as_secs_f64();
        (used.max(0.0), sent, ended)
    };
    // The first run warms up.
    let _ = cost(&|sent| repeat(&site, sent, &normal()));
    let (used, sent, _) = cost(&|sent| repeat(&site, sent, &normal()));
    let (per_wire, per_payload) = (used / sent.wire as f64, used / sent.payload as f64);
    eprintln!(
        "bytes: normal request: {per_wire:.1} ns per octet on the wire, {per_payload:.1} ns per octet of payload"
    );
    let (mut worst, mut worst_payload) = (("", 0.0), ("", 0.0));
    let attacks = || ATTACKS.iter().chain(frames::ATTACKS);
    for (name, attack) in attacks() {
        let (used, sent, ended) = cost(&|sent| attack(&site, sent));
        let ratio = used / sent.wire as f64 / per_wire;
        let strict = if sent.payload == 0 { 0.0 } else { used / sent.payload as f64 / per_payload };
        let note = ended.err().map(|e| format!("  ({e})")).unwrap_or_default();
        eprintln!(
            "bytes: {name:32} {ratio:6.2} times a normal octet on the wire, {strict:7.2} of payload, {} KiB sent{note}",
            sent.wire >> 10
        );
        if ratio > worst.1 {
            worst = (name, ratio);
        }
        if strict > worst_payload.1 {
            worst_payload = (name, strict);
        }
    }
    let measured = format!("worst of {}: {} {:.1} times", attacks().count(), worst.0, worst.1);
    let strict = format!("worst: {} {:.1} times", worst_payload.0, worst_payload.1);
    vec![
        Row::new(
            "CPU of a hostile octet on the wire",
            "<= 20 times a normal one",
            measured,
            worst.1 <= MOST,
        ),
        Row::without_goal("the same without segment headers", strict),
    ]
}

/// CPU nanoseconds a second when nothing happens.
fn idle(ringgate: &Ringgate) -> f64 {
    std::thread::sleep(Duration::from_millis(200));
    let (began, before) = (Instant::now(), cpu_ns(ringgate));
    std::thread::sleep(Duration::from_millis(700));
    (cpu_ns(ringgate) - before) as f64 / began.elapsed().as_secs_f64()
}

fn before(listen: SocketAddr, target: SocketAddr) -> String {
    format!(
        "[[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\ndefault = {{ forward = \"all\" }}\n\n\
         [group.all]\ntargets = [\"{target}\"]\nhealth = {{ type = \"off\" }}\n"
    )
}

/// What is held: a beginning that every one of the connections sends, and then nothing.
fn held() -> Vec<(&'static str, Vec<u8>)> {
    let lines = held_lines().into_iter().map(|(name, first)| (name, first.into_bytes()));
    lines.chain(held_frames()).collect()
}

/// The same in HTTP/2, with prior knowledge.
fn held_frames() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("a preface and nothing", frames::started([])),
        ("half a header block", frames::started(frames::frame(1, 0, 1, &[0x82; 100]))),
        (
            "5 streams that wait",
            frames::started(frames::streams(5).flat_map(|n| frames::get(n, 1))),
        ),
    ]
}

fn held_lines() -> Vec<(&'static str, String)> {
    let get = "GET / HTTP/1.1\r\nHost: a.test\r\n";
    let post = "POST / HTTP/1.1\r\nHost: a.test\r\n";
    vec![
        ("a head that stops at once", "G".to_owned()),
        ("a head that stops", format!("{get}X-A: {}", "y".repeat(400))),
        ("a head that stops at 5 KiB", format!("{get}X-A: {}", "y".repeat(5_000))),
        (
            "a head that stops at 60 KiB",
            format!("{get}{}X-A", format!("X-A: {}\r\n", "y".repeat(15_000)).repeat(4)),
        ),
        ("100 fields, no end", format!("{get}{}", "X-A: b\r\n".repeat(100))),
        ("a body that stops", format!("{post}Content-Length: 100000\r\n\r\n{}", "x".repeat(400))),
        (
            "a body that stops at 60 KiB",
            format!("{post}Content-Length: 100000\r\n\r\n{}", "x".repeat(60_000)),
        ),
        (
            "chunks that stop",
            format!("{post}Transfer-Encoding: chunked\r\n\r\n{}", "1\r\na\r\n".repeat(60)),
        ),
        (
            "trailers that stop",
            format!("{post}Transfer-Encoding: chunked\r\n\r\n0\r\n{}", "X-A: b\r\n".repeat(50)),
        ),
        ("requests behind one that waits", format!("{get}\r\n").repeat(500)),
    ]
}

fn memory(options: &Options) -> Vec<Row> {
    let count = options.of(500, 100);
    // It takes requests and never answers.
    let silent = Origin::script(|conn| {
        while conn.wire.exactly(1).is_ok() {}
        Ok(())
    });
    let each = |first: &[u8]| {
        let listen = free_address();
        let ringgate = Ringgate::start(&format!(
            "[timeouts]\nheader = \"60s\"\nbody = \"60s\"\n\n{}",
            before(listen, silent.address)
        ));
        std::thread::sleep(Duration::from_millis(100));
        forget_peak(&ringgate);
        let start = resident(&ringgate);
        let mut sent = Sent::default();
        let streams: Vec<_> = (0..count)
            .filter_map(|_| {
                let mut stream = sent.connect(listen).ok()?;
                stream.write_all(first).ok()?;
                Some(stream)
            })
            .collect();
        std::thread::sleep(Duration::from_millis(500));
        let grown = peak(&ringgate).saturating_sub(start) as f64;
        grown / streams.len().max(1) as f64
    };
    let usual = normal();
    let base = each(usual.as_bytes());
    let per_octet = base / usual.len() as f64;
    eprintln!("bytes: a normal request that waits holds {base:.0} octets");
    let mut worst = ("", 0.0);
    for (name, first) in held() {
        let holds = each(&first);
        // Whoever sends less than a request still holds a connection: he is given the octets of one.
        let ratio = holds / first.len().max(usual.len()) as f64 / per_octet;
        eprintln!(
            "bytes: {name:32} {ratio:6.2} times a normal octet in memory, {holds:.0} octets a connection"
        );
        if ratio > worst.1 {
            worst = (name, ratio);
        }
    }
    let measured = format!("worst of {}: {} {:.1} times", held().len(), worst.0, worst.1);
    vec![Row::new(
        "memory of a hostile octet",
        "<= 20 times a normal one",
        measured,
        worst.1 <= MOST,
    )]
}
