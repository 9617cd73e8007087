//! The admin listener: a handful of endpoints, with limits of its own.
//!
//! It runs on the control thread. A panic in an answer costs that connection; a slow client is cut off after
//! [`HEAD_TIMEOUT`]; at most [`CONNECTIONS`] are open at once. It does not authenticate: bind it to loopback.

use crate::admin::scrape::Source;
use crate::admin::text::{self, TextFormat};
use crate::admin::{cache as stored, host, metrics, mirrors, pages};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, RawQuery, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, body::Body};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Connections open at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 64;
/// For a request head, and for the next one on an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// For a whole connection: even a client that reads nothing gives its place back.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(600);
/// For the body that says what is to be purged.
const PURGE: usize = 64 << 10;
/// The pause after an accept that failed, as when no descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

type Shared = State<Arc<dyn Source>>;

/// Serves the admin endpoints on `listener` until dropped.
pub async fn serve(listener: TcpListener, source: Arc<dyn Source>) {
    let app = router(source);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to the admin listener");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let app = app.clone();
        tokio::spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(16 << 10)
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
            // What goes wrong on such a connection is its client's business.
            let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
            drop(place);
        });
    }
}

fn router(source: Arc<dyn Source>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/metrics", get(prometheus))
        .route("/targets", get(targets))
        .route("/explain", post(explain))
        .route("/cache", get(cache))
        .route("/cache/purge", post(purge).layer(DefaultBodyLimit::max(PURGE)))
        .route("/mirrors", get(mirrored))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .fallback(not_found)
        .layer(middleware::from_fn(guard))
        .with_state(source)
}

/// Refuses names that could have been rebound to this address, and marks every answer as not to be kept.
async fn guard(request: Request, next: Next) -> Response {
    let mut response =
        if is_for_us(&request) { next.run(request).await } else { misdirected().into_response() };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A browser always sends `Host`; a request without one is HTTP/1.0 from a tool.
fn is_for_us(request: &Request<Body>) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let named = hosts.all(|value| value.to_str().is_ok_and(host::is_allowed));
    named && request.uri().authority().is_none_or(|name| host::is_allowed(name.as_str()))
}

fn misdirected() -> (StatusCode, &'static str) {
    let sentence =
        "The admin listener answers to an IP address or localhost in Host, not to names.\n";
    (StatusCode::MISDIRECTED_REQUEST, sentence)
}

async fn not_found() -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, "There is no such page; / lists them.\n")
}

async fn index() -> &'static str {
    pages::INDEX
}

async fn prometheus(State(source): Shared, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let format = TextFormat::negotiate(accept.unwrap_or_default());
    let open = metrics::open_metrics(source.scrape());
    let body = match format {
        TextFormat::OpenMetrics => open,
        TextFormat::Classic => text::classic(&open),
    };
    ([(header::CONTENT_TYPE, format.content_type()), (header::VARY, "Accept")], body)
        .into_response()
}

async fn targets(State(source): Shared) -> Response {
    let body = pages::targets(&source.scrape());
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

// A question is small; compiling a file for it takes a while, and is not done on the control thread.
async fn explain(State(source): Shared, RawQuery(query): RawQuery, question: Bytes) -> Response {
    let json = query.as_deref() != Some("format=text");
    let told = tokio::task::spawn_blocking(move || source.explain(&question, json)).await;
    let kind = if json { "application/json" } else { "text/plain; charset=utf-8" };
    match told {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, kind)], text).into_response(),
        Ok(Err(sentence)) => (StatusCode::BAD_REQUEST, format!("{sentence}\n")).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn cache(State(source): Shared) -> Response {
    let body = stored::page(&source.scrape().cache);
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

async fn purge(State(source): Shared, headers: HeaderMap, body: Bytes) -> Response {
    match stored::purge(&headers, &body, source.paths()) {
        Ok(purge) => {
            let body = stored::purged(source.purge(&purge));
            ([(header::CONTENT_TYPE, "application/json")], body).into_response()
        }
        Err(sentence) => (StatusCode::BAD_REQUEST, format!("{sentence}\n")).into_response(),
    }
}

async fn mirrored(State(source): Shared) -> Response {
    let body = mirrors::page(&source.scrape());
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(source): Shared) -> Response {
    match source.ready() {
        Ok(()) => "ready\n".into_response(),
        Err(sentence) => (StatusCode::SERVICE_UNAVAILABLE, format!("{sentence}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests;
