//! TLS to targets: real servers behind it, whom a target must prove to be, and that no connection is used under other
//! settings than it was opened by (hazards TLS-08, TLS-09, TLS-10, TLS-11).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;
use support::authority::{Authority, Issued, When};
use support::process::Process;
use support::ringgate::{binary, forwarding};
use support::tls_origin::{Session, TlsOrigin, server, server_12, server_asking};
use support::{Client, Origin, Ringgate, eventually, free_address, get, program};

const LOG: &str = "\n[log]\naccess = \"stdout\"\nformat = 'log $reason \"$detail\"'\n";

/// `tls` of a group: `{ ca = FILE, MORE }`.
fn trusting(ca: &Path, more: &str) -> String {
    format!("tls = {{ ca = \"{}\"{more} }}\n", ca.display())
}

fn to(listen: SocketAddr, target: SocketAddr, group: &str) -> String {
    forwarding(listen, &[target], group) + LOG
}

/// The one answer through ringgate to a GET; with what its log says of it.
#[track_caller]
fn asked(target: SocketAddr, group: &str) -> (u16, String, String) {
    let listen = free_address();
    let ringgate = Ringgate::start(&to(listen, target, group));
    let answer = get(listen, "/");
    eventually("it is logged", || ringgate.output().contains("\nlog "));
    let output = ringgate.output();
    let line = output.lines().find(|line| line.starts_with("log ")).unwrap();
    (answer.status(), answer.reason().to_owned(), line.to_owned())
}

#[track_caller]
fn is_refused(target: SocketAddr, group: &str, why: &str) {
    let (status, reason, log) = asked(target, group);
    assert_eq!((status, reason.as_str()), (502, "target_tls_failed"), "{log}");
    assert!(log.starts_with("log target_tls_failed \"tls_"), "{log}");
    assert!(log.contains(why), "{log:?} does not say {why:?}");
}

/// The certificate of `other` in the folder of `ours`: what a running process may read is fixed when it starts.
fn beside(ours: &Authority, other: &Authority) -> std::path::PathBuf {
    let file = ours.dir().join("other-ca.pem");
    std::fs::copy(&other.file, &file).unwrap();
    file
}

fn saying(issued: &Issued) -> TlsOrigin {
    TlsOrigin::saying(server(issued), "secret")
}

// ---------------------------------------------------------------- real servers

#[test]
fn real_servers_are_spoken_to() {
    let (authority, dir) = (Authority::new("ca"), tempfile::tempdir().unwrap());
    let issued = authority.issue(&["127.0.0.1"]);
    let (cert, key) = (issued.cert.display(), issued.key.display());
    let at = free_address();
    std::fs::write(dir.path().join("big"), vec![b'x'; 3 << 20]).unwrap();
    let root = dir.path().display();
    for versions in ["TLSv1.2", "TLSv1.3"] {
        let _nginx = Process::nginx(
            dir.path(),
            at,
            &format!(
                "server {{ listen {at} ssl; ssl_certificate {cert}; ssl_certificate_key {key}; ssl_protocols {versions};\n\
                 location / {{ root {root}; }} location /who {{ return 200 '$ssl_protocol $ssl_session_reused $host'; }} }}"
            ),
        );
        let listen = free_address();
        let ringgate = Ringgate::start(&to(listen, at, &trusting(&authority.file, "")));
        let mut client = Client::connect(listen);
        assert_eq!(client.get("/who").text(), format!("{versions} . a.test"), "Host stays");
        for _ in 0..3 {
            let big = client.get("/big");
            assert_eq!((big.status(), big.body.len()), (200, 3 << 20));
            assert!(big.body.iter().all(|b| *b == b'x'));
        }
        assert_eq!(ringgate.sum("ringgate_target_connects_total", &[]), 1.0, "it is kept");
    }
}

#[test]
fn node_and_openssl_are_spoken_to() {
    let (authority, dir) = (Authority::new("ca"), tempfile::tempdir().unwrap());
    let issued = authority.issue(&["127.0.0.1", "localhost"]);
    let (node, openssl) = (free_address(), free_address());
    let script = format!(
        "const fs = require('fs');\n\
         const options = {{ cert: fs.readFileSync('{}'), key: fs.readFileSync('{}') }};\n\
         require('https').createServer(options, (request, response) => {{\n\
           const parts = []; request.on('data', part => parts.push(part));\n\
           request.on('end', () => {{ response.setHeader('x-cipher', request.socket.getCipher().version);\n\
             response.end(Buffer.concat(parts)); }});\n\
         }}).listen({}, '127.0.0.1');",
        issued.cert.display(),
        issued.key.display(),
        node.port()
    );
    std::fs::write(dir.path().join("node.js"), script).unwrap();
    let mut command = Command::new(program("node", "nodejs"));
    command.arg("node.js");
    let _node = Process::start(command, dir.path(), node);
    let mut command = Command::new(program("openssl", "openssl"));
    command.args(["s_server", "-quiet", "-www", "-accept", &openssl.to_string()]);
    command.arg("-cert").arg(&issued.cert).arg("-key").arg(&issued.key);
    let _openssl = Process::start(command, dir.path(), openssl);

    let listen = free_address();
    let _ringgate = Ringgate::start(&to(listen, node, &trusting(&authority.file, "")));
    let body: Vec<u8> = (0..2_000_000u32).map(|n| (n % 251) as u8).collect();
    let mut client = Client::connect(listen);
    for chunked in [false, true] {
        let length = format!("Content-Length: {}", body.len());
        let framing = if chunked { "Transfer-Encoding: chunked" } else { &length };
        client.send(format!("POST /echo HTTP/1.1\r\nHost: a.test\r\n{framing}\r\n\r\n"));
        for part in body.chunks(70_000) {
            if chunked {
                client.send(format!("{:x}\r\n", part.len())).send(part).send("\r\n");
            } else {
                client.send(part);
            }
        }
        if chunked {
            client.send("0\r\n\r\n");
        }
        let answer = client.response_to("POST");
        assert_eq!(answer.header("x-cipher"), Some("TLSv1.3"));
        assert!(answer.body == body, "{} octets of {}", answer.body.len(), body.len());
    }
    drop(client);

    let listen = free_address();
    let _ringgate = Ringgate::start(&to(listen, openssl, &trusting(&authority.file, "")));
    // It ends each answer by the end of the connection, which it announces.
    for _ in 0..2 {
        let answer = get(listen, "/");
        assert_eq!(answer.status(), 200);
        assert!(answer.text().contains("TLSv1.3"), "{}", answer.text());
    }
}

#[test]
fn tls_11_http_2_is_spoken_where_it_was_chosen() {
    let (authority, dir) = (Authority::new("ca"), tempfile::tempdir().unwrap());
    let (issued, node) = (authority.issue(&["127.0.0.1"]), free_address());
    let script = format!(
        "const fs = require('fs');\n\
         const options = {{ cert: fs.readFileSync('{}'), key: fs.readFileSync('{}') }};\n\
         require('http2').createSecureServer(options, (request, response) => {{\n\
           const parts = []; request.on('data', part => parts.push(part));\n\
           request.on('end', () => {{ response.setHeader('x-seen', request.httpVersion + ' ' +\n\
             request.scheme + ' ' + request.stream.session.alpnProtocol);\n\
             response.end(Buffer.concat(parts)); }});\n\
         }}).listen({}, '127.0.0.1');",
        issued.cert.display(),
        issued.key.display(),
        node.port()
    );
    std::fs::write(dir.path().join("node.js"), script).unwrap();
    let mut command = Command::new(program("node", "nodejs"));
    command.arg("node.js");
    let _node = Process::start(command, dir.path(), node);
    let group = trusting(&authority.file, "") + "protocol = \"h2\"\n";
    let listen = free_address();
    let ringgate = Ringgate::start(&to(listen, node, &group));
    let body = vec![b'x'; 300_000];
    let mut client = Client::connect(listen);
    for _ in 0..3 {
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n",
            body.len()
        ));
        let answer = client.send(&body).response_to("POST");
        assert_eq!(answer.header("x-seen"), Some("2.0 https h2"));
        assert!(answer.body == body);
    }
    assert_eq!(ringgate.sum("ringgate_target_connects_total", &[]), 1.0);
    // One that has never heard of ALPN, and one that speaks HTTP/1.1 only.
    let deaf = TlsOrigin::saying(server_12(&issued), "secret");
    is_refused(deaf.address, &group, "tls_no_shared_protocol");
    is_refused(saying(&issued).address, &group, "tls_");
}

// ---------------------------------------------------------------- who a target must be

#[test]
fn tls_09_a_target_must_prove_who_it_is() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let trusted = trusting(&ours.file, "");
    let (status, _, log) = asked(saying(&ours.issue(&["127.0.0.1"])).address, &trusted);
    assert_eq!((status, log.as_str()), (200, "log - \"-\""));
    let refused = |issued: &Issued, why: &str| {
        let origin = saying(issued);
        is_refused(origin.address, &trusted, why);
        assert!(origin.origin.requests().is_empty(), "it was told nothing");
    };
    refused(&other.issue(&["127.0.0.1"]), "tls_unknown_ca");
    refused(&ours.issue(&["127.0.0.2", "a.test", "localhost"]), "tls_wrong_name");
    refused(&ours.issue_when(&["127.0.0.1"], When::Past), "tls_expired_cert: ");
    refused(&ours.issue_when(&["127.0.0.1"], When::Past), "certificate expired");
    refused(&ours.issue_when(&["127.0.0.1"], When::Future), "certificate not valid yet");
    refused(&ours.self_signed(&["127.0.0.1"]), "UnknownIssuer");
}

#[test]
fn a_self_signed_certificate_is_trusted_where_the_file_names_it() {
    let authority = Authority::new("ca");
    let own = authority.self_signed(&["127.0.0.1"]);
    let (status, ..) = asked(saying(&own).address, &trusting(&own.cert, ""));
    assert_eq!(status, 200);
    let wrong = authority.self_signed(&["127.0.0.2"]);
    is_refused(saying(&wrong).address, &trusting(&wrong.cert, ""), "tls_wrong_name");
}

#[test]
fn names_are_asked_for_and_addresses_are_not() {
    let authority = Authority::new("ca");
    let issued = authority.issue(&["127.0.0.1", "localhost", "x.test"]);
    for (target, more, name) in [
        ("127.0.0.1", "", None),
        ("localhost", "", Some("localhost")),
        ("127.0.0.1", ", server_name = \"x.test\"", Some("x.test")),
        ("localhost", ", server_name = \"127.0.0.1\"", None),
    ] {
        let (origin, listen) = (saying(&issued), free_address());
        let config = to(listen, origin.address, &trusting(&authority.file, more));
        let target = format!("{target}:{}", origin.address.port());
        let config = config.replace(&origin.address.to_string(), &target);
        let _ringgate = Ringgate::start(&config);
        assert_eq!(get(listen, "/").text(), "secret", "{target} {more}");
        let shaken = origin.shaken();
        assert_eq!((shaken.len(), shaken[0].name.as_deref()), (1, name), "{target} {more}");
        assert_eq!(shaken[0].alpn.as_deref(), Some("http/1.1"));
    }
}

#[test]
fn nobody_need_prove_anything_where_the_file_says_so_by_name() {
    let (authority, listen) = (Authority::new("ca"), free_address());
    let origin = saying(&authority.issue_when(&["x.test"], When::Past));
    let ringgate = Ringgate::start(&to(listen, origin.address, "tls = { verify = false }\n"));
    assert_eq!(get(listen, "/").text(), "secret");
    let output = ringgate.output();
    assert!(output.contains("group.all.tls: found verify = false"), "{output}");
}

#[test]
fn the_systems_authorities_are_trusted_by_default() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let (good, bad) = (saying(&ours.issue(&["127.0.0.1"])), saying(&other.issue(&["127.0.0.1"])));
    let start = |target: SocketAddr| {
        let listen = free_address();
        let mut command = Command::new(binary());
        command.env("SSL_CERT_FILE", &ours.file).env_remove("SSL_CERT_DIR");
        let config = to(listen, target, "tls = true\n");
        (Ringgate::start_as(tempfile::tempdir().unwrap(), &config, command), listen)
    };
    let (_ringgate, listen) = start(good.address);
    assert_eq!(get(listen, "/").text(), "secret");
    let (_ringgate, listen) = start(bad.address);
    assert_eq!(get(listen, "/").reason(), "target_tls_failed");

    let dir = tempfile::tempdir().unwrap();
    let (file, none) = (dir.path().join("a.toml"), dir.path().join("none"));
    std::fs::write(&file, to(free_address(), good.address, "tls = true\n")).unwrap();
    std::fs::create_dir(&none).unwrap();
    let mut command = Command::new(binary());
    command.env("SSL_CERT_FILE", none.join("none.pem")).env("SSL_CERT_DIR", &none);
    let done = command.args(["check", "-c"]).arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    // Where the system has authorities in a place of its own, they are found without these variables.
    let found_none = said.contains("no authorities that this system trusts");
    assert!(found_none != done.status.success(), "{said}");
    assert!(!found_none || said.contains("expected ca = FILE"), "{said}");
}

#[test]
fn the_least_version_holds() {
    let authority = Authority::new("ca");
    let origin = TlsOrigin::saying(server_12(&authority.issue(&["127.0.0.1"])), "secret");
    let (status, ..) = asked(origin.address, &trusting(&authority.file, ""));
    assert_eq!(status, 200);
    is_refused(origin.address, &trusting(&authority.file, ", min = \"1.3\""), "tls_");
}

// ---------------------------------------------------------------- who ringgate is

fn showing(ca: &Path, client: &Issued) -> String {
    let (cert, key) = (client.cert.display(), client.key.display());
    trusting(ca, &format!(", client_cert = \"{cert}\", client_key = \"{key}\""))
}

#[test]
fn a_certificate_is_shown_to_targets_that_ask() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let (issued, client) = (servers.issue(&["127.0.0.1"]), clients.issue(&["edge"]));
    let strangers = Authority::new("strangers");
    let stranger = strangers.issue(&["edge"]);
    let (dir, nginx) = (tempfile::tempdir().unwrap(), free_address());
    let _nginx = Process::nginx(
        dir.path(),
        nginx,
        &format!(
            "server {{ listen {nginx} ssl; ssl_certificate {}; ssl_certificate_key {};\n\
             ssl_client_certificate {}; ssl_verify_client on;\n\
             location / {{ return 200 '$ssl_client_s_dn'; }} }}",
            issued.cert.display(),
            issued.key.display(),
            clients.file.display()
        ),
    );
    let ask = |target: SocketAddr, group: &str| {
        let listen = free_address();
        let _ringgate = Ringgate::start(&to(listen, target, group));
        let answer = get(listen, "/");
        (answer.status(), answer.reason().to_owned(), answer.text())
    };
    let (status, _, text) = ask(nginx, &showing(&servers.file, &client));
    assert_eq!((status, text.as_str()), (200, "CN=edge"));
    // nginx speaks of it in HTTP, and that goes on as any answer.
    assert_eq!(ask(nginx, &trusting(&servers.file, "")).0, 400);
    assert_eq!(ask(nginx, &showing(&servers.file, &stranger)).0, 400);

    // Others end the session, which with TLS 1.3 is seen only when the request has been sent.
    let strict = TlsOrigin::saying(server_asking(&issued, &clients.file), "secret");
    assert_eq!(ask(strict.address, &showing(&servers.file, &client)).0, 200);
    assert!(strict.shaken()[0].certified);
    for group in [trusting(&servers.file, ""), showing(&servers.file, &issued)] {
        is_refused(strict.address, &group, "tls_alert: received fatal alert");
    }
    assert_eq!(strict.origin.requests().len(), 0, "remembered by the session only");
}

// ---------------------------------------------------------------- what is no TLS

#[test]
fn tls_10_what_comes_before_or_instead_of_a_handshake_is_refused() {
    let authority = Authority::new("ca");
    let (config, trusted) =
        (server(&authority.issue(&["127.0.0.1"])), trusting(&authority.file, ""));
    let (dir, plain) = (tempfile::tempdir().unwrap(), free_address());
    let _nginx = Process::nginx(dir.path(), plain, &format!("server {{ listen {plain}; }}"));
    is_refused(plain, &trusted, "InvalidContentType");

    const INJECTED: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\ninjected";
    for early in [INJECTED, &[0x17, 3, 3, 0, 5, 1, 2, 3, 4, 5], &[0], &[0x15, 3, 3, 0, 2, 2, 40]] {
        let config = Arc::clone(&config);
        let origin = Origin::script(move |conn| {
            conn.send(early)?;
            let mut session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut tcp = conn.wire.stream.try_clone()?;
            while session.is_handshaking() {
                session.complete_io(&mut tcp)?;
            }
            let mut session = Session::new(rustls::StreamOwned::new(session, tcp));
            while session.request()?.is_some() {
                session.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")?;
            }
            Ok(())
        });
        is_refused(origin.address, &trusted, "tls_");
    }
    let hung_up = Origin::script(|_| Ok(()));
    is_refused(hung_up.address, &trusted, "tls_closed");
}

#[test]
fn the_handshake_has_the_time_to_connect() {
    let authority = Authority::new("ca");
    let silent = Origin::script(|conn| conn.wire.rest().map(|_| ()));
    let group = trusting(&authority.file, "") + "retries = 0\ntimeouts = { connect = \"300ms\" }\n";
    let began = Instant::now();
    let (status, reason, _) = asked(silent.address, &group);
    assert_eq!((status, reason.as_str()), (504, "connect_timeout"));
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
}

// What the end of a handshake brings are tickets, and no answer to `Expect`.
#[test]
fn a_client_that_waits_for_100_is_let_go_on_where_the_target_says_nothing() {
    let authority = Authority::new("ca");
    let origin = saying(&authority.issue(&["127.0.0.1"]));
    let listen = free_address();
    let _ringgate = Ringgate::start(&to(listen, origin.address, &trusting(&authority.file, "")));
    let mut client = Client::connect(listen);
    let head =
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    assert_eq!(client.send(head).response().status(), 100);
    let answer = client.send("hello").response();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "secret"));
}

#[test]
fn another_target_is_tried_where_one_cannot_prove_itself() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let (bad, good) = (saying(&other.issue(&["127.0.0.1"])), saying(&ours.issue(&["127.0.0.1"])));
    let listen = free_address();
    let config = forwarding(listen, &[bad.address, good.address], &trusting(&ours.file, ""));
    let ringgate = Ringgate::start(&config);
    for _ in 0..4 {
        // A POST, too: the target that was refused has been sent nothing of it.
        let mut client = Client::connect(listen);
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
        assert_eq!(client.response_to("POST").text(), "secret");
    }
    assert!(bad.shaken().is_empty());
    assert!(ringgate.sum("ringgate_target_connect_errors_total", &[]) >= 1.0);
}

// ---------------------------------------------------------------- where a stream ends

#[test]
fn tls_08_a_cut_is_no_end() {
    let authority = Authority::new("ca");
    let config = server(&authority.issue(&["127.0.0.1"]));
    // The path says how the answer ends.
    let origin = TlsOrigin::script(config, |session| {
        let Some(request) = session.request()? else { return Ok(()) };
        let framing = match request.target() {
            "/length" => "Content-Length: 4\r\n",
            "/short" => "Content-Length: 5\r\n",
            _ => "",
        };
        session.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\nbody").as_bytes())?;
        let stream = &mut session.stream;
        if request.target() == "/goodbye" {
            stream.conn.send_close_notify();
        }
        while stream.conn.wants_write() {
            stream.conn.write_tls(&mut stream.sock)?;
        }
        Ok(())
    });
    let listen = free_address();
    let ringgate = Ringgate::start(&to(listen, origin.address, &trusting(&authority.file, "")));
    for path in ["/goodbye", "/length"] {
        assert_eq!(get(listen, path).text(), "body", "{path}");
    }
    for path in ["/cut", "/short"] {
        let mut client = Client::connect(listen);
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let ended = client.wire.response("GET");
        assert!(ended.is_err(), "{path}: {ended:?}");
    }
    let truncated = || ringgate.metric("ringgate_faults_total{reason=\"truncated_body\"}");
    eventually("both are counted", || truncated() == Some(2.0));
}

// ---------------------------------------------------------------- pools, sessions, reloads

/// Two groups with the same target, reached at `/a` and `/b`.
fn two_groups(listen: SocketAddr, target: SocketAddr, a: &str, b: &str) -> String {
    let group = |name: &str, tls: &str| {
        format!(
            "[[rule]]\nname = \"{name}\"\nforward = \"{name}\"\nwhen = {{ path = [\"/{name}\"] }}\n\
             [group.{name}]\ntargets = [\"{target}\"]\nhealth = {{ type = \"off\" }}\n{tls}\n"
        )
    };
    let listener = format!("[[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\n");
    listener + &group("a", a) + &group("b", b)
}

#[test]
fn tls_09_no_connection_is_used_under_the_settings_of_another_group() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let client = ours.issue(&["edge"]);
    let issued = ours.issue(&["127.0.0.1", "a.test", "b.test"]);
    let named = |name: &str| trusting(&ours.file, &format!(", server_name = \"{name}\""));
    let cases = [
        ("tls = { verify = false }\n".to_owned(), trusting(&other.file, ""), 502),
        (trusting(&ours.file, ""), trusting(&ours.file, ", server_name = \"c.test\""), 502),
        (trusting(&ours.file, ""), trusting(&ours.file, ", min = \"1.3\""), 200),
        (showing(&ours.file, &client), trusting(&ours.file, ""), 200),
        (named("a.test"), named("b.test"), 200),
    ];
    for (a, b, status) in cases {
        let origin = saying(&issued);
        let listen = free_address();
        let config = two_groups(listen, origin.address, &a, &b);
        let _ringgate = Ringgate::start(&format!("[server]\nworkers = 1\n\n{config}"));
        let mut client = Client::connect(listen);
        for _ in 0..3 {
            assert_eq!(client.get("/a").status(), 200, "{a}");
            assert_eq!(client.get("/b").status(), status, "{a}{b}");
        }
        let expected = if status == 200 { 2 } else { 1 };
        assert_eq!(origin.shaken().len(), expected, "each group has connections of its own");
        assert!(origin.shaken().iter().all(|s| !s.resumed), "and sessions of its own");
    }
}

#[test]
fn sessions_are_resumed_with_the_same_target() {
    let authority = Authority::new("ca");
    let issued = authority.issue(&["127.0.0.1"]);
    for config in [server(&issued), server_12(&issued)] {
        let origin = TlsOrigin::saying(config, "secret");
        let listen = free_address();
        let group = trusting(&authority.file, "") + "pool = { max_idle = 0 }\n";
        let config = to(listen, origin.address, &group);
        let ringgate = Ringgate::start(&format!("[server]\nworkers = 1\n\n{config}"));
        for _ in 0..4 {
            assert_eq!(get(listen, "/").text(), "secret");
        }
        let resumed: Vec<bool> = origin.shaken().iter().map(|s| s.resumed).collect();
        assert_eq!(resumed, [false, true, true, true]);
        ringgate.reload(&format!("[server]\nworkers = 1\n\n{config}"));
        assert_eq!(get(listen, "/").text(), "secret");
        assert!(origin.shaken()[4].resumed, "a reload that changes nothing keeps them");
    }
}

#[test]
fn tls_09_a_reload_with_other_settings_opens_fresh_connections() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let other_file = beside(&ours, &other);
    let origin = saying(&ours.issue(&["127.0.0.1"]));
    let listen = free_address();
    let config =
        |group: &str| format!("[server]\nworkers = 1\n\n{}", to(listen, origin.address, group));
    let trusted = config(&trusting(&ours.file, ""));
    let ringgate = Ringgate::start(&trusted);
    let mut client = Client::connect(listen);
    let served = |client: &mut Client, connections: usize| {
        for _ in 0..2 {
            assert_eq!(client.get("/").text(), "secret");
        }
        assert_eq!(origin.shaken().len(), connections);
    };
    served(&mut client, 1);
    ringgate.reload(&trusted);
    served(&mut client, 1);
    ringgate.reload(&config("tls = { verify = false }\n"));
    served(&mut client, 2);
    ringgate.reload(&config(&trusting(&other_file, "")));
    for _ in 0..2 {
        assert_eq!(client.get("/").reason(), "target_tls_failed");
    }
    ringgate.reload(&trusted);
    served(&mut client, 3);
    assert!(origin.shaken().iter().all(|s| !s.resumed), "no session outlives its settings");
    assert!(ringgate.sum("ringgate_target_connects_total", &[]) >= 3.0, "counters go on");
}

#[test]
fn an_authority_that_is_replaced_in_its_file_is_taken_up() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let origin = saying(&ours.issue(&["127.0.0.1"]));
    let (listen, dir) = (free_address(), tempfile::tempdir().unwrap());
    let put = |text: &str| {
        let (file, fresh) = (dir.path().join("trust.pem"), dir.path().join("fresh"));
        std::fs::write(&fresh, text).unwrap();
        std::fs::rename(fresh, file).unwrap();
    };
    let of = |authority: &Authority| std::fs::read_to_string(&authority.file).unwrap();
    put(&of(&ours));
    let config = to(listen, origin.address, &trusting(&dir.path().join("trust.pem"), ""));
    let ringgate = Ringgate::start(&config);
    let mut client = Client::connect(listen);
    assert_eq!(client.get("/").text(), "secret");
    put(&of(&other));
    eventually("the other is trusted", || client.get("/").reason() == "target_tls_failed");
    // What is no certificate is refused, and what was there goes on.
    put("-----BEGIN CERTIFICATE-----\n");
    let refused = || ringgate.output().contains("trust.pem: malformed PEM");
    eventually("it is refused, and said", refused);
    assert_eq!(client.get("/").reason(), "target_tls_failed");
    put(&(of(&ours) + &of(&other)));
    eventually("both are trusted", || client.get("/").text() == "secret");
}

// ---------------------------------------------------------------- probes, PROXY headers, diagnostics

#[test]
fn probes_ask_for_the_same_proof() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let other_file = beside(&ours, &other);
    for kind in ["http", "tcp"] {
        let origin = saying(&ours.issue(&["127.0.0.1"]));
        let health =
            format!("health = {{ type = \"{kind}\", interval = \"50ms\", timeout = \"50ms\" }}\n");
        let listen = free_address();
        let config = |tls: &str| to(listen, origin.address, &format!("{tls}{health}"));
        let ringgate = Ringgate::start(&config(&trusting(&ours.file, "")));
        eventually("it is healthy", || ringgate.target_states() == ["healthy -"]);
        ringgate.reload(&config(&trusting(&other_file, "")));
        let unhealthy = || ringgate.target_states()[0].starts_with("unhealthy ");
        eventually("nobody vouches for it", unhealthy);
        let page = support::ringgate::ask(ringgate.admin(), "/targets").text();
        assert!(page.contains("UnknownIssuer"), "{page}");
        ringgate.reload(&config(&trusting(&ours.file, "")));
        eventually("it is healthy again", || ringgate.target_states() == ["healthy -"]);
    }
}

#[test]
fn the_proxy_header_comes_before_the_handshake() {
    let (authority, dir) = (Authority::new("ca"), tempfile::tempdir().unwrap());
    let (issued, at, listen) = (authority.issue(&["127.0.0.1"]), free_address(), free_address());
    let _nginx = Process::nginx(
        dir.path(),
        at,
        &format!(
            "server {{ listen {at} ssl proxy_protocol; ssl_certificate {}; ssl_certificate_key {};\n\
             location / {{ return 200 '$proxy_protocol_addr $ssl_session_reused'; }} }}",
            issued.cert.display(),
            issued.key.display()
        ),
    );
    let group = trusting(&authority.file, "")
        + "proxy_protocol = \"v2\"\n\
                 health = { type = \"http\", interval = \"100ms\", expect = \"200\" }\n";
    let ringgate = Ringgate::start(&to(listen, at, &group));
    eventually("probes begin with it, too", || ringgate.target_states() == ["healthy -"]);
    let answer = get(listen, "/").text();
    assert!(answer.starts_with("127.0.0.1 "), "{answer}");
}

#[test]
fn what_cannot_work_is_told_with_its_place() {
    let authority = Authority::new("ca");
    let (one, two) = (authority.issue(&["a"]), authority.issue(&["b"]));
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("empty.pem"), "").unwrap();
    let shown = |path: &Path| path.display().to_string();
    let (ca, cert, key) = (shown(&authority.file), shown(&one.cert), shown(&two.key));
    for (tls, expected) in [
        ("{ ca = 'none.pem' }".to_owned(), "a.toml:8:14: group.all.tls.ca: found"),
        ("{ ca = 'none.pem' }".to_owned(), "none.pem: No such file"),
        ("{ ca = 'empty.pem' }".to_owned(), "no certificate in PEM, expected certificates in PEM"),
        (format!("{{ ca = '{key}' }}"), "no certificate in PEM"),
        (
            format!("{{ ca = '{ca}', client_cert = '{cert}', client_key = '{key}' }}"),
            "a key that is not the certificate's, expected the private key of client_cert",
        ),
        (format!("{{ ca = '{ca}', server_name = 'a..b' }}"), "group.all.tls.server_name: found"),
    ] {
        let text = forwarding(free_address(), &[free_address()], &format!("tls = {tls}\n"));
        let file = dir.path().join("a.toml");
        std::fs::write(&file, text.replace("health = { type = \"off\" }\n", "")).unwrap();
        let (code, said) = support::ringgate::command(&["check", "-c", &shown(&file)]);
        assert_eq!(code, 2, "{tls}\n{said}");
        assert!(said.contains(expected), "{tls}\n{said}\n--- without\n{expected}");
        assert_eq!(said.matches("a.toml:").count(), 1, "{said}");
    }
}
