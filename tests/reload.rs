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
    let said = ringgate.output();
    assert!(!said.contains("cannot accept"), "a listener that goes lacks nothing:\n{said}");
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

// ---------------------------------------------------------------- storms and mutations (hazards OPS-01, OPS-11, RT-14)

/// What a process holds: threads, descriptors, kilobytes of memory.
fn holds(ringgate: &Ringgate) -> (usize, usize, u64) {
    let proc = format!("/proc/{}", ringgate.pid().as_raw_nonzero());
    let count = |folder: &str| std::fs::read_dir(format!("{proc}/{folder}")).unwrap().count();
    let status = std::fs::read_to_string(format!("{proc}/status")).unwrap();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    (count("task"), count("fd"), rss.trim().trim_end_matches(" kB").parse().unwrap())
}

#[test]
fn a_storm_of_good_and_bad_files_under_load() {
    let origin = Origin::saying("fine");
    let listen = free_address();
    // Idle connections to the target end soon, so that descriptors can be compared.
    let good = |n: usize| {
        let pool = format!("pool = {{ idle_timeout = \"200ms\" }}\nretries = {}\n", 1 + n % 3);
        let rule =
            "\n[[rule]]\nname = \"more\"\nwhen = { path = [\"/load\"] }\nforward = \"all\"\n";
        forwarding(listen, &[origin.address], &pool) + if n.is_multiple_of(2) { rule } else { "" }
    };
    let bad = |n: usize| match n % 4 {
        0 => good(n).replace("forward = \"all\"", "forward = \"nowhere\""),
        1 => good(n) + "[[rule]]\nname = \"more\"\n",
        2 => good(n).replace("127.0.0.1", "127.0.0.1.1:"),
        _ => good(n)[..40].to_owned(),
    };
    let mut ringgate = Ringgate::start(&good(0));
    ringgate.reload(&good(1));
    get(listen, "/");
    let settled = || {
        eventually("idle connections are gone", || {
            ringgate.sum("ringgate_target_connections", &[]) == 0.0
        });
        // Those of the admin listener, too.
        let mut last = holds(&ringgate);
        eventually("nothing changes any more", || {
            std::thread::sleep(Duration::from_millis(300));
            let now = holds(&ringgate);
            std::mem::replace(&mut last, now).1 == now.1
        });
        last
    };
    let before = settled();
    let load = Load::start(listen, 4, |answer| answer.text() == "fine");
    for n in 0..200 {
        let (result, file) = if n % 2 == 0 { ("ok", good(n)) } else { ("failed", bad(n / 2)) };
        let counted = ringgate.reloads(result);
        let generation = ringgate.metric("ringgate_config_generation");
        ringgate.write(&file);
        ringgate.signal(Signal::HUP);
        eventually("it is counted", || ringgate.reloads(result) > counted);
        let now = ringgate.metric("ringgate_config_generation");
        assert_eq!(now == generation, result == "failed", "reload {n}: {generation:?}, {now:?}");
        assert_eq!(
            ringgate.metric("ringgate_config_last_reload_success"),
            Some(if result == "ok" { 1.0 } else { 0.0 })
        );
    }
    // And as fast as they can be sent: signals that come while a reload is under way are taken as one.
    ringgate.write(&good(1));
    (0..500).for_each(|_| ringgate.signal(Signal::HUP));
    let answered = load.answered();
    eventually("requests go on", || load.answered() > answered + 500);
    let answered = load.stop_without_failures();
    // The last of them may be under way.
    let counts = || (ringgate.reloads("ok"), ringgate.reloads("failed"));
    let mut last = counts();
    eventually("reloads have come to an end", || {
        std::thread::sleep(Duration::from_millis(300));
        std::mem::replace(&mut last, counts()) == last
    });
    let (ok, failed) = counts();
    assert!((102.0..=601.0).contains(&ok) && failed == 100.0, "{ok} good, {failed} bad");
    let after = settled();
    assert_eq!((after.0, after.1), (before.0, before.1), "threads and descriptors");
    assert!(after.2 < before.2 + 16_384, "memory grew from {} to {} kB", before.2, after.2);
    ringgate.assert_alive();
    println!("{answered} requests; threads, descriptors, kB before {before:?} and after {after:?}");
}

/// One change, as slips of the hand make it, to lines that do not say where to listen.
fn mutated(file: &str, rng: &mut fastrand::Rng) -> String {
    let mut lines: Vec<String> = file.lines().map(str::to_owned).collect();
    let free: Vec<usize> = (0..lines.len())
        .filter(|n| !lines[*n].contains("bind =") && !lines[*n].is_empty())
        .collect();
    let at = free[rng.usize(..free.len())];
    let other = lines[free[rng.usize(..free.len())]].clone();
    let line = &mut lines[at];
    let place = rng.usize(..line.len());
    match rng.u8(..12) {
        0 => drop(lines.remove(at)),
        1 => lines.insert(at, other),
        2 => *line = other,
        3 => drop(line.remove(place)),
        4 => line.insert(place, char::from(rng.u8(b' '..=b'~'))),
        5 => line.truncate(place),
        6 => {
            line.insert_str(place, ["\"", "[", "]", "=", "#", "{", "\u{e9}", "\0"][rng.usize(..8)])
        }
        7 => *line = line.replace(|c: char| c.is_ascii_digit(), &rng.u32(..100).to_string()),
        8 => {
            *line = line.replace("true", "\"true\"").replace("= \"", "= [\"").replace("= 2", "= -2")
        }
        9 => *line = line.to_uppercase(),
        10 => line.push_str(" # as of today"),
        _ => line.insert(0, '#'),
    }
    lines.join("\n")
}

#[test]
fn check_and_reload_agree_on_mutated_files() {
    let origin = Origin::saying("fine");
    let listen = free_address();
    let file = format!(
        "[server]\nworkers = 2\nmax_connections = 2000\n\n[timeouts]\nheader = \"5s\"\nconnect = \"2s\"\n\n\
         [limits]\nhead = \"32KiB\"\nheaders = 64\n\n[log]\naccess = \"off\"\nformat = \"json\"\n\n\
         [[rule]]\nname = \"one\"\npriority = 2\nforward = \"all\"\n\
         when = {{ host = [\"*.a.test\"], path = [\"/v1/*\"], method = [\"GET\"] }}\n\n\
         [[rule]]\nname = \"two\"\nredirect = {{ host = \"b.test\", status = 301 }}\n\
         when = {{ path = [\"/old\"], source = [\"10.0.0.0/8\"] }}\n\n\
         [[expect]]\nrequest = \"GET http://x.a.test/v1/x\"\nrule = \"one\"\n\n{}",
        forwarding(listen, &[origin.address], "retries = 2\nalgorithm = \"p2c\"\n")
    );
    let mut ringgate = Ringgate::start(&file);
    let seed = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(0);
    let (mut good, mut bad) = (0, 0);
    for seed in seed..seed + 80 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let text = mutated(&file, &mut rng);
        ringgate.write(&text);
        let (code, said) =
            support::ringgate::command(&["check", "-c", ringgate.path().to_str().unwrap()]);
        let from = ringgate.output().len();
        ringgate.signal(Signal::HUP);
        let mut verdict = None;
        // Not by the metrics: the file may move the admin listener.
        eventually("the reload is told", || {
            let told = ringgate.output()[from..].to_owned();
            verdict = match (told.contains(" reloaded"), told.contains("reload refused")) {
                (false, false) => None,
                (accepted, _) => Some(accepted),
            };
            verdict.is_some()
        });
        let accepted = verdict == Some(true);
        assert_eq!(accepted, code == 0, "seed {seed}: check says {code}: {said}\n{text}");
        if accepted {
            good += 1
        } else {
            bad += 1
        }
        // Whatever the file says, there is an answer.
        get(listen, "/v1/x").status();
        ringgate.assert_alive();
    }
    println!("{good} files taken, {bad} refused");
    assert!(good >= 5 && bad >= 30, "{good} files taken, {bad} refused: the mutations say nothing");
    ringgate.write(&file);
    ringgate.signal(Signal::HUP);
    eventually("the good file serves", || get(listen, "/").text() == "fine");
}
