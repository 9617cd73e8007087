//! Pipes through which octets go from one socket to another without being copied to user space: splice(2).
//!
//! A worker has a few, leased for as long as they hold something. A pipe that comes back empty is used again; one that still
//! holds octets of a connection that died is closed. Who gets none copies instead. Called by `sock` and the tunnels.

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::Rc;

// Pipes that one worker leases at the same time, at most.
const MOST: u64 = 64;
// Asked for at a time: more than any pipe holds, since each of its sixteen slots may carry more than a page. Larger pipes
// were tried: four times the slots cost more for a MiB, sixty-four times a little less, and the system lets a user have few.
const AT_ONCE: usize = 4 << 20;

/// How many pipes a worker may have where the process may open `descriptors` files; each takes two.
pub fn most(descriptors: u64) -> u64 {
    (descriptors / 256).min(MOST)
}

/// The pipes of one worker.
#[derive(Debug)]
pub struct Pipes {
    free: RefCell<Vec<Ends>>,
    leased: Cell<u64>,
    most: Cell<u64>,
}

#[derive(Debug)]
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

impl Default for Pipes {
    /// None yet; at most as many as the limit of open files lets a worker have.
    fn default() -> Pipes {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let most = Cell::new(most(limit.unwrap_or(u64::MAX)));
        Pipes { free: RefCell::default(), leased: Cell::new(0), most }
    }
}

impl Pipes {
    /// An empty pipe; `None` when all are in use, or the process can have no more.
    pub fn lease(self: &Rc<Pipes>) -> Option<Pipe> {
        if self.leased.get() >= self.most.get() {
            return None;
        }
        let ends = match self.free.borrow_mut().pop() {
            Some(ends) => ends,
            None => self.open()?,
        };
        self.leased.set(self.leased.get() + 1);
        Some(Pipe { ends: Some(ends), held: 0, pool: Rc::clone(self) })
    }

    /// Lends none any more: the system refuses what they are for.
    pub fn give_up(&self) {
        self.most.set(0);
    }

    /// Pipes that are leased now.
    pub fn leased(&self) -> u64 {
        self.leased.get()
    }

    fn open(&self) -> Option<Ends> {
        let (read, write) = match pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK) {
            Ok(ends) => ends,
            Err(Errno::PERM | Errno::NOSYS) => {
                self.give_up();
                return None;
            }
            Err(_) => return None,
        };
        Some(Ends { read, write })
    }
}

/// A leased pipe; empty again, it goes back when dropped.
#[derive(Debug)]
pub struct Pipe {
    ends: Option<Ends>,
    held: usize,
    pool: Rc<Pipes>,
}

impl Pipe {
    /// Octets that it holds.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Fills it from a socket. It must be empty: else a full pipe could not be told from a socket that has nothing.
    pub(super) fn fill_from(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        debug_assert_eq!(self.held, 0);
        let Some(ends) = &self.ends else { return Err(io::ErrorKind::Unsupported.into()) };
        let n = splice(socket, None, &ends.write, None, AT_ONCE, FLAGS)?;
        self.held = n;
        Ok(n)
    }

    /// Empties it into a socket, as far as that takes it.
    pub(super) fn empty_into(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let Some(ends) = &self.ends else { return Err(io::ErrorKind::Unsupported.into()) };
        let n = splice(&ends.read, None, socket, None, self.held, FLAGS)?;
        self.held = self.held.saturating_sub(n);
        Ok(n)
    }
}

const FLAGS: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);

impl Drop for Pipe {
    fn drop(&mut self) {
        self.pool.leased.set(self.pool.leased.get().saturating_sub(1));
        if self.held == 0
            && let Some(ends) = self.ends.take()
        {
            self.pool.free.borrow_mut().push(ends);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn carries_octets_and_comes_back_when_empty() {
        let pipes = Rc::new(Pipes::default());
        let (mut source, from) = UnixStream::pair().unwrap();
        let (to, mut sink) = UnixStream::pair().unwrap();
        from.set_nonblocking(true).unwrap();
        let mut pipe = pipes.lease().unwrap();
        let nothing = pipe.fill_from(from.as_fd()).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        source.write_all(b"hello").unwrap();
        assert_eq!(pipe.fill_from(from.as_fd()).unwrap(), 5);
        assert_eq!((pipe.held(), pipes.leased()), (5, 1));
        assert_eq!(pipe.empty_into(to.as_fd()).unwrap(), 5);
        let mut got = [0; 5];
        sink.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"hello");
        drop(source);
        assert_eq!(pipe.fill_from(from.as_fd()).unwrap(), 0, "the end of the stream");
        drop(pipe);
        assert_eq!((pipes.leased(), pipes.free.borrow().len()), (0, 1));
    }

    #[test]
    fn one_that_still_holds_octets_is_not_used_again() {
        let pipes = Rc::new(Pipes::default());
        let (mut source, from) = UnixStream::pair().unwrap();
        source.write_all(b"of somebody else").unwrap();
        let mut pipe = pipes.lease().unwrap();
        assert_eq!(pipe.fill_from(from.as_fd()).unwrap(), 16);
        drop(pipe);
        assert!(pipes.free.borrow().is_empty());
        assert_eq!(pipes.leased(), 0);
    }

    #[test]
    fn there_are_no_more_than_may_be() {
        let pipes = Rc::new(Pipes::default());
        pipes.most.set(2);
        let held: Vec<_> = (0..4).map_while(|_| pipes.lease()).collect();
        assert_eq!(held.len(), 2);
        drop(held);
        pipes.give_up();
        assert!(pipes.lease().is_none());
        assert_eq!((most(1 << 20), most(1024), most(100)), (64, 4, 0));
    }
}
