//! Logins at a real OpenID provider, npm's oidc-provider, by headless Chromium; and what is done with the cookies of a session
//! by other means.
//!
//! `oidc/provider.mjs` is the provider, `oidc/browser.mjs` drives the browser and says what it saw. Hazards AUTH-14 to
//! AUTH-18. Where either is not installed the tests say that they are skipped; scripts/test installs both where it can.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use support::process::Process;
use support::{Client, Message, Origin, Ringgate, eventually, free_address, program};

const OLD: &str = "a secret for cookies, of the tests";
const NEW: &str = "another secret for cookies, of the tests";

/// A process with all that it has started; all of them end when this is dropped.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}

/// What the tests need that may not be there: Chromium, and the folder of Node's modules.
fn installed() -> Option<(PathBuf, PathBuf)> {
    let path = std::env::var("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let all = std::env::split_paths(&path).flat_map(|dir| names.map(|name| dir.join(name)));
    let chromium = all.into_iter().find(|file| file.is_file());
    let home = std::env::var("HOME").unwrap_or_default();
    let cache = std::env::var("XDG_CACHE_HOME").unwrap_or_else(|_| format!("{home}/.cache"));
    let modules = PathBuf::from(cache).join("ringgate/node/node_modules");
    let provider = modules.join("oidc-provider/lib/index.js");
    match chromium {
        Some(chromium) if provider.is_file() => Some((chromium, modules)),
        _ => {
            eprintln!(
                "skipped: Chromium or npm's oidc-provider is not installed (scripts/test does it)"
            );
            None
        }
    }
}

struct Setup {
    ringgate: Ringgate,
    origin: Origin,
    listen: SocketAddr,
    provider: Option<Process>,
    issuer: String,
    site: String,
    chromium: PathBuf,
    listener: String,
    _dir: tempfile::TempDir,
}

impl Setup {
    fn start(https: bool) -> Option<Setup> {
        let (chromium, modules) = installed()?;
        let (listen, at, dir) = (free_address(), free_address(), tempfile::tempdir().unwrap());
        let scheme = if https { "https" } else { "http" };
        let (site, issuer) =
            (format!("{scheme}://a.test:{}", listen.port()), format!("http://{at}"));
        let mut command = Command::new(program("node", "nodejs"));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oidc/provider.mjs");
        command.arg(script).arg(modules).arg(at.port().to_string()).arg(&site);
        let provider = Some(Process::start(command, dir.path(), at));
        let origin = Origin::echo();
        let listener = if https { tls(dir.path()) } else { String::new() };
        let text = config(listen, origin.address, &issuer, &listener, &[OLD]);
        let ringgate = Ringgate::start(&text);
        Some(Setup {
            ringgate,
            origin,
            listen,
            provider,
            issuer,
            site,
            chromium,
            listener,
            _dir: dir,
        })
    }

    fn reload(&self, secrets: &[&str]) {
        let target = self.origin.address;
        self.ringgate.reload(&config(self.listen, target, &self.issuer, &self.listener, secrets));
    }

    /// Runs a scenario in a browser with a profile of its own.
    #[track_caller]
    fn browse(&self, scenario: &str) -> Value {
        let profile = tempfile::tempdir().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oidc/browser.mjs");
        let mut command = Command::new(program("node", "nodejs"));
        command.arg(script).arg(&self.chromium).arg(profile.path());
        command.args([&self.site, &self.issuer, scenario]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let mut group = Group(command.spawn().unwrap());
        let mut said = String::new();
        std::io::Read::read_to_string(&mut group.0.stdout.take().unwrap(), &mut said).unwrap();
        let report: Value = serde_json::from_str(&said).expect("the browser reports");
        assert_eq!(report["error"], Value::Null, "{}", self.ringgate.output());
        report
    }

    /// A request over plain HTTP with these lines.
    fn ask(&self, path: &str, lines: &str) -> Message {
        let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{lines}\r\n", &self.site[7..]);
        Client::connect(self.listen).send(head).response()
    }

    fn grants(&self) -> Value {
        let at: SocketAddr = self.issuer[7..].parse().unwrap();
        let head = format!("GET /test/grants HTTP/1.1\r\nHost: {at}\r\n\r\n");
        serde_json::from_slice(&Client::connect(at).send(head).response().body).unwrap()
    }

    fn tokens_last(&self, seconds: u64) {
        let at: SocketAddr = self.issuer[7..].parse().unwrap();
        let head = format!("GET /test/tokens?seconds={seconds} HTTP/1.1\r\nHost: {at}\r\n\r\n");
        assert_eq!(Client::connect(at).send(head).response().status(), 200);
    }
}

fn config(
    listen: SocketAddr,
    target: SocketAddr,
    issuer: &str,
    listener: &str,
    secrets: &[&str],
) -> String {
    format!(
        "[server]\nworkers = 4\n[log]\naccess = \"./access.log\"\nformat = \"json\"\n\
         [[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\n{listener}\n\
         [[rule]]\nname = \"public\"\nwhen = {{ path = \"/public\" }}\nrespond = {{ status = 200, body = \"bye\" }}\n\
         [[rule]]\nname = \"site\"\npolicy = [\"main\"]\nforward = \"all\"\n\
         [policy.main.oidc]\nissuer = \"{issuer}\"\nclient_id = \"site\"\n\
         client_secret = \"the secret of the site & more\"\nsecret = {secrets:?}\n\
         scopes = [\"openid\", \"email\"]\nafter_logout = \"/public\"\n\
         [group.all]\ntargets = [\"{target}\"]\nhealth = {{ type = \"off\" }}\n"
    )
}

/// A self-signed certificate in `dir`, and the lines of a listener that shows it.
fn tls(dir: &Path) -> String {
    let made = rcgen::generate_simple_self_signed(vec!["a.test".to_owned()]).unwrap();
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    format!(
        "protocol = \"https\"\ntls = {{ certificates = [{{ cert = \"{}\", key = \"{}\" }}] }}\n",
        cert.display(),
        key.display()
    )
}

// AUTH-15, AUTH-16, AUTH-18, as a user meets them.
#[test]
fn chromium_logs_in_stays_and_logs_out() {
    let Some(setup) = Setup::start(true) else { return };
    let report = setup.browse("all");
    let expected = json!({
        "first": "GET /page?x=1 HTTP/1.1",
        "identity": "ann",
        "claims": ["ann", "ann@example.com", true],
        "seen": "",
        "cookies": [["__Host-rg-main~0", true, true, "Lax", "/"]],
        // Eight requests at the same time are one refresh, and all have its token.
        "refreshed": [1, false, 1],
        "again": 1,
        "foreign": true,
        "left": [],
        "program": "401 login_required",
        "denied": true,
        "over": [],
        "tabs": ["bob", "bob"],
        "logins": 0,
    });
    assert_eq!(report, expected);
    let grants = setup.grants();
    let errors: Vec<_> =
        grants.as_object().unwrap().keys().filter(|k| k.contains("error")).collect();
    assert!(errors.is_empty(), "{grants}");
    let record = |path: &str| {
        let log = std::fs::read_to_string(setup.ringgate.dir.path().join("access.log")).unwrap();
        let all = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        all.filter(|record| record["path"] == path).collect::<Vec<_>>()
    };
    eventually("the login is in the log", || {
        record("/page").iter().any(|r| r["consumer"] == "ann")
    });
    let log = std::fs::read_to_string(setup.ringgate.dir.path().join("access.log")).unwrap();
    assert!(!log.contains("code=") && !log.contains("state="), "AUTH-14: {log}");
}

/// What a target saw, without what is in every request.
fn lines(message: &Message, prefix: &str) -> Vec<String> {
    let text = message.text();
    let wanted = text.lines().filter(|line| line.to_ascii_lowercase().starts_with(prefix));
    wanted.map(str::to_owned).collect()
}

#[test]
fn a_session_is_good_for_what_it_was_made_for_and_nothing_else() {
    let Some(mut setup) = Setup::start(false) else { return };
    setup.tokens_last(6);
    let report = setup.browse("cookies");
    assert_eq!(report["secure"], false, "{report}");
    let cookies: Vec<&str> =
        report["cookies"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let [session] = cookies.as_slice() else { panic!("{cookies:?}") };
    let (name, value) = session.split_once('=').unwrap();
    assert_eq!(name, "rg-main~0");
    let own = format!("Cookie: a=1; {session}; b=2\r\n");

    // Its target is told who it is by ringgate alone, and sees none of the session's cookies.
    let forged =
        "x-amzn-oidc-identity: root\r\nX-Amzn-Oidc-Data: forged\r\nx-amzn-oidc-accesstoken: x\r\n";
    let answer = setup.ask("/data", &format!("{own}{forged}"));
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(lines(&answer, "x-amzn-oidc-identity"), ["x-amzn-oidc-identity: ann"]);
    assert_eq!(lines(&answer, "x-amzn-oidc-").len(), 3);
    assert_eq!(lines(&answer, "cookie"), ["cookie: a=1; b=2"]);
    assert!(!answer.text().contains("forged") && !answer.text().contains("root"));
    assert_eq!(setup.ask("/data", forged).status(), 401);

    // AUTH-16: changed anywhere, cut, doubled, under another name, it is none.
    let middle = value.len() / 2;
    let mut changed = value.to_owned();
    changed.replace_range(middle..=middle, if &value[middle..=middle] == "A" { "B" } else { "A" });
    for bad in [
        format!("{name}={changed}"),
        format!("{name}={}", &value[..middle]),
        format!("{name}=2{}; rg-main~1={}", &value[1..middle], &value[middle..]) + "x",
        format!("{name}=1"),
        format!("rg-other~0={value}"),
        format!("__Host-rg-main~0={value}"),
        format!("rg-main~login~0={value}"),
    ] {
        let answer = setup.ask("/data", &format!("Cookie: {bad}\r\n"));
        assert_eq!((answer.status(), answer.reason()), (401, "login_required"), "{bad}");
    }

    // Old-key grace: a reload keeps sessions while their secret is in the list.
    setup.reload(&[NEW, OLD]);
    let answer = setup.ask("/data", &own);
    let fresh = answer.header("set-cookie").expect("written anew under the new secret").to_owned();
    let fresh = fresh.split(';').next().unwrap().to_owned();
    assert_eq!(answer.status(), 200);
    setup.reload(&[NEW]);
    assert_eq!(setup.ask("/data", &own).status(), 401);
    let own = format!("Cookie: {fresh}\r\n");
    assert_eq!(setup.ask("/data", &own).status(), 200);

    // AUTH-18: many at the same time, on four workers, when the token has expired.
    std::thread::sleep(Duration::from_millis(6500));
    setup.tokens_last(10);
    let answers: Vec<Message> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..24).map(|_| scope.spawn(|| setup.ask("/data", &own))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    for answer in &answers {
        assert_eq!(answer.status(), 200, "{}", answer.text());
        let cookie = answer.header("set-cookie").expect("the new tokens are kept");
        assert!(
            cookie.contains("; HttpOnly; SameSite=Lax") && !cookie.contains("Secure"),
            "{cookie}"
        );
    }
    assert_eq!(setup.grants()["refresh_token"], 1, "{}", setup.grants());
    let token = lines(&answers[0], "x-amzn-oidc-accesstoken").remove(0);
    assert!(
        answers.iter().all(|answer| lines(answer, "x-amzn-oidc-accesstoken") == [token.clone()])
    );

    // A provider that is down: who is logged in stays so while the tokens last, and is told why afterwards.
    let next = answers[0].header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let next = format!("Cookie: {next}\r\n");
    setup.provider = None;
    assert_eq!(setup.ask("/data", &next).status(), 200);
    std::thread::sleep(Duration::from_millis(10_500));
    let answer = setup.ask("/data", &next);
    assert_eq!((answer.status(), answer.reason()), (561, "identity_provider_failed"));
    assert_eq!(answer.header("set-cookie"), None, "the session waits for the provider");

    // AUTH-14: nothing of it in any output.
    let log = std::fs::read_to_string(setup.ringgate.dir.path().join("access.log")).unwrap();
    let out = [log, setup.ringgate.output(), setup.ringgate.metrics()].concat();
    for secret in
        [&value[..40], token.split(' ').nth(1).unwrap(), "the secret of the site", OLD, NEW]
    {
        assert!(!out.contains(secret), "AUTH-14: {secret}");
    }
}

// AUTH-15 over the wire, without a browser: what comes back unasked, or from somewhere else.
#[test]
fn nothing_comes_back_that_was_not_sent_away() {
    let Some(setup) = Setup::start(false) else { return };
    let page = "Accept: text/html\r\n";
    let away = setup.ask("/page?next=//evil.test", page);
    assert_eq!(away.status(), 302);
    let to = away.header("location").unwrap().to_owned();
    assert!(
        to.starts_with(&format!("{}/auth?response_type=code&client_id=site&", setup.issuer)),
        "{to}"
    );
    assert_eq!(away.header("cache-control"), Some("no-store"));
    let state = to.split("state=").nth(1).unwrap().split('&').next().unwrap();
    let cookie = away.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let other = setup.ask("/page", page);
    let other = other.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let (name, value) = cookie.split_once('=').unwrap();
    let (_, others) = other.split_once('=').unwrap();
    let back = format!("/oauth2/callback?code=c&state={state}");
    let tampered = format!("{}A", &value[..value.len() - 1]);
    for (path, cookie, expected) in [
        ("/oauth2/callback", cookie.clone(), "login_failed"),
        ("/oauth2/callback?code=c", cookie.clone(), "login_failed"),
        ("/oauth2/callback?code=c&state=other", cookie.clone(), "login_failed"),
        (&back, String::new(), "login_failed"),
        (&back, other.clone(), "login_failed"),
        (&back, format!("{name}={others}"), "login_failed"),
        (&back, format!("{name}={tampered}"), "login_failed"),
        (&format!("{back}&iss=https%3A%2F%2Fevil.test"), cookie.clone(), "login_failed"),
        // It was spent by that.
        (&back, cookie.clone(), "login_failed"),
    ] {
        let answer = setup.ask(path, &format!("{page}Cookie: {cookie}\r\n"));
        assert_eq!((answer.status(), answer.reason()), (401, expected), "{path} {cookie}");
        assert!(answer.header("location").is_none());
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
    }
    // A code that nobody was given: the provider refuses it, and the state is spent.
    let cookie = setup
        .ask("/page", page)
        .header("set-cookie")
        .unwrap()
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let state = cookie.split(['~', '=']).nth(2).unwrap();
    let issuer = setup.issuer.replace(':', "%3A").replace('/', "%2F");
    let back = format!("/oauth2/callback?code=made-up&state={state}&iss={issuer}");
    for _ in 0..2 {
        let answer = setup.ask(&back, &format!("{page}Cookie: {cookie}\r\n"));
        assert_eq!((answer.status(), answer.reason()), (401, "login_failed"), "{}", answer.text());
        assert!(answer.header("set-cookie").unwrap().contains("Max-Age=0"), "the login is over");
    }
    assert_eq!(setup.grants()["error invalid_grant"], 1, "{}", setup.grants());
    // Other sites cannot log users out.
    for fields in ["", "Origin: https://evil.test\r\n", "Sec-Fetch-Site: cross-site\r\n"] {
        let answer = setup.ask("/oauth2/logout", fields);
        assert_eq!((answer.status(), answer.reason()), (403, "logout_refused"), "{fields}");
    }
    let origin = format!("Origin: {}\r\n", setup.site);
    assert_eq!(setup.ask("/oauth2/logout", &origin).status(), 302);
    assert!(setup.origin.requests().is_empty(), "nothing of this has reached the target");
}
