//! Where access records end up: standard output or a file, and what happens when it will not take them.
//!
//! A batch is written whole or, when the disk is full or a reader stalls, lost and counted; a line that was
//! cut by such an error is ended before the next one begins. Files are opened without blocking, so that a FIFO
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
    /// The last line written lacks its end.
    torn: bool,
    tried: Tick,
}

/// What a failed write lost.
#[derive(Debug)]
pub struct Lost {
    /// Bytes that were written before it failed.
    pub written: usize,
    /// Records that were not written whole.
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
        let (file, torn) = match &target {
            AccessLog::Off => (None, false),
            AccessLog::Stdout => {
                (Some(File::from(io::stdout().as_fd().try_clone_to_owned()?)), false)
            }
            AccessLog::File(path) => match append_to(path) {
                Ok(file) => (Some(file), ends_torn(path)),
                Err(error) if no_reader(&error) => (None, false),
                Err(error) => return Err(error),
            },
        };
        Ok(Output { target, file, torn, tried: Tick::now() })
    }

    /// Whether records are written at all.
    pub fn is_on(&self) -> bool {
        self.target != AccessLog::Off
    }

    /// Opens the path again, after a rotation. If that fails, the old file stays in use.
    ///
    /// # Errors
    /// When the file cannot be opened or created.
    pub fn reopen(&mut self) -> io::Result<()> {
        if let AccessLog::File(_) = &self.target {
            *self = Output::open(self.target.clone())?;
        }
        Ok(())
    }

    /// Writes whole lines.
    ///
    /// # Errors
    /// When not all of `lines` could be written; what was not is lost.
    pub fn write(&mut self, lines: &[u8]) -> Result<(), Lost> {
        if !self.is_on() {
            return Ok(());
        }
        let mut written = 0;
        let result = self.ready().and_then(|()| self.write_all(lines, &mut written));
        let Err(error) = result else { return Ok(()) };
        let (head, tail) = lines.split_at(written.min(lines.len()));
        if let Some(last) = head.last() {
            self.torn = *last != b'\n';
        }
        let records = memchr::memchr_iter(b'\n', tail).count() as u64;
        Err(Lost { written, records, error })
    }

    /// Makes sure that a file is open and that it stands at the start of a line.
    fn ready(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            let now = Tick::now();
            if now.since(self.tried) < RETRY {
                return Err(io::Error::new(ErrorKind::NotConnected, "the access log is not open"));
            }
            self.tried = now;
            self.reopen()?;
        }
        if self.torn {
            self.write_all(b"\n", &mut 0)?;
            self.torn = false;
        }
        Ok(())
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
        let whole = lost.written / 11;
        assert_eq!(lost.records, (20_000 - whole) as u64);
        let mut got = vec![0; lost.written];
        reader.read_exact(&mut got).unwrap();
        output.write(b"resumed\n").unwrap();
        let mut tail = [0; 64];
        let n = reader.read(&mut tail).unwrap();
        let want: &[u8] = if lost.written % 11 == 0 { b"resumed\n" } else { b"\nresumed\n" };
        assert_eq!(tail.get(..n), Some(want));
    }
}
