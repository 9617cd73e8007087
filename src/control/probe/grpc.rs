//! A probe by gRPC's health protocol: one `grpc.health.v1.Health/Check` over HTTP/2, judged by the status in its answer.
//!
//! The two messages have one field each, so they are written and read here by hand. Called by `probe`, with a connection
//! that is open already; what an outcome means is decided elsewhere (`health`).

use crate::health::Outcome;
use crate::http::grpc;
use h2::RecvStream;
use h2::client::Builder;
use http::{HeaderMap, Request};
use hyper::body::Bytes;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// What a probe asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcCheck {
    /// The service; empty for the server as a whole.
    pub service: String,
    /// The `:authority`; the probed address when left out, `localhost` for a Unix socket.
    pub host: Option<String>,
}

// An answer has a few octets; nothing larger is waited for.
const MOST_ANSWER: usize = 1024;
const MOST_HEADERS: u32 = 16 << 10;

/// Asks over `stream`; `address` stands in for the host, `scheme` is `http` or `https`.
pub async fn ask<S>(
    stream: S,
    address: &str,
    scheme: &str,
    check: &GrpcCheck,
    patience: Duration,
) -> Outcome
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let request = match request(address, scheme, check, patience) {
        Ok(request) => request,
        Err(error) => return Outcome::Internal(format!("the check makes no request: {error}")),
    };
    let mut builder = Builder::new();
    builder.enable_push(false).max_header_list_size(MOST_HEADERS).initial_window_size(16 << 10);
    let (sender, connection) = match builder.handshake::<_, Bytes>(stream).await {
        Ok(both) => both,
        Err(error) => return failed(&error),
    };
    let exchange = async {
        match answer(sender, request, check).await {
            Ok(outcome) => outcome,
            Err(error) => failed(&error),
        }
    };
    // The connection moves the octets. When it ends first, the exchange learns of it by itself.
    super::alongside(exchange, connection).await
}

fn request(
    address: &str,
    scheme: &str,
    check: &GrpcCheck,
    patience: Duration,
) -> Result<Request<()>, http::Error> {
    let authority = check.host.as_deref().unwrap_or(address);
    let millis = patience.as_millis().min(99_999_999);
    Request::post(format!("{scheme}://{authority}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", format!("{millis}m"))
        .header("user-agent", concat!("ringgate-health/", env!("CARGO_PKG_VERSION")))
        .body(())
}

async fn answer(
    sender: h2::client::SendRequest<Bytes>,
    request: Request<()>,
    check: &GrpcCheck,
) -> Result<Outcome, h2::Error> {
    let mut sender = sender.ready().await?;
    let (response, mut body) = sender.send_request(request, false)?;
    body.send_data(framed(&message(&check.service)).into(), true)?;
    let (head, body) = response.await?.into_parts();
    if head.status != 200 {
        return Ok(Outcome::Status(head.status.as_u16()));
    }
    // A call that failed before any message has its status in the head.
    if let Some(status) = status_of(&head.headers) {
        return Ok(judged(status, &[], check));
    }
    let (octets, trailers) = collect(body).await?;
    Ok(match status_of(&trailers) {
        Some(status) => judged(status, &octets, check),
        None => Outcome::Failed("no valid answer: it has no grpc-status".to_owned()),
    })
}

async fn collect(mut body: RecvStream) -> Result<(Vec<u8>, HeaderMap), h2::Error> {
    let mut octets = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        octets.extend_from_slice(&piece);
        if octets.len() > MOST_ANSWER {
            return Ok((octets, HeaderMap::new()));
        }
    }
    Ok((octets, body.trailers().await?.unwrap_or_default()))
}

fn status_of(fields: &HeaderMap) -> Option<u16> {
    grpc::status(fields.get("grpc-status")?.as_bytes())
}

fn judged(status: u16, octets: &[u8], check: &GrpcCheck) -> Outcome {
    let of = match check.service.as_str() {
        "" => "the server".to_owned(),
        service => format!("service {service:?}"),
    };
    if status != 0 {
        let name = grpc::name(status);
        return Outcome::Failed(format!("the health check of {of} ended with {name}"));
    }
    match serving(octets) {
        Some(1) => Outcome::Success,
        Some(0) => Outcome::Failed(format!("{of} says UNKNOWN")),
        Some(2) => Outcome::Failed(format!("{of} says NOT_SERVING")),
        Some(3) => Outcome::Failed(format!("{of} says SERVICE_UNKNOWN")),
        Some(other) => Outcome::Failed(format!("{of} says {other}, which is no status of health")),
        None => Outcome::Failed("no valid answer: not one HealthCheckResponse".to_owned()),
    }
}

fn failed(error: &h2::Error) -> Outcome {
    Outcome::Failed(format!("no valid answer: {error}"))
}

// HealthCheckRequest: field 1 is the service.
fn message(service: &str) -> Vec<u8> {
    let mut out = Vec::new();
    if !service.is_empty() {
        out.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            out.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend_from_slice(service.as_bytes());
    }
    out
}

// Not compressed, and its length before it.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&[0][..], &length.to_be_bytes(), message].concat()
}

// HealthCheckResponse: field 1 is the status, and left out when it is 0. Fields that later versions may add are passed over.
fn serving(octets: &[u8]) -> Option<u64> {
    let [0, a, b, c, d, message @ ..] = octets else { return None };
    if u32::from_be_bytes([*a, *b, *c, *d]) as usize != message.len() {
        return None;
    }
    let (mut rest, mut status) = (message, 0);
    while !rest.is_empty() {
        let (key, after) = varint(rest)?;
        rest = match key & 7 {
            0 => {
                let (value, after) = varint(after)?;
                if key >> 3 == 1 {
                    status = value;
                }
                after
            }
            1 => after.get(8..)?,
            2 => {
                let (length, after) = varint(after)?;
                after.get(usize::try_from(length).ok()?..)?
            }
            5 => after.get(4..)?,
            _ => return None,
        };
    }
    Some(status)
}

fn varint(octets: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (at, octet) in octets.iter().take(10).enumerate() {
        value |= u64::from(octet & 0x7f).checked_shl(7 * at as u32)?;
        if octet & 0x80 == 0 {
            return Some((value, octets.get(at + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[test]
    fn messages_are_written_and_read() {
        assert_eq!(framed(&message("")), [0; 5]);
        assert_eq!(framed(&message("ab")), b"\0\0\0\0\x04\x0a\x02ab");
        assert_eq!(message(&"x".repeat(200)).get(..3), Some(&[0x0a, 0xc8, 1][..]));
        let cases: &[(&[u8], Option<u64>)] = &[
            (b"\0\0\0\0\x02\x08\x01", Some(1)),
            (b"\0\0\0\0\x02\x08\x02", Some(2)),
            (b"\0\0\0\0\0", Some(0)),
            (b"\0\0\0\0\x06\x12\x02ab\x08\x01", Some(1)),
            (b"\x01\0\0\0\0", None),
            (b"\0\0\0\0\x02\x08", None),
            (b"\0\0\0\0\x01\x08", None),
            (b"\0\0\0\0\x02\x0a\x09", None),
            (b"", None),
            (b"\0\0\0\0\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
        ];
        for (octets, expected) in cases {
            assert_eq!(serving(octets), *expected, "{octets:?}");
        }
    }

    // One answer: a status, or a body and the status in its trailers.
    async fn probed(status: u16, head: Option<&'static str>, answer: &'static [u8]) -> Outcome {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut connection = h2::server::handshake(stream).await.unwrap();
            let (request, mut respond) = connection.accept().await.unwrap().unwrap();
            assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
            assert_eq!(request.headers().get("te").unwrap(), "trailers");
            let response = http::Response::builder().status(status);
            match head {
                Some(value) => {
                    let response = response.header("grpc-status", value).body(()).unwrap();
                    respond.send_response(response, true).unwrap();
                }
                None => {
                    let mut body =
                        respond.send_response(response.body(()).unwrap(), false).unwrap();
                    body.send_data(Bytes::from_static(answer), false).unwrap();
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", "0".parse().unwrap());
                    body.send_trailers(trailers).unwrap();
                }
            }
            while connection.accept().await.is_some() {}
        });
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let check = GrpcCheck { service: "a.B".to_owned(), host: None };
        let patience = Duration::from_secs(20);
        let outcome = ask(stream, &address.to_string(), "http", &check, patience).await;
        server.abort();
        outcome
    }

    #[tokio::test]
    async fn answers_are_judged_by_what_they_say() {
        let failed = |text: &str| Outcome::Failed(text.to_owned());
        let says = |what: &str| failed(&format!("service \"a.B\" says {what}"));
        assert_eq!(probed(200, None, b"\0\0\0\0\x02\x08\x01").await, Outcome::Success);
        assert_eq!(probed(200, None, b"\0\0\0\0\x02\x08\x02").await, says("NOT_SERVING"));
        assert_eq!(probed(200, None, b"\0\0\0\0\0").await, says("UNKNOWN"));
        let broken = failed("no valid answer: not one HealthCheckResponse");
        assert_eq!(probed(200, None, b"\0\0\0\0\x02\x08").await, broken);
        assert_eq!(probed(503, None, b"").await, Outcome::Status(503));
        let not_found = failed("the health check of service \"a.B\" ended with NOT_FOUND");
        assert_eq!(probed(200, Some("5"), b"").await, not_found);
    }
}
