//! Which certificates end soon, said once a day each (hazard TLS-07), and when an OCSP response may not be sent any more.
//!
//! Certificates are renewed elsewhere, if at all: this is for whom that has failed. Called by `service`.

use crate::config::Config;
use crate::control::acme;
use crate::tls::Certificate;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

const DAY: u64 = 86_400;
/// How long before its end a certificate is warned of.
const SOON: u64 = 14 * DAY;
/// How often certificates are looked at, in seconds.
const LOOK: u64 = 10;

/// What was said already.
#[derive(Debug, Default)]
pub struct Expiry {
    day: u64,
    said: HashSet<(String, [u8; 32])>,
    looked: u64,
    staples_end: Option<u64>,
}

/// A certificate of a listener.
#[derive(Clone, Copy, Debug)]
struct Shown<'a> {
    listener: &'a str,
    certificate: &'a Certificate,
    /// Whether it is renewed by itself.
    obtained: bool,
}

impl Expiry {
    /// What there is to say at `now`, in seconds since 1970; nothing most of the time.
    pub fn lines(&mut self, config: &Config, now: u64) -> Vec<String> {
        if now < self.looked + LOOK && now >= self.looked {
            return Vec::new();
        }
        self.looked = now;
        self.turn(now);
        let mut lines = Vec::new();
        for shown in shown(config) {
            if let Some(line) = line(shown, now)
                && self.said.insert(key(shown))
            {
                lines.push(line);
            }
        }
        lines
    }

    /// `config` is what runs now. Of what its files hold, whoever read them has just said what there is to say.
    pub fn follow(&mut self, config: &Config, now: u64) {
        let end = |shown: Shown<'_>| shown.certificate.staple?.next_update;
        self.staples_end = shown(config).filter_map(end).min();
        self.turn(now);
        self.said.extend(shown(config).filter(|s| !s.obtained).map(key));
    }

    // A new day, on which everything is said again.
    fn turn(&mut self, now: u64) {
        if self.day != now / DAY {
            self.day = now / DAY;
            self.said.clear();
        }
    }

    /// Whether one has expired since; said once.
    pub fn staple_ended(&mut self, now: u64) -> bool {
        let ended = self.staples_end.is_some_and(|end| end <= now);
        if ended {
            self.staples_end = None;
        }
        ended
    }
}

fn shown(config: &Config) -> impl Iterator<Item = Shown<'_>> {
    config.listeners.iter().flat_map(move |listener| {
        let certificates: &[Arc<Certificate>] = listener
            .tls
            .as_ref()
            .and_then(|tls| tls.terms.as_ref())
            .map_or(&[], |t| &t.certificates);
        certificates.iter().map(move |certificate| Shown {
            listener: &listener.name,
            certificate,
            obtained: acme::is_obtained(config, listener, certificate),
        })
    })
}

fn key(shown: Shown<'_>) -> (String, [u8; 32]) {
    (shown.listener.to_owned(), shown.certificate.fingerprint)
}

fn line(shown: Shown<'_>, now: u64) -> Option<String> {
    let Shown { listener, certificate, obtained } = shown;
    let [begin, end] =
        [certificate.not_before, certificate.not_after].map(|at| u64::try_from(at).unwrap_or(0));
    // What is renewed by itself may be short-lived: it is late in the last third of its life.
    let soon = if obtained { SOON.min(end.saturating_sub(begin) / 3) } else { SOON };
    if end > now + soon {
        return None;
    }
    let names = match certificate.names.split_first() {
        None => String::new(),
        Some((first, [])) => format!(" ({first})"),
        Some((first, more)) => format!(" ({first} and {} more)", more.len()),
    };
    let when = match end.checked_sub(now) {
        None | Some(0) => "has expired:".to_owned(),
        Some(left) if left < DAY => "expires within a day:".to_owned(),
        Some(left) => format!("expires in {} days:", left / DAY),
    };
    let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(end));
    Some(format!(
        "the certificate {}{names} of listener {listener} {when} {date}",
        certificate.label
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::acme::store::Store;
    use crate::control::check::{self, Checked};
    use crate::control::source::unix_now;
    use rcgen::{CertificateParams, KeyPair};
    use std::path::Path;
    use std::time::SystemTime;

    /// Key and chain for a.test, of a life of so many days of which so many are left.
    fn pem(life: u64, left: u64) -> String {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        let days = |n: u64| Duration::from_secs(n * DAY);
        params.not_before = (SystemTime::now() + days(left) - days(life)).into();
        params.not_after = (SystemTime::now() + days(left)).into();
        key.serialize_pem() + &params.self_signed(&key).unwrap().pem()
    }

    fn config(dir: &Path, tls: &str) -> Config {
        let text = format!(
            "[acme]\nterms_agreed = true\nstorage = '{}'\n[[listener]]\nname = 'plain'\nbind = ['127.0.0.1:0']\n\
             [[listener]]\nname = 'web'\nbind = ['127.0.0.1:0']\nprotocol = 'https'\ntls = {{ {tls} }}",
            dir.display()
        );
        let Checked { config, problems, .. } = check::check_text(&text, "a.toml");
        assert!(problems.0.is_empty(), "{problems}");
        config
    }

    fn from_file(dir: &Path, life: u64, left: u64) -> Config {
        let path = dir.join("a.pem");
        std::fs::write(&path, pem(life, left)).unwrap();
        let path = path.display();
        config(dir, &format!("certificates = [{{ cert = '{path}', key = '{path}' }}]"))
    }

    #[test]
    fn says_once_a_day_what_ends_within_a_fortnight() {
        let dir = tempfile::tempdir().unwrap();
        let now = unix_now();
        let mut expiry = Expiry::default();
        let config = from_file(dir.path(), 90, 16);
        expiry.follow(&config, now);
        let mut said = Vec::new();
        for hour in 0..20 * 24 {
            let at = now + hour * 3600;
            said.extend(expiry.lines(&config, at).into_iter().map(|line| (hour, line)));
        }
        assert!((17..=19).contains(&said.len()), "{said:?}");
        let days: HashSet<u64> = said.iter().map(|(hour, _)| (now + hour * 3600) / DAY).collect();
        assert_eq!(days.len(), said.len(), "once a day: {said:?}");
        let (first, line) = &said[0];
        assert!((48..72).contains(first), "{said:?}");
        assert!(line.contains("a.pem (a.test) of listener web expires in 1"), "{line}");
        assert!(said.last().unwrap().1.contains("has expired: "), "{said:?}");
    }

    #[test]
    fn what_was_said_on_loading_waits_for_the_next_day() {
        let dir = tempfile::tempdir().unwrap();
        let (now, config) = (unix_now(), from_file(dir.path(), 90, 5));
        let mut expiry = Expiry::default();
        expiry.follow(&config, now);
        assert!(expiry.lines(&config, now).is_empty());
        assert_eq!(expiry.lines(&config, now + DAY).len(), 1);
    }

    // What is renewed by itself may live for a few days.
    #[test]
    fn what_was_obtained_is_late_in_the_last_third_of_its_life() {
        let dir = tempfile::tempdir().unwrap();
        let now = unix_now();
        for (life, left, expected) in [(6, 5, 0), (6, 1, 1), (90, 20, 0), (90, 13, 1)] {
            let names = "acme = ['a.test']";
            let store = Store::new(config(dir.path(), names).acme.as_ref().unwrap());
            store.keep_certificate("a.test", &pem(life, left)).unwrap();
            let config = config(dir.path(), names);
            let mut expiry = Expiry::default();
            expiry.follow(&config, now);
            assert_eq!(expiry.lines(&config, now).len(), expected, "{left} of {life} days");
        }
    }
}
