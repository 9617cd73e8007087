//! What a body becomes on its way: stages that its octets pass through, one after the other.
//!
//! A stage takes octets and appends what they become; what a receiver waits for is never held back for long. Most bodies have no
//! stage and are written from where they were read (`body`). Set up by `multiplex` and `shape`, fed by `body`.

use crate::proxy::cached::Filling;
use crate::proxy::recode::Recode;
use crate::transform::compress::{Decoder, Encoder};

/// The stages of one body, in order.
#[derive(Debug, Default)]
pub struct Stages(Vec<Stage>);

/// One of them.
#[derive(Debug)]
pub enum Stage {
    /// Another form of gRPC.
    Recode(Recode),
    /// A content coding is taken off.
    Decode(Box<Decoder>),
    /// It is kept as it passes.
    Fill(Box<Filling>),
    /// A content coding is put on.
    Encode(Box<Encoder>),
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

impl Stages {
    /// Stages that a body of gRPC needs, if any.
    pub fn of(recode: Option<Recode>) -> Option<Stages> {
        recode.map(|recode| Stages(vec![Stage::Recode(recode)]))
    }

    /// Adds a stage behind the others.
    pub fn push(&mut self, stage: Stage) {
        self.0.push(stage);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether trailer fields become a part of the body.
    pub fn takes_trailers(&self) -> bool {
        self.0.iter().any(|stage| matches!(stage, Stage::Recode(_)))
    }

    /// Appends what `octets` become.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn data(&mut self, octets: &[u8], out: &mut Vec<u8>) -> Result<(), Unfit> {
        through(&mut self.0, octets, out)
    }

    /// Appends what must not wait for more octets.
    ///
    /// # Errors
    /// As of [`Stages::data`].
    pub fn pause(&mut self, out: &mut Vec<u8>) -> Result<(), Unfit> {
        self.each(out, |stage, out| {
            stage.pause(out);
            Ok(())
        })
    }

    /// Appends what the end of the body becomes; `trailers` are lines that [`Stages::takes_trailers`] asks for.
    ///
    /// # Errors
    /// As of [`Stages::data`].
    pub fn end(&mut self, trailers: &[u8], out: &mut Vec<u8>) -> Result<(), Unfit> {
        self.each(out, |stage, out| stage.end(trailers, out))
    }

    /// What a body becomes that is here whole.
    ///
    /// # Errors
    /// As of [`Stages::data`].
    pub fn whole(&mut self, body: &[u8]) -> Result<Vec<u8>, Unfit> {
        let mut out = Vec::new();
        self.data(body, &mut out)?;
        self.end(&[], &mut out)?;
        Ok(out)
    }

    // Does something to each stage; what it yields passes through those behind it.
    fn each(
        &mut self,
        out: &mut Vec<u8>,
        mut act: impl FnMut(&mut Stage, &mut Vec<u8>) -> Result<(), Unfit>,
    ) -> Result<(), Unfit> {
        let mut at = 0;
        while let Some((stage, behind)) = self.0.get_mut(at..).and_then(<[_]>::split_first_mut) {
            if behind.is_empty() {
                return act(stage, out);
            }
            let mut yielded = Vec::new();
            act(stage, &mut yielded)?;
            through(behind, &yielded, out)?;
            at += 1;
        }
        Ok(())
    }
}

fn through(stages: &mut [Stage], octets: &[u8], out: &mut Vec<u8>) -> Result<(), Unfit> {
    match stages {
        _ if octets.is_empty() => Ok(()),
        [] => {
            out.extend_from_slice(octets);
            Ok(())
        }
        [last] => last.data(octets, out),
        [first, behind @ ..] => {
            let mut yielded = Vec::new();
            first.data(octets, &mut yielded)?;
            through(behind, &yielded, out)
        }
    }
}

impl Stage {
    fn data(&mut self, octets: &[u8], out: &mut Vec<u8>) -> Result<(), Unfit> {
        match self {
            Stage::Recode(recode) => recode.data(octets, out).map_err(|_| Unfit::Text),
            Stage::Decode(decoder) => decoder.data(octets, out).map_err(|_| Unfit::Coding),
            Stage::Fill(filling) => {
                filling.data(octets);
                out.extend_from_slice(octets);
                Ok(())
            }
            Stage::Encode(encoder) => encoder.data(octets, out).map_err(|_| Unfit::Coding),
        }
    }

    fn pause(&mut self, out: &mut Vec<u8>) {
        match self {
            Stage::Recode(recode) => recode.pause(out),
            Stage::Encode(encoder) => encoder.pause(out),
            Stage::Decode(_) | Stage::Fill(_) => {}
        }
    }

    fn end(&mut self, trailers: &[u8], out: &mut Vec<u8>) -> Result<(), Unfit> {
        match self {
            Stage::Recode(recode) => recode.end(trailers, out).map_err(|_| Unfit::Text),
            Stage::Decode(decoder) => decoder.end(out).map_err(|_| Unfit::Coding),
            Stage::Fill(filling) => {
                filling.end();
                Ok(())
            }
            Stage::Encode(encoder) => encoder.end(out).map_err(|_| Unfit::Coding),
        }
    }
}
