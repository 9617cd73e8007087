//! A request that is played through without a network: what would be done with it, and what a target would be sent.
//!
//! It goes the very way of a received one (`proxy::exchange`), over connections in memory, to targets that all give one answer.
//! Passwords are checked; nothing is asked of other services, and nothing is counted for the running process: the snapshot is one
//! of its own. Called by `check` for `[[expect]]`, and by `explain`.

use crate::base::Tick;
use crate::base::tick;
use crate::config::{Config, ExpectAnswer, Limits, TargetProtocol};
use crate::fanout::Share;
use crate::http::{Fault, RequestView, write};
use crate::net::local::Local;
use crate::net::memory::{Dialled, End, Shape, pair};
use crate::net::{Network, Sock, Timers};
use crate::observe::{self, Format};
use crate::policy::basic::hash;
use crate::policy::{Question, Reply};
use crate::proxy::{Client, Exchange, exchange};
use crate::shard::{AccessLog, Ask, Epoch, Machine, Pulse, Shard, Trace};
use crate::snapshot::{Action, Listener, Snapshot};
use crate::sticky::Steer;
use crate::tls::Facts;
use crossbeam::channel::{Receiver, unbounded};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Where requests are played through.
pub struct Stage {
    shard: Rc<Shard>,
    dialled: Rc<Dialled>,
    records: Receiver<Vec<u8>>,
    graveyard: Receiver<Arc<Snapshot>>,
    asked: RefCell<UnboundedReceiver<Ask>>,
    // Hashing takes long, and a request may be played thousands of times.
    passwords: RefCell<HashMap<Tried, bool>>,
    // When the next request comes.
    next: Cell<Tick>,
}

// A hash and a password.
type Tried = (Arc<str>, Vec<u8>);

// Passwords that are remembered.
const PASSWORDS: usize = 64;

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
    /// What targets answer; `None` for 200, with an empty JSON object where it is read.
    pub answer: Option<&'a ExpectAnswer>,
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
    /// What cookies have said of where the client stays.
    pub steer: Steer,
    /// Other services that a policy wanted to ask, as `GET https://a.example/x`; none was.
    pub unasked: Vec<String>,
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
        let (to, asked) = unbounded_channel();
        shard.asks.connect(0, to);
        let (asked, passwords) = (RefCell::new(asked), RefCell::default());
        let next = Cell::new(Tick::now());
        Some(Stage { shard, dialled, records, graveyard, asked, passwords, next })
    }

    /// Plays a request through. The first comes now, each other one an hour after the one before, so that no rate is exceeded by rehearsing; the wall clock
    /// says what it says. What is left to chance follows from `luck`, so that a file is judged alike every time.
    pub fn play(&self, part: &Part<'_>, luck: u64) -> Played {
        self.shard.with_rng(|rng| rng.seed(luck));
        let wall = tick::wall_micros();
        let began = self.next.get();
        tick::rehearse(Some(began), wall);
        let played = self.act(part, began, wall);
        self.next.set(Tick::now().after(Duration::from_secs(3600)));
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
        let view = scratch.request.view(buf.filled(), part.source);
        let json = part.answer.is_none() && reads_answer(&epoch.snapshot, listener, &view);
        let answer = part.answer.cloned().unwrap_or_else(|| usual(json));
        let mut targets: Vec<(Delivered, End)> = Vec::new();
        let mut sent: Vec<Delivered> = Vec::new();
        let mut unasked: Vec<String> = Vec::new();
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
                    let replied = self.reply(&mut unasked);
                    read(&theirs, &mut played.answer)
                        | replied
                        | self.answer(&mut targets, &answer, &mut sent)
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
        (played.steer, played.unasked) = (scratch.trace.steer, unasked);
        shard.give_back(scratch);
        shard.sweep(Tick::now());
        let lines: Vec<u8> = self.records.try_iter().flatten().collect();
        let line = lines.split(|b| *b == b'\n').next().unwrap_or_default();
        played.record = serde_json::from_slice(line).unwrap_or_default();
        // What no target has read to its end was sent, too.
        let begun = targets.into_iter().map(|(delivered, _)| delivered);
        played.sent = sent.into_iter().chain(begun.filter(|d| !d.octets.is_empty())).collect();
        played
    }

    // Answers what policies ask. Whether anything was done.
    fn reply(&self, unasked: &mut Vec<String>) -> bool {
        let mut did = false;
        while let Ok(ask) = self.asked.borrow_mut().try_recv() {
            let reply = match *ask.question {
                Question::Password { hash, password } => Reply::Password(self.fits(hash, password)),
                Question::Call(call) => {
                    unasked.push(format!("{call:?}"));
                    Reply::Unasked(Arc::from("it is not asked here"))
                }
            };
            self.shard.asks.reply(ask.ticket, reply);
            did = true;
        }
        did
    }

    fn fits(&self, hash: Arc<str>, password: Vec<u8>) -> bool {
        let mut known = self.passwords.borrow_mut();
        if known.len() >= PASSWORDS {
            known.clear();
        }
        let asked = (hash, password);
        if let Some(fits) = known.get(&asked) {
            return *fits;
        }
        let fits = hash::verify(&asked.0, &asked.1);
        known.insert(asked, fits);
        fits
    }

    // Plays the targets: each connection is taken, read, and answered. Whether anything was done.
    fn answer(
        &self,
        targets: &mut Vec<(Delivered, End)>,
        answer: &ExpectAnswer,
        sent: &mut Vec<Delivered>,
    ) -> bool {
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
                let octets = std::mem::take(&mut delivered.octets);
                let spoken = spoken(answer, octets.starts_with(b"HEAD "));
                sent.push(Delivered { target: delivered.target.clone(), octets });
                did |= end.write(&[IoSlice::new(&spoken)]).is_ok();
            }
        }
        did
    }
}

// Whether what targets answer is read, and must be JSON for that.
fn reads_answer(snapshot: &Snapshot, listener: &Listener, view: &RequestView<'_>) -> bool {
    let found = snapshot.routes.find(listener.route, view);
    let rule = found.and_then(|id| snapshot.rules.get(id.0 as usize));
    let action = rule.map_or(&listener.default, |rule| &rule.action);
    matches!(action, Action::Aggregate(_)) || rule.is_some_and(|rule| rule.traffic.reads_response)
}

fn usual(json: bool) -> ExpectAnswer {
    let kind = ("content-type".to_owned(), "application/json".to_owned());
    match json {
        true => ExpectAnswer { status: 200, headers: vec![kind], body: "{}".to_owned() },
        false => ExpectAnswer { status: 200, headers: Vec::new(), body: String::new() },
    }
}

fn spoken(answer: &ExpectAnswer, to_head: bool) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {} {}\r\n", answer.status, write::phrase(answer.status));
    for (name, value) in &answer.headers {
        text.extend([name, ": ", value, "\r\n"]);
    }
    // RFC 9110 section 8.6: neither has a body.
    if !matches!(answer.status, 204 | 304) {
        text.extend(["content-length: ", &answer.body.len().to_string(), "\r\n"]);
    }
    text.push_str("\r\n");
    if !to_head {
        text.push_str(&answer.body);
    }
    text.into_bytes()
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
        stage.play(
            &Part { listener: 0, octets: octets.as_bytes(), source, tls: None, answer: None },
            0,
        )
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
