//! The log thread, and each worker's way to it.
//!
//! A worker's [`Sink`] gathers lines and hands over whole batches without waiting; when the queue is full, or
//! the disk is, records are dropped and counted, and a warning says so at most once a minute. The thread gives
//! empty batches back, so that workers allocate nothing in steady state. Control reopens, replaces and stops it.

use crate::base::Tick;
use crate::config::AccessLog;
use crate::observe::format::Format;
use crate::observe::output::Output;
use crate::observe::record::Record;
use crate::observe::time::Clock;
use crossbeam::channel::{Receiver, Sender, bounded, select};
use std::cell::Cell;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Batches between the workers and the log thread.
const QUEUE: usize = 256;
/// A batch this long is handed over.
const BATCH: usize = 32 << 10;
/// What a new batch has room for: [`BATCH`] and one more record of the usual kind.
const ROOM: usize = BATCH + (8 << 10);
/// A batch that grew beyond this, by records of extreme length, is not kept.
const KEEP: usize = 4 * BATCH;
/// The least time between two warnings about lost records.
const REPORT: Duration = Duration::from_secs(60);
/// Why records were lost that the last warning came too early for.
const LATELY: &str = "some more since the last warning";
/// How long [`LogHandle::flush`] and [`LogHandle::flush_and_stop`] wait for the thread.
const STOP: Duration = Duration::from_secs(5);

/// Starts the log thread on `target`.
///
/// # Errors
/// When the target cannot be opened or the thread not started.
pub fn start(target: AccessLog) -> io::Result<LogHandle> {
    let output = Output::open(target)?;
    let (batches, from_workers) = bounded(QUEUE);
    let (back, recycled) = bounded(QUEUE);
    let (commands, from_control) = bounded(16);
    let shared = Arc::new(Shared::default());
    shared.on.store(output.is_on(), Ordering::Relaxed);
    let writer = Writer { output, batches: from_workers, back, shared: Arc::clone(&shared) };
    std::thread::Builder::new()
        .name("access-log".to_owned())
        .spawn(move || writer.run(&from_control))?;
    Ok(LogHandle { batches, recycled, commands, shared })
}

/// A sink whose batches of lines come out of the other end instead of going to a log thread: for a simulation, which
/// reads its records in process. A queue that nobody empties drops records, as ever.
pub fn in_process() -> (Sink, Receiver<Vec<u8>>) {
    let (batches, read) = bounded(QUEUE);
    let (_, recycled) = bounded(0);
    let (commands, _) = bounded(0);
    let shared = Arc::new(Shared { on: AtomicBool::new(true), ..Shared::default() });
    (LogHandle { batches, recycled, commands, shared }.sink(), read)
}

/// The way to the log thread. It ends when the last handle and the last sink are gone, or when stopped.
#[derive(Clone, Debug)]
pub struct LogHandle {
    batches: Sender<Vec<u8>>,
    recycled: Receiver<Vec<u8>>,
    commands: Sender<Command>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
enum Command {
    Reopen,
    Replace(Output),
    Flush(Sender<()>),
    Stop(Sender<()>),
}

#[derive(Debug, Default)]
struct Shared {
    on: AtomicBool,
    written_bytes: AtomicU64,
    dropped_records: AtomicU64,
    dropped_batches: AtomicU64,
    /// Of the dropped records, those that a warning has told.
    reported: AtomicU64,
    /// When there may be the next warning, in nanoseconds of [`Tick`].
    next_report: AtomicU64,
}

/// What became of the records so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Bytes written.
    pub written_bytes: u64,
    /// Records lost because the queue was full or writing failed.
    pub dropped_records: u64,
    /// Batches of which at least one record was lost.
    pub dropped_batches: u64,
}

impl LogHandle {
    /// A sink for one worker.
    pub fn sink(&self) -> Sink {
        Sink {
            log: self.clone(),
            batch: Vec::with_capacity(ROOM),
            records: 0,
            clock: Clock::default(),
            one_worker: PhantomData,
        }
    }

    /// Opens the file anew, after a rotation; the old one stays in use if that fails. Batches handed over later go
    /// to the new file, those still queued to either.
    pub fn reopen(&self) {
        self.send(Command::Reopen);
    }

    /// Writes to `output` from now on, as [`LogHandle::reopen`] does.
    pub fn set_output(&self, output: Output) {
        self.shared.on.store(output.is_on(), Ordering::Relaxed);
        self.send(Command::Replace(output));
    }

    /// Opens `target` and writes to it from now on.
    ///
    /// # Errors
    /// When it cannot be opened; the old one stays in use.
    pub fn set_target(&self, target: AccessLog) -> io::Result<()> {
        self.set_output(Output::open(target)?);
        Ok(())
    }

    /// Waits until what was handed over is written or lost; false if that takes more than five seconds.
    pub fn flush(&self) -> bool {
        let (done, wait) = bounded(1);
        self.send(Command::Flush(done));
        wait.recv_timeout(STOP).is_ok()
    }

    /// As [`LogHandle::flush`], and ends the thread: what comes later is dropped. Flush every sink first.
    pub fn flush_and_stop(&self) -> bool {
        let (done, wait) = bounded(1);
        self.send(Command::Stop(done));
        wait.recv_timeout(STOP).is_ok()
    }

    /// What became of the records so far.
    pub fn stats(&self) -> LogStats {
        LogStats {
            written_bytes: self.shared.written_bytes.load(Ordering::Relaxed),
            dropped_records: self.shared.dropped_records.load(Ordering::Relaxed),
            dropped_batches: self.shared.dropped_batches.load(Ordering::Relaxed),
        }
    }

    fn send(&self, command: Command) {
        // Sixteen commands waiting mean that the disk hangs; another one would not help.
        if self.commands.try_send(command).is_err() {
            tracing::warn!("the access log does not respond; a command to it was dropped");
        }
    }
}

impl Shared {
    fn lose(&self, records: u64, why: &dyn fmt::Display) {
        self.dropped_records.fetch_add(records, Ordering::Relaxed);
        self.dropped_batches.fetch_add(1, Ordering::Relaxed);
        self.report(why);
    }

    /// Warns of what was lost and not yet told, at most once a minute. Workers call this, too: when the disk hangs, the log
    /// thread hangs with it.
    fn report(&self, why: &dyn fmt::Display) {
        let dropped = self.dropped_records.load(Ordering::Relaxed);
        if dropped == self.reported.load(Ordering::Relaxed) {
            return;
        }
        let (now, at) = (Tick::now(), self.next_report.load(Ordering::Relaxed));
        let next = now.after(REPORT).nanos();
        let claim =
            || self.next_report.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
        if now.nanos() < at || claim().is_err() {
            return;
        }
        let lost = dropped.saturating_sub(self.reported.swap(dropped, Ordering::Relaxed));
        tracing::warn!(lost, "access records were lost: {why}");
    }
}

/// One worker's end: gathers lines into a batch.
#[derive(Debug)]
pub struct Sink {
    log: LogHandle,
    batch: Vec<u8>,
    records: u64,
    clock: Clock,
    /// Not `Sync`: a sink belongs to one worker.
    one_worker: PhantomData<Cell<()>>,
}

impl Sink {
    /// Adds one record. Never waits.
    pub fn record(&mut self, record: &Record<'_>, format: &Format) {
        if !self.log.shared.on.load(Ordering::Relaxed) {
            return;
        }
        format.write(record, &mut self.clock, &mut self.batch);
        self.records += 1;
        if self.batch.len() >= BATCH {
            self.flush();
        }
    }

    /// Hands over what was gathered; the worker's sweep calls this, so that records of a quiet hour appear too.
    pub fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        match self.log.batches.try_send(std::mem::take(&mut self.batch)) {
            Ok(()) => {
                let empty = self.log.recycled.try_recv();
                self.batch = empty.unwrap_or_else(|_| Vec::with_capacity(ROOM));
            }
            Err(error) => {
                self.log.shared.lose(self.records, &"the log cannot keep up");
                self.batch = error.into_inner();
                self.batch.clear();
            }
        }
        self.records = 0;
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.flush();
    }
}

/// The thread's side.
struct Writer {
    output: Output,
    batches: Receiver<Vec<u8>>,
    back: Sender<Vec<u8>>,
    shared: Arc<Shared>,
}

impl Writer {
    fn run(mut self, commands: &Receiver<Command>) {
        while self.step(commands).is_continue() {
            self.shared.report(&LATELY);
        }
    }

    fn step(&mut self, commands: &Receiver<Command>) -> ControlFlow<()> {
        select! {
            recv(self.batches) -> batch => {
                let Ok(batch) = batch else { return ControlFlow::Break(()) };
                let mut held = Some(batch);
                // A command that was given before this batch is obeyed before it is written.
                while let Ok(command) = commands.try_recv() {
                    self.obey(command, &mut held)?;
                }
                held.into_iter().for_each(|batch| self.write(batch));
            }
            recv(commands) -> command => {
                let Ok(command) = command else { return ControlFlow::Break(()) };
                self.obey(command, &mut None)?;
            }
            default(REPORT) => {}
        }
        ControlFlow::Continue(())
    }

    /// Does what control asks. `held` is a batch that was taken from the queue and not yet written.
    fn obey(&mut self, command: Command, held: &mut Option<Vec<u8>>) -> ControlFlow<()> {
        let (done, stop) = match command {
            Command::Reopen => {
                self.reopen();
                return ControlFlow::Continue(());
            }
            Command::Replace(output) => {
                self.output = output;
                return ControlFlow::Continue(());
            }
            Command::Flush(done) => (done, false),
            Command::Stop(done) => (done, true),
        };
        held.take().into_iter().for_each(|batch| self.write(batch));
        self.drain();
        self.shared.report(&LATELY);
        // Whoever waits for this may have given up.
        let _ = done.try_send(());
        if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Writes what is queued.
    fn drain(&mut self) {
        for _ in 0..QUEUE {
            let Ok(batch) = self.batches.try_recv() else { return };
            self.write(batch);
        }
    }

    fn write(&mut self, mut batch: Vec<u8>) {
        let written = match self.output.write(&batch) {
            Ok(written) => written,
            Err(lost) => {
                self.shared.lose(lost.records, &lost.error);
                lost.written
            }
        };
        self.shared.written_bytes.fetch_add(written as u64, Ordering::Relaxed);
        if batch.capacity() <= KEEP {
            batch.clear();
            // If there are enough already, this one is freed.
            drop(self.back.try_send(batch));
        }
    }

    fn reopen(&mut self) {
        if let Err(error) = self.output.reopen() {
            tracing::warn!(%error, "cannot reopen the access log; the old file stays in use");
        }
    }
}

#[cfg(test)]
mod tests;
