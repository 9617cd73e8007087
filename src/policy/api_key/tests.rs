//! Keys, consumers and quotas of API keys, decided over made-up requests.

use super::*;
use crate::http::{Known, RequestHead, path::PathPolicy};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

const NOON: u64 = 1_795_262_400; // 2026-11-21T12:00:00Z

fn key(n: u8) -> String {
    secret::key(&[n; 32])
}

fn hash(n: u8) -> String {
    secret::written(&secret::digest(key(n).as_bytes()))
}

fn settings() -> Settings {
    let daily = Period { every: Every::Day, offset: 0 };
    let quota = |limit| Some(Quota { limit, period: daily });
    Settings {
        policy: "keys".into(),
        header: Some("x-api-key".into()),
        scheme: None,
        query: Some("api_key".into()),
        consumers: vec!["c.toml".into()],
        plans: vec![
            Plan { name: "gold".into(), rate: None, quota: quota(Some(3)) },
            Plan { name: "counted".into(), rate: None, quota: quota(None) },
        ],
        consumer_header: Some("x-consumer".into()),
        plan_header: Some("x-plan".into()),
        fields: true,
    }
}

fn consumers() -> String {
    format!(
        "[consumer.acme]\nplan = 'gold'\nkeys = ['{}', '{}']\n[consumer.plain]\nkeys = ['{}']\n\
         [consumer.off]\nkeys = ['{}']\ndisabled = true\n\
         [consumer.brief]\nplan = 'counted'\nkeys = [{{ hash = '{}', expires = 2026-11-22 }}]",
        hash(1),
        hash(2),
        hash(3),
        hash(4),
        hash(5)
    )
}

fn build(settings: &Settings, text: &str, old: Option<&Policy>) -> Policy {
    let files = |_: &Path| Some(Arc::from(text.as_bytes()));
    Policy::build(settings, &files, old).unwrap()
}

fn ask(policy: &Policy, lines: &str, query: &str, unix: u64) -> (Verdict, Findings) {
    ask_core(policy, &Core::bind(policy, None), lines, query, unix)
}

fn subject<'t>(head: &'t RequestHead, text: &'t str, unix: u64) -> Subject<'t> {
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    Subject {
        view: head.view(text.as_bytes(), peer),
        client: peer,
        scheme: "http",
        port: 80,
        listener: "web",
        rule: "",
        tls: None,
        body: None,
        decoded: false,
        preflight: false,
        now: Tick::ZERO,
        unix,
    }
}

// What is left for the owner of key `n`, and that `copy` counts it then.
fn left(policy: &Policy, copy: &Policy, n: u8, consumer: &str) -> Option<String> {
    let text = format!("GET /x HTTP/1.1\r\nHost: a\r\n{}\r\n", with(n));
    let mut head = RequestHead::default();
    head.parse(text.as_bytes(), PathPolicy::default()).unwrap();
    let subject = subject(&head, &text, NOON);
    let mut findings = Findings::default();
    findings.identity.consumer.push_str(consumer);
    copy.follow(policy, &subject, &findings);
    let fill = policy.fill(&subject, &findings);
    assert_eq!(copy.fill(&subject, &findings), fill);
    fill
}

#[test]
fn another_policy_takes_over_what_one_has_counted_of_a_consumer() {
    let mut settings = settings();
    settings.plans[1].rate = Some(Rate { count: 60, seconds: 60, burst: Some(5) });
    let build = || build(&settings, &consumers(), None);
    let (policy, copy) = (build(), build());
    check(&policy, &with(1), "", "pass");
    check(&policy, &with(2), "", "pass");
    check(&policy, &with(5), "", "pass");
    assert_eq!(left(&policy, &copy, 1, "acme").as_deref(), Some("2 of 3 used this day"));
    assert_eq!(left(&policy, &copy, 5, "brief").as_deref(), Some("4 of 5 left"));
    assert_eq!((left(&policy, &copy, 3, "plain"), left(&policy, &copy, 9, "")), (None, None));
    check(&copy, &with(1), "", "pass");
    check(&copy, &with(1), "", "quota_exceeded");
    check(&policy, &with(1), "", "pass");
}

fn ask_core(
    policy: &Policy,
    core: &Core,
    lines: &str,
    query: &str,
    unix: u64,
) -> (Verdict, Findings) {
    let text = format!("GET /x?{query} HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    let mut head = RequestHead::default();
    head.parse(text.as_bytes(), PathPolicy::default()).unwrap();
    assert!(head.fields.iter().any(|f| f.known == Known::Host));
    let subject = subject(&head, &text, unix);
    let mut findings = Findings::default();
    let verdict = policy.check(core, &subject, &mut findings, None);
    (verdict, findings)
}

fn said(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Refuse(fault) => fault.code(),
        _ => "something else",
    }
}

#[track_caller]
fn check(policy: &Policy, lines: &str, query: &str, expected: &str) -> Findings {
    let (verdict, findings) = ask(policy, lines, query, NOON);
    assert_eq!(said(&verdict), expected, "{lines:?} {query:?}");
    findings
}

fn with(n: u8) -> String {
    format!("X-API-Key: {}\r\n", key(n))
}

#[test]
fn a_key_is_taken_from_the_field_or_the_query_but_only_one() {
    let policy = build(&settings(), &consumers(), None);
    let query = format!("a=b&api_key={}", key(3));
    let (invalid, missing) = ("api_key_invalid", "api_key_missing");
    check(&policy, &with(3), "", "pass");
    check(&policy, "", &query, "pass");
    check(&policy, "", &format!("api_key=%72{}", &key(3)[1..]), "pass");
    check(&policy, "", "", missing);
    check(&policy, "X-API-Key:\r\n", "api_key=", missing);
    check(&policy, "Authorization: x\r\n", "API_KEY=x", missing);
    check(&policy, "X-API-Key: x\r\n", "", invalid);
    check(&policy, &with(9), "", invalid);
    check(&policy, &format!("{}{}", with(3), with(3)), "", invalid);
    check(&policy, &with(3), &query, invalid);
    check(&policy, "", &format!("{query}&{query}"), invalid);
    check(&policy, "", "api_key=%7", invalid);
    check(&policy, "", &format!("api_key=%41{}", "a".repeat(600)), invalid);
    check(&policy, &format!("X-API-Key: {}\r\n", "a".repeat(600)), "", invalid);
    check(&policy, &format!("X-API-Key: {}\r\n", hash(3)), "", invalid);
}

#[test]
fn a_scheme_stands_before_the_key() {
    let mut settings = settings();
    (settings.header, settings.query) = (Some("authorization".into()), None);
    settings.scheme = Some("Bearer".into());
    let policy = build(&settings, &consumers(), None);
    for (value, expected) in [
        (format!("Bearer {}", key(3)), "pass"),
        (format!("bearer  {}", key(3)), "pass"),
        (format!("Bearer{}", key(3)), "api_key_invalid"),
        (key(3), "api_key_missing"),
        ("Basic x".to_owned(), "api_key_missing"),
        ("Be".to_owned(), "api_key_missing"),
        ("Bearer".to_owned(), "api_key_invalid"),
    ] {
        check(&policy, &format!("Authorization: {value}\r\n"), "", expected);
    }
    let refused = check(&policy, "", "", "api_key_missing");
    assert_eq!(refused.response, b"www-authenticate: Bearer\r\n");
    assert_eq!(policy.consumes(), [Consumed::Field("authorization".into())]);
}

#[test]
fn both_live_keys_are_one_consumer_and_dead_ones_are_nobody() {
    let policy = build(&settings(), &consumers(), None);
    for n in [1, 2] {
        let findings = check(&policy, &with(n), "", "pass");
        assert_eq!((&*findings.identity.consumer, &*findings.identity.plan), ("acme", "gold"));
        assert_eq!(findings.upstream, b"x-consumer: acme\r\nx-plan: gold\r\n");
    }
    let findings = check(&policy, &with(3), "", "pass");
    assert_eq!((&*findings.identity.consumer, &*findings.identity.plan), ("plain", ""));
    assert_eq!(
        (&*findings.upstream, &*findings.response),
        (&b"x-consumer: plain\r\n"[..], &b""[..])
    );
    let findings = check(&policy, &with(4), "", "api_key_invalid");
    assert!(findings.identity.consumer.is_empty() && findings.upstream.is_empty());
    assert_eq!(findings.response, b"www-authenticate: ApiKey header=\"x-api-key\"\r\n");
    check(&policy, &with(5), "", "pass");
    let (verdict, _) = ask(&policy, &with(5), "", NOON + 43_200);
    assert_eq!(said(&verdict), "api_key_invalid", "from the first second of that day on");
}

#[test]
fn a_quota_holds_for_its_period_and_says_when_it_ends() {
    let policy = build(&settings(), &consumers(), None);
    for left in [2, 1, 0] {
        let findings = check(&policy, &with(1), "", "pass");
        let expected =
            format!("x-quota-limit: 3\r\nx-quota-remaining: {left}\r\nx-quota-reset: 43200\r\n");
        assert_eq!(String::from_utf8(findings.response).unwrap(), expected);
    }
    for _ in 0..2 {
        let findings = check(&policy, &with(2), "", "quota_exceeded");
        let text = String::from_utf8(findings.response).unwrap();
        assert!(
            text.contains("x-quota-remaining: 0\r\n") && text.contains("retry-after: 43200\r\n")
        );
        assert_eq!(findings.identity.consumer, "acme", "the log says who");
    }
    let taken = policy.meters().next().unwrap().taken();
    assert_eq!(taken.iter().map(|t| t.count).sum::<u64>(), 3, "what is refused is not counted");
    let (verdict, _) = ask(&policy, &with(1), "", NOON + 43_200);
    assert_eq!(said(&verdict), "pass", "a new day");
    assert_eq!(policy.replaces().len(), 3);
}

// RL-02: a reload refills nothing.
#[test]
fn counters_go_on_over_a_reload_but_not_into_other_periods() {
    let before = build(&settings(), &consumers(), None);
    check(&before, &with(1), "", "pass");
    let mut changed = settings();
    changed.fields = false;
    let after = build(&changed, &consumers().replace("plain", "other"), Some(&before));
    check(&after, &with(1), "", "pass");
    check(&before, &with(1), "", "pass");
    check(&after, &with(1), "", "quota_exceeded");
    assert!(after.replaces().is_empty());
    for plan in &mut changed.plans {
        plan.quota = plan
            .quota
            .map(|quota| Quota { period: Period { every: Every::Week, offset: 0 }, ..quota });
    }
    let weekly = build(&changed, &consumers(), Some(&after));
    check(&weekly, &with(1), "", "pass");
}

#[test]
fn a_rate_is_each_consumers_and_what_is_too_fast_is_not_counted() {
    let mut settings = settings();
    settings.plans[0].rate = Some(Rate { count: 1, seconds: 60, burst: Some(2) });
    settings.plans[0].quota = settings.plans[0].quota.map(|q| Quota { limit: Some(100), ..q });
    let text = consumers().replace("[consumer.plain]\n", "[consumer.plain]\nplan = 'gold'\n");
    let policy = build(&settings, &text, None);
    let core = Core::bind(&policy, None);
    let ask = |policy: &Policy, core: &Core, n: u8| ask_core(policy, core, &with(n), "", NOON);
    for expected in ["pass", "pass", "rate_limited", "rate_limited"] {
        assert_eq!(said(&ask(&policy, &core, 1).0), expected);
    }
    let (verdict, findings) = ask(&policy, &core, 2);
    assert_eq!(said(&verdict), "rate_limited", "by the consumer, not by the key");
    let text = String::from_utf8(findings.response).unwrap();
    assert!(
        text.contains("ratelimit: \"gold\";r=0;t=") && text.contains("retry-after: 60\r\n"),
        "{text}"
    );
    assert!(!text.contains("x-quota"), "{text}");
    let acme = policy.meters().find(|m| &*m.consumer == "acme").unwrap();
    assert_eq!(acme.taken().iter().map(|t| t.count).sum::<u64>(), 2);
    assert_eq!(said(&ask(&policy, &core, 3).0), "pass", "another consumer has its own");

    // RL-02: neither a reload nor another file of consumers refills a bucket.
    let text = format!("{}\n[consumer.new]\nkeys = ['{}']", consumers(), hash(8));
    settings.plans.insert(0, Plan { name: "other".into(), rate: None, quota: None });
    let after = build(&settings, &text, Some(&policy));
    let core = Core::bind(&after, Some(&core));
    assert_eq!(said(&ask(&after, &core, 1).0), "rate_limited");
    core.sweep(&after, Tick::ZERO);
}

#[test]
fn a_plan_that_cannot_be_is_said_without_its_files() {
    let mut settings = settings();
    assert_eq!(settings.check_plans(), Ok(()));
    settings.plans[0].rate = Some(Rate { count: 1, seconds: 86_400, burst: Some(1_000_000_000) });
    let wrong = settings.check_plans().unwrap_err();
    assert!(
        wrong.file.is_none() && wrong.found.starts_with("plan gold: a burst of"),
        "{}",
        wrong.found
    );
}

#[test]
fn what_is_only_counted_is_never_refused() {
    let policy = build(&settings(), &consumers(), None);
    for _ in 0..10 {
        assert!(check(&policy, &with(5), "", "pass").response.is_empty());
    }
    let meter = policy.meters().find(|m| &*m.consumer == "brief").unwrap();
    assert_eq!(meter.taken().iter().map(|t| t.count).sum::<u64>(), 10);
}

// AUTH-13 and AUTH-14: a key is looked up by its hash, and is nowhere to be seen afterwards.
#[test]
fn neither_keys_nor_hashes_are_shown() {
    let policy = build(&settings(), &consumers(), None);
    let findings = check(&policy, &with(1), "", "pass");
    let all = format!("{policy:?} {findings:?} {}", String::from_utf8_lossy(&findings.upstream));
    for secret in [key(1), hash(1)[7..].to_owned()] {
        assert!(!all.contains(&secret[3..20]), "{all}");
    }
    let consumed = [Consumed::Field("x-api-key".into()), Consumed::Query("api_key".into())];
    assert_eq!(policy.consumes(), consumed);
    let owned: Vec<Box<str>> = vec!["x-consumer".into(), "x-plan".into()];
    assert_eq!(policy.owns(), owned);
}

#[test]
fn a_mistake_in_a_file_names_it_with_its_line() {
    let files = |_: &Path| Some(Arc::from(&b"[consumer.a]\nkeys = 1"[..]));
    let wrong = Policy::build(&settings(), &files, None).unwrap_err();
    assert_eq!(wrong.file.as_deref(), Some(Path::new("c.toml")));
    assert!(wrong.found.contains("c.toml:2:8: consumer.a.keys"), "{}", wrong.found);
}

#[test]
fn a_hundred_thousand_consumers_are_all_found() {
    let mut text = String::new();
    let name = |n: u32| format!("key-{n:0>40}");
    for n in 0..100_000 {
        let hash = secret::written(&secret::digest(name(n).as_bytes()));
        text += &format!("[consumer.c{n}]\nplan = \"gold\"\nkeys = [\"{hash}\"]\n");
    }
    let policy = build(&settings(), &text, None);
    for n in (0..100_000).step_by(997) {
        let found = policy.directory.find(&secret::digest(name(n).as_bytes()), NOON);
        assert_eq!(found.map(|(_, c)| c.name.to_string()), Some(format!("c{n}")));
    }
    assert!(policy.directory.find(&secret::digest(b"other"), NOON).is_none());
}
