//! A ringgate that stores, and a target whose answers are told path by path.

use crate::support::{Client, Message, Origin, Ringgate, free_address};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

/// What the target answers: a status and fields. `{+60}` in a value is the date in 60 seconds, `{-60}` of 60 seconds ago.
/// `body=...` as the last field is the body; otherwise it is the number of the answer, from 1.
pub type Answer<'a> = (u16, &'a [(&'a str, &'a str)]);
pub type Lines<'a> = &'a [(&'a str, &'a str)];

type Owned = (u16, Vec<(String, String)>);

#[derive(Default)]
struct Script {
    answers: Vec<Owned>,
    requests: Vec<Message>,
}

type Scripts = Arc<Mutex<HashMap<String, Script>>>;

pub struct Rig {
    _ringgate: Ringgate,
    pub address: SocketAddr,
    pub origin: Origin,
    scripts: Scripts,
}

impl Rig {
    /// With `cache` as the rule says it.
    #[track_caller]
    pub fn start(cache: &str) -> Rig {
        Rig::with(&format!("cache = {cache}"), "")
    }

    /// With lines of the rule, and tables behind them.
    #[track_caller]
    pub fn with(rule: &str, tables: &str) -> Rig {
        let scripts = Scripts::default();
        let origin = {
            let scripts = Arc::clone(&scripts);
            Origin::script(move |conn| {
                while let Some(request) = conn.request()? {
                    let answer = answer(&scripts, &request);
                    conn.send(&answer)?;
                }
                Ok(())
            })
        };
        let address = free_address();
        let config = format!(
            "[[listener]]\nname = \"web\"\nbind = [\"{address}\"]\n\
             [[rule]]\nname = \"all\"\nforward = \"g\"\n{rule}\n\
             [group.g]\ntargets = [\"{}\"]\nhealth = {{ type = \"off\" }}\nretries = 0\n{tables}\n",
            origin.address
        );
        Rig { _ringgate: Ringgate::start(&config), address, origin, scripts }
    }

    /// What the target answers to requests of `path`, one after the other; the last of them again and again.
    pub fn answers(&self, path: &str, answers: &[Answer<'_>]) {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let owned = |(status, fields): &Answer<'_>| (*status, fields.iter().map(pair).collect());
        let script = Script { answers: answers.iter().map(owned).collect(), requests: Vec::new() };
        self.scripts.lock().unwrap().insert(path.to_owned(), script);
    }

    /// What the target was asked for under `path`.
    pub fn asked(&self, path: &str) -> Vec<Message> {
        let scripts = self.scripts.lock().unwrap();
        scripts.get(path).map(|script| script.requests.clone()).unwrap_or_default()
    }

    /// How often the target was asked for `path`.
    pub fn hits(&self, path: &str) -> usize {
        self.asked(path).len()
    }

    #[track_caller]
    pub fn get(&self, path: &str, fields: Lines<'_>) -> Message {
        self.ask("GET", path, fields)
    }

    /// One request, on a connection of its own: it comes to whichever worker.
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, fields: Lines<'_>) -> Message {
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        if !fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str("Host: a.test\r\n");
        }
        for (name, value) in fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if matches!(method, "POST" | "PUT" | "PATCH") {
            head.push_str("Content-Length: 0\r\n");
        }
        Client::connect(self.address).send(head + "\r\n").response_to(method)
    }

    /// Whether a second request is answered with what the first was answered with, where the target answers like this.
    #[track_caller]
    pub fn is_stored(&self, path: &str, answer: Answer<'_>, first: Lines<'_>) -> bool {
        self.is_reused(path, answer, first, first)
    }

    /// The same for two requests that differ.
    #[track_caller]
    pub fn is_reused(
        &self,
        path: &str,
        answer: Answer<'_>,
        first: Lines<'_>,
        second: Lines<'_>,
    ) -> bool {
        self.answers(path, &[answer]);
        let one = self.get(path, first);
        assert_eq!(one.status(), answer.0, "{path}: {answer:?}");
        let two = self.get(path, second);
        let hits = self.hits(path);
        assert!(hits == 1 || hits == 2, "{path}: {hits} requests");
        if hits == 1 {
            assert_eq!(two.body, one.body, "{path}: {answer:?}");
            assert!(two.header("age").is_some(), "{path}: a stored response has an Age");
        } else {
            assert!(two.header("age").is_none() || answer.1.iter().any(|(n, _)| *n == "Age"));
        }
        hits == 1
    }

    /// [`Rig::is_stored`] for each of a table, and what it should be.
    #[track_caller]
    pub fn stored(&self, table: &[(u16, Lines<'_>, bool)]) {
        for (at, (status, fields, expected)) in table.iter().enumerate() {
            let path = format!("/case-{at}-{}", fastrand::u32(..));
            let got = self.is_stored(&path, (*status, fields), &[]);
            assert_eq!(got, *expected, "{status} {fields:?}");
        }
    }
}

fn answer(scripts: &Scripts, request: &Message) -> Vec<u8> {
    let mut scripts = scripts.lock().unwrap();
    let path = request.target().split('?').next().unwrap_or_default().to_owned();
    let Some(script) = scripts.get_mut(&path) else {
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec();
    };
    script.requests.push(request.clone());
    let number = script.requests.len();
    let at = number.min(script.answers.len()) - 1;
    let (status, fields) = &script.answers[at];
    let mut body = number.to_string();
    let mut head = format!("HTTP/1.1 {status} Said\r\n");
    for (name, value) in fields {
        match name.as_str() {
            "body" => body.clone_from(value),
            _ => head.push_str(&format!("{name}: {}\r\n", dated(value))),
        }
    }
    let empty = matches!(status, 204 | 304);
    if !empty {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    if !empty && request.method() != "HEAD" {
        head.push_str(&body);
    }
    head.into_bytes()
}

/// The value with the dates that it speaks of.
pub fn dated(value: &str) -> String {
    let (Some(start), Some(end)) = (value.find('{'), value.find('}')) else {
        return value.to_owned();
    };
    let seconds: i64 = value[start + 1..end].parse().expect("seconds, with a sign");
    let by = Duration::from_secs(seconds.unsigned_abs());
    let now = SystemTime::now();
    let date = if seconds < 0 { now - by } else { now + by };
    format!("{}{}{}", &value[..start], httpdate::fmt_http_date(date), &value[end + 1..])
}

/// The members of the last `Cache-Status` line, which is that of ringgate.
#[track_caller]
pub fn cache_status(response: &Message) -> String {
    let lines = response.all("cache-status");
    let last = lines.last().expect("there is a Cache-Status");
    last.strip_prefix("ringgate; ").expect("the last one is ours").to_owned()
}
