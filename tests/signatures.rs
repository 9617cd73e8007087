//! Signed requests (RFC 9421) over real sockets, signed by a program that shares nothing with what verifies them.
//!
//! The signer is written in Python; its asymmetric keys and signatures are made by openssl.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use serde_json::{Value, json};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};
use support::h2raw::{DATA, END_HEADERS, END_STREAM, H2, WHOLE, request_with};
use support::{Client, Message, Origin, Ringgate, eventually, free_address};

const SECRET: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// Reads one request and a key as JSON, and prints its Signature-Input and Signature.
const SIGNER: &str = r##"
import base64, hashlib, hmac, json, subprocess, sys, tempfile, urllib.parse

task = json.load(sys.stdin)
key, alg = task["key"], task["alg"]

def value(component):
    name, _, parameter = component.partition(";")
    if name == "@method":
        return task["method"]
    if name == "@target-uri":
        return task["scheme"] + "://" + task["authority"] + task["target"]
    if name == "@authority":
        return task["authority"]
    if name == "@scheme":
        return task["scheme"]
    if name == "@request-target":
        return task["target"]
    if name == "@path":
        return task["target"].partition("?")[0]
    if name == "@query":
        return "?" + task["target"].partition("?")[2]
    if name == "@query-param":
        wanted = parameter[len('name="'):-1]
        pairs = urllib.parse.parse_qsl(task["target"].partition("?")[2], keep_blank_values=True)
        return urllib.parse.quote([v for n, v in pairs if n == wanted][0], safe="*-._")
    values = [v.strip() for n, v in task["fields"] if n.lower() == name]
    if parameter == "bs":
        return ", ".join(":" + base64.b64encode(v.encode()).decode() + ":" for v in values)
    return ", ".join(values)

def identifier(component):
    name, semicolon, parameter = component.partition(";")
    return '"' + name + '"' + semicolon + parameter

params = "(" + " ".join(identifier(c) for c in task["covered"]) + ")"
for name, given in task["params"].items():
    params += ";" + name + "=" + (str(given) if isinstance(given, int) else '"' + given + '"')
lines = [identifier(c) + ": " + value(c) for c in task["covered"]]
base = "\n".join(lines + ['"@signature-params": ' + params]).encode()

def openssl(*arguments):
    with tempfile.NamedTemporaryFile() as file:
        file.write(base)
        file.flush()
        command = ["openssl"] + [file.name if a == "FILE" else a for a in arguments]
        return subprocess.run(command, check=True, capture_output=True).stdout

def fixed(der):
    # SEQUENCE { INTEGER r, INTEGER s } as two numbers of 32 octets.
    at, out = 2, b""
    for _ in range(2):
        length = der[at + 1]
        out += der[at + 2:at + 2 + length].lstrip(b"\0").rjust(32, b"\0")
        at += 2 + length
    return out

if alg == "hmac-sha256":
    signature = hmac.new(base64.b64decode(key), base, hashlib.sha256).digest()
elif alg == "ed25519":
    signature = openssl("pkeyutl", "-sign", "-rawin", "-inkey", key, "-in", "FILE")
elif alg == "ecdsa-p256-sha256":
    signature = fixed(openssl("dgst", "-sha256", "-sign", key, "FILE"))
elif alg == "rsa-pss-sha512":
    options = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:64"]
    signature = openssl("dgst", "-sha512", *options, "-sign", key, "FILE")
elif alg == "rsa-v1_5-sha256":
    signature = openssl("dgst", "-sha256", "-sign", key, "FILE")
print("sig1=" + params)
print("sig1=:" + base64.b64encode(signature).decode() + ":")
"##;

/// One request to be signed.
#[derive(Clone)]
struct Task {
    method: &'static str,
    target: String,
    authority: String,
    fields: Vec<(String, String)>,
    covered: Vec<&'static str>,
    alg: &'static str,
    key: String,
    params: Value,
}

impl Task {
    fn get(listen: SocketAddr, target: &str) -> Task {
        Task {
            method: "GET",
            target: target.to_owned(),
            authority: listen.to_string(),
            fields: Vec::new(),
            covered: vec!["@method", "@target-uri"],
            alg: "hmac-sha256",
            key: SECRET.to_owned(),
            params: json!({ "created": now(), "keyid": "shared" }),
        }
    }

    fn post(listen: SocketAddr, body: &str) -> Task {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body.as_bytes());
        let digest = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, digest);
        Task {
            method: "POST",
            fields: vec![("Content-Digest".to_owned(), format!("sha-256=:{digest}:"))],
            covered: vec!["@method", "@target-uri", "content-digest"],
            ..Task::get(listen, "/orders?a=b")
        }
    }

    /// The fields with those of the signature.
    fn sign(&self) -> Vec<(String, String)> {
        let task = json!({
            "method": self.method, "target": self.target, "authority": self.authority, "scheme": "http",
            "fields": self.fields, "covered": self.covered, "alg": self.alg, "key": self.key,
            "params": self.params
        });
        let mut signer = Command::new("python3")
            .args(["-c", SIGNER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        signer.stdin.take().unwrap().write_all(task.to_string().as_bytes()).unwrap();
        let done = signer.wait_with_output().unwrap();
        assert!(done.status.success(), "the signer failed");
        let out = String::from_utf8(done.stdout).unwrap();
        let mut lines = out.lines();
        let mut fields = self.fields.clone();
        for name in ["Signature-Input", "Signature"] {
            fields.push((name.to_owned(), lines.next().unwrap().to_owned()));
        }
        fields
    }

    /// The head, signed, with `more` lines that are not.
    fn head(&self, more: &str) -> String {
        self.head_with(&self.sign(), more)
    }

    fn head_with(&self, fields: &[(String, String)], more: &str) -> String {
        let lines: String = fields.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
        format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\n{lines}{more}\r\n",
            self.method, self.target, self.authority
        )
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

struct Setup {
    ringgate: Ringgate,
    origin: Origin,
    listen: SocketAddr,
    log: PathBuf,
    config: String,
}

impl Setup {
    fn start(hmac: &str, keys: &str) -> Setup {
        let (origin, listen) = (Origin::saying("ok"), free_address());
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("access.log");
        std::fs::write(dir.path().join("keys.toml"), keys).unwrap();
        let config = format!(
            "[log]\naccess = \"{}\"\n[server]\nworkers = 2\n\
             [[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\n\
             [[rule]]\nname = \"api\"\npolicy = [\"signed\"]\nforward = \"o\"\n\
             [group.o]\ntargets = [\"{}\"]\nhealth = {{ type = \"off\" }}\n\
             [policy.signed.hmac]\nheader = \"X-Consumer\"\n{hmac}\n\
             keys = [{{ id = \"shared\", algorithm = \"hmac-sha256\", secret = \"{SECRET}\", consumer = \"partner\" }}]\n",
            log.display(),
            origin.address
        );
        let ringgate = Ringgate::start_in(dir, &config);
        Setup { ringgate, origin, listen, log, config }
    }

    #[track_caller]
    fn ask(&self, request: &str) -> Message {
        let method = request.split(' ').next().unwrap();
        Client::connect(self.listen).send(request).response_to(method)
    }

    fn record(&self, count: usize) -> Value {
        let read = || std::fs::read_to_string(&self.log).unwrap_or_default();
        eventually("the record is written", || read().lines().count() >= count);
        serde_json::from_str(read().lines().last().unwrap()).unwrap()
    }
}

#[track_caller]
fn assert_refused(answer: &Message, reason: &str, part: &str) {
    assert_eq!((answer.status(), answer.reason()), (401, reason), "{}", answer.text());
    assert!(answer.text().contains(part), "{}", answer.text());
    assert_eq!(answer.header("www-authenticate"), Some("Signature"));
    assert!(answer.header("accept-signature").unwrap().contains("\"@method\""));
}

/// Makes a key pair; the private key's path and the public key in PEM.
fn generate(dir: &Path, arguments: &[&str]) -> (String, String) {
    let path = dir.join(format!("{}.pem", fastrand::u64(..)));
    let path = path.to_str().unwrap().to_owned();
    let run = |arguments: &[&str]| {
        let done = Command::new("openssl").args(arguments).output().expect("openssl runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    run(&[&["genpkey", "-out", &path], arguments].concat());
    let public = run(&["pkey", "-in", &path, "-pubout"]);
    (path, public)
}

#[test]
fn signatures_of_every_algorithm_are_taken_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let rsa = generate(dir.path(), &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
    let ed = generate(dir.path(), &["-algorithm", "ED25519"]);
    let ec = generate(dir.path(), &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    let all = [
        ("ed25519", &ed),
        ("ecdsa-p256-sha256", &ec),
        ("rsa-pss-sha512", &rsa),
        ("rsa-v1_5-sha256", &rsa),
    ];
    let keys: String = all
        .iter()
        .map(|(alg, (_, public))| {
            format!(
                "[[key]]\nid = \"of {alg}\"\nalgorithm = \"{alg}\"\npublic_key = '''{public}'''\n"
            )
        })
        .collect();
    let setup = Setup::start("file = \"keys.toml\"", &keys);
    let mut tasks = vec![(Task::post(setup.listen, "{}"), "partner".to_owned())];
    for (alg, (private, _)) in all {
        let mut task = Task { alg, key: private.clone(), ..Task::post(setup.listen, "{}") };
        task.params = json!({ "created": now(), "keyid": format!("of {alg}"), "alg": alg });
        tasks.push((task, format!("of {alg}")));
    }
    for (count, (task, consumer)) in tasks.iter().enumerate() {
        let signed = task.head("X-Consumer: forged\r\nContent-Length: 2\r\n") + "{}";
        assert_eq!(setup.ask(&signed).status(), 200, "{consumer}");
        assert_eq!(setup.origin.last().header("x-consumer"), Some(consumer.as_str()));
        assert_eq!(setup.record(count + 1)["consumer"], json!(consumer));
    }
    // The signature of one algorithm under the key of another.
    let task = tasks.iter().find(|(task, _)| task.alg == "rsa-pss-sha512").unwrap().0.clone();
    let head = task.head("").replace("of rsa-pss-sha512", "of rsa-v1_5-sha256");
    assert_refused(&setup.ask(&head), "signature_invalid", "another algorithm");
    let mut unnamed = task;
    unnamed.params = json!({ "created": now(), "keyid": "of rsa-v1_5-sha256" });
    assert_refused(&setup.ask(&unnamed.head("")), "signature_invalid", "verifies");
    let said = setup.ringgate.output() + &setup.ringgate.metrics();
    assert!(!said.contains(SECRET));
}

// Hazard AUTH-12: no variant of a request comes past it.
#[test]
fn what_was_signed_is_what_passes() {
    let setup = Setup::start("", "");
    let task = Task::post(setup.listen, "{\"n\": 1}");
    let fields = task.sign();
    let right = |more: &str| task.head_with(&fields, more);
    let chunks = "Transfer-Encoding: chunked\r\n";
    assert_eq!(setup.ask(&(right("Content-Length: 8\r\n") + "{\"n\": 1}")).status(), 200);
    let split = "2\r\n{\"\r\n6\r\nn\": 1}\r\n0\r\n\r\n";
    assert_eq!(setup.ask(&(right(chunks) + split)).status(), 200);
    for (change, part) in [
        (right("Content-Length: 8\r\n") + "{\"n\": 2}", "Content-Digest"),
        (right("Content-Length: 7\r\n") + "{\"n\": 1", "Content-Digest"),
        (right(chunks) + "1\r\n{\r\n0\r\n\r\n", "Content-Digest"),
        (right("Content-Length: 0\r\n"), "Content-Digest"),
        (right("").replacen("POST", "PUT", 1), "verifies"),
        (right("").replacen("/orders", "/order", 1), "verifies"),
        (right("").replacen("?a=b", "?a=b&c=d", 1), "verifies"),
        (right("").replacen("?a=b", "", 1), "verifies"),
        (right("").replacen("Host: 127", "Host: 128", 1), "verifies"),
        (right("").replacen("HTTP/1.1\r\nHost:", "HTTP/1.0\r\nHost:", 1), "Content-Digest"),
        (right("Content-Digest: sha-256=:AAAA:\r\n"), "verifies"),
        (right("").replacen("sig1=(", "sig2=(", 1), "No signature"),
    ] {
        let reason = if part == "No signature" { "signature_missing" } else { "signature_invalid" };
        assert_refused(&setup.ask(&change), reason, part);
    }
    assert_eq!(setup.origin.requests().len(), 2);
    for method in ["GET", "OPTIONS", "HEAD", "DELETE"] {
        let plain = format!("{method} /orders HTTP/1.1\r\nHost: a.test\r\n\r\n");
        let answer = setup.ask(&plain);
        assert_eq!((answer.status(), answer.reason()), (401, "signature_missing"), "{method}");
    }
    let preflight = "OPTIONS / HTTP/1.1\r\nHost: a.test\r\nOrigin: http://b.test\r\n\
                     Access-Control-Request-Method: GET\r\n\r\n";
    assert_eq!(setup.ask(preflight).status(), 401, "nothing here answers preflights");
    let mut h2 = H2::open(setup.listen);
    h2.get(1, "/orders");
    assert_eq!(h2.outcome(1).answer().status(), 401);
    assert_eq!(setup.origin.requests().len(), 2);
}

#[test]
fn targets_are_signed_as_they_are_sent() {
    let setup = Setup::start("", "");
    let targets =
        ["/", "/a/./b/../c?x=%20y+z", "/%7Ea%41//b", "/a?", "/a?b?c=d&&e", "/*-._~!$&'()+,;=:@"];
    for target in targets {
        for covered in [
            vec!["@method", "@target-uri"],
            vec!["@method", "@authority", "@path", "@query", "@scheme"],
            vec!["@request-target", "@authority", "@method"],
        ] {
            let task = Task { covered, ..Task::get(setup.listen, target) };
            let answer = setup.ask(&task.head(""));
            assert_eq!(answer.status(), 200, "{target} {:?}: {}", task.covered, answer.text());
        }
    }
    let parameters = Task {
        covered: vec!["@method", "@target-uri", "@query-param;name=\"p\"", "x-a;bs", "x-a"],
        fields: vec![("X-A".to_owned(), " 1 ".to_owned()), ("x-a".to_owned(), "2".to_owned())],
        ..Task::get(setup.listen, "/a?q=1&p=b%20+%C3%A9*")
    };
    assert_eq!(setup.ask(&parameters.head("")).status(), 200);
    let absolute = Task::get(setup.listen, "/abs?x=1");
    let fields = absolute.sign();
    let head = absolute.head_with(&fields, "");
    let whole = format!("GET http://{}/abs?x=1 ", setup.listen);
    assert_eq!(setup.ask(&head.replacen("GET /abs?x=1 ", &whole, 1)).status(), 200);
}

#[test]
fn http2_requests_are_signed_as_any() {
    let setup = Setup::start("", "");
    let authority = setup.listen.to_string();
    let mut h2 = H2::open(setup.listen);
    let mut ask = |stream: u32, task: &Task, path: &str, body: &str| {
        let signed = task.sign();
        let mut fields: Vec<(String, String)> =
            signed.iter().map(|(n, v)| (n.to_ascii_lowercase(), v.clone())).collect();
        let pseudo = [
            (":method", task.method),
            (":scheme", "http"),
            (":path", path),
            (":authority", &authority),
        ];
        let mut all: Vec<(String, String)> =
            pseudo.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        all.append(&mut fields);
        if body.is_empty() {
            h2.head(stream, WHOLE, &all);
        } else {
            h2.head(stream, END_HEADERS, &all);
            for octet in body.as_bytes() {
                h2.frame(DATA, 0, stream, [*octet]);
            }
            h2.frame(DATA, END_STREAM, stream, "");
        }
        h2.outcome(stream).answer().status()
    };
    assert_eq!(ask(1, &Task::get(setup.listen, "/a?b=c"), "/a?b=c", ""), 200);
    assert_eq!(ask(3, &Task::get(setup.listen, "/a?b=c"), "/a?b=d", ""), 401);
    let post = Task::post(setup.listen, "{\"n\": 1}");
    assert_eq!(ask(5, &post, "/orders?a=b", "{\"n\": 1}"), 200);
    assert_eq!(ask(7, &post, "/orders?a=b", "{\"n\": 2}"), 401);
    assert_eq!(setup.origin.last().text(), "{\"n\": 1}");
}

#[test]
fn a_nonce_passes_once_on_all_cores_and_across_reloads() {
    let setup = Setup::start("nonce = \"required\"", "");
    let signed = |nonce: &str| {
        let mut task = Task::get(setup.listen, "/a");
        task.params = json!({ "created": now(), "keyid": "shared", "nonce": nonce });
        task.head("")
    };
    let bare = Task::get(setup.listen, "/a").head("");
    assert_refused(&setup.ask(&bare), "signature_invalid", "no nonce");
    let head = signed("n1");
    // Each on a connection of its own: they spread over the workers.
    let mut clients: Vec<Client> = (0..16).map(|_| Client::connect(setup.listen)).collect();
    clients.iter_mut().for_each(|client| {
        client.send(&head);
    });
    let passed = clients.iter_mut().filter_map(|c| (c.response().status() == 200).then_some(()));
    let passed = passed.count();
    assert!(passed <= 1, "{passed} of 16 passed");
    assert_eq!(setup.ask(&signed("n2")).status(), 200);
    let head = signed("n3");
    assert_eq!(setup.ask(&head).status(), 200);
    assert_refused(&setup.ask(&head), "signature_invalid", "used before");
    setup.ringgate.reload(&setup.config.replace("\"required\"", "\"optional\"\nnonces = 5000"));
    assert_refused(&setup.ask(&head), "signature_invalid", "used before");
    assert_eq!(setup.ask(&signed("n4")).status(), 200);
}

#[test]
fn an_old_signature_is_refused_and_keys_change_with_a_reload() {
    let key = |secret: &str| {
        format!("[[key]]\nid = \"k2\"\nalgorithm = \"hmac-sha256\"\nsecret = \"{secret}\"\n")
    };
    let setup =
        Setup::start("file = \"keys.toml\"\nmax_age = \"60s\"\nskew = \"0s\"", &key(SECRET));
    let with = |keyid: &str, created: u64| {
        let mut task = Task::get(setup.listen, "/a");
        task.params = json!({ "created": created, "keyid": keyid });
        task.head("")
    };
    assert_eq!(setup.ask(&with("k2", now())).status(), 200);
    assert_refused(&setup.ask(&with("k2", now() - 100)), "signature_invalid", "too old");
    assert_refused(&setup.ask(&with("k2", now() + 100)), "signature_invalid", "in the future");
    assert_refused(&setup.ask(&with("k3", now())), "signature_invalid", "known key");
    let path = setup.ringgate.path().with_file_name("keys.toml");
    let reloads = setup.ringgate.reloads("ok");
    std::fs::write(&path, key(SECRET).replace("k2", "k3")).unwrap();
    setup.ringgate.signal(rustix::process::Signal::HUP);
    eventually("it is reloaded", || setup.ringgate.reloads("ok") > reloads);
    assert_eq!(setup.ask(&with("k3", now())).status(), 200);
    assert_refused(&setup.ask(&with("k2", now())), "signature_invalid", "known key");
    // A file that cannot be used is refused, says why, and quotes no secret.
    std::fs::write(&path, key(SECRET).replace("secret = \"", "secret = ")).unwrap();
    setup.ringgate.signal(rustix::process::Signal::HUP);
    eventually("the reload is refused", || setup.ringgate.output().contains("keys.toml"));
    assert!(!setup.ringgate.output().contains(SECRET), "{}", setup.ringgate.output());
    assert_eq!(setup.ask(&with("k3", now())).status(), 200);
}

// Hazards H1-18 and RL-09: the bodies of those who have not signed are not collected, and not read as requests either.
#[test]
fn bodies_of_the_unsigned_are_not_waited_for() {
    let setup = Setup::start("", "");
    let expect = "POST /orders HTTP/1.1\r\nHost: a.test\r\nContent-Length: 50\r\n\
                  Expect: 100-continue\r\n\r\n";
    let mut client = Client::connect(setup.listen);
    assert_refused(&client.send(expect).response(), "signature_missing", "No signature");
    client.expect_closed();
    let hidden = "GET /hidden HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let length = hidden.len();
    let post =
        format!("POST /a HTTP/1.1\r\nHost: a.test\r\nContent-Length: {length}\r\n\r\n{hidden}");
    let mut client = Client::connect(setup.listen);
    client.send(format!("{post}{post}"));
    for _ in 0..2 {
        assert_refused(&client.response_to("POST"), "signature_missing", "No signature");
    }
    let task = Task::get(setup.listen, "/after");
    assert_eq!(client.send(task.head("")).response().status(), 200, "the connection goes on");
    // A signed one that is too large ends it.
    let mut client = Client::connect(setup.listen);
    let large = Task::post(setup.listen, "x").head("Content-Length: 2000000\r\n");
    let answer = client.send(large).response_to("POST");
    assert_eq!((answer.status(), answer.reason()), (413, "body_too_large"));
    client.expect_closed();
    let mut h2 = H2::open(setup.listen);
    h2.head(1, END_HEADERS, &request_with("POST", "/a", &[]));
    h2.frame(DATA, 0, 1, "x");
    assert_eq!(h2.outcome(1).answer().status(), 401, "before its body has ended");
    assert_eq!(setup.origin.requests().len(), 1);
}
