//! Which certificates end soon, said once a day each (hazard TLS-07), and when an OCSP response may not be sent any more.
//!
//! Certificates are renewed elsewhere, if at all: this is for whom that has failed. Called by `service`.

use crate::config::Config;
use crate::control::acme;
use crate::tls::{Certificate, staple};
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
        if self.day != now / DAY {
            self.day = now / DAY;
            self.said.clear();
        }
        let mut lines = Vec::new();
        for shown in shown(config) {
            let key = (shown.listener.to_owned(), shown.certificate.fingerprint);
            if let Some(line) = line(shown, now)
                && self.said.insert(key)
            {
                lines.push(line);
            }
        }
        lines
    }

    /// Notes which OCSP responses are sent by `config`.
    pub fn follow(&mut self, config: &Config) {
        let end = |shown: Shown<'_>| {
            let certified = &shown.certificate.certified;
            staple::read(certified.ocsp.as_deref()?, certified.cert.first()?).ok()?.next_update
        };
        self.staples_end = shown(config).filter_map(end).min();
        self.looked = 0;
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
        let certificates: &[Arc<Certificate>] =
            listener.terms().map(|terms| terms.certificates.as_slice()).unwrap_or_default();
        certificates.iter().map(move |certificate| Shown {
            listener: &listener.name,
            certificate,
            obtained: acme::is_obtained(config, listener, certificate),
        })
    })
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
