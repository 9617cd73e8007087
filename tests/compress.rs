//! Content codings between real clients and scripted origins: who gets which, what of the head changes with it, and that nothing is
//! held back. And bodies that move no faster than their rule says.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};
use support::{Client, Message, Origin, PATIENCE, Ringgate, free_address, program};

/// Text that compresses as JSON does.
fn text(len: usize) -> String {
    let mut text = String::new();
    let mut rng = fastrand::Rng::with_seed(11);
    while text.len() < len {
        text += &format!("{{\"id\":{},\"name\":\"n{}\"}},\n", rng.u32(..), rng.u8(..));
    }
    text.truncate(len);
    text
}

fn coded(coding: &str, body: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            gzip.write_all(body).unwrap();
            gzip.finish().unwrap()
        }
        "br" => {
            let mut out = Vec::new();
            brotli::CompressorReader::new(body, 4096, 5, 22).read_to_end(&mut out).unwrap();
            out
        }
        "zstd" => zstd::encode_all(body, 3).unwrap(),
        _ => body.to_vec(),
    }
}

#[track_caller]
fn decoded(message: &Message) -> String {
    let body = message.body.as_slice();
    let mut out = Vec::new();
    match message.header("content-encoding") {
        None => out.extend_from_slice(body),
        Some("gzip") => drop(flate2::read::GzDecoder::new(body).read_to_end(&mut out).unwrap()),
        Some("br") => drop(brotli::Decompressor::new(body, 4096).read_to_end(&mut out).unwrap()),
        Some("zstd") => out = zstd::decode_all(body).unwrap(),
        Some(other) => panic!("{other}"),
    }
    String::from_utf8(out).unwrap()
}

/// Answers each request with the fields and the body that `answer` gives for its target.
fn answering(answer: impl Fn(&Message) -> (String, Vec<u8>) + Send + Sync + 'static) -> Origin {
    Origin::script(move |conn| {
        while let Some(request) = conn.request()? {
            let (fields, body) = answer(&request);
            let (status, fields) = fields.split_once('\n').unwrap_or((&fields, ""));
            let mut out = format!("HTTP/1.1 {status} X\r\n").into_bytes();
            for line in fields.lines().filter(|line| !line.is_empty()) {
                out.extend_from_slice(format!("{line}\r\n").as_bytes());
            }
            let silent = status == "304" || status == "204";
            if !silent {
                out.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
            }
            out.extend_from_slice(b"\r\n");
            if request.method() != "HEAD" && !silent {
                out.extend_from_slice(&body);
            }
            conn.send(out)?;
        }
        Ok(())
    })
}

fn config(listen: SocketAddr, target: SocketAddr, rule: &str) -> String {
    format!(
        "[[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\n\n[[rule]]\nname = \"all\"\n\
         forward = \"all\"\n{rule}\n\n[group.all]\ntargets = [\"{target}\"]\nhealth = {{ type = \"off\" }}\n"
    )
}

fn started(origin: &Origin, rule: &str) -> (Ringgate, SocketAddr) {
    let listen = free_address();
    (Ringgate::start(&config(listen, origin.address, rule)), listen)
}

#[track_caller]
fn ask(to: SocketAddr, request: &str, fields: &str) -> Message {
    let method = request.split(' ').next().unwrap();
    let lines: String = fields.lines().map(|line| format!("{line}\r\n")).collect();
    let head = format!("{request} HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n");
    Client::connect(to).send(head).response_to(method)
}

#[track_caller]
fn run(command: &mut Command) -> Vec<u8> {
    let done = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{command:?}: {said}");
    done.stdout
}

const JSON: &str = "200\nContent-Type: application/json";

#[test]
fn real_clients_read_what_they_asked_for() {
    let body = text(150_000);
    let small = text(3000);
    let sent = (body.clone(), small.clone());
    let origin = answering(move |request| {
        let body = if request.target() == "/small" { &sent.1 } else { &sent.0 };
        (JSON.to_owned(), body.clone().into_bytes())
    });
    let (ringgate, listen) = started(&origin, "compress = true");
    let curl = program("curl", "curl");
    let can = String::from_utf8(run(Command::new(&curl).arg("--version"))).unwrap();
    for (coding, feature) in [("gzip", "libz"), ("br", "brotli"), ("zstd", "zstd")] {
        if !can.contains(feature) {
            eprintln!("SKIPPED: this curl does not read {coding}");
            continue;
        }
        for protocol in ["--http1.1", "--http1.0", "--http2-prior-knowledge"] {
            for (path, expected) in [("big", &body), ("small", &small)] {
                let got = run(Command::new(&curl)
                    .args(["-sS", "-m", "20", "--compressed", protocol, "-w", "%{size_download}"])
                    .args(["-H", &format!("Accept-Encoding: {coding}")])
                    .arg(format!("http://{listen}/{path}")));
                let got = String::from_utf8(got).unwrap();
                let (got, size) = got.split_at(expected.len());
                assert!(got == expected, "{coding} {protocol} {path}");
                let size: usize = size.parse().unwrap();
                assert!(size < expected.len() / 2, "{coding} {protocol} {path}: {size} octets");
            }
        }
    }
    let script = format!(
        "const r = await fetch('http://{listen}/big', {{ headers: {{ 'accept-encoding': 'br, gzip' }} }});
         const text = await r.text();
         console.log(r.headers.get('content-encoding'), text.length);"
    );
    let said =
        run(Command::new(program("node", "nodejs")).args(["--input-type=module", "-e", &script]));
    assert_eq!(String::from_utf8(said).unwrap(), "br 150000\n");
    let of = |coding| ringgate.sum("ringgate_compressed_responses_total", &[coding]);
    assert!(of("coding=\"gzip\"") >= 6.0 && of("coding=\"br\"") >= 1.0);
    let octets =
        |name: &str| ringgate.sum(&format!("ringgate_compression_{name}_bytes_total"), &[]);
    assert!(octets("in") > 2.0 * octets("out") && octets("out") > 0.0);
}

#[test]
fn the_head_says_what_became_of_the_body() {
    let origin = answering(|request| {
        let len: usize = request.target().trim_start_matches('/').parse().unwrap();
        let fields = "\nETag: \"v1\"\nAccept-Ranges: bytes\nVary: Origin\nContent-MD5: x\n\
                      Repr-Digest: sha-256=:x:\nDigest: sha-256=x\nX-Other: stays";
        (format!("{JSON}{fields}"), text(len).into_bytes())
    });
    let (_ringgate, listen) = started(&origin, "compress = true");
    for (len, known) in [(2000, true), (400_000, false)] {
        let got = ask(listen, &format!("GET /{len}"), "Accept-Encoding: gzip");
        assert_eq!(decoded(&got), text(len));
        assert_eq!(got.header("content-encoding"), Some("gzip"));
        assert_eq!(got.header("etag"), Some("W/\"v1\""));
        assert_eq!(got.all("vary"), ["Origin", "accept-encoding"]);
        assert_eq!(got.header("x-other"), Some("stays"));
        for gone in ["accept-ranges", "content-md5", "repr-digest", "digest"] {
            assert_eq!(got.header(gone), None, "{gone}");
        }
        let length = got.header("content-length").map(|length| length.parse().unwrap());
        assert_eq!(length, known.then_some(got.body.len()), "a short one has its length");
        let head = ask(listen, &format!("HEAD /{len}"), "Accept-Encoding: gzip");
        let but_length = |message: &Message| {
            let framing = |name: &str| {
                ["content-length", "transfer-encoding", "date"]
                    .iter()
                    .any(|known| known.eq_ignore_ascii_case(name))
            };
            let mut fields = message.headers.clone();
            fields.retain(|(name, _)| !framing(name));
            fields
        };
        assert_eq!(but_length(&head), but_length(&got), "HEAD is told what GET is");
        assert_eq!(head.header("content-length"), None);
        let plain = ask(listen, &format!("GET /{len}"), "");
        assert_eq!(plain.text(), text(len));
        assert_eq!(
            (plain.header("etag"), plain.header("accept-ranges")),
            (Some("\"v1\""), Some("bytes"))
        );
        assert_eq!(plain.all("vary"), ["Origin", "accept-encoding"], "caches must know");
    }
    let short = ask(listen, "GET /1023", "Accept-Encoding: gzip");
    assert_eq!((short.header("content-encoding"), short.all("vary").len()), (None, 1));
}

#[test]
fn what_must_stay_as_it_is_stays() {
    let cases: &[(&str, &str, &str)] = &[
        ("coded already", "200\nContent-Type: text/html\nContent-Encoding: br", ""),
        ("of an unknown coding", "200\nContent-Type: text/html\nContent-Encoding: x", ""),
        ("not to be transformed", "200\nContent-Type: text/html\nCache-Control: no-transform", ""),
        ("asked not to be", "200\nContent-Type: text/html", "Cache-Control: no-transform"),
        (
            "a part",
            "206\nContent-Type: text/html\nContent-Range: bytes 0-2999/9000",
            "Range: bytes=0-2999",
        ),
        ("another type", "200\nContent-Type: image/png", ""),
        ("no type", "200", ""),
        ("events", "200\nContent-Type: text/event-stream", ""),
    ];
    let origin = answering(|request| {
        let at: usize = request.target().trim_start_matches('/').parse().unwrap();
        (format!("{}\nETag: \"x\"", CASES.lock().unwrap()[at]), text(3000).into_bytes())
    });
    static CASES: Mutex<Vec<String>> = Mutex::new(Vec::new());
    CASES.lock().unwrap().extend(cases.iter().map(|(_, answer, _)| (*answer).to_owned()));
    let (_ringgate, listen) = started(&origin, "compress = true");
    for (at, (what, answer, asked)) in cases.iter().enumerate() {
        let got = ask(listen, &format!("GET /{at}"), &format!("Accept-Encoding: gzip\n{asked}"));
        assert_eq!(got.body, text(3000).as_bytes(), "{what}");
        assert_eq!(got.header("etag"), Some("\"x\""), "{what}");
        assert_eq!(got.header("content-length"), Some("3000"), "{what}");
        assert_eq!(got.header("vary"), None, "{what}");
        let coding = answer.split_once("Content-Encoding: ").map(|(_, coding)| coding);
        assert_eq!(got.header("content-encoding"), coding, "{what}");
        assert_eq!(got.status().to_string(), answer[..3], "{what}");
    }
}

#[test]
fn a_rule_goes_before_its_listener_and_secrets_can_be_left_out() {
    let origin = answering(|request| match request.target() {
        "/sets" => (format!("{JSON}\nSet-Cookie: a=b"), text(3000).into_bytes()),
        _ => (JSON.to_owned(), text(3000).into_bytes()),
    });
    let (listen, target) = (free_address(), origin.address);
    let rule = |name: &str, more: &str| {
        format!(
            "[[rule]]\nname = \"{name}\"\nforward = \"all\"\nwhen = {{ path = [\"/{name}\"] }}\n{more}\n"
        )
    };
    let _ringgate = Ringgate::start(&format!(
        "[[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\ndefault = {{ forward = \"all\" }}\ncompress = true\n\
         {}{}{}{}{}[group.all]\ntargets = [\"{target}\"]\nhealth = {{ type = \"off\" }}\n",
        rule("inherits", ""),
        rule("off", "compress = false"),
        rule("only", "compress = { algorithms = [\"br\"] }"),
        rule("secret", "compress = { private = false }"),
        rule("sets", "compress = { private = false }"),
    ));
    for (path, fields, coding) in [
        ("/inherits", "Accept-Encoding: gzip, br", Some("br")),
        ("/by-default", "Accept-Encoding: gzip", Some("gzip")),
        ("/off", "Accept-Encoding: gzip", None),
        ("/only", "Accept-Encoding: gzip", None),
        ("/only", "Accept-Encoding: gzip, br;q=0.1", Some("br")),
        ("/secret", "Accept-Encoding: gzip", Some("gzip")),
        ("/secret", "Accept-Encoding: gzip\nCookie: a=b", None),
        ("/secret", "Accept-Encoding: gzip\nAuthorization: Basic eDp5", None),
        ("/sets", "Accept-Encoding: gzip", None),
        ("/inherits", "Accept-Encoding: gzip\nCookie: a=b", Some("gzip")),
        ("/inherits", "Accept-Encoding: gzip;q=0", None),
        ("/inherits", "Accept-Encoding: gzip;q=0.5\nAccept-Encoding: zstd;q=0.6", Some("zstd")),
    ] {
        let got = ask(listen, &format!("GET {path}"), fields);
        assert_eq!(got.header("content-encoding"), coding, "{path} {fields}");
        assert_eq!(decoded(&got), text(3000));
    }
}

#[test]
fn own_answers_are_compressed_as_others_are() {
    let listen = free_address();
    let body = text(60_000).replace(['\n', '\''], "");
    let _ringgate = Ringgate::start(&format!(
        "[[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\ncompress = true\n\n[[rule]]\nname = \"fixed\"\n\
         respond = {{ status = 200, content_type = \"application/json\", headers = {{ etag = '\"v1\"' }}, body = '{body}' }}\n"
    ));
    for coding in ["gzip", "br", "zstd"] {
        let accepts = format!("Accept-Encoding: {coding}");
        let got = ask(listen, "GET /", &accepts);
        assert_eq!((got.header("content-encoding"), decoded(&got)), (Some(coding), body.clone()));
        assert_eq!(
            (got.header("etag"), got.header("vary")),
            (Some("W/\"v1\""), Some("accept-encoding"))
        );
        let head = ask(listen, "HEAD /", &accepts);
        assert_eq!(head.header("content-length"), Some(got.body.len().to_string().as_str()));
    }
    let plain = ask(listen, "GET /", "");
    assert_eq!((plain.text(), plain.header("etag")), (body, Some("\"v1\"")));
}

/// RFC 9110 section 15.4.5: a 304 says of the representation what its 200 would.
#[test]
fn an_own_304_has_the_tag_and_the_vary_of_its_200() {
    let dir = tempfile::tempdir().unwrap();
    let mut rules = String::new();
    for (name, len) in [("large.json", 3000), ("small.json", 300), ("large.bin", 3000)] {
        let path = dir.path().join(name);
        std::fs::write(&path, text(len)).unwrap();
        rules += &format!(
            "[[rule]]\nname = '{name}'\nwhen = {{ path = '/{name}' }}\nrespond = {{ file = '{}' }}\n",
            path.display()
        );
    }
    let listen = free_address();
    let _ringgate = Ringgate::start(&format!(
        "[[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\ncompress = true\n{rules}"
    ));
    for (path, accepts) in [
        ("/large.json", "Accept-Encoding: gzip"),
        ("/large.json", "Accept-Encoding: identity"),
        ("/small.json", "Accept-Encoding: gzip"),
        ("/large.bin", "Accept-Encoding: gzip"),
    ] {
        let whole = ask(listen, &format!("GET {path}"), accepts);
        let tag = whole.header("etag").unwrap().to_owned();
        let weak = accepts.ends_with("gzip") && path == "/large.json";
        assert_eq!((whole.status(), tag.starts_with("W/")), (200, weak), "{path} {accepts}");
        let known = format!("{accepts}\nIf-None-Match: {tag}");
        let same = ask(listen, &format!("GET {path}"), &known);
        assert_eq!(
            (same.status(), same.all("etag")),
            (304, vec![tag.as_str()]),
            "{path} {accepts}"
        );
        assert_eq!(same.all("vary"), whole.all("vary"), "{path} {accepts}");
    }
}

#[test]
fn validators_go_both_ways() {
    let origin = answering(|request| {
        // As servers compare them: weakly for If-None-Match, strongly for If-Match.
        let none_match = request.header("if-none-match").unwrap_or_default().replace("W/", "");
        let fits = |list: &str| list.split(',').any(|tag| tag.trim() == "\"v1\"");
        let fits = request.header("if-match").is_none_or(fits);
        let status = match (none_match.as_str(), fits) {
            ("\"v1\"", _) => "304\nContent-Type: application/json\nVary: Origin",
            (_, false) => "412",
            _ => JSON,
        };
        (format!("{status}\nETag: \"v1\""), text(3000).into_bytes())
    });
    let (_ringgate, listen) = started(&origin, "compress = true");
    let got = ask(listen, "GET /", "Accept-Encoding: gzip");
    let tag = got.header("etag").unwrap().to_owned();
    assert_eq!(tag, "W/\"v1\"");
    let again = ask(listen, "GET /", &format!("Accept-Encoding: gzip\nIf-None-Match: {tag}"));
    assert_eq!((again.status(), again.header("etag")), (304, Some("W/\"v1\"")));
    assert_eq!(again.all("vary"), ["Origin", "accept-encoding"]);
    let plain = ask(listen, "GET /", "If-None-Match: \"v1\"");
    assert_eq!((plain.status(), plain.header("etag")), (304, Some("\"v1\"")));
    // An edit of what was read compressed reaches the target with the target's own tag.
    let body = "Content-Length: 0";
    let edited = ask(listen, "PUT /", &format!("If-Match: {tag}\n{body}"));
    let both = ["W/\"v1\", \"v1\""];
    assert_eq!((edited.status(), origin.last().all("if-match")), (200, both.to_vec()));
    // Of several lines none is lost, and a weak tag may be the target's own.
    let lines = format!("If-Match: \"v0\"\nIf-Match: {tag}, W/\"w\"\n{body}");
    assert_eq!(ask(listen, "PUT /", &lines).status(), 200);
    let all = ["\"v0\", W/\"v1\", \"v1\", W/\"w\", \"w\""];
    assert_eq!(origin.last().all("if-match"), all);
    let stale = ask(listen, "PUT /", &format!("If-Match: W/\"v0\"\n{body}"));
    assert_eq!(stale.status(), 412);
}

#[test]
fn targets_are_left_to_think_what_the_rule_says() {
    let origin = answering(|_| (JSON.to_owned(), text(3000).into_bytes()));
    let (_ringgate, listen) = started(&origin, "compress = true");
    ask(listen, "GET /", "Accept-Encoding: gzip");
    assert_eq!(origin.last().header("accept-encoding"), Some("gzip"));
    let (_ringgate, listen) = started(&origin, "compress = { offload = true }");
    let got = ask(listen, "GET /", "Accept-Encoding: gzip");
    // To say nothing would be to take any (RFC 9110 section 12.5.3).
    assert_eq!(origin.last().all("accept-encoding"), ["identity"]);
    assert_eq!(got.header("content-encoding"), Some("gzip"));
    let both = "compress = { offload = true }\nresponse = { json = { remove = ['x'] } }";
    let (_ringgate, listen) = started(&origin, both);
    ask(listen, "GET /", "Accept-Encoding: gzip");
    assert_eq!(origin.last().all("accept-encoding"), ["identity"], "once");
    let own = "request = { headers = { set = { accept-encoding = 'br' } } }";
    let (_ringgate, listen) = started(&origin, &format!("{both}\n{own}"));
    ask(listen, "GET /", "Accept-Encoding: gzip");
    assert_eq!(origin.last().all("accept-encoding"), ["br"], "as the file says");
}

#[test]
fn what_a_client_does_not_take_is_decompressed_for_it() {
    let origin = answering(|request| {
        let coding = request.target().trim_start_matches('/');
        let body =
            coding.split(',').fold(text(100_000).into_bytes(), |body, one| coded(one, &body));
        (format!("{JSON}\nETag: \"v1\"\nContent-Encoding: {coding}"), body)
    });
    let (ringgate, listen) = started(&origin, "compress = { decompress = true }");
    for coding in ["gzip", "br", "zstd", "gzip,br"] {
        for fields in ["Accept-Encoding: identity", "Accept-Encoding:"] {
            let got = ask(listen, &format!("GET /{coding}"), fields);
            assert_eq!(got.header("content-encoding"), None, "{coding}");
            assert_eq!(got.text(), text(100_000), "{coding}");
            assert_eq!(got.header("etag"), Some("W/\"v1\""));
            assert_eq!(got.header("vary"), Some("accept-encoding"));
        }
        let as_it_is = ask(listen, &format!("GET /{coding}"), "");
        assert_eq!(as_it_is.header("content-encoding"), Some(coding), "all is fine to it");
        assert_eq!(as_it_is.header("etag"), Some("\"v1\""));
        let head = ask(listen, &format!("HEAD /{coding}"), "Accept-Encoding: identity");
        assert_eq!((head.header("content-encoding"), head.header("content-length")), (None, None));
    }
    let other = ask(listen, "GET /gzip", "Accept-Encoding: zstd");
    assert_eq!((other.header("content-encoding"), decoded(&other)), (Some("zstd"), text(100_000)));
    assert!(ringgate.sum("ringgate_decompressed_responses_total", &[]) >= 9.0);
}

#[test]
fn bombs_and_broken_codings_end_the_response() {
    let origin = answering(|request| {
        let body = match request.target() {
            "/bomb" => coded("gzip", &vec![0; 6 << 20]),
            "/cut" => coded("gzip", text(100_000).as_bytes())[..20_000].to_vec(),
            _ => b"this is no gzip at all, but a text".to_vec(),
        };
        (format!("{JSON}\nContent-Encoding: gzip"), body)
    });
    let (mut ringgate, listen) = started(&origin, "compress = { decompress = true }");
    let plain = "Accept-Encoding: identity";
    let none = ask(listen, "GET /none", plain);
    assert_eq!((none.status(), none.reason()), (502, "bad_response_coding"));
    assert_eq!((none.header("vary"), none.header("etag")), (None, None), "it is another answer");
    for path in ["/bomb", "/cut"] {
        let mut client = Client::connect(listen);
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n{plain}\r\n\r\n"));
        let error = client.wire.response("GET").map(|message| message.map(|m| m.body.len()));
        let received = client.wire.received.len();
        assert!(error.is_err(), "{path}: it does not look whole: {error:?}");
        assert!(received < 3 << 20, "{path}: {received} octets");
    }
    ringgate.assert_alive();
}

#[test]
fn a_body_that_breaks_off_does_not_look_whole() {
    let origin = Origin::script(|conn| {
        conn.request()?;
        conn.send(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 90000\r\n\r\n",
        )?;
        conn.send(text(50_000))
    });
    let (_ringgate, listen) = started(&origin, "compress = true");
    for version in ["1.1", "1.0"] {
        let mut client = Client::connect(listen);
        client
            .send(format!("GET / HTTP/{version}\r\nHost: a.test\r\nAccept-Encoding: gzip\r\n\r\n"));
        match client.wire.response("GET") {
            // Nothing of it had been sent yet: the client is told.
            Ok(Some(message)) => assert_eq!(message.status(), 502, "HTTP/{version}"),
            Ok(None) => panic!("nothing"),
            Err(_) => {}
        }
    }
}

/// Sends a line each time it is told to; then ends.
fn lines(kind: &'static str) -> (Origin, Sender<String>) {
    let (go, goes): (_, Receiver<String>) = mpsc::channel();
    let goes = Mutex::new(goes);
    let origin = Origin::script(move |conn| {
        conn.request()?;
        conn.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
        ))?;
        while let Ok(line) = goes.lock().unwrap().recv_timeout(PATIENCE) {
            if line.is_empty() {
                break;
            }
            conn.send(format!("{:x}\r\n{line}\r\n", line.len()))?;
        }
        conn.send("0\r\n\r\n")
    });
    (origin, go)
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Has `command` print what it receives, and sends a line only when the one before was printed.
fn one_by_one(command: &mut Command, go: &Sender<String>, line: impl Fn(usize) -> String) {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut child = Running(child);
    let output = BufReader::new(child.0.stdout.take().unwrap());
    let (sends, printed) = mpsc::channel();
    std::thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            let _ = sends.send(line);
        }
    });
    for n in 0..10 {
        go.send(line(n)).unwrap();
        for expected in line(n).lines().filter(|line| !line.is_empty()) {
            let got = printed.recv_timeout(PATIENCE);
            assert_eq!(got.as_deref(), Ok(expected), "{command:?}: {n} arrives at once");
        }
    }
    go.send(String::new()).unwrap();
    assert!(child.0.wait().unwrap().success(), "{command:?} ends well");
}

#[test]
fn slow_streams_are_not_held_back() {
    let curl = program("curl", "curl");
    for protocol in ["--http1.1", "--http2-prior-knowledge"] {
        for coding in ["gzip", "br"] {
            let (origin, go) = lines("application/x-ndjson");
            let (_ringgate, listen) = started(&origin, "compress = true");
            let mut command = Command::new(&curl);
            command
                .args(["-sSN", "-m", "30", "--compressed", protocol])
                .args(["-H", &format!("Accept-Encoding: {coding}")])
                .arg(format!("http://{listen}/"));
            one_by_one(&mut command, &go, |n| format!("{{\"n\":{n}}}\n"));
        }
    }
}

/// What an EventSource does with a stream, in a few lines.
const EVENT_SOURCE: &str = "
    const r = await fetch(process.argv[1], { headers: { accept: 'text/event-stream', 'accept-encoding': 'gzip, br' } });
    if ((r.headers.get('content-encoding') ?? 'none') !== process.argv[2]) process.exit(3);
    let rest = '';
    for await (const part of r.body.pipeThrough(new TextDecoderStream())) {
        rest += part;
        for (let at; (at = rest.indexOf('\\n\\n')) >= 0; rest = rest.slice(at + 2)) console.log(rest.slice(0, at));
    }";

#[test]
fn events_arrive_at_once_compressed_or_not() {
    for (types, coding) in [
        ("compress = true", "none"),
        ("compress = { types = [\"text/event-stream\"] }", "br"),
        ("compress = { types = [\"text/event-stream\"], algorithms = [\"gzip\"] }", "gzip"),
    ] {
        let (origin, go) = lines("text/event-stream");
        let (_ringgate, listen) = started(&origin, types);
        let mut node = Command::new(program("node", "nodejs"));
        node.args(["--input-type=module", "-e", EVENT_SOURCE, "--"]);
        node.args([&format!("http://{listen}/"), coding]);
        one_by_one(&mut node, &go, |n| format!("data: {n}\n\n"));
    }
}

#[test]
fn many_at_a_time_through_one_worker() {
    let origin = answering(|request| {
        let len: usize = request.target().trim_start_matches('/').parse().unwrap();
        (JSON.to_owned(), text(len).into_bytes())
    });
    let listen = free_address();
    let text_of = config(listen, origin.address, "compress = true");
    let ringgate = Ringgate::start(&format!("[server]\nworkers = 1\n{text_of}"));
    std::thread::scope(|scope| {
        for client in 0..6 {
            scope.spawn(move || {
                let coding = ["gzip", "br", "zstd"][client % 3];
                for n in 0..8 {
                    let len = [5, 1500, 40_000, 120_000][n % 4] + client;
                    let fields = format!("Accept-Encoding: {coding}");
                    let got = ask(listen, &format!("GET /{len}"), &fields);
                    assert_eq!(decoded(&got), text(len), "{coding} {len}");
                }
            });
        }
    });
    assert_eq!(ringgate.sum("ringgate_compression_declined_total", &[]), 0.0);
}

/// Reads a body for `while_for`; how many octets came, and after how long the last of them.
fn read_for(client: &mut Client, while_for: Duration) -> (usize, Duration) {
    let began = Instant::now();
    let (mut octets, mut last) = (0, Duration::ZERO);
    let mut chunk = [0; 64 << 10];
    while began.elapsed() < while_for {
        let left = while_for.saturating_sub(began.elapsed()).max(Duration::from_millis(1));
        client.wire.stream.set_read_timeout(Some(left)).unwrap();
        match client.wire.stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => (octets, last) = (octets + n, began.elapsed()),
            Err(_) => {}
        }
    }
    (octets, last)
}

const KIB: usize = 1 << 10;

#[test]
fn a_response_moves_as_fast_as_its_rule_says() {
    for (sized, version) in [(true, "whole"), (false, "streamed")] {
        let origin = Origin::script(move |conn| {
            while conn.request()?.is_some() {
                let body = vec![b'x'; 4096 * KIB];
                let framing = if sized {
                    format!("Content-Length: {}", body.len())
                } else {
                    "Connection: close".into()
                };
                conn.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n"))?;
                conn.send(&body)?;
                if !sized {
                    return Ok(());
                }
            }
            Ok(())
        });
        let bandwidth = "bandwidth = { response = \"400KiB/s\", burst = \"100KiB\" }";
        let (_ringgate, listen) = started(&origin, bandwidth);
        let mut client = Client::connect(listen);
        let began = Instant::now();
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        let (octets, _) = read_for(&mut client, Duration::from_millis(1500));
        let took = began.elapsed().as_secs_f64();
        // 700 KiB are due; late readers on a busy machine see less, none may see more than their time allows.
        let most = (100.0 + 400.0 * took) * 1.2 * KIB as f64;
        assert!((octets as f64) < most, "{version}: {octets} octets in {took} s");
        assert!(octets > 300 * KIB, "{version}: {octets} octets in {took} s");
    }
}

#[test]
fn what_is_below_the_burst_costs_nothing_and_the_rest_is_whole() {
    let origin = answering(|request| {
        let len: usize = request.target().trim_start_matches('/').parse().unwrap();
        ("200".to_owned(), text(len).into_bytes())
    });
    let bandwidth =
        "bandwidth = { response = \"1KiB/s\", request = \"1KiB/s\", burst = \"60KiB\" }";
    let (_ringgate, listen) = started(&origin, bandwidth);
    let began = Instant::now();
    let mut client = Client::connect(listen);
    for _ in 0..20 {
        assert_eq!(client.get("/30000").text(), text(30_000));
    }
    let posted = text(20_000);
    client.send(format!(
        "POST /10 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 20000\r\n\r\n{posted}"
    ));
    assert_eq!(client.response().status(), 200);
    assert!(began.elapsed() < Duration::from_secs(10), "at 1 KiB/s it would take minutes");
    let (_ringgate, listen) =
        started(&origin, &bandwidth.replace("1KiB/s", "1MiB/s").replace("60KiB", "1KiB"));
    let mut client = Client::connect(listen);
    for len in [500, 5000, 90_000] {
        assert_eq!(client.get(&format!("/{len}")).text(), text(len), "the connection goes on");
    }
}

/// A body that is decoded on its way is counted as it goes out, and no other time.
#[test]
fn what_becomes_another_body_is_counted_once() {
    let mut rng = fastrand::Rng::with_seed(12);
    let noise: Vec<u8> = (0..14_000).map(|_| rng.u8(..)).collect();
    let body = coded("gzip", &noise);
    assert!(body.len() >= noise.len(), "it does not compress");
    let origin = answering(move |_| {
        ("200\nContent-Type: text/plain\nContent-Encoding: gzip".to_owned(), body.clone())
    });
    let bandwidth = "bandwidth = { response = \"1KiB/s\", burst = \"14KiB\", per = \"rule\" }\n\
                     compress = { decompress = true }";
    let (_ringgate, listen) = started(&origin, bandwidth);
    let began = Instant::now();
    let got = ask(listen, "GET /", "Accept-Encoding: identity");
    assert_eq!((got.header("content-encoding"), &got.body), (None, &noise));
    assert!(began.elapsed() < Duration::from_secs(8), "counted twice it would take 13 seconds");
}

#[test]
fn a_rate_of_a_rule_is_everyones_together() {
    let body = vec![b'x'; 2048 * KIB];
    let mut answer =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    answer.extend_from_slice(&body);
    let origin = Origin::answering(answer);
    for per in ["rule", "client"] {
        let bandwidth = format!(
            "bandwidth = {{ response = \"400KiB/s\", burst = \"50KiB\", per = \"{per}\" }}"
        );
        let (_ringgate, listen) = started(&origin, &bandwidth);
        let began = Instant::now();
        // On two workers.
        let octets: usize = std::thread::scope(|scope| {
            let clients = (0..4).map(|_| {
                scope.spawn(move || {
                    let mut client = Client::connect(listen);
                    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
                    read_for(&mut client, Duration::from_millis(1200)).0
                })
            });
            let clients: Vec<_> = clients.collect();
            clients.into_iter().map(|client| client.join().unwrap()).sum()
        });
        let took = began.elapsed().as_secs_f64();
        let most = (50.0 + 400.0 * took) * 1.2 * KIB as f64;
        assert!((octets as f64) < most, "{per}: {octets} octets in {took} s");
        assert!(octets > 200 * KIB, "{per}: {octets} octets in {took} s");
    }
}

#[test]
fn an_upload_moves_as_fast_as_its_rule_says() {
    for protocol in ["--http1.1", "--http2-prior-knowledge"] {
        let (tells, told) = mpsc::channel();
        let tells = Mutex::new(tells);
        let origin = Origin::script(move |conn| {
            let Some(mut request) = conn.wire.head()? else { return Ok(()) };
            let began = Instant::now();
            conn.wire.framed_body(&mut request)?;
            tells.lock().unwrap().send((began.elapsed(), request.body.len())).unwrap();
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        });
        let (ringgate, listen) =
            started(&origin, "bandwidth = { request = \"300KiB/s\", burst = \"50KiB\" }");
        let file = ringgate.dir.path().join("upload");
        std::fs::write(&file, vec![b'x'; 350 * KIB]).unwrap();
        run(Command::new(program("curl", "curl"))
            .args(["-sS", "-m", "20", protocol, "-H", "Expect:", "-T"])
            .arg(&file)
            .arg(format!("http://{listen}/")));
        let (took, octets) = told.recv_timeout(PATIENCE).unwrap();
        assert_eq!(octets, 350 * KIB, "{protocol}");
        assert!(took > Duration::from_millis(750), "{protocol}: one second is due, not {took:?}");
        assert!(took < Duration::from_secs(8), "{protocol}: {took:?}");
    }
}
