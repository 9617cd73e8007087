//! SIGHUP: a new file takes over between two requests, and a bad one changes nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use rustix::process::Signal;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use support::ringgate::forwarding;
use support::{Client, Load, Origin, Ringgate, eventually, free_address, get};

fn saying(listen: SocketAddr, body: &str) -> String {
    format!(
        "[[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\ndefault = {{ respond = {{ status = 200, body = \"{body}\" }} }}\n"
    )
}

#[test]
fn the_next_request_on_the_same_connection_sees_the_new_file() {
    let listen = free_address();
    let ringgate = Ringgate::start(&saying(listen, "old"));
    let mut client = Client::connect(listen);
    assert_eq!(client.get("/").text(), "old");
    for body in ["new", "newer", "newest"] {
        ringgate.reload(&saying(listen, body));
        // A worker takes up the file within moments of its being counted; the connection stays.
        eventually("the connection is served by the new file", || client.get("/").text() == body);
    }
}

#[test]
fn a_request_in_flight_ends_as_it_began() {
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let origin = Origin::script(move |conn| {
        conn.request()?;
        let _ = wait.lock().unwrap().recv_timeout(support::PATIENCE);
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold")
    });
    let listen = free_address();
    let ringgate = Ringgate::start(&forwarding(listen, &[origin.address], ""));
    let mut client = Client::connect(listen);
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    eventually("the request is at the origin", || origin.requests().len() == 1);
    ringgate.reload(&saying(listen, "new"));
    release.send(()).unwrap();
    assert_eq!(client.response().text(), "old");
    eventually("the next one sees the new file", || client.get("/").text() == "new");
}

#[test]
fn a_bad_file_changes_nothing_and_says_where() {
    let listen = free_address();
    let ringgate = Ringgate::start(&saying(listen, "good"));
    for (bad, line, word) in [
        (saying(listen, "bad").replace("default", "defualt"), true, "defualt"),
        (
            saying(listen, "bad") + "[[rule]]\nname = \"a\"\nforward = \"nowhere\"\n",
            true,
            "nowhere",
        ),
        (saying(listen, "bad") + "[timeouts]\nheader = \"10 bananas\"\n", true, "10 bananas"),
        ("[[listener".to_owned(), true, ""),
    ] {
        let before = ringgate.reloads("failed");
        let from = ringgate.output().len();
        ringgate.write(&bad);
        ringgate.signal(Signal::HUP);
        eventually("the failed reload is counted", || ringgate.reloads("failed") > before);
        assert_eq!(get(listen, "/").text(), "good");
        let expected = ringgate.path();
        eventually("the problem is printed with its place", || {
            let said = ringgate.output()[from..].to_owned();
            said.contains(word)
                && (!line
                    || said
                        .contains(&format!("{}:", expected.file_name().unwrap().to_str().unwrap())))
        });
    }
    ringgate.reload(&saying(listen, "repaired"));
    eventually("the repaired file serves", || get(listen, "/").text() == "repaired");
}

#[test]
fn all_problems_are_told_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.toml");
    std::fs::write(
        &path,
        "[server]\nworkers = \"many\"\n\n[timeouts]\nheader = 7\nunknown = \"1s\"\n\n[[listener]]\nname = \"web\"\n\
         bind = [\"nowhere\"]\n",
    )
    .unwrap();
    let (code, said) = support::ringgate::command(&["check", "-c", path.to_str().unwrap()]);
    assert_eq!(code, 2, "{said}");
    for part in ["a.toml:2", "a.toml:5", "a.toml:6", "a.toml:10"] {
        assert!(said.contains(part), "{part} is missing:\n{said}");
    }
}

#[test]
fn an_address_in_use_changes_nothing() {
    let (listen, taken) = (free_address(), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let mut ringgate = Ringgate::start(&saying(listen, "good"));
    let other = saying(taken.local_addr().unwrap(), "bad").replace("\"web\"", "\"other\"");
    let before = ringgate.reloads("failed");
    ringgate.write(&format!("{}\n{other}", saying(listen, "bad")));
    ringgate.signal(Signal::HUP);
    eventually("the failed reload is counted", || ringgate.reloads("failed") > before);
    assert_eq!(get(listen, "/").text(), "good");
    ringgate.assert_alive();
}

#[test]
fn listeners_come_and_go() {
    let (one, two) = (free_address(), free_address());
    let with = |addresses: &str| {
        format!(
            "[[listener]]\nname = \"web\"\nbind = [{addresses}]\ndefault = {{ respond = {{ status = 200, body = \"ok\" }} }}\n"
        )
    };
    let ringgate = Ringgate::start(&with(&format!("\"{one}\"")));
    let mut kept = Client::connect(one);
    assert_eq!(kept.get("/").text(), "ok");
    ringgate.reload(&with(&format!("\"{one}\", \"{two}\"")));
    eventually("the new address answers", || TcpStream::connect(two).is_ok());
    assert_eq!(get(two, "/").text(), "ok");
    assert_eq!(kept.get("/").text(), "ok");
    ringgate.reload(&with(&format!("\"{two}\"")));
    eventually("the old address is closed", || TcpStream::connect(one).is_err());
    // Whoever was connected there is not left waiting: it is served once more, or closed.
    let _ = kept.wire.send(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    match kept.wire.response("GET") {
        Ok(Some(answer)) => assert_eq!(answer.text(), "ok"),
        Ok(None) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
    }
    for _ in 0..20 {
        assert_eq!(get(two, "/").text(), "ok");
    }
}

#[test]
fn reloads_under_load_lose_nothing() {
    let origins: Vec<Origin> =
        ["one", "two", "six"].iter().map(|name| Origin::saying(name)).collect();
    let addresses: Vec<SocketAddr> = origins.iter().map(|o| o.address).collect();
    let listen = free_address();
    // Each file differs from the one before: targets come and go, a rule appears and disappears.
    let files: Vec<String> = (0..3)
        .map(|n| {
            let mut targets = addresses.clone();
            targets.remove(n);
            let rule = format!(
                "\n[[rule]]\nname = \"r{n}\"\nwhen = {{ path = [\"/load\"] }}\nforward = \"all\"\n"
            );
            forwarding(listen, &targets, "") + if n == 1 { "" } else { &rule }
        })
        .collect();
    let mut ringgate = Ringgate::start(&files[0]);
    let load = Load::start(listen, 8, |answer| answer.status() == 200 && answer.body.len() == 3);
    let until = Instant::now() + Duration::from_secs(20);
    let mut sent = 0;
    while Instant::now() < until {
        sent += 1;
        ringgate.write(&files[sent % files.len()]);
        ringgate.signal(Signal::HUP);
        std::thread::sleep(Duration::from_millis(50));
    }
    let answered = load.stop_without_failures();
    ringgate.assert_alive();
    // Signals that come while a reload is under way may be taken as one.
    let (done, failed) = (ringgate.reloads("ok"), ringgate.reloads("failed"));
    assert!(done >= 50.0 && failed == 0.0, "{done} of {sent} reloads done, {failed} failed");
    println!("{answered} requests over {done} reloads");
}

#[test]
fn removed_targets_finish_what_they_have() {
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let leaving = Origin::script(move |conn| {
        while conn.request()?.is_some() {
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")?;
            let _ = wait.lock().unwrap().recv_timeout(support::PATIENCE);
            conn.send("later")?;
        }
        Ok(())
    });
    let staying = Origin::saying("staying");
    let listen = free_address();
    let ringgate = Ringgate::start(&forwarding(listen, &[leaving.address], ""));
    let mut client = Client::connect(listen);
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    client.wire.head().unwrap().unwrap();
    ringgate.reload(&forwarding(listen, &[staying.address], ""));
    eventually("new requests go to the new target", || get(listen, "/").text() == "staying");
    release.send(()).unwrap();
    assert_eq!(client.wire.exactly(10).unwrap(), b"firstlater");
    assert_eq!(client.get("/").text(), "staying");
}
