//! What a body becomes on its way: stages that its octets pass through, one after the other.
//!
//! A stage takes octets and appends what they become, so many at a time that no other connection waits for long (hazard RT-15); what
//! a receiver waits for goes out when the sender pauses. Most bodies have no stage and are written from where they were read
//! (`body`). Set up by `multiplex` and `shape`, fed by `passing`.

use crate::proxy::cached::Filling;
use crate::proxy::recode::Recode;
use crate::shard::Tap;
use crate::shard::coders::{Decoding, Encoding};
use crate::transform::compress::Flaw;

/// The stages of one body, in order.
#[derive(Debug, Default)]
pub struct Stages {
    // Who gets what goes in, before it becomes anything else.
    keepers: Vec<Keeper>,
    stages: Vec<Stage>,
    /// What has come out and was not written yet.
    pub made: Vec<u8>,
    /// Octets that have come out.
    pub produced: u64,
}

/// One of them.
#[derive(Debug)]
pub enum Stage {
    /// Another form of gRPC.
    Recode(Recode),
    /// A content coding is taken off.
    Decode(Box<Decoding>),
    /// A content coding is put on.
    Encode(Box<Encoding>),
}

/// Who keeps a body as it passes.
#[derive(Debug)]
pub enum Keeper {
    /// Whoever compares it.
    Tap(Box<Tap>),
    /// The store.
    Fill(Box<Filling>),
}

/// Why a body cannot become what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// Text of gRPC-Web that is no base64.
    Text,
    /// What is no content of its coding.
    Coding,
    /// It becomes larger than it may.
    TooLarge,
}

// Octets that go in at a time, where no stage wants fewer.
const TURN: usize = 64 << 10;

impl Stages {
    /// Stages that a body of gRPC needs, if any.
    pub fn of(recode: Option<Recode>) -> Option<Stages> {
        let mut stages = Stages::default();
        stages.push(Stage::Recode(recode?));
        Some(stages)
    }

    /// Adds a stage behind the others.
    pub fn push(&mut self, stage: Stage) {
        self.stages.push(stage);
    }

    /// Has what goes in kept, too.
    pub fn keep(&mut self, keeper: Keeper) {
        self.keepers.push(keeper);
    }

    /// Whether there is none, nor anybody who keeps anything.
    pub fn is_empty(&self) -> bool {
        self.stages.is_empty() && self.keepers.is_empty()
    }

    /// Whether the body stays as long as it is.
    pub fn keep_length(&self) -> bool {
        self.stages.is_empty()
    }

    /// Whether trailer fields become a part of the body.
    pub fn takes_trailers(&self) -> bool {
        self.stages.iter().any(|stage| matches!(stage, Stage::Recode(_)))
    }

    /// Whether what comes out is another content, of which digests of what went in say nothing.
    pub fn alters(&self) -> bool {
        self.stages.iter().any(|stage| matches!(stage, Stage::Decode(_) | Stage::Encode(_)))
    }

    /// Whether so many octets can go through in one turn, and come out as a whole.
    pub fn at_once(&self, octets: usize) -> bool {
        let unbounded = |stage: &Stage| matches!(stage, Stage::Recode(_) | Stage::Decode(_));
        octets <= self.turn() && !self.stages.iter().any(unbounded)
    }

    /// Takes octets from the front of `octets`, as many as one turn takes; returns how many. What they become is in
    /// [`Stages::made`].
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn data(&mut self, octets: &[u8]) -> Result<usize, Unfit> {
        let turn = octets.get(..self.turn()).unwrap_or(octets);
        let before = self.made.len();
        let taken = match self.stages.split_first_mut() {
            None => {
                self.made.extend_from_slice(turn);
                turn.len()
            }
            Some((only, [])) => only.data(turn, &mut self.made)?,
            Some((first, behind)) => {
                let mut yielded = Vec::new();
                let taken = first.data(turn, &mut yielded)?;
                through(behind, &yielded, &mut self.made)?;
                taken
            }
        };
        self.produced += (self.made.len() - before) as u64;
        let kept = turn.get(..taken).unwrap_or_default();
        self.keepers.iter_mut().for_each(|keeper| match keeper {
            Keeper::Tap(tap) => tap.data(kept),
            Keeper::Fill(filling) => filling.data(kept),
        });
        Ok(taken)
    }

    /// Octets that have come out and were taken to be written.
    pub fn gone(&self) -> u64 {
        self.produced.saturating_sub(self.made.len() as u64)
    }

    /// Whether more is to come of what was taken.
    pub fn holds(&self) -> bool {
        self.stages.first().is_some_and(Stage::holds)
    }

    /// Adds what must not wait for more octets.
    ///
    /// # Errors
    /// As of [`Stages::data`].
    pub fn pause(&mut self) -> Result<(), Unfit> {
        self.each(Stage::pause)
    }

    /// Adds what the end of the body becomes; `trailers` are lines that [`Stages::takes_trailers`] asks for.
    ///
    /// # Errors
    /// As of [`Stages::data`].
    pub fn end(&mut self, trailers: &[u8]) -> Result<(), Unfit> {
        self.each(|stage, out| stage.end(trailers, out))?;
        self.keepers.iter_mut().for_each(|keeper| match keeper {
            Keeper::Tap(tap) => tap.end(),
            Keeper::Fill(filling) => filling.end(),
        });
        Ok(())
    }

    /// What a body becomes that is here whole, where [`Stages::at_once`] says so.
    ///
    /// # Errors
    /// As of [`Stages::data`].
    pub fn whole(&mut self, body: &[u8]) -> Result<Vec<u8>, Unfit> {
        let mut rest = body;
        while !rest.is_empty() || self.holds() {
            let taken = self.data(rest)?;
            rest = rest.get(taken..).unwrap_or_default();
        }
        self.end(&[])?;
        Ok(std::mem::take(&mut self.made))
    }

    // The stage that takes least at a time says how many octets go in.
    fn turn(&self) -> usize {
        let turns = self.stages.iter().map(|stage| match stage {
            Stage::Encode(encoding) => encoding.turn(),
            _ => TURN,
        });
        turns.min().unwrap_or(TURN)
    }

    // Does something to each stage; what it yields passes through those behind it.
    fn each(
        &mut self,
        mut act: impl FnMut(&mut Stage, &mut Vec<u8>) -> Result<(), Unfit>,
    ) -> Result<(), Unfit> {
        let before = self.made.len();
        let mut rest = self.stages.as_mut_slice();
        while let Some((stage, behind)) = rest.split_first_mut() {
            if behind.is_empty() {
                act(stage, &mut self.made)?;
            } else {
                let mut yielded = Vec::new();
                act(stage, &mut yielded)?;
                through(behind, &yielded, &mut self.made)?;
            }
            rest = behind;
        }
        self.produced += (self.made.len() - before) as u64;
        Ok(())
    }
}

impl Drop for Stages {
    fn drop(&mut self) {
        for stage in self.stages.drain(..) {
            if let Stage::Encode(encoding) = stage {
                encoding.give_back();
            }
        }
    }
}

// All of it: what a stage before has yielded is bounded.
fn through(stages: &mut [Stage], octets: &[u8], out: &mut Vec<u8>) -> Result<(), Unfit> {
    let Some((first, behind)) = stages.split_first_mut() else {
        out.extend_from_slice(octets);
        return Ok(());
    };
    let mut rest = octets;
    while !rest.is_empty() || first.holds() {
        let taken = if behind.is_empty() {
            first.data(rest, out)?
        } else {
            let mut yielded = Vec::new();
            let taken = first.data(rest, &mut yielded)?;
            through(behind, &yielded, out)?;
            taken
        };
        rest = rest.get(taken..).unwrap_or_default();
    }
    Ok(())
}

impl Stage {
    // Returns how many octets it took; but a decoder, each takes all.
    fn data(&mut self, octets: &[u8], out: &mut Vec<u8>) -> Result<usize, Unfit> {
        match self {
            Stage::Recode(recode) => recode.data(octets, out).map_err(|_| Unfit::Text)?,
            Stage::Decode(decoding) => {
                return decoding.decoder.data(octets, out).map_err(Unfit::of);
            }
            Stage::Encode(encoding) => encoding.data(octets, out).map_err(Unfit::of)?,
        }
        Ok(octets.len())
    }

    fn holds(&self) -> bool {
        matches!(self, Stage::Decode(decoding) if decoding.decoder.holds())
    }

    fn pause(&mut self, out: &mut Vec<u8>) -> Result<(), Unfit> {
        match self {
            Stage::Recode(recode) => recode.pause(out),
            Stage::Encode(encoding) => encoding.pause(out).map_err(Unfit::of)?,
            Stage::Decode(_) => {}
        }
        Ok(())
    }

    fn end(&mut self, trailers: &[u8], out: &mut Vec<u8>) -> Result<(), Unfit> {
        match self {
            Stage::Recode(recode) => recode.end(trailers, out).map_err(|_| Unfit::Text),
            Stage::Decode(decoding) => decoding.decoder.end().map_err(Unfit::of),
            Stage::Encode(encoding) => encoding.end(out).map_err(Unfit::of),
        }
    }
}

impl Unfit {
    fn of(flaw: Flaw) -> Unfit {
        match flaw {
            Flaw::Malformed => Unfit::Coding,
            Flaw::TooLarge => Unfit::TooLarge,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Tick;
    use crate::base::lease::{Budget, Lease};
    use crate::net::Buffers;
    use crate::proxy::pace::{Limit as Over, Pace};
    use crate::shard::coders::Coders;
    use crate::transform::compress::{Coding, Encoder, Limit};
    use std::rc::Rc;
    use std::sync::Arc;
    use std::time::Duration;

    /// A client that takes more than the floor asks for is not slow, however few octets those were before.
    #[test]
    fn a_client_is_judged_by_what_it_was_given() {
        let mut coded = Vec::new();
        let mut encoder = Encoder::new(Coding::Gzip, 4).unwrap();
        encoder.data(&[0; 60_000], &mut coded).unwrap();
        encoder.end(&mut coded).unwrap();
        let buffers = Rc::new(Buffers::new(Lease::new(Budget::new(100), 1)));
        let coders = Rc::new(Coders::new(Arc::default()));
        let limit = Limit::of(u64::MAX);
        let decoding = coders.decoder(&buffers, &[Coding::Gzip], limit).unwrap();
        let mut stages = Stages::default();
        stages.push(Stage::Decode(Box::new(decoding)));
        let mut rest = coded.as_slice();
        while !rest.is_empty() || stages.holds() {
            let taken = stages.data(rest).unwrap();
            rest = &rest[taken..];
        }
        assert_eq!(stages.gone(), 0, "all of it is still here");
        stages.made.drain(..50_000);
        assert_eq!(stages.gone(), 50_000);
        let pace = Pace::new(Duration::from_secs(60), Some(1000));
        let now = Tick::from_nanos(30_000_000_000);
        pace.waited(Tick::from_nanos(0), now);
        assert_eq!(pace.deadline(now, coded.len() as u64), (now, Over::Floor));
        let left = now.after(Duration::from_secs(40));
        assert_eq!(pace.deadline(now, stages.gone()), (left, Over::Floor));
    }
}
