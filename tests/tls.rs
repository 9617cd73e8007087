//! https listeners: versions, which certificate a name gets, resumption, limits, and clients that mean no good.
//!
//! Against rustls, curl and openssl. Files that change are `certificate_watch`'s, clients' certificates `mtls`'.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, SignatureScheme};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use support::authority::{Authority, Issued};
use support::tls_client::{self, ask, connect, is_resumed, trusting, with};
use support::{Client, Origin, PATIENCE, Ringgate, eventually, free_address, program};

struct World {
    ca: Authority,
    https: SocketAddr,
}

fn pair(issued: &Issued) -> String {
    format!("{{ cert = \"{}\", key = \"{}\" }}", issued.cert.display(), issued.key.display())
}

impl World {
    fn new() -> World {
        World { ca: Authority::new("test authority"), https: free_address() }
    }

    fn config(&self, certificates: &[&Issued], tls: &str, more: &str) -> String {
        let pairs: Vec<String> = certificates.iter().map(|c| pair(c)).collect();
        format!(
            "[[listener]]\nname = \"web\"\nbind = [\"{}\"]\nprotocol = \"https\"\n\
             tls = {{ certificates = [{}]{tls} }}\n\
             default = {{ respond = {{ status = 200, body = \"served\" }} }}\n{more}",
            self.https,
            pairs.join(", "),
        )
    }

    fn start(&self, tls: &str, more: &str) -> Ringgate {
        let issued = self.ca.issue(&["a.test"]);
        Ringgate::start(&self.config(&[&issued], tls, more))
    }

    fn curl(&self, more: &[&str]) -> (i32, String) {
        let to = format!("a.test:{}:127.0.0.1", self.https.port());
        let url = format!("https://a.test:{}/", self.https.port());
        let mut curl = Command::new(program("curl", "curl"));
        curl.args(["-sS", "-m", "15", "--resolve", &to, "--cacert"]).arg(&self.ca.file);
        let out = curl.args(["-w", " %{http_version} %{ssl_verify_result}"]).args(more).arg(url);
        let out = out.output().unwrap();
        (out.status.code().unwrap_or(-1), String::from_utf8_lossy(&out.stdout).into_owned())
    }

    fn openssl(&self, more: &[&str]) -> String {
        let mut openssl = Command::new(program("openssl", "openssl"));
        openssl.args(["s_client", "-connect", &self.https.to_string()]);
        let out = openssl.args(more).stdin(std::process::Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned()
    }
}

// The label of what is shown: which of these files holds the certificate.
fn shown(connection: &tls_client::Connection, of: &[(&str, &Issued)]) -> String {
    use rustls::pki_types::pem::PemObject;
    let shown = &connection.stream.conn.peer_certificates().unwrap()[0];
    let same = |path: &Path| {
        rustls::pki_types::CertificateDer::from_pem_file(path).is_ok_and(|c| c == *shown)
    };
    of.iter().find(|(_, issued)| same(&issued.cert)).map_or("?", |(label, _)| label).to_owned()
}

#[test]
fn curl_and_openssl_are_served_in_every_version_and_nothing_older() {
    let world = World::new();
    let _ringgate = world.start("", "");
    assert_eq!(world.curl(&[]), (0, "served 2 0".to_owned()));
    assert_eq!(world.curl(&["--http1.1"]), (0, "served 1.1 0".to_owned()));
    assert_eq!(world.curl(&["--tls-max", "1.2"]), (0, "served 2 0".to_owned()));
    assert_ne!(world.curl(&["--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0"]).0, 0);
    let new = world.openssl(&["-servername", "a.test", "-tls1_3", "-groups", "X25519"]);
    assert!(new.contains("New, TLSv1.3, Cipher is TLS_"), "{new}");
    for old in ["-tls1", "-tls1_1"] {
        let said = world.openssl(&[old, "-cipher", "DEFAULT@SECLEVEL=0"]);
        assert!(said.contains("alert") && said.contains("Cipher is (NONE)"), "{said}");
    }
    // Hazard TLS-11.
    let said = world.openssl(&["-alpn", "ftp"]);
    assert!(said.contains("no application protocol"), "{said}");
    let none = world.openssl(&["-servername", "a.test"]);
    assert!(none.contains("No ALPN negotiated"), "{none}");
}

#[test]
fn policies_and_the_least_version_hold() {
    for (tls, has_12) in [
        ("", true),
        (", policy = \"compatible\"", true),
        (", policy = \"strict-1.3\"", false),
        (", min = \"1.3\"", false),
    ] {
        let world = World::new();
        let ringgate = world.start(tls, "");
        let only_12 = Arc::new(with(&world.ca, None, &[&rustls::version::TLS12]));
        assert_eq!(connect(&only_12, world.https, "a.test").is_ok(), has_12, "{tls}");
        let both = Arc::new(trusting(&world.ca));
        let mut connection = connect(&both, world.https, "a.test").unwrap();
        assert_eq!(ask(&mut connection, "a.test", "").unwrap().text(), "served");
        let group = connection.stream.conn.negotiated_key_exchange_group().unwrap().name();
        assert_eq!(group, rustls::NamedGroup::X25519MLKEM768, "post-quantum where the client can");
        let refused =
            ringgate.metric("ringgate_tls_handshake_failures_total{reason=\"tls_version\"}");
        assert_eq!(refused.unwrap_or(0.0), if has_12 { 0.0 } else { 1.0 }, "{tls}");
        let complete = ringgate.sum("ringgate_tls_handshakes_total", &["version=\"TLSv1.3\""]);
        assert_eq!(complete, 1.0);
        let ciphers = ringgate.sum("ringgate_tls_ciphers_total", &["cipher=\"TLS_AES_"]);
        let protocols = ringgate.sum("ringgate_tls_protocols_total", &[]);
        assert_eq!((ciphers, protocols), (1.0, if has_12 { 2.0 } else { 1.0 }), "{tls}");
    }
}

#[test]
fn names_get_their_certificate_and_clients_what_they_can_verify() {
    let world = World::new();
    let issue = |names: &[&str], kind, until| world.ca.issue_for(names, kind, until);
    let (ec, rsa) = (&PKCS_ECDSA_P256_SHA256, &PKCS_RSA_SHA256);
    let first = issue(&["first.test"], ec, 2040);
    let exact = issue(&["x.w.test"], ec, 2040);
    let star = issue(&["*.w.test"], ec, 2040);
    let short = issue(&["two.test"], ec, 2035);
    let long = issue(&["two.test"], ec, 2041);
    let old = issue(&["two.test"], rsa, 2043);
    let of = [
        ("first", &first),
        ("exact", &exact),
        ("star", &star),
        ("short", &short),
        ("long", &long),
        ("rsa", &old),
    ];
    let all: Vec<&Issued> = of.iter().map(|(_, issued)| *issued).collect();
    let _ringgate = Ringgate::start(&world.config(&all, "", ""));
    let any = Arc::new(unverifying(&world.ca, false));
    let only_rsa = Arc::new(unverifying(&world.ca, true));
    for (client, name, expected) in [
        (&any, "first.test", "first"),
        (&any, "x.w.test", "exact"),
        (&any, "X.W.Test", "exact"),
        (&any, "y.w.test", "star"),
        (&any, "two.test", "long"),
        (&only_rsa, "two.test", "rsa"),
        (&any, "w.test", "first"),
        (&any, "a.y.w.test", "first"),
        (&any, "unknown.test", "first"),
        (&any, "127.0.0.1", "first"),
    ] {
        let connection = connect(client, world.https, name).unwrap();
        assert_eq!(shown(&connection, &of), expected, "{name}");
    }
}

// Looks at what is shown, whatever it is for.
fn unverifying(ca: &Authority, only_rsa: bool) -> ClientConfig {
    let mut config = trusting(ca);
    config.resumption = rustls::client::Resumption::disabled();
    config.dangerous().set_certificate_verifier(Arc::new(Looker { only_rsa }));
    config
}

#[derive(Debug)]
struct Looker {
    only_rsa: bool,
}

impl rustls::client::danger::ServerCertVerifier for Looker {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        match self.only_rsa {
            true => vec![SignatureScheme::RSA_PSS_SHA256],
            false => vec![SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::RSA_PSS_SHA256],
        }
    }
}

// Two workers have one set of keys.
#[test]
fn sessions_are_resumed_on_any_worker() {
    let world = World::new();
    let ringgate = world.start("", "");
    for versions in [&[&rustls::version::TLS13], &[&rustls::version::TLS12]] {
        let client = Arc::new(with(&world.ca, None, versions));
        for n in 0..12 {
            let mut connection = connect(&client, world.https, "a.test").unwrap();
            assert_eq!(ask(&mut connection, "a.test", "").unwrap().text(), "served");
            assert_eq!(is_resumed(&connection), n > 0, "{n} of {versions:?}");
        }
    }
    assert_eq!(ringgate.sum("ringgate_tls_handshakes_total", &["resumed=\"true\""]), 22.0);
}

// Hazard TLS-02.
#[test]
fn no_session_outlives_what_it_was_accepted_by() {
    let world = World::new();
    let issued = world.ca.issue(&["a.test"]);
    let ca = world.ca.file.display();
    let plain = world.config(&[&issued], "", "");
    let ringgate = Ringgate::start(&plain);
    let client = Arc::new(trusting(&world.ca));
    let resumes = || {
        let mut connection = connect(&client, world.https, "a.test").unwrap();
        assert_eq!(ask(&mut connection, "a.test", "").unwrap().text(), "served");
        is_resumed(&connection)
    };
    assert!(!resumes() && resumes());
    ringgate.reload(&world.config(&[&issued], "", "[server]\nvia = \"other\"\n"));
    assert!(resumes(), "what does not concern trust changes nothing");
    ringgate.reload(&world.config(&[&issued], ", policy = \"compatible\"", ""));
    assert!(!resumes() && resumes());
    let optional = format!(", client_ca = \"{ca}\", client_auth = \"optional\"");
    ringgate.reload(&world.config(&[&issued], &optional, ""));
    assert!(!resumes() && !resumes(), "tickets are off where clients authenticate");
    ringgate.reload(&plain);
    assert!(!resumes() && resumes());
}

#[test]
fn targets_and_logs_learn_of_it() {
    let world = World::new();
    let origin = Origin::echo();
    let issued = world.ca.issue(&["a.test"]);
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("access.log");
    let more = format!(
        "[[rule]]\nname = \"all\"\nforward = \"app\"\nwhen = {{ path = [\"/\"] }}\n\
         [group.app]\ntargets = [\"{}\"]\nhealth = {{ type = \"off\" }}\n\
         [log]\naccess = \"{}\"\n",
        origin.address,
        log.display()
    );
    let ringgate = Ringgate::start_in(dir, &world.config(&[&issued], "", &more));
    let client = Arc::new(trusting(&world.ca));
    let mut connection = connect(&client, world.https, "a.test").unwrap();
    let forged = "X-Forwarded-Proto: http\r\nForwarded: proto=http\r\n";
    ask(&mut connection, "a.test", forged).unwrap();
    let seen = origin.last();
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    let port = world.https.port().to_string();
    assert_eq!(seen.header("x-forwarded-port"), Some(port.as_str()));
    assert_eq!(seen.header("forwarded"), Some("for=127.0.0.1;host=a.test;proto=https"));
    let mut line = String::new();
    eventually("the record", || {
        line = std::fs::read_to_string(&log).unwrap_or_default();
        line.ends_with('\n')
    });
    let record: serde_json::Value = serde_json::from_str(line.trim_end()).unwrap();
    assert_eq!(record["scheme"], "https");
    assert_eq!(record["tls_version"], "TLSv1.3");
    assert_eq!(record["tls_cipher"], "TLS_AES_128_GCM_SHA256");
    assert_eq!((&record["sni"], &record["alpn"]), (&"a.test".into(), &"http/1.1".into()));
    assert_eq!(record["tls_resumed"], false);
    let series = format!(
        "ringgate_tls_certificate_expiry_timestamp_seconds{{listener=\"web\",certificate=\"{}\"}}",
        issued.cert.display()
    );
    assert_eq!(ringgate.metric(&series), Some(2_335_219_200.0), "{}", ringgate.metrics());
}

#[test]
fn large_bodies_pass_whole_in_both_directions() {
    let world = World::new();
    let origin = Origin::echo();
    let more = format!(
        "[[rule]]\nname = \"all\"\nforward = \"app\"\nwhen = {{ path = [\"/*\"] }}\n\
         [group.app]\ntargets = [\"{}\"]\nhealth = {{ type = \"off\" }}\n",
        origin.address
    );
    let _ringgate = world.start("", &more);
    let dir = tempfile::tempdir().unwrap();
    let (sent, got) = (dir.path().join("sent"), dir.path().join("got"));
    let octets: Vec<u8> = (0..3_000_000u32).map(|i| (i ^ (i >> 8)) as u8).collect();
    std::fs::write(&sent, &octets).unwrap();
    let data = format!("@{}", sent.display());
    for version in ["--http1.1", "--http2"] {
        let more = [version, "--data-binary", &data, "-o", got.to_str().unwrap()];
        assert_eq!(world.curl(&more).0, 0, "{version}");
        assert!(std::fs::read(&got).unwrap().ends_with(&octets), "{version}");
    }
}

// Hazards TLS-03, SLOW.
#[test]
fn hellos_may_come_in_pieces() {
    let world = World::new();
    let ringgate = world.start("", "");
    let client = Arc::new(trusting(&world.ca));
    let (hello, _) = hello(&client);
    assert!(hello.len() > 1200, "with a share of the hybrid: {}", hello.len());
    let cuts = (1..80).chain((80..hello.len()).step_by(97)).chain([hello.len() - 1]);
    for at in cuts {
        let (hello, mut session) = self::hello(&client);
        let mut stream = tcp(world.https);
        stream.write_all(&hello[..at]).unwrap();
        // Most of them arrive apart; all must be taken.
        std::thread::yield_now();
        stream.write_all(&hello[at..]).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut stream).unwrap_or_else(|e| panic!("cut at {at}: {e}"));
        }
    }
    let mut stream = tcp(world.https);
    let (hello, mut session) = self::hello(&client);
    for octet in hello {
        stream.write_all(&[octet]).unwrap();
    }
    while session.is_handshaking() {
        session.complete_io(&mut stream).unwrap();
    }
    assert_eq!(ringgate.sum("ringgate_tls_handshake_failures_total", &[]), 0.0);
}

fn hello(client: &Arc<ClientConfig>) -> (Vec<u8>, ClientConnection) {
    let name = ServerName::try_from("a.test").unwrap();
    let mut session = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut hello = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut hello).unwrap();
    }
    (hello, session)
}

fn tcp(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

#[test]
fn broken_hellos_harm_nobody() {
    let world = World::new();
    let mut ringgate = world.start("", "[timeouts]\nhandshake = \"1s\"\n");
    let client = Arc::new(trusting(&world.ca));
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let whole = hello(&client).0;
    for n in 0..400 {
        let mut octets = whole.clone();
        match n % 4 {
            0 => octets.truncate(rng.usize(..octets.len())),
            1 => (0..rng.usize(1..8)).for_each(|_| {
                let at = rng.usize(..octets.len());
                octets[at] = rng.u8(..);
            }),
            2 => octets = (0..rng.usize(1..2000)).map(|_| rng.u8(..)).collect(),
            _ => {
                let at = rng.usize(..octets.len());
                let more = octets[at..].to_vec();
                octets.extend(more);
            }
        }
        let mut stream = tcp(world.https);
        // It may have been refused before all of it was sent.
        let _ = stream.write_all(&octets);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    }
    ringgate.assert_alive();
    assert_eq!(ringgate.metric("ringgate_task_panics_total"), Some(0.0));
    let mut connection = connect(&client, world.https, "a.test").unwrap();
    assert_eq!(ask(&mut connection, "a.test", "").unwrap().text(), "served");
}

#[test]
fn who_stalls_is_let_go_and_who_speaks_http_is_told() {
    let world = World::new();
    let ringgate = world.start("", "[timeouts]\nhandshake = \"300ms\"\n");
    let client = Arc::new(trusting(&world.ca));
    for part in [&b""[..], &[22, 3, 1], &hello(&client).0[..100]] {
        let mut stream = tcp(world.https);
        stream.write_all(part).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
    }
    let failed = |reason: &str| {
        let series = format!("ringgate_tls_handshake_failures_total{{reason=\"{reason}\"}}");
        ringgate.metric(&series).unwrap_or(0.0)
    };
    eventually("they are counted", || failed("tls_timeout") == 3.0);
    let answer = Client::connect(world.https).get("/");
    assert_eq!((answer.status(), answer.header("x-ringgate-reason")), (400, Some("tls_not_tls")));
    eventually("it is counted", || failed("tls_not_tls") == 1.0);
    let output = ringgate.output();
    assert!(output.contains("TLS handshake failed: tls_timeout"), "{output}");
    // Neither does harm to who is served already.
    let mut connection = connect(&client, world.https, "a.test").unwrap();
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(ask(&mut connection, "a.test", "").unwrap().text(), "served");
}

#[test]
fn only_so_many_handshakes_are_in_progress() {
    let world = World::new();
    let limits = "[server]\nworkers = 1\n[limits]\nhandshakes = 2\n";
    let ringgate = world.start("", limits);
    let client = Arc::new(trusting(&world.ca));
    let part = &hello(&client).0[..100];
    let mut waiting: Vec<TcpStream> = (0..3)
        .map(|_| {
            let mut stream = tcp(world.https);
            stream.write_all(part).unwrap();
            stream
        })
        .collect();
    let overloaded = "ringgate_tls_handshake_failures_total{reason=\"tls_overloaded\"}";
    eventually("one is refused", || ringgate.metric(overloaded) == Some(1.0));
    waiting.clear();
    eventually("there is room again", || connect(&client, world.https, "a.test").is_ok());
}

// Hazard TLS-08: a request that is cut off is no request.
#[test]
fn a_cut_is_no_end() {
    let world = World::new();
    let origin = Origin::echo();
    let more = format!(
        "[[rule]]\nname = \"all\"\nforward = \"app\"\nwhen = {{ path = [\"/*\"] }}\n\
         [group.app]\ntargets = [\"{}\"]\nhealth = {{ type = \"off\" }}\n",
        origin.address
    );
    let ringgate = world.start("", &more);
    let client = Arc::new(trusting(&world.ca));
    let mut connection = connect(&client, world.https, "a.test").unwrap();
    let head =
        b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    connection.send(head).unwrap();
    connection.stream.sock.shutdown(std::net::Shutdown::Write).unwrap();
    let gone = "ringgate_faults_total{reason=\"client_gone\"}";
    eventually("it is known", || ringgate.metric(gone) == Some(1.0));
    assert!(origin.requests().is_empty());
    // And the other way round: an answer that ends the connection ends it for sure.
    let mut connection = connect(&client, world.https, "a.test").unwrap();
    let answer = ask(&mut connection, "a.test", "Connection: close\r\n").unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(
        connection.rest().unwrap(),
        b"",
        "with close_notify: rustls calls anything else an error"
    );
}

#[test]
fn a_proxy_header_comes_before_tls() {
    let world = World::new();
    let issued = world.ca.issue(&["a.test"]);
    let config = world.config(&[&issued], "", "[server]\ntrusted_proxies = [\"127.0.0.0/8\"]\n");
    let config =
        config.replace("protocol = \"https\"", "protocol = \"https\"\nproxy_protocol = \"v1\"");
    let origin = Origin::echo();
    let more = format!(
        "[[rule]]\nname = \"all\"\nforward = \"app\"\nwhen = {{ path = [\"/*\"] }}\n\
         [group.app]\ntargets = [\"{}\"]\nhealth = {{ type = \"off\" }}\n",
        origin.address
    );
    let _ringgate = Ringgate::start(&(config + &more));
    let client = Arc::new(trusting(&world.ca));
    for apart in [false, true] {
        let (hello, mut session) = hello(&client);
        let mut stream = tcp(world.https);
        let header = b"PROXY TCP4 203.0.113.7 192.0.2.1 5555 443\r\n";
        if apart {
            stream.write_all(header).unwrap();
            std::thread::sleep(Duration::from_millis(20));
            stream.write_all(&hello).unwrap();
        } else {
            stream.write_all(&[header, &hello[..]].concat()).unwrap();
        }
        while session.is_handshaking() {
            session.complete_io(&mut stream).unwrap();
        }
        let mut connection = support::Wire::new(rustls::StreamOwned::new(session, stream));
        assert_eq!(ask(&mut connection, "a.test", "").unwrap().status(), 200);
        let seen = origin.last();
        assert_eq!(seen.header("x-forwarded-for"), Some("203.0.113.7"));
        assert_eq!(seen.header("x-forwarded-port"), Some("443"));
        assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    }
}

// A client that trusts nobody says so, and it is counted.
#[test]
fn a_client_that_refuses_is_counted() {
    let world = World::new();
    let ringgate = world.start("", "");
    let roots = RootCertStore::empty();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    assert!(connect(&Arc::new(config), world.https, "a.test").is_err());
    let series = "ringgate_tls_handshake_failures_total{reason=\"tls_alert\"}";
    eventually("it is counted", || ringgate.metric(series) == Some(1.0));
}
