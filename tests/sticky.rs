//! Clients that stay where they are: with a target, with a group, in a canary or out of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use support::authority::Authority;
use support::h2raw::{H2, request_with};
use support::{Client, Message, Origin, Ringgate, Wire, eventually, free_address, program};

const SECRET: &str = "[server]\nsecrets = [\"0123456789abcdef0123456789abcdef\"]\n\n";

/// A back end that answers with its name.
fn named(name: &'static str) -> Origin {
    Origin::saying(name)
}

/// A listener whose default is group `all` with these targets and lines.
fn file(listen: SocketAddr, targets: &str, group: &str) -> String {
    let health = if group.contains("health") { "" } else { "health = { type = \"off\" }\n" };
    format!(
        "[[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\ndefault = {{ forward = \"all\" }}\n\n\
         [group.all]\ntargets = [{targets}]\n{health}{group}\n"
    )
}

fn list(origins: &[&Origin]) -> String {
    origins.iter().map(|o| format!("\"{}\"", o.address)).collect::<Vec<_>>().join(", ")
}

fn three() -> [Origin; 3] {
    ["a", "b", "c"].map(named)
}

/// A client with a jar of cookies; each request has a connection of its own.
#[derive(Default)]
struct Browser {
    jar: BTreeMap<String, String>,
    from: Option<Ipv4Addr>,
}

impl Browser {
    fn get(&mut self, to: SocketAddr) -> Message {
        self.send(to, "GET / HTTP/1.1\r\nHost: a.test\r\n")
    }

    /// Sends a head without its end, with a line for each cookie.
    fn send(&mut self, to: SocketAddr, head: &str) -> Message {
        let mut client = match self.from {
            Some(from) => Client { wire: Wire::new(support::connect_from(from, to).unwrap()) },
            None => Client::connect(to),
        };
        let lines = self.jar.iter().map(|(name, value)| format!("Cookie: {name}={value}\r\n"));
        let answer = client.send(format!("{head}{}\r\n", lines.collect::<String>())).response();
        for cookie in answer.all("set-cookie") {
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            self.jar.insert(name.to_owned(), value.to_owned());
        }
        answer
    }

    fn text(&mut self, to: SocketAddr) -> String {
        self.get(to).text()
    }
}

/// The answers to so many requests of one client.
fn answers(browser: &mut Browser, to: SocketAddr, count: usize) -> BTreeSet<String> {
    (0..count).map(|_| browser.text(to)).collect()
}

#[test]
fn a_client_stays_and_its_target_does_not_see_why() {
    let echo = || {
        Origin::script(|conn| {
            let name = conn.wire.stream.local_addr()?.port();
            while conn.request()?.is_some() {
                let body = name.to_string();
                let length = body.len();
                conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"))?;
            }
            Ok(())
        })
    };
    let origins = [echo(), echo(), echo()];
    let listen = free_address();
    let group = "sticky = { duration = \"1h\" }";
    let ringgate = Ringgate::start(&file(listen, &list(&origins.each_ref()), group));
    eventually("the key is noted", || ringgate.output().contains("a key of this process"));
    let mut browser = Browser::default();
    browser.jar.insert("other".to_owned(), "1".to_owned());
    let first = browser.get(listen);
    let set = first.header("set-cookie").unwrap();
    assert!(set.starts_with("RINGGATE-all="), "{set}");
    assert!(set.ends_with("; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax"), "{set}");
    assert_eq!(first.header("cache-control"), Some("private"));
    for _ in 0..20 {
        let again = browser.get(listen);
        assert_eq!(again.text(), first.text());
        // Nothing new: nothing to be kept from caches.
        assert!(again.header("set-cookie").is_none() && again.header("cache-control").is_none());
    }
    // On one line with others, as browsers send them.
    let cookie = format!("a=b; RINGGATE-all={}; c=d", browser.jar["RINGGATE-all"]);
    let head = format!("GET / HTTP/1.1\r\nHost: a.test\r\nCookie: {cookie}\r\n\r\n");
    assert_eq!(Client::connect(listen).send(head).response().text(), first.text());
    // And as HTTP/2 crumbles them.
    let mut h2 = H2::open(listen);
    let crumbs: Vec<&str> = cookie.split("; ").collect();
    for stream in [1, 3, 5, 7, 9] {
        let fields: Vec<(&str, &str)> = crumbs.iter().map(|crumb| ("cookie", *crumb)).collect();
        h2.head(stream, 5, &request_with("GET", "/", &fields));
        let answer = h2.outcome(stream).answer();
        assert_eq!((answer.text(), answer.header("set-cookie")), (first.text(), None));
    }
    let all: Vec<Message> = origins.iter().flat_map(Origin::requests).collect();
    assert_eq!(all.len(), 27);
    for request in &all {
        let cookies = request.all("cookie").join("; ");
        assert!(!cookies.contains("RINGGATE") && !cookies.is_empty(), "{cookies}");
    }
    let last = all.iter().find(|r| r.all("cookie") == ["a=b; c=d"]);
    assert!(last.is_some(), "the others arrive as they were");
    // Clients without cookies go round.
    let others: BTreeSet<String> = (0..3).map(|_| Browser::default().text(listen)).collect();
    assert_eq!(others.len(), 3);
}

// UP-22: a cookie that is not ours, or not of this group, chooses nothing.
#[test]
fn what_is_no_cookie_of_ours_is_replaced() {
    let origins = three();
    let listen = free_address();
    let group = "sticky = { cookie = \"S\" }";
    let _ringgate = Ringgate::start(&file(listen, &list(&origins.each_ref()), group));
    let mut browser = Browser::default();
    browser.get(listen);
    let good = browser.jar["S"].clone();
    let changed = format!("{}{}", &good[..59], if good.ends_with('A') { 'B' } else { 'A' });
    for bad in [changed.as_str(), "", "x", &good[..59], &"A".repeat(60), &"A".repeat(5000)] {
        let mut other = Browser::default();
        other.jar.insert("S".to_owned(), bad.to_owned());
        let answer = other.get(listen);
        assert_eq!(answer.status(), 200);
        assert!(answer.header("set-cookie").is_some_and(|set| set.starts_with("S=")), "{bad}");
        let name = answer.text();
        assert_eq!(answers(&mut other, listen, 6), [name].into(), "{bad}");
    }
}

#[test]
fn curl_stays_with_its_jar_over_any_version() {
    let origins = three();
    let (plain, secure) = (free_address(), free_address());
    let authority = Authority::new("ca");
    let issued = authority.issue(&["a.test"]);
    let tls = format!(
        "[[listener]]\nname = \"tls\"\nbind = [\"{secure}\"]\nprotocol = \"https\"\n\
         tls = {{ certificates = [{{ cert = \"{}\", key = \"{}\" }}] }}\ndefault = {{ forward = \"all\" }}\n",
        issued.cert.display(),
        issued.key.display()
    );
    let config = file(plain, &list(&origins.each_ref()), "sticky = { cors = true }") + &tls;
    let _ringgate = Ringgate::start(&config);
    let dir = tempfile::tempdir().unwrap();
    let curl = |jar: &str, args: &[&str]| {
        let jar = dir.path().join(jar);
        let mut command = Command::new(program("curl", "curl"));
        command.args(["-sSk", "--fail", "--max-time", "20", "-b"]).arg(&jar).arg("-c").arg(&jar);
        command.args(["--resolve", &format!("a.test:{}:127.0.0.1", secure.port())]);
        let done = command.args(args).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    let plain = format!("http://{plain}/");
    let secure = format!("https://a.test:{}/", secure.port());
    for (jar, version, url) in [
        ("one", "--http1.1", &plain),
        ("two", "--http2-prior-knowledge", &plain),
        ("three", "--http2", &secure),
    ] {
        let first = curl(jar, &[version, url]);
        for _ in 0..5 {
            assert_eq!(curl(jar, &[version, url]), first, "{jar}");
        }
        // Several requests on one connection, too; this curl begins such a one of HTTP/2 without TLS twice.
        if version != "--http2-prior-knowledge" {
            assert_eq!(curl(jar, &[version, url, url, url]), first.repeat(3), "{jar}");
        }
    }
    let jar = std::fs::read_to_string(dir.path().join("three")).unwrap();
    let names: Vec<&str> = jar.lines().filter_map(|line| line.split('\t').nth(5)).collect();
    let names: BTreeSet<&str> = names.into_iter().collect();
    assert_eq!(names, ["RINGGATE-all", "RINGGATE-all~cors"].into(), "{jar}");
    assert!(jar.lines().all(|line| !line.contains("RINGGATE") || line.contains("\tTRUE\t")));
    let jar = std::fs::read_to_string(dir.path().join("one")).unwrap();
    assert!(jar.contains("RINGGATE-all\t") && !jar.contains("~cors"), "{jar}");
}

#[test]
fn who_has_lost_its_target_stays_with_the_next_for_good() {
    let [a, b, c] = three();
    let listen = free_address();
    let config = |targets: &str| {
        file(listen, targets, "retries = 2\nsticky = {}") + "\n[log]\naccess = \"log/access\"\n"
    };
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("log")).unwrap();
    let log = dir.path().join("log/access");
    let all = list(&[&a, &b, &c]);
    let ringgate = Ringgate::start_in(dir, &config(&all));
    let mut browser = Browser::default();
    let first = browser.text(listen);
    let mut origins: BTreeMap<String, Origin> =
        [a, b, c].into_iter().zip(["a", "b", "c"]).map(|(o, name)| (name.to_owned(), o)).collect();
    // It is gone without anybody having noticed yet: the attempt fails, another target answers.
    let mut lost = origins.remove(&first).unwrap();
    lost.stop();
    let answer = browser.get(listen);
    let second = answer.text();
    assert!(second != first && answer.header("set-cookie").is_some());
    let back = Origin::saying_at(lost.address, if first == "a" { "a" } else { "x" });
    assert_eq!(answers(&mut browser, listen, 9), [second.clone()].into());
    assert!(back.requests().is_empty());
    // Taken out of the file.
    let left: Vec<&Origin> =
        origins.iter().filter(|(name, _)| **name != second).map(|(_, o)| o).collect();
    ringgate.reload(&config(&list(&left)));
    eventually("the client is moved", || browser.text(listen) != second);
    let third = browser.text(listen);
    ringgate.reload(&config(&all));
    assert_eq!(answers(&mut browser, listen, 9), [third].into());
    let said = |word: &str| {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        text.matches(&format!("\"sticky\":\"{word}\"")).count()
    };
    eventually("the log says what has become of it", || {
        (said("new"), said("moved")) == (1, 2) && said("kept") >= 18
    });
}

#[test]
fn health_decides_who_may_be_stayed_with() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    let target = |name: &'static str| {
        let well = Arc::new(AtomicBool::new(true));
        let state = Arc::clone(&well);
        let origin = Origin::script(move |conn| {
            while let Some(request) = conn.wire.request()? {
                let bad = request.target() == "/health" && !state.load(Ordering::SeqCst);
                let status = if bad { "500 No" } else { "200 OK" };
                conn.send(format!("HTTP/1.1 {status}\r\nContent-Length: 1\r\n\r\n{name}"))?;
            }
            Ok(())
        });
        (origin, well)
    };
    let (a, b) = (target("a"), target("b"));
    let listen = free_address();
    let group = "health = { type = \"http\", path = \"/health\", interval = \"50ms\", timeout = \"50ms\", healthy = 1, unhealthy = 1 }\nsticky = {}";
    let ringgate = Ringgate::start(&file(listen, &list(&[&a.0, &b.0]), group));
    let states = |expected: &[&str]| {
        eventually("the health is known", || {
            let states = ringgate.target_states();
            states.iter().zip(expected).all(|(state, expected)| state.starts_with(expected))
        });
    };
    states(&["healthy", "healthy"]);
    let mut browser = Browser::default();
    let first = browser.text(listen);
    let (mine, other) = if first == "a" { (&a, &b) } else { (&b, &a) };
    mine.1.store(false, Ordering::SeqCst);
    eventually("the client is moved", || browser.text(listen) != first);
    let second = browser.text(listen);
    // Well again: nobody goes back.
    mine.1.store(true, Ordering::SeqCst);
    states(&["healthy", "healthy"]);
    assert_eq!(answers(&mut browser, listen, 9), [second.clone()].into());
    // All of them are unhealthy, so all are used, and clients still stay.
    mine.1.store(false, Ordering::SeqCst);
    states(if first == "a" { &["unhealthy", "healthy"] } else { &["healthy", "unhealthy"] });
    other.1.store(false, Ordering::SeqCst);
    states(&["unhealthy", "unhealthy"]);
    let now = browser.text(listen);
    assert_eq!(answers(&mut browser, listen, 9), [now].into());
}

#[test]
fn reloads_leave_clients_where_they_are() {
    let [a, b, c] = three();
    let listen = free_address();
    let weighted = |weights: [u32; 3]| {
        let targets = [&a, &b, &c].into_iter().zip(weights);
        let one =
            |(o, w): (&Origin, u32)| format!("{{ address = \"{}\", weight = {w} }}", o.address);
        targets.map(one).collect::<Vec<_>>().join(", ")
    };
    let config = |weights: [u32; 3]| file(listen, &weighted(weights), "sticky = {}");
    let ringgate = Ringgate::start(&config([1, 1, 1]));
    let mut browsers: Vec<Browser> = (0..6).map(|_| Browser::default()).collect();
    let before: Vec<String> = browsers.iter_mut().map(|b| b.text(listen)).collect();
    assert_eq!(before.iter().collect::<BTreeSet<_>>().len(), 3);
    // Other weights, none at all, secrets, another order.
    for text in [
        config([900, 1, 1]),
        config([1, 0, 0]),
        SECRET.to_owned() + &config([1, 1, 1]),
        SECRET.to_owned() + &file(listen, &list(&[&c, &a, &b]), "algorithm = \"p2c\"\nsticky = {}"),
    ] {
        ringgate.reload(&text);
        let now: Vec<String> = browsers.iter_mut().map(|b| b.text(listen)).collect();
        assert_eq!(now, before, "{text}");
    }
    ringgate.reload(&config([1, 0, 0]));
    eventually("who is new goes where there is weight", || {
        (0..5).all(|_| Browser::default().text(listen) == "a")
    });
}

#[test]
fn nodes_with_the_same_secrets_share_their_clients() {
    let origins = three();
    let nodes = [free_address(), free_address(), free_address()];
    let config = |listen| file(listen, &list(&origins.each_ref()), "sticky = {}");
    let _one = Ringgate::start(&(SECRET.to_owned() + &config(nodes[0])));
    let _two = Ringgate::start(&(SECRET.to_owned() + &config(nodes[1])));
    let _alone = Ringgate::start(&config(nodes[2]));
    let mut browser = Browser::default();
    let first = browser.text(nodes[0]);
    for _ in 0..6 {
        let answer = browser.get(nodes[1]);
        assert_eq!((answer.text(), answer.header("set-cookie")), (first.clone(), None));
    }
    assert!(browser.get(nodes[2]).header("set-cookie").is_some(), "another key");
}

#[test]
fn an_application_says_who_stays() {
    let origin = |name: &'static str| {
        Origin::script(move |conn| {
            while let Some(request) = conn.request()? {
                let set = match request.target() {
                    "/login" => "Set-Cookie: app=1; Path=/\r\nCache-Control: no-store\r\n",
                    _ => "",
                };
                conn.send(format!("HTTP/1.1 200 OK\r\n{set}Content-Length: 1\r\n\r\n{name}"))?;
            }
            Ok(())
        })
    };
    let origins = ["a", "b", "c"].map(origin);
    let listen = free_address();
    let group = "sticky = { follow = \"app\", cookie = \"stay\" }";
    let _ringgate = Ringgate::start(&file(listen, &list(&origins.each_ref()), group));
    let mut browser = Browser::default();
    assert_eq!(answers(&mut browser, listen, 9).len(), 3);
    assert!(browser.jar.is_empty());
    let login = browser.send(listen, "GET /login HTTP/1.1\r\nHost: a.test\r\n");
    assert_eq!(login.all("set-cookie").len(), 2);
    assert_eq!(login.header("cache-control"), Some("no-store"), "it is not stored already");
    assert_eq!(answers(&mut browser, listen, 9), [login.text()].into());
    // The application's cookie goes on to it, ringgate's does not.
    let at = ["a", "b", "c"].iter().position(|name| *name == login.text()).unwrap();
    assert_eq!(origins[at].last().all("cookie"), ["app=1"]);
    browser.jar.remove("app");
    assert_eq!(answers(&mut browser, listen, 9).len(), 3, "the application has forgotten it");
}

#[test]
fn clients_stay_with_a_group_while_it_has_weight() {
    let origins = three();
    let listen = free_address();
    let config = |weights: [u32; 2]| {
        format!(
            "[[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\n\
             [[rule]]\nname = \"r\"\nforward = [{{ group = \"one\", weight = {} }}, {{ group = \"two\", weight = {} }}]\n\
             sticky = {{ duration = \"1h\" }}\n\
             [group.one]\ntargets = [\"{}\"]\nhealth = {{ type = \"off\" }}\n\
             [group.two]\ntargets = [{}]\nhealth = {{ type = \"off\" }}\nsticky = {{}}\n",
            weights[0],
            weights[1],
            origins[0].address,
            list(&[&origins[1], &origins[2]])
        )
    };
    let ringgate = Ringgate::start(&config([1, 1]));
    let mut browsers: Vec<Browser> = (0..12).map(|_| Browser::default()).collect();
    let before: Vec<String> = browsers.iter_mut().map(|b| b.text(listen)).collect();
    assert!(before.contains(&"a".to_owned()) && before.iter().any(|name| name != "a"));
    for weights in [[1, 1], [1, 999], [999, 1]] {
        ringgate.reload(&config(weights));
        let now: Vec<String> = browsers.iter_mut().map(|b| b.text(listen)).collect();
        // Within group two they stay with their target.
        assert_eq!(now, before, "{weights:?}");
    }
    assert!(browsers.iter().all(|b| b.jar.contains_key("RINGGATE-GROUP-r")));
    assert!(
        browsers
            .iter()
            .zip(&before)
            .all(|(b, name)| { b.jar.contains_key("RINGGATE-two") == (name != "a") })
    );
    ringgate.reload(&config([0, 1]));
    for browser in &mut browsers {
        eventually("the group takes nobody", || browser.text(listen) != "a");
    }
    let now: Vec<String> = browsers.iter_mut().map(|b| b.text(listen)).collect();
    ringgate.reload(&config([999, 1]));
    let then: Vec<String> = browsers.iter_mut().map(|b| b.text(listen)).collect();
    assert_eq!(then, now, "for good");
    let sent = origins.iter().flat_map(Origin::requests);
    assert!(sent.flat_map(|r| r.all("cookie").join(";").into_bytes()).next().is_none());
}

#[test]
fn a_canary_takes_its_share_of_clients_and_keeps_them() {
    let (old, new) = (named("old"), named("new"));
    let listen = free_address();
    let config = |canary: &str| {
        format!(
            "[[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\n\
             [[rule]]\nname = \"r\"\nforward = \"old\"\ncanary = {{ group = \"new\", {canary} }}\n\
             [group.old]\ntargets = [\"{}\"]\nhealth = {{ type = \"off\" }}\n\
             [group.new]\ntargets = [\"{}\"]\nhealth = {{ type = \"off\" }}\n",
            old.address, new.address
        )
    };
    let force = "force = { header = \"x-canary\", on = [\"1\"], off = [\"never\"] }";
    let forced = |value: &str| {
        let head = format!("GET / HTTP/1.1\r\nHost: a.test\r\nX-Canary: {value}\r\n");
        Browser::default().send(listen, &head).text()
    };
    let ringgate = Ringgate::start(&config(&format!("percent = 0, {force}")));
    let mut browsers: Vec<Browser> = (0..40).map(|_| Browser::default()).collect();
    assert!(browsers.iter_mut().all(|b| b.text(listen) == "old"));
    assert_eq!(
        (forced("1"), forced("never"), forced("2")),
        ("new".into(), "old".into(), "old".into())
    );
    let mut inside = BTreeSet::new();
    for (percent, least) in [("25", 1), ("60.5", 10), ("100.0", 40)] {
        ringgate.reload(&config(&format!("percent = {percent}, {force}")));
        eventually("the share holds", || forced("never") == "old");
        let now: BTreeSet<usize> =
            (0..40).filter(|at| browsers[*at].text(listen) == "new").collect();
        let again: BTreeSet<usize> =
            (0..40).filter(|at| browsers[*at].text(listen) == "new").collect();
        assert_eq!(now, again, "{percent}");
        assert!(now.is_superset(&inside) && now.len() >= least, "{percent}: {now:?}");
        assert!(percent == "100.0" || now.len() < 40, "{percent}");
        inside = now;
    }
    // By address, a client needs no cookie; by a field, its value is the client.
    ringgate.reload(&config("percent = 50, by = \"client_ip\""));
    let by_address = || -> Vec<String> {
        let from = (1..=40).map(|n| Some(Ipv4Addr::new(127, 0, 1, n)));
        from.map(|from| Browser { from, ..Browser::default() }.text(listen)).collect()
    };
    let first = by_address();
    assert_eq!(first, by_address());
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 2);
    ringgate.reload(&config("percent = 50, by = { header = \"x-user\" }"));
    let by_user = || -> Vec<String> {
        let head = |n| format!("GET / HTTP/1.1\r\nHost: a.test\r\nX-User: user-{n}\r\n");
        (0..40).map(|n| Browser::default().send(listen, &head(n)).text()).collect()
    };
    let first = by_user();
    assert_eq!(first, by_user());
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 2);
    assert!((0..20).all(|_| Browser::default().text(listen) == "old"), "without the field");
    assert!(new.requests().iter().chain(&old.requests()).all(|r| r.all("cookie").is_empty()));
}

#[test]
fn upgrades_stay_and_preflights_are_told_nothing() {
    let origin = |name: &'static str| {
        Origin::script(move |conn| {
            while let Some(request) = conn.request()? {
                if request.header("upgrade").is_some() {
                    conn.send(
                        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
                    )?;
                    return conn.send(name);
                }
                conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{name}"))?;
            }
            Ok(())
        })
    };
    let origins = ["a", "b", "c"].map(origin);
    let listen = free_address();
    let _ringgate = Ringgate::start(&file(listen, &list(&origins.each_ref()), "sticky = {}"));
    let handshake = "GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
    let open = |cookie: &str| {
        let mut client = Client::connect(listen);
        let answer = client.send(format!("{handshake}{cookie}\r\n")).response();
        assert_eq!(answer.status(), 101);
        let name = String::from_utf8(client.wire.exactly(1).unwrap()).unwrap();
        (answer.header("set-cookie").map(str::to_owned), name)
    };
    let (set, first) = open("");
    let set = set.unwrap();
    let cookie = format!("Cookie: {}\r\n", set.split(';').next().unwrap());
    for _ in 0..5 {
        assert_eq!(open(&cookie), (None, first.clone()));
    }
    let preflight = "OPTIONS / HTTP/1.1\r\nHost: a.test\r\nOrigin: https://b.test\r\n\
                     Access-Control-Request-Method: GET\r\n";
    let answer = Browser::default().send(listen, preflight);
    assert_eq!((answer.status(), answer.header("set-cookie")), (200, None));
    assert!(answer.header("cache-control").is_none());
}

#[test]
fn a_cookie_is_written_anew_when_a_tenth_of_its_time_is_over() {
    let origins = three();
    let listen = free_address();
    let group = "sticky = { duration = \"5s\", nocache = false }";
    let _ringgate = Ringgate::start(&file(listen, &list(&origins.each_ref()), group));
    let mut browser = Browser::default();
    let first = browser.text(listen);
    let before = browser.jar.clone();
    eventually("it is written anew", || {
        let answer = browser.get(listen);
        assert_eq!((answer.text(), answer.header("cache-control")), (first.clone(), None));
        answer.header("set-cookie").is_some()
    });
    assert_ne!(browser.jar, before);
    assert_eq!(answers(&mut browser, listen, 6), [first].into());
}

#[test]
fn who_answers_first_is_stayed_with() {
    // Whoever is asked first hangs, once it is told to.
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    let hangs = Arc::new(AtomicUsize::new(usize::MAX));
    let target = |number: usize| {
        let hangs = Arc::clone(&hangs);
        Origin::script(move |conn| {
            while conn.request()?.is_some() {
                if hangs.load(Ordering::SeqCst) == number {
                    // Until ringgate gives up.
                    let _ = conn.wire.rest();
                    return Ok(());
                }
                conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{number}"))?;
            }
            Ok(())
        })
    };
    let origins = [target(0), target(1)];
    let listen = free_address();
    let group = "sticky = {}\nretry = { attempts = 1, hedge = \"50ms\", budget = \"100%\" }";
    let _ringgate = Ringgate::start(&file(listen, &list(&origins.each_ref()), group));
    let mut browser = Browser::default();
    let first = browser.get(listen);
    assert!(first.header("set-cookie").is_some(), "{first:?}");
    hangs.store(first.text().parse().unwrap(), Ordering::SeqCst);
    let answer = browser.get(listen);
    let second = answer.text();
    assert!(second != first.text() && answer.header("set-cookie").is_some(), "{answer:?}");
    hangs.store(usize::MAX, Ordering::SeqCst);
    assert_eq!(answers(&mut browser, listen, 6), [second].into());
}

#[test]
fn who_finds_its_target_full_is_elsewhere_once() {
    let gates = [(); 2].map(|()| std::sync::Arc::new(std::sync::Mutex::new(())));
    let target = |name: &'static str, gate: &std::sync::Arc<std::sync::Mutex<()>>| {
        let gate = std::sync::Arc::clone(gate);
        Origin::script(move |conn| {
            while let Some(request) = conn.request()? {
                if request.target() == "/held" {
                    drop(gate.lock().unwrap());
                }
                conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{name}"))?;
            }
            Ok(())
        })
    };
    let origins = [target("a", &gates[0]), target("b", &gates[1])];
    let listen = free_address();
    let group = "sticky = {}\nbounds = { max_requests = 1 }";
    let ringgate = Ringgate::start(&file(listen, &list(&origins.each_ref()), group));
    // A place is given back a moment after the answer.
    let is_free = || ringgate.sum("ringgate_target_in_flight_requests", &[]) == 0.0;
    let mut browser = Browser::default();
    let first = browser.text(listen);
    let at = usize::from(first == "b");
    eventually("the first place is free", is_free);
    let asked = origins[at].requests().len();
    let held = gates[at].lock().unwrap();
    let cookies: String = browser.jar.iter().map(|(n, v)| format!("Cookie: {n}={v}\r\n")).collect();
    let mut busy = Client::connect(listen);
    busy.send(format!("GET /held HTTP/1.1\r\nHost: a.test\r\n{cookies}\r\n"));
    eventually("its target is full", || origins[at].requests().len() == asked + 1);
    let answer = browser.get(listen);
    assert_ne!(answer.text(), first);
    assert_eq!(answer.header("set-cookie"), None, "it does not move");
    drop(held);
    assert_eq!(busy.response().text(), first);
    for _ in 0..6 {
        eventually("all places are free", is_free);
        assert_eq!(browser.text(listen), first);
    }
}

#[test]
fn a_connection_that_was_closed_as_it_was_used_moves_nobody() {
    // Each connection answers once, and ends at the second request without a word.
    let target = |name: &'static str| {
        Origin::script(move |conn| {
            if conn.request()?.is_some() {
                conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{name}"))?;
            }
            conn.wire.head().map(drop)
        })
    };
    let origins = ["a", "b", "c"].map(target);
    let listen = free_address();
    for retry in ["", "\nretry = { budget = \"0%\", reserve = 0 }"] {
        let group = format!("sticky = {{}}{retry}");
        let text = file(listen, &list(&origins.each_ref()), &group);
        let ringgate = Ringgate::start(&format!("[server]\nworkers = 1\n\n{text}"));
        let mut browser = Browser::default();
        let first = browser.text(listen);
        assert_eq!(answers(&mut browser, listen, 9), [first].into());
        drop(ringgate);
    }
}
