//! Decisions over hand-made requests; what control would say is scripted.

use super::*;
use crate::http::RequestView;
use crate::http::fields::OwnedFields;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hash::tests::{ARGON2, BCRYPT};
use std::path::Path;

fn settings() -> Settings {
    Settings {
        realm: "the \"shop\"".to_owned(),
        users: vec![("alice".to_owned(), BCRYPT.to_owned()), ("bob".to_owned(), ARGON2.to_owned())],
        files: Vec::new(),
        remember: Duration::from_secs(300),
        failures: 3,
        window: Duration::from_secs(60),
        forward: false,
        header: Some("x-user".to_owned()),
    }
}

fn build(settings: &Settings, old: Option<&Policy>) -> Policy {
    Policy::build(settings, &|_| None, old).unwrap()
}

/// A policy, a core, the time, and what the last request left behind.
struct Rig {
    policy: Policy,
    core: Core,
    now: Tick,
    findings: Findings,
}

impl Rig {
    fn new() -> Rig {
        let policy = build(&settings(), None);
        let core = Core::bind(&policy, None);
        Rig { policy, core, now: Tick::from_nanos(1), findings: Findings::default() }
    }

    fn check(&mut self, authorization: Option<&str>, from: &str, reply: Option<Reply>) -> Verdict {
        self.findings = Findings::default();
        let fields: OwnedFields = authorization.map(|a| ("Authorization", a)).into_iter().collect();
        let client = from.parse().unwrap();
        let view = RequestView {
            method: b"GET",
            host: b"a.test",
            path: b"/",
            query: None,
            fields: fields.view(),
            peer: client,
        };
        let subject = Subject {
            view,
            client,
            scheme: "https",
            port: 443,
            listener: "l",
            rule: "r",
            tls: None,
            body: None,
            decoded: false,
            preflight: false,
            now: self.now,
            unix: 0,
        };
        self.policy.check(&self.core, &subject, &mut self.findings, reply)
    }

    /// One request, and control's word on it if it is asked; `A` stands for asked.
    fn ask(&mut self, user: &str, password: &str, from: &str) -> &'static str {
        let value = format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")));
        let (asked, verdict) = match self.check(Some(&value), from, None) {
            Verdict::Ask(question) => {
                let Question::Password { hash, password } = *question else {
                    panic!("no password")
                };
                let right = hash::verify(&hash, &password);
                (true, self.check(Some(&value), from, Some(Reply::Password(right))))
            }
            verdict => (false, verdict),
        };
        match (asked, verdict) {
            (true, Verdict::Pass) => "A pass",
            (false, Verdict::Pass) => "pass",
            (true, Verdict::Refuse(Fault::CredentialsInvalid)) => "A 401",
            (false, Verdict::Refuse(Fault::CredentialsInvalid)) => "401",
            (false, Verdict::Refuse(Fault::RateLimited)) => "429",
            other => panic!("{other:?}"),
        }
    }

    fn response(&self) -> &str {
        std::str::from_utf8(&self.findings.response).unwrap()
    }
}

#[test]
fn a_password_is_asked_about_once_and_then_known() {
    let mut rig = Rig::new();
    assert_eq!(rig.ask("alice", "password", "192.0.2.1"), "A pass");
    assert_eq!(rig.findings.identity.consumer, "alice");
    assert_eq!(rig.findings.upstream, b"x-user: alice\r\n");
    assert_eq!(rig.ask("alice", "password", "192.0.2.9"), "pass");
    assert_eq!(rig.findings.upstream, b"x-user: alice\r\n");
    assert_eq!(rig.ask("bob", "password", "192.0.2.1"), "A pass");
    rig.now = rig.now.after(Duration::from_secs(300));
    assert_eq!(rig.ask("alice", "password", "192.0.2.1"), "A pass", "its time is over");
}

#[test]
fn who_is_refused_is_told_how_to_ask_and_nothing_is_left_behind() {
    let mut rig = Rig::new();
    let challenge = "WWW-Authenticate: Basic realm=\"the \\\"shop\\\"\", charset=\"UTF-8\"\r\n";
    for (value, fault) in [
        (None, Fault::CredentialsMissing),
        (Some("Bearer x"), Fault::CredentialsMissing),
        (Some("Basic !"), Fault::CredentialsInvalid),
    ] {
        let verdict = rig.check(value, "192.0.2.1", None);
        assert!(matches!(verdict, Verdict::Refuse(got) if got == fault), "{value:?}");
        assert_eq!(rig.response(), challenge);
    }
    assert_eq!(rig.ask("alice", "wrong", "192.0.2.1"), "A 401");
    assert_eq!(rig.response(), challenge);
    assert!(rig.findings.identity.consumer.is_empty() && rig.findings.upstream.is_empty());
}

#[test]
fn auth_21_a_user_that_does_not_exist_costs_what_others_cost_and_never_passes() {
    let mut rig = Rig::new();
    // By bad luck even the password of the hash that is taken instead.
    assert_eq!(rig.ask("mallory", "password", "192.0.2.1"), "A 401");
    assert_eq!(rig.ask("mallory", "password", "192.0.2.1"), "401");
    assert_eq!(rig.ask("mallory", "other", "192.0.2.1"), "A 401");
}

#[test]
fn auth_21_wrong_passwords_soon_cost_nothing() {
    let mut rig = Rig::new();
    assert_eq!(rig.ask("alice", "w1", "192.0.2.1"), "A 401");
    assert_eq!(rig.ask("alice", "w1", "192.0.2.1"), "401", "remembered");
    assert_eq!(rig.ask("alice", "w2", "192.0.2.1"), "A 401");
    assert_eq!(rig.ask("alice", "w3", "192.0.2.1"), "A 401");
    assert_eq!(rig.ask("alice", "w4", "192.0.2.1"), "429");
    assert!(rig.response().starts_with("Retry-After: ") && !rig.response().contains("WWW"));
    assert_eq!(rig.ask("alice", "password", "192.0.2.1"), "429", "not even the right one");
    assert_eq!(rig.ask("alice", "password", "192.0.2.2"), "A pass", "from elsewhere");
    assert_eq!(rig.ask("alice", "password", "192.0.2.1"), "pass", "since it is known now");
    assert_eq!(rig.ask("bob", "password", "192.0.2.1"), "A pass", "another user");
    rig.now = rig.now.after(Duration::from_secs(61));
    assert_eq!(rig.ask("alice", "w5", "192.0.2.1"), "A 401", "the next window");
}

#[test]
fn auth_21_one_address_cannot_try_users_without_end() {
    let mut rig = Rig::new();
    for number in 0..30 {
        // An IPv6 client has a /64 to choose from.
        let from = format!("2001:db8::{number}");
        assert_eq!(rig.ask(&format!("user{number}"), "x", &from), "A 401");
    }
    assert_eq!(rig.ask("user30", "x", "2001:db8::1:0"), "429");
    assert_eq!(rig.ask("alice", "password", "2001:db8:0:1::1"), "A pass");
}

#[test]
fn auth_21_what_hashes_at_the_same_time_is_bounded() {
    let mut rig = Rig::new();
    let value = |user: &str, password: &str| {
        format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
    };
    let asks = |rig: &mut Rig, value: &str, from: &str| {
        matches!(rig.check(Some(value), from, None), Verdict::Ask(_))
    };
    for number in 0..10 {
        let asked = asks(&mut rig, &value("alice", &format!("w{number}")), "192.0.2.1");
        assert_eq!(asked, number < MOST_ASKING.of_part, "guess {number}");
    }
    assert!(asks(&mut rig, &value("alice", "w0"), "192.0.2.1"), "that one hashes already");
    for number in 0..100 {
        let asked = asks(&mut rig, &value(&format!("u{number}"), "w"), "192.0.2.1");
        let left = MOST_ASKING.of_client - MOST_ASKING.of_part;
        assert_eq!(asked, number < left, "user {number}");
    }
    assert!(asks(&mut rig, &value("alice", "w9"), "192.0.2.2"), "from elsewhere");
    // Replies make room again, also where there is none.
    let (first, second) = (value("alice", "w0"), value("alice", "w1"));
    rig.check(Some(&first), "192.0.2.1", Some(Reply::Password(false)));
    rig.check(Some(&second), "192.0.2.1", Some(Reply::Failed(Arc::from("x"))));
    assert!(asks(&mut rig, &value("alice", "w8"), "192.0.2.1"));
    assert!(asks(&mut rig, &value("alice", "w9"), "192.0.2.1"));
    assert!(!asks(&mut rig, &value("alice", "w10"), "192.0.2.1"));
}

#[test]
fn without_an_answer_nobody_passes() {
    let mut rig = Rig::new();
    let value = format!("Basic {}", BASE64_STANDARD.encode("alice:password"));
    let failed = Reply::Failed(Arc::from("too many"));
    for reply in [failed, Reply::Called(Arc::default())] {
        let verdict = rig.check(Some(&value), "192.0.2.1", Some(reply));
        assert!(matches!(verdict, Verdict::Refuse(Fault::PolicyUnavailable)), "{verdict:?}");
    }
}

#[test]
fn rl_02_a_reload_keeps_what_is_known_and_counted_and_a_new_hash_ends_it() {
    let mut rig = Rig::new();
    assert_eq!(rig.ask("alice", "password", "192.0.2.1"), "A pass");
    assert_eq!(rig.ask("bob", "password", "192.0.2.1"), "A pass");
    for wrong in ["w1", "w2", "w3"] {
        assert_eq!(rig.ask("bob", wrong, "192.0.2.7"), "A 401");
    }
    let mut changed = settings();
    changed.users[0].1 = BCRYPT.replace("$2y$", "$2b$");
    let policy = build(&changed, Some(&rig.policy));
    rig.core = Core::bind(&policy, Some(&rig.core));
    rig.policy = policy;
    assert_eq!(rig.ask("bob", "password", "192.0.2.1"), "pass");
    assert_eq!(rig.ask("alice", "password", "192.0.2.1"), "A pass", "her hash is another");
    assert_eq!(rig.ask("bob", "w4", "192.0.2.7"), "429");
    changed.users.push(("carol".to_owned(), BCRYPT.to_owned()));
    changed.users.retain(|(user, _)| user != "alice");
    assert_eq!(rig.ask("carol", "password", "192.0.2.1"), "A 401", "not yet");
    rig.policy = build(&changed, Some(&rig.policy));
    assert_eq!(rig.ask("carol", "password", "192.0.2.1"), "A pass", "whatever was taken instead");
    changed.users.remove(0);
    rig.policy = build(&changed, Some(&rig.policy));
    assert_eq!(rig.ask("bob", "password", "192.0.2.1"), "A 401", "he is gone");
}

#[test]
fn files_are_read_line_by_line() {
    let check = |text: &str, expected: Result<usize, &str>| {
        let settings = Settings { users: Vec::new(), files: vec!["u".into()], ..settings() };
        let octets: Arc<[u8]> = Arc::from(text.as_bytes());
        let built = Policy::build(&settings, &|_: &Path| Some(Arc::clone(&octets)), None);
        match (built, expected) {
            (Ok(policy), Ok(count)) => {
                assert_eq!(format!("{:?}", policy.users), format!("{count} users"))
            }
            (Err(wrong), Err(part)) => {
                assert_eq!(wrong.file.as_deref(), Some(Path::new("u")));
                assert!(wrong.found.contains(part), "{}", wrong.found);
                assert!(!wrong.found.contains("abcdefgh"), "AUTH-14: {}", wrong.found);
            }
            (got, _) => panic!("{text:?}: {got:?}"),
        }
    };
    check(&format!("\u{feff}# staff\r\n\r\na:{BCRYPT}\r\nb:{ARGON2} \n"), Ok(2));
    check(&format!("a:{BCRYPT}"), Ok(1));
    check("", Err("no user"));
    check("# nobody\n", Err("no user"));
    check(
        &format!("a:{BCRYPT}\nb:$apr1$abcdefgh$x\n"),
        Err("line 2: the user \"b\" has an MD5 hash"),
    );
    check(&format!("a:{BCRYPT}\n\na:{ARGON2}\n"), Err("line 3: the user \"a\" a second time"));
    check("abcdefgh\n", Err("line 1 is not \"user:hash\""));
    check(&format!(":{BCRYPT}\n"), Err("line 1: a user name that is empty"));
    check(&format!("a\tb:{BCRYPT}\n"), Err("line 1: a user name"));
    check("a:abcdefgh\n", Err("line 1: the user \"a\" has no hash"));
    let settings = Settings { files: vec!["u".into()], ..settings() };
    assert!(
        Policy::build(&settings, &|_| None, None).is_err(),
        "AUTH-11: a file that is not there"
    );
    assert!(!format!("{settings:?}").contains(BCRYPT));
}

#[test]
fn the_password_stays_here_unless_it_is_to_be_sent_on() {
    let consumed = vec![Consumed::Field("authorization".into())];
    assert_eq!(build(&settings(), None).consumes(), consumed);
    let forward = Settings { forward: true, header: None, ..settings() };
    let policy = build(&forward, None);
    assert_eq!((policy.consumes(), policy.owns()), (vec![], vec![]));
    assert_eq!(build(&settings(), None).owns(), ["x-user".into()]);
}
