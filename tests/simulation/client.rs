//! A simulated client: one connection that follows a script, and reads what comes as strictly as it can.
//!
//! What the scripts are stands in `behaviour`.

use crate::ledger::{Answer, Asked, Ended, Ledger};
use crate::request::{EVIL, Made};
use crate::wire::{Body, Head, find};
use fastrand::Rng;
use ringgate::net::memory::End;
use rustix::io::Errno;
use std::collections::VecDeque;
use std::io::IoSlice;

/// One thing that a client does before the next.
#[derive(Clone, Debug)]
pub enum Op {
    /// Sends octets. Each request that ends among them stands with its number and the place of its last octet.
    Send(Vec<u8>, Vec<(usize, usize)>),
    /// Until so many final answers are there.
    Answers(usize),
    /// Until an interim answer or a final one is there, at most so long in nanoseconds.
    Interim(u64),
    /// Until an octet of the next answer is there.
    Octets,
    /// Waits so many nanoseconds.
    Wait(u64),
    /// Octets that it sends at once from now on.
    Piece(usize),
    /// Octets that it reads at once from now on; 0 for none at all.
    Sip(usize),
    /// Sends FIN and goes on reading.
    HalfClose,
    /// Closes its end.
    Close,
    /// Resets the connection.
    Reset,
    /// Reads until ringgate closes.
    UntilEnd,
}

/// The requests of a client, and what it does.
#[derive(Debug, Default)]
pub struct Script {
    /// Counts runs and clients, so that each entry of a table gets its turn.
    pub turn: usize,
    pub asked: Vec<Asked>,
    pub ops: VecDeque<Op>,
}

impl Script {
    /// Sends `octets` of `made`, all or a part: whole when the last is sent.
    pub fn send(&mut self, made: &Made, octets: &[u8], is_whole: bool) {
        let number = self.asked.len();
        self.asked.push(made.asked.clone());
        let end = if is_whole { octets.len() } else { usize::MAX };
        self.ops.push_back(Op::Send(octets.to_vec(), vec![(number, end)]));
    }

    /// Sends requests in one go.
    pub fn pipeline(&mut self, all: &[Made]) {
        let (mut octets, mut marks) = (Vec::new(), Vec::new());
        for made in all {
            octets.extend_from_slice(&made.octets);
            marks.push((self.asked.len(), octets.len()));
            self.asked.push(made.asked.clone());
        }
        self.ops.push_back(Op::Send(octets, marks));
    }

    pub fn then(&mut self, ops: impl IntoIterator<Item = Op>) {
        self.ops.extend(ops);
    }

    pub fn answers(&mut self) {
        self.ops.push_back(Op::Answers(self.asked.len()));
    }
}

pub struct Client {
    pub id: usize,
    end: Option<End>,
    ops: VecDeque<Op>,
    sent: usize,
    waiting_since: Option<u64>,
    piece: usize,
    sip: usize,
    rx: Vec<u8>,
    reply: Option<(Answer, Body)>,
    interims: usize,
    finished: bool,
}

impl Client {
    pub fn new(id: usize, end: End, ops: VecDeque<Op>) -> Client {
        Client {
            id,
            end: Some(end),
            ops,
            sent: 0,
            waiting_since: None,
            piece: usize::MAX,
            sip: usize::MAX,
            rx: Vec::new(),
            reply: None,
            interims: 0,
            finished: false,
        }
    }

    /// Whether it has nothing left to do.
    pub fn is_done(&self) -> bool {
        self.end.is_none()
    }

    /// Reads what is there and goes on with its script. Whether anything happened.
    pub fn act(&mut self, now: u64, rng: &mut Rng, ledger: &mut Ledger) -> bool {
        let read = self.read(now, ledger);
        let mut did = false;
        while self.end.is_some() && self.step(now, ledger) {
            did = true;
            if rng.u8(..4) == 0 {
                break;
            }
        }
        read || did
    }

    /// Gives up its script; it only reads from now on.
    pub fn only_read(&mut self) {
        self.sip = usize::MAX;
        self.ops.clear();
        self.ops.push_back(Op::UntilEnd);
    }

    fn read(&mut self, now: u64, ledger: &mut Ledger) -> bool {
        let mut any = false;
        loop {
            let Some(end) = &self.end else { return any };
            let mut block = [0; 4096];
            let most = self.sip.min(block.len());
            if most == 0 {
                return any;
            }
            match end.read(&mut block[..most]) {
                Ok(0) => {
                    // A closed stream stays closed: the script goes on sending for a while.
                    any |= !self.finished;
                    self.over(now, Ended::Fin, ledger);
                    return any;
                }
                Ok(n) => {
                    self.rx.extend_from_slice(&block[..n]);
                    any = true;
                    if let Err(what) = self.parse(now, ledger) {
                        ledger.violation(format!("client {}: {what}", self.id));
                        self.leave(now, Ended::Own, ledger);
                        return true;
                    }
                }
                Err(Errno::AGAIN) => return any,
                Err(_) => {
                    self.over(now, Ended::Reset, ledger);
                    return true;
                }
            }
            if self.sip < block.len() {
                return any;
            }
        }
    }

    fn parse(&mut self, now: u64, ledger: &mut Ledger) -> Result<(), String> {
        if find(&self.rx, EVIL.as_bytes()).is_some() {
            let all = String::from_utf8_lossy(&self.rx);
            return Err(format!("octets arrived that belong to no answer, among {all:?}"));
        }
        loop {
            if self.reply.is_none() && !self.parse_head(now, ledger)? {
                return Ok(());
            }
            let Some((answer, body)) = &mut self.reply else { continue };
            body.feed(&mut self.rx)?;
            if !body.is_done() {
                return Ok(());
            }
            answer.body = std::mem::take(&mut body.octets);
            let answer = std::mem::take(answer);
            self.reply = None;
            self.answered(now, answer, ledger);
        }
    }

    // True when a final head was taken or an interim one passed over.
    fn parse_head(&mut self, now: u64, ledger: &mut Ledger) -> Result<bool, String> {
        let Some(head) = Head::take(&mut self.rx)? else { return Ok(false) };
        let status = head.start.split(' ').nth(1).and_then(|s| s.parse::<u16>().ok());
        let status = status.filter(|_| head.start.starts_with("HTTP/1.1 "));
        let status = status.ok_or_else(|| format!("a status line of {:?}", head.start))?;
        if status == 101 {
            return Err("switched protocols".to_owned());
        }
        if status < 200 {
            self.interims += 1;
            return Ok(true);
        }
        let facts = &ledger.clients[self.id];
        let Some(asked) = facts.asked.get(facts.answers.len()) else {
            return Err(format!("an answer too many: {:?}", head.start));
        };
        if asked.begun_at.is_none() {
            return Err(format!("{} was answered before it was sent", asked.token));
        }
        let silent = asked.method == "HEAD" || matches!(status, 204 | 304);
        let body = head.body(silent, false)?;
        let text = |name: &str| head.field(name).map(str::to_owned);
        let answer = Answer {
            status,
            exchange: head.field("x-exchange").and_then(|s| s.parse().ok()),
            reason: text("x-ringgate-reason"),
            request_id: text("x-request-id"),
            location: text("location"),
            body: Vec::new(),
            closes: head.field("connection") == Some("close"),
            until_close: body.ends_with_the_connection(),
        };
        ledger.note(now, format_args!("client {} sees {} {:?}", self.id, status, answer.exchange));
        self.reply = Some((answer, body));
        Ok(true)
    }

    fn answered(&mut self, now: u64, answer: Answer, ledger: &mut Ledger) {
        ledger.note(now, format_args!("client {} has {} octets", self.id, answer.body.len()));
        ledger.clients[self.id].answers.push(answer);
    }

    // Ringgate has closed: what is begun is either ended by that or broken.
    fn over(&mut self, now: u64, how: Ended, ledger: &mut Ledger) {
        if std::mem::replace(&mut self.finished, true) && how == Ended::Fin {
            return;
        }
        if let Some((mut answer, body)) = self.reply.take() {
            answer.body = body.octets.clone();
            if body.ends_with_the_connection() && how == Ended::Fin {
                self.answered(now, answer, ledger);
            } else {
                ledger.clients[self.id].partial = Some(answer);
            }
        } else if !self.rx.is_empty() {
            ledger.clients[self.id].partial = Some(Answer::default());
        }
        let facts = &mut ledger.clients[self.id];
        (facts.end, facts.ended_at) = (how, now);
        ledger.note(now, format_args!("client {} sees {how:?}", self.id));
        let goes_on = how == Ended::Fin && matches!(self.ops.front(), Some(Op::Send(..)));
        if !goes_on {
            self.end = None;
        }
    }

    // The client's own end of it.
    fn leave(&mut self, now: u64, how: Ended, ledger: &mut Ledger) {
        let facts = &mut ledger.clients[self.id];
        if facts.end == Ended::Open {
            (facts.end, facts.ended_at) = (how, now);
            facts.left_early = true;
        }
        ledger.note(now, format_args!("client {} leaves", self.id));
        self.end = None;
    }

    // One step of the script; false when it has to wait.
    fn step(&mut self, now: u64, ledger: &mut Ledger) -> bool {
        let Some(op) = self.ops.front().cloned() else {
            self.leave(now, Ended::Own, ledger);
            return true;
        };
        if self.finished && !matches!(op, Op::Send(..)) {
            self.end = None;
            return true;
        }
        let since = *self.waiting_since.get_or_insert(now);
        let answers = ledger.clients[self.id].answers.len();
        match op {
            Op::Send(octets, marks) => return self.send(&octets, &marks, now, ledger),
            Op::Answers(wanted) if answers < wanted => return false,
            Op::Interim(most) if self.interims == 0 && answers == 0 && now - since < most => {
                return false;
            }
            Op::Interim(_) if answers > 0 => self.ops.truncate(1),
            Op::Octets if self.reply.is_none() && self.rx.is_empty() && answers == 0 => {
                return false;
            }
            Op::Wait(nanos) if now - since < nanos => return false,
            Op::UntilEnd => return false,
            Op::Piece(piece) => self.piece = piece,
            Op::Sip(sip) => {
                ledger.clients[self.id].left_early |= sip == 0;
                self.sip = sip;
            }
            Op::HalfClose => {
                if let Some(end) = &self.end {
                    end.finish_writing();
                }
                ledger.note(now, format_args!("client {} sends FIN", self.id));
            }
            Op::Reset => {
                if let Some(end) = &self.end {
                    end.reset_on_close();
                }
                self.leave(now, Ended::Own, ledger);
            }
            Op::Close => self.leave(now, Ended::Own, ledger),
            Op::Answers(_) | Op::Interim(_) | Op::Octets | Op::Wait(_) => {}
        }
        self.next();
        true
    }

    fn next(&mut self) {
        self.ops.pop_front();
        (self.waiting_since, self.sent) = (None, 0);
    }

    fn send(
        &mut self,
        octets: &[u8],
        marks: &[(usize, usize)],
        now: u64,
        ledger: &mut Ledger,
    ) -> bool {
        let Some(end) = &self.end else { return false };
        let rest = &octets[self.sent..];
        let written = match end.write(&[IoSlice::new(&rest[..self.piece.min(rest.len())])]) {
            Ok(n) => n,
            Err(Errno::AGAIN) => return false,
            Err(_) => {
                // What was sent to no one was not sent.
                self.over(now, Ended::Reset, ledger);
                self.end = None;
                return true;
            }
        };
        let before = self.sent;
        self.sent += written;
        let facts = &mut ledger.clients[self.id];
        let mut start = 0;
        for (number, last) in marks {
            let asked = &mut facts.asked[*number];
            if start < self.sent && asked.begun_at.is_none() {
                asked.begun_at = Some(now);
            }
            if before < *last && *last <= self.sent {
                asked.whole_at = Some(now);
            }
            start = *last;
        }
        ledger.note(now, format_args!("client {} sends {written} octets", self.id));
        if self.sent == octets.len() {
            self.next();
        }
        // One piece a turn.
        self.piece > octets.len()
    }
}
