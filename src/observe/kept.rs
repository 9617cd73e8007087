//! A record that outlives what it was made from: tunnels are logged when they end, long after the request's buffers and the
//! configuration it came with were let go.
//!
//! Only what a record borrows is copied. Called by `proxy::account`.

use crate::observe::Record;
use crate::tls::Facts;
use std::net::IpAddr;

/// What a [`Record`] borrows, owned, and the rest of it.
#[derive(Debug)]
pub struct Kept {
    rest: Record<'static>,
    request_id: Vec<u8>,
    listener: String,
    rule: String,
    group: String,
    target: Option<String>,
    method: Vec<u8>,
    host: Vec<u8>,
    path: Vec<u8>,
    received: Option<Vec<u8>>,
    user_agent: Option<Vec<u8>>,
    referer: Option<Vec<u8>>,
    trace_id: Option<Vec<u8>>,
    tls: Option<Facts>,
    passed: Vec<u8>,
    // The policy, the consumer, the plan, and what policies that only count say.
    judged: [Option<String>; 4],
}

impl Kept {
    /// Copies what `r` borrows.
    pub fn of(r: &Record<'_>) -> Kept {
        let owned = |octets: Option<&[u8]>| octets.map(<[u8]>::to_vec);
        Kept {
            request_id: r.request_id.to_vec(),
            listener: r.listener.to_owned(),
            rule: r.rule.to_owned(),
            group: r.group.to_owned(),
            target: r.target.map(str::to_owned),
            method: r.method.to_vec(),
            host: r.host.to_vec(),
            path: r.path.to_vec(),
            received: owned(r.received),
            user_agent: owned(r.user_agent),
            referer: owned(r.referer),
            trace_id: owned(r.trace_id),
            tls: r.tls.cloned(),
            passed: r.passed.to_vec(),
            judged: [r.policy, r.consumer, r.plan, r.dry_run].map(|text| text.map(str::to_owned)),
            // Whatever borrows is named here, so that a new field of the record is not forgotten.
            rest: Record {
                request_id: b"",
                listener: "",
                rule: "",
                group: "",
                target: None,
                method: b"",
                host: b"",
                path: b"",
                received: None,
                user_agent: None,
                referer: None,
                trace_id: None,
                tls: None,
                passed: b"",
                policy: None,
                consumer: None,
                plan: None,
                dry_run: None,
                redirect_url: None,
                reason_text: None,
                wall_micros: r.wall_micros,
                client: r.client,
                peer: r.peer,
                rule_priority: r.rule_priority,
                scheme: r.scheme,
                version: r.version,
                stream: r.stream,
                status: r.status,
                target_status: r.target_status,
                bytes_in: r.bytes_in,
                bytes_out: r.bytes_out,
                body_in: r.body_in,
                body_out: r.body_out,
                request_time: r.request_time,
                connect_time: r.connect_time,
                response_time: r.response_time,
                total: r.total,
                reason: r.reason,
                retries: r.retries,
                reused: r.reused,
                generation: r.generation,
                worker: r.worker,
                action: r.action,
                grpc_status: r.grpc_status,
                deviation: r.deviation,
                sticky: r.sticky,
                cache: r.cache,
                injected: r.injected,
            },
        }
    }

    /// The record again, to be completed.
    pub fn record(&self) -> Record<'_> {
        let [policy, consumer, plan, dry_run] = self.judged.each_ref().map(Option::as_deref);
        Record {
            policy,
            consumer,
            plan,
            dry_run,
            request_id: &self.request_id,
            listener: &self.listener,
            rule: &self.rule,
            group: &self.group,
            target: self.target.as_deref(),
            method: &self.method,
            host: &self.host,
            path: &self.path,
            received: self.received.as_deref(),
            user_agent: self.user_agent.as_deref(),
            referer: self.referer.as_deref(),
            trace_id: self.trace_id.as_deref(),
            tls: self.tls.as_ref(),
            passed: &self.passed,
            ..self.rest
        }
    }

    /// Whose it is.
    pub fn client(&self) -> IpAddr {
        self.rest.client
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Clock;
    use crate::observe::json;
    use std::time::Duration;

    #[test]
    fn says_what_the_record_says() {
        let record = Record {
            wall_micros: 1_700_000_000_000_000,
            request_id: b"id",
            client: "192.0.2.1".parse().unwrap(),
            peer: Some("192.0.2.2:5".parse().unwrap()),
            listener: "web",
            rule: "r",
            rule_priority: Some(3),
            group: "g",
            target: Some("127.0.0.1:9"),
            method: b"GET",
            scheme: "https",
            host: b"a.test",
            path: b"/a",
            received: Some(b"/b/../a"),
            version: "HTTP/1.1",
            stream: Some(5),
            status: 101,
            target_status: Some(101),
            bytes_in: 1,
            bytes_out: 2,
            body_in: 3,
            body_out: 4,
            request_time: Some(Duration::from_millis(1)),
            connect_time: Some(Duration::from_millis(2)),
            response_time: Some(Duration::from_millis(3)),
            total: Some(Duration::from_millis(4)),
            user_agent: Some(b"ua"),
            referer: Some(b"ref"),
            trace_id: Some(b"trace"),
            reason: Some("tunnel_idle"),
            retries: 1,
            reused: true,
            generation: 7,
            worker: 1,
            action: "forward",
            ..Record::default()
        };
        let text = |r: &Record<'_>| {
            let mut out = Vec::new();
            json::write(r, &mut Clock::default(), &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(&Kept::of(&record).record()), text(&record));
    }
}
