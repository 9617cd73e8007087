//! The one place with unsafe code: lending the file descriptor of a runtime socket for a system call.
//!
//! monoio 0.2 does not implement `AsFd`. Called by `sock` only.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};

/// A descriptor registered with the driver. Whatever the socket is, it is held as monoio's thinnest wrapper: only its
/// readiness is asked for, and a `TcpStream` would add 80 octets of address cache to every connection.
pub type Handle = monoio::net::UnixStream;

/// The descriptor of `io`, for as long as `io` is borrowed.
#[inline]
pub fn fd(io: &Handle) -> BorrowedFd<'_> {
    // SAFETY: `io` owns the descriptor and closes it only when it is dropped; the result borrows `io`, so it cannot
    // outlive it.
    unsafe { BorrowedFd::borrow_raw(io.as_raw_fd()) }
}
