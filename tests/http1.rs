//! HTTP/1.1 on both sides, over real sockets: framing, connections, what is forwarded and what is not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::mpsc;
use support::ringgate::forwarding;
use support::{Client, Message, Origin, PATIENCE, Ringgate, eventually, free_address, get};

/// ringgate before one origin, all defaults.
fn before(origin: &Origin) -> (Ringgate, SocketAddr) {
    with_server(origin, "")
}

/// The same with lines for `[server]`.
fn with_server(origin: &Origin, server: &str) -> (Ringgate, SocketAddr) {
    let listen = free_address();
    let config = forwarding(listen, &[origin.address], "");
    (Ringgate::start(&format!("[server]\n{server}\n\n{config}")), listen)
}

/// What the origin received for a request with these extra field lines.
fn forwarded(server: &str, fields: &str) -> Message {
    let origin = Origin::saying("ok");
    let (_ringgate, listen) = with_server(&origin, server);
    let request = format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n");
    assert_eq!(Client::connect(listen).send(request).response().status(), 200);
    origin.last()
}

/// What the client receives when the origin sends these bytes and closes.
fn relayed(answer: &'static [u8]) -> Message {
    let origin = Origin::script(move |conn| {
        conn.request()?;
        conn.send(answer)
    });
    let (_ringgate, listen) = before(&origin);
    get(listen, "/")
}

// ---------------------------------------------------------------- connections

#[test]
fn keeps_connections_on_both_sides() {
    let origin = Origin::saying("hello");
    let listen = free_address();
    let config = forwarding(listen, &[origin.address], "");
    let _ringgate = Ringgate::start(&format!("[server]\nworkers = 1\n\n{config}"));
    let mut client = Client::connect(listen);
    for _ in 0..20 {
        let answer = client.get("/");
        assert_eq!((answer.status(), answer.text().as_str()), (200, "hello"));
    }
    assert_eq!(origin.connections(), 1);
    assert_eq!(origin.requests().len(), 20);
}

#[test]
fn answers_pipelined_requests_in_order() {
    let origin = Origin::echo();
    let (_ringgate, listen) = before(&origin);
    let mut client = Client::connect(listen);
    let mut all = String::new();
    for n in 0..50 {
        // Every other request has a body that must not be taken for the next request.
        all += &if n % 2 == 0 {
            format!("GET /{n} HTTP/1.1\r\nHost: a.test\r\n\r\n")
        } else {
            let body = "GET /smuggled HTTP/1.1\r\n\r\n";
            format!(
                "POST /{n} HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
        };
    }
    client.send(all);
    for n in 0..50 {
        let answer = client.response();
        assert!(answer.text().contains(&format!(" /{n} HTTP/1.1")), "{n}: {}", answer.text());
    }
    let targets: Vec<_> = origin.requests().iter().map(|r| r.target().to_owned()).collect();
    assert!(!targets.iter().any(|t| t == "/smuggled"), "{targets:?}");
}

#[test]
fn closes_when_the_client_asks_for_it() {
    let origin = Origin::saying("ok");
    let (_ringgate, listen) = before(&origin);
    let mut client = Client::connect(listen);
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
    let answer = client.response();
    assert_eq!(answer.text(), "ok");
    assert_eq!(answer.header("connection").map(str::to_ascii_lowercase).as_deref(), Some("close"));
    client.expect_closed();
    // The connection to the origin is not the client's to close.
    assert_eq!(origin.last().header("connection").unwrap_or("keep-alive"), "keep-alive");
}

#[test]
fn a_request_in_single_bytes_is_a_request() {
    let origin = Origin::echo();
    let (_ringgate, listen) = before(&origin);
    let mut client = Client::connect(listen);
    let request = "POST /slow HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3\r\nabc\r\n0\r\n\r\n";
    for byte in request.as_bytes() {
        client.send([*byte]);
        client.wire.stream.flush().unwrap();
    }
    let answer = client.response();
    assert!(answer.text().starts_with("POST /slow HTTP/1.1\r\n"), "{}", answer.text());
    assert!(answer.text().ends_with("abc"), "{}", answer.text());
}

#[test]
fn a_half_closed_client_still_gets_its_answer() {
    let (release, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let origin = Origin::script(move |conn| {
        conn.request()?;
        let _ = wait.lock().unwrap().recv_timeout(PATIENCE);
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")
    });
    let (_ringgate, listen) = before(&origin);
    let mut client = Client::connect(listen);
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    client.half_close();
    eventually("the origin has the request", || origin.requests().len() == 1);
    release.send(()).unwrap();
    assert_eq!(client.response().text(), "late");
}

#[test]
fn serves_http_1_0_clients() {
    let origin = Origin::script(|conn| {
        while conn.request()?.is_some() {
            conn.send(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            )?;
        }
        Ok(())
    });
    let (_ringgate, listen) = before(&origin);
    let mut client = Client::connect(listen);
    client.send("GET / HTTP/1.0\r\n\r\n");
    // No chunks for a client that does not know them: the end of the connection ends the body.
    let answer = client.response();
    assert_eq!((answer.status(), answer.chunked), (200, false));
    assert_eq!(answer.text(), "abc");
    assert_eq!(answer.header("transfer-encoding"), None);
    assert!(origin.last().start.ends_with("HTTP/1.1"), "{}", origin.last().start);
}

#[test]
fn keeps_an_http_1_0_connection_only_when_asked() {
    let origin = Origin::saying("abc");
    let (_ringgate, listen) = before(&origin);
    let mut client = Client::connect(listen);
    client.send("GET / HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n");
    let answer = client.response();
    assert_eq!(answer.text(), "abc");
    assert_eq!(
        answer.header("connection").map(str::to_ascii_lowercase).as_deref(),
        Some("keep-alive")
    );
    client.send("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n");
    assert_eq!(client.response().text(), "abc");
    client.expect_closed();
}

#[test]
fn serves_http_1_0_origins() {
    let answer = relayed(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end");
    assert!(answer.start.starts_with("HTTP/1.1 200"), "{}", answer.start);
    assert_eq!(answer.text(), "until the end");
}

#[test]
fn a_body_without_length_keeps_the_clients_connection() {
    let origin = Origin::script(|conn| {
        conn.request()?;
        conn.send("HTTP/1.1 200 OK\r\n\r\nuntil the end")
    });
    let (_ringgate, listen) = before(&origin);
    let mut client = Client::connect(listen);
    for _ in 0..2 {
        let answer = client.get("/");
        assert_eq!((answer.text().as_str(), answer.chunked), ("until the end", true));
    }
    assert_eq!(origin.connections(), 2);
}

#[test]
fn serves_ipv6_and_unix_targets() {
    let origin = Origin::script_at("[::1]:0".parse().unwrap(), |conn| {
        while conn.request()?.is_some() {
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nsix")?;
        }
        Ok(())
    });
    let listen = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, free_address().port()));
    let _ringgate = Ringgate::start(&forwarding(listen, &[origin.address], ""));
    assert_eq!(get(listen, "/").text(), "six");
    assert_eq!(origin.last().header("x-forwarded-for"), Some("::1"));

    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("origin.sock");
    support::origin::unix_origin(&socket, "unix");
    let listen = free_address();
    let _ringgate = Ringgate::start(&format!(
        "[[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\ndefault = {{ forward = \"all\" }}\n\n\
         [group.all]\ntargets = [\"unix:{}\"]\nhealth = {{ type = \"off\" }}\n",
        socket.display()
    ));
    let mut client = Client::connect(listen);
    assert_eq!(
        (client.get("/").text(), client.get("/").text()),
        ("unix".to_owned(), "unix".to_owned())
    );
}

// ---------------------------------------------------------------- bodies

#[test]
fn streams_a_large_body_down() {
    let body: Vec<u8> = (0..8 << 20).map(|n: u32| (n % 251) as u8).collect();
    let mut answer =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    answer.extend_from_slice(&body);
    let origin = Origin::answering(answer);
    let (_ringgate, listen) = before(&origin);
    let mut client = Client::connect(listen);
    for _ in 0..2 {
        assert!(client.get("/").body == body, "the body was changed");
    }
}

#[test]
fn streams_a_large_body_up() {
    let origin = Origin::saying("thanks");
    let (_ringgate, listen) = before(&origin);
    let mut client = Client::connect(listen);
    let body: Vec<u8> = (0..4 << 20).map(|n: u32| (n % 253) as u8).collect();
    for _ in 0..2 {
        client.send(format!(
            "PUT /up HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n",
            body.len()
        ));
        client.send(&body);
        assert_eq!(client.response().text(), "thanks");
        assert!(origin.last().body == body, "the body was changed");
    }
}

#[test]
fn a_slow_reader_stops_a_fast_origin() {
    // More than any buffer on the way: the origin can finish only when the client has begun to read.
    const LENGTH: usize = 64 << 20;
    let (finished, is_finished) = mpsc::channel();
    let origin = Origin::script(move |conn| {
        conn.request()?;
        conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n"))?;
        for _ in 0..LENGTH >> 16 {
            conn.send([b'x'; 1 << 16])?;
        }
        let _ = finished.send(());
        conn.request().map(|_| ())
    });
    let (ringgate, listen) = before(&origin);
    let mut client = Client::connect(listen);
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let head = client.wire.head().unwrap().unwrap();
    assert_eq!(head.header("content-length"), Some(LENGTH.to_string().as_str()));
    assert!(
        is_finished.recv_timeout(std::time::Duration::from_millis(300)).is_err(),
        "all was taken in"
    );
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", ringgate.pid().as_raw_nonzero()))
            .unwrap();
    let resident =
        status.lines().find_map(|l| l.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB"));
    let resident: usize = resident.unwrap().trim().parse().unwrap();
    assert!(resident < 40 << 10, "ringgate holds {resident} KiB");
    assert_eq!(client.wire.exactly(LENGTH).unwrap().len(), LENGTH);
    is_finished.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn forwards_chunks_both_ways() {
    let origin = Origin::script(|conn| {
        while let Some(request) = conn.request()? {
            let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            for piece in request.body.chunks(1000) {
                answer.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                answer.extend_from_slice(piece);
                answer.extend_from_slice(b"\r\n");
            }
            answer.extend_from_slice(b"0\r\n\r\n");
            conn.send(answer)?;
        }
        Ok(())
    });
    let (_ringgate, listen) = before(&origin);
    let mut client = Client::connect(listen);
    let body: Vec<u8> = (0..300_000).map(|n: u32| (n % 251) as u8).collect();
    let mut request =
        b"POST / HTTP/1.1\r\nHost: a.test\r\ntransfer-encoding: Chunked\r\n\r\n".to_vec();
    for piece in body.chunks(7777) {
        request.extend_from_slice(
            format!("{:04X};note=\"never passed on\"\r\n", piece.len()).as_bytes(),
        );
        request.extend_from_slice(piece);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"0\r\n\r\n");
    for _ in 0..2 {
        client.send(&request);
        let answer = client.response();
        assert!(answer.chunked && answer.body == body, "{} bytes came back", answer.body.len());
        assert!(origin.last().chunked, "the origin was told another framing");
    }
}

#[test]
fn chunk_extensions_are_not_passed_on() {
    let origin = Origin::script(|conn| {
        let Some(mut request) = conn.wire.head()? else { return Ok(()) };
        let mut line = conn.wire.line()?;
        while line != "0" {
            request.body.extend_from_slice(line.as_bytes());
            let size = usize::from_str_radix(line.split(';').next().unwrap(), 16)
                .map_err(std::io::Error::other)?;
            conn.wire.exactly(size + 2)?;
            line = conn.wire.line()?;
        }
        conn.remember(&request);
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    });
    let (_ringgate, listen) = before(&origin);
    let mut client = Client::connect(listen);
    client.send(
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n\
         3;name=value\r\nabc\r\n2;q=\"x;y\"\r\nde\r\n0;end\r\n\r\n",
    );
    assert_eq!(client.response().status(), 200);
    assert!(!origin.last().text().contains(['n', 'q', ';']), "{}", origin.last().text());
}

#[test]
fn response_trailers_reach_a_client_that_takes_them() {
    const ANSWER: &[u8] =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
                            3\r\nabc\r\n0\r\nX-Sum: 900150983cd24fb0\r\nContent-Length: 7\r\n\r\n";
    let origin = Origin::answering(ANSWER);
    let (_ringgate, listen) = before(&origin);
    let mut client = Client::connect(listen);
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\nTE: trailers\r\nConnection: TE\r\n\r\n");
    let answer = client.response();
    assert_eq!(answer.text(), "abc");
    let sum = ("X-Sum".to_owned(), "900150983cd24fb0".to_owned());
    assert!(
        answer.trailers.iter().any(|t| t.0.eq_ignore_ascii_case(&sum.0) && t.1 == sum.1),
        "{:?}",
        answer.trailers
    );
    // A trailer never says how a message is framed.
    assert!(
        !answer.trailers.iter().any(|t| t.0.eq_ignore_ascii_case("content-length")),
        "{:?}",
        answer.trailers
    );
    assert_eq!(client.get("/").text(), "abc");
}

#[test]
fn request_trailers_never_become_fields() {
    let origin = Origin::saying("ok");
    let (_ringgate, listen) = before(&origin);
    let mut client = Client::connect(listen);
    client.send(
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nTrailer: X-Real-IP\r\n\r\n\
         3\r\nabc\r\n0\r\nX-Real-IP: 6.6.6.6\r\nAuthorization: Basic x\r\n\r\n",
    );
    assert_eq!(client.response().status(), 200);
    let request = origin.last();
    assert_eq!(request.text(), "abc");
    for name in ["x-real-ip", "authorization"] {
        assert!(request.all(name).is_empty(), "{name} became a field");
        assert!(
            !request.trailers.iter().any(|t| t.0.eq_ignore_ascii_case(name)),
            "{name} was passed on"
        );
    }
    assert_eq!(client.get("/").text(), "ok");
}

#[test]
fn head_and_bodiless_statuses_have_no_body() {
    let origin = Origin::script(|conn| {
        while let Some(request) = conn.request()? {
            conn.send(match request.target() {
                "/204" => "HTTP/1.1 204 No Content\r\n\r\n",
                "/304" => "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 99\r\n\r\n",
                "/chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                _ => "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n",
            })?;
        }
        Ok(())
    });
    let (_ringgate, listen) = before(&origin);
    let mut client = Client::connect(listen);
    let mut ask = |method: &str, path: &str| {
        client.send(format!("{method} {path} HTTP/1.1\r\nHost: a.test\r\n\r\n")).response_to(method)
    };
    let head = ask("HEAD", "/");
    assert_eq!((head.status(), head.header("content-length")), (200, Some("1234")));
    assert_eq!(ask("HEAD", "/chunked").status(), 200);
    let none = ask("GET", "/204");
    assert_eq!((none.status(), none.header("content-length")), (204, None));
    let unchanged = ask("GET", "/304");
    assert_eq!((unchanged.status(), unchanged.header("etag")), (304, Some("\"x\"")));
    assert_eq!(ask("HEAD", "/").status(), 200);
}

// ---------------------------------------------------------------- interim and early answers

#[test]
fn interim_responses_are_passed_on() {
    let origin = Origin::answering(
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    );
    let (_ringgate, listen) = before(&origin);
    let mut client = Client::connect(listen);
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let early = client.response();
    assert_eq!((early.status(), early.header("link")), (103, Some("</a.css>; rel=preload")));
    assert_eq!(client.response().text(), "ok");
    // HTTP/1.0 knows no interim responses (RFC 9110 section 15.2).
    let mut old = Client::connect(listen);
    assert_eq!(old.send("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n").response().status(), 200);
}

#[test]
fn a_waiting_client_is_told_to_continue() {
    let origin = Origin::echo();
    let (_ringgate, listen) = before(&origin);
    let mut client = Client::connect(listen);
    client.send(
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n",
    );
    assert_eq!(client.response().status(), 100);
    client.send("body");
    let answer = client.response();
    assert!(answer.text().ends_with("\r\n\r\nbody"), "{}", answer.text());
    assert_eq!(client.get("/next").status(), 200);
}

// However a target divides the time before it has made up its mind (RFC 9110 section 10.1.1): the client does not wait for
// ever, and the target's own answer is the one that counts.
#[test]
fn a_target_that_hesitates_with_its_100_costs_no_answer() {
    let pause = |millis| std::thread::sleep(std::time::Duration::from_millis(millis));
    let origin = Origin::script(move |conn| {
        let mut head = conn.wire.head()?.unwrap();
        if head.target() == "/interim" {
            pause(100);
            conn.send("HTTP/1.1 102 Processing\r\n\r\n")?;
            pause(1400);
            conn.send("HTTP/1.1 100 Continue\r\n\r\n")?;
            conn.wire.framed_body(&mut head)?;
            return conn.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone");
        }
        conn.send("HTTP/1.1 401 Unauthorized\r\nContent-")?;
        pause(1500);
        conn.send("Length: 4\r\n\r\ndone")
    });
    let (_ringgate, listen) = before(&origin);
    let ask = |path: &str| {
        let mut client = Client::connect(listen);
        client.send(format!(
            "POST {path} HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
        ));
        let mut seen = Vec::new();
        loop {
            let answer = client.response();
            seen.push(answer.status());
            match answer.status() {
                100 if seen.iter().filter(|status| **status == 100).count() == 1 => {
                    client.send("body");
                }
                100..200 => {}
                _ => {
                    assert_eq!(answer.text(), "done", "{path}");
                    return seen;
                }
            }
        }
    };
    let (interim, half) = std::thread::scope(|scope| {
        let interim = scope.spawn(|| ask("/interim"));
        (interim.join().unwrap(), ask("/half"))
    });
    assert_eq!((interim.first(), interim.get(1)), (Some(&102), Some(&100)), "{interim:?}");
    assert_eq!(interim.last(), Some(&200));
    assert_eq!(half, [100, 401]);
}

#[test]
fn a_body_that_does_not_wait_for_continue_is_taken() {
    let origin = Origin::echo();
    let (_ringgate, listen) = before(&origin);
    let mut client = Client::connect(listen);
    client.send(
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\nbody\
         GET /next HTTP/1.1\r\nHost: a.test\r\n\r\n",
    );
    let mut answer = client.response();
    if answer.status() == 100 {
        answer = client.response();
    }
    assert!(answer.text().ends_with("\r\n\r\nbody"), "{}", answer.text());
    assert!(client.response().text().starts_with("GET /next "));
}

#[test]
fn an_early_refusal_of_an_expected_body_is_final() {
    // No rule takes it: the answer must not wait for a body that will not be asked for.
    let origin = Origin::saying("never");
    let listen = free_address();
    let _ringgate = Ringgate::start(&format!(
        "[[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\n\n[[rule]]\nname = \"a\"\nforward = \"all\"\n\
         when = {{ path = [\"/only\"] }}\n\n[group.all]\ntargets = [\"{}\"]\nhealth = {{ type = \"off\" }}\n",
        origin.address
    ));
    let mut client = Client::connect(listen);
    client.send(
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n",
    );
    let answer = client.response();
    assert_eq!((answer.status(), answer.reason()), (404, "no_route"));
    assert!(origin.requests().is_empty());
}

#[test]
fn an_early_answer_reaches_an_uploading_client() {
    // The origin refuses after the head; the client is still sending.
    let origin = Origin::script(|conn| {
        let head = conn.wire.head()?.unwrap();
        conn.remember(&head);
        conn.send(
            "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig",
        )?;
        // Not reading on: the rest of the body has nowhere to go. The origin stays until its peer is gone.
        conn.wire.stream.shutdown(std::net::Shutdown::Write)?;
        conn.wire.rest().map(|_| ())
    });
    let (mut ringgate, listen) = before(&origin);
    let mut client = Client::connect(listen);
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 104857600\r\n\r\n");
    let piece = vec![b'x'; 64 << 10];
    for _ in 0..4 {
        if client.wire.send(&piece).is_err() {
            break;
        }
    }
    let answer = client.response();
    assert_eq!((answer.status(), answer.text().as_str()), (413, "big"));
    ringgate.assert_alive();
}

// Hazard UP-06: a client may stop sending what nobody reads any more.
#[test]
fn an_early_answer_is_whole_though_its_client_stops_sending() {
    const LENGTH: usize = 8 << 20;
    let (release, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let origin = Origin::script(move |conn| {
        let head = conn.wire.head()?.unwrap();
        conn.remember(&head);
        let body = vec![b'n'; LENGTH];
        conn.send(format!("HTTP/1.1 413 Content Too Large\r\nContent-Length: {LENGTH}\r\n\r\n"))?;
        conn.send(&body[..1000])?;
        let _ = wait.lock().unwrap().recv_timeout(PATIENCE);
        conn.send(&body[1000..])?;
        conn.wire.rest().map(|_| ())
    });
    let (_ringgate, listen) = before(&origin);
    let mut client = Client::connect(listen);
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 104857600\r\n\r\n12345");
    let mut answer = client.wire.head().unwrap().expect("an answer");
    client.half_close();
    // What the end of the client's side does, it has done by then.
    std::thread::sleep(std::time::Duration::from_millis(100));
    release.send(()).unwrap();
    client.wire.framed_body(&mut answer).expect("all of the answer");
    assert_eq!((answer.status(), answer.body.len()), (413, LENGTH));
    client.expect_closed();
}

// A request of which all is here before any of it is sent, to a target that reads the beginning of it.
#[test]
fn an_answer_to_what_was_not_read_whole_is_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("origin.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut start = [0; 1000];
            let _ = stream.read(&mut start);
            let closes = start.starts_with(b"POST /closes");
            let answer = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig";
            let _ = stream.write_all(answer.as_bytes());
            if !closes {
                kept.push(stream);
            }
        }
    });
    let listen = free_address();
    let _ringgate = Ringgate::start(&format!(
        "[limits]\nhead = \"1MiB\"\n\n[timeouts]\nbody = \"500ms\"\n\n\
         [[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\ndefault = {{ forward = \"all\" }}\n\n\
         [group.all]\ntargets = [\"unix:{}\"]\nhealth = {{ type = \"off\" }}\n",
        socket.display()
    ));
    for path in ["/closes", "/stays"] {
        let mut client = Client::connect(listen);
        let body = "b".repeat(20 << 10);
        client.send(format!(
            "POST {path} HTTP/1.1\r\nHost: a.test\r\n{}Content-Length: {}\r\n\r\n{body}",
            many_fields(600 << 10),
            body.len()
        ));
        let answer = client.response();
        assert_eq!((answer.status(), answer.text().as_str()), (413, "big"), "{path}");
    }
}

// So many octets of field lines, none of them too long.
fn many_fields(octets: usize) -> String {
    let line = format!("X-Much: {}\r\n", "m".repeat((10 << 10) - 10));
    line.repeat(octets / line.len())
}

#[test]
fn what_comes_behind_a_large_head_is_not_lost() {
    let origin = Origin::echo();
    let listen = free_address();
    let config = forwarding(listen, &[origin.address], "");
    let _ringgate = Ringgate::start(&format!("[limits]\nhead = \"1MiB\"\n\n{config}"));
    let body: String = (0..50_000).map(|n| format!("{n:06}")).collect();
    for _ in 0..3 {
        let mut client = Client::connect(listen);
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: a.test\r\n{}Content-Length: {}\r\n\r\n{body}",
            many_fields(140 << 10),
            body.len()
        ));
        let answer = client.response().text();
        assert!(answer.ends_with(&body), "octets of the body are missing");
    }
}

// RFC 9112 section 9.6: the end of the connection is no reset, whatever its client still sends.
#[test]
fn what_comes_behind_the_last_answer_does_not_reset_it() {
    let (release, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let origin = Origin::script(move |conn| {
        conn.request()?;
        let _ = wait.lock().unwrap().recv_timeout(PATIENCE);
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlast")
    });
    let (_ringgate, listen) = before(&origin);
    for (n, behind) in [(1, 100), (2, 2 << 20)] {
        let mut client = Client::connect(listen);
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
        eventually("the origin has the request", || origin.requests().len() == n);
        client.send([b'x'; 100]);
        let mut more = client.wire.stream.try_clone().unwrap();
        let sending = std::thread::spawn(move || more.write_all(&vec![b'x'; behind]));
        release.send(()).unwrap();
        assert_eq!(client.response().text(), "last");
        assert_eq!(sending.join().unwrap().map_err(|e| e.kind()), Ok(()), "{behind}");
        let end = client.wire.rest().map_err(|e| e.kind());
        assert_eq!(end, Ok(Vec::new()), "{behind}");
    }
}

#[test]
fn an_early_answer_without_close_does_not_poison_the_connection() {
    let origin = Origin::script(|conn| {
        while let Some(head) = conn.wire.head()? {
            conn.remember(&head);
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly")?;
            let mut request = head;
            conn.wire.framed_body(&mut request)?;
        }
        Ok(())
    });
    let (_ringgate, listen) = before(&origin);
    for _ in 0..3 {
        let mut client = Client::connect(listen);
        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\n12345");
        assert_eq!(client.response().text(), "early");
        let _ = client.wire.send(b"67890");
        let other = get(listen, "/other");
        assert_eq!((other.status(), other.text().as_str()), (200, "early"));
    }
}

// ---------------------------------------------------------------- what is forwarded

#[test]
fn absolute_form_is_made_origin_form() {
    let origin = Origin::saying("ok");
    let (_ringgate, listen) = before(&origin);
    let mut client = Client::connect(listen);
    client.send("GET http://A.test/x?y=1 HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(client.response().status(), 200);
    let request = origin.last();
    assert_eq!(request.start, "GET /x?y=1 HTTP/1.1");
    assert_eq!(request.header("host").map(str::to_ascii_lowercase).as_deref(), Some("a.test"));
}

#[test]
fn host_is_preserved_with_its_port() {
    let origin = Origin::saying("ok");
    let (_ringgate, listen) = before(&origin);
    let mut client = Client::connect(listen);
    client.send("GET / HTTP/1.1\r\nHost: shop.example:8443\r\n\r\n");
    assert_eq!(client.response().status(), 200);
    assert_eq!(origin.last().header("host"), Some("shop.example:8443"));
}

#[test]
fn fields_of_this_hop_stay_here() {
    let request = forwarded(
        "",
        "Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n\
         Proxy: http://evil/\r\nTE: gzip\r\nUpgrade: h2c\r\nHTTP2-Settings: AAAA\r\nX-Kept: yes\r\n",
    );
    for name in
        ["x-hop", "keep-alive", "proxy-connection", "proxy", "te", "upgrade", "http2-settings"]
    {
        assert!(request.all(name).is_empty(), "{name} was forwarded");
    }
    assert_eq!(request.header("x-kept"), Some("yes"));
}

#[test]
fn fields_of_the_other_hop_stay_there() {
    let answer = relayed(
        b"HTTP/1.1 200 OK\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nX-Kept: yes\r\n\
          Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n\r\nok",
    );
    for name in ["x-hop", "keep-alive"] {
        assert!(answer.all(name).is_empty(), "{name} was forwarded");
    }
    assert_eq!(answer.header("x-kept"), Some("yes"));
    assert_eq!(answer.all("set-cookie"), ["a=1", "b=2"]);
}

#[test]
fn an_untrusted_client_cannot_claim_an_address() {
    let request = forwarded(
        "",
        "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\n\
         Forwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX-Forwarded-Prefix: /evil\r\nX-Original-URL: /evil\r\n",
    );
    assert_eq!(request.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.header("x-forwarded-proto"), Some("http"));
    assert_eq!(request.header("x-forwarded-host"), Some("a.test"));
    assert_ne!(request.header("x-forwarded-port"), Some("1"));
    let forwarded = request.header("forwarded").unwrap_or_default().to_owned();
    assert!(forwarded.contains("for=127.0.0.1") && !forwarded.contains("6.6.6.6"), "{forwarded}");
    for name in ["x-real-ip", "x-forwarded-prefix", "x-original-url"] {
        assert!(
            !request.all(name).iter().any(|v| v.contains("6.6") || v.contains("evil")),
            "{name}"
        );
    }
}

#[test]
fn a_trusted_proxy_is_believed() {
    let request = forwarded(
        "trusted_proxies = [\"127.0.0.0/8\"]",
        "X-Forwarded-For: 203.0.113.7, 198.51.100.2\r\nX-Forwarded-Proto: https\r\nX-Request-Id: abc-123\r\n",
    );
    assert_eq!(request.header("x-forwarded-for"), Some("203.0.113.7, 198.51.100.2, 127.0.0.1"));
    assert_eq!(request.header("x-forwarded-proto"), Some("https"));
    assert_eq!(request.header("x-request-id"), Some("abc-123"));
}

#[test]
fn underscores_cannot_shadow_a_field_of_ours() {
    let request = forwarded("", "X_Forwarded_For: 6.6.6.6\r\nX_Request_Id: evil\r\nHost_: b\r\n");
    let shadows: Vec<_> = request.headers.iter().filter(|(name, _)| name.contains('_')).collect();
    assert!(shadows.is_empty(), "{shadows:?}");
}

#[test]
fn every_request_has_an_id() {
    let origin = Origin::saying("ok");
    let (_ringgate, listen) = before(&origin);
    let mut client = Client::connect(listen);
    client.get("/");
    client
        .send("GET / HTTP/1.1\r\nHost: a.test\r\nX-Request-Id: from-the-client\r\n\r\n")
        .response();
    let requests = origin.requests();
    let ids: Vec<_> =
        requests.iter().map(|r| r.header("x-request-id").unwrap_or_default()).collect();
    assert!(ids.iter().all(|id| id.len() >= 16) && ids[0] != ids[1], "{ids:?}");
    assert!(!ids.contains(&"from-the-client"), "an untrusted client chose the id");
}

#[test]
fn via_and_date_are_added() {
    let request = forwarded("via = \"edge-1\"", "Via: 1.0 first\r\n");
    assert_eq!(request.all("via").join(", "), "1.0 first, 1.1 edge-1");
    let answer = relayed(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    assert!(answer.header("date").is_some_and(|d| d.ends_with(" GMT")), "{:?}", answer.headers);
    let answer = relayed(
        b"HTTP/1.1 200 OK\r\nDate: Tue, 15 Nov 1994 08:12:31 GMT\r\nContent-Length: 2\r\n\r\nok",
    );
    assert_eq!(answer.header("date"), Some("Tue, 15 Nov 1994 08:12:31 GMT"));
}

#[test]
fn max_forwards_ends_options_here() {
    let origin = Origin::saying("from the origin");
    let (_ringgate, listen) = before(&origin);
    let mut client = Client::connect(listen);
    let mut options = |hops: &str| {
        client
            .send(format!("OPTIONS / HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: {hops}\r\n\r\n"))
            .response()
    };
    assert_ne!(options("0").text(), "from the origin");
    assert!(origin.requests().is_empty());
    assert_eq!(options("3").text(), "from the origin");
    assert_eq!(origin.last().header("max-forwards"), Some("2"));
}

#[test]
fn asterisk_form_is_forwarded() {
    let origin = Origin::saying("ok");
    let (_ringgate, listen) = before(&origin);
    let mut client = Client::connect(listen);
    client.send("OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(client.response().status(), 200);
    assert_eq!(origin.last().start, "OPTIONS * HTTP/1.1");
}

#[test]
fn a_body_on_get_is_forwarded_by_its_framing() {
    let origin = Origin::saying("ok");
    let (_ringgate, listen) = before(&origin);
    let mut client = Client::connect(listen);
    for method in ["GET", "DELETE", "OPTIONS", "PATCH", "PROPFIND"] {
        client
            .send(format!("{method} / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nGET /"));
        assert_eq!(client.response().status(), 200, "{method}");
        assert_eq!((origin.last().method(), origin.last().text().as_str()), (method, "GET /"));
    }
    assert_eq!(origin.requests().len(), 5);
}

#[test]
fn own_answers_keep_the_connection_and_drain_the_body() {
    let listen = free_address();
    let _ringgate = Ringgate::start(&format!(
        "[[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\n\n[[rule]]\nname = \"fixed\"\n\
         respond = {{ status = 200, content_type = \"text/plain\", body = \"fixed\" }}\nwhen = {{ path = [\"/fixed\"] }}\n\
         [[rule]]\nname = \"moved\"\nredirect = {{ path = \"/fixed\", status = 308 }}\nwhen = {{ path = [\"/moved\"] }}\n"
    ));
    let hidden = "GET /hidden HTTP/1.1\r\nHost: a.test\r\n\r\n";
    for (path, status) in [("/fixed", 200), ("/moved", 308), ("/none", 404)] {
        let mut client = Client::connect(listen);
        client.send(format!(
            "POST {path} HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n{hidden}",
            hidden.len()
        ));
        assert_eq!(client.response().status(), status, "{path}");
        // Either the body was drained and the connection goes on, or it was closed; never a second answer.
        if let Ok(Some(next)) = client
            .wire
            .send(b"GET /fixed HTTP/1.1\r\nHost: a.test\r\n\r\n")
            .and_then(|()| client.wire.response("GET"))
        {
            assert_eq!(next.text(), "fixed", "after {path}");
        }
    }
    let mut client = Client::connect(listen);
    let answer = client.send("HEAD /fixed HTTP/1.1\r\nHost: a.test\r\n\r\n").response_to("HEAD");
    assert_eq!((answer.status(), answer.header("content-length")), (200, Some("5")));
    assert_eq!(client.get("/fixed").text(), "fixed");
}
