//! One probe of one target: connect, and for HTTP and gRPC ask and judge the answer.
//!
//! It follows no redirect, keeps no connection and resolves no name. When to probe and what an outcome means is decided
//! elsewhere (`health`); the schedule on the control thread calls it.

mod grpc;

use crate::config::{Health, HealthKind};
use crate::health::Outcome;
use crate::http::proxy_protocol::write;
use crate::snapshot::Opening;
use crate::tls::client::{ALPN_H2, ALPN_HTTP1};
use grpc::GrpcCheck;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// How much of an answer is read so that the target sees it taken; what it says does not matter.
const BODY_OCTETS: usize = 64 << 10;
/// How long that may take after the head.
const BODY_WAIT: Duration = Duration::from_secs(1);
/// The longest answer head.
const HEAD_OCTETS: usize = 64 << 10;

/// Where a target is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ProbeTarget {
    /// An address.
    Ip(SocketAddr),
    /// A Unix stream socket.
    Unix(PathBuf),
}

/// What a probe does.
#[derive(Clone)]
pub struct Check {
    /// For a GET: what it asks and what it accepts; `None` where a connection that opens suffices.
    pub http: Option<HttpCheck>,
    /// For a call of gRPC's health service: what it asks.
    pub grpc: Option<GrpcCheck>,
    /// A port to probe instead of the target's.
    pub port: Option<u16>,
    /// For the whole probe.
    pub timeout: Duration,
    /// The PROXY header that the connection begins with, where targets expect one.
    pub header: Vec<u8>,
    /// TLS, where targets speak it, and whom the target must prove to be.
    pub tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// The GET of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpCheck {
    /// The request target, in origin form.
    pub path: String,
    /// The `Host`; the probed address when left out, `localhost` for a Unix socket.
    pub host: Option<String>,
    /// Statuses that count as success.
    pub expect: Vec<RangeInclusive<u16>>,
}

impl Check {
    /// What a group's `health` asks for; `None` when it is off. `opening` is how connections to the target begin.
    pub fn of(health: &Health, opening: &Opening) -> Option<Check> {
        let http = match health.kind {
            HealthKind::Off => return None,
            HealthKind::Tcp | HealthKind::Grpc => None,
            HealthKind::Http => Some(HttpCheck {
                path: health.path.clone(),
                host: health.host.clone(),
                expect: health.expect.clone(),
            }),
        };
        let grpc = (health.kind == HealthKind::Grpc)
            .then(|| GrpcCheck { service: health.service.clone(), host: health.host.clone() });
        let header = opening.proxy_protocol.map(write::local).unwrap_or_default();
        let tls = opening.tls.as_ref().map(|(dial, name)| {
            // HTTP probes speak HTTP/1.1 and calls HTTP/2, whatever requests are sent by.
            let alpn = match (&http, &grpc) {
                (Some(_), _) => Some(ALPN_HTTP1),
                (None, Some(_)) => Some(ALPN_H2),
                (None, None) => None,
            };
            (TlsConnector::from(dial.probing(alpn)), name.clone())
        });
        Some(Check { http, grpc, port: health.port, timeout: health.timeout, header, tls })
    }
}

/// Probes once; ends within the check's timeout.
pub async fn probe(target: &ProbeTarget, check: &Check) -> Outcome {
    // Once the status is in, the time that the body takes is no longer the target's fault.
    let mut verdict = None;
    let run = async {
        match target {
            ProbeTarget::Ip(address) => {
                let mut address = *address;
                address.set_port(check.port.unwrap_or(address.port()));
                let stream = TcpStream::connect(address).await;
                judge(stream, &address.to_string(), check, &mut verdict).await
            }
            ProbeTarget::Unix(path) => {
                judge(UnixStream::connect(path).await, "localhost", check, &mut verdict).await
            }
        }
    };
    match timeout(check.timeout, run).await {
        Ok(outcome) => outcome,
        Err(_) => verdict.unwrap_or(Outcome::Timeout),
    }
}

async fn judge<S>(
    connected: io::Result<S>,
    address: &str,
    check: &Check,
    verdict: &mut Option<Outcome>,
) -> Outcome
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut stream = match connected {
        Ok(stream) => stream,
        Err(error) if is_ours(&error) => {
            return Outcome::Internal(format!("cannot open a connection: {error}"));
        }
        Err(error) => return Outcome::Failed(format!("no connection: {error}")),
    };
    if let Err(error) = stream.write_all(&check.header).await {
        return Outcome::Failed(format!("the connection broke: {error}"));
    }
    let Some((connector, name)) = &check.tls else {
        return match (&check.http, &check.grpc) {
            (Some(http), _) => ask(stream, address, http, verdict).await,
            (None, Some(call)) => grpc::ask(stream, address, "http", call, check.timeout).await,
            (None, None) => Outcome::Success,
        };
    };
    let mut stream = match connector.connect(name.clone(), stream).await {
        Ok(stream) => stream,
        Err(error) => return Outcome::Failed(format!("no TLS: {error}")),
    };
    match (&check.http, &check.grpc) {
        (Some(http), _) => ask(stream, address, http, verdict).await,
        (None, Some(call)) => grpc::ask(stream, address, "https", call, check.timeout).await,
        (None, None) => {
            // Says goodbye: a connection that is merely dropped stands in the target's log as an error.
            let _ = stream.shutdown().await;
            Outcome::Success
        }
    }
}

async fn ask<S>(
    stream: S,
    address: &str,
    check: &HttpCheck,
    verdict: &mut Option<Outcome>,
) -> Outcome
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let request = Request::builder()
        .method(Method::GET)
        .uri(check.path.as_str())
        .header(HOST, check.host.as_deref().unwrap_or(address))
        .header(USER_AGENT, concat!("ringgate-health/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new());
    let request = match request {
        Ok(request) => request,
        Err(error) => return Outcome::Internal(format!("the check makes no request: {error}")),
    };
    let handshake =
        http1::Builder::new().max_buf_size(HEAD_OCTETS).handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = match handshake {
        Ok(both) => both,
        Err(error) => return failed(&error),
    };
    let exchange = async {
        let response = match sender.send_request(request).await {
            Ok(response) => response,
            Err(error) => return failed(&error),
        };
        let outcome = match response.status().as_u16() {
            status if check.expect.iter().any(|range| range.contains(&status)) => Outcome::Success,
            status => Outcome::Status(status),
        };
        *verdict = Some(outcome.clone());
        let _ = timeout(BODY_WAIT, drain(response.into_body())).await;
        outcome
    };
    // The connection moves the octets. When it ends first, the exchange learns of it by itself.
    alongside(exchange, connection).await
}

/// Takes a short body, so that the target's log shows no broken connection.
async fn drain(mut body: Incoming) {
    let mut left = BODY_OCTETS;
    while let Some(Ok(frame)) = body.frame().await {
        let octets = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(octets) {
            Some(rest) if !body.is_end_stream() => left = rest,
            _ => return,
        }
    }
}

async fn alongside<T>(main: impl Future<Output = T>, other: impl Future) -> T {
    let other = async {
        let _ = other.await;
        std::future::pending::<T>().await
    };
    tokio::select! {
        result = main => result,
        never = other => never,
    }
}

fn failed(error: &hyper::Error) -> Outcome {
    let source = std::error::Error::source(error);
    match source {
        Some(source) => Outcome::Failed(format!("no valid answer: {error}: {source}")),
        None => Outcome::Failed(format!("no valid answer: {error}")),
    }
}

/// We lack a descriptor, memory or a port: that says nothing about the target.
fn is_ours(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let ours = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL];
    ours.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, UnixListener};
    use tokio::task::JoinHandle;

    fn check(http: bool, timeout: Duration) -> Check {
        let kind = if http { HealthKind::Http } else { HealthKind::Tcp };
        let path = "/health?deep=1".to_owned();
        let expect = vec![200..=299, 418..=418];
        Check::of(&Health { kind, path, expect, timeout, ..Health::default() }, &Opening::default())
            .unwrap()
    }

    const SHORT: Duration = Duration::from_millis(300);
    const LONG: Duration = Duration::from_secs(20);

    /// Reads a request head from one connection, writes `answer`, then holds the connection or closes it.
    async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
        mut s: S,
        answer: &str,
        hold: bool,
    ) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut octet = [0];
            if s.read(&mut octet).await.unwrap_or(0) == 0 {
                break;
            }
            head.extend_from_slice(&octet);
        }
        let _ = s.write_all(answer.as_bytes()).await;
        if hold {
            let _ = s.read_to_end(&mut Vec::new()).await;
        }
        String::from_utf8(head).unwrap()
    }

    async fn target(text: &'static str, hold: bool) -> (SocketAddr, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            answer(stream, text, hold).await
        });
        (address, task)
    }

    #[tokio::test]
    async fn answers_are_judged_by_their_status() {
        let cases = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Outcome::Success),
            ("HTTP/1.1 200 OK\r\n\r\nuntil the end", Outcome::Success),
            ("HTTP/1.0 204 No Content\r\n\r\n", Outcome::Success),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 418 I\r\n\r\n", Outcome::Success),
            ("HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n", Outcome::Status(302)),
            ("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", Outcome::Status(503)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", Outcome::Success),
        ];
        for (text, expected) in cases {
            let (address, task) = target(text, false).await;
            let got = probe(&ProbeTarget::Ip(address), &check(true, LONG)).await;
            assert_eq!(got, expected, "{text}");
            task.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_body_without_end_does_not_delay_the_verdict() {
        let (address, _task) = target("HTTP/1.1 200 OK\r\n\r\n", true).await;
        let got = probe(&ProbeTarget::Ip(address), &check(true, SHORT)).await;
        assert_eq!(got, Outcome::Success);
    }

    #[tokio::test]
    async fn what_is_no_answer_fails() {
        for text in ["", "SSH-2.0-x\r\n", "HTTP/1.1 20", "HTTP/1.1 abc\r\n\r\n"] {
            let (address, _task) = target(text, false).await;
            let got = probe(&ProbeTarget::Ip(address), &check(true, LONG)).await;
            assert!(matches!(got, Outcome::Failed(_)), "{text}: {got:?}");
        }
        let (address, _task) = target("", true).await;
        let got = probe(&ProbeTarget::Ip(address), &check(true, SHORT)).await;
        assert_eq!(got, Outcome::Timeout);
    }

    #[tokio::test]
    async fn a_connection_that_opens_suffices_for_tcp() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = ProbeTarget::Ip(listener.local_addr().unwrap());
        assert_eq!(probe(&target, &check(false, LONG)).await, Outcome::Success);
        drop(listener);
        for http in [false, true] {
            let got = probe(&target, &check(http, LONG)).await;
            assert!(matches!(&got, Outcome::Failed(text) if text.contains("refused")), "{got:?}");
        }
    }

    #[tokio::test]
    async fn the_request_says_who_asks_and_asks_the_other_port() {
        let (address, task) = target("HTTP/1.1 200 OK\r\n\r\n", false).await;
        let elsewhere = SocketAddr::new(address.ip(), 1);
        let check = Check { port: Some(address.port()), ..check(true, LONG) };
        assert_eq!(probe(&ProbeTarget::Ip(elsewhere), &check).await, Outcome::Success);
        let head = task.await.unwrap().to_ascii_lowercase();
        let mut lines: Vec<&str> = head.trim_end().split("\r\n").collect();
        lines[1..].sort_unstable();
        let host = format!("host: {address}");
        let agent = format!("user-agent: ringgate-health/{}", env!("CARGO_PKG_VERSION"));
        assert_eq!(lines, ["get /health?deep=1 http/1.1", "connection: close", &host, &agent]);
    }

    #[tokio::test]
    async fn unix_sockets_are_probed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let missing = probe(&ProbeTarget::Unix(path.clone()), &check(false, LONG)).await;
        assert!(matches!(missing, Outcome::Failed(_)), "{missing:?}");
        let listener = UnixListener::bind(&path).unwrap();
        let task = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            answer(stream, "HTTP/1.1 200 OK\r\n\r\n", false).await
        });
        // Spawned, since the schedule runs each probe as its own task.
        let got = tokio::spawn(async { probe(&ProbeTarget::Unix(path), &check(true, LONG)).await });
        assert_eq!(got.await.unwrap(), Outcome::Success);
        assert!(task.await.unwrap().contains("host: localhost\r\n"));
    }
}
