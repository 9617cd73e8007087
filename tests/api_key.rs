//! API keys over real sockets: who passes and what targets are told, keys that change while ringgate runs, the commands, and
//! that no key is anywhere to be seen (hazards AUTH-13, AUTH-14).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use rustix::process::Signal;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use support::ringgate::{ask, binary, command};
use support::{Client, Message, Origin, Ringgate, eventually, free_address};

/// A key and the lines for the file, as `ringgate key new` prints them.
fn new_key(consumer: &str, plan: Option<&str>) -> (String, String) {
    let mut new = Command::new(binary());
    new.args(["key", "new", "--consumer", consumer]);
    if let Some(plan) = plan {
        new.args(["--plan", plan]);
    }
    let done = new.stderr(Stdio::null()).output().unwrap();
    assert!(done.status.success());
    let text = String::from_utf8(done.stdout).unwrap();
    let (key, lines) = text.split_once("\n\n").expect("the key, an empty line, the lines");
    (key.to_owned(), lines.to_owned())
}

/// The hash in the lines for the file.
fn hash_in(lines: &str) -> &str {
    let at = lines.find("sha256:").unwrap();
    &lines[at..at + 71]
}

struct World {
    web: SocketAddr,
    dir: tempfile::TempDir,
    origin: Origin,
}

impl World {
    fn new(consumers: &str) -> World {
        let (dir, origin) = (tempfile::tempdir().unwrap(), Origin::echo());
        let world = World { web: free_address(), dir, origin };
        world.write(consumers);
        world
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("consumers.toml")
    }

    fn write(&self, consumers: &str) {
        let fresh = self.dir.path().join("fresh");
        std::fs::write(&fresh, consumers).unwrap();
        std::fs::rename(&fresh, self.file()).unwrap();
    }

    fn config(&self, keys: &str, more: &str) -> String {
        format!(
            "[[listener]]\nname = \"web\"\nbind = [\"{}\"]\npolicy = [\"keys\"]\ndefault = {{ forward = \"all\" }}\n\
             [group.all]\ntargets = [\"{}\"]\nhealth = {{ type = \"off\" }}\n\
             [usage]\nfolder = \"{}\"\nflush = \"10ms\"\n\
             [policy.keys.api_key]\nconsumers = [\"{}\"]\n{keys}\n{more}",
            self.web,
            self.origin.address,
            self.dir.path().join("usage").display(),
            self.file().display(),
        )
    }

    #[track_caller]
    fn ask(&self, target: &str, fields: &str) -> Message {
        let text = format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n");
        Client::connect(self.web).send(text).response()
    }

    #[track_caller]
    fn status(&self, key: &str) -> u16 {
        self.ask("/", &format!("X-API-Key: {key}\r\n")).status()
    }
}

fn reason(answer: &Message) -> (u16, String) {
    (answer.status(), answer.header("x-ringgate-reason").unwrap_or_default().to_owned())
}

#[test]
fn who_has_a_key_passes_and_the_target_learns_who_but_not_the_key() {
    let (key, lines) = new_key("acme", Some("gold"));
    let world = World::new(&lines);
    let gold = "query = \"api_key\"\nplan_header = \"x-plan\"\nplan = { gold = {} }";
    let _ringgate = Ringgate::start(&world.config(gold, ""));
    let missing = world.ask("/", "");
    assert_eq!(reason(&missing), (401, "api_key_missing".to_owned()));
    assert_eq!(missing.header("www-authenticate"), Some("ApiKey header=\"x-api-key\""));
    let wrong = world.ask("/", "X-API-Key: rg_0000\r\n");
    assert_eq!(reason(&wrong), (401, "api_key_invalid".to_owned()));
    assert_eq!(world.origin.requests().len(), 0);

    let forged = format!("X-API-Key: {key}\r\nX-Consumer: root\r\nx-plan: all\r\n");
    assert_eq!(world.ask("/a?b=c", &forged).status(), 200);
    let seen = world.origin.last();
    let head = String::from_utf8_lossy(&seen.head).into_owned();
    assert_eq!((seen.header("x-consumer"), seen.header("x-plan")), (Some("acme"), Some("gold")));
    assert!(!head.contains("root") && !head.contains(&key) && head.contains("/a?b=c"), "{head}");

    assert_eq!(world.ask(&format!("/a?b=c&api_key={key}&d=e"), "").status(), 200);
    let head = String::from_utf8_lossy(&world.origin.last().head).into_owned();
    assert!(!head.contains("api_key") && !head.contains(&key), "{head}");
    assert!(head.contains("/a?b=c&d=e"), "{head}");
}

#[test]
fn the_answer_is_the_operators_choice() {
    let world = World::new("");
    let ringgate = Ringgate::start(&world.config("", "[policy.keys.answer]\nstatus = 403\n"));
    assert_eq!(reason(&world.ask("/", "")), (403, "api_key_missing".to_owned()));
    let series = "policy=\"keys\",decision=\"refuse\",reason=\"api_key_missing\"";
    assert_eq!(ringgate.sum("ringgate_policy_decisions_total", &[series]), 1.0);
}

// The rate of a plan is the consumer's, whichever key, connection or worker; a reload refills nothing (RL-01, RL-02).
#[test]
fn a_plans_rate_is_the_consumers() {
    let ((one, lines), (two, more)) = (new_key("acme", Some("slow")), new_key("acme", None));
    let (other, other_lines) = new_key("other", Some("slow"));
    let both = format!("keys = [\"{}\", \"{}\"]", hash_in(&lines), hash_in(&more));
    let text = format!("[consumer.acme]\nplan = \"slow\"\n{both}\n{other_lines}");
    let world = World::new(&text);
    let config = world.config("plan = { slow = { rate = \"1/h\", burst = 10 } }", "");
    let ringgate = Ringgate::start(&config);
    let keys = [&one, &two].into_iter().cycle();
    let statuses: Vec<u16> = keys.take(12).map(|key| world.status(key)).collect();
    assert_eq!(statuses, [vec![200; 10], vec![429; 2]].concat());
    ringgate.reload(&config);
    world.write(&format!("{text}\n# changed"));
    let refused = world.ask("/", &format!("X-API-Key: {one}\r\n"));
    assert_eq!(reason(&refused), (429, "rate_limited".to_owned()));
    assert!(refused.header("retry-after").is_some_and(|wait| wait.parse::<u32>().is_ok()));
    assert!(refused.header("ratelimit").is_some_and(|line| line.starts_with("\"slow\";r=0;t=")));
    eventually("the file is taken up", || ringgate.output().contains("changed: "));
    assert_eq!((world.status(&two), world.status(&other)), (429, 200));
}

// Rotation: the next key is added, both are live, the first is taken away; nothing but the file is touched.
#[test]
fn keys_are_rotated_by_writing_the_file() {
    let ((old, old_lines), (new, new_lines)) = (new_key("acme", None), new_key("acme", None));
    let (before, after) = (hash_in(&old_lines), hash_in(&new_lines));
    let world = World::new(&old_lines);
    let ringgate = Ringgate::start(&world.config("", ""));
    assert_eq!((world.status(&old), world.status(&new)), (200, 401));
    world.write(&format!("[consumer.acme]\nkeys = [\"{before}\", \"{after}\"]"));
    eventually("the new key is live", || world.status(&new) == 200);
    assert_eq!(world.status(&old), 200, "so is the old one");
    world.write(&new_lines);
    eventually("the old key is dead", || world.status(&old) == 401);
    assert_eq!(world.status(&new), 200);

    // A mistake anywhere leaves everything as it is, and is said with its place.
    world.write(&format!("{new_lines}\n[consumer.b]\nkeys = [\"{old}\"]"));
    eventually("the mistake is said", || ringgate.output().contains("consumers.toml:5:9"));
    assert!(!ringgate.output().contains(&old), "but not the key: {}", ringgate.output());
    assert_eq!((world.status(&old), world.status(&new)), (401, 200));
    ringgate.signal(Signal::HUP);
    eventually("a reload says so, too", || ringgate.reloads("failed") == 1.0);
    let (code, said) = command(&["check", "-c", ringgate.path().to_str().unwrap()]);
    assert!(code == 2 && said.contains("consumers.toml:5:9: consumer.b.keys[0]"), "{said}");

    world.write(&old_lines);
    ringgate.signal(Signal::HUP);
    eventually("a reload takes it up", || world.status(&old) == 200);
}

#[test]
fn files_of_a_pattern_are_all_read() {
    let ((a, a_lines), (b, b_lines)) = (new_key("a", None), new_key("b", None));
    let world = World::new("");
    let folder = world.dir.path().join("consumers.d");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("a.toml"), a_lines).unwrap();
    let config = world.config("", "").replace("consumers.toml", "consumers.d/*.toml");
    let ringgate = Ringgate::start(&config);
    assert_eq!((world.status(&a), world.status(&b)), (200, 401));
    std::fs::write(folder.join("b.toml"), b_lines).unwrap();
    ringgate.reload(&config);
    assert_eq!((world.status(&a), world.status(&b)), (200, 200));
}

#[test]
fn keys_that_there_are_already_are_hashed() {
    let mut hash = Command::new(binary());
    hash.args(["key", "hash"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = hash.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"legacy-key-of-twenty-five\n").unwrap();
    let done = child.wait_with_output().unwrap();
    let hash = String::from_utf8(done.stdout).unwrap();
    assert!(done.status.success() && done.stderr.is_empty());
    let world = World::new(&format!("[consumer.old]\nkeys = [\"{}\"]", hash.trim()));
    let _ringgate = Ringgate::start(&world.config("header = \"none\"\nquery = \"key\"", ""));
    assert_eq!(world.ask("/?key=legacy-key-of-twenty-five", "").status(), 200);
    assert_eq!(world.ask("/?key=legacy-key-of-twenty-sixe", "").status(), 401);
    assert_eq!(world.ask("/", "X-API-Key: legacy-key-of-twenty-five\r\n").status(), 401);
}

#[test]
fn no_key_is_made_for_a_name_that_no_file_may_hold() {
    for name in ["", "a b", "a\"b"] {
        let (code, said) = command(&["key", "new", "--consumer", name]);
        assert!(code == 2 && said.contains("expected a name of 1 to 128"), "{name:?}: {said}");
        assert!(!said.contains("sha256:"), "{said}");
    }
}

// AUTH-14: a canary is sent in every way there is, and looked for in everything that comes out.
#[test]
fn no_key_is_in_any_output() {
    let (canary, lines) = new_key("acme", Some("gold"));
    let unknown = new_key("nobody", None).0;
    let world = World::new(&lines);
    let gold = "query = \"api_key\"\nplan = { gold = { quota = \"4/day\" } }";
    let log = world.dir.path().join("access.log");
    let logged = format!("[log]\naccess = \"{}\"\n", log.display());
    let mut ringgate = Ringgate::start(&world.config(gold, &logged));
    let mut answers = Vec::new();
    for key in [&canary, &unknown] {
        let field = format!("X-API-Key: {key}\r\n");
        for (target, fields) in [
            ("/field".to_owned(), field.clone()),
            (format!("/query?api_key={key}"), String::new()),
            (format!("/first?api_key={key}&x=1"), String::new()),
            (format!("/both?x=1&api_key={key}"), field.clone()),
            ("/twice".to_owned(), format!("{field}{field}")),
            ("/bad field".to_owned(), field.clone()),
            ("/over".to_owned(), field.clone()),
            ("/over".to_owned(), field.clone()),
        ] {
            let text = format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n");
            answers.push(Client::connect(world.web).send(text).response());
        }
    }
    let statuses: Vec<u16> = answers.iter().map(Message::status).collect();
    assert_eq!(statuses[..8], [200, 200, 200, 401, 401, 400, 200, 429]);
    assert!(statuses[8..].iter().all(|status| [400, 401].contains(status)), "{statuses:?}");
    let (upstream, hash) = (world.origin.requests(), hash_in(&lines)[7..].to_owned());
    assert_eq!(upstream.len(), 4);
    let mut all: Vec<(String, Vec<u8>)> = Vec::new();
    for (n, message) in answers.iter().chain(&upstream).enumerate() {
        all.push((format!("message {n}"), [message.head.clone(), message.body.clone()].concat()));
    }
    for page in ["/metrics", "/targets", "/healthz", "/readyz", "/"] {
        let page_text = ask(ringgate.admin(), page);
        all.push((page.to_owned(), [page_text.head.clone(), page_text.body].concat()));
    }
    ringgate.reload(&world.config(gold, &logged));
    ringgate.signal(Signal::TERM);
    ringgate.wait_exit();
    for name in ["usage.log", "usage.snapshot"] {
        let path = world.dir.path().join("usage").join(name);
        all.push((name.to_owned(), std::fs::read(path).unwrap_or_default()));
    }
    let log = std::fs::read(log).unwrap();
    assert!(String::from_utf8_lossy(&log).contains("/query"), "the log was written");
    all.push(("access log".to_owned(), log));
    all.push(("error log".to_owned(), ringgate.output().into_bytes()));
    for (what, octets) in all {
        let text = String::from_utf8_lossy(&octets);
        for secret in [&canary[3..], &unknown[3..], &hash] {
            assert!(!text.contains(secret), "{what}: {text}");
        }
    }
}
