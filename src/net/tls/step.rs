//! rustls' unbuffered sessions, one step at a time.
//!
//! What a state asks for is done at once: octets to be sent are appended to a buffer, plaintext is handed on. Nothing here knows of
//! sockets. Called by `net::tls` alone.

use crate::net::Buf;
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{CommonState, Error, ProtocolVersion};

/// A session of either side.
pub(super) enum Session {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// What a session is asked for.
pub(super) enum Want<'a> {
    Nothing,
    Seal(&'a [u8]),
    CloseNotify,
}

/// How it went.
pub(super) enum Step {
    /// There is more to do.
    Again,
    /// It waits for a record.
    Blocked,
    /// What was wanted is done.
    Done,
    /// The peer has closed.
    Closed,
}

impl Session {
    /// What both sides have.
    pub(super) fn common(&self) -> &CommonState {
        match self {
            Session::Server(session) => session,
            Session::Client(session) => session,
        }
    }

    /// Whether it is a server's, of TLS 1.3.
    pub(super) fn is_server_of_13(&self) -> bool {
        let version = self.common().protocol_version();
        matches!(self, Session::Server(_)) && version == Some(ProtocolVersion::TLSv1_3)
    }

    /// One step, over what it has been shown. Returns how many octets of that it needs no more.
    pub(super) fn step(
        &mut self,
        shown: &mut [u8],
        want: Want<'_>,
        out: &mut Buf,
        plain: &mut impl FnMut(&[u8]),
    ) -> (usize, Result<Step, Error>) {
        match self {
            Session::Server(s) => settle(s.process_tls_records(shown), want, out, plain),
            Session::Client(s) => settle(s.process_tls_records(shown), want, out, plain),
        }
    }
}

// Does what a state of rustls asks for. Returns how many octets of the input it needs no more.
fn settle<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    want: Want<'_>,
    out: &mut Buf,
    plain: &mut impl FnMut(&[u8]),
) -> (usize, Result<Step, Error>) {
    let UnbufferedStatus { mut discard, state } = status;
    let step = match state {
        Err(error) => Err(error),
        Ok(ConnectionState::ReadTraffic(mut traffic)) => {
            let mut step = Ok(Step::Again);
            while let Some(record) = traffic.next_record() {
                match record {
                    Ok(record) => {
                        discard += record.discard;
                        plain(record.payload);
                    }
                    Err(error) => step = Err(error),
                }
            }
            step
        }
        Ok(ConnectionState::EncodeTlsData(mut data)) => loop {
            match data.encode(out.spare()) {
                Ok(n) => {
                    out.fill(n);
                    break Ok(Step::Again);
                }
                Err(EncodeError::InsufficientSize(size)) => out.reserve(size.required_size),
                Err(EncodeError::AlreadyEncoded) => break Ok(Step::Again),
            }
        },
        Ok(ConnectionState::TransmitTlsData(data)) => {
            // It is in `out`, in front of whatever comes.
            data.done();
            Ok(Step::Again)
        }
        Ok(ConnectionState::WriteTraffic(mut traffic)) => loop {
            let done = match want {
                Want::Nothing => break Ok(Step::Done),
                Want::Seal(octets) => traffic.encrypt(octets, out.spare()),
                Want::CloseNotify => traffic.queue_close_notify(out.spare()),
            };
            match done {
                Ok(n) => {
                    out.fill(n);
                    break Ok(Step::Done);
                }
                Err(EncryptError::InsufficientSize(size)) => out.reserve(size.required_size),
                Err(EncryptError::EncryptExhausted) => break Err(Error::EncryptError),
            }
        },
        Ok(ConnectionState::BlockedHandshake) => Ok(Step::Blocked),
        Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Ok(Step::Closed),
        // Early data is never agreed to.
        Ok(_) => Err(Error::General("an unexpected state".to_owned())),
    };
    (discard, step)
}
