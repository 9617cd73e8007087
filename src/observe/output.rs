//! Where access records end up: standard output or a file, and what happens when it will not take them.
//!
//! A batch is written whole or, when the disk is full or a reader stalls, lost and counted; the rest of a line
//! that was cut by such an error is kept and written before anything else, so that every line is whole. Files are opened without blocking, so that a FIFO
//! nobody reads cannot hold anyone up. Used by the log thread, and by control to open a new target before a
//! reload is accepted.

use crate::base::Tick;
use crate::config::AccessLog;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, poll};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

/// How long one write may wait for a reader.
const PATIENCE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// The least time between two attempts to open a file that could not be opened.
const RETRY: Duration = Duration::from_secs(1);
/// Read and write for the owner, read for the group.
const MODE: u32 = 0o640;

/// An opened target of the access log.
#[derive(Debug)]
pub struct Output {
    target: AccessLog,
    file: Option<File>,
    /// What the last line written lacks of its end.
    owed: Vec<u8>,
    tried: Tick,
}

/// What a failed write lost.
#[derive(Debug)]
pub struct Lost {
    /// Bytes that were written before it failed.
    pub written: usize,
    /// Records of which nothing was written, or nothing will be any more.
    pub records: u64,
    /// Why.
    pub error: io::Error,
}

impl Output {
    /// Opens `target`: a file is appended to, and created when missing. A FIFO without a reader is no error;
    /// it is tried again later.
    ///
    /// # Errors
    /// When the file cannot be opened or created.
    pub fn open(target: AccessLog) -> io::Result<Output> {
        let mut owed = Vec::new();
        let file = match &target {
            AccessLog::Off => None,
            AccessLog::Stdout => Some(File::from(io::stdout().as_fd().try_clone_to_owned()?)),
            AccessLog::File(path) => match append_to(path) {
                Ok(file) => {
                    if ends_torn(path) {
                        owed.push(b'\n');
                    }
                    Some(file)
                }
                Err(error) if no_reader(&error) => None,
                Err(error) => return Err(error),
            },
        };
        Ok(Output { target, file, owed, tried: Tick::now() })
    }

    /// Whether records are written at all.
    pub fn is_on(&self) -> bool {
        self.target != AccessLog::Off
    }

    /// Opens the path again, after a rotation. If that fails, the old file stays in use. A line that the old file was
    /// owed the end of is ended there if there is room, as what it is.
    ///
    /// # Errors
    /// When the file cannot be opened or created.
    pub fn reopen(&mut self) -> io::Result<()> {
        if let AccessLog::File(_) = &self.target {
            let fresh = Output::open(self.target.clone())?;
            // A full disk that is rotated for that very reason will not take it; there is no more to be done.
            let _ = self.settle(&mut 0);
            *self = fresh;
        }
        Ok(())
    }

    /// Writes whole lines; how many bytes that took.
    ///
    /// # Errors
    /// When not all of `lines` could be written; what was not is lost, but for the rest of a line begun.
    pub fn write(&mut self, lines: &[u8]) -> Result<usize, Lost> {
        if !self.is_on() {
            return Ok(0);
        }
        let (mut before, mut written) = (0, 0);
        let ready = self.ready().and_then(|()| self.settle(&mut before));
        let result = ready.and_then(|()| self.write_all(lines, &mut written));
        let Err(error) = result else { return Ok(before + written) };
        let (head, tail) = lines.split_at(written.min(lines.len()));
        let mut lost = tail;
        if head.last().is_some_and(|last| *last != b'\n') {
            let end = memchr::memchr(b'\n', tail).map_or(tail.len(), |at| at + 1);
            let (rest, others) = tail.split_at(end);
            self.owed.extend_from_slice(rest);
            lost = others;
        }
        let records = memchr::memchr_iter(b'\n', lost).count() as u64;
        Err(Lost { written: before + written, records, error })
    }

    /// Makes sure that a file is open.
    fn ready(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            let now = Tick::now();
            if now.since(self.tried) < RETRY {
                return Err(io::Error::new(ErrorKind::NotConnected, "the access log is not open"));
            }
            self.tried = now;
            self.reopen()?;
        }
        Ok(())
    }

    /// Writes what the last line lacks.
    fn settle(&mut self, written: &mut usize) -> io::Result<()> {
        if self.owed.is_empty() {
            return Ok(());
        }
        let owed = std::mem::take(&mut self.owed);
        let result = self.write_all(&owed, written);
        self.owed.extend_from_slice(owed.get(*written..).unwrap_or_default());
        result
    }

    fn write_all(&mut self, bytes: &[u8], written: &mut usize) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Err(io::Error::new(ErrorKind::NotConnected, "the access log has no reader"));
        };
        while let Some(rest) = bytes.get(*written..).filter(|rest| !rest.is_empty()) {
            match file.write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => *written += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => wait_for_reader(file)?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    // EFD_NONBLOCK is O_NONBLOCK (eventfd(2)): opening a FIFO fails at once instead of waiting for a reader.
    let nonblock = EventfdFlags::NONBLOCK.bits().cast_signed();
    OpenOptions::new().append(true).create(true).mode(MODE).custom_flags(nonblock).open(path)
}

/// ENXIO: what opening a FIFO says that nobody reads.
fn no_reader(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error())
}

/// Whether a file that is already there ends within a line, as a crash or a full disk leaves it.
fn ends_torn(path: &Path) -> bool {
    let regular = std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() > 0);
    let last = || {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::End(-1))?;
        let mut byte = [0];
        file.read_exact(&mut byte)?;
        io::Result::Ok(byte)
    };
    regular && last().is_ok_and(|byte| byte != *b"\n")
}

fn wait_for_reader(file: &File) -> io::Result<()> {
    match poll(&mut [PollFd::new(file, PollFlags::OUT)], Some(&PATIENCE)) {
        Ok(0) => Err(io::Error::new(ErrorKind::TimedOut, "the access log's reader stalls")),
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    // Hazard OPS-14. A disk that fills up within a line is in tests/log.rs.
    #[test]
    fn a_full_disk_loses_the_batch_and_counts_its_records() {
        let mut output = Output::open(AccessLog::File("/dev/full".into())).unwrap();
        let lost = output.write(b"a\nb\nc\n").unwrap_err();
        assert_eq!((lost.written, lost.records), (0, 3));
        assert_eq!(lost.error.kind(), ErrorKind::StorageFull);
    }

    #[test]
    fn a_torn_line_is_ended_before_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        std::fs::write(&path, "whole\nhal").unwrap();
        let mut output = Output::open(AccessLog::File(path.clone())).unwrap();
        output.write(b"next\n").unwrap();
        output.write(b"last\n").unwrap();
        assert_eq!(read(&path), "whole\nhal\nnext\nlast\n");
    }

    #[test]
    fn a_new_file_is_not_for_everyone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        Output::open(AccessLog::File(path.clone())).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o137, 0, "{mode:o}");
        assert!(Output::open(AccessLog::File(dir.path().join("no/such"))).is_err());
    }

    // Hazard OPS-14.
    #[test]
    fn a_fifo_that_nobody_reads_holds_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let mut output = Output::open(AccessLog::File(path.clone())).unwrap();
        assert_eq!(output.write(b"lost\n").unwrap_err().records, 1);

        // A reader that opens it and then stalls: what fits is written, the rest is lost.
        let mut reader = OpenOptions::new();
        let nonblock = EventfdFlags::NONBLOCK.bits().cast_signed();
        let mut reader = reader.read(true).custom_flags(nonblock).open(&path).unwrap();
        output.tried = Tick::ZERO;
        let lines = b"0123456789\n".repeat(20_000);
        let lost = loop {
            // The retry interval may not be over on a clock that has just begun.
            match output.write(&lines) {
                Err(lost) if lost.error.kind() == ErrorKind::NotConnected => {
                    std::thread::yield_now();
                }
                other => break other.unwrap_err(),
            }
        };
        assert_eq!(lost.error.kind(), ErrorKind::TimedOut);
        // A line that was begun is not lost.
        let begun = lost.written.div_ceil(11);
        assert_eq!(lost.records, (20_000 - begun) as u64);
        let mut got = vec![0; lost.written];
        reader.read_exact(&mut got).unwrap();
        output.write(b"resumed\n").unwrap();
        let mut tail = [0; 64];
        let n = reader.read(&mut tail).unwrap();
        got.extend_from_slice(tail.get(..n).unwrap());
        assert!(got == [b"0123456789\n".repeat(begun), b"resumed\n".to_vec()].concat());
    }
}
