//! What clients do: patient, hasty, broken and hostile ones.

use crate::client::{Op, Script};
use crate::hostile;
use crate::ledger::{Asked, Wanted};
use crate::request::{Framed, HIDDEN, Made, Recipe, make, usual};
use fastrand::Rng;

/// A name, how often of all it is taken, and what it does.
pub type Behaviour = (&'static str, u32, fn(&mut Script, usize, &mut Rng));

pub const HOSTILE: Behaviour = ("hostile octets", 18, hostile_octets);

pub const ALL: &[Behaviour] = &[
    ("keep-alive", 20, keep_alive),
    ("pipeline", 14, pipeline),
    ("drip", 16, drip),
    ("chunked", 14, chunked),
    ("upload", 6, upload),
    ("expect", 5, expect),
    ("stall in the head", 3, stall_head),
    ("stall in the body", 4, stall_body),
    ("abort in the head", 4, abort_head),
    ("abort in the body", 4, abort_body),
    ("abort in the answer", 5, abort_answer),
    ("half-close", 5, half_close),
    ("never reads", 4, never_reads),
    ("reads slowly", 4, reads_slowly),
    HOSTILE,
    ("bad body", 7, bad_body),
    ("large body", 4, large_body),
    ("local answers", 6, local),
    ("HTTP/1.0", 5, http10),
    ("says nothing", 2, says_nothing),
    ("rests", 4, rests),
    ("empty lines", 2, empty_lines),
];

/// A behaviour by weight.
pub fn pick(rng: &mut Rng) -> &'static Behaviour {
    let total: u32 = ALL.iter().map(|(_, weight, _)| weight).sum();
    let mut at = rng.u32(..total);
    for behaviour in ALL {
        if at < behaviour.1 {
            return behaviour;
        }
        at -= behaviour.1;
    }
    &ALL[0]
}

const MS: u64 = 1_000_000;

fn next(s: &Script, id: usize, rng: &mut Rng) -> Made {
    usual(id, s.asked.len(), rng)
}

fn part(made: &Made, from: usize, to: usize, rng: &mut Rng) -> Vec<u8> {
    made.octets[..rng.usize(from..to)].to_vec()
}

fn end(s: &mut Script, rng: &mut Rng) {
    s.then([[Op::Close, Op::UntilEnd, Op::Reset, Op::UntilEnd][rng.usize(..4)].clone()]);
}

fn keep_alive(s: &mut Script, id: usize, rng: &mut Rng) {
    for _ in 0..rng.usize(1..6) {
        let made = next(s, id, rng);
        s.send(&made, &made.octets, true);
        s.answers();
        if rng.u8(..3) == 0 {
            s.then([Op::Wait(rng.u64(..300) * MS)]);
        }
    }
    end(s, rng);
}

fn pipeline(s: &mut Script, id: usize, rng: &mut Rng) {
    let count = rng.usize(2..7);
    let all: Vec<Made> = (0..count).map(|n| usual(id, n, rng)).collect();
    s.pipeline(&all);
    s.answers();
    end(s, rng);
}

fn drip(s: &mut Script, id: usize, rng: &mut Rng) {
    s.then([Op::Piece(rng.usize(1..40))]);
    for _ in 0..rng.usize(1..3) {
        let made = next(s, id, rng);
        s.send(&made, &made.octets, true);
        s.answers();
    }
    end(s, rng);
}

fn chunked(s: &mut Script, id: usize, rng: &mut Rng) {
    for _ in 0..rng.usize(1..4) {
        let body = [1, 400, 4000, 9000][rng.usize(..4)];
        let path = ["/a/x", "/b/x"][rng.usize(..2)];
        let recipe =
            Recipe { method: "POST", path, framed: Framed::Chunked, body, ..Recipe::default() };
        let made = make(recipe, id, s.asked.len(), rng);
        s.send(&made, &made.octets, true);
        s.answers();
    }
    end(s, rng);
}

fn upload(s: &mut Script, id: usize, rng: &mut Rng) {
    s.then([Op::Piece(rng.usize(500..5000))]);
    let body = rng.usize(10_000..60_000);
    let framed = if rng.bool() { Framed::Chunked } else { Framed::Length };
    let recipe = Recipe { method: "PUT", framed, body, ..Recipe::default() };
    let made = make(recipe, id, 0, rng);
    s.send(&made, &made.octets, true);
    let after = next(s, id, rng);
    s.send(&after, &after.octets, true);
    s.answers();
    end(s, rng);
}

fn expect(s: &mut Script, id: usize, rng: &mut Rng) {
    let framed = if rng.bool() { Framed::Chunked } else { Framed::Length };
    let fields = "expect: 100-continue\r\n";
    let recipe = Recipe { method: "POST", framed, body: 900, fields, ..Recipe::default() };
    let made = make(recipe, id, 0, rng);
    let (head, body) = made.octets.split_at(made.head);
    s.asked.push(made.asked.clone());
    s.then([
        Op::Send(head.to_vec(), vec![(0, usize::MAX)]),
        Op::Interim(if rng.bool() { 30 * MS } else { 1400 * MS }),
        Op::Send(body.to_vec(), vec![(0, body.len())]),
    ]);
    s.answers();
    s.then([Op::Close]);
}

fn stall_head(s: &mut Script, id: usize, rng: &mut Rng) {
    let made = next(s, id, rng);
    let octets = part(&made, 1, made.head, rng);
    s.send(&made, &octets, false);
    s.then([Op::UntilEnd]);
}

fn long_post(s: &Script, id: usize, rng: &mut Rng) -> Made {
    let framed = if rng.bool() { Framed::Chunked } else { Framed::Length };
    let path = ["/a/x", "/b/x", "/fixed/x"][rng.usize(..3)];
    let wanted = if path == "/fixed/x" { Wanted::Fixed } else { Wanted::Forward };
    let body = rng.usize(1000..9000);
    let recipe = Recipe { method: "POST", path, wanted, framed, body, ..Recipe::default() };
    make(recipe, id, s.asked.len(), rng)
}

fn stall_body(s: &mut Script, id: usize, rng: &mut Rng) {
    let made = long_post(s, id, rng);
    let octets = part(&made, made.head, made.octets.len(), rng);
    s.send(&made, &octets, false);
    s.then([Op::UntilEnd]);
}

fn abort(s: &mut Script, rng: &mut Rng) {
    s.then([Op::Wait(rng.u64(..20) * MS)]);
    match rng.u8(..3) {
        0 => s.then([Op::Close]),
        1 => s.then([Op::Reset]),
        _ => s.then([Op::HalfClose, Op::UntilEnd]),
    }
}

fn abort_head(s: &mut Script, id: usize, rng: &mut Rng) {
    if rng.bool() {
        let made = next(s, id, rng);
        s.send(&made, &made.octets, true);
        s.answers();
    }
    let made = next(s, id, rng);
    let octets = part(&made, 1, made.head, rng);
    s.send(&made, &octets, false);
    abort(s, rng);
}

fn abort_body(s: &mut Script, id: usize, rng: &mut Rng) {
    let made = long_post(s, id, rng);
    let octets = part(&made, made.head, made.octets.len(), rng);
    s.send(&made, &octets, false);
    abort(s, rng);
}

fn abort_answer(s: &mut Script, id: usize, rng: &mut Rng) {
    let count = rng.usize(1..4);
    let all: Vec<Made> = (0..count).map(|n| usual(id, n, rng)).collect();
    s.pipeline(&all);
    let wait = Op::Wait(rng.u64(..30) * MS);
    s.then([if rng.bool() { Op::Octets } else { wait }]);
    s.then([if rng.bool() { Op::Close } else { Op::Reset }]);
}

fn half_close(s: &mut Script, id: usize, rng: &mut Rng) {
    let count = rng.usize(1..4);
    let all: Vec<Made> = (0..count).map(|n| usual(id, n, rng)).collect();
    s.pipeline(&all);
    s.then([Op::HalfClose, Op::UntilEnd]);
}

fn never_reads(s: &mut Script, id: usize, rng: &mut Rng) {
    let count = rng.usize(1..6);
    let all: Vec<Made> = (0..count).map(|n| usual(id, n, rng)).collect();
    s.then([Op::Sip(0)]);
    s.pipeline(&all);
    s.then([Op::Wait(rng.u64(100..1500) * MS), Op::Sip(usize::MAX)]);
    end(s, rng);
}

fn reads_slowly(s: &mut Script, id: usize, rng: &mut Rng) {
    s.then([Op::Sip(rng.usize(20..400))]);
    keep_alive(s, id, rng);
}

fn hostile_octets(s: &mut Script, id: usize, rng: &mut Rng) {
    if rng.u8(..3) == 0 {
        let made = next(s, id, rng);
        s.send(&made, &made.octets, true);
        s.answers();
    }
    let table = hostile::table();
    let (_, octets, reasons) = &table[s.turn % table.len()];
    let octets = hostile::with_followers(octets, rng.usize(..3));
    if rng.u8(..3) == 0 {
        s.then([Op::Piece(rng.usize(1..60).max(octets.len() / 60))]);
    }
    let token = format!("c{id}r{}", s.asked.len());
    let wanted = Wanted::Fault(reasons);
    let asked = Asked { token, method: "GET", wanted, ..Asked::default() };
    s.send(&Made { octets: Vec::new(), head: 0, asked }, &octets, true);
    s.then([Op::UntilEnd]);
}

fn bad_body(s: &mut Script, id: usize, rng: &mut Rng) {
    let (_, body, reason) = hostile::BODIES[s.turn % hostile::BODIES.len()];
    let wanted = Wanted::BadBody(reason);
    let recipe = Recipe { method: "POST", wanted, framed: Framed::Chunked, ..Recipe::default() };
    let made = make(recipe, id, s.asked.len(), rng);
    let octets = [&made.octets[..made.head], body.as_bytes(), HIDDEN.as_bytes()].concat();
    if rng.bool() {
        s.then([Op::Piece(rng.usize(1..90))]);
    }
    s.send(&made, &octets, true);
    s.then([Op::UntilEnd]);
}

fn large_body(s: &mut Script, id: usize, rng: &mut Rng) {
    let framed = if rng.bool() { Framed::Chunked } else { Framed::Length };
    let (path, body) = if rng.bool() { ("/c/x", 5000) } else { ("/a/x", 70_000) };
    let wanted = Wanted::BadBody("body_too_large");
    let recipe = Recipe { method: "POST", path, wanted, framed, body, ..Recipe::default() };
    let made = make(recipe, id, s.asked.len(), rng);
    s.send(&made, &made.octets, true);
    s.then([Op::UntilEnd]);
}

fn local(s: &mut Script, id: usize, rng: &mut Rng) {
    let via = "via: 1.1 ringgate\r\n".repeat(8);
    let recipes = [
        Recipe { path: "/fixed/x", wanted: Wanted::Fixed, ..Recipe::default() },
        Recipe { path: "/moved/x", wanted: Wanted::Redirect, ..Recipe::default() },
        Recipe { path: "/nothing", wanted: Wanted::Fault(&["no_route"]), ..Recipe::default() },
        Recipe {
            path: "/void/x",
            wanted: Wanted::Fault(&["no_target", "shed"]),
            ..Recipe::default()
        },
        Recipe { fields: &via, wanted: Wanted::Fault(&["loop"]), ..Recipe::default() },
    ];
    for _ in 0..rng.usize(1..5) {
        let recipe = recipes[rng.usize(..recipes.len())];
        let made = make(recipe, id, s.asked.len(), rng);
        s.send(&made, &made.octets, true);
        s.answers();
    }
    end(s, rng);
}

fn http10(s: &mut Script, id: usize, rng: &mut Rng) {
    let version = "HTTP/1.0";
    let keep = Recipe { version, fields: "connection: keep-alive\r\n", ..Recipe::default() };
    if rng.bool() {
        let made = make(keep, id, 0, rng);
        s.send(&made, &made.octets, true);
        s.answers();
    }
    let made = make(Recipe { version, ..Recipe::default() }, id, s.asked.len(), rng);
    s.send(&made, &made.octets, true);
    s.then([Op::UntilEnd]);
}

fn says_nothing(s: &mut Script, _: usize, rng: &mut Rng) {
    if rng.bool() {
        s.then([Op::Wait(rng.u64(..300) * MS), Op::Close]);
    }
    s.then([Op::UntilEnd]);
}

fn rests(s: &mut Script, id: usize, rng: &mut Rng) {
    for _ in 0..2 {
        let made = next(s, id, rng);
        s.send(&made, &made.octets, true);
        s.answers();
        s.then([Op::Wait(rng.u64(300..1100) * MS)]);
    }
    s.then([Op::UntilEnd]);
}

fn empty_lines(s: &mut Script, id: usize, rng: &mut Rng) {
    for count in 1..=2 {
        let made = next(s, id, rng);
        let octets = ["\r\n".repeat(count).as_bytes(), &made.octets].concat();
        s.send(&made, &octets, true);
        s.answers();
    }
    s.then([Op::Close]);
}
