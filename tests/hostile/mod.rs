//! Hostile HTTP/1 over real sockets: inputs made from the families of known attacks, real origins, and who judges.
//!
//! `generate` makes templates, the same ones for the same seed; each is sent with a token of its own, so that whatever
//! an origin saw can be traced to the input that caused it. Where a family allows, a template hides a second request,
//! `GET /smuggled-TOKEN`, in the place where a misread length would set it free. `drive` sends, `judge` compares what
//! the client got, what ringgate logged and what the origin saw. Used by tests/hostile.rs and benches/harden.rs.

#![allow(dead_code, missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

mod answer_families;
pub mod answers;
mod chunks;
pub mod drive;
mod fields;
mod framing;
mod heads;
pub mod judge;
mod lines;
mod mutate;
pub mod origins;
pub mod replies;
pub mod responses;
pub mod run;
mod sequences;
mod starts;

use std::collections::HashSet;

/// Stands for the token in a template; as long as a token, so that lengths hold.
pub const TOKEN: &str = "TOKENAAA";

/// Every method that the families go through.
pub const METHODS: [&str; 6] = ["GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE"];

/// Whether the hidden request of a template could be one by the RFC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hidden {
    /// It is part of a body, or follows what must be refused: no origin may ever see it.
    Always,
    /// It may come to light as a pipelined request: then ringgate must have logged it as one.
    Perhaps,
}

/// An input before it has its token.
#[derive(Clone, Debug)]
pub struct Template {
    pub family: &'static str,
    pub hidden: Hidden,
    pub bytes: Vec<u8>,
}

impl Template {
    /// The input with the token of `number`.
    pub fn with_token(&self, number: usize) -> Vec<u8> {
        let token = token(number);
        let mut bytes = self.bytes.clone();
        while let Some(at) = memchr::memmem::find(&bytes, TOKEN.as_bytes()) {
            bytes[at..at + TOKEN.len()].copy_from_slice(token.as_bytes());
        }
        bytes
    }
}

pub fn token(number: usize) -> String {
    format!("{number:08x}")
}

/// Collects templates, each once.
#[derive(Default)]
pub struct Basket {
    seen: HashSet<Vec<u8>>,
    pub all: Vec<Template>,
}

impl Basket {
    pub fn put(&mut self, family: &'static str, hidden: Hidden, bytes: Vec<u8>) {
        if self.seen.insert(bytes.clone()) {
            self.all.push(Template { family, hidden, bytes });
        }
    }

    /// One whose hidden request must stay hidden.
    pub fn never(&mut self, family: &'static str, bytes: Vec<u8>) {
        self.put(family, Hidden::Always, bytes);
    }

    pub fn perhaps(&mut self, family: &'static str, bytes: Vec<u8>) {
        self.put(family, Hidden::Perhaps, bytes);
    }
}

/// `wanted` distinct templates in an order shuffled by `seed`: a quarter mutations, the rest from all families. When the
/// families have more, a selection of them; when they have less, more mutations.
pub fn generate(seed: u64, wanted: usize) -> Vec<Template> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut basket = Basket::default();
    framing::codings(&mut basket);
    framing::octets(&mut basket);
    framing::lengths(&mut basket);
    framing::skipped_bodies(&mut basket);
    framing::old_versions(&mut basket);
    chunks::sizes(&mut basket);
    chunks::octets(&mut basket);
    chunks::trailers(&mut basket);
    lines::ends(&mut basket);
    lines::folds(&mut basket);
    lines::octets(&mut basket);
    heads::hosts(&mut basket);
    heads::targets(&mut basket);
    starts::lines(&mut basket);
    fields::connection(&mut basket);
    fields::expect(&mut basket);
    fields::upgrade(&mut basket);
    fields::twins(&mut basket);
    sequences::good_bad_good(&mut basket);
    sequences::empty_lines(&mut basket);
    sequences::pipelines(&mut basket);
    rng.shuffle(&mut basket.all);
    basket.all.truncate(wanted - wanted / 4);
    mutate::fill(&mut basket, &mut rng, wanted);
    rng.shuffle(&mut basket.all);
    basket.all
}

/// The request that hides in others.
pub fn smuggled() -> String {
    format!("GET /smuggled-{TOKEN} HTTP/1.1\r\nHost: a.test\r\nX-A: b\r\n\r\n")
}

/// The hidden request as one chunk and the last chunk.
pub fn smuggled_chunk() -> String {
    let inner = smuggled();
    format!("{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len())
}

pub fn cat(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// `text` with the token for each `T` that stands alone: `GET /T HTTP/1.1` has one.
pub fn tokened(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let letter_at = |at: Option<usize>| {
        at.and_then(|at| letters.get(at)).is_some_and(char::is_ascii_alphabetic)
    };
    let mut out = String::new();
    for (at, letter) in letters.iter().enumerate() {
        if *letter == 'T' && !letter_at(at.checked_sub(1)) && !letter_at(Some(at + 1)) {
            out.push_str(TOKEN);
        } else {
            out.push(*letter);
        }
    }
    out
}
