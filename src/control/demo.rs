//! `ringgate demo`: three sample back ends inside the process, a configuration over them, and what to try.
//!
//! The back ends are ordinary tasks of the control thread and differ as real ones do: one is fast, one slow, one falls
//! ill now and then. Nothing here is a measurement. Called by the `demo` command, which runs ringgate on [`config`].

use crate::base::Tick;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{any, post};
use bytes::Bytes;
use hyper::body::Frame;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Interval;

/// A sample back end that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// What it calls itself in its answers.
    pub name: &'static str,
    /// Where it listens.
    pub address: SocketAddr,
}

/// How a back end behaves.
#[derive(Clone, Copy)]
struct Manner {
    name: &'static str,
    /// Before each answer but those of `/health`.
    delay: Duration,
    /// Whether `/health` says 503 in the last 10 of every 40 seconds since `start`.
    falls_ill: bool,
    start: Tick,
}

/// Fields that tell a back end about the client and the way.
const FORWARDED: [&str; 8] = [
    "host",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-forwarded-host",
    "forwarded",
    "via",
    "x-request-id",
];

/// Starts alpha (fast), beta (300 ms an answer) and gamma (ill for 10 of every 40 seconds) as tasks of the current tokio
/// runtime, on ports of 127.0.0.1 that the kernel chooses. They run until the runtime ends.
///
/// # Errors
/// When a port cannot be bound.
pub async fn start_backends() -> std::io::Result<Vec<Backend>> {
    let start = Tick::now();
    let manners = [
        Manner { name: "alpha", delay: Duration::ZERO, falls_ill: false, start },
        Manner { name: "beta", delay: Duration::from_millis(300), falls_ill: false, start },
        Manner { name: "gamma", delay: Duration::ZERO, falls_ill: true, start },
    ];
    let mut backends = Vec::new();
    for manner in manners {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        backends.push(Backend { name: manner.name, address: listener.local_addr()? });
        let router = Router::new()
            .route("/health", any(health))
            .route("/echo", post(echo))
            .route("/stream", any(stream))
            .fallback(hello)
            .with_state(manner);
        tokio::spawn(async move { axum::serve(listener, router).await });
    }
    Ok(backends)
}

/// The configuration of the demo, as a file would say it.
pub fn config(backends: &[Backend], port: u16, admin_port: u16) -> String {
    let targets = |keep: &dyn Fn(&Backend) -> bool| {
        let kept = backends.iter().filter(|backend| keep(backend));
        kept.map(|backend| format!("\"{}\"", backend.address)).collect::<Vec<_>>().join(", ")
    };
    let all = targets(&|_| true);
    let slow = targets(&|backend| backend.name == "beta");
    format!(
        r##"[admin]
bind = "127.0.0.1:{admin_port}"

[[listener]]
name = "demo"
bind = ["127.0.0.1:{port}"]
default = {{ forward = "all" }}

[[rule]]
name = "slow"
when = {{ path = "/slow*" }}
forward = "beta"

[[rule]]
name = "old"
when = {{ path = "/old*" }}
redirect = {{ path = "/new", status = 302 }}

[[rule]]
name = "hello"
when = {{ path = "/hello" }}
respond = {{ status = 200, body = "Hello from ringgate itself.\n" }}

[group.all]
targets = [{all}]
health = {{ path = "/health", interval = "5s", timeout = "2s", healthy = 1, unhealthy = 1 }}

[group.beta]
targets = [{slow}]
health = {{ path = "/health", interval = "5s", timeout = "2s" }}

[[expect]]
request = "GET http://127.0.0.1:{port}/slow/report"
rule = "slow"

[[expect]]
request = "GET http://127.0.0.1:{port}/anything"
rule = "none"
"##
    )
}

/// Commands to try against the demo.
pub fn hints(port: u16, admin_port: u16) -> String {
    format!(
        "\
Try, in another terminal:

  # Round robin over alpha, beta (slow) and gamma (ill for 10 of every 40 seconds):
  for i in 1 2 3 4 5 6; do curl -s http://127.0.0.1:{port}/ | head -1; done
  # What a back end learns about you:
  curl http://127.0.0.1:{port}/
  # A rule by path: always beta, 300 ms.
  curl -w '%{{time_total}} s\\n' http://127.0.0.1:{port}/slow/report
  # A redirect, and an answer of ringgate's own:
  curl -i http://127.0.0.1:{port}/old/page
  curl -i http://127.0.0.1:{port}/hello
  # Bodies, both ways:
  curl -d 'some text' http://127.0.0.1:{port}/echo
  curl -N http://127.0.0.1:{port}/stream
  # Counters of ringgate, and whether it is ready:
  curl http://127.0.0.1:{admin_port}/metrics
  curl -i http://127.0.0.1:{admin_port}/readyz
"
    )
}

async fn hello(State(manner): State<Manner>, request: Request) -> String {
    tokio::time::sleep(manner.delay).await;
    describe(&manner, &request)
}

fn describe(manner: &Manner, request: &Request) -> String {
    let mut text = format!("{} answers {} {}\n", manner.name, request.method(), request.uri());
    let headers: &HeaderMap = request.headers();
    for name in FORWARDED {
        for value in headers.get_all(name) {
            let value = String::from_utf8_lossy(value.as_bytes());
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  {name}: {value}");
        }
    }
    text
}

async fn health(State(manner): State<Manner>) -> (StatusCode, &'static str) {
    let second = Tick::now().since(manner.start).as_secs() % 40;
    match manner.falls_ill && second >= 30 {
        true => (StatusCode::SERVICE_UNAVAILABLE, "ill\n"),
        false => (StatusCode::OK, "well\n"),
    }
}

async fn echo(State(manner): State<Manner>, body: Body) -> Body {
    tokio::time::sleep(manner.delay).await;
    body
}

async fn stream(State(manner): State<Manner>) -> Body {
    tokio::time::sleep(manner.delay).await;
    let interval = tokio::time::interval(Duration::from_millis(500));
    Body::new(Chunks { name: manner.name, sent: 0, interval })
}

/// Five chunks, half a second apart.
struct Chunks {
    name: &'static str,
    sent: u32,
    interval: Interval,
}

impl hyper::body::Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.sent == 5 {
            return Poll::Ready(None);
        }
        if self.interval.poll_tick(cx).is_pending() {
            return Poll::Pending;
        }
        self.sent += 1;
        let text = format!("{} sends chunk {} of 5\n", self.name, self.sent);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(text)))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Action;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn the_configuration_of_the_demo_is_good() {
        let backend =
            |name, port| Backend { name, address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)) };
        let backends = [backend("alpha", 1), backend("beta", 2), backend("gamma", 3)];
        let text = config(&backends, 8080, 9901);
        let config = crate::config::parse(&text, "demo.toml", &|_| None);
        let config = config.unwrap_or_else(|problems| panic!("{problems}\n{text}"));
        let targets: Vec<usize> = config.groups.iter().map(|group| group.targets.len()).collect();
        assert_eq!(targets, [3, 1]);
        assert!(matches!(config.listeners[0].default, Action::Forward(_)));
        assert!(hints(8080, 9901).contains("http://127.0.0.1:8080/slow/report"));
    }

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn backends_answer() {
        let backends = start_backends().await.unwrap();
        let names: Vec<_> = backends.iter().map(|backend| backend.name).collect();
        assert_eq!(names, ["alpha", "beta", "gamma"]);
        for backend in &backends {
            let request =
                "GET /a?b=c HTTP/1.1\r\nhost: x\r\nvia: 1.1 y\r\nconnection: close\r\n\r\n";
            let answer = ask(backend.address, request).await;
            let expected =
                format!("{} answers GET /a?b=c\n  host: x\n  via: 1.1 y\n", backend.name);
            assert!(answer.ends_with(&expected), "{answer}");
            let request = "GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
            assert!(ask(backend.address, request).await.starts_with("HTTP/1.1 200 "));
        }
        let alpha = backends[0].address;
        let request =
            "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\nconnection: close\r\n\r\nbody";
        assert!(ask(alpha, request).await.ends_with("body"));
        let request = "GET /stream HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        assert!(ask(alpha, request).await.contains("alpha sends chunk 5 of 5"));
    }
}
