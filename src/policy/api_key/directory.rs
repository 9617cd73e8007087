//! Who has which key: found by the key's hash, for hundreds of thousands of consumers.
//!
//! The table is looked up by the hash's first octets, which tell nothing of the key, and what is found is compared in the same
//! time for every hash (AUTH-13). It is built once for a policy and its files and never changed. Called by the check of API keys.

use crate::policy::api_key::consumers::{Remark, Written, read};
use crate::policy::api_key::meter::Meter;
use crate::policy::api_key::secret::Digest;
use crate::policy::api_key::{Plan, Settings};
use crate::policy::kind::Files;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// The consumers of a policy.
pub struct Directory {
    /// Sorted by digest.
    keys: Box<[Key]>,
    /// The first of the keys with these first octets.
    first: HashMap<u64, u32, BuildHasherDefault<Plain>>,
    consumers: Box<[Consumer]>,
}

/// A consumer as run.
#[derive(Debug)]
pub struct Consumer {
    /// Its name.
    pub name: Arc<str>,
    /// The position of its plan.
    pub plan: Option<u16>,
    /// What it has used, where its plan has a quota.
    pub meter: Option<Arc<Meter>>,
    until: u64,
}

struct Key {
    digest: Digest,
    consumer: u32,
    until: u64,
}

// How many keys there are is no secret; which, nobody needs to see.
impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (keys, consumers) = (self.keys.len(), self.consumers.len());
        write!(f, "Directory {{ {keys} keys of {consumers} consumers }}")
    }
}

/// The octets that are looked up by come from SHA-256: nothing is left to be hashed.
#[derive(Default)]
struct Plain(u64);

impl Hasher for Plain {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, octets: &[u8]) {
        for octet in octets {
            self.0 = self.0 << 8 | u64::from(*octet);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// The files of a policy; those that control could not read are left out.
fn files_of(settings: &Settings, files: Files<'_>) -> Vec<(PathBuf, Arc<[u8]>)> {
    settings.consumers.iter().filter_map(|path| Some((path.clone(), files(path)?))).collect()
}

/// What is wrong with the files of a policy.
pub fn problems(settings: &Settings, files: Files<'_>) -> Vec<Remark> {
    consumers(settings, files).err().unwrap_or_default()
}

/// The consumers in the files of a policy.
///
/// # Errors
/// What is wrong with the files.
pub fn consumers(settings: &Settings, files: Files<'_>) -> Result<Vec<Written>, Vec<Remark>> {
    let plans: Vec<&str> = settings.plans.iter().map(|plan| &*plan.name).collect();
    read(&files_of(settings, files), &plans)
}

impl Directory {
    /// The consumers in the files that `settings` names. What those of `old` have used in the same kind of period goes on.
    ///
    /// # Errors
    /// What is wrong with the files.
    pub fn build(
        settings: &Settings,
        files: Files<'_>,
        old: Option<&Directory>,
    ) -> Result<Directory, Vec<Remark>> {
        let written = consumers(settings, files)?;
        let old = old.map(|old| &*old.consumers).unwrap_or_default();
        let meters: HashMap<&str, &Arc<Meter>> =
            old.iter().filter_map(|c| Some((&*c.name, c.meter.as_ref()?))).collect();
        let policy: Arc<str> = Arc::from(&*settings.policy);
        let mut keys = Vec::with_capacity(written.len());
        let mut consumers = Vec::with_capacity(written.len());
        for Written { name, plan, keys: own, until } in written {
            let consumer = u32::try_from(consumers.len()).unwrap_or(u32::MAX);
            keys.extend(own.iter().map(|k| Key { digest: k.digest, consumer, until: k.until }));
            let quota = plan.and_then(|p| settings.plans.get(usize::from(p))).and_then(Plan::quota);
            let meter = quota.map(|quota| match meters.get(&*name) {
                Some(meter) if meter.period == quota.period => Arc::clone(meter),
                _ => Arc::new(Meter::new(Arc::clone(&policy), Arc::clone(&name), quota.period)),
            });
            consumers.push(Consumer { name, plan, meter, until });
        }
        keys.sort_unstable_by_key(|key| key.digest);
        let mut first =
            HashMap::with_capacity_and_hasher(keys.len(), BuildHasherDefault::default());
        for (key, at) in keys.iter().zip(0..) {
            first.entry(prefix(&key.digest)).or_insert(at);
        }
        Ok(Directory { keys: keys.into(), first, consumers: consumers.into() })
    }

    /// Whose key has this hash, if both are live at `unix` (seconds since 1970): the consumer and its position.
    #[inline]
    pub fn find(&self, digest: &Digest, unix: u64) -> Option<(u32, &Consumer)> {
        let prefix_wanted = prefix(digest);
        let first = *self.first.get(&prefix_wanted)? as usize;
        let mut found = None;
        for key in self.keys.get(first..)?.iter().take_while(|k| prefix(&k.digest) == prefix_wanted)
        {
            if bool::from(key.digest.ct_eq(digest)) {
                found = Some(key);
            }
        }
        let key = found.filter(|key| unix < key.until)?;
        let consumer = self.consumers.get(key.consumer as usize)?;
        (unix < consumer.until).then_some((key.consumer, consumer))
    }

    /// All consumers.
    pub fn consumers(&self) -> &[Consumer] {
        &self.consumers
    }
}

fn prefix(digest: &Digest) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *digest;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}
