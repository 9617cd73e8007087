//! Judges a ledger: what must hold for every run, whoever the peers were. Pure, so that it is tested on doctored ledgers.

use crate::answers;
use crate::ledger::{Answer, Asked, Client, Ended, Ledger, Record, Wanted};
use crate::request;
use std::collections::BTreeMap;

// What `settings` give a connection before its first request and between two, in nanoseconds.
const HEADER: u64 = 400_000_000;
const KEEP_ALIVE: u64 = 700_000_000;

/// Everything that is wrong.
pub fn judge(ledger: &Ledger) -> Vec<String> {
    let mut wrong = ledger.violations.clone();
    for (id, client) in ledger.clients.iter().enumerate() {
        answers_match_requests(ledger, id, client, &mut wrong);
        nothing_is_dropped_silently(ledger, id, client, &mut wrong);
    }
    targets_saw_only_requests(ledger, &mut wrong);
    no_answer_came_twice(ledger, &mut wrong);
    one_record_a_request(ledger, &mut wrong);
    counters_agree(ledger, &mut wrong);
    wrong
}

fn answers_match_requests(ledger: &Ledger, id: usize, client: &Client, wrong: &mut Vec<String>) {
    if client.answers.len() > client.asked.len() {
        wrong.push(format!("client {id} has {} answers too many", client.answers.len()));
    }
    for (at, (asked, answer)) in client.asked.iter().zip(&client.answers).enumerate() {
        if let Err(what) = fits(ledger, asked, answer, true) {
            wrong.push(format!("client {id} answer {at} to {}: {what}", asked.token));
        }
        if answer.closes && client.answers.len() > at + 1 {
            wrong.push(format!("client {id} got answers after one that closes"));
        }
    }
    if let (Some(asked), Some(partial)) =
        (client.asked.get(client.answers.len()), client.partial.as_ref().filter(|p| p.status > 0))
        && let Err(what) = fits(ledger, asked, partial, false)
    {
        wrong.push(format!("client {id} part of an answer to {}: {what}", asked.token));
    }
}

fn fits(ledger: &Ledger, asked: &Asked, answer: &Answer, whole: bool) -> Result<(), String> {
    if let Some(serial) = answer.exchange {
        return fits_exchange(ledger, asked, answer, serial, whole);
    }
    let reason = answer.reason.as_deref();
    let body = answer.body.as_slice();
    let fine = match (asked.wanted, reason) {
        (Wanted::Fixed, None) => {
            let expected: &[u8] = if asked.method == "HEAD" || !whole { body } else { b"fixed" };
            answer.status == 200 && body == expected
        }
        (Wanted::Redirect, None) => {
            let here = format!("t={}&", asked.token);
            answer.status == 307 && answer.location.as_ref().is_some_and(|l| l.contains(&here))
        }
        (_, None) => false,
        // A head or body that was not sent whole may be refused for that.
        (_, Some("header_timeout" | "body_timeout" | "body_too_slow")) if took_long(asked) => true,
        // A target that a reload removed is left to its requests for a while, and then not.
        (_, Some("body_timeout")) if asked.body > 0 && reloaded(ledger) => true,
        // The client sent FIN in the middle.
        (_, Some("bad_request_line")) if asked.whole_at.is_none() => true,
        (Wanted::Fault(reasons), Some(reason)) => reasons.contains(&reason),
        (Wanted::Forward, Some(reason)) => of_target(reason),
        (Wanted::BadBody(expected), Some(reason)) => reason == expected || of_target(reason),
        (Wanted::Fixed | Wanted::Redirect, Some(_)) => false,
    };
    if fine { Ok(()) } else { Err(format!("{asked:?} became {answer:?}")) }
}

// Whether it was not sent whole, or so slowly that ringgate may have lost patience.
fn took_long(asked: &Asked) -> bool {
    let patience = 250_000_000;
    asked.begun_at.zip(asked.whole_at).is_none_or(|(begun, whole)| whole - begun > patience)
}

fn reloaded(ledger: &Ledger) -> bool {
    ledger.census.contains_key("world: reload")
}

// Reasons that a target's failure gives.
fn of_target(reason: &str) -> bool {
    let targets = ringgate::http::Fault::ALL.iter().filter(|f| f.code() == reason);
    targets.clone().any(|f| matches!(f.status(), 502..=504))
}

fn fits_exchange(
    ledger: &Ledger,
    asked: &Asked,
    answer: &Answer,
    serial: usize,
    whole: bool,
) -> Result<(), String> {
    let exchange = ledger.exchanges.get(serial).ok_or("an exchange that never was")?;
    if exchange.token != asked.token {
        return Err(format!("the answer to {}", exchange.token));
    }
    if exchange.status != answer.status {
        return Err(format!("status {} instead of {}", answer.status, exchange.status));
    }
    let sent = answers::body_of(serial, exchange.length);
    if !sent.starts_with(&answer.body) {
        return Err(format!("a body that {} did not send", exchange.behaviour));
    }
    let complete = exchange.whole && answer.body.len() == sent.len();
    if whole && !complete {
        let (got, all) = (answer.body.len(), sent.len());
        return Err(format!("{got} of {all} octets ({}) passed for all", exchange.behaviour));
    }
    Ok(())
}

// A request that was sent whole is answered, or there is a reason that its client can see.
fn nothing_is_dropped_silently(
    ledger: &Ledger,
    id: usize,
    client: &Client,
    wrong: &mut Vec<String>,
) {
    if client.end == Ended::Open {
        wrong.push(format!("client {id} ({}) is neither served nor closed", client.behaviour));
    }
    let at = client.answers.len();
    let Some(asked) = client.asked.get(at) else { return };
    let Some(whole_at) = asked.whole_at else { return };
    let said_close = client.answers.last().is_some_and(|a| a.closes || a.until_close);
    let cut = ledger.cut.is_some_and(|cut| cut <= client.ended_at);
    // An idle connection may close while a request is on its way to it (RFC 9112 section 9.3.1).
    let before = at.checked_sub(1).and_then(|at| client.asked[at].begun_at);
    let (rested_from, patience) =
        before.map_or((client.connected_at, HEADER), |at| (at, KEEP_ALIVE));
    let crossed = asked.begun_at.is_some_and(|begun| begun >= rested_from + patience)
        || ledger.drained.is_some_and(|drained| whole_at >= drained);
    // A reset takes what was not read yet with it: that there was an answer is on record.
    let answers_on_record = answered_records(ledger, id);
    let lost = client.end == Ended::Reset && answers_on_record > at;
    let excused =
        client.left_early || client.partial.is_some() || said_close || cut || crossed || lost;
    if !excused {
        let Client { behaviour, end, .. } = client;
        wrong.push(format!("client {id} ({behaviour}): {} got nothing, then {end:?}", asked.token));
    }
}

fn answered_records(ledger: &Ledger, id: usize) -> usize {
    ledger.records.iter().filter(|r| r.client == id && r.status > 0).count()
}

fn targets_saw_only_requests(ledger: &Ledger, wrong: &mut Vec<String>) {
    let asked: BTreeMap<&str, &Asked> =
        ledger.clients.iter().flat_map(|c| &c.asked).map(|a| (a.token.as_str(), a)).collect();
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    for (serial, exchange) in ledger.exchanges.iter().enumerate() {
        let times = seen.entry(&exchange.token).or_default();
        *times += 1;
        let once =
            !matches!(exchange.method.as_str(), "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS");
        if *times > if once { 1 } else { 2 } {
            wrong.push(format!("{} {} was seen {times} times", exchange.method, exchange.token));
        }
        let Some(asked) = asked.get(exchange.token.as_str()) else {
            wrong.push(format!("exchange {serial} is a request of nobody: {exchange:?}"));
            continue;
        };
        if !matches!(asked.wanted, Wanted::Forward | Wanted::BadBody(_)) {
            wrong.push(format!("{} was sent to a target", asked.token));
        }
        if asked.method != exchange.method {
            wrong.push(format!("{} became {}", asked.token, exchange.method));
        }
        let whole = exchange.body.as_deref();
        let sent = request::body_of(&asked.token, asked.body);
        let malformed = matches!(asked.wanted, Wanted::BadBody(_));
        if whole.is_some_and(|body| body != sent) || !malformed && !sent.starts_with(&exchange.part)
        {
            let got = whole.unwrap_or(&exchange.part);
            let end = String::from_utf8_lossy(&got[got.len().saturating_sub(400)..]);
            let token = &asked.token;
            wrong.push(format!("the body of {token} is not what was sent; it ends in {end:?}"));
        }
        if whole.is_some() && asked.body > 0 && asked.whole_at.is_none() {
            wrong.push(format!("the body of {} was whole before it was sent", asked.token));
        }
    }
}

fn no_answer_came_twice(ledger: &Ledger, wrong: &mut Vec<String>) {
    let mut seen = vec![false; ledger.exchanges.len()];
    let all = ledger.clients.iter().flat_map(|c| c.answers.iter().chain(&c.partial));
    for serial in all.filter_map(|a| a.exchange) {
        if let Some(seen) = seen.get_mut(serial)
            && std::mem::replace(seen, true)
        {
            wrong.push(format!("the answer of exchange {serial} came twice"));
        }
    }
}

fn one_record_a_request(ledger: &Ledger, wrong: &mut Vec<String>) {
    let mut by_token: BTreeMap<&str, usize> = BTreeMap::new();
    for token in ledger.records.iter().filter_map(|r| r.token.as_deref()) {
        *by_token.entry(token).or_default() += 1;
    }
    for (token, count) in by_token.iter().filter(|(t, n)| **n > 1 && **t != request::EVIL) {
        wrong.push(format!("{token} has {count} records"));
    }
    for exchange in ledger.exchanges.iter().filter(|e| !by_token.contains_key(e.token.as_str())) {
        wrong.push(format!("{} was sent to a target and has no record", exchange.token));
    }
    for (id, client) in ledger.clients.iter().enumerate() {
        let records: Vec<&Record> = ledger.records.iter().filter(|r| r.client == id).collect();
        let begun = client.asked.iter().filter(|a| a.begun_at.is_some()).count();
        if records.len() > begun {
            wrong.push(format!("client {id} has {} records of {begun} requests", records.len()));
        }
        if records.len() < client.answers.len() {
            wrong.push(format!("client {id} has more answers than records"));
        }
        for (at, (record, asked)) in records.iter().zip(&client.asked).enumerate() {
            let other =
                record.token.as_ref().is_some_and(|t| *t != asked.token && t != request::EVIL);
            let answer = client
                .answers
                .get(at)
                .or(client.partial.as_ref().filter(|p| p.status > 0 && at == client.answers.len()));
            if other || answer.is_some_and(|answer| differs(record, answer)) {
                wrong.push(format!(
                    "client {id} record {at} {record:?} is not of {asked:?}, {answer:?}"
                ));
            }
        }
        let unseen = answered_records(ledger, id).saturating_sub(client.answers.len());
        let partial = usize::from(client.partial.is_some());
        if client.end == Ended::Fin && !client.left_early && unseen > partial {
            wrong.push(format!("client {id} did not see {unseen} answers that are on record"));
        }
    }
}

fn differs(record: &Record, answer: &Answer) -> bool {
    let own = answer.reason.is_some();
    record.status != answer.status
        || own
            && (record.reason != answer.reason
                || answer.request_id.as_ref() != Some(&record.request_id))
}

fn counters_agree(ledger: &Ledger, wrong: &mut Vec<String>) {
    let totals = &ledger.totals;
    if totals.requests != ledger.records.len() as u64 {
        wrong.push(format!(
            "{} requests counted, {} on record",
            totals.requests,
            ledger.records.len()
        ));
    }
    let mut faults: BTreeMap<String, u64> = BTreeMap::new();
    let mut groups: BTreeMap<String, u64> = BTreeMap::new();
    for record in &ledger.records {
        let both = [(&mut faults, &record.reason), (&mut groups, &record.group)];
        for (counts, name) in both {
            if let Some(name) = name {
                *counts.entry(name.clone()).or_default() += 1;
            }
        }
    }
    if faults != totals.faults {
        wrong.push(format!("faults: {:?} counted, {faults:?} on record", totals.faults));
    }
    if groups != totals.by_group {
        wrong.push(format!("groups: {:?} counted, {groups:?} on record", totals.by_group));
    }
}
