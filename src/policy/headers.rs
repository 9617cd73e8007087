//! Security headers, and other fields, of every response.
//!
//! A field is set (whatever a target says of it), given where a target says nothing, or removed. The presets only give: a
//! target knows its pages better. Framing, the connection and what other keys answer for is not touched here. Called
//! through `policy::kind`.

use crate::base::Tick;
use crate::http::known::Known;
use crate::http::write;
use crate::policy::{Files, Findings, Reply, Subject, Verdict, Wrong};
use std::path::PathBuf;

/// Whether it asks who the sender is.
pub const IDENTIFIES: bool = false;

/// As written; names are lower-case.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// Where to begin.
    pub preset: Preset,
    /// Instead of what a target says.
    pub set: Vec<(String, String)>,
    /// Where a target says nothing.
    pub default: Vec<(String, String)>,
    /// What is not sent, and not given by the preset.
    pub remove: Vec<String>,
}

/// Fields that fit most services of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preset {
    /// None.
    #[default]
    Off,
    /// Answers for programs, which no browser shows as pages.
    Api,
    /// Pages.
    Web,
}

/// After the OWASP cheat sheet for REST: nothing of it is a page, whatever it is taken for.
const API: &[(&str, &str)] = &[
    ("x-content-type-options", "nosniff"),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// What breaks hardly a page: no framing by other sites, no addresses told to them, no devices.
const WEB: &[(&str, &str)] = &[
    ("x-content-type-options", "nosniff"),
    ("content-security-policy", "frame-ancestors 'self'"),
    ("x-frame-options", "SAMEORIGIN"),
    ("referrer-policy", "strict-origin-when-cross-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
    ("cross-origin-opener-policy", "same-origin-allow-popups"),
    ("cross-origin-resource-policy", "same-site"),
];

/// What tells attackers which software to try (hazard HDR-09).
const TALKATIVE: &[&str] = &["server", "x-powered-by", "x-aspnet-version", "x-aspnetmvc-version"];

impl Preset {
    /// What it gives where a target says nothing.
    pub fn fields(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Preset::Off => &[],
            Preset::Api => API,
            Preset::Web => WEB,
        }
    }

    /// What it removes.
    pub fn removes(self) -> &'static [&'static str] {
        match self {
            Preset::Off => &[],
            Preset::Api | Preset::Web => TALKATIVE,
        }
    }
}

/// What the file may do with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// `set` and `default`.
    Give,
    /// `remove`.
    Remove,
}

/// Why a field is not for this policy; `None` where it is. `name` is lower-case.
pub fn refused(name: &str, usage: Use) -> Option<&'static str> {
    match Known::of(name.as_bytes()) {
        Known::ContentLength
        | Known::TransferEncoding
        | Known::Connection
        | Known::KeepAlive
        | Known::ProxyConnection
        | Known::ProxyAuthenticate
        | Known::ProxyAuthorization
        | Known::Te
        | Known::Trailer
        | Known::Upgrade => return Some("no field of framing or of the connection"),
        Known::Date | Known::Via | Known::XRinggateReason | Known::XRequestId => {
            return Some("no field that ringgate writes itself");
        }
        _ => {}
    }
    match name {
        "content-type" | "content-encoding" | "content-range" => {
            return Some("no field without which the body means something else");
        }
        "strict-transport-security" if usage == Use::Give => {
            return Some("hsts of the listener instead");
        }
        "set-cookie" | "www-authenticate" | "location" if usage == Use::Give => {
            return Some("no field that differs from answer to answer");
        }
        "vary" if usage == Use::Remove => {
            return Some("no field without which caches mix up answers");
        }
        "vary" => return Some("no field that targets and policies add to"),
        "sec-websocket-accept" | "sec-websocket-protocol" | "sec-websocket-extensions" => {
            return Some("no field of a handshake");
        }
        _ => {}
    }
    let cors = name.starts_with("access-control-") && usage == Use::Give;
    cors.then_some("a policy of kind cors instead")
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
    // Names, and the whole lines.
    set: Box<[Named]>,
    // All of those lines.
    lines: Box<[u8]>,
    defaults: Vec<Named>,
    removes: Vec<Box<str>>,
}

type Named = (Box<str>, Box<[u8]>);

/// What one core remembers: nothing.
#[derive(Debug)]
pub struct Core {}

impl Policy {
    /// Compiles it.
    ///
    /// # Errors
    /// A value that would begin a line of its own.
    pub fn build(settings: &Settings, _: Files<'_>, _: Option<&Policy>) -> Result<Policy, Wrong> {
        let Settings { preset, set, default, remove } = settings;
        let mut compiled = Vec::new();
        for (name, value) in set {
            let mut line = Vec::new();
            if !write::built_field(&mut line, name.as_bytes(), value.as_bytes()) {
                let found = format!("a control character in the value of {name}");
                return Err(Wrong { file: None, found });
            }
            compiled.push((Box::from(name.as_str()), line.into_boxed_slice()));
        }
        let explicit = |name: &str| {
            let given = set.iter().chain(default).any(|(n, _)| n == name);
            given || remove.iter().any(|n| n == name)
        };
        let preset_fields = preset.fields().iter().filter(|(name, _)| !explicit(name));
        let defaults = default.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let defaults = defaults.chain(preset_fields.copied());
        let mut removes: Vec<Box<str>> = remove.iter().map(|name| name.as_str().into()).collect();
        removes
            .extend(preset.removes().iter().filter(|name| !explicit(name)).map(|n| Box::from(*n)));
        Ok(Policy {
            lines: compiled.iter().flat_map(|(_, line)| line.iter().copied()).collect(),
            set: compiled.into(),
            defaults: defaults
                .map(|(name, value)| (name.into(), value.as_bytes().into()))
                .collect(),
            removes,
        })
    }

    /// Decides: everybody passes.
    #[inline]
    pub fn check(
        &self,
        _: &Core,
        _: &Subject<'_>,
        findings: &mut Findings,
        _: Option<Reply>,
    ) -> Verdict {
        let out = &mut findings.response;
        if out.is_empty() {
            out.extend_from_slice(&self.lines);
            return Verdict::Pass;
        }
        for (name, line) in &self.set {
            // A rule's policy comes after its listener's, and knows better.
            drop_field(out, name.as_bytes());
            out.extend_from_slice(line);
        }
        Verdict::Pass
    }

    /// Fields (lower-case names) that an answer gets where it has none of that name.
    pub fn defaults(&self) -> Vec<(Box<str>, Box<[u8]>)> {
        self.defaults.clone()
    }

    /// What no target may answer.
    pub fn replaces(&self) -> Vec<Box<str>> {
        self.set.iter().map(|(name, _)| name.clone()).chain(self.removes.iter().cloned()).collect()
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

/// Takes every line of this field out of `lines`, without allocating.
fn drop_field(lines: &mut Vec<u8>, name: &[u8]) {
    let (mut at, mut kept) = (0, 0);
    while let Some(rest) = lines.get(at..).filter(|rest| !rest.is_empty()) {
        let length = memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
        let is = rest.get(name.len()) == Some(&b':')
            && rest.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
        if !is {
            lines.copy_within(at..at + length, kept);
            kept += length;
        }
        at += length;
    }
    lines.truncate(kept);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::fields::OwnedFields;
    use crate::policy::sample;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    fn settings(
        preset: Preset,
        set: &[(&str, &str)],
        default: &[(&str, &str)],
        remove: &[&str],
    ) -> Settings {
        let remove = remove.iter().map(|name| (*name).to_owned()).collect();
        Settings { preset, set: pairs(set), default: pairs(default), remove }
    }

    fn build(settings: &Settings) -> Policy {
        Policy::build(settings, &|_| None, None).unwrap()
    }

    /// The lines for the client after those that were there before.
    fn lines(policy: &Policy, before: &str) -> String {
        let fields = OwnedFields::default();
        let mut findings = Findings::default();
        findings.response.extend_from_slice(before.as_bytes());
        let core = Core::bind(policy, None);
        let verdict = policy.check(&core, &sample::subject("/", &fields), &mut findings, None);
        assert!(matches!(verdict, Verdict::Pass));
        String::from_utf8(findings.response).unwrap()
    }

    #[test]
    fn what_is_set_replaces_what_was_there() {
        let policy = build(&settings(Preset::Off, &[("a", "1"), ("b", "2")], &[], &["c"]));
        for (before, after) in [
            ("", "a: 1\r\nb: 2\r\n"),
            ("x: 1\r\n", "x: 1\r\na: 1\r\nb: 2\r\n"),
            (
                "A: 0\r\nx: a: 1\r\nb: 9\r\nb: 8\r\nab: 7\r\n",
                "x: a: 1\r\nab: 7\r\na: 1\r\nb: 2\r\n",
            ),
        ] {
            assert_eq!(lines(&policy, before), after, "{before:?}");
        }
        let replaced: Vec<String> = policy.replaces().iter().map(|n| n.to_string()).collect();
        assert_eq!(replaced, ["a", "b", "c"]);
        assert!(policy.defaults().is_empty());
    }

    #[test]
    fn presets_give_what_nothing_else_speaks_of() {
        for preset in [Preset::Api, Preset::Web] {
            let policy = build(&settings(preset, &[], &[], &[]));
            assert_eq!(lines(&policy, ""), "");
            assert_eq!(policy.defaults().len(), preset.fields().len());
            assert!(policy.replaces().contains(&"x-powered-by".into()));
            for (name, value) in preset.fields() {
                assert_eq!(refused(name, Use::Give), None);
                assert!(write::built_field(&mut Vec::new(), name.as_bytes(), value.as_bytes()));
            }
        }
        let policy = build(&settings(
            Preset::Web,
            &[("x-frame-options", "DENY"), ("server", "web")],
            &[("referrer-policy", "no-referrer")],
            &["permissions-policy"],
        ));
        let defaults = policy.defaults();
        let value = |name: &str| {
            let mut of_name = defaults.iter().filter(|(n, _)| &**n == name);
            let value = of_name.next().map(|(_, v)| String::from_utf8_lossy(v).into_owned());
            assert!(of_name.next().is_none(), "{name} twice");
            value
        };
        assert_eq!(value("x-frame-options"), None);
        assert_eq!(value("permissions-policy"), None);
        assert_eq!(value("referrer-policy").as_deref(), Some("no-referrer"));
        assert_eq!(value("x-content-type-options").as_deref(), Some("nosniff"));
        assert_eq!(lines(&policy, ""), "x-frame-options: DENY\r\nserver: web\r\n");
        let replaced = policy.replaces();
        assert_eq!(replaced.iter().filter(|n| &***n == "server").count(), 1);
    }

    #[test]
    fn a_value_cannot_begin_a_line() {
        let wrong =
            Policy::build(&settings(Preset::Off, &[("a", "x\r\nb: 1")], &[], &[]), &|_| None, None);
        assert!(wrong.unwrap_err().found.contains("control character"));
    }

    #[test]
    fn framing_and_what_others_answer_for_is_refused() {
        for (name, give, remove) in [
            ("content-length", false, false),
            ("transfer-encoding", false, false),
            ("connection", false, false),
            ("keep-alive", false, false),
            ("proxy-connection", false, false),
            ("proxy-authenticate", false, false),
            ("te", false, false),
            ("trailer", false, false),
            ("upgrade", false, false),
            ("date", false, false),
            ("via", false, false),
            ("x-ringgate-reason", false, false),
            ("content-type", false, false),
            ("vary", false, false),
            ("sec-websocket-accept", false, false),
            ("strict-transport-security", false, true),
            ("set-cookie", false, true),
            ("location", false, true),
            ("access-control-allow-origin", false, true),
            ("server", true, true),
            ("x-frame-options", true, true),
            ("content-security-policy", true, true),
            ("cache-control", true, true),
        ] {
            assert_eq!(refused(name, Use::Give).is_none(), give, "give {name}");
            assert_eq!(refused(name, Use::Remove).is_none(), remove, "remove {name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn dropping_a_field_keeps_every_other_line(
            text in "([ab]{1,2}:? ?[ab:]{0,3}\r\n){0,6}",
        ) {
            let mut lines = text.clone().into_bytes();
            drop_field(&mut lines, b"a");
            let kept: String = text.split_inclusive('\n').filter(|l| !l.starts_with("a:")).collect();
            proptest::prop_assert_eq!(String::from_utf8(lines).unwrap(), kept);
        }
    }
}
