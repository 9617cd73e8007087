//! A simulated target: one connection from ringgate, on which it serves well, badly or not at all.
//!
//! What it can do wrong stands in `answers`; this file reads requests and carries out a plan.

use crate::answers::{self, Kind, Step};
use crate::ledger::{Exchange, Ledger};
use crate::request::EVIL;
use crate::wire::{Body, Head};
use fastrand::Rng;
use ringgate::net::memory::End;
use rustix::io::Errno;
use std::collections::VecDeque;
use std::io::IoSlice;

/// What a target is like.
#[derive(Clone, Debug)]
pub struct Nature {
    /// Of a hundred exchanges, how many go wrong.
    pub trouble: u32,
    /// How they go wrong.
    pub kinds: Vec<Kind>,
    /// Bodies are at most so long.
    pub largest: usize,
}

pub struct Conn {
    pub id: usize,
    pub target: usize,
    end: Option<End>,
    rx: Vec<u8>,
    request: Option<Request>,
    plan: VecDeque<Step>,
    waiting_since: Option<u64>,
    // It reads no more.
    deaf: bool,
    // An answer has been begun and is not whole.
    answering: bool,
}

struct Request {
    serial: usize,
    method: String,
    body: Body,
    // Whether the answer is planned.
    answered: bool,
    kind: Kind,
}

impl Conn {
    pub fn new(id: usize, target: usize, end: End) -> Conn {
        Conn {
            id,
            target,
            end: Some(end),
            rx: Vec::new(),
            request: None,
            plan: VecDeque::new(),
            waiting_since: None,
            deaf: false,
            answering: false,
        }
    }

    pub fn is_closed(&self) -> bool {
        self.end.is_none()
    }

    /// Whether ringgate still holds its end.
    pub fn is_held_by_peer(&self) -> bool {
        self.end.as_ref().is_some_and(|end| !end.is_abandoned())
    }

    /// Reads what is there, and goes on with its plan. Whether anything happened.
    pub fn act(&mut self, now: u64, nature: &Nature, rng: &mut Rng, ledger: &mut Ledger) -> bool {
        let mut did = self.read(now, ledger);
        did |= self.understand(now, nature, rng, ledger);
        if self.end.is_none()
            && let Some(request) = self.request.take_if(|r| !r.body.is_done())
        {
            ledger.exchanges[request.serial].part = request.body.octets;
        }
        while self.end.is_some() && self.step(now, ledger) {
            did = true;
            if rng.u8(..4) == 0 {
                break;
            }
        }
        did
    }

    fn read(&mut self, now: u64, ledger: &mut Ledger) -> bool {
        let mut any = false;
        while let (Some(end), false) = (&self.end, self.deaf) {
            let mut block = [0; 4096];
            match end.read(&mut block) {
                Ok(n) if n > 0 => {
                    self.rx.extend_from_slice(&block[..n]);
                    any = true;
                }
                Err(Errno::AGAIN) => return any,
                gone => {
                    let (id, how) = (self.id, if gone.is_ok() { "FIN" } else { "reset" });
                    ledger.note(now, format_args!("connection {id} ends by {how}"));
                    self.end = None;
                    return true;
                }
            }
        }
        any
    }

    fn understand(
        &mut self,
        now: u64,
        nature: &Nature,
        rng: &mut Rng,
        ledger: &mut Ledger,
    ) -> bool {
        let mut did = false;
        loop {
            let progress = match &mut self.request {
                None if self.rx.is_empty() => Ok(false),
                None => self.begin(now, nature, rng, ledger),
                Some(_) => self.go_on(now, nature, rng, ledger),
            };
            match progress {
                Ok(true) => did = true,
                Ok(false) => return did,
                Err(what) => {
                    ledger.violation(format!("connection {}: {what}", self.id));
                    self.end = None;
                    return true;
                }
            }
        }
    }

    fn begin(
        &mut self,
        now: u64,
        nature: &Nature,
        rng: &mut Rng,
        ledger: &mut Ledger,
    ) -> Result<bool, String> {
        if self.answering {
            return Err("a request before the answer to the last one had ended".to_owned());
        }
        // What it wanted to do while idle.
        self.plan.retain(|step| matches!(step, Step::Fin | Step::Reset));
        let Some(head) = Head::take(&mut self.rx)? else { return Ok(false) };
        let mut parts = head.start.split(' ');
        let (method, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if parts.next() != Some("HTTP/1.1") || parts.next().is_some() || !target.starts_with('/') {
            return Err(format!("a request line of {:?}", head.start));
        }
        let token = token_of(target).ok_or_else(|| format!("no token in {target:?}"))?;
        if token == EVIL {
            return Err(format!("a request that was none: {:?}", head.start));
        }
        let wants = ["host", "via", "x-request-id", "x-forwarded-for"];
        if let Some(name) = wants.iter().find(|name| head.field(name).is_none()) {
            return Err(format!("a request without {name}"));
        }
        let body = head.body(false, true)?;
        let kind = nature.pick(rng);
        let serial = ledger.exchanges.len();
        ledger.count(&format!("target: {}", kind.name()));
        ledger.note(
            now,
            format_args!("connection {} sees {} as {serial}, will {}", self.id, token, kind.name()),
        );
        ledger.exchanges.push(Exchange {
            token: token.to_owned(),
            method: method.to_owned(),
            behaviour: kind.name(),
            ..Exchange::default()
        });
        let continues = head.field("expect") == Some("100-continue");
        let method = method.to_owned();
        self.request = Some(Request { serial, method, body, answered: false, kind });
        self.deaf |= kind == Kind::Deaf;
        if kind.is_early() {
            self.answer(nature, rng, ledger);
        } else if continues && rng.u8(..3) > 0 {
            self.plan.push_back(Step::Write(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()));
        }
        Ok(true)
    }

    // The body, and what follows it.
    fn go_on(
        &mut self,
        now: u64,
        nature: &Nature,
        rng: &mut Rng,
        ledger: &mut Ledger,
    ) -> Result<bool, String> {
        let Some(request) = &mut self.request else { return Ok(false) };
        if !request.body.is_done() {
            request.body.feed(&mut self.rx)?;
            if !request.body.is_done() {
                return Ok(false);
            }
        }
        let (serial, answered) = (request.serial, request.answered);
        let exchange = &mut ledger.exchanges[serial];
        if exchange.body.is_none() {
            exchange.body = Some(request.body.octets.clone());
            ledger.note(now, format_args!("exchange {serial} has its whole request"));
        }
        if !answered {
            self.answer(nature, rng, ledger);
        }
        if !self.answering {
            // The next request may come.
            self.request = None;
            return Ok(!self.rx.is_empty());
        }
        if self.rx.is_empty() {
            Ok(false)
        } else {
            Err("a request before the answer to the last one had ended".to_owned())
        }
    }

    fn answer(&mut self, nature: &Nature, rng: &mut Rng, ledger: &mut Ledger) {
        let Some(request) = &mut self.request else { return };
        request.answered = true;
        let (serial, kind) = (request.serial, request.kind);
        let exchange = &mut ledger.exchanges[serial];
        let plan = answers::plan(kind, serial, &request.method, nature.largest, exchange, rng);
        self.plan.extend(plan);
        self.answering = !exchange.whole;
    }

    // One step of the plan; false when it has to wait.
    fn step(&mut self, now: u64, ledger: &mut Ledger) -> bool {
        let Some(step) = self.plan.front_mut() else { return false };
        let since = *self.waiting_since.get_or_insert(now);
        let Some(end) = &self.end else { return false };
        match step {
            Step::Write(octets) => {
                let most = octets.len().min(3000);
                match end.write(&[IoSlice::new(&octets[..most])]) {
                    Ok(n) => {
                        octets.drain(..n);
                        if !octets.is_empty() {
                            return true;
                        }
                    }
                    Err(Errno::AGAIN) => return false,
                    Err(_) => {
                        ledger.note(now, format_args!("connection {} cannot answer", self.id));
                        self.end = None;
                        return true;
                    }
                }
            }
            Step::Once(octets, needed) => {
                if end.write(&[IoSlice::new(octets)]).unwrap_or(0) < *needed {
                    ledger.note(now, format_args!("connection {} has no room", self.id));
                    self.end = None;
                    return true;
                }
            }
            Step::Wait(nanos) if now - since < *nanos => return false,
            Step::Wait(_) => {}
            // What arrives on an idle connection answers nothing; while a request is on its way nobody could tell.
            Step::Unasked(octets) => {
                if !end.has_news() && self.rx.is_empty() {
                    let _ = end.write(&[IoSlice::new(octets)]);
                    ledger.note(now, format_args!("connection {} speaks unasked", self.id));
                }
            }
            Step::Whole(_) | Step::Forever => return false,
            Step::Fin | Step::Reset => {
                if matches!(step, Step::Reset) {
                    end.reset_on_close();
                }
                ledger.note(now, format_args!("connection {} is closed by the target", self.id));
                self.end = None;
            }
        }
        self.plan.pop_front();
        self.waiting_since = None;
        // What is written may be read at once.
        if let Some(Step::Whole(serial)) = self.plan.front() {
            ledger.exchanges[*serial].whole = true;
            self.answering = false;
            ledger.note(now, format_args!("exchange {serial} is answered"));
            self.plan.pop_front();
        }
        true
    }
}

impl Nature {
    fn pick(&self, rng: &mut Rng) -> Kind {
        if rng.u32(..100) < self.trouble && !self.kinds.is_empty() {
            self.kinds[rng.usize(..self.kinds.len())]
        } else {
            answers::GOOD[rng.usize(..answers::GOOD.len())]
        }
    }
}

/// The token in a request target, or in what was logged of it.
pub fn token_of(target: &str) -> Option<&str> {
    target.split_once("?t=")?.1.split_once('&').map(|(token, _)| token)
}
