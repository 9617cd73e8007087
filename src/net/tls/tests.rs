//! Sessions over connections in memory, with our own other side and with rustls' buffered one.

use super::*;
use crate::base::lease::{Budget, Lease};
use crate::net::Timers;
use crate::net::memory::End as Wire;
use crate::net::memory::{self, Shape};
use crate::tls::certificate::Files;
use crate::tls::{Certificate, Clients, Policy, Terms, Tickets, provider};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConnection, RootCertStore};
use std::cell::Cell;
use std::io::{Read, Write};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

struct World {
    pool: Rc<Buffers>,
    timers: Rc<Timers>,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

fn world(policy: Policy, only_12: bool) -> World {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    let made = params.self_signed(&key).unwrap();
    let (chain, key) = (made.pem(), key.serialize_pem());
    let files = Files { chain: chain.as_bytes(), key: key.as_bytes(), staple: None };
    let terms = Terms {
        policy,
        only_13: false,
        certificates: vec![Arc::new(Certificate::read("a.pem", files).unwrap())],
        alpn: vec![b"http/1.1".to_vec()],
        clients: Clients::Unasked,
    };
    World {
        pool: Rc::new(Buffers::new(Lease::new(Budget::new(10_000), 1))),
        timers: Rc::new(Timers::default()),
        server: Arc::new(terms.build(Some(Tickets::new(0).unwrap()), None).unwrap()),
        client: client_config(made.der().clone(), only_12),
    }
}

fn client_config(ca: CertificateDer<'static>, only_12: bool) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(ca).unwrap();
    let versions: &[_] =
        if only_12 { &[&rustls::version::TLS12] } else { rustls::DEFAULT_VERSIONS };
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

fn name() -> ServerName<'static> {
    "a.example".try_into().unwrap()
}

// Polls both to their ends. What neither can go on with is a hang.
fn both<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut of_a, mut of_b) = (None, None);
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..2_000_000 {
        poll_into(a.as_mut(), &mut of_a, &mut cx);
        poll_into(b.as_mut(), &mut of_b, &mut cx);
        (of_a, of_b) = match (of_a, of_b) {
            (Some(of_a), Some(of_b)) => return (of_a, of_b),
            unfinished => unfinished,
        };
    }
    panic!("neither side gets on (first done: {}, second: {})", of_a.is_some(), of_b.is_some());
}

fn poll_into<T>(future: Pin<&mut impl Future<Output = T>>, to: &mut Option<T>, cx: &mut Context) {
    if to.is_none()
        && let Poll::Ready(done) = future.poll(cx)
    {
        *to = Some(done);
    }
}

fn wires(shape: Shape) -> (Wire, Wire) {
    memory::pair(shape, [None, None])
}

// A client's socket and a server's, their handshake done.
fn connected(w: &World, shape: Shape) -> (Sock, Sock) {
    let (ours, theirs) = wires(shape);
    let (mut client, mut server) =
        (Sock::in_memory(ours, &w.timers), Sock::in_memory(theirs, &w.timers));
    let (a, b) = both(
        client.connect_tls(&w.client, name(), &w.pool, Tick::NEVER),
        server.accept_tls(&w.server, &w.pool, None, Tick::NEVER),
    );
    assert_eq!((a, b), (Ok(()), Ok(())));
    (client, server)
}

const STALL: Duration = Duration::from_secs(3600);

async fn read_all(sock: &Sock, length: usize, step: usize) -> Vec<u8> {
    let (mut all, mut room) = (Vec::new(), vec![0; step]);
    while all.len() < length {
        let n = sock.read(&mut room).await.unwrap();
        assert!(n > 0, "the end after {} of {length}", all.len());
        all.extend_from_slice(&room[..n]);
    }
    all
}

fn send(sock: &Sock, octets: &[u8]) {
    both(sock.write_all(octets, STALL), async {}).0.unwrap();
}

fn octets(length: usize, seed: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 31 + i / 253 + seed) as u8).collect()
}

const SHAPES: [Shape; 4] = [
    Shape { capacity: [1, 1], most: 1, reset_overtakes: true },
    Shape { capacity: [100, 37], most: 23, reset_overtakes: true },
    Shape { capacity: [1 << 14, 1 << 15], most: 5000, reset_overtakes: true },
    Shape { capacity: [1 << 20; 2], most: usize::MAX, reset_overtakes: true },
];

// Hazard TLS-03: the hello, and everything after it, in pieces of every kind.
#[test]
fn octets_arrive_whole_and_in_order_however_the_socket_cuts_them() {
    for only_12 in [false, true] {
        let w = world(Policy::Modern, only_12);
        for shape in SHAPES {
            let (client, server) = connected(&w, shape);
            let facts = server.tls().unwrap();
            assert_eq!(facts.version, if only_12 { "TLSv1.2" } else { "TLSv1.3" });
            assert_eq!(facts.name.as_deref(), Some("a.example"));
            assert_eq!(facts.alpn.as_deref(), Some(&b"http/1.1"[..]));
            let lengths: &[usize] =
                if shape.most == 1 { &[1, 300] } else { &[1, 16_384, 16_385, 70_000, 200_000] };
            for &length in lengths {
                for step in [7, 5000, 65_536] {
                    let (up, down) = (octets(length, 1), octets(length, 2));
                    let (head, tail) = down.split_at(length / 3);
                    let ask = async {
                        client.write_all(&up, STALL).await.unwrap();
                        read_all(&client, length, step).await
                    };
                    let answer = async {
                        let got = read_all(&server, length, step).await;
                        server.write_two(head, tail, STALL).await.unwrap();
                        got
                    };
                    let (got_down, got_up) = both(ask, answer);
                    assert!(got_up == up && got_down == down, "{shape:?} {length} {step}");
                }
            }
            drop((client, server));
        }
        assert_eq!(w.pool.leased(), 0);
    }
}

#[test]
fn both_directions_can_be_full_at_once() {
    let w = world(Policy::Modern, false);
    let (client, server) = connected(&w, SHAPES[1]);
    let (up, down) = (octets(100_000, 1), octets(100_000, 2));
    let side = async |sock: &Sock, out: &[u8]| {
        let mut written = pin!(sock.write_all(out, STALL));
        let mut read = pin!(read_all(sock, 100_000, 4000));
        let (mut done, mut got) = (None, None);
        std::future::poll_fn(|cx| {
            poll_into(written.as_mut(), &mut done, cx);
            poll_into(read.as_mut(), &mut got, cx);
            if done.is_some() && got.is_some() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        got.unwrap()
    };
    let (got_down, got_up) = both(side(&client, &up), side(&server, &down));
    assert!(got_up == up && got_down == down);
}

// An idle session holds no block; part of a record takes as many octets as have come.
#[test]
fn who_waits_holds_no_block() {
    let w = world(Policy::Modern, false);
    let (client, server) = connected(&w, SHAPES[3]);
    let mut room = [0; 100];
    assert_eq!(client.try_read(&mut room).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(w.pool.leased(), 0, "tickets are taken in");
    send(&client, b"request");
    assert_eq!((server.try_read(&mut room).unwrap(), w.pool.leased()), (7, 0));
    let (client, server) = connected(&w, Shape { capacity: [30, 1 << 20], ..SHAPES[3] });
    let half = client.try_write(&[IoSlice::new(&[1; 300])]);
    assert_eq!(half.unwrap_err().kind(), ErrorKind::WouldBlock, "not taken until it is sent");
    assert_eq!(server.try_read(&mut room).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(w.pool.leased(), 1, "what the writer has promised, and nothing of the reader's");
    let leftovers = octets(40, 9);
    assert_eq!(
        client.try_write(&[IoSlice::new(&leftovers)]).map_err(|e| e.kind()),
        Err(ErrorKind::WouldBlock),
        "whatever is offered, what was promised goes first"
    );
}

#[test]
fn what_was_offered_must_be_offered_again() {
    let w = world(Policy::Modern, false);
    let (client, server) = connected(&w, Shape { capacity: [30, 1 << 20], ..SHAPES[3] });
    assert!(client.try_write(&[IoSlice::new(&[1; 300])]).is_err());
    let mut room = [0; 400];
    let mut kind = ErrorKind::WouldBlock;
    while kind == ErrorKind::WouldBlock {
        assert!(server.try_read(&mut room).is_err() || kind != ErrorKind::WouldBlock);
        kind = match client.try_write(&[IoSlice::new(&[2; 10])]) {
            Ok(n) => panic!("{n} octets taken of others"),
            Err(e) => e.kind(),
        };
    }
    assert_eq!(kind, ErrorKind::InvalidInput);
}

// What is decrypted already must not wait for the socket.
#[test]
fn what_is_left_decrypted_is_ready_at_once() {
    let w = world(Policy::Modern, false);
    let (client, server) = connected(&w, SHAPES[3]);
    let two = async {
        client.write_all(b"one record", STALL).await.unwrap();
        client.write_all(b"and another", STALL).await.unwrap();
    };
    both(two, async {});
    let mut room = [0; 4];
    assert_eq!(server.try_read(&mut room).unwrap(), 4);
    let mut got = room.to_vec();
    let mut cx = Context::from_waker(Waker::noop());
    while got.len() < 21 {
        assert!(pin!(server.readable()).poll(&mut cx).is_ready(), "after {}", got.len());
        let n = server.try_read(&mut room).unwrap();
        got.extend_from_slice(&room[..n]);
    }
    assert_eq!(got, b"one recordand another");
    assert!(pin!(server.readable()).poll(&mut cx).is_pending());
    assert_eq!(w.pool.leased(), 0);
}

// Hazard TLS-08.
#[test]
fn an_end_is_told_from_a_cut() {
    let w = world(Policy::Modern, false);
    type Ending = fn(Sock);
    let endings: [(&str, Ending, Result<usize, ErrorKind>); 4] = [
        ("finish", |s| s.finish_writing(), Ok(0)),
        ("drop", drop, Ok(0)),
        ("a bare FIN", |s| s.finish(), Err(ErrorKind::UnexpectedEof)),
        ("reset", |s| s.reset_on_close(), Err(ErrorKind::ConnectionReset)),
    ];
    for (what, end, expected) in endings {
        let (client, server) = connected(&w, SHAPES[3]);
        assert_eq!(client.try_read(&mut [0; 9]).map_err(|e| e.kind()), Err(ErrorKind::WouldBlock));
        if what == "a bare FIN" {
            server.finish();
            server.reset_on_close();
            let got = client.try_read(&mut [0; 9]).map_err(|e| e.kind());
            assert_eq!(got, expected, "{what}");
            continue;
        }
        end(server);
        for _ in 0..2 {
            let got = client.try_read(&mut [0; 9]).map_err(|e| e.kind());
            assert_eq!(got, expected, "{what}");
            assert!(client.has_news());
        }
    }
}

#[test]
fn tickets_are_no_news_and_octets_are() {
    let w = world(Policy::Modern, false);
    let (client, server) = connected(&w, SHAPES[3]);
    assert!(!client.has_news(), "two tickets have come");
    send(&server, b"unasked");
    assert!(client.has_news() && client.has_news());
    let mut room = [0; 100];
    assert_eq!(client.try_read(&mut room).unwrap(), 7, "and they are not lost");
    assert!(!client.has_news());
    drop(server);
    assert!(client.has_news());
}

// Tickets resume a session, whichever worker has sealed them.
#[test]
fn a_ticket_resumes_a_session() {
    for only_12 in [false, true] {
        let w = world(Policy::Modern, only_12);
        for round in 0..3 {
            let (client, server) = connected(&w, SHAPES[3]);
            assert!(!client.has_news());
            assert_eq!(server.tls().unwrap().resumed, round > 0, "{only_12} {round}");
            assert_eq!(server.tls().unwrap().name.as_deref(), Some("a.example"));
        }
    }
}

// rustls' own buffered client on the other end of a wire.
struct Peer {
    tls: ClientConnection,
    wire: Wire,
}

impl Peer {
    fn new(w: &World, wire: Wire) -> Peer {
        Peer { tls: ClientConnection::new(Arc::clone(&w.client), name()).unwrap(), wire }
    }

    // Sends and reads all that can be; what it got.
    fn turn(&mut self) -> Vec<u8> {
        let Peer { tls, wire } = self;
        let mut got = Vec::new();
        let mut room = [0; 4096];
        while let Ok(n) = wire.read(&mut room)
            && n > 0
        {
            tls.read_tls(&mut &room[..n]).unwrap();
            tls.process_new_packets().unwrap();
            let _ = tls.reader().read_to_end(&mut got);
        }
        let mut out = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut out).unwrap();
        }
        let sent = if out.is_empty() { 0 } else { wire.write(&[IoSlice::new(&out)]).unwrap() };
        assert_eq!(sent, out.len(), "the wire is wide enough");
        got
    }

    async fn shake_hands(&mut self) {
        std::future::poll_fn(|_| {
            self.turn();
            if self.tls.is_handshaking() { Poll::Pending } else { Poll::Ready(()) }
        })
        .await
    }
}

// The server's socket and rustls' client, their handshake done.
fn with_peer(w: &World) -> (Sock, Peer) {
    let (ours, theirs) = wires(SHAPES[3]);
    let (mut sock, mut peer) = (Sock::in_memory(ours, &w.timers), Peer::new(w, theirs));
    let accepted = sock.accept_tls(&w.server, &w.pool, None, Tick::NEVER);
    let (accepted, ()) = both(accepted, peer.shake_hands());
    accepted.unwrap();
    (sock, peer)
}

#[test]
fn a_key_update_is_answered_though_nobody_writes() {
    let w = world(Policy::Modern, false);
    let (sock, mut peer) = with_peer(&w);
    let mut room = [0; 100];
    for round in 0..5 {
        peer.tls.refresh_traffic_keys().unwrap();
        peer.tls.writer().write_all(b"after").unwrap();
        peer.turn();
        assert_eq!(sock.try_read(&mut room).unwrap(), 5, "{round}");
        send(&sock, b"answer");
        assert_eq!(peer.turn(), b"answer", "{round}");
    }
    assert_eq!(w.pool.leased(), 0);
}

#[test]
fn many_small_records_and_empty_reads_cost_nothing_but_time() {
    let w = world(Policy::Modern, false);
    let (sock, mut peer) = with_peer(&w);
    for n in 0..200 {
        peer.tls.writer().write_all(&[n]).unwrap();
        peer.turn();
    }
    assert_eq!(sock.try_read(&mut []).unwrap(), 0);
    let mut room = [0; 16_384];
    let mut got = Vec::new();
    while let Ok(n) = sock.try_read(&mut room) {
        got.extend_from_slice(&room[..n]);
    }
    assert_eq!(got, (0..200).collect::<Vec<u8>>());
    peer.tls.send_close_notify();
    peer.turn();
    assert_eq!(sock.try_read(&mut room).unwrap(), 0);
    send(&sock, b"still");
    assert_eq!(peer.turn(), b"still", "the other direction is open");
}

// Hazard RT-15.
#[test]
fn who_sends_without_a_pause_lets_others_have_their_turn() {
    let w = world(Policy::Modern, false);
    let (sock, mut peer) = with_peer(&w);
    for n in 0..3000_u32 {
        peer.tls.writer().write_all(&[n as u8]).unwrap();
        peer.turn();
    }
    let mut room = [0; 100];
    let (mut got, mut turns) = (Vec::new(), 0);
    while got.len() < 3000 {
        match sock.try_read(&mut room) {
            Ok(n) => got.extend_from_slice(&room[..n]),
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::WouldBlock);
                turns += 1;
                let mut ready = pin!(sock.readable());
                let mut cx = Context::from_waker(Waker::noop());
                assert!(ready.as_mut().poll(&mut cx).is_pending(), "the others come first");
                assert!(matches!(ready.as_mut().poll(&mut cx), Poll::Ready(Ok(()))));
            }
        }
    }
    assert_eq!(got, (0..3000_u32).map(|n| n as u8).collect::<Vec<u8>>());
    assert!((1..=2).contains(&turns), "{turns}");
}

#[test]
fn key_updates_without_octets_outlast_no_deadline() {
    let w = world(Policy::Modern, false);
    let (sock, mut peer) = with_peer(&w);
    sock.arm(Side::Read, Tick::from_nanos(50));
    w.timers.sweep(Tick::from_nanos(100));
    for _ in 0..80 {
        for _ in 0..30 {
            peer.tls.refresh_traffic_keys().unwrap();
        }
        // Or rustls itself has had enough.
        peer.tls.writer().write_all(b"x").unwrap();
        peer.turn();
    }
    let mut room = [0; 1];
    let (mut read, mut cx) = (0, Context::from_waker(Waker::noop()));
    while sock.try_read(&mut room).is_ok() {
        read += 1;
    }
    assert!((1..80).contains(&read), "{read}");
    let mut ready = pin!(sock.readable());
    assert!(ready.as_mut().poll(&mut cx).is_pending());
    let Poll::Ready(Err(error)) = ready.as_mut().poll(&mut cx) else { panic!("not yet?") };
    assert_eq!(error.kind(), ErrorKind::TimedOut);
}

// A handshake with what a hostile client sends; what it failed of, and whether the client was told.
fn refused(w: &World, hello: &[u8], closes: bool) -> (Failure, Vec<u8>) {
    let (ours, theirs) = wires(SHAPES[3]);
    let mut sock = Sock::in_memory(ours, &w.timers);
    theirs.write(&[IoSlice::new(hello)]).unwrap();
    if closes {
        theirs.finish_writing();
    }
    let accepted = both(sock.accept_tls(&w.server, &w.pool, None, Tick::NEVER), async {}).0;
    let failure = accepted.unwrap_err();
    assert!(sock.tls().is_none());
    let mut alert = vec![0; 100];
    let n = theirs.read(&mut alert).unwrap_or(0);
    alert.truncate(n);
    (failure, alert)
}

// Hazards TLS-03, TLS-13.
#[test]
fn what_is_no_hello_ends_at_once_and_with_an_alert() {
    let w = world(Policy::Modern, false);
    let (failure, alert) = refused(&w, b"GET / HTTP/1.1\r\n\r\n", false);
    assert_eq!((failure.reason, alert.first()), (Reason::Malformed, Some(&21)));
    // A hello of TLS 1.0 with one old suite.
    let mut hello = vec![22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 1];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0, 47, 1, 0]);
    let (failure, alert) = refused(&w, &hello, false);
    assert_eq!(failure.reason, Reason::Version, "{failure}");
    assert_eq!(alert.first(), Some(&21));
    for (junk, what) in [
        (&[22, 3, 1, 0xff, 0xff][..], "a record that is too long"),
        (&[22, 3, 1, 0, 0], "an empty record"),
        (&[23, 3, 3, 0, 5, 1, 2, 3, 4, 5], "octets before a handshake"),
        (&[22, 9, 9, 0, 1, 1], "a version of its own"),
    ] {
        let (failure, _) = refused(&w, junk, false);
        assert_eq!(failure.reason, Reason::Malformed, "{what}: {failure}");
    }
    assert_eq!(refused(&w, &[22, 3, 1, 0, 9, 1], true).0.reason, Reason::Closed);
    assert_eq!(w.pool.leased(), 0);
}

// Each part costs a header, and memory until the message is whole.
#[test]
fn a_hello_in_crumbs_is_not_gathered_for_ever() {
    let w = world(Policy::Modern, false);
    let mut hello = vec![22, 3, 1, 0, 4, 1, 0, 0xff, 0];
    for _ in 0..20_000 {
        hello.extend([22, 3, 1, 0, 1, 7]);
    }
    let (failure, _) = refused(&w, &hello, false);
    assert_eq!(failure.reason, Reason::Malformed, "{failure}");
    assert_eq!(w.pool.leased(), 0);
}

#[test]
fn a_handshake_that_stalls_ends() {
    let w = world(Policy::Modern, false);
    let (ours, _theirs) = wires(SHAPES[3]);
    let mut sock = Sock::in_memory(ours, &w.timers);
    let swept = Cell::new(0);
    let stalled = async {
        std::future::poll_fn(|_| {
            swept.set(swept.get() + 1);
            w.timers.sweep(Tick::from_nanos(swept.get()));
            if swept.get() > 100 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    };
    let deadline = Tick::from_nanos(50);
    let (accepted, ()) = both(sock.accept_tls(&w.server, &w.pool, None, deadline), stalled);
    assert_eq!(accepted, Err(Failure::new(Reason::Timeout)));
}

// Hazard TLS-10.
#[test]
fn a_target_that_speaks_before_the_handshake_is_refused() {
    let w = world(Policy::Modern, false);
    let (ours, theirs) = wires(SHAPES[3]);
    let mut sock = Sock::in_memory(ours, &w.timers);
    theirs.write(&[IoSlice::new(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")]).unwrap();
    let connected = sock.connect_tls(&w.client, name(), &w.pool, Tick::NEVER);
    assert_eq!(both(connected, async {}).0.map_err(|f| f.reason), Err(Reason::Malformed));
}

// Hazard TLS-09.
#[test]
fn a_target_with_another_name_or_issuer_is_refused() {
    let w = world(Policy::Modern, false);
    let stranger = world(Policy::Modern, false);
    for (config, name, reason) in [
        (&w.client, "b.example", Reason::WrongName),
        (&stranger.client, "a.example", Reason::UnknownCa),
    ] {
        let (ours, theirs) = wires(SHAPES[3]);
        let (mut client, mut server) =
            (Sock::in_memory(ours, &w.timers), Sock::in_memory(theirs, &w.timers));
        let name = ServerName::try_from(name).unwrap();
        let (a, b) = both(
            client.connect_tls(config, name, &w.pool, Tick::NEVER),
            server.accept_tls(&w.server, &w.pool, None, Tick::NEVER),
        );
        assert_eq!(a.map_err(|f| f.reason), Err(reason));
        assert_eq!(b.map_err(|f| f.reason), Err(Reason::Alert));
    }
}

// Hazard TLS-11.
#[test]
fn protocols_without_overlap_are_refused() {
    let w = world(Policy::Modern, false);
    let mut config = (*w.client).clone();
    config.alpn_protocols = vec![b"ftp".to_vec()];
    let (ours, theirs) = wires(SHAPES[3]);
    let (mut client, mut server) =
        (Sock::in_memory(ours, &w.timers), Sock::in_memory(theirs, &w.timers));
    let (a, b) = both(
        client.connect_tls(&Arc::new(config), name(), &w.pool, Tick::NEVER),
        server.accept_tls(&w.server, &w.pool, None, Tick::NEVER),
    );
    assert_eq!(b.map_err(|f| f.reason), Err(Reason::NoSharedProtocol));
    assert_eq!(a.map_err(|f| f.reason), Err(Reason::Alert));
}
