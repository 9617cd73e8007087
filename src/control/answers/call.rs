//! One call of a service: through a client that is kept for those who may vouch for it, within bounds of time, size and number.
//!
//! Redirects are not followed, no proxy of the environment is used, no cookie is kept, nothing is decompressed. Names are
//! resolved as those of targets are, so that nothing of libc's resolver is needed inside the sandbox. What has failed is
//! logged here, at most every ten seconds for one service and without the URL's path and query, which may hold secrets.
//! Called by `answers`.

use crate::base::Tick;
use crate::control::answers::{Place, failed, unasked};
use crate::control::resolve::Resolver;
use crate::policy::Reply;
use crate::policy::ask::{Call, Called};
use aws_lc_rs::digest;
use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Client, Method, Request, Url, dns, redirect};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::error::Error;
use std::fmt::Write;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Calls in flight, to all services together.
const MOST_CALLS: usize = 1024;
/// Calls in flight to one service, so that a slow one leaves places to others.
const MOST_PER_SERVICE: usize = 256;
/// Calls to one service that are in flight or wait.
const MOST_WAITING: usize = 2048;
/// The longest that any call may take; workers wait a little longer.
const LONGEST: Duration = Duration::from_secs(60);
/// For one connection, its TLS handshake included.
const CONNECT: Duration = Duration::from_secs(5);
/// Shorter than what servers commonly keep idle connections for (5 s and more), so that few are closed right when used again.
const IDLE: Duration = Duration::from_secs(4);
/// Idle connections kept to one service.
const MOST_IDLE: usize = 64;
/// Clients that are kept; each set of roots has its own.
const MOST_CLIENTS: usize = 64;
/// How often one service's failures are logged.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Makes calls.
pub struct Calls {
    resolver: Arc<Resolver>,
    clients: RefCell<HashMap<Trust, Client>>,
    services: RefCell<HashMap<String, Rc<Service>>>,
    slots: Semaphore,
}

/// Whom a service is verified by.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Trust {
    /// Nobody: it is spoken to without TLS.
    Plain,
    /// The system's roots.
    System,
    /// The roots of a file with this digest.
    Roots([u8; 32]),
}

struct Service {
    slots: Semaphore,
    waiting: Cell<usize>,
    logged: Cell<Option<Tick>>,
    unlogged: Cell<u64>,
}

impl Calls {
    /// No calls yet.
    pub fn new(resolver: Resolver) -> Calls {
        Calls {
            resolver: Arc::new(resolver),
            clients: RefCell::default(),
            services: RefCell::default(),
            slots: Semaphore::new(MOST_CALLS),
        }
    }

    /// Makes one; waits for a place within its time.
    pub async fn make(&self, call: Call) -> Reply {
        let Some(url) = Url::parse(&call.url).ok().filter(|url| url.has_host()) else {
            return failed("the URL of the service is none");
        };
        let origin = url.origin().ascii_serialization();
        let service = self.service(&origin);
        let reply = self.within(call, url, &service).await;
        if let Some(why) = reply.failure() {
            service.log(&origin, why, Tick::now());
        }
        reply
    }

    async fn within(&self, call: Call, url: Url, service: &Service) -> Reply {
        let Some(_place) = Place::take(&service.waiting, MOST_WAITING) else {
            return unasked("too many calls of the service wait already");
        };
        let timeout = call.timeout.min(LONGEST);
        let made = tokio::time::timeout(timeout, async {
            // Neither is ever closed.
            let _of_service = service.slots.acquire().await;
            let _of_all = self.slots.acquire().await;
            self.ask(call, url).await
        });
        match made.await {
            Ok(Ok(called)) => Reply::Called(Arc::new(called)),
            Ok(Err(reply)) => reply,
            Err(_) => failed(&format!("no whole answer within {timeout:?}")),
        }
    }

    async fn ask(&self, call: Call, url: Url) -> Result<Called, Reply> {
        let most = call.most;
        let client = self.client(&url, call.ca.as_deref()).map_err(|why| failed(&why))?;
        let request = request(call, url).map_err(|why| unasked(&why))?;
        // A GET may be repeated where a kept connection was closed just when it was used again.
        let again = request.try_clone().filter(|r| r.method() == Method::GET);
        let mut response = match (client.execute(request).await, again) {
            (Ok(response), _) => response,
            (Err(error), Some(again)) if was_closed(&error) => {
                client.execute(again).await.map_err(broken)?
            }
            (Err(error), _) => return Err(broken(error)),
        };
        let mut called = Called { status: response.status().as_u16(), ..Called::default() };
        let fields = response.headers().iter();
        called.fields = fields
            .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
            .collect();
        let too_much = || unasked(&format!("the answer has more than {most} octets"));
        if response.content_length().is_some_and(|length| length > most as u64) {
            return Err(too_much());
        }
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            if called.body.len() + chunk.len() > most {
                return Err(too_much());
            }
            called.body.extend_from_slice(&chunk);
        }
        Ok(called)
    }

    fn service(&self, origin: &str) -> Rc<Service> {
        let mut services = self.services.borrow_mut();
        if let Some(service) = services.get(origin) {
            return Rc::clone(service);
        }
        // Services come from the file, so there are few; those of files long replaced go here.
        if services.len() >= MOST_CLIENTS {
            services.retain(|_, service| Rc::strong_count(service) > 1);
        }
        let service = Rc::new(Service {
            slots: Semaphore::new(MOST_PER_SERVICE),
            waiting: Cell::new(0),
            logged: Cell::new(None),
            unlogged: Cell::new(0),
        });
        services.insert(origin.to_owned(), Rc::clone(&service));
        service
    }

    fn client(&self, url: &Url, ca: Option<&[u8]>) -> Result<Client, String> {
        let trust = match (url.scheme(), ca) {
            ("http", _) => Trust::Plain,
            ("https", None) => Trust::System,
            ("https", Some(pem)) => {
                let digest = digest::digest(&digest::SHA256, pem);
                Trust::Roots(digest.as_ref().try_into().unwrap_or_default())
            }
            _ => return Err("the URL of the service is neither http nor https".to_owned()),
        };
        let mut clients = self.clients.borrow_mut();
        if let Some(client) = clients.get(&trust) {
            return Ok(client.clone());
        }
        if clients.len() >= MOST_CLIENTS {
            clients.clear();
        }
        let roots = match trust {
            Trust::Plain => RootCertStore::empty(),
            Trust::System | Trust::Roots(_) => roots(ca)?,
        };
        let client = build(roots, Arc::clone(&self.resolver))?;
        clients.insert(trust, client.clone());
        Ok(client)
    }
}

impl Service {
    fn log(&self, origin: &str, why: &str, now: Tick) {
        if self.logged.get().is_some_and(|last| now.since(last) < LOG_EVERY) {
            self.unlogged.set(self.unlogged.get() + 1);
            return;
        }
        let before = self.unlogged.take();
        self.logged.set(Some(now));
        tracing::warn!(
            service = origin,
            why,
            not_logged = before,
            "a service that policies call fails"
        );
    }
}

fn build(roots: RootCertStore, resolver: Arc<Resolver>) -> Result<Client, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Client::builder()
        .tls_backend_preconfigured(tls)
        .dns_resolver(Arc::new(Names(resolver)))
        .redirect(redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .user_agent(concat!("ringgate/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(MOST_IDLE)
        .http2_max_header_list_size(64 << 10)
        .build()
        .map_err(describe)
}

fn roots(ca: Option<&[u8]>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(pem) => {
            for root in CertificateDer::pem_slice_iter(pem) {
                let root = root.map_err(|error| format!("ca: {error}"))?;
                roots.add(root).map_err(|error| format!("ca: {error}"))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    match (roots.is_empty(), ca) {
        (false, _) => Ok(roots),
        (true, Some(_)) => Err("ca holds no certificate".to_owned()),
        (true, None) => {
            Err("this system has no root certificates: install ca-certificates, or set ca"
                .to_owned())
        }
    }
}

fn request(call: Call, url: Url) -> Result<Request, String> {
    let method = Method::from_bytes(call.method.as_bytes()).map_err(|error| error.to_string())?;
    let mut request = Request::new(method, url);
    for (name, value) in call.fields {
        let named = HeaderName::from_bytes(name.as_bytes());
        let name = named.map_err(|_| format!("{name:?} is no name of a field"))?;
        let value = HeaderValue::from_bytes(&value);
        let mut value = value.map_err(|_| format!("the value of {name} cannot be sent"))?;
        value.set_sensitive(true);
        request.headers_mut().append(name, value);
    }
    if !call.body.is_empty() {
        *request.body_mut() = Some(call.body.into());
    }
    Ok(request)
}

/// Whether the connection ended before anything of an answer.
fn was_closed(error: &reqwest::Error) -> bool {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            return error.is_incomplete_message() || error.is_canceled();
        }
        source = error.source();
    }
    false
}

fn broken(error: reqwest::Error) -> Reply {
    failed(&describe(error))
}

fn describe(error: reqwest::Error) -> String {
    // The URL may hold secrets.
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let _ = write!(text, ": {error}");
        source = error.source();
    }
    text
}

/// Names, resolved by hickory instead of getaddrinfo.
struct Names(Arc<Resolver>);

impl dns::Resolve for Names {
    fn resolve(&self, name: dns::Name) -> dns::Resolving {
        let resolver = Arc::clone(&self.0);
        Box::pin(async move {
            let found = resolver.resolve(name.as_str()).await?;
            let addresses = found.addresses.into_iter().map(|ip| SocketAddr::new(ip, 0));
            Ok(Box::new(addresses) as dns::Addrs)
        })
    }
}
