//! Clients with certificates, what targets are told of them, and requests that belong to another listener's clients.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use rustls::ClientConfig;
use std::net::SocketAddr;
use std::sync::Arc;
use support::authority::{Authority, Issued, When};
use support::tls_client::{ask, connect, showing, trusting, with};
use support::{Client, Message, Origin, Ringgate, eventually, free_address};

struct World {
    ca: Authority,
    clients: Authority,
    server: Issued,
    https: SocketAddr,
    origin: Origin,
}

impl World {
    fn new() -> World {
        let ca = Authority::new("servers");
        let server = ca.issue(&["a.test"]);
        let clients = Authority::new("clients");
        World { ca, clients, server, https: free_address(), origin: Origin::echo() }
    }

    fn start(&self, tls: &str, more: &str) -> Ringgate {
        Ringgate::start(&format!(
            "{more}\n[[listener]]\nname = \"web\"\nbind = [\"{}\"]\nprotocol = \"https\"\n\
             tls = {{ certificates = [{{ cert = \"{}\", key = \"{}\" }}]{tls} }}\n\
             default = {{ forward = \"app\" }}\n[group.app]\ntargets = [\"{}\"]\nhealth = {{ type = \"off\" }}\n",
            self.https,
            self.server.cert.display(),
            self.server.key.display(),
            self.origin.address,
        ))
    }

    fn verifying(&self, more: &str) -> String {
        format!(", client_ca = \"{}\"{more}", self.clients.file.display())
    }

    // The whole of it: with TLS 1.3 a refusal comes only after the client's last octets.
    fn answer(&self, config: ClientConfig, lines: &str) -> std::io::Result<Message> {
        let mut connection = connect(&Arc::new(config), self.https, "a.test")?;
        ask(&mut connection, "a.test", lines)
    }
}

// Hazard TLS-04.
#[test]
fn who_is_verified_is_served_and_nobody_else() {
    let world = World::new();
    let strangers = Authority::new("clients");
    let others = Authority::new("others");
    let crl = world.clients.crl(&[66]);
    let ringgate =
        world.start(&world.verifying(&format!(", client_crl = \"{}\"", crl.display())), "");
    let good = world.clients.client("good", 5, When::Now);
    for versions in [&[&rustls::version::TLS13], &[&rustls::version::TLS12]] {
        let config = with(&world.ca, Some(&good), versions);
        assert_eq!(world.answer(config, "").unwrap().status(), 200);
    }
    let shows = |own: &Issued| showing(&world.ca, own);
    for (config, reason) in [
        (trusting(&world.ca), "tls_client_cert_required"),
        (shows(&strangers.client("good", 5, When::Now)), "tls_unknown_ca"),
        (shows(&others.client("good", 5, When::Now)), "tls_unknown_ca"),
        (shows(&world.clients.client("late", 6, When::Past)), "tls_expired_client_cert"),
        (shows(&world.clients.client("early", 7, When::Future)), "tls_expired_client_cert"),
        (shows(&world.clients.client("lost", 66, When::Now)), "tls_revoked_client_cert"),
        (shows(&world.clients.client("a\0b", 8, When::Now)), "tls_bad_client_cert"),
    ] {
        let series = format!("ringgate_tls_handshake_failures_total{{reason=\"{reason}\"}}");
        let before = ringgate.metric(&series).unwrap_or(0.0);
        assert!(world.answer(config, "").is_err(), "{reason}");
        eventually(reason, || ringgate.metric(&series) == Some(before + 1.0));
    }
    assert_eq!(world.origin.requests().len(), 2);
}

#[test]
fn an_optional_certificate_is_verified_too() {
    let world = World::new();
    let others = Authority::new("others");
    let _ringgate = world.start(&world.verifying(", client_auth = \"optional\""), "");
    assert_eq!(world.answer(trusting(&world.ca), "").unwrap().status(), 200);
    let seen = world.origin.last();
    assert!(seen.header("x-amzn-mtls-clientcert-subject").is_none());
    let good = world.clients.client("good", 5, When::Now);
    assert_eq!(world.answer(showing(&world.ca, &good), "").unwrap().status(), 200);
    let subject = world.origin.last().header("x-amzn-mtls-clientcert-subject").map(str::to_owned);
    assert_eq!(subject.as_deref(), Some("CN=good"));
    let bad = others.client("bad", 5, When::Now);
    assert!(world.answer(showing(&world.ca, &bad), "").is_err());
}

const FORGED: &str = "X-Amzn-Mtls-Clientcert-Subject: CN=root\r\nx-amzn-mtls-clientcert-extra: 1\r\n\
    X-Amzn-Mtls-Clientcert: x\r\nClient-Cert: :x:\r\nClient-Cert-Chain: :x:\r\n\
    X-Forwarded-Client-Cert: Subject=\"CN=root\"\r\nx_amzn_mtls_clientcert_subject: CN=root\r\n";

#[test]
fn targets_are_told_once_and_by_nobody_else() {
    let world = World::new();
    let _ringgate = world.start(&world.verifying(""), "");
    let good = world.clients.client("good", 0xabc, When::Now);
    world.answer(showing(&world.ca, &good), FORGED).unwrap();
    let seen = world.origin.last();
    for (name, expected) in [
        ("subject", "CN=good"),
        ("issuer", "CN=clients"),
        ("serial-number", "0ABC"),
        ("validity", "NotBefore=2024-01-01T00:00:00Z;NotAfter=2044-01-01T00:00:00Z"),
        ("san", "DNS=client.test"),
    ] {
        let name = format!("x-amzn-mtls-clientcert-{name}");
        assert_eq!(seen.all(&name), [expected], "{name}");
    }
    assert_eq!(seen.header("x-amzn-mtls-clientcert-fingerprint").map(str::len), Some(64));
    let leaf = seen.header("x-amzn-mtls-clientcert-leaf").unwrap();
    let leaf = leaf.replace("%20", " ").replace("%0A", "\n");
    assert_eq!(leaf, std::fs::read_to_string(&good.cert).unwrap().replace("\r\n", "\n"));
    for forged in [
        "x-amzn-mtls-clientcert",
        "x-amzn-mtls-clientcert-extra",
        "client-cert",
        "client-cert-chain",
        "x-forwarded-client-cert",
        "x_amzn_mtls_clientcert_subject",
    ] {
        assert!(seen.all(forged).is_empty(), "{forged}");
    }
}

#[test]
fn without_client_authentication_nothing_is_said_and_nothing_believed() {
    let world = World::new();
    let _ringgate = world.start("", "");
    world.answer(trusting(&world.ca), FORGED).unwrap();
    let seen = world.origin.last();
    let names = ["-subject", "-extra", ""].map(|n| format!("x-amzn-mtls-clientcert{n}"));
    assert!(names.iter().all(|name| seen.all(name).is_empty()));
    assert!(seen.all("client-cert").is_empty() && seen.all("x-forwarded-client-cert").is_empty());
    let trusted = World::new();
    let _ringgate = trusted.start("", "[server]\ntrusted_proxies = [\"127.0.0.0/8\"]");
    trusted.answer(trusting(&trusted.ca), FORGED).unwrap();
    let seen = trusted.origin.last();
    assert_eq!(seen.all("x-forwarded-client-cert"), ["Subject=\"CN=root\""]);
    assert!(seen.all("x-amzn-mtls-clientcert-subject").is_empty(), "of nobody");
}

#[test]
fn passthrough_leaves_it_to_the_target() {
    let world = World::new();
    let others = Authority::new("others");
    let _ringgate = world.start(", client_auth = \"passthrough\"", "");
    assert_eq!(world.answer(trusting(&world.ca), FORGED).unwrap().status(), 200);
    assert!(world.origin.last().all("x-amzn-mtls-clientcert").is_empty());
    let any = others.client("any", 5, When::Past);
    world.answer(showing(&world.ca, &any), FORGED).unwrap();
    let seen = world.origin.last();
    let [chain] = seen.all("x-amzn-mtls-clientcert")[..] else { panic!("{seen:?}") };
    let chain = chain.replace("%20", " ").replace("%0A", "\n");
    assert_eq!(chain, std::fs::read_to_string(&any.cert).unwrap().replace("\r\n", "\n"));
    assert!(seen.all("x-amzn-mtls-clientcert-subject").is_empty());
}

// Hazard TLS-01.
#[test]
fn a_host_of_another_trust_is_misdirected() {
    let (ca, clients) = (Authority::new("servers"), Authority::new("clients"));
    let pair = |issued: &Issued| {
        format!("{{ cert = \"{}\", key = \"{}\" }}", issued.cert.display(), issued.key.display())
    };
    let open = ca.issue(&["open.test", "*.open.test", "127.0.0.1"]);
    let (one, two) = (ca.issue(&["one.test", "*.one.test", "127.0.0.1"]), ca.issue(&["two.test"]));
    let (a, b) = (free_address(), free_address());
    let respond = "default = { respond = { status = 200, body = \"served\" } }";
    let ringgate = Ringgate::start(&format!(
        "[log]\naccess = \"./access.log\"\n\
         [[listener]]\nname = \"open\"\nbind = [\"{a}\"]\nprotocol = \"https\"\n{respond}\n\
         tls = {{ certificates = [{}] }}\n\
         [[listener]]\nname = \"guarded\"\nbind = [\"{b}\"]\nprotocol = \"https\"\n{respond}\n\
         tls = {{ certificates = [{}, {}], client_ca = \"{}\" }}\n",
        pair(&open),
        pair(&one),
        pair(&two),
        clients.file.display(),
    ));
    let own = clients.client("client", 1, When::Now);
    let client = Arc::new(showing(&ca, &own));
    for (to, name, host, expected) in [
        (a, "open.test", "open.test", 200),
        (a, "open.test", "x.open.test", 200),
        (a, "open.test", "unknown.test", 200),
        (a, "open.test", "one.test", 421),
        (a, "open.test", "ONE.test.", 421),
        (a, "open.test", "one.test:443", 421),
        (a, "open.test", "x.one.test", 421),
        (a, "127.0.0.1", "one.test", 421),
        (a, "127.0.0.1", "open.test", 200),
        (b, "one.test", "one.test", 200),
        (b, "one.test", "One.Test.", 200),
        (b, "one.test", "x.one.test", 200),
        (b, "ONE.test", "one.test:8443", 200),
        (b, "one.test", "two.test", 421),
        (b, "two.test", "two.test", 200),
        (b, "two.test", "one.test", 421),
        (b, "one.test", "open.test", 421),
        (b, "one.test", "unknown.test", 421),
        (b, "127.0.0.1", "one.test", 200),
        (b, "127.0.0.1", "two.test", 421),
        (b, "127.0.0.1", "127.0.0.1:8443", 200),
        (b, "127.0.0.1", "[::1]", 200),
        (b, "one.test", "127.0.0.1", 421),
    ] {
        let mut connection = connect(&client, to, name).unwrap();
        let answer = ask(&mut connection, host, "").unwrap();
        assert_eq!(answer.status(), expected, "{name} {host}");
        let reason = (expected == 421).then_some("misdirected_request");
        assert_eq!(answer.header("x-ringgate-reason"), reason, "{name} {host}");
        let again = ask(&mut connection, if to == a { "open.test" } else { name }, "");
        assert!(
            again.is_ok_and(|a| a.status() == 200 || name == "127.0.0.1"),
            "{name} {host}: it goes on"
        );
    }
    let path = ringgate.dir.path().join("access.log");
    let log = || std::fs::read_to_string(&path).unwrap_or_default();
    support::eventually("what was refused is logged", || log().contains("misdirected_request"));
    for line in log().lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        let action = if record["status"] == 421 { "none" } else { "respond" };
        assert_eq!(record["action"], action, "{line}");
    }
}

// Hazards TLS-01 and TLS-02: what came under other terms is not served by those of now.
#[test]
fn a_reload_that_asks_for_more_bars_who_came_before() {
    let world = World::new();
    let other = Authority::new("others");
    let listener = |tls: &str| {
        format!(
            "[server]\nsandbox = \"off\"\n[[listener]]\nname = \"web\"\nbind = [\"{}\"]\n{tls}\n\
             default = {{ respond = {{ status = 200, body = \"served\" }} }}\n",
            world.https
        )
    };
    let pair = format!(
        "certificates = [{{ cert = \"{}\", key = \"{}\" }}]",
        world.server.cert.display(),
        world.server.key.display()
    );
    let https = |more: &str| listener(&format!("protocol = \"https\"\ntls = {{ {pair}{more} }}"));
    let guarded = |ca: &Authority| https(&format!(", client_ca = \"{}\"", ca.file.display()));
    let ringgate = Ringgate::start(&listener(""));
    let mut plain = Client::connect(world.https);
    assert_eq!(plain.get("/").status(), 200);

    ringgate.reload(&https(""));
    let answer = plain.get("/");
    assert_eq!(answer.status(), 421, "{answer:?}");
    assert_eq!(answer.header("x-ringgate-reason"), Some("misdirected_request"));
    plain.expect_closed();
    let nobody = Arc::new(trusting(&world.ca));
    let mut unasked = connect(&nobody, world.https, "a.test").unwrap();
    assert_eq!(ask(&mut unasked, "a.test", "").unwrap().status(), 200);

    ringgate.reload(&guarded(&world.clients));
    let answer = ask(&mut unasked, "a.test", "").unwrap();
    assert_eq!(answer.status(), 421, "{answer:?}");
    assert!(ask(&mut unasked, "a.test", "").is_err(), "it is closed");
    let own = world.clients.client("client", 1, When::Now);
    let verified = Arc::new(showing(&world.ca, &own));
    let mut verified = connect(&verified, world.https, "a.test").unwrap();
    for _ in 0..2 {
        let answer = ask(&mut verified, "a.test", "").unwrap();
        assert_eq!((answer.status(), answer.header("connection")), (200, None));
    }

    ringgate.reload(&guarded(&other));
    let answer = ask(&mut verified, "a.test", "").unwrap();
    assert_eq!((answer.status(), answer.header("connection")), (200, Some("close")));
    assert!(ask(&mut verified, "a.test", "").is_err(), "it has to come again");
}
