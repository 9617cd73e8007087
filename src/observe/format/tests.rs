//! Tests of the formats: exact lines, AWS's own pattern, and hostile records.

use super::*;
use crate::observe::escape::{PATH_CAP, VALUE_CAP};
use proptest::prelude::*;
use std::time::Duration;

fn usual() -> Record<'static> {
    Record {
        wall_micros: 1_783_030_980_186_641,
        request_id: b"0192f3a1",
        client: [192, 0, 2, 7].into(),
        peer: Some(([192, 0, 2, 7], 2817).into()),
        listener: "web",
        rule: "api",
        rule_priority: Some(10),
        group: "api",
        target: Some("10.0.0.1:8080"),
        method: b"GET",
        host: b"api.example.com",
        path: b"/v1/x?q=1",
        version: "HTTP/1.1",
        status: 200,
        target_status: Some(200),
        bytes_in: 120,
        bytes_out: 366,
        body_out: 57,
        request_time: Some(Duration::from_micros(120)),
        connect_time: Some(Duration::from_micros(880)),
        response_time: Some(Duration::from_micros(48_250)),
        total: Some(Duration::from_micros(50_000)),
        user_agent: Some(b"curl/8.5.0"),
        trace_id: Some(b"Root=1-58337262-36d228ad5d99923122bbe354"),
        generation: 3,
        worker: 1,
        action: "forward",
        ..Record::default()
    }
}

fn refused() -> Record<'static> {
    Record {
        wall_micros: 1_783_030_980_186_641,
        client: "2001:db8::7".parse().unwrap(),
        listener: "web",
        status: 400,
        bytes_in: 12,
        bytes_out: 140,
        reason: Some("bad_request_line"),
        reason_text: Some("The request line is not one."),
        ..Record::default()
    }
}

fn line(format: &str, record: &Record<'_>) -> String {
    let mut out = Vec::new();
    Format::parse(format).unwrap().write(record, &mut Clock::default(), &mut out);
    let line = String::from_utf8(out).unwrap();
    line.strip_suffix('\n').expect("a line ends").to_owned()
}

#[test]
fn combined_is_what_apache_writes() {
    assert_eq!(
        line("combined", &usual()),
        r#"192.0.2.7 - - [02/Jul/2026:22:23:00 +0000] "GET /v1/x?q=1 HTTP/1.1" 200 57 "-" "curl/8.5.0""#
    );
    assert_eq!(
        line("combined", &refused()),
        r#"2001:db8::7 - - [02/Jul/2026:22:23:00 +0000] "-" 400 - "-" "-""#
    );
}

#[test]
fn alb_is_what_aws_documents() {
    assert_eq!(
        line("alb", &usual()),
        concat!(
            r#"http 2026-07-02T22:23:00.186641Z web 192.0.2.7:2817 10.0.0.1:8080 0.001 0.048 0.000 200 200 "#,
            r#"120 366 "GET http://api.example.com:80/v1/x?q=1 HTTP/1.1" "curl/8.5.0" - - api "#,
            r#""Root=1-58337262-36d228ad5d99923122bbe354" "-" "-" 10 2026-07-02T22:23:00.136641Z "#,
            r#""forward" "-" "-" "10.0.0.1:8080" "200" "-" "-""#
        )
    );
    assert_eq!(
        line("alb", &refused()),
        concat!(
            r#"http 2026-07-02T22:23:00.186641Z web [2001:db8::7]:0 - -1 -1 -1 400 - 12 140 "#,
            r#""- http://-:80- -" "-" - - - "-" "-" "-" - 2026-07-02T22:23:00.186641Z "#,
            r#""-" "-" "bad_request_line" "-" "-" "-" "-""#
        )
    );
    let left = Record { status: 0, ..usual() };
    assert!(line("alb", &left).contains(" 460 200 "));
}

/// The pattern of the Athena table in AWS's documentation.
const ATHENA: &str = concat!(
    r#"^([^ ]*) ([^ ]*) ([^ ]*) ([^ ]*):([0-9]*) ([^ ]*)[:-]([0-9]*) ([-.0-9]*) ([-.0-9]*) ([-.0-9]*) "#,
    r#"(|[-0-9]*) (-|[-0-9]*) ([-0-9]*) ([-0-9]*) "([^ ]*) (.*) (- |[^ ]*)" "([^"]*)" ([A-Z0-9-_]+) "#,
    r#"([A-Za-z0-9.-]*) ([^ ]*) "([^"]*)" "([^"]*)" "([^"]*)" ([-.0-9]*) ([^ ]*) "([^"]*)" "([^"]*)" "#,
    r#""([^ ]*)" "([^\s]+?)" "([^\s]+)" "([^ ]*)" "([^ ]*)" ?([^ ]*)?$"#
);

fn check_athena(record: &Record<'_>) {
    let pattern = regex::Regex::new(ATHENA).unwrap();
    let line = line("alb", record);
    let found = pattern.captures(&line).unwrap_or_else(|| panic!("no match: {line}"));
    assert_eq!(found.get(3).unwrap().as_str(), "web");
    assert_eq!(found.get(5).unwrap().as_str(), if record.peer.is_some() { "2817" } else { "0" });
}

#[test]
fn alb_is_read_by_athena() {
    for record in [
        usual(),
        refused(),
        Record { target: Some("unix:/run/app 1.sock"), ..usual() },
        Record { user_agent: Some(b"\" 200 \""), path: b"/a b\" \"", ..usual() },
        Record { scheme: "https", rule_priority: None, rule: "", ..usual() },
    ] {
        check_athena(&record);
    }
}

#[test]
fn json_says_everything_and_null_where_there_is_nothing() {
    let usual: serde_json::Value = serde_json::from_str(&line("json", &usual())).unwrap();
    assert_eq!(usual["time"], "2026-07-02T22:23:00.186641Z");
    assert_eq!(usual["peer"], "192.0.2.7:2817");
    assert_eq!(usual["total_ms"], 50.0);
    assert_eq!(usual["connect_ms"], 0.88);
    assert_eq!((&usual["status"], &usual["priority"]), (&200.into(), &10.into()));
    assert_eq!(usual["reason"], serde_json::Value::Null);
    let refused: serde_json::Value = serde_json::from_str(&line("json", &refused())).unwrap();
    assert_eq!(refused["reason"], "bad_request_line");
    assert_eq!(refused["connect_ms"], serde_json::Value::Null);
    let keys = |v: &serde_json::Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&usual), keys(&refused), "every line has the same keys");
}

#[test]
fn templates_write_what_they_name() {
    assert_eq!(
        line("$time $client \"$method $path\" $status $bytes_out $total_ms", &usual()),
        "2026-07-02T22:23:00.186641Z 192.0.2.7 \"GET /v1/x?q=1\" 200 366 50.000"
    );
    assert_eq!(line("$$${status}x $unix $group", &refused()), "$400x 1783030980.186 -");
    let forged = Record { user_agent: Some(b"a b"), ..usual() };
    assert_eq!(line("$user_agent \"$user_agent\"", &forged), r#"a\x20b "a b""#);
    for name in Template::fields() {
        let written = line(&format!("[${name}]"), &usual());
        assert!(written.len() > 2, "${name} writes nothing");
    }
}

#[test]
fn rejects_what_is_no_format_and_lists_what_is() {
    let check = |text: &str, want: &str| {
        let error = Format::parse(text).unwrap_err().to_string();
        assert!(error.contains(want), "{text:?}: {error}");
    };
    check("jsno", "json, combined, alb");
    check("", "json, combined, alb");
    check("$tiem", "unknown field `$tiem`");
    check("$tiem", " $time ");
    check("$status $", "`$$`");
    check("${status", "`$$`");
    check("$status\n", "one line");
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let nasty = prop::sample::select(vec![
        b"\r\n".to_vec(),
        b"\x1b[2J".to_vec(),
        b"\"".to_vec(),
        b"\\".to_vec(),
        b"\",\"status\":200,\"x\":\"".to_vec(),
        b"\xff\xc3\xe2\x80".to_vec(),
        "\u{2028}\u{202e}\u{85}".as_bytes().to_vec(),
        vec![b'a'; 65_536],
    ]);
    let part = prop_oneof![nasty, prop::collection::vec(any::<u8>(), 0..40)];
    prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_hostile_request_is_one_line_in_every_format(
        method in any_bytes(),
        host in any_bytes(),
        path in any_bytes(),
        agent in any_bytes(),
        status: u16,
        wall_micros: u64,
        total: Option<u64>,
    ) {
        let record = Record {
            request_id: &agent,
            method: &method,
            host: &host,
            path: &path,
            user_agent: Some(&agent),
            referer: Some(&path),
            trace_id: Some(&host),
            redirect_url: Some(&path),
            status,
            wall_micros,
            total: total.map(Duration::from_micros),
            ..usual()
        };
        for format in ["json", "combined", "alb", "$time $method $path \"$user_agent\" $host"] {
            let line = line(format, &record);
            prop_assert!(!line.contains(|c: char| c.is_control()), "{}: {:?}", format, line);
            prop_assert!(line.len() < 6 * (2 * PATH_CAP + 8 * VALUE_CAP) + 2048);
        }
        let json = serde_json::from_str::<serde_json::Value>(&line("json", &record)).unwrap();
        prop_assert_eq!(json["status"].as_u64(), Some(u64::from(status)));
        prop_assert_eq!(line("$method $path $host", &record).split(' ').count(), 3);
        check_athena(&record);
    }
}
