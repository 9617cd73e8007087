//! A bare relay on monoio: the floor that ringgate's cost per request is compared with.
//!
//! One thread, one ring, one task a client connection. It finds the end of each head, adds two fields and moves
//! bytes; it refuses nothing, balances over nothing, measures nothing and must never face a network. What ringgate
//! costs above it is ringgate's own code. `scripts/bench` starts it as the peer `relay`:
//!
//! `relay --listen 127.0.0.1:9108 --origin 127.0.0.1:9000`
#![allow(missing_docs)]
#![expect(clippy::disallowed_methods, reason = "no part of the data path: a panic may end it")]

use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt};
use monoio::net::{ListenerOpts, TcpListener, TcpStream};
use std::cell::{Cell, RefCell};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;

const HEAD: usize = 16 << 10;
const BULK: usize = 64 << 10;
const POOLED: usize = 1024;

struct Relay {
    origin: SocketAddr,
    idle: RefCell<Vec<TcpStream>>,
    bulk: RefCell<Vec<Vec<u8>>>,
    next_id: Cell<u64>,
}

fn main() -> io::Result<()> {
    let Some((listen, origin)) = arguments() else {
        println!("relay: the floor of scripts/bench; to run it: --listen ADDRESS --origin ADDRESS");
        return Ok(());
    };
    let mut ring = io_uring::IoUring::builder();
    ring.setup_single_issuer().setup_defer_taskrun().setup_cqsize(16384).setup_submit_all();
    let mut runtime = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new()
        .with_entries(4096)
        .uring_builder(ring)
        .build()?;
    runtime.block_on(serve(listen, origin))
}

/// The two addresses; `None` without `--listen`, as when `cargo bench` runs everything.
fn arguments() -> Option<(SocketAddr, SocketAddr)> {
    let args: Vec<String> = std::env::args().collect();
    let value = |name: &str| args.iter().skip_while(|a| *a != name).nth(1)?.parse().ok();
    Some((value("--listen")?, value("--origin")?))
}

async fn serve(listen: SocketAddr, origin: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind_with_config(listen, &ListenerOpts::new().backlog(4096))?;
    let relay = Rc::new(Relay {
        origin,
        idle: RefCell::default(),
        bulk: RefCell::default(),
        next_id: Cell::new(0),
    });
    loop {
        let Ok((client, from)) = listener.accept().await else { continue };
        let relay = Rc::clone(&relay);
        monoio::spawn(async move {
            let _ = client.set_nodelay(true);
            let _ = connection(&relay, client, from).await;
        });
    }
}

/// Serves one client until either side closes.
async fn connection(relay: &Relay, mut client: TcpStream, from: SocketAddr) -> io::Result<()> {
    let address = from.ip().to_string();
    let mut input = Vec::with_capacity(HEAD);
    let mut output = Vec::with_capacity(HEAD);
    loop {
        let end;
        (end, input) = read_head(&mut client, input).await?;
        let Some(end) = end else { return Ok(()) };
        let request = facts(&input, end);
        let id = relay.next_id.replace(relay.next_id.get() + 1);
        output.clear();
        copy_without(&mut output, &input[..end - 2], &request.connection);
        write!(output, "X-Forwarded-For: {address}\r\nX-Request-Id: {id:016x}\r\n\r\n")?;
        output.extend_from_slice(&input[end..]);
        let mut rest = request.length.saturating_sub(input.len() - end);

        let idle = relay.idle.borrow_mut().pop();
        let mut upstream = match idle {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect_addr(relay.origin).await?;
                stream.set_nodelay(true)?;
                stream
            }
        };
        let sent;
        (sent, output) = upstream.write_all(output).await;
        sent?;
        stream(relay, &mut client, &mut upstream, &mut rest).await?;

        input.clear();
        let end;
        (end, input) = read_head(&mut upstream, input).await?;
        let Some(end) = end else { return Err(io::ErrorKind::UnexpectedEof.into()) };
        let response = facts(&input, end);
        let mut rest = response.length.saturating_sub(input.len() - end);
        let sent;
        if request.close {
            output.clear();
            copy_without(&mut output, &input[..end - 2], &response.connection);
            output.extend_from_slice(b"Connection: close\r\n\r\n");
            output.extend_from_slice(&input[end..]);
            (sent, output) = client.write_all(output).await;
        } else {
            (sent, input) = client.write_all(input).await;
        }
        sent?;
        stream(relay, &mut upstream, &mut client, &mut rest).await?;
        if !response.close && relay.idle.borrow().len() < POOLED {
            relay.idle.borrow_mut().push(upstream);
        }
        if request.close {
            client.shutdown().await?;
            return Ok(());
        }
        input.clear();
    }
}

/// Moves `rest` more octets of a body.
async fn stream(
    relay: &Relay,
    from: &mut TcpStream,
    to: &mut TcpStream,
    rest: &mut usize,
) -> io::Result<()> {
    if *rest == 0 {
        return Ok(());
    }
    let pooled = relay.bulk.borrow_mut().pop();
    let mut buf = pooled.unwrap_or_else(|| Vec::with_capacity(BULK));
    while *rest > 0 {
        let (read, sent);
        (read, buf) = from.read(buf).await;
        let read = read?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        *rest = rest.saturating_sub(read);
        (sent, buf) = to.write_all(buf).await;
        sent?;
    }
    relay.bulk.borrow_mut().push(buf);
    Ok(())
}

/// Reads until `buf` holds a whole head and returns where it ends; `None` when the peer closed first.
async fn read_head(
    stream: &mut TcpStream,
    mut buf: Vec<u8>,
) -> io::Result<(Option<usize>, Vec<u8>)> {
    loop {
        use monoio::buf::IoBufMut;
        let at = buf.len();
        if at == buf.capacity() {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let (read, part) = stream.read(buf.slice_mut(at..)).await;
        buf = part.into_inner();
        if read? == 0 {
            return Ok((None, buf));
        }
        let from = at.saturating_sub(3);
        if let Some(end) = memchr::memmem::find(&buf[from..], b"\r\n\r\n") {
            return Ok((Some(from + end + 4), buf));
        }
    }
}

#[derive(Default)]
struct Facts {
    length: usize,
    close: bool,
    connection: Range<usize>,
}

fn copy_without(output: &mut Vec<u8>, head: &[u8], line: &Range<usize>) {
    output.extend_from_slice(&head[..line.start]);
    output.extend_from_slice(&head[line.end..]);
}

/// The two fields that even a bare relay must look at.
fn facts(buf: &[u8], end: usize) -> Facts {
    let mut facts = Facts::default();
    let mut line = 0;
    for lf in memchr::memchr_iter(b'\n', &buf[..end]) {
        let (text, start) = (&buf[line..lf], line);
        line = lf + 1;
        match text.first() {
            Some(b'C' | b'c') => {}
            _ => continue,
        }
        if let Some(value) = value_of(text, b"content-length:") {
            facts.length = value.parse().unwrap_or(0);
        } else if let Some(value) = value_of(text, b"connection:") {
            facts.close = value.eq_ignore_ascii_case("close");
            facts.connection = start..line;
        }
    }
    facts
}

fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a str> {
    let (start, value) = line.split_at_checked(name.len())?;
    let value = start.eq_ignore_ascii_case(name).then_some(value)?;
    std::str::from_utf8(value).ok().map(str::trim)
}
