//! Listeners of protocol tcp: connections are relayed as they are, over the same groups, limits and drains as requests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

mod support;

use rustix::process::Signal;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use support::ringgate::forwarding;
use support::{Client, Origin, PATIENCE, Ringgate, eventually, free_address};

/// A listener of protocol tcp in front of `targets`; `listener` and `group` are further lines of theirs.
fn tcp(listen: SocketAddr, targets: &[SocketAddr], listener: &str, group: &str) -> String {
    forwarding(listen, targets, group)
        .replace("name = \"web\"\n", &format!("name = \"web\"\nprotocol = \"tcp\"\n{listener}\n"))
}

/// Says its number, then sends back what it reads.
fn numbered(number: u8) -> Origin {
    Origin::script(move |conn| {
        conn.send([number])?;
        let mut stream = conn.wire.stream.try_clone()?;
        std::io::copy(&mut conn.wire.stream, &mut stream)?;
        Ok(())
    })
}

fn echo() -> Origin {
    Origin::script(|conn| {
        let mut stream = conn.wire.stream.try_clone()?;
        std::io::copy(&mut conn.wire.stream, &mut stream)?;
        Ok(())
    })
}

fn connect(to: SocketAddr) -> TcpStream {
    Client::connect(to).wire.stream
}

/// Octets that differ wherever they are.
fn pattern(length: usize) -> Vec<u8> {
    (0..length as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

fn read_exactly(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut got = vec![0; length];
    stream.read_exact(&mut got).expect("octets arrive");
    got
}

/// Whether the peer has ended the connection, by FIN or reset.
fn is_over(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0]), Ok(0))
        || matches!(stream.peek(&mut [0]), Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset)
}

#[track_caller]
fn expect_over(stream: &mut TcpStream) {
    assert!(is_over(stream), "the connection is still open");
}

#[test]
fn octets_pass_as_they_are_both_ways_and_each_side_ends_for_itself() {
    let echo = echo();
    let listen = free_address();
    let ringgate = Ringgate::start(&tcp(listen, &[echo.address], "", ""));
    for length in [1, 100, 70_000, 20 << 20] {
        let mut client = connect(listen);
        let sent = pattern(length);
        let mut writer = client.try_clone().unwrap();
        let copy = sent.clone();
        let writing = std::thread::spawn(move || {
            writer.write_all(&copy).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut got = Vec::new();
        client.read_to_end(&mut got).unwrap();
        writing.join().unwrap();
        assert!(got == sent, "{length} octets sent, {} came back", got.len());
    }
    let octets = (1 + 100 + 70_000 + (20 << 20)) as f64;
    for name in ["", "group_", "target_"] {
        let sum = |what: &str| ringgate.sum(&format!("ringgate_{name}{what}"), &[]);
        eventually("all is counted", || sum("received_bytes_total") == octets);
        eventually("all is closed", || sum("open_tunnels") == 0.0);
        assert_eq!((sum("tunnels_total"), sum("sent_bytes_total")), (4.0, octets));
    }
    let connections = || ringgate.metric("ringgate_connections{listener=\"web\"}");
    eventually("nobody is connected", || connections() == Some(0.0));
}

// Hazard WS-04.
#[test]
fn a_half_that_has_ended_leaves_the_other_open() {
    // The target ends first, and goes on reading.
    let (heard, hears) = mpsc::channel();
    let origin = Origin::script(move |conn| {
        conn.send("bye")?;
        conn.wire.stream.shutdown(Shutdown::Write)?;
        heard.send(conn.wire.rest()?).unwrap();
        Ok(())
    });
    let listen = free_address();
    let _ringgate = Ringgate::start(&tcp(listen, &[origin.address], "", ""));
    let mut client = connect(listen);
    let mut got = Vec::new();
    client.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"bye");
    client.write_all(b"still here").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(hears.recv_timeout(PATIENCE).unwrap(), b"still here");
}

// Hazard WS-04.
#[test]
fn who_does_not_read_stops_the_sender_and_not_the_other_direction() {
    let (done, went) = mpsc::channel();
    let origin = Origin::script(move |conn| {
        // Sends until it is stopped, for as long as the client does not read.
        let stream = conn.wire.stream.try_clone()?;
        stream.set_nonblocking(false)?;
        let writing = std::thread::spawn({
            let mut stream = stream.try_clone()?;
            move || stream.write_all(&vec![7; 64 << 20])
        });
        let mut got = vec![0; 1 << 20];
        conn.wire.stream.read_exact(&mut got)?;
        done.send(got).unwrap();
        writing.join().unwrap()
    });
    let listen = free_address();
    let ringgate = Ringgate::start(&tcp(listen, &[origin.address], "", ""));
    let mut client = connect(listen);
    let sent = pattern(1 << 20);
    client.write_all(&sent).unwrap();
    assert!(went.recv_timeout(PATIENCE).unwrap() == sent, "the upload is whole");
    // What lies in queues on the way is bounded.
    let out = || ringgate.sum("ringgate_sent_bytes_total", &[]);
    let mut before = -1.0;
    eventually("the download stops", || {
        std::thread::sleep(Duration::from_millis(300));
        out() == std::mem::replace(&mut before, out())
    });
    assert!(before < (40 << 20) as f64, "{before} octets to a client that reads none");
    let mut got = vec![0; 64 << 20];
    client.read_exact(&mut got).unwrap();
    assert!(got.iter().all(|octet| *octet == 7));
}

#[test]
fn targets_that_cannot_be_reached_are_passed_over() {
    let (dead, one, two) = (free_address(), numbered(1), numbered(2));
    let listen = free_address();
    let config = tcp(listen, &[dead, one.address, two.address], "", "");
    let ringgate = Ringgate::start(&config);
    let mut seen = [0; 3];
    for _ in 0..12 {
        seen[usize::from(read_exactly(&mut connect(listen), 1)[0])] += 1;
    }
    assert!(seen[0] == 0 && seen[1] >= 4 && seen[2] >= 4, "{seen:?}");
    assert!(ringgate.sum("ringgate_target_connect_errors_total", &[&dead.to_string()]) >= 2.0);
}

#[test]
fn without_a_target_connections_close_at_once_and_are_counted() {
    let listen = free_address();
    let dir = tempfile::tempdir().unwrap();
    let log = "\n[log]\naccess = \"./access.log\"\n";
    let ringgate = Ringgate::start_in(dir, &(tcp(listen, &[], "", "") + log));
    let began = Instant::now();
    expect_over(&mut connect(listen));
    assert!(began.elapsed() < PATIENCE / 2);
    assert_eq!(ringgate.metric("ringgate_faults_total{reason=\"no_target\"}"), Some(1.0));
    assert_eq!(ringgate.metric("ringgate_group_faults_total{group=\"all\"}"), Some(1.0));
    ringgate.reload(&(tcp(listen, &[free_address()], "", "") + log));
    expect_over(&mut connect(listen));
    assert_eq!(ringgate.metric("ringgate_faults_total{reason=\"connect_failed\"}"), Some(1.0));
    // Without a default, and no rule that takes it.
    let config = tcp(listen, &[], "", "").replace("default = { forward = \"all\" }\n", "");
    ringgate.reload(&(config + log));
    expect_over(&mut connect(listen));
    assert_eq!(ringgate.metric("ringgate_faults_total{reason=\"no_route\"}"), Some(1.0));
    let records = records(&ringgate, 3);
    let reasons: Vec<_> = records.iter().map(|r| r["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["no_target", "connect_failed", "no_route"]);
}

fn records(ringgate: &Ringgate, count: usize) -> Vec<serde_json::Value> {
    let path = ringgate.dir.path().join("access.log");
    let read = || std::fs::read_to_string(&path).unwrap_or_default();
    eventually("the records are written", || read().lines().count() >= count);
    read().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_record_says_who_was_relayed_where_and_how_much() {
    let one = numbered(1);
    let listen = free_address();
    let config = tcp(listen, &[one.address], "", "") + "\n[log]\naccess = \"./access.log\"\n";
    let ringgate = Ringgate::start(&config);
    let mut client = connect(listen);
    read_exactly(&mut client, 1);
    client.write_all(b"hello").unwrap();
    assert_eq!(read_exactly(&mut client, 5), b"hello");
    let open = |scope: &str| ringgate.sum(&format!("ringgate_{scope}open_tunnels"), &[]);
    assert_eq!((open(""), open("group_"), open("target_")), (1.0, 1.0, 1.0));
    client.shutdown(Shutdown::Write).unwrap();
    expect_over(&mut client);
    let record = &records(&ringgate, 1)[0];
    let text = |key: &str| record[key].as_str().unwrap_or("-").to_owned();
    assert_eq!(text("listener"), "web");
    assert_eq!(
        (text("scheme"), text("group"), text("action")),
        ("tcp".into(), "all".into(), "forward".into())
    );
    assert_eq!(text("target"), one.address.to_string());
    assert_eq!(text("peer"), client.local_addr().unwrap().to_string());
    assert_eq!((&record["bytes_in"], &record["bytes_out"]), (&5.into(), &6.into()));
    assert!(record["reason"].is_null() && record["total_ms"].as_f64().unwrap() > 0.0, "{record}");
}

#[test]
fn rules_of_the_listener_choose_by_source() {
    let (one, two) = (numbered(1), numbered(2));
    let listen = free_address();
    let rule = |name: &str, more: &str, source: &str| {
        format!(
            "\n[[rule]]\nname = \"{name}\"\n{more}forward = \"two\"\nwhen = {{ source = \"{source}\" }}\n"
        )
    };
    let config = tcp(listen, &[one.address], "", "")
        // A rule that names no listener is about requests.
        + &rule("every", "", "0.0.0.0/0")
        + &rule("some", "listener = \"web\"\n", "127.0.0.2/32")
        + &format!("[group.two]\ntargets = [\"{}\"]\nhealth = {{ type = \"off\" }}\n", two.address);
    let ringgate = Ringgate::start(&config);
    assert_eq!(read_exactly(&mut connect(listen), 1), [1]);
    let other = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
        None,
    )
    .unwrap();
    rustix::net::bind(&other, &SocketAddr::from(([127, 0, 0, 2], 0))).unwrap();
    rustix::net::connect(&other, &listen).unwrap();
    assert_eq!(read_exactly(&mut TcpStream::from(other), 1), [2]);
    eventually("the rule is counted", || {
        ringgate.metric("ringgate_rule_tunnels_total{rule=\"some\"}").is_some_and(|n| n == 1.0)
    });
}

#[test]
fn a_proxy_header_says_whose_connection_it_is() {
    let one = numbered(1);
    let listen = free_address();
    let config = tcp(listen, &[one.address], "proxy_protocol = \"any\"", "")
        + "\n[log]\naccess = \"./access.log\"\n[server]\ntrusted_proxies = [\"127.0.0.1\"]\n";
    let ringgate = Ringgate::start(&config);
    let mut client = connect(listen);
    client.write_all(b"PROXY TCP4 203.0.113.7 198.51.100.1 4000 443\r\nhello").unwrap();
    assert_eq!(read_exactly(&mut client, 6), b"\x01hello");
    drop(client);
    assert_eq!(records(&ringgate, 1)[0]["client"], "203.0.113.7");
}

// Hazard WS-02.
#[test]
fn a_tunnel_without_octets_ends_and_one_with_octets_either_way_does_not() {
    let (sender, one) = (
        numbered(1),
        Origin::script(|conn| {
            for _ in 0..12 {
                conn.send(".")?;
                std::thread::sleep(Duration::from_millis(100));
            }
            conn.wire.rest()?;
            Ok(())
        }),
    );
    let (listen, other) = (free_address(), free_address());
    let idle = "timeouts = { idle = \"500ms\" }";
    let config = tcp(listen, &[one.address], idle, "")
        + &format!(
            "[[listener]]\nname = \"other\"\nbind = \"{other}\"\nprotocol = \"tcp\"\n{idle}\n\
             default = {{ forward = \"other\" }}\n[group.other]\ntargets = [\"{}\"]\n\
             health = {{ type = \"off\" }}\n",
            sender.address
        );
    let ringgate = Ringgate::start(&config);
    let began = Instant::now();
    let mut silent = connect(other);
    read_exactly(&mut silent, 1);
    let mut listening = connect(listen);
    expect_over(&mut silent);
    assert!(began.elapsed() >= Duration::from_millis(500));
    assert_eq!(read_exactly(&mut listening, 12), [b'.'; 12], "it was sent something in time");
    expect_over(&mut listening);
    eventually("both are counted", || {
        ringgate.metric("ringgate_faults_total{reason=\"tunnel_idle\"}") == Some(2.0)
    });
}

#[test]
fn a_reset_goes_on_to_the_other_side() {
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = free_address();
    let ringgate = Ringgate::start(&tcp(listen, &[target.local_addr().unwrap()], "", ""));
    let mut client = connect(listen);
    client.write_all(b"hello").unwrap();
    let (mut accepted, _) = target.accept().unwrap();
    accepted.read_exact(&mut [0; 5]).unwrap();
    rustix::net::sockopt::set_socket_linger(&accepted, Some(Duration::ZERO)).unwrap();
    drop(accepted);
    let error = client.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    eventually("it is counted", || {
        ringgate.metric("ringgate_faults_total{reason=\"tunnel_target_reset\"}") == Some(1.0)
    });
}

// Hazard WS-03.
#[test]
fn a_reload_leaves_tunnels_and_a_removed_target_gets_its_time_to_drain() {
    let (one, two) = (numbered(1), numbered(2));
    let listen = free_address();
    let group = "drain = \"700ms\"";
    let ringgate = Ringgate::start(&tcp(listen, &[one.address], "", group));
    let mut client = connect(listen);
    read_exactly(&mut client, 1);
    for _ in 0..3 {
        ringgate.reload(&tcp(listen, &[one.address], "", &format!("retries = 1\n{group}")));
        client.write_all(b"x").unwrap();
        assert_eq!(read_exactly(&mut client, 1), b"x");
    }
    let began = Instant::now();
    ringgate.reload(&tcp(listen, &[two.address], "", group));
    client.write_all(b"y").unwrap();
    assert_eq!(read_exactly(&mut client, 1), b"y");
    assert_eq!(read_exactly(&mut connect(listen), 1), [2]);
    expect_over(&mut client);
    assert!(began.elapsed() >= Duration::from_millis(600), "{:?}", began.elapsed());
    eventually("it is counted", || {
        ringgate.metric("ringgate_faults_total{reason=\"tunnel_cut\"}") == Some(1.0)
    });
}

// Hazards WS-03 and OPS-07.
#[test]
fn a_stop_leaves_tunnels_their_time_and_then_ends_them() {
    let one = numbered(1);
    let listen = free_address();
    let config = tcp(listen, &[one.address], "", "") + "\n[server]\ndrain = \"700ms\"\n";
    let mut ringgate = Ringgate::start(&config);
    let mut client = connect(listen);
    read_exactly(&mut client, 1);
    let began = Instant::now();
    ringgate.signal(Signal::TERM);
    eventually("nobody is accepted any more", || {
        TcpStream::connect_timeout(&listen, PATIENCE).is_err()
    });
    client.write_all(b"x").unwrap();
    assert_eq!(read_exactly(&mut client, 1), b"x");
    expect_over(&mut client);
    assert!(began.elapsed() >= Duration::from_millis(600), "{:?}", began.elapsed());
    assert!(ringgate.wait_exit().success());
    // One that ends by itself is not waited for.
    let mut ringgate = Ringgate::start(&config.replace("700ms", "1h"));
    let mut client = connect(listen);
    read_exactly(&mut client, 1);
    ringgate.signal(Signal::TERM);
    client.shutdown(Shutdown::Write).unwrap();
    expect_over(&mut client);
    assert!(ringgate.wait_exit().success());
}

// Hazard WS-02.
#[test]
fn tunnels_have_a_limit_and_it_recovers() {
    let one = numbered(1);
    let listen = free_address();
    let config =
        tcp(listen, &[one.address], "", "") + "\n[limits]\ntunnels = 2\n[server]\nworkers = 1\n";
    let ringgate = Ringgate::start(&config);
    let mut held: Vec<TcpStream> = (0..2).map(|_| connect(listen)).collect();
    held.iter_mut().for_each(|client| assert_eq!(read_exactly(client, 1), [1]));
    expect_over(&mut connect(listen));
    let refused = "ringgate_faults_total{reason=\"too_many_tunnels\"}";
    assert_eq!(ringgate.metric(refused), Some(1.0));
    held.pop();
    eventually("there is room again", || {
        let mut client = connect(listen);
        matches!(client.read(&mut [0]), Ok(1))
    });
}

#[test]
fn no_descriptor_is_left_behind() {
    let echo = echo();
    let listen = free_address();
    let config = tcp(listen, &[echo.address], "", "") + "\n[server]\nworkers = 1\n";
    let ringgate = Ringgate::start(&config);
    let descriptors = || {
        let of = format!("/proc/{}/fd", ringgate.pid().as_raw_nonzero());
        std::fs::read_dir(of).unwrap().count()
    };
    let burst = || {
        let all: Vec<_> = (0..16)
            .map(|_| {
                std::thread::spawn(move || {
                    let mut client = connect(listen);
                    let mut writer = client.try_clone().unwrap();
                    let writing = std::thread::spawn(move || {
                        writer.write_all(&vec![1; 2 << 20]).unwrap();
                        writer.shutdown(Shutdown::Write).unwrap();
                    });
                    assert_eq!(client.read_to_end(&mut Vec::new()).unwrap(), 2 << 20);
                    writing.join().unwrap();
                })
            })
            .collect();
        all.into_iter().for_each(|one| one.join().unwrap());
        eventually("all are closed", || ringgate.sum("ringgate_connections", &["web"]) == 0.0);
    };
    let before = descriptors();
    burst();
    // Pipes stay with the worker.
    assert!(descriptors() <= before + 2 * 64 + 4, "{before} before, {} after", descriptors());
    (0..3).for_each(|_| burst());
    assert!(descriptors() <= before + 2 * 64 + 4, "{before} before, {} after", descriptors());
}
