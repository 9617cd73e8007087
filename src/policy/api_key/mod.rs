//! Who a caller is by its key, on which plan, and how much of its rate and quota is left.
//!
//! Keys are known by their hashes only; a key leaves nothing behind but the consumer's name. What a request is counted for is
//! kept in [`Meter`]s, which control writes to the ledger; a request that is refused here is not counted. Called as every
//! kind of policy is.

pub mod consumers;
pub mod directory;
pub mod meter;
pub mod period;
pub mod secret;

pub use consumers::Remark;
pub use directory::{Consumer, Directory};
pub use meter::{Meter, Taken};
pub use period::{Every, Period};

use crate::base::Tick;
use crate::http::{Fault, write};
use crate::policy::key::{Key, Part};
use crate::policy::rate::fields::{Style, retry_after};
use crate::policy::{Consumed, Files, Findings, Reply, Subject, Verdict, Wrong, rate};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Whether it asks who the sender is.
pub const IDENTIFIES: bool = true;

/// The longest key that is looked up, in octets.
pub const LONGEST_KEY: usize = 512;
/// What is said of a quota, on every answer.
const QUOTA_FIELDS: [&str; 3] = ["x-quota-limit", "x-quota-remaining", "x-quota-reset"];

/// As written.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The policy's name, by which the ledger knows it.
    pub policy: Box<str>,
    /// The field that holds the key (lower-case); `None` for none.
    pub header: Option<Box<str>>,
    /// What stands before the key in that field, as `Bearer`.
    pub scheme: Option<Box<str>>,
    /// The query parameter that holds the key.
    pub query: Option<Box<str>>,
    /// The files of consumers.
    pub consumers: Vec<PathBuf>,
    /// The plans.
    pub plans: Vec<Plan>,
    /// The field (lower-case) in which targets are told the consumer; `None` for none.
    pub consumer_header: Option<Box<str>>,
    /// The field (lower-case) in which targets are told the plan; `None` for none.
    pub plan_header: Option<Box<str>>,
    /// Whether clients are told what is left of their rate and their quota.
    pub fields: bool,
}

/// A plan as written.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Its name.
    pub name: Box<str>,
    /// How fast; `None` for as fast as they like.
    pub rate: Option<Rate>,
    /// How much in a period; `None` where nothing is counted.
    pub quota: Option<Quota>,
}

/// How fast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// So many requests ...
    pub count: u64,
    /// ... in so many seconds.
    pub seconds: u64,
    /// So many at once; `None` as for the policy `rate`.
    pub burst: Option<u64>,
}

/// How much in a period.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quota {
    /// So many requests; `None` where they are only counted.
    pub limit: Option<u64>,
    /// In each of these.
    pub period: Period,
}

impl Plan {
    /// Its quota.
    pub fn quota(&self) -> Option<Quota> {
        self.quota
    }
}

impl Settings {
    /// The files that it names.
    pub fn files(&self) -> Vec<PathBuf> {
        self.consumers.clone()
    }

    /// Whether the plans can be compiled, which takes none of the files.
    ///
    /// # Errors
    /// What is wrong with a plan.
    pub fn check_plans(&self) -> Result<(), Wrong> {
        self.plans.iter().try_for_each(|plan| rate_of(plan, self, 1, None).map(drop))
    }

    /// Whether anything is counted that must be kept.
    pub fn counts(&self) -> bool {
        self.plans.iter().any(|plan| plan.quota.is_some())
    }
}

/// As run.
#[derive(Debug)]
pub struct Policy {
    settings: Settings,
    directory: Directory,
    /// By the position of the plan.
    rates: Vec<Option<rate::Policy>>,
    /// `WWW-Authenticate` of a 401 (RFC 9110 section 11.6.1).
    challenge: Box<[u8]>,
}

/// What one core remembers.
#[derive(Debug)]
pub struct Core {
    /// By the position of the plan, with its name.
    rates: Vec<(Box<str>, Option<rate::Core>)>,
}

/// What a request has for a key.
enum Shown<'a> {
    Nothing,
    One(&'a [u8]),
    /// More than one, or something that can be none.
    Unclear,
}

impl Policy {
    /// Compiles it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn build(
        settings: &Settings,
        files: Files<'_>,
        old: Option<&Policy>,
    ) -> Result<Policy, Wrong> {
        let directory = Directory::build(settings, files, old.map(|old| &old.directory));
        let directory = directory.map_err(|remarks| {
            let first = remarks.into_iter().next();
            let (file, found) = match first {
                Some(first) => (Some(first.file.clone()), first.to_string()),
                None => (None, "consumers that cannot be read".to_owned()),
            };
            Wrong { file, found }
        })?;
        let mut consumers = vec![0_usize; settings.plans.len()];
        for at in directory.consumers().iter().filter_map(|consumer| consumer.plan) {
            if let Some(count) = consumers.get_mut(usize::from(at)) {
                *count += 1;
            }
        }
        let plans = settings.plans.iter().zip(consumers);
        let rates = plans.map(|(plan, consumers)| {
            // Room for more, so that a reload seldom needs another table.
            rate_of(plan, settings, consumers.next_power_of_two().max(1024), old)
        });
        Ok(Policy {
            settings: settings.clone(),
            rates: rates.collect::<Result<_, _>>()?,
            directory,
            challenge: challenge(settings).into(),
        })
    }

    /// The counters of every consumer whose plan has a quota.
    pub fn meters(&self) -> impl Iterator<Item = &Arc<Meter>> {
        self.directory.consumers().iter().filter_map(|consumer| consumer.meter.as_ref())
    }

    /// Decides.
    pub fn check(
        &self,
        core: &Core,
        subject: &Subject<'_>,
        findings: &mut Findings,
        _: Option<Reply>,
    ) -> Verdict {
        let mut decoded = [0; LONGEST_KEY];
        let key = match self.shown(subject, &mut decoded) {
            Shown::One(key) => key,
            Shown::Nothing => return self.challenge(findings, Fault::ApiKeyMissing),
            Shown::Unclear => return self.challenge(findings, Fault::ApiKeyInvalid),
        };
        let digest = secret::digest(key);
        let Some((_, consumer)) = self.directory.find(&digest, subject.unix) else {
            return self.challenge(findings, Fault::ApiKeyInvalid);
        };
        let at = consumer.plan.map(usize::from);
        let plan = at.and_then(|at| self.settings.plans.get(at));
        self.identify(consumer, plan, findings);
        // What is too fast is not counted against the quota.
        if let Some(rate) = at.and_then(|at| self.rates.get(at)?.as_ref()) {
            let core = at.and_then(|at| core.rates.get(at)?.1.as_ref());
            // Cores are made of their policies; without one nobody may pass uncounted.
            let Some(core) = core else { return Verdict::Refuse(Fault::PolicyUnavailable) };
            match rate.check(core, subject, findings, None) {
                Verdict::Pass => {}
                refused => return refused,
            }
        }
        match (plan.and_then(Plan::quota), &consumer.meter) {
            (Some(quota), Some(meter)) => self.count(quota, meter, subject.unix, findings),
            _ => Verdict::Pass,
        }
    }

    // The plan of who sends a request, by its position, and the consumer's counter.
    fn sender(&self, subject: &Subject<'_>) -> Option<(usize, Option<&Arc<Meter>>)> {
        let mut decoded = [0; LONGEST_KEY];
        let Shown::One(key) = self.shown(subject, &mut decoded) else { return None };
        let (_, consumer) = self.directory.find(&secret::digest(key), subject.unix)?;
        Some((usize::from(consumer.plan?), consumer.meter.as_ref()))
    }

    /// What is left of the sender's plan, in words; `None` where nothing of it is limited.
    pub fn fill(&self, subject: &Subject<'_>, findings: &Findings) -> Option<String> {
        let (plan, meter) = self.sender(subject)?;
        let rate = self.rates.get(plan)?.as_ref().map(|rate| rate.fill(subject, findings));
        let quota = self.settings.plans.get(plan).and_then(Plan::quota);
        let used = quota.zip(meter).and_then(|(quota, meter)| {
            let number = quota.period.number(subject.unix);
            let used = meter.taken().into_iter().find(|taken| taken.number == number);
            let (used, every) = (used.map_or(0, |taken| taken.count), quota.period.every.word());
            quota.limit.map(|limit| format!("{used} of {limit} used this {every}"))
        });
        let all: Vec<String> = rate.into_iter().chain(used).collect();
        (!all.is_empty()).then(|| all.join(", "))
    }

    /// Counts for the sender of a request what another policy of the same settings has.
    pub fn follow(&self, other: &Policy, subject: &Subject<'_>, findings: &Findings) {
        let (Some((plan, ours)), Some((of, theirs))) =
            (self.sender(subject), other.sender(subject))
        else {
            return;
        };
        let rates = (self.rates.get(plan), other.rates.get(of));
        if let (Some(Some(rate)), Some(Some(known))) = rates {
            rate.follow(known, subject, findings);
        }
        if let (Some(meter), Some(known)) = (ours, theirs) {
            for taken in known.taken() {
                meter.add(taken.number, taken.count);
            }
        }
    }

    /// What is not sent on.
    pub fn consumes(&self) -> Vec<Consumed> {
        let header = self.settings.header.clone().map(Consumed::Field);
        let query = self.settings.query.clone().map(Consumed::Query);
        header.into_iter().chain(query).collect()
    }

    /// What no client may send.
    pub fn owns(&self) -> Vec<Box<str>> {
        let fields = [&self.settings.consumer_header, &self.settings.plan_header];
        fields.into_iter().flatten().cloned().collect()
    }

    /// What no target may answer.
    pub fn replaces(&self) -> Vec<Box<str>> {
        match self.settings.fields && self.settings.counts() {
            true => QUOTA_FIELDS.map(Box::from).to_vec(),
            false => Vec::new(),
        }
    }

    fn shown<'a>(&self, subject: &Subject<'a>, decoded: &'a mut [u8; LONGEST_KEY]) -> Shown<'a> {
        let view = &subject.view;
        let fields = self.settings.header.as_deref().map(|name| view.fields.all(name));
        let mut fields = fields.into_iter().flatten().filter(|value| !value.is_empty());
        let name = self.settings.query.as_deref().map(str::as_bytes);
        let pairs =
            view.query_pairs().filter(|(key, value)| Some(*key) == name && !value.is_empty());
        let mut pairs = pairs.map(|(_, value)| value);
        match (fields.next(), fields.next(), pairs.next(), pairs.next()) {
            (None, _, None, _) => Shown::Nothing,
            (Some(value), None, None, _) => match &self.settings.scheme {
                None => fitting(value),
                Some(scheme) => of_scheme(value, scheme),
            },
            (None, _, Some(value), None) if value.contains(&b'%') => {
                decode(value, decoded).map_or(Shown::Unclear, Shown::One)
            }
            (None, _, Some(value), None) => fitting(value),
            // Which one counts, the service behind may see differently.
            _ => Shown::Unclear,
        }
    }

    fn challenge(&self, findings: &mut Findings, fault: Fault) -> Verdict {
        findings.response.extend_from_slice(&self.challenge);
        Verdict::Refuse(fault)
    }

    fn identify(&self, consumer: &Consumer, plan: Option<&Plan>, findings: &mut Findings) {
        let identity = &mut findings.identity;
        identity.consumer.clear();
        identity.consumer.push_str(&consumer.name);
        identity.plan.clear();
        if let Some(header) = &self.settings.consumer_header {
            write::field(&mut findings.upstream, header.as_bytes(), consumer.name.as_bytes());
        }
        let Some(plan) = plan else { return };
        identity.plan.push_str(&plan.name);
        if let Some(header) = &self.settings.plan_header {
            write::field(&mut findings.upstream, header.as_bytes(), plan.name.as_bytes());
        }
    }

    fn count(&self, quota: Quota, meter: &Meter, unix: u64, findings: &mut Findings) -> Verdict {
        let number = quota.period.number(unix);
        let taken = meter.take(number, quota.limit.unwrap_or(meter::MOST));
        let Some(limit) = quota.limit else { return Verdict::Pass };
        let out = &mut findings.response;
        let reset = quota.period.bounds(number).1.saturating_sub(unix).max(1);
        if self.settings.fields {
            let left = limit.saturating_sub(taken.unwrap_or(limit));
            for (name, value) in QUOTA_FIELDS.iter().zip([limit, left, reset]) {
                number_field(out, name, value);
            }
        }
        if taken.is_ok() {
            return Verdict::Pass;
        }
        retry_after(out, Duration::from_secs(reset));
        Verdict::Refuse(Fault::QuotaExceeded)
    }
}

impl Core {
    /// What a core begins with.
    pub fn bind(policy: &Policy, old: Option<&Core>) -> Core {
        let before = |name: &str| {
            let rates = old.map(|old| old.rates.as_slice()).unwrap_or_default();
            rates.iter().find(|(of, _)| **of == *name)?.1.as_ref()
        };
        let plans = policy.settings.plans.iter().zip(&policy.rates);
        let rates = plans.map(|(plan, rate)| {
            let core = rate.as_ref().map(|rate| rate::Core::bind(rate, before(&plan.name)));
            (plan.name.clone(), core)
        });
        Core { rates: rates.collect() }
    }

    /// Lets go of what is over.
    pub fn sweep(&self, policy: &Policy, now: Tick) {
        for ((_, core), rate) in self.rates.iter().zip(&policy.rates) {
            if let (Some(core), Some(rate)) = (core, rate) {
                core.sweep(rate, now);
            }
        }
    }
}

/// The buckets of a plan: those of the policy `rate`, by the consumer.
fn rate_of(
    plan: &Plan,
    settings: &Settings,
    keys: usize,
    old: Option<&Policy>,
) -> Result<Option<rate::Policy>, Wrong> {
    let Some(Rate { count, seconds, burst }) = plan.rate else { return Ok(None) };
    let wanted = rate::Settings {
        name: plan.name.to_string(),
        count,
        seconds,
        burst,
        key: Key { parts: vec![Part::Consumer], ..Key::default() },
        fields: if settings.fields { Style::Standard } else { Style::None },
        keys,
        ..rate::Settings::default()
    };
    let before = old.and_then(|old| {
        let at = old.settings.plans.iter().position(|before| before.name == plan.name)?;
        old.rates.get(at)?.as_ref()
    });
    let built = rate::Policy::build(&wanted, &|_| None, before);
    let built = built.map_err(|wrong| {
        let found = format!("plan {}: {}", plan.name, wrong.found);
        Wrong { file: wrong.file, found }
    });
    built.map(Some)
}

fn number_field(out: &mut Vec<u8>, name: &str, value: u64) {
    write::field(out, name.as_bytes(), itoa::Buffer::new().format(value).as_bytes());
}

/// No scheme is registered for keys in fields of their own; a client that knows none ignores the challenge.
fn challenge(settings: &Settings) -> Vec<u8> {
    let mut line = Vec::new();
    let value = match (&settings.scheme, &settings.header, &settings.query) {
        (Some(scheme), Some(header), _) if &**header == "authorization" => scheme.to_string(),
        (_, Some(header), _) => format!("ApiKey header=\"{header}\""),
        (_, None, Some(query)) => format!("ApiKey query=\"{query}\""),
        (_, None, None) => "ApiKey".to_owned(),
    };
    write::built_field(&mut line, b"www-authenticate", value.as_bytes());
    line
}

fn fitting(key: &[u8]) -> Shown<'_> {
    if (1..=LONGEST_KEY).contains(&key.len()) { Shown::One(key) } else { Shown::Unclear }
}

/// The key after the scheme's name, which is case-insensitive (RFC 9110 section 11.1). Credentials of another scheme are none.
fn of_scheme<'a>(value: &'a [u8], scheme: &str) -> Shown<'a> {
    let Some((start, rest)) = value.split_at_checked(scheme.len()) else { return Shown::Nothing };
    if !start.eq_ignore_ascii_case(scheme.as_bytes()) {
        return Shown::Nothing;
    }
    match rest.strip_prefix(b" ").map(<[u8]>::trim_ascii) {
        Some(key) if !key.is_empty() => fitting(key),
        _ => Shown::Unclear,
    }
}

/// The octets behind percent-encoding; `None` for a malformed one, and where there are too many.
fn decode<'a>(value: &[u8], into: &'a mut [u8; LONGEST_KEY]) -> Option<&'a [u8]> {
    let mut len = 0;
    let mut rest = value.iter();
    while let Some(octet) = rest.next() {
        let octet = match octet {
            b'%' => {
                let mut digit = || char::from(*rest.next()?).to_digit(16);
                u8::try_from(digit()? << 4 | digit()?).ok()?
            }
            octet => *octet,
        };
        *into.get_mut(len)? = octet;
        len += 1;
    }
    into.get(..len)
}

#[cfg(test)]
mod tests;
