//! Certificates by ACME: a task for each name that orders one when it is due, keeps it, and says so.
//!
//! What is obtained goes into the storage; the service then takes it up as it takes up any certificate whose file has
//! changed. Nothing here touches a listener. Before the first certificate there is one of our own making, so that a
//! listener can start. Called by `service`.

mod client;
mod order;
pub mod placeholder;
pub mod schedule;
pub mod store;

use crate::base::Rng;
use crate::config::{Acme as Settings, Challenge, Config, Listener};
use crate::control::resolve::Resolver;
use crate::control::source::unix_now;
use crate::tls::{Certificate, Challenges};
use client::Https;
use instant_acme::Account;
use order::Failure;
use schedule::Setback;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};
use store::{Store, validity};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;

/// A certificate is new in the storage.
#[derive(Debug)]
pub struct Obtained(
    /// Its name.
    pub String,
);

/// The tasks, one for each name.
#[derive(Debug)]
pub struct Acme {
    challenges: Arc<Challenges>,
    known: Known,
    authority: Option<Arc<Authority>>,
    tasks: HashMap<(String, Challenge), JoinHandle<()>>,
    obtained: UnboundedSender<Obtained>,
}

/// What is known of each name, for metrics.
#[derive(Clone, Debug, Default)]
pub struct Known(Arc<Mutex<BTreeMap<String, Progress>>>);

/// What is known of one name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// When a certificate was obtained last, in seconds since 1970; 0 for not yet, in this process.
    pub last_success: u64,
    /// When the certificate in the storage ends, in seconds since 1970; 0 without one.
    pub not_after: u64,
    /// Certificates obtained by this process.
    pub successes: u64,
    /// Attempts of this process that failed.
    pub failures: u64,
}

/// Whom certificates are obtained from.
struct Authority {
    settings: Settings,
    store: Store,
    resolver: Arc<Resolver>,
    account: tokio::sync::Mutex<Option<(Account, Https)>>,
    // Orders that run at the same time.
    slots: tokio::sync::Semaphore,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("settings", &self.settings).finish_non_exhaustive()
    }
}

const MOST_AT_ONCE: usize = 4;
/// For one order, whatever it waits for.
const PATIENCE: Duration = Duration::from_secs(300);
/// The longest sleep: the wall clock may be set meanwhile, or the machine suspended.
const LONGEST_SLEEP: Duration = Duration::from_secs(600);

impl Known {
    /// Each name.
    pub fn all(&self) -> BTreeMap<String, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn with(&self, name: &str, change: impl FnOnce(&mut Progress)) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(all.entry(name.to_owned()).or_default());
    }
}

impl Acme {
    /// No names yet. Answers go to `challenges`; certificates are announced to `obtained`.
    pub fn new(challenges: Arc<Challenges>, obtained: UnboundedSender<Obtained>) -> Acme {
        let tasks = HashMap::new();
        Acme { challenges, known: Known::default(), authority: None, tasks, obtained }
    }

    /// What is known of each name.
    pub fn known(&self) -> Known {
        self.known.clone()
    }

    /// Keeps the certificates of `config`'s names fresh, and no others. What is under way for a name goes on unless what it
    /// goes by has changed.
    pub fn follow(&mut self, config: &Config) {
        let wanted = names(config);
        let settings = config.acme.as_ref().filter(|_| !wanted.is_empty());
        let same = match (&self.authority, settings) {
            (Some(now), Some(new)) => now.settings.asks_as(new),
            (None, None) => true,
            _ => false,
        };
        if !same {
            self.tasks.drain().for_each(|(_, task)| task.abort());
            self.authority = settings.map(|settings| Arc::new(Authority::new(settings)));
        }
        self.tasks.retain(|(name, challenge), task| {
            let kept = wanted.get(name) == Some(challenge);
            if !kept {
                task.abort();
            }
            kept
        });
        self.known
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|name, _| wanted.contains_key(name));
        let Some(authority) = &self.authority else { return };
        for (name, challenge) in wanted {
            self.tasks.entry((name.clone(), challenge)).or_insert_with(|| {
                tokio::spawn(keep_fresh(Name {
                    name,
                    challenge,
                    authority: Arc::clone(authority),
                    challenges: Arc::clone(&self.challenges),
                    known: self.known.clone(),
                    obtained: self.obtained.clone(),
                }))
            });
        }
    }
}

/// The names that certificates are obtained for.
pub fn names(config: &Config) -> BTreeMap<String, Challenge> {
    let listeners = config.listeners.iter().filter_map(|l| l.acme());
    listeners.flat_map(|acme| acme.names.iter().map(|n| (n.clone(), acme.challenge))).collect()
}

/// Whether `certificate` is one that was obtained for the listener.
pub fn is_obtained(config: &Config, listener: &Listener, certificate: &Certificate) -> bool {
    let (Some(settings), Some(acme)) = (&config.acme, listener.acme()) else { return false };
    let store = Store::new(settings);
    let label = Path::new(&*certificate.label);
    acme.names.iter().any(|name| store.certificate_path(name) == label)
}

/// What the task of one name has.
struct Name {
    name: String,
    challenge: Challenge,
    authority: Arc<Authority>,
    challenges: Arc<Challenges>,
    known: Known,
    obtained: UnboundedSender<Obtained>,
}

async fn keep_fresh(own: Name) {
    let (name, authority) = (own.name.as_str(), &own.authority);
    let mut rng = Rng::new();
    let mut failures = 0;
    loop {
        let stored = authority.store.certificate(name).map(|(_, validity)| validity);
        own.known.with(name, |p| p.not_after = stored.map_or(0, |v| v.not_after));
        let before = authority.settings.renew_before;
        let due = stored.map_or(0, |v| schedule::renew_at(v.not_before, v.not_after, before));
        let now = unix_now();
        if due > now {
            tokio::time::sleep(Duration::from_secs(due - now).min(LONGEST_SLEEP)).await;
            continue;
        }
        match own.attempt().await {
            Ok(()) => failures = 0,
            Err(Delay::Later(wait)) => {
                tracing::warn!(
                    name,
                    "acme: enough orders within an hour; the next one in {wait:?}"
                );
                tokio::time::sleep(wait).await;
            }
            Err(Delay::Failed(failure)) => {
                failures += 1;
                own.known.with(name, |p| p.failures += 1);
                let wait = schedule::wait_after(failure.setback, failures, &mut rng);
                let now = match stored.filter(|v| v.not_after > unix_now()) {
                    Some(v) => format!("the present one serves until {}", date(v.not_after)),
                    None => "a self-signed one is shown meanwhile".to_owned(),
                };
                let text = &failure.text;
                tracing::error!(
                    name,
                    "acme: no certificate: {text}; {now}; next attempt in {wait:.1?}"
                );
                tokio::time::sleep(wait).await;
            }
        }
    }
}

/// Why there is no new certificate yet.
enum Delay {
    /// There were enough orders already.
    Later(Duration),
    /// An attempt failed.
    Failed(Failure),
}

impl From<Failure> for Delay {
    fn from(failure: Failure) -> Delay {
        Delay::Failed(failure)
    }
}

impl Name {
    async fn attempt(&self) -> Result<(), Delay> {
        let (name, authority) = (self.name.as_str(), &self.authority);
        let Ok(_slot) = authority.slots.acquire().await else { return Ok(()) };
        let order = async {
            let account = authority.account().await?;
            authority.note_order(name)?;
            let first = order::obtain(&account, name, self.challenge, &self.challenges).await;
            match first {
                Err(error) if order::lost_account(&error) => {
                    tracing::warn!(name, "acme: the authority does not know the account any more");
                    let account = authority.new_account().await?;
                    let again = order::obtain(&account, name, self.challenge, &self.challenges);
                    again.await.map_err(|error| Delay::Failed(error.into()))
                }
                other => other.map_err(|error| Delay::Failed(error.into())),
            }
        };
        let pem = match tokio::time::timeout(PATIENCE, order).await {
            Ok(pem) => pem?,
            Err(_) => {
                let text = format!("the order was not fulfilled within {PATIENCE:?}");
                return Err(Failure { setback: Setback::Refused, text }.into());
            }
        };
        let refused = |text: String| Failure { setback: Setback::Refused, text };
        let valid = validity(pem.as_bytes(), name);
        let valid =
            valid.ok_or_else(|| refused("what was signed is for another name".to_owned()))?;
        let kept = authority.store.keep_certificate(name, &pem);
        kept.map_err(|error| order::unwritable(&error))?;
        self.known.with(name, |p| {
            (p.last_success, p.not_after) = (unix_now(), valid.not_after);
            p.successes += 1;
        });
        tracing::info!(name, "acme: a certificate, valid until {}", date(valid.not_after));
        let _ = self.obtained.send(Obtained(name.to_owned()));
        Ok(())
    }
}

impl Authority {
    fn new(settings: &Settings) -> Authority {
        Authority {
            settings: settings.clone(),
            store: Store::new(settings),
            resolver: Arc::new(Resolver::system()),
            account: tokio::sync::Mutex::default(),
            slots: tokio::sync::Semaphore::new(MOST_AT_ONCE),
        }
    }

    async fn account(&self) -> Result<Account, Failure> {
        let mut slot = self.account.lock().await;
        if let Some((account, _)) = &*slot {
            return Ok(account.clone());
        }
        let https = self.https()?;
        let account = order::account(&self.settings, &self.store, &https).await?;
        *slot = Some((account.clone(), https));
        Ok(account)
    }

    async fn new_account(&self) -> Result<Account, Failure> {
        let mut slot = self.account.lock().await;
        let https = self.https()?;
        let account = order::register(&self.settings, &self.store, &https).await?;
        *slot = Some((account.clone(), https));
        Ok(account)
    }

    fn https(&self) -> Result<Https, Failure> {
        let made = Https::new(Arc::clone(&self.resolver), self.settings.ca.as_deref());
        made.map_err(|text| Failure { setback: Setback::Unreachable, text })
    }

    // Written before the order: a storage that cannot be written to could not keep the certificate either.
    fn note_order(&self, name: &str) -> Result<(), Delay> {
        let mut ledger = self.store.ledger();
        ledger.note(name, unix_now()).map_err(Delay::Later)?;
        self.store.keep_ledger(&ledger).map_err(|error| order::unwritable(&error).into())
    }
}

fn date(unix: u64) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(unix))
}
