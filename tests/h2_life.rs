//! The life of an HTTP/2 connection: how it is drained, counted, reloaded under and ended when it is idle, and that nothing is
//! lost on the way (hazards H2-15 and H2-18, RFC 9113 section 6.8).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]
#![allow(clippy::indexing_slicing)]

mod support;

use rustix::process::Signal;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::h2raw::*;
use support::ringgate::forwarding;
use support::{Origin, Ringgate, free_address};

/// Answers with the target's own text, `/slow` after a while.
fn origin() -> Origin {
    Origin::script(|conn| {
        while let Some(request) = conn.request()? {
            if request.target().starts_with("/slow") {
                std::thread::sleep(Duration::from_millis(300));
            }
            let body = request.target().to_owned();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            conn.send(head)?;
        }
        Ok(())
    })
}

fn before(origin: &Origin, more: &str) -> (Ringgate, SocketAddr) {
    let listen = free_address();
    (Ringgate::start(&(forwarding(listen, &[origin.address], "") + more)), listen)
}

/// GOAWAY first says that nothing is lost, then which stream was the last one, and then the connection ends.
#[track_caller]
fn parts_politely(h2: &mut H2, last: u32) {
    loop {
        match h2.event() {
            Event::Closed => break,
            Event::Silence => panic!("it stays open: {:?}", h2.goaway),
            Event::GoAway { code, .. } => assert_eq!(code, NO_ERROR),
            _ => {}
        }
    }
    assert_eq!(h2.goaway, Some((last, NO_ERROR)));
}

/// H2-18.
#[test]
fn a_connection_is_drained_after_its_requests() {
    let origin = origin();
    let (_ringgate, listen) = before(&origin, "\n[limits.http2]\nrequests = 10\n");
    for round in 0..3 {
        let mut h2 = H2::open(listen);
        for n in 0..10 {
            let path = format!("/slow/{round}/{n}");
            h2.get(2 * n + 1, &path);
        }
        for n in 0..10 {
            assert_eq!(h2.outcome(2 * n + 1).answer().text(), format!("/slow/{round}/{n}"));
        }
        parts_politely(&mut h2, 19);
    }
    assert_eq!(origin.requests().len(), 30);
}

/// What comes after the first GOAWAY is answered or refused untouched, so that it can be sent again (section 8.7).
#[test]
fn requests_that_cross_goaway_are_answered_or_refused() {
    let origin = origin();
    let (_ringgate, listen) = before(&origin, "\n[limits.http2]\nrequests = 3\n");
    let mut h2 = H2::open(listen);
    for n in 0..20 {
        h2.get(2 * n + 1, &format!("/{n}"));
    }
    let mut answered = Vec::new();
    loop {
        match h2.event() {
            Event::Closed => break,
            Event::Silence => panic!("it stays open: {:?}", h2.goaway),
            Event::Reset { code, stream } => assert_eq!(code, REFUSED_STREAM, "stream {stream}"),
            _ => {}
        }
    }
    let (last, code) = h2.goaway.unwrap();
    assert_eq!(code, NO_ERROR);
    for n in 0..20 {
        let stream = 2 * n + 1;
        match h2.done(stream) {
            Some(Outcome::Answer(answer)) => answered.push(answer.text()),
            Some(Outcome::Reset(REFUSED_STREAM)) => {}
            other => {
                assert!(other.is_none() && stream > last, "stream {stream} of {last}: {other:?}")
            }
        }
    }
    // What the target has seen was answered, and nothing else was.
    let mut seen: Vec<String> =
        origin.requests().iter().map(|request| request.target().to_owned()).collect();
    seen.sort();
    answered.sort();
    assert_eq!(seen, answered);
    assert!(answered.len() >= 3, "{answered:?}");
}

/// H2-15: under load, no request that was taken is lost.
#[test]
fn draining_loses_nothing() {
    let origin = origin();
    let (mut ringgate, listen) = before(&origin, "");
    let stopping = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..4)
        .map(|client| {
            let (stopping, done) = (Arc::clone(&stopping), Arc::clone(&done));
            std::thread::spawn(move || busy(listen, client, &stopping, &done))
        })
        .collect();
    support::eventually("there is load", || done.load(Ordering::SeqCst) > 100);
    ringgate.signal(Signal::TERM);
    for client in clients {
        client.join().unwrap();
    }
    assert!(ringgate.wait_exit().success());
    assert!(!stopping.load(Ordering::SeqCst));
    let (seen, answered) = (origin.requests().len(), done.load(Ordering::SeqCst));
    assert_eq!(seen, answered, "requests that reached the target, and their answers");
}

// Keeps sixteen requests under way until GOAWAY; then everything that was taken must be answered.
fn busy(listen: SocketAddr, client: u32, stopping: &AtomicBool, done: &AtomicUsize) {
    let mut h2 = H2::open(listen);
    let (mut next, mut open) = (1, Vec::new());
    let began = Instant::now();
    loop {
        while open.len() < 16 && h2.goaway.is_none() {
            let slow = if next % 10 == 1 { "slow/" } else { "" };
            h2.get(next, &format!("/{slow}{client}/{next}"));
            open.push(next);
            next += 2;
        }
        let event = h2.event();
        open.retain(|stream| match h2.done(*stream) {
            Some(Outcome::Answer(answer)) => {
                assert_eq!(answer.status(), 200);
                assert!(answer.text().ends_with(&format!("{client}/{stream}")));
                done.fetch_add(1, Ordering::SeqCst);
                false
            }
            Some(Outcome::Reset(REFUSED_STREAM)) => false,
            Some(other) => panic!("stream {stream}: {other:?}"),
            None => true,
        });
        match event {
            Event::Closed => break,
            Event::GoAway { code, .. } => assert_eq!(code, NO_ERROR),
            Event::Silence => panic!("streams {open:?} are not answered: {:?}", h2.goaway),
            _ => {}
        }
        assert!(began.elapsed() < Duration::from_secs(60) && !stopping.load(Ordering::SeqCst));
    }
    let (last, _) = h2.goaway.expect("GOAWAY before the end");
    open.retain(|stream| *stream <= last);
    assert!(open.is_empty(), "lost, though at most {last}: {open:?}");
}

/// A reload changes what connections do next, and leaves them alone.
#[test]
fn connections_outlive_a_reload() {
    let (first, second) = (Origin::saying("first"), Origin::saying("second"));
    let listen = free_address();
    let ringgate = Ringgate::start(&forwarding(listen, &[first.address], ""));
    let mut h2 = H2::open(listen);
    assert_eq!(h2.fetch(1, "/").text(), "first");
    // One request is under way meanwhile.
    h2.head(3, END_HEADERS, &request("POST", "/"));
    assert!(h2.settled());
    ringgate.reload(&forwarding(listen, &[second.address], ""));
    assert_eq!(h2.fetch(5, "/").text(), "second");
    h2.frame(DATA, END_STREAM, 3, b"late");
    assert_eq!(h2.outcome(3).status(), 200);
    for n in 0..5 {
        ringgate.reload(&forwarding(listen, &[first.address], ""));
        assert_eq!(h2.fetch(7 + 2 * n, "/").text(), "first");
    }
    assert_eq!(h2.goaway, None);
}

/// Nobody waits for a client that has nothing to say; one that has is left alone.
#[test]
fn idle_connections_end_with_goaway() {
    let origin = origin();
    let times = "\n[timeouts]\nkeep_alive = \"1s\"\nheader = \"1s\"\n";
    let (_ringgate, listen) = before(&origin, times);
    let mut h2 = H2::open(listen);
    for n in 0..8 {
        // Together longer than either time.
        assert_eq!(h2.fetch(2 * n + 1, "/slow").status(), 200);
    }
    let began = Instant::now();
    parts_politely(&mut h2, 15);
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
}

/// The first request comes in one piece with the preface, as most clients send it, and takes longer than a head may.
#[test]
fn a_first_request_has_its_own_time() {
    let origin = Origin::script(|conn| {
        while conn.request()?.is_some() {
            std::thread::sleep(Duration::from_millis(2500));
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
        Ok(())
    });
    let (_ringgate, listen) =
        before(&origin, "\n[timeouts]\nheader = \"1s\"\nkeep_alive = \"1s\"\n");
    let mut all = PREFACE.to_vec();
    all.extend(frame(SETTINGS, 0, 0, &[]));
    all.extend(frame(HEADERS, WHOLE, 1, &support::hpack::literals(&request("GET", "/"))));
    let mut h2 = H2::raw(listen);
    h2.send(all);
    assert_eq!(h2.outcome(1).answer().text(), "ok");
    assert_eq!(h2.goaway, None);
}

/// HTTP/1.1 and HTTP/2 on one port, told apart by what comes first, however it is cut.
#[test]
fn both_versions_share_a_port() {
    let origin = origin();
    let (_ringgate, listen) = before(&origin, "");
    assert_eq!(support::get(listen, "/one").text(), "/one");
    for cut in 1..PREFACE.len() {
        let mut h2 = H2::raw(listen);
        h2.send(&PREFACE[..cut]);
        std::thread::sleep(Duration::from_millis(5));
        h2.send(&PREFACE[cut..]);
        h2.frame(SETTINGS, 0, 0, []);
        assert_eq!(h2.fetch(1, "/two").text(), "/two", "cut at {cut}");
    }
    // A method that begins like the preface.
    let mut client = support::Client::connect(listen);
    client.send("PRIX / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(client.response().text(), "/");
}

/// What is open, and what was called off; the log tells streams apart.
#[test]
fn connections_and_streams_are_counted() {
    let origin = Origin::script(|conn| {
        while let Some(request) = conn.request()? {
            if !request.target().starts_with("/never") {
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
            }
        }
        Ok(())
    });
    let (ringgate, listen) = before(&origin, "\n[log]\naccess = \"./access.log\"\n");
    let value = |name: &str| ringgate.metric(&format!("ringgate_http2_{name}")).unwrap();
    let mut h2 = H2::open(listen);
    assert_eq!(h2.fetch(1, "/one").text(), "ok");
    h2.get(3, "/never");
    support::eventually("the stream is open", || value("open_streams") == 1.0);
    assert_eq!((value("connections"), value("cancelled_streams_total")), (1.0, 0.0));
    h2.frame(RST_STREAM, 0, 3, CANCEL.to_be_bytes());
    support::eventually("it is called off", || value("cancelled_streams_total") == 1.0);
    support::eventually("it is not open", || value("open_streams") == 0.0);
    assert_eq!(value("streams_total"), 2.0);
    h2.close();
    support::eventually("nobody is there", || value("connections") == 0.0);
    let path = ringgate.dir.path().join("access.log");
    let log = || std::fs::read_to_string(&path).unwrap_or_default();
    support::eventually("both are logged", || log().lines().count() == 2);
    let stream = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
    let streams: Vec<_> = log().lines().map(|line| stream(line)["stream"].as_u64()).collect();
    assert_eq!(streams, [Some(1), Some(3)]);
}

/// Answers at once, with so many octets.
fn long_answers(length: usize) -> Origin {
    let body = vec![b'x'; length];
    Origin::script(move |conn| {
        while conn.request()?.is_some() {
            conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"))?;
            conn.send(&body)?;
        }
        Ok(())
    })
}

/// A client that reads little at a time, with windows wider than all answers, has sent `requests` and seen that the connection
/// ends; then it reads nothing more until all requests have been served.
fn reads_late(ringgate: &Ringgate, listen: SocketAddr, requests: u32) -> H2 {
    let mut h2 = H2::raw(listen);
    rustix::net::sockopt::set_socket_recv_buffer_size(&h2.tcp, 32 << 10).unwrap();
    h2.shake_hands(&[(4, 1 << 20)]);
    h2.frame(WINDOW_UPDATE, 0, 0, (64u32 << 20).to_be_bytes());
    for n in 0..requests {
        h2.get(2 * n + 1, "/");
    }
    // Answered by the reader of events: without that nothing would end.
    while !matches!(h2.event(), Event::Ping { .. }) {}
    let open = || ringgate.metric("ringgate_http2_open_streams");
    support::eventually("all are served", || open() == Some(0.0));
    h2
}

#[track_caller]
fn all_arrive(h2: &mut H2, requests: u32, length: usize) {
    for n in 0..requests {
        let answer = h2.outcome(2 * n + 1).answer();
        assert_eq!((answer.status(), answer.body.len()), (200, length), "answer {n}");
    }
    parts_politely(h2, 2 * requests - 1);
}

/// H2-15: the end of the connection takes nothing with it, though the client goes on to send WINDOW_UPDATE.
#[test]
fn answers_arrive_after_the_connection_has_ended() {
    let origin = long_answers(60_000);
    let (ringgate, listen) = before(&origin, "\n[limits.http2]\nrequests = 20\n");
    for _ in 0..3 {
        let mut h2 = reads_late(&ringgate, listen, 20);
        all_arrive(&mut h2, 20, 60_000);
    }
}

/// H2-15: what is served is not delivered yet, however slowly the client reads.
#[test]
fn answers_wait_for_a_client_that_reads_late() {
    let origin = long_answers(60_000);
    let more = "\n[limits.http2]\nrequests = 250\nstreams = 250\n";
    let (ringgate, listen) = before(&origin, more);
    let mut h2 = reads_late(&ringgate, listen, 250);
    // Longer than a connection without streams may take to end.
    std::thread::sleep(Duration::from_millis(5600));
    all_arrive(&mut h2, 250, 60_000);
}

/// H2-15: a client that has shaken hands and said nothing yet is served, and told.
#[test]
fn a_drain_awaits_the_preface() {
    let origin = origin();
    let listen = free_address();
    let dir = tempfile::tempdir().unwrap();
    let pair = support::tls::Pair::new("a.test", "a", Duration::from_secs(3600));
    pair.write(&dir.path().join("cert.pem"), &dir.path().join("key.pem"));
    let at = dir.path().display();
    let mut ringgate = Ringgate::start(&format!(
        "[server]\nworkers = 1\n\n[[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\nprotocol = \"https\"\n\
         tls = {{ certificates = [{{ cert = \"{at}/cert.pem\", key = \"{at}/key.pem\" }}] }}\n\
         default = {{ forward = \"all\" }}\n\n\
         [group.all]\ntargets = [\"{}\"]\nhealth = {{ type = \"off\" }}\n",
        origin.address
    ));
    let (mut silent, mut other) = (over_tls(listen, &pair), over_tls(listen, &pair));
    other.shake_hands(&[]);
    assert_eq!(other.fetch(1, "/one").text(), "/one");
    ringgate.signal(Signal::TERM);
    parts_politely(&mut other, 1);
    silent.shake_hands(&[]);
    assert_eq!(silent.fetch(1, "/two").text(), "/two");
    parts_politely(&mut silent, 1);
    drop((silent, other));
    assert!(ringgate.wait_exit().success());
}

fn over_tls(to: SocketAddr, shown: &support::tls::Pair) -> H2 {
    use rustls::pki_types::pem::PemObject;
    use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
    let mut roots = RootCertStore::empty();
    let cert = rustls::pki_types::CertificateDer::from_pem_slice(shown.cert.as_bytes()).unwrap();
    roots.add(cert).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = "a.test".try_into().unwrap();
    let mut session = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut tcp = std::net::TcpStream::connect(to).unwrap();
    tcp.set_nodelay(true).unwrap();
    while session.is_handshaking() {
        session.complete_io(&mut tcp).unwrap();
    }
    let below = tcp.try_clone().unwrap();
    H2::over(below, Box::new(StreamOwned::new(session, tcp)))
}
