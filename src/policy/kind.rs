//! The kinds of policies as one enum each: as written, as compiled, and what a core remembers for one.
//!
//! This is the one place that knows all kinds; everything else about a kind stands in its own file.

use crate::base::Tick;
use crate::policy::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The octets of the files that policies name, read by control.
pub type Files<'a> = &'a dyn Fn(&Path) -> Option<Arc<[u8]>>;

/// Why a policy cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The file that it lies in; `None` where it is the configuration itself.
    pub file: Option<PathBuf>,
    /// What was found, and what to do.
    pub found: String,
}

/// What a policy does to heads and asks for, where its kind says nothing else: a method of that name of the kind itself is
/// used instead.
trait Plain {
    /// See [`Kind::consumes`].
    fn consumes(&self) -> Vec<Consumed> {
        Vec::new()
    }

    /// See [`Kind::owns`].
    fn owns(&self) -> Vec<Box<str>> {
        Vec::new()
    }

    /// See [`Kind::replaces`].
    fn replaces(&self) -> Vec<Box<str>> {
        Vec::new()
    }

    /// See [`Kind::body_limit`].
    #[inline]
    fn body_limit(&self, _: &Subject<'_>) -> Option<u64> {
        None
    }
}

macro_rules! kinds {
    ($($variant:ident $module:ident $word:literal,)*) => {
        /// A policy as written.
        #[derive(Clone, Debug, PartialEq)]
        #[expect(missing_docs, reason = "each is the kind of that name")]
        pub enum Settings { $($variant(Box<$module::Settings>),)* }

        /// A policy as run.
        #[derive(Debug)]
        #[expect(missing_docs, reason = "each is the kind of that name")]
        pub enum Kind { $($variant($module::Policy),)* }

        /// What one core remembers for a policy.
        #[derive(Debug)]
        #[expect(missing_docs, reason = "each is the kind of that name")]
        pub enum Core { $($variant($module::Core),)* }

        /// As users write the kinds.
        pub const WORDS: &[&str] = &[$($word,)*];

        impl Settings {
            /// As users write it.
            pub fn word(&self) -> &'static str {
                match self { $(Settings::$variant(_) => $word,)* }
            }

            /// The files that it names.
            pub fn files(&self) -> Vec<PathBuf> {
                match self { $(Settings::$variant(settings) => settings.files(),)* }
            }

            /// Whether it asks who the sender is.
            pub fn identifies(&self) -> bool {
                match self { $(Settings::$variant(_) => $module::IDENTIFIES,)* }
            }
        }

        $(impl Plain for $module::Policy {})*

        impl Kind {
            /// Compiles a policy. `old` is the one of this name that runs now, whose state goes on where it is of the same kind.
            ///
            /// # Errors
            /// What is wrong with it or its files.
            pub fn build(settings: &Settings, files: Files<'_>, old: Option<&Kind>) -> Result<Kind, Wrong> {
                match settings {
                    $(Settings::$variant(settings) => {
                        let old = match old {
                            Some(Kind::$variant(old)) => Some(old),
                            _ => None,
                        };
                        $module::Policy::build(settings, files, old).map(Kind::$variant)
                    })*
                }
            }

            /// Decides. `reply` is what control has said, if it was asked.
            #[inline]
            pub fn check(&self, core: &Core, subject: &Subject<'_>, findings: &mut Findings, reply: Option<Reply>) -> Verdict {
                match (self, core) {
                    $((Kind::$variant(policy), Core::$variant(core)) => policy.check(core, subject, findings, reply),)*
                    // Cores are made of their kinds; a policy without one must not let anybody pass.
                    _ => Verdict::Refuse(crate::http::Fault::PolicyUnavailable),
                }
            }

            /// What of a request is for this policy alone and is not sent on.
            pub fn consumes(&self) -> Vec<Consumed> {
                match self { $(Kind::$variant(policy) => policy.consumes(),)* }
            }

            /// Fields (lower-case) that this policy sends to targets, and that no client may.
            pub fn owns(&self) -> Vec<Box<str>> {
                match self { $(Kind::$variant(policy) => policy.owns(),)* }
            }

            /// Fields (lower-case) of a target's response that this policy answers for instead.
            pub fn replaces(&self) -> Vec<Box<str>> {
                match self { $(Kind::$variant(policy) => policy.replaces(),)* }
            }

            /// The most octets of a body that the policy must see whole; `None` where it needs none.
            #[inline]
            pub fn body_limit(&self, subject: &Subject<'_>) -> Option<u64> {
                match self { $(Kind::$variant(policy) => policy.body_limit(subject),)* }
            }

            /// Whether it asks who the sender is: such a policy is not asked of a preflight, which browsers send without.
            pub fn identifies(&self) -> bool {
                match self { $(Kind::$variant(_) => $module::IDENTIFIES,)* }
            }
        }

        impl Core {
            /// What a core begins with, or goes on with after a reload. `old` is what it remembered for the policy of this name.
            pub fn bind(kind: &Kind, old: Option<&Core>) -> Core {
                match kind {
                    $(Kind::$variant(policy) => Core::$variant(match old {
                        Some(Core::$variant(old)) => $module::Core::bind(policy, Some(old)),
                        _ => $module::Core::bind(policy, None),
                    }),)*
                }
            }

            /// Every sweep (100 ms): lets go of what is over.
            pub fn sweep(&self, kind: &Kind, now: Tick) {
                match (self, kind) {
                    $((Core::$variant(core), Kind::$variant(policy)) => core.sweep(policy, now),)*
                    _ => {}
                }
            }
        }
    };
}

kinds! {
    ApiKey api_key "api_key",
    Basic basic "basic",
    Block block "block",
    Concurrency concurrency "concurrency",
    Cors cors "cors",
    ForwardAuth forward_auth "forward_auth",
    Headers headers "headers",
    Hmac hmac "hmac",
    Introspect introspect "introspect",
    Ip ip "ip",
    Jwt jwt "jwt",
    Oidc oidc "oidc",
    Rate rate "rate",
    Validate validate "validate",
    Window window "window",
}

impl Kind {
    /// Parameters of queries that are nothing for logs: credentials, whether targets are sent them or not.
    pub fn hides(&self) -> Vec<Consumed> {
        let all = match self {
            Kind::Jwt(policy) => policy.carried(),
            Kind::Introspect(policy) => policy.carried(),
            other => other.consumes(),
        };
        let of_query =
            |one: &Consumed| matches!(one, Consumed::Query(_) | Consumed::QueryOf { .. });
        all.into_iter().filter(of_query).collect()
    }

    /// Fields (lower-case names) that an answer gets where it has none of that name.
    pub fn defaults(&self) -> Vec<(Box<str>, Box<[u8]>)> {
        match self {
            Kind::Headers(policy) => policy.defaults(),
            _ => Vec::new(),
        }
    }

    /// How full its limit is for the sender of a request, in words; `None` for kinds that limit nothing. Nothing is counted.
    pub fn fill(&self, subject: &Subject<'_>, findings: &Findings) -> Option<String> {
        match self {
            Kind::ApiKey(policy) => policy.fill(subject, findings),
            Kind::Concurrency(policy) => Some(policy.fill(subject, findings)),
            Kind::Rate(policy) => Some(policy.fill(subject, findings)),
            Kind::Window(policy) => Some(policy.fill(subject, findings)),
            _ => None,
        }
    }

    /// Whether it reads what a body's content codings hold, rather than its octets.
    pub fn reads_content(&self) -> bool {
        matches!(self, Kind::Validate(_))
    }

    /// Counts for the sender of a request what `other`, the same policy elsewhere, has counted; that one stays as it is.
    pub fn follow(&self, other: &Kind, subject: &Subject<'_>, findings: &Findings) {
        match (self, other) {
            (Kind::ApiKey(own), Kind::ApiKey(other)) => own.follow(other, subject, findings),
            (Kind::Concurrency(own), Kind::Concurrency(other)) => {
                own.follow(other, subject, findings);
            }
            (Kind::Rate(own), Kind::Rate(other)) => own.follow(other, subject, findings),
            (Kind::Window(own), Kind::Window(other)) => own.follow(other, subject, findings),
            _ => {}
        }
    }

    /// Whether it says something of every answer, also of one that another policy makes: who may read it, how it is shown.
    pub fn dresses(&self) -> bool {
        matches!(self, Kind::Cors(_) | Kind::Headers(_))
    }
}
