//! A request that is played through without a network: what would be done with it, and what a target would be sent.
//!
//! It goes the very way of a received one (`proxy::exchange`), over connections in memory, to targets that all answer 200. So
//! what is said of it cannot differ from what is done. Nothing is asked of other services, nothing is counted for the running
//! process: the snapshot is one of its own. Called by `check` for `[[expect]]`, and by `explain`.

use crate::base::Tick;
use crate::base::tick;
use crate::config::{Config, Limits, TargetProtocol};
use crate::fanout::Share;
use crate::http::Fault;
use crate::net::local::Local;
use crate::net::memory::{Dialled, End, Shape, pair};
use crate::net::{Network, Sock, Timers};
use crate::observe::{self, Format};
use crate::proxy::{Client, Exchange, exchange};
use crate::shard::{AccessLog, Epoch, Machine, Pulse, Shard, Trace};
use crate::snapshot::Snapshot;
use crate::tls::Facts;
use crossbeam::channel::{Receiver, unbounded};
use std::cell::Cell;
use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Where requests are played through.
pub struct Stage {
    shard: Rc<Shard>,
    dialled: Rc<Dialled>,
    records: Receiver<Vec<u8>>,
    graveyard: Receiver<Arc<Snapshot>>,
    // When the last request was over.
    last: Cell<Tick>,
}

/// A request that is played.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// Where it comes in: an index into the snapshot's listeners.
    pub listener: usize,
    /// Its head, with the empty line, and its body.
    pub octets: &'a [u8],
    /// Who sends it.
    pub source: IpAddr,
    /// The name that the client asks for in its TLS handshake; `None` for a request without TLS.
    pub tls: Option<&'a str>,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Played {
    /// What an access record says of it, in JSON; `Null` for a request that is refused before it is one.
    pub record: serde_json::Value,
    /// Why it is refused before it is one.
    pub refused: Option<Fault>,
    /// What targets were sent, in order.
    pub sent: Vec<Delivered>,
    /// The octets that the client is sent.
    pub answer: Vec<u8>,
    /// Whether it came to an end; something is waited for that a rehearsal does not have.
    pub ended: bool,
}

/// What one target was sent.
#[derive(Clone, Debug, Default)]
pub struct Delivered {
    /// Its address.
    pub target: String,
    /// The head and the body.
    pub octets: Vec<u8>,
}

/// A file as it is rehearsed: plain HTTP/1.1 with every target, no probes; no copies to mirrors, and of the faults on purpose only
/// those that every request meets.
pub fn plain(config: &Config) -> Config {
    let mut config = config.clone();
    for group in &mut config.groups {
        (group.tls, group.protocol, group.proxy_protocol) = (None, TargetProtocol::Http1, None);
    }
    for rule in &mut config.rules {
        rule.traffic.mirror = None;
        if let Some(inject) = &mut rule.traffic.inject {
            inject.faults.retain(|fault| fault.share == Share::ALL);
        }
    }
    config
}

impl Stage {
    /// A stage for a snapshot that nobody else uses, compiled of a [`plain`] file.
    pub fn new(snapshot: Arc<Snapshot>) -> Option<Stage> {
        let (to_graveyard, graveyard) = unbounded();
        let epoch = Epoch::bind(snapshot, None, 1, to_graveyard);
        let (sink, records) = observe::in_process();
        let format = Arc::new(Format::parse("json").ok()?);
        let dialled = Rc::new(Dialled::default());
        let machine = Machine::new(1000, &Limits::default());
        let shard = Shard::within(
            Network::Memory(Rc::clone(&dialled)),
            0,
            epoch,
            Rc::new(Timers::default()),
            AccessLog { sink: Some(sink), format },
            machine.shares(1),
            Arc::new(Pulse::default()),
        );
        Some(Stage { shard, dialled, records, graveyard, last: Cell::new(Tick::now()) })
    }

    /// Plays a request through. It comes an hour after the one before, so that no rate is exceeded by rehearsing; the wall clock
    /// says what it says. What is left to chance follows from `luck`, so that a file is judged alike every time.
    pub fn play(&self, part: &Part<'_>, luck: u64) -> Played {
        self.shard.with_rng(|rng| rng.seed(luck));
        let wall = tick::wall_micros();
        let began = self.last.get().after(Duration::from_secs(3600));
        tick::rehearse(Some(began), wall);
        let played = self.act(part, began, wall);
        self.last.set(Tick::now());
        tick::rehearse(None, 0);
        self.graveyard.try_iter().for_each(drop);
        played
    }

    fn act(&self, part: &Part<'_>, began: Tick, wall: u64) -> Played {
        let shard = &self.shard;
        let epoch = shard.epoch();
        let Some(listener) = epoch.snapshot.listeners.get(part.listener) else {
            return Played::default();
        };
        let mut played = Played::default();
        let peer = SocketAddr::new(part.source, 50_000);
        let port = listener.bind.first().map_or(0, SocketAddr::port);
        let here = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), port);
        let room = Shape { capacity: [1 << 24; 2], ..Shape::default() };
        let (theirs, ours) = pair(room, [Some(peer), Some(here)]);
        let facts = |name: &str| Facts {
            version: "TLSv1.3",
            name: Some(name.into()),
            certificate: listener.secure.as_ref().and_then(|secure| {
                let all = &secure.terms.certificates;
                all.iter().find(|c| c.covers(name)).or(all.first()).map(Arc::clone)
            }),
            ..Facts::default()
        };
        let client = Client {
            sock: Sock::in_memory(ours, &shard.timers),
            peer,
            port,
            listener: listener.id,
            passed: None,
            tls: part.tls.map(|name| Rc::new(facts(name))),
        };
        let mut scratch = shard.scratch();
        let mut buf = shard.buffers.none();
        buf.reserve(part.octets.len());
        buf.append(part.octets);
        let head = memchr::memmem::find(part.octets, b"\r\n\r\n").map_or(0, |at| at + 4);
        let section = part.octets.get(..head).unwrap_or_default();
        if let Err(fault) = scratch.request.parse(section, epoch.snapshot.paths) {
            played.refused = Some(fault);
            played.ended = true;
            return played;
        }
        scratch.trace = Trace { began, ..Trace::default() };
        let mut targets: Vec<(Delivered, End)> = Vec::new();
        let mut local = Local::default();
        {
            let mut x = Exchange {
                shard,
                epoch: &epoch,
                listener,
                client: &client,
                buf: &mut buf,
                next: None,
                upgrade: None,
                scratch: &mut scratch,
                keep: true,
            };
            let mut main = pin!(async {
                exchange(&mut x).await;
            });
            // What waits for a time waits for a minute at most.
            for _ in 0..600 {
                let ended = local.run(main.as_mut(), || {
                    read(&theirs, &mut played.answer) | self.answer(&mut targets)
                });
                if ended {
                    played.ended = true;
                    break;
                }
                tick::rehearse(Some(Tick::now().after(Duration::from_millis(100))), wall);
                shard.sweep(Tick::now());
            }
        }
        read(&theirs, &mut played.answer);
        shard.give_back(scratch);
        shard.sweep(Tick::now());
        let lines: Vec<u8> = self.records.try_iter().flatten().collect();
        let line = lines.split(|b| *b == b'\n').next().unwrap_or_default();
        played.record = serde_json::from_slice(line).unwrap_or_default();
        played.sent = targets.into_iter().map(|(delivered, _)| delivered).collect();
        played
    }

    // Plays the targets: each connection is taken, read, and answered. Whether anything was done.
    fn answer(&self, targets: &mut Vec<(Delivered, End)>) -> bool {
        let mut did = false;
        while let Some(attempt) = self.dialled.next() {
            let (ours, theirs) = pair(Shape::default(), [None, None]);
            let delivered = Delivered { target: attempt.to().to_owned(), octets: Vec::new() };
            attempt.answer(Ok(theirs));
            targets.push((delivered, ours));
            did = true;
        }
        for (delivered, end) in targets {
            if read(end, &mut delivered.octets) && is_whole(&delivered.octets) {
                let answer: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                did |= end.write(&[IoSlice::new(answer)]).is_ok();
            }
        }
        did
    }
}

// Takes what is there; whether anything was.
fn read(end: &End, into: &mut Vec<u8>) -> bool {
    let mut block = [0; 4096];
    let mut any = false;
    while let Ok(n @ 1..) = end.read(&mut block) {
        into.extend_from_slice(block.get(..n).unwrap_or_default());
        any = true;
    }
    any
}

// Whether a request, as ringgate writes it, has come to its end.
fn is_whole(octets: &[u8]) -> bool {
    let Some(head) = memchr::memmem::find(octets, b"\r\n\r\n") else { return false };
    let (head, body) = octets.split_at(head + 4);
    let value = |name: &str| {
        let lines = head.split(|b| *b == b'\n');
        let line = |line: &&[u8]| line.get(..name.len()).is_some_and(|n| n == name.as_bytes());
        let found = lines.clone().find(line).and_then(|line| line.get(name.len()..));
        found.map(|value| String::from_utf8_lossy(value.trim_ascii()).into_owned())
    };
    if value("transfer-encoding: ").is_some() {
        return body.ends_with(b"0\r\n\r\n");
    }
    let length = value("content-length: ").and_then(|length| length.parse::<usize>().ok());
    body.len() >= length.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::compile::{Context, compile};

    const FILE: &str = r#"
[[listener]]
name = "web"
bind = ["127.0.0.1:8080"]
[[rule]]
name = "sent"
when = { path = ["/a/*"] }
forward = "app"
[[rule]]
name = "moved"
when = { path = ["/b"] }
redirect = { path = "/c" }
[[rule]]
name = "again"
when = { path = ["/d"] }
forward = "app"
timeouts = { total = "5s" }
[group.app]
targets = ["app.internal:9000"]
protocol = "h2"
tls = true
"#;

    fn stage(text: &str) -> Stage {
        let config = crate::config::parse(text, "a.toml", &|_| None).unwrap();
        let context = Context {
            generation: 1,
            workers: 1,
            old: None,
            resolve: &|_| vec![IpAddr::from([192, 0, 2, 7])],
        };
        Stage::new(Arc::new(compile(&plain(&config), context).unwrap())).unwrap()
    }

    fn play(stage: &Stage, octets: &str) -> Played {
        let source = IpAddr::from([192, 0, 2, 1]);
        stage.play(&Part { listener: 0, octets: octets.as_bytes(), source, tls: None }, 0)
    }

    #[test]
    fn says_what_is_done_and_what_is_sent() {
        let stage = stage(FILE);
        for _ in 0..2 {
            let played =
                play(&stage, "PUT /a/x?y HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
            assert!(played.ended && played.refused.is_none(), "{played:?}");
            assert_eq!(played.record["rule"], "sent");
            assert_eq!(played.record["status"], 200);
            let [sent] = played.sent.as_slice() else { panic!("{played:?}") };
            assert_eq!(sent.target, "192.0.2.7:9000");
            let text = String::from_utf8_lossy(&sent.octets);
            assert!(text.starts_with("PUT /a/x?y HTTP/1.1\r\nhost: a\r\n"), "{text}");
            assert!(text.ends_with("\r\n\r\nhi"), "{text}");
        }
        let moved = play(&stage, "GET /b HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!((&moved.record["rule"], moved.sent.len()), (&"moved".into(), 0));
        let text = String::from_utf8_lossy(&moved.answer).into_owned();
        assert!(text.contains("location: http://a/c\r\n"), "{text}");
        let none = play(&stage, "GET /z HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(none.record["reason"], "no_route");
        let bad = play(&stage, "GET /z HTTP/1.1\r\n\r\n");
        assert_eq!(bad.refused, Some(Fault::HostMissing));
    }

    #[test]
    fn what_ringgate_sends_by_itself_is_played_too() {
        let hedged = FILE.to_owned() + "retry = { hedge = \"100ms\" }\n";
        let hedged =
            hedged.replace("[\"app.internal:9000\"]", "[\"app.internal:9000\", \"192.0.2.9:1\"]");
        let played = play(&stage(&hedged), "GET /d HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!((played.ended, played.sent.len()), (true, 1), "{played:?}");
        assert_eq!(played.record["status"], 200);
    }

    #[test]
    fn nothing_of_it_is_left_to_chance() {
        let text = FILE.to_owned()
            + "[group.shadow]\ntargets = [\"192.0.2.8:1\"]\n[[rule]]\nname = \"chance\"\nforward = \"app\"\n\
               mirror = { group = \"shadow\", share = \"99.99%\" }\n\
               inject = [{ abort = 503, share = \"99.99%\" }, { delay = \"1s\" }]\n";
        let stage = stage(&text);
        for _ in 0..9 {
            let played = play(&stage, "GET /chance HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!((&played.record["status"], played.sent.len()), (&200.into(), 1));
            assert_eq!(played.record["rule"], "chance");
        }
    }
}
