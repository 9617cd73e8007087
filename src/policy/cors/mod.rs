//! Which pages of other origins may read the answers (the Fetch standard, section 3.2).
//!
//! It answers preflights itself, and says of every other answer who may read it, ringgate's own included; what targets say of
//! it is replaced. The list of origins is exact: none is reflected that is not on it (hazard AUTH-19). Called through
//! `policy::kind`.

pub mod origin;

use crate::base::Tick;
use crate::http::{Fault, write};
use crate::policy::{Answer, Files, Findings, Reply, Subject, Verdict, Wrong};
use origin::{Origins, Pattern};
use std::path::PathBuf;

/// Whether it asks who the sender is.
pub const IDENTIFIES: bool = false;

/// As written.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Whose pages.
    pub origins: Vec<Pattern>,
    /// The methods that they may use; `*` for every one.
    pub methods: Vec<String>,
    /// The request fields that they may set; `*` for all but Authorization.
    pub headers: Vec<String>,
    /// The response fields that they may read; `*` for all.
    pub expose: Vec<String>,
    /// For how many seconds a preflight's answer holds.
    pub max_age: u64,
    /// Whether they may send cookies and certificates, and read what is answered to them.
    pub credentials: bool,
    /// Whether public pages may ask for what is served in a private network.
    pub private_network: bool,
    /// Whether requests of other origins are refused, rather than kept from being read.
    pub enforce: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            origins: Vec::new(),
            methods: ["GET", "HEAD", "POST"].map(str::to_owned).to_vec(),
            headers: Vec::new(),
            expose: Vec::new(),
            max_age: 600,
            credentials: false,
            private_network: false,
            enforce: false,
        }
    }
}

impl Settings {
    /// The files that it names.
    pub fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}

/// As run.
#[derive(Debug)]
pub struct Policy {
    origins: Origins,
    // `None` for every method.
    methods: Option<Box<[Box<str>]>>,
    // Lines that follow Access-Control-Allow-Origin, in the answer to a preflight and in any other.
    preflight: Box<[u8]>,
    simple: Box<[u8]>,
    // What the answer to a preflight depends on.
    vary: Box<[u8]>,
    private_network: bool,
    enforce: bool,
}

/// What one core remembers: nothing.
#[derive(Debug)]
pub struct Core {}

const ALLOW_ORIGIN: &[u8] = b"access-control-allow-origin";
const PRIVATE_NETWORK: &str = "access-control-allow-private-network";

impl Policy {
    /// Compiles it.
    ///
    /// # Errors
    /// None: what can be wrong has been found by the reader.
    pub fn build(settings: &Settings, _: Files<'_>, _: Option<&Policy>) -> Result<Policy, Wrong> {
        let origins = Origins::new(&settings.origins);
        let (mut simple, mut preflight) = (Vec::new(), Vec::new());
        if settings.credentials {
            write::field(&mut simple, b"access-control-allow-credentials", b"true");
            preflight.extend_from_slice(&simple);
        }
        list(&mut simple, b"access-control-expose-headers", &settings.expose);
        list(&mut preflight, b"access-control-allow-methods", &settings.methods);
        list(&mut preflight, b"access-control-allow-headers", &settings.headers);
        let seconds = settings.max_age.to_string();
        write::field(&mut preflight, b"access-control-max-age", seconds.as_bytes());
        let mut depends = vec!["Access-Control-Request-Method"];
        if !origins.any {
            depends.insert(0, "Origin");
        }
        if settings.private_network {
            depends.push("Access-Control-Request-Private-Network");
        }
        let mut vary = Vec::new();
        write::field(&mut vary, b"vary", depends.join(", ").as_bytes());
        let every = settings.methods.iter().any(|method| method == "*");
        let methods = settings.methods.iter().map(|method| method.as_str().into()).collect();
        Ok(Policy {
            origins,
            methods: (!every).then_some(methods),
            preflight: preflight.into(),
            simple: simple.into(),
            vary: vary.into(),
            private_network: settings.private_network,
            enforce: settings.enforce,
        })
    }

    /// Decides.
    pub fn check(
        &self,
        _: &Core,
        subject: &Subject<'_>,
        findings: &mut Findings,
        _: Option<Reply>,
    ) -> Verdict {
        let origin = only(subject, "origin");
        let admitted = match origin {
            Only::One(origin) => self.origins.admit(origin),
            Only::None | Only::Several => false,
        };
        if subject.preflight {
            return self.preflight(subject, origin, admitted, findings);
        }
        let out = &mut findings.response;
        if self.origins.any {
            write::field(out, ALLOW_ORIGIN, b"*");
            out.extend_from_slice(&self.simple);
            return Verdict::Pass;
        }
        // Also where there is no Origin, or another one: a cache must not give that answer to those who are on the list.
        write::field(out, b"vary", b"Origin");
        match origin {
            Only::One(origin) if admitted => {
                write::field(out, ALLOW_ORIGIN, origin);
                out.extend_from_slice(&self.simple);
            }
            Only::One(origin) if self.enforce && !is_same_origin(subject, origin) => {
                return Verdict::Refuse(Fault::OriginNotAllowed);
            }
            Only::Several if self.enforce => return Verdict::Refuse(Fault::OriginNotAllowed),
            _ => {}
        }
        Verdict::Pass
    }

    fn preflight(
        &self,
        subject: &Subject<'_>,
        origin: Only<'_>,
        admitted: bool,
        findings: &mut Findings,
    ) -> Verdict {
        let method = match only(subject, "access-control-request-method") {
            Only::One(method) => self.admits_method(method),
            Only::None | Only::Several => false,
        };
        let mut fields = self.vary.to_vec();
        match origin {
            Only::One(origin) if admitted && method => {
                let origin = if self.origins.any { b"*" } else { origin };
                write::field(&mut fields, ALLOW_ORIGIN, origin);
                fields.extend_from_slice(&self.preflight);
                let asked = subject.view.fields.first("access-control-request-private-network");
                if self.private_network && asked == Some(b"true") {
                    write::field(&mut fields, PRIVATE_NETWORK.as_bytes(), b"true");
                }
            }
            _ if self.enforce => {
                findings.response.extend_from_slice(&fields);
                return Verdict::Refuse(Fault::OriginNotAllowed);
            }
            _ => {}
        }
        Verdict::Answer(Box::new(Answer { status: 204, fields, body: Vec::new() }))
    }

    // Also GET, HEAD and POST are answered for only where they are listed: whoever lists methods means it.
    fn admits_method(&self, method: &[u8]) -> bool {
        let listed = |methods: &[Box<str>]| methods.iter().any(|one| one.as_bytes() == method);
        self.methods.as_deref().is_none_or(listed)
    }

    /// What no target may answer.
    pub fn replaces(&self) -> Vec<Box<str>> {
        let names = [
            "access-control-allow-origin",
            "access-control-allow-credentials",
            "access-control-allow-methods",
            "access-control-allow-headers",
            "access-control-expose-headers",
            "access-control-max-age",
            PRIVATE_NETWORK,
        ];
        names.map(Box::from).to_vec()
    }
}

impl Core {
    /// What a core begins with.
    pub fn bind(_: &Policy, _: Option<&Core>) -> Core {
        Core {}
    }

    /// Lets go of what is over.
    pub fn sweep(&self, _: &Policy, _: Tick) {}
}

// A field that comes once or not at all; several of it say nothing.
#[derive(Clone, Copy)]
enum Only<'a> {
    None,
    One(&'a [u8]),
    Several,
}

#[inline]
fn only<'a>(subject: &Subject<'a>, name: &'static str) -> Only<'a> {
    let mut all = subject.view.fields.all(name);
    match (all.next(), all.next()) {
        (None, _) => Only::None,
        (Some(one), None) => Only::One(one),
        (Some(_), Some(_)) => Only::Several,
    }
}

/// Whether the page comes from where it sends its request: browsers send Origin with a POST to their own site, too. What
/// they called that site is in Host; the port that the connection came to may be another.
fn is_same_origin(subject: &Subject<'_>, origin: &[u8]) -> bool {
    let rest = origin.strip_prefix(subject.scheme.as_bytes());
    let Some(site) = rest.and_then(|rest| rest.strip_prefix(b"://")) else { return false };
    let default: &[u8] = if subject.scheme == "https" { b":443" } else { b":80" };
    let Only::One(host) = only(subject, "host") else { return false };
    let host = host.strip_suffix(default).unwrap_or(host);
    !site.is_empty() && host.eq_ignore_ascii_case(site)
}

fn list(out: &mut Vec<u8>, name: &[u8], values: &[String]) {
    if !values.is_empty() {
        write::field(out, name, values.join(", ").as_bytes());
    }
}

#[cfg(test)]
mod tests;
