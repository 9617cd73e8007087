//! One stream of an HTTP/2 connection as a socket: DATA is what is read and written, END_STREAM the end of it.
//!
//! Heads and trailers go by calls of their own. Nothing is written that the peer has not made room for, neither on the
//! stream nor on the connection: what is taken here needs no further patience of the peer (hazard H2-08), and a body that it
//! does not read shows as a write that waits. All methods take `&self`, as those of `Sock`, which calls them.

use crate::http::grpc;
use crate::http::lines::{self, ListLimits};
use crate::net::h2::io_error;
use crate::net::h2::wire::Wire;
use ::http::{HeaderMap, Response};
use bytes::{Buf, Bytes, BytesMut};
use h2::client::ResponseFuture;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

// Octets of one DATA frame, which is the least that peers must take (RFC 9113 section 4.2).
const FRAME: usize = 16 << 10;

// As those of a chunked body.
const TRAILERS: ListLimits = ListLimits { size: 16 << 10, fields: 64, line: 8 << 10 };

/// One stream.
#[derive(Debug)]
pub struct Stream {
    id: u32,
    wire: Rc<Wire>,
    outgoing: RefCell<Outgoing>,
    incoming: RefCell<Incoming>,
    // DATA that has been received and not read.
    pending: RefCell<BytesMut>,
    trailers: RefCell<Option<HeaderMap>>,
    // What gRPC says in them.
    status: Cell<Option<u16>>,
    // END_STREAM was received, or sent.
    ended: Cell<bool>,
    finished: Cell<bool>,
    gone: Cell<bool>,
    cut: Cell<bool>,
}

#[derive(Debug)]
enum Outgoing {
    // To a client that has been sent no final head.
    Respond(SendResponse<Bytes>),
    Body(SendStream<Bytes>),
}

#[derive(Debug)]
enum Incoming {
    // From a target that has sent no final head.
    Response(ResponseFuture),
    Body(RecvStream),
}

/// A response head from a target.
#[derive(Debug)]
pub enum Head {
    /// 1xx.
    Interim(Response<()>),
    /// The final one.
    Final(::http::response::Parts),
}

impl Stream {
    /// A request of a client.
    pub fn of_client(wire: &Rc<Wire>, respond: SendResponse<Bytes>, body: RecvStream) -> Stream {
        let id = respond.stream_id().into();
        Stream::new(id, wire, Outgoing::Respond(respond), Incoming::Body(body))
    }

    /// A request that was sent to a target.
    pub fn of_target(wire: &Rc<Wire>, response: ResponseFuture, body: SendStream<Bytes>) -> Stream {
        let id = body.stream_id().into();
        Stream::new(id, wire, Outgoing::Body(body), Incoming::Response(response))
    }

    fn new(id: u32, wire: &Rc<Wire>, outgoing: Outgoing, incoming: Incoming) -> Stream {
        Stream {
            id,
            wire: Rc::clone(wire),
            outgoing: RefCell::new(outgoing),
            incoming: RefCell::new(incoming),
            pending: RefCell::default(),
            trailers: RefCell::default(),
            status: Cell::new(None),
            ended: Cell::new(false),
            finished: Cell::new(false),
            gone: Cell::new(false),
            cut: Cell::new(false),
        }
    }

    /// Its number on the connection (RFC 9113 section 5.1.1).
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Takes what has arrived of a short message, up to `most` octets; true if that is all of it, without trailers. Then
    /// nothing is left to be read but these octets.
    pub fn is_here(&self, most: usize) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        while self.pending.borrow().len() <= most {
            match self.poll_data(&mut cx) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) => {
                    return self.trailers.borrow().is_none() && self.pending.borrow().len() <= most;
                }
                _ => return false,
            }
        }
        false
    }

    /// Octets that have arrived and were not read.
    pub fn buffered(&self) -> usize {
        self.pending.borrow().len()
    }

    /// Reads DATA; 0 at END_STREAM.
    ///
    /// # Errors
    /// `WouldBlock`; `ConnectionReset` when the peer has reset the stream.
    pub fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        if self.pending.borrow().is_empty() {
            let mut cx = Context::from_waker(Waker::noop());
            match self.poll_data(&mut cx) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) => return Ok(0),
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Err(io::ErrorKind::WouldBlock.into()),
            }
        }
        let mut pending = self.pending.borrow_mut();
        let n = pending.len().min(into.len());
        if let Some(into) = into.get_mut(..n) {
            pending.copy_to_slice(into);
        }
        if pending.is_empty() {
            // Gives the block back, where this was the last part of it.
            *pending = BytesMut::new();
        }
        if let Incoming::Body(body) = &mut *self.incoming.borrow_mut() {
            // Only now may the peer send as much again.
            let _ = body.flow_control().release_capacity(n);
        }
        Ok(n)
    }

    /// Ready when a read would not block.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.pending.borrow().is_empty() || self.ended.get() {
            return Poll::Ready(Ok(()));
        }
        match self.poll_data(cx) {
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(())),
            // The read will say it.
            Poll::Ready(Err(_)) => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        }
    }

    // True when there is more to read, false at the end of the stream.
    fn poll_data(&self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.ended.get() {
            return Poll::Ready(Ok(false));
        }
        let mut incoming = self.incoming.borrow_mut();
        let Incoming::Body(body) = &mut *incoming else {
            return Poll::Pending;
        };
        loop {
            match body.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) if data.is_empty() => {}
                Poll::Ready(Some(Ok(data))) => {
                    let mut pending = self.pending.borrow_mut();
                    match data.try_into_mut() {
                        Ok(data) if pending.is_empty() => *pending = data,
                        Ok(data) => pending.extend_from_slice(&data),
                        Err(data) => pending.extend_from_slice(&data),
                    }
                    return Poll::Ready(Ok(true));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(io_error(error))),
                Poll::Ready(None) => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        match body.poll_trailers(cx) {
            // As the crate does it with everything else that is malformed (RFC 9113 section 8.1).
            Poll::Ready(Ok(Some(_))) if self.wire.is_flawed(self.id) => {
                self.reset(Reason::PROTOCOL_ERROR);
                Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
            }
            Poll::Ready(Ok(trailers)) => {
                let status = trailers.as_ref().and_then(|all| all.get("grpc-status"));
                self.status.set(status.and_then(|status| grpc::status(status.as_bytes())));
                *self.trailers.borrow_mut() = trailers;
                self.ended.set(true);
                Poll::Ready(Ok(false))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(io_error(error))),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Takes DATA that has arrived off the connection, to be read later; wakes when there is more. What waits there in small
    /// frames takes far more room than its octets, and only so much may. The peer is given no room for it before it is read.
    pub fn absorb(&self, cx: &mut Context<'_>) {
        while let Poll::Ready(Ok(true)) = self.poll_data(cx) {}
    }

    /// The trailer section as lines with their empty line, once the end was read, if there is one.
    ///
    /// # Errors
    /// When a field of it is malformed.
    pub fn take_trailers(&self) -> io::Result<Option<Vec<u8>>> {
        let Some(trailers) = self.trailers.borrow_mut().take() else {
            return Ok(None);
        };
        let mut section = Vec::new();
        lines::trailer_lines(&trailers, &TRAILERS, &mut section)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        section.extend_from_slice(b"\r\n");
        Ok(Some(section))
    }

    /// The `grpc-status` among the trailers that were read.
    pub fn grpc_status(&self) -> Option<u16> {
        self.status.get()
    }

    /// Waits for the response head of a target.
    ///
    /// # Errors
    /// When the stream was reset, or its connection has ended.
    pub fn poll_head(&self, cx: &mut Context<'_>) -> Poll<io::Result<Head>> {
        let mut incoming = self.incoming.borrow_mut();
        let Incoming::Response(response) = &mut *incoming else {
            return Poll::Ready(Err(io::ErrorKind::InvalidInput.into()));
        };
        match response.poll_informational(cx) {
            Poll::Ready(Some(Ok(interim))) => return Poll::Ready(Ok(Head::Interim(interim))),
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(io_error(error))),
            _ => {}
        }
        match Pin::new(response).poll(cx) {
            Poll::Ready(Ok(response)) => {
                let (head, body) = response.into_parts();
                *incoming = Incoming::Body(body);
                Poll::Ready(Ok(Head::Final(head)))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(io_error(error))),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Whether the message ended with its head.
    pub fn ends_with_head(&self) -> bool {
        let ends = match &*self.incoming.borrow() {
            Incoming::Body(body) => self.pending.borrow().is_empty() && body.is_end_stream(),
            Incoming::Response(_) => false,
        };
        if ends {
            // No wait need ask again whether something has come.
            self.ended.set(true);
        }
        ends
    }

    /// Sends a response head, given as lines; `end` if it is all there is.
    ///
    /// # Errors
    /// `ConnectionReset` when the client has reset the stream.
    pub fn send_head(&self, head: &[u8], end: bool) -> io::Result<()> {
        let head =
            lines::response_of(head).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        let mut outgoing = self.outgoing.borrow_mut();
        let Outgoing::Respond(respond) = &mut *outgoing else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if head.status().is_informational() {
            return respond.send_informational(head).map_err(io_error);
        }
        let body = respond.send_response(head, end).map_err(io_error)?;
        self.finished.set(end);
        *outgoing = Outgoing::Body(body);
        Ok(())
    }

    /// Writes what there is room for of `parts`, in order; with END_STREAM if that is all of them and `end` is set.
    ///
    /// # Errors
    /// `WouldBlock` when there is no room; `ConnectionReset` when the peer has reset the stream.
    pub fn try_write(&self, parts: &[IoSlice<'_>], end: bool) -> io::Result<usize> {
        let mut outgoing = self.outgoing.borrow_mut();
        let Outgoing::Body(body) = &mut *outgoing else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let wanted: usize = parts.iter().map(|part| part.len()).sum();
        if wanted == 0 {
            if end {
                self.finished.set(true);
                body.send_data(Bytes::new(), true).map_err(io_error)?;
            }
            return Ok(0);
        }
        body.reserve_capacity(wanted);
        let room = body.capacity().min(wanted);
        if room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut left = room;
        let mut data = BytesMut::with_capacity(room);
        for part in parts {
            let n = part.len().min(left);
            data.extend_from_slice(part.get(..n).unwrap_or_default());
            left -= n;
        }
        let end = end && room == wanted;
        body.send_data(data.freeze(), end).map_err(io_error)?;
        self.finished.set(end);
        Ok(room)
    }

    /// Ready when a write would not block.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut outgoing = self.outgoing.borrow_mut();
        let Outgoing::Body(body) = &mut *outgoing else {
            return Poll::Ready(Ok(()));
        };
        if self.finished.get() || body.capacity() > 0 {
            return Poll::Ready(Ok(()));
        }
        body.reserve_capacity(FRAME);
        match body.poll_capacity(cx) {
            Poll::Ready(Some(Ok(_))) => Poll::Ready(Ok(())),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Err(io_error(error))),
            Poll::Ready(None) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Ends what is sent, with a trailer section where one is given.
    ///
    /// # Errors
    /// `ConnectionReset` when the peer has reset the stream.
    pub fn end(&self, trailers: Option<&[u8]>) -> io::Result<()> {
        let mut outgoing = self.outgoing.borrow_mut();
        let Outgoing::Body(body) = &mut *outgoing else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        if self.finished.replace(true) {
            return Ok(());
        }
        match trailers.and_then(lines::trailers_of) {
            Some(trailers) => body.send_trailers(trailers).map_err(io_error),
            None => body.send_data(Bytes::new(), true).map_err(io_error),
        }
    }

    /// Tells the peer that what it was sent is not the whole.
    pub fn reset(&self, reason: Reason) {
        if self.cut.replace(true) {
            return;
        }
        match &mut *self.outgoing.borrow_mut() {
            Outgoing::Respond(respond) => respond.send_reset(reason),
            Outgoing::Body(body) => body.send_reset(reason),
        }
    }

    /// Ready when the peer has reset the stream, or its connection has ended.
    pub fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let gone = match &mut *self.outgoing.borrow_mut() {
            Outgoing::Respond(respond) => respond.poll_reset(cx).is_ready(),
            Outgoing::Body(body) => body.poll_reset(cx).is_ready(),
        };
        if gone {
            self.gone.set(true);
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Whether the client has been sent a final head.
    pub fn has_answered(&self) -> bool {
        matches!(&*self.outgoing.borrow(), Outgoing::Body(_))
    }

    /// Whether [`Stream::poll_gone`] was ready.
    pub fn is_gone(&self) -> bool {
        self.gone.get()
    }
}
