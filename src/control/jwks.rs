//! Keys of issuers, fetched and fetched again: on a thread of its own, so that no request and no reload waits for a provider.
//!
//! Policies share what comes from the same place. What cannot be fetched, or is of no use, changes nothing: the last good keys
//! stay until `max_stale`, and while there never were any, nobody passes (hazard AUTH-09). Sources belong to the policies; when
//! the last of an origin is gone, it is not asked any more. Called by `service`.

mod fetch;
mod schedule;

use crate::admin::JwksStat;
use crate::base::{Tick, tick};
use crate::control::answers::call::Calls;
use crate::control::resolve::Resolver;
use crate::policy::Kind;
use crate::policy::jwt::{KeySet, Origin, Source};
use crate::snapshot::Snapshot;
use fetch::Fetched;
use schedule::Schedule;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, oneshot};
use tokio::task::LocalSet;

/// How often is looked whether there is something to do.
const LOOK: Duration = Duration::from_millis(100);
/// How long a start or a reload waits for the first keys of an origin that is new to it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where keys are fetched.
#[derive(Debug, Default)]
pub struct Jwks {
    to: Option<UnboundedSender<Meet>>,
}

struct Meet {
    sources: Vec<Weak<Source>>,
    // Told when each of them has keys, or a first fetch has failed.
    met: oneshot::Sender<()>,
}

impl Jwks {
    /// Fetches from now on what the policies of `snapshot` need. Waits a moment for the first keys, so that requests right after
    /// a start or a reload find them; a provider that does not answer holds nothing up for long.
    pub async fn meet(&mut self, snapshot: &Snapshot) {
        let sources: Vec<_> = sources(snapshot).map(|(_, source)| Arc::downgrade(source)).collect();
        if sources.is_empty() {
            return;
        }
        if self.to.is_none() {
            self.to =
                start().map_err(|error| tracing::error!(%error, "keys cannot be fetched")).ok();
        }
        let Some(to) = &self.to else { return };
        let (met, heard) = oneshot::channel();
        // The thread ends with the process.
        let _ = to.send(Meet { sources, met });
        let _ = tokio::time::timeout(PATIENCE, heard).await;
    }
}

/// What is known of the keys that a snapshot's policies use, each place once.
pub fn stats(snapshot: &Snapshot) -> Vec<JwksStat> {
    let mut all: Vec<(&Origin, JwksStat)> = Vec::new();
    for (policy, source) in sources(snapshot) {
        if all.iter().any(|(origin, _)| **origin == source.origin) {
            continue;
        }
        let stat = &source.stat;
        let value = JwksStat {
            policy: policy.to_owned(),
            url: shown(&source.origin),
            keys: source.keys().as_ref().map_or(0, |keys| keys.len() as u64),
            successes: stat.successes.load(Ordering::Relaxed),
            failures: stat.failures.load(Ordering::Relaxed),
            last_ok: stat.last_ok.load(Ordering::Relaxed),
            last_success_unix: stat.last_success_unix.load(Ordering::Relaxed),
        };
        all.push((&source.origin, value));
    }
    all.into_iter().map(|(_, stat)| stat).collect()
}

fn sources(snapshot: &Snapshot) -> impl Iterator<Item = (&str, &Arc<Source>)> {
    snapshot.policies.iter().flat_map(|policy| {
        let jwt = match &policy.kind {
            Kind::Jwt(jwt) => Some(jwt),
            _ => None,
        };
        jwt.into_iter().flat_map(|jwt| jwt.sources()).map(|source| (&*policy.name, source))
    })
}

/// A query may hold a secret.
fn shown(origin: &Origin) -> String {
    let url = origin.location.url();
    url.split('?').next().unwrap_or_default().to_owned()
}

// ---------------------------------------------------------------- the thread

fn start() -> std::io::Result<UnboundedSender<Meet>> {
    let (to, meets) = unbounded_channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("ringgate-keys".to_owned()).spawn(move || {
        LocalSet::new().block_on(&runtime, serve(meets));
    })?;
    Ok(to)
}

/// One place where keys are fetched, for all who need them.
struct Place {
    origin: Origin,
    sources: RefCell<Vec<Weak<Source>>>,
    keys: RefCell<Option<Arc<KeySet>>>,
    successes: Cell<u64>,
    failures: Cell<u64>,
    last_success_unix: Cell<u64>,
    last_ok: Cell<bool>,
    // Whether there was a fetch, good or bad.
    tried: Cell<bool>,
    news: Notify,
}

async fn serve(mut meets: UnboundedReceiver<Meet>) {
    let calls = Rc::new(Calls::new(Resolver::system()));
    let mut places: HashMap<Origin, std::rc::Weak<Place>> = HashMap::new();
    while let Some(Meet { sources, met }) = meets.recv().await {
        places.retain(|_, place| place.strong_count() > 0);
        let mut waits = Vec::new();
        for source in sources {
            let Some(alive) = source.upgrade() else { continue };
            let place = match places.get(&alive.origin).and_then(std::rc::Weak::upgrade) {
                Some(place) => place,
                None => {
                    let place = Rc::new(Place::new(alive.origin.clone()));
                    places.insert(alive.origin.clone(), Rc::downgrade(&place));
                    tokio::task::spawn_local(tend(Rc::clone(&place), Rc::clone(&calls)));
                    place
                }
            };
            place.admit(source, &alive);
            waits.push(place);
        }
        tokio::task::spawn_local(async move {
            for place in waits {
                place.tried().await;
            }
            let _ = met.send(());
        });
    }
}

/// Fetches for one place until nobody needs it any more.
async fn tend(place: Rc<Place>, calls: Rc<Calls>) {
    let Origin { refresh, max_stale, .. } = place.origin;
    let mut schedule = Schedule::new(refresh, max_stale, Tick::now());
    let mut octets = Vec::new();
    while place.is_needed() {
        if place.take_wishes() {
            schedule.wish();
        }
        if schedule.is_due(Tick::now()) {
            let fetched = fetch::fetch(&calls, &place.origin).await;
            place.note(fetched, &mut octets, &mut schedule);
            place.tried.set(true);
            place.news.notify_waiters();
        }
        if schedule.is_stale(Tick::now()) && place.keys.borrow().is_some() {
            octets.clear();
            place.publish(None);
            tracing::error!(
                url = shown(&place.origin),
                "keys are too old: no token of theirs is taken"
            );
        }
        tokio::time::sleep(LOOK).await;
    }
}

impl Place {
    fn new(origin: Origin) -> Place {
        Place {
            origin,
            sources: RefCell::default(),
            keys: RefCell::default(),
            successes: Cell::new(0),
            failures: Cell::new(0),
            last_success_unix: Cell::new(0),
            last_ok: Cell::new(false),
            tried: Cell::new(false),
            news: Notify::new(),
        }
    }

    /// One more who needs these keys; it is given what there is.
    fn admit(&self, source: Weak<Source>, alive: &Source) {
        let mut sources = self.sources.borrow_mut();
        if sources.iter().any(|known| known.ptr_eq(&source)) {
            return;
        }
        sources.retain(|known| known.strong_count() > 0);
        sources.push(source);
        let keys = self.keys.borrow();
        if keys.is_some() {
            alive.publish(keys.clone());
        }
        self.count(alive);
    }

    fn is_needed(&self) -> bool {
        self.sources.borrow().iter().any(|source| source.strong_count() > 0)
    }

    fn each(&self, mut with: impl FnMut(&Source)) {
        self.sources.borrow().iter().filter_map(Weak::upgrade).for_each(|source| with(&source));
    }

    fn take_wishes(&self) -> bool {
        let mut any = false;
        self.each(|source| any |= source.is_wanted());
        any
    }

    fn publish(&self, keys: Option<Arc<KeySet>>) {
        self.each(|source| source.publish(keys.clone()));
        *self.keys.borrow_mut() = keys;
    }

    fn note(
        &self,
        fetched: Result<Fetched, String>,
        octets: &mut Vec<u8>,
        schedule: &mut Schedule,
    ) {
        let (now, url) = (Tick::now(), shown(&self.origin));
        match fetched {
            Ok(fetched) => {
                if schedule.failures() > 0 {
                    tracing::info!(url, "keys are fetched again");
                }
                schedule.succeeded(now, fastrand::f64());
                self.successes.set(self.successes.get() + 1);
                self.last_success_unix.set(tick::wall_micros() / 1_000_000);
                // The same set again: what cores remember stays of use.
                if *octets != fetched.octets || self.keys.borrow().is_none() {
                    tracing::info!(url, keys = fetched.keys.len(), "keys of an issuer are known");
                    *octets = fetched.octets;
                    self.publish(Some(Arc::new(fetched.keys)));
                }
                if let Some(metadata) = fetched.metadata {
                    let metadata = Arc::new(metadata);
                    self.each(|source| source.describe(Arc::clone(&metadata)));
                }
            }
            Err(why) => {
                // The first says enough: each further one only counts.
                if schedule.failures() == 0 {
                    let known = self.keys.borrow().as_ref().map_or(0, |keys| keys.len());
                    tracing::warn!(
                        url,
                        why,
                        known,
                        "keys cannot be fetched; those that are known stay"
                    );
                }
                schedule.failed(now, fastrand::f64());
                self.failures.set(self.failures.get() + 1);
            }
        }
        self.last_ok.set(schedule.failures() == 0);
        self.each(|source| self.count(source));
    }

    fn count(&self, source: &Source) {
        let stat = &source.stat;
        stat.successes.store(self.successes.get(), Ordering::Relaxed);
        stat.failures.store(self.failures.get(), Ordering::Relaxed);
        stat.last_ok.store(self.last_ok.get(), Ordering::Relaxed);
        stat.last_success_unix.store(self.last_success_unix.get(), Ordering::Relaxed);
    }

    /// Waits for the first fetch.
    async fn tried(&self) {
        // Made before the look, so that no news is missed between the two.
        let news = self.news.notified();
        if !self.tried.get() {
            news.await;
        }
    }
}
