//! The checker, checked: an honest ledger passes, and every way of doctoring it is found.

use crate::answers;
use crate::check::judge;
use crate::ledger::{Answer, Asked, Client, Ended, Exchange, Ledger, Record, Totals, Wanted};
use crate::request;

/// Two clients: one had a GET and a POST answered by targets, the other a fixed answer and an own one.
fn honest() -> Ledger {
    let asked = |token: &str, method, wanted, body| Asked {
        token: token.to_owned(),
        method,
        wanted,
        body,
        begun_at: Some(10),
        whole_at: Some(20),
    };
    let exchange = |token: &str, method: &str, body| Exchange {
        token: token.to_owned(),
        method: method.to_owned(),
        body: Some(request::body_of(token, body)),
        status: 200,
        length: 40,
        whole: true,
        ..Exchange::default()
    };
    let forwarded = |serial| Answer {
        status: 200,
        exchange: Some(serial),
        body: answers::body_of(serial, 40),
        ..Answer::default()
    };
    let fixed = Answer { status: 200, body: b"fixed".to_vec(), ..Answer::default() };
    let own = Answer {
        status: 404,
        reason: Some("no_route".to_owned()),
        request_id: Some("id3".to_owned()),
        ..Answer::default()
    };
    let record = |client, number: usize, token: &str, status| Record {
        client,
        request_id: format!("id{number}"),
        status,
        token: Some(token.to_owned()),
        group: (client == 0).then(|| "alpha".to_owned()),
        reason: (status == 404).then(|| "no_route".to_owned()),
    };
    let client = |asked, answers| Client { asked, answers, end: Ended::Fin, ..Client::default() };
    Ledger {
        clients: vec![
            client(
                vec![
                    asked("c0r0", "GET", Wanted::Forward, 0),
                    asked("c0r1", "POST", Wanted::Forward, 30),
                ],
                vec![forwarded(0), forwarded(1)],
            ),
            client(
                vec![
                    asked("c1r0", "GET", Wanted::Fixed, 0),
                    asked("c1r1", "GET", Wanted::Fault(&["no_route"]), 0),
                ],
                vec![fixed, own],
            ),
        ],
        exchanges: vec![exchange("c0r0", "GET", 0), exchange("c0r1", "POST", 30)],
        records: vec![
            record(0, 0, "c0r0", 200),
            record(0, 1, "c0r1", 200),
            record(1, 2, "c1r0", 200),
            record(1, 3, "c1r1", 404),
        ],
        totals: Totals {
            requests: 4,
            by_group: [("alpha".to_owned(), 2)].into(),
            faults: [("no_route".to_owned(), 1)].into(),
        },
        ..Ledger::default()
    }
}

#[track_caller]
fn check(name: &str, doctor: impl FnOnce(&mut Ledger), expected: &str) {
    let mut ledger = honest();
    doctor(&mut ledger);
    let wrong = judge(&ledger);
    let found = wrong.iter().any(|what| what.contains(expected));
    assert!(found, "{name}: {expected:?} is not among {wrong:#?}");
}

#[test]
fn an_honest_ledger_passes() {
    assert_eq!(judge(&honest()), Vec::<String>::new());
}

#[test]
fn answers_that_are_not_the_requests_own_are_found() {
    check("swapped", |l| l.clients[0].answers.swap(0, 1), "the answer to c0r1");
    check(
        "to another",
        |l| l.clients[1].answers[0] = l.clients[0].answers[0].clone(),
        "came twice",
    );
    check("another body", |l| l.clients[0].answers[0].body[3] ^= 1, "did not send");
    check("another status", |l| l.clients[0].answers[0].status = 201, "status 201");
    check("invented", |l| l.clients[0].answers[0].exchange = Some(7), "never was");
    check(
        "one more",
        |l| {
            let more = l.clients[1].answers[1].clone();
            l.clients[1].answers.push(more);
        },
        "answers too many",
    );
    check("own, unexplained", |l| l.clients[1].answers[1].reason = None, "became");
    check(
        "for another reason",
        |l| {
            l.clients[1].answers[1].reason = Some("bare_lf".to_owned());
        },
        "became",
    );
    check("after a close", |l| l.clients[0].answers[0].closes = true, "one that closes");
    check(
        "a part of another's",
        |l| {
            l.clients[0].partial = l.clients[0].answers.pop();
            l.clients[0].partial.as_mut().unwrap().exchange = Some(0);
        },
        "part of an answer",
    );
}

#[test]
fn truncated_and_silent_answers_are_found() {
    check("cut short", |l| l.clients[0].answers[1].body.truncate(39), "39 of 40 octets");
    check("never whole", |l| l.exchanges[1].whole = false, "passed for all");
    check("dropped", |l| drop(l.clients[0].answers.pop()), "got nothing");
    check(
        "dropped by a reset",
        |l| {
            l.clients[1].answers.clear();
            l.clients[1].end = Ended::Reset;
            l.records.retain(|r| r.client == 0);
        },
        "got nothing",
    );
    check("left hanging", |l| l.clients[0].end = Ended::Open, "neither served nor closed");
}

#[test]
fn requests_that_nobody_sent_or_that_came_twice_are_found() {
    check("a POST twice", |l| l.exchanges.push(l.exchanges[1].clone()), "POST c0r1 was seen 2");
    check(
        "a GET three times",
        |l| {
            l.exchanges.extend([l.exchanges[0].clone(), l.exchanges[0].clone()]);
        },
        "GET c0r0 was seen 3",
    );
    check("smuggled", |l| l.exchanges[0].token = request::EVIL.to_owned(), "a request of nobody");
    check("a local one", |l| l.exchanges[0].token = "c1r0".to_owned(), "was sent to a target");
    check("another method", |l| l.exchanges[0].method = "PUT".to_owned(), "became PUT");
    check("another body", |l| l.exchanges[1].body = Some(b"x".to_vec()), "is not what was sent");
    check("a part of another", |l| l.exchanges[1].part = b"GET".to_vec(), "is not what was sent");
    check("before its end", |l| l.clients[0].asked[1].whole_at = None, "whole before it was sent");
    check("noted on the way", |l| l.violation("a gauge".to_owned()), "a gauge");
}

#[test]
fn records_that_are_missing_or_wrong_are_found() {
    check("none", |l| drop(l.records.remove(1)), "has no record");
    check("none of an answer", |l| drop(l.records.remove(3)), "more answers than records");
    check("two", |l| l.records.push(l.records[0].clone()), "c0r0 has 2 records");
    check(
        "too many",
        |l| {
            l.records.push(Record { token: None, ..l.records[3].clone() });
        },
        "3 records of 2 requests",
    );
    check("another status", |l| l.records[0].status = 502, "is not of");
    check("another id", |l| l.records[3].request_id = "other".to_owned(), "is not of");
    check("of another", |l| l.records[0].client = 1, "is not of");
    check("not counted", |l| l.totals.requests = 3, "3 requests counted");
    check("a fault not counted", |l| l.totals.faults.clear(), "faults:");
    check("a group not counted", |l| l.totals.by_group.clear(), "groups:");
}
