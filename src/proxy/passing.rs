//! Bodies that are not written as they were read: made into something else on the way, or held to a rate.
//!
//! The other half of `body`, for the few that need it; its futures are boxed there. What comes out of stages is gathered until it is
//! worth a write, or until the sender pauses.

use crate::base::Tick;
use crate::http::Span;
use crate::net::buf::LARGE;
use crate::net::sock::to_the_end_of_the_queue;
use crate::net::{Buf, Side};
use crate::proxy::body::{Broken, Reader, Relay, State};
use crate::proxy::stages::{Stages, Unfit};
use crate::transform::compress::facts;
use std::cell::RefCell;
use std::io;

// Octets that are worth a write while more are coming.
const WORTH: usize = 16 << 10;

impl Relay<'_> {
    /// Writes data as what it becomes, no faster than it may. Returns what of `prefix` has not been written.
    pub(super) async fn pass_made<'p>(
        &self,
        prefix: &'p [u8],
        buf: &[u8],
        spans: &[Span],
        end: bool,
        moved: u64,
    ) -> Result<&'p [u8], Broken> {
        let mut prefix = prefix;
        let Some(stages) = &self.stages else {
            let (last, before) = match spans.split_last() {
                Some((last, before)) => (last.of(buf), before),
                None => (&[][..], &[][..]),
            };
            for span in before {
                self.send(prefix, span.of(buf), false, moved).await?;
                prefix = &[];
            }
            self.send(prefix, last, end, moved).await?;
            return Ok(&[]);
        };
        for span in spans {
            let mut rest = span.of(buf);
            while !rest.is_empty() || stages.borrow().holds() {
                let taken = stages.borrow_mut().data(rest).map_err(Broken::unfit)?;
                rest = rest.get(taken..).unwrap_or_default();
                if stages.borrow().made.len() >= WORTH {
                    self.send_made(stages, prefix, false, moved).await?;
                    prefix = &[];
                }
                if !rest.is_empty() || stages.borrow().holds() {
                    to_the_end_of_the_queue().await;
                }
            }
        }
        if !end {
            return Ok(prefix);
        }
        stages.borrow_mut().end(&[]).map_err(Broken::unfit)?;
        self.send_made(stages, prefix, true, moved).await?;
        Ok(&[])
    }

    /// As `fill`, but before it waits for the sender what has been made of its octets goes out, behind `prefix`.
    pub(super) async fn fill_made(
        &self,
        stages: &RefCell<Stages>,
        prefix: &mut &[u8],
        buf: &mut Buf,
        reader: &Reader,
    ) -> Result<bool, Broken> {
        if buf.is_empty() && buf.capacity() < LARGE {
            *buf = self.shard.buffers.large();
        }
        let most = self.most(reader);
        let room = buf.spare();
        let most = most.min(room.len());
        match self.from.try_read(room.get_mut(..most).unwrap_or_default()) {
            Ok(0) if matches!(reader.state, State::Close) => return Ok(true),
            Ok(0) => return Err(Broken::SourceGone),
            Ok(n) => {
                buf.fill(n);
                if let Some(quiet) = &self.quiet {
                    quiet.moved(Tick::now());
                }
                return Ok(false);
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {
                return self.fill(buf, reader).await;
            }
            Err(_) => return Err(Broken::SourceGone),
        }
        stages.borrow_mut().pause().map_err(Broken::unfit)?;
        if !prefix.is_empty() || !stages.borrow().made.is_empty() {
            self.send_made(stages, prefix, false, reader.total).await?;
            *prefix = &[];
        }
        // Whoever pauses for long holds nothing.
        stages.borrow_mut().made = Vec::new();
        self.fill(buf, reader).await
    }

    /// Writes the end of a body that is made into something else; `fields` are its trailer fields, of which those are taken
    /// out that no longer hold. Whether that was all, so that no trailer section follows.
    pub(super) async fn end_made(
        &self,
        stages: &RefCell<Stages>,
        prefix: &[u8],
        fields: &mut Option<Vec<u8>>,
        moved: u64,
    ) -> Result<bool, Broken> {
        let (taken, alters) = (stages.borrow().takes_trailers(), stages.borrow().alters());
        if alters && let Some(lines) = fields.take() {
            *fields = Some(without_digests(&lines)).filter(|lines| !lines.is_empty());
        }
        let given = fields.as_deref().filter(|_| taken).unwrap_or_default();
        stages.borrow_mut().end(given).map_err(Broken::unfit)?;
        let last = taken || fields.is_none();
        self.send_made(stages, prefix, last, moved).await?;
        Ok(last)
    }

    /// Octets that the client has given, or has been given: with stages those that came out of them and are not still here.
    /// `read` have come of the body.
    pub(super) fn moved(&self, read: u64) -> u64 {
        match &self.stages {
            Some(stages) if self.client == Side::Write => stages.borrow().gone(),
            _ => read,
        }
    }

    async fn send_made(
        &self,
        stages: &RefCell<Stages>,
        prefix: &[u8],
        end: bool,
        moved: u64,
    ) -> Result<(), Broken> {
        let mut made = std::mem::take(&mut stages.borrow_mut().made);
        self.send(prefix, &made, end, self.moved(moved)).await?;
        made.clear();
        stages.borrow_mut().made = made;
        Ok(())
    }

    // Writes octets, no faster than they may go.
    async fn send(
        &self,
        prefix: &[u8],
        octets: &[u8],
        end: bool,
        moved: u64,
    ) -> Result<(), Broken> {
        let Some(throttle) = &self.pace.throttle else {
            return self.write(prefix, octets, &whole(octets), end, moved).await;
        };
        let (mut prefix, mut rest) = (prefix, octets);
        loop {
            let (piece, more) = rest.split_at(throttle.piece().min(rest.len()));
            if !piece.is_empty() {
                let admitted = throttle.admit(self.shard, Some(self.from), piece.len()).await;
                admitted.map_err(|_| match self.client {
                    Side::Read => Broken::SourceGone,
                    Side::Write => Broken::SinkGone,
                })?;
            }
            let last = more.is_empty();
            let here = more.len() as u64;
            let moved = moved.saturating_sub(here);
            self.write(prefix, piece, &whole(piece), end && last, moved).await?;
            if last {
                return Ok(());
            }
            (prefix, rest) = (&[], more);
        }
    }
}

fn whole(octets: &[u8]) -> [Span; 1] {
    [Span { start: 0, end: u32::try_from(octets.len()).unwrap_or(u32::MAX) }]
}

// Digests are of what the target has sent (RFC 9530 section 3).
fn without_digests(lines: &[u8]) -> Vec<u8> {
    let name = |line: &[u8]| line.split(|b| *b == b':').next().unwrap_or_default().to_vec();
    let lines = lines.split_inclusive(|b| *b == b'\n');
    lines.filter(|line| !facts::is_void(&name(line))).flatten().copied().collect()
}

impl Broken {
    fn unfit(unfit: Unfit) -> Broken {
        match unfit {
            Unfit::Text => Broken::BadText,
            Unfit::Coding => Broken::BadCoding,
            Unfit::TooLarge => Broken::Swollen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_among_trailers_go_and_the_rest_stays() {
        let lines = b"a: b\r\nRepr-Digest: sha-256=:x:\r\ndigest: y\r\ndigests: z\r\n";
        assert_eq!(without_digests(lines), b"a: b\r\ndigests: z\r\n");
        assert_eq!(without_digests(b""), b"");
    }
}
