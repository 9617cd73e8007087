//! Patterns over real sockets: however a request is written, what no target should see is not sent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use std::net::SocketAddr;
use support::ringgate::forwarding;
use support::{Client, Message, Origin, Ringgate, eventually, free_address};

fn with(listen: SocketAddr, target: SocketAddr, policy: &str) -> String {
    let name = "name = \"web\"\n";
    let lines = "policy = 'bad'\n";
    forwarding(listen, &[target], "").replace(name, &format!("{name}{lines}"))
        + &format!("\n[policy.bad]\n{policy}\n")
}

#[track_caller]
fn ask(listen: SocketAddr, path: &str, fields: &str) -> Message {
    let head = format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n");
    Client::connect(listen).send(head).response()
}

const POLICY: &str = r#"
[policy.bad.block]
path = ["/.git", "/admin/secret", 'regex:\.(bak|sql)$', 'regex:^/internal(/|$)']
query = ["union select", "../"]
cookie = ["<script"]
headers = { user-agent = ["sqlmap"], "*" = ["$${jndi:"] }
"#;

// Hazards URI-01 to URI-05.
#[test]
fn no_way_of_writing_a_request_gets_round_a_pattern() {
    for separators in ["refuse", "keep"] {
        let (origin, listen) = (Origin::saying("served"), free_address());
        let server = format!(
            "[server]\nencoded_separators = \"{separators}\"\nmerge_slashes = {}\n\n",
            separators == "refuse"
        );
        let ringgate = Ringgate::start(&(server + &with(listen, origin.address, POLICY)));
        let mut blocked = 0.0;
        for path in [
            "/.git/config",
            "/x/.GIT/config",
            "/x/%2e%67it/config",
            "/dump.sql",
            "/dump.%73%71l?x",
            "/admin/secret",
            "/%61dmin/./secret",
            "/x/../admin/secret",
            "//admin//secret",
            "/admin;x/secret",
            "/x/..;/admin/secret",
            "/admin./secret",
            "/admin%20/secret",
            "/x/..;/internal",
            "/?q=1+UNION+SELECT+2",
            "/?q=%75nion%20select",
            "/?f=..%2f..%2fetc",
            "http://a.test/.git",
        ] {
            let answer = ask(listen, path, "");
            assert_eq!((answer.status(), answer.reason()), (403, "pattern_blocked"), "{path}");
            assert!(!answer.text().contains("regex") && !answer.text().contains("path "));
            blocked += 1.0;
        }
        // With separators kept, what they may mean to a server is looked at; without, they are refused before.
        for path in ["/admin%2fsecret", "/admin%5csecret", "/internal%2fx", "/admin%3bx/secret"] {
            let answer = ask(listen, path, "");
            let expected = match separators {
                "keep" => (403, "pattern_blocked"),
                _ => (400, "encoded_separator"),
            };
            assert_eq!((answer.status(), answer.reason()), expected, "{path}");
            blocked += if separators == "keep" { 1.0 } else { 0.0 };
        }
        for fields in [
            "User-Agent: SQLMap/1.8\r\n",
            "X-Api: ${JNDI:ldap://x}\r\n",
            "Cookie: a=1; b=%3cscript\r\n",
            "Cookie: a=1\r\nCookie: <SCRIPT\r\n",
        ] {
            let answer = ask(listen, "/", fields);
            assert_eq!((answer.status(), answer.reason()), (403, "pattern_blocked"), "{fields}");
            blocked += 1.0;
        }
        assert!(origin.requests().is_empty(), "{:?}", origin.requests());
        let counted = ringgate.sum("ringgate_policy_decisions_total", &["bad", "pattern_blocked"]);
        assert_eq!(counted, blocked, "{}", ringgate.metrics());
        for path in ["/", "/git", "/internals", "/x/internal", "/admin?x=secret", "/a.sqlx"] {
            let fields = "User-Agent: curl/8\r\nCookie: script=1\r\n";
            assert_eq!(ask(listen, path, fields).status(), 200, "{path}");
        }
    }
}

/// The records of the access log.
fn records(ringgate: &Ringgate) -> Vec<serde_json::Value> {
    let log = std::fs::read_to_string(ringgate.dir.path().join("access.log")).unwrap_or_default();
    log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[test]
fn files_of_patterns_are_read_again_and_the_log_says_which_was_found() {
    let (origin, listen, dir) =
        (Origin::saying("served"), free_address(), tempfile::tempdir().unwrap());
    let file = dir.path().join("paths.txt");
    std::fs::write(&file, "# scanners\n/wp-login.php\n").unwrap();
    let log = "\n[log]\naccess = \"./access.log\"\nformat = \"json\"\n";
    let blocking = "block = { path_file = 'paths.txt' }";
    let config = with(listen, origin.address, blocking) + log;
    let ringgate = Ringgate::start_in(dir, &config);
    assert_eq!(ask(listen, "/wp-login.php", "").status(), 403);
    assert_eq!(ask(listen, "/x.sql", "").status(), 200);
    let fresh = file.with_extension("new");
    std::fs::write(&fresh, "regex:\\.sql$\n").unwrap();
    std::fs::rename(&fresh, &file).unwrap();
    let in_use = || ringgate.output().contains("what they hold now is in use");
    eventually("the file is watched, and every worker has it", in_use);
    assert_eq!(ask(listen, "/x.sql", "").status(), 403);
    assert_eq!(ask(listen, "/wp-login.php", "").status(), 200);
    let found = |path: &str, key: &str, text: &str| {
        eventually("the log says it", || {
            records(&ringgate).iter().any(|r| r["path"] == path && r[key] == text)
        });
    };
    found("/wp-login.php", "detail", "path paths.txt:2");
    found("/x.sql", "detail", "path paths.txt:1");
    found("/x.sql", "policy", "bad");
    // Who only counts learns the same.
    ringgate.reload(&config.replace(blocking, &format!("{blocking}\ndry_run = true")));
    assert_eq!(ask(listen, "/y.sql", "").status(), 200);
    found("/y.sql", "detail", "path paths.txt:1");
    found("/y.sql", "policy_dry_run", "bad:pattern_blocked");
}
