//! Tokens that their issuer is asked about, over real sockets: a Python issuer behind TLS, and issuers that fail in every way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use support::authority::Authority;
use support::process::Process;
use support::{Client, Message, Origin, Ringgate, eventually, free_address, program};

/// An issuer as RFC 7662 has it. Tokens are what the file `tokens` says; each question is a line in `asked`.
const ISSUER: &str = r#"
import base64, http.server, json, ssl, sys, urllib.parse
class Issuer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
        user = base64.b64decode(self.headers["authorization"].split(" ")[1]).decode()
        known = user == "gateway:s%3Acret" and self.headers["content-type"] == "application/x-www-form-urlencoded"
        with open("asked", "a") as asked:
            asked.write(form["token"][0] + "\n")
        found = json.load(open("tokens")).get(form["token"][0], {"active": False})
        body = json.dumps(found).encode()
        self.send_response(200 if known and self.path == "/introspect" else 401)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Issuer)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2], sys.argv[3])
# A connection that does not shake hands, as the one that looks whether it listens, holds up nobody else.
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
"#;

fn config(web: SocketAddr, origin: &Origin, introspect: &str) -> String {
    format!(
        "[log]\naccess = \"./access.log\"\n[[listener]]\nname = \"web\"\nbind = [\"{web}\"]\n\
         [[rule]]\nname = \"free\"\npriority = 1\nforward = \"app\"\nwhen = {{ path = [\"/free\"] }}\n\
         [[rule]]\nname = \"app\"\npriority = 2\npolicy = [\"tokens\"]\nforward = \"app\"\n\
         [policy.tokens.introspect]\n{introspect}\n\
         [group.app]\ntargets = [\"{}\"]\nhealth = {{ type = \"off\" }}\n",
        origin.address
    )
}

fn ask(web: SocketAddr, token: &str) -> Message {
    Client::connect(web).send(head(token)).response()
}

fn head(token: &str) -> String {
    format!(
        "GET /x HTTP/1.1\r\nHost: a.test\r\nX-User: admin\r\nAuthorization: Bearer {token}\r\n\r\n"
    )
}

fn start_issuer(dir: &Path, ca: &Authority) -> (SocketAddr, Process) {
    let address = free_address();
    let own = ca.issue(&["localhost"]);
    std::fs::write(dir.join("issuer.py"), ISSUER).unwrap();
    let mut python = Command::new(program("python3", "python3"));
    python.arg("issuer.py").arg(address.port().to_string()).arg(&own.cert).arg(&own.key);
    (address, Process::start(python, dir, address))
}

#[test]
fn an_issuer_behind_tls_says_who_passes() {
    let (ca, work) = (Authority::new("issuers"), tempfile::tempdir().unwrap());
    let (exp, past) = (4_000_000_000_u64, 1_000_000_000_u64);
    let tokens = serde_json::json!({
        "good-canary": { "active": true, "sub": "u1", "scope": "x read", "exp": exp, "aud": "api" },
        "poor": { "active": true, "sub": "u2", "scope": "x", "exp": exp, "aud": "api" },
        "old": { "active": true, "sub": "u3", "scope": "read", "exp": past, "aud": "api" },
        "others": { "active": true, "sub": "u4", "scope": "read", "exp": exp, "aud": "apis" },
    });
    std::fs::write(work.path().join("tokens"), tokens.to_string()).unwrap();
    let (issuer, _running) = start_issuer(work.path(), &ca);
    let (web, origin) = (free_address(), Origin::echo());
    let introspect = format!(
        "endpoint = \"https://localhost:{}/introspect\"\nclient_id = \"gateway\"\nclient_secret = \"s:cret\"\n\
         ca = \"{}\"\ntimeout = \"10s\"\naudience = \"api\"\nscopes = [\"read\"]\n\
         claims_to_headers = {{ \"x-user\" = \"sub\" }}\n",
        issuer.port(),
        ca.file.display()
    );
    let ringgate = Ringgate::start(&config(web, &origin, &introspect));
    let asked = || std::fs::read_to_string(work.path().join("asked")).unwrap_or_default();
    let mut client = Client::connect(web);
    for _ in 0..5 {
        let answer = client.send(head("good-canary")).response();
        assert_eq!(answer.status(), 200, "{}", answer.text());
        let seen = origin.last();
        assert_eq!((seen.header("x-user"), seen.header("authorization")), (Some("u1"), None));
    }
    assert_eq!(asked(), "good-canary\n", "asked once, and remembered");
    for (token, status, reason) in [
        ("poor", 403, "insufficient_scope"),
        ("old", 401, "token_expired"),
        ("others", 401, "token_invalid"),
        ("unknown", 401, "token_invalid"),
        ("a\tb", 401, "token_invalid"),
    ] {
        let answer = client.send(head(token)).response();
        assert_eq!((answer.status(), answer.reason()), (status, reason), "{token}");
        let told = answer.header("www-authenticate").unwrap();
        assert!(told.starts_with("Bearer error="), "{told}");
    }
    let answer = client.get("/x");
    assert_eq!((answer.status(), answer.reason()), (401, "token_missing"));
    assert_eq!(origin.requests().len(), 5);
    // Hazard AUTH-14: a token and the client's secret are nowhere to be read.
    let log =
        || std::fs::read_to_string(ringgate.dir.path().join("access.log")).unwrap_or_default();
    eventually("the log has the user", || log().contains("\"u1\""));
    for text in [log(), ringgate.metrics(), ringgate.output()] {
        for secret in ["canary", "s:cret", "s%3Acret"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
    // With other settings nothing counts that was remembered (hazard AUTH-22).
    let before = asked().lines().count();
    let changed = format!("{introspect}cache = \"5s\"\n");
    ringgate.reload(&config(web, &origin, &changed));
    assert_eq!(ask(web, "good-canary").status(), 200);
    assert_eq!(asked().lines().count(), before + 1);
}

#[test]
fn a_token_that_is_revoked_passes_no_longer_than_the_file_says() {
    let (ca, work) = (Authority::new("issuers"), tempfile::tempdir().unwrap());
    let tokens = work.path().join("tokens");
    std::fs::write(&tokens, "{\"t\":{\"active\":true}}").unwrap();
    let (issuer, _running) = start_issuer(work.path(), &ca);
    let (web, origin) = (free_address(), Origin::echo());
    let introspect = format!(
        "endpoint = \"https://localhost:{}/introspect\"\nclient_id = \"gateway\"\nclient_secret = \"s:cret\"\n\
         ca = \"{}\"\ntimeout = \"10s\"\ncache = \"500ms\"\ncache_inactive = \"100ms\"",
        issuer.port(),
        ca.file.display()
    );
    let _ringgate = Ringgate::start(&config(web, &origin, &introspect));
    assert_eq!(ask(web, "t").status(), 200);
    std::fs::write(&tokens, "{}").unwrap();
    eventually("it is refused", || ask(web, "t").status() == 401);
    std::fs::write(&tokens, "{\"t\":{\"active\":true}}").unwrap();
    eventually("it passes again", || ask(web, "t").status() == 200);
}

// Hazard AUTH-18.
#[test]
fn auth_18_requests_with_one_token_are_one_question() {
    let (asked, answer) = std::sync::mpsc::channel::<()>();
    let answer = std::sync::Mutex::new(answer);
    let issuer = Origin::script(move |conn| {
        while conn.request()?.is_some() {
            // Held until the test has sent all requests.
            let _ = answer.lock().unwrap().recv_timeout(support::PATIENCE);
            conn.send(
                "HTTP/1.1 200 OK\r\nContent-Length: 28\r\n\r\n{\"active\":true,\"sub\":\"many\"}",
            )?;
        }
        Ok(())
    });
    let (web, origin) = (free_address(), Origin::echo());
    let endpoint = format!("endpoint = \"http://{}/i\"\ntimeout = \"15s\"", issuer.address);
    let ringgate = Ringgate::start(&config(web, &origin, &endpoint));
    let clients: Vec<Client> = (0..40)
        .map(|_| {
            let mut client = Client::connect(web);
            client.send(head("t"));
            client
        })
        .collect();
    eventually("all have asked", || ringgate.metric("ringgate_policy_asks_open") == Some(40.0));
    // Nobody else waits for them.
    assert_eq!(support::get(web, "/free").status(), 200);
    assert_eq!(issuer.requests().len(), 1);
    asked.send(()).unwrap();
    for mut client in clients {
        assert_eq!(client.response().status(), 200);
    }
    assert_eq!(issuer.requests().len(), 1);
    assert_eq!(ringgate.metric("ringgate_policy_calls_shared_total"), Some(39.0));
}

// Hazards AUTH-17 and AUTH-14: whatever the issuer does, nobody passes, it ends in time, and nothing is told of it.
#[test]
fn auth_17_no_failure_of_the_issuer_lets_anybody_pass() {
    let inside = Origin::saying("{\"active\":true}");
    let yes = "{\"active\":true}";
    let ok =
        |body: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let redirect = format!(
        "HTTP/1.1 307 Go\r\nLocation: http://{}/\r\nContent-Length: 0\r\n\r\n",
        inside.address
    );
    let huge = ok(&format!("{{\"active\":true,\"x\":\"{}\"}}", "y".repeat(70_000)));
    let deep =
        ok(&format!("{{\"active\":true,\"x\":{}{}}}", "[".repeat(30_000), "]".repeat(30_000)));
    let long_head = format!("HTTP/1.1 200 OK\r\nX-A: {}\r\n\r\n", "y".repeat(2_000_000));
    let cases: Vec<(&str, String)> = vec![
        ("redirect", redirect),
        ("huge", huge),
        ("deep", deep),
        ("a long head", long_head),
        ("an error", format!("HTTP/1.1 500 No\r\nContent-Length: 15\r\n\r\n{yes}")),
        ("our own credentials", format!("HTTP/1.1 401 No\r\nContent-Length: 15\r\n\r\n{yes}")),
        ("wrong types", ok("{\"active\":\"true\"}")),
        ("twice", ok("{\"active\":false,\"active\":true}")),
        ("a page", ok("<html>")),
        ("nothing", ok("")),
        ("cut short", format!("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{yes}")),
        ("no HTTP", "+OK ready\r\n".to_owned()),
        ("silence", String::new()),
    ];
    let (web, origin) = (free_address(), Origin::echo());
    let down = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ringgate = Ringgate::start(&config(
        web,
        &origin,
        &format!("endpoint = \"http://{down}/secret-path\""),
    ));
    let check = |name: &str| {
        let answer = ask(web, "tok-canary");
        assert_eq!(
            (answer.status(), answer.reason()),
            (503, "authorization_unavailable"),
            "{name}"
        );
        assert!(answer.header("retry-after").is_some());
        assert!(!answer.text().contains("127.0.0.1"), "{}", answer.text());
    };
    check("down");
    for (name, octets) in cases {
        let issuer = Origin::script(move |conn| {
            if conn.request()?.is_some() {
                conn.send(&octets)?;
                if octets.is_empty() {
                    // Until ringgate gives up.
                    let _ = conn.wire.rest();
                }
            }
            Ok(())
        });
        let endpoint =
            format!("endpoint = \"http://{}/secret-path\"\ntimeout = \"2s\"", issuer.address);
        ringgate.reload(&config(web, &origin, &endpoint));
        check(name);
        assert_eq!(support::get(web, "/free").status(), 200, "{name}");
    }
    assert_eq!(inside.requests().len(), 0, "a redirect is not followed");
    assert!(origin.requests().iter().all(|request| request.target() == "/free"));
    let failed = ringgate.metric("ringgate_policy_calls_failed_total").unwrap();
    assert!(failed >= 5.0, "{failed}");
    let output = ringgate.output();
    assert!(output.contains("a service that policies call fails"), "{output}");
    for secret in ["canary", "secret-path"] {
        assert!(!output.contains(secret), "AUTH-14: {secret} in {output}");
    }
}

// Whoever is not whom the file says is no issuer.
#[test]
fn auth_17_an_issuer_that_cannot_prove_who_it_is_is_not_asked() {
    let (ca, other, work) =
        (Authority::new("issuers"), Authority::new("issuers"), tempfile::tempdir().unwrap());
    std::fs::write(work.path().join("tokens"), "{\"t\":{\"active\":true}}").unwrap();
    let (issuer, _running) = start_issuer(work.path(), &ca);
    let (web, origin) = (free_address(), Origin::echo());
    // In one folder, which is what the sandbox lets be read.
    let folder = tempfile::tempdir().unwrap();
    for (name, ca) in [("ca.pem", &ca), ("other.pem", &other)] {
        std::fs::copy(&ca.file, folder.path().join(name)).unwrap();
    }
    let introspect = |host: &str, ca: &str| {
        format!(
            "endpoint = \"https://{host}:{}/introspect\"\nclient_id = \"gateway\"\nclient_secret = \"s:cret\"\n\
             timeout = \"10s\"\nca = \"{}\"",
            issuer.port(),
            folder.path().join(ca).display()
        )
    };
    let ringgate = Ringgate::start(&config(web, &origin, &introspect("localhost", "other.pem")));
    assert_eq!(ask(web, "t").status(), 503, "another authority");
    ringgate.reload(&config(web, &origin, &introspect("127.0.0.1", "ca.pem")));
    assert_eq!(ask(web, "t").status(), 503, "another name");
    assert!(!work.path().join("asked").exists(), "no token was sent");
    ringgate.reload(&config(web, &origin, &introspect("localhost", "ca.pem")));
    assert_eq!(ask(web, "t").status(), 200);
}

#[test]
fn a_client_that_goes_away_takes_nobody_along() {
    let issuer = Origin::script(|conn| {
        while let Some(request) = conn.request()? {
            if String::from_utf8_lossy(&request.body).contains("slow") {
                std::thread::sleep(Duration::from_millis(300));
            }
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"active\":true}")?;
        }
        Ok(())
    });
    let (web, origin) = (free_address(), Origin::echo());
    let endpoint = format!("endpoint = \"http://{}/i\"", issuer.address);
    let mut ringgate = Ringgate::start(&config(web, &origin, &endpoint));
    for number in 0..20 {
        Client::connect(web).send(head(&format!("slow{number}")));
    }
    let before = Instant::now();
    assert_eq!(ask(web, "quick").status(), 200);
    assert!(before.elapsed() < support::PATIENCE);
    eventually("all are answered", || ringgate.metric("ringgate_policy_asks_open") == Some(0.0));
    ringgate.assert_alive();
    assert_eq!(ringgate.sum("ringgate_task_panics_total", &[]), 0.0);
}
