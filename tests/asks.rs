//! What policies ask, as the whole process answers it: whoever waits holds up nobody, a flood of questions ends in refusals, and
//! threads that hash step back for the workers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustix::process::Signal;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use support::{Client, Origin, Ringgate, eventually, free_address};

/// Of "password", with cost 10: a twentieth of a second and more.
const SLOW: &str = "$2y$10$abcdefghijklmnopqrstuu5Lo0g67CiD3M4RpN1BmBb4Crp5w7dbK";

fn config(web: SocketAddr, origin: &Origin, policies: &str) -> String {
    format!(
        "[[listener]]\nname = \"web\"\nbind = [\"{web}\"]\n\
         [[rule]]\nname = \"slow\"\npriority = 1\npolicy = [\"slow\"]\nforward = \"app\"\nwhen = {{ path = [\"/slow\"] }}\n\
         [[rule]]\nname = \"quick\"\npriority = 2\npolicy = [\"quick\"]\nforward = \"app\"\nwhen = {{ path = [\"/quick\"] }}\n\
         [[rule]]\nname = \"free\"\npriority = 3\nforward = \"app\"\n{policies}\n\
         [group.app]\ntargets = [\"{}\"]\nhealth = {{ type = \"off\" }}\n",
        origin.address
    )
}

fn services(slow: &Origin, quick: &Origin, more: &str) -> String {
    format!(
        "[policy.slow.forward_auth]\nurl = \"http://{}/\"\ntimeout = \"60s\"\n{more}\n\
         [policy.quick.forward_auth]\nurl = \"http://{}/\"\n",
        slow.address, quick.address
    )
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// A service that answers only once the sender has gone.
fn held() -> (Origin, Sender<()>) {
    let (open, gate) = channel::<()>();
    let gate = Arc::new(Mutex::new(gate));
    let origin = Origin::script(move |conn| {
        while conn.request()?.is_some() {
            // Nothing is ever sent: this ends with the sender.
            let _ = gate.lock().unwrap().recv();
            conn.send(OK)?;
        }
        Ok(())
    });
    (origin, open)
}

fn slow_client(web: SocketAddr) -> Client {
    let mut client = Client::connect(web);
    client.send("GET /slow HTTP/1.1\r\nHost: a.test\r\n\r\n");
    client
}

#[test]
fn who_waits_for_a_service_holds_up_nobody() {
    let (web, origin) = (free_address(), Origin::saying("app"));
    let ((slow, open), quick) = (held(), Origin::answering(OK));
    let ringgate = Ringgate::start(&config(web, &origin, &services(&slow, &quick, "")));
    // As many as one service is called for at the same time, and as many again that wait for that.
    let waiting: Vec<Client> = (0..512).map(|_| slow_client(web)).collect();
    let open_asks = || ringgate.metric("ringgate_policy_asks_open");
    eventually("all have asked", || open_asks() == Some(512.0));
    eventually("the service has what it may have", || slow.requests().len() == 256);
    let mut client = Client::connect(web);
    for path in ["/quick", "/free", "/quick"] {
        assert_eq!(client.get(path).status(), 200, "{path}");
    }
    // Nor does a reload wait for them; what they have begun goes on.
    ringgate.reload(&config(web, &origin, &services(&slow, &quick, "cache = \"1s\"")));
    assert_eq!(open_asks(), Some(512.0));
    assert_eq!(client.get("/quick").status(), 200);
    drop(open);
    for mut client in waiting {
        assert_eq!(client.response().status(), 200);
    }
    eventually("nothing is open", || open_asks() == Some(0.0));
    assert_eq!(slow.requests().len(), 512);
}

#[test]
fn a_flood_of_questions_ends_in_refusals() {
    let (web, origin) = (free_address(), Origin::saying("app"));
    let ((slow, open), quick) = (held(), Origin::answering(OK));
    let more = "timeout = \"2s\"";
    let policies = services(&slow, &quick, "").replace("timeout = \"60s\"", more);
    let mut ringgate = Ringgate::start(&config(web, &origin, &policies));
    // More than may wait for one service: 2048.
    let flood: Vec<Client> = (0..2500).map(|_| slow_client(web)).collect();
    let refused = || ringgate.metric("ringgate_policy_calls_failed_total").unwrap_or(0.0);
    eventually("what finds no place is refused at once", || refused() >= 452.0);
    assert_eq!(support::get(web, "/quick").status(), 200);
    assert!(slow.requests().len() <= 256);
    for mut client in flood {
        let answer = client.response();
        assert_eq!((answer.status(), answer.reason()), (503, "authorization_unavailable"));
    }
    assert_eq!(support::get(web, "/quick").status(), 200);
    drop(open);
    ringgate.assert_alive();
    assert_eq!(ringgate.sum("ringgate_task_panics_total", &[]), 0.0);
}

#[test]
fn a_stop_does_not_wait_for_a_service() {
    let (web, origin) = (free_address(), Origin::saying("app"));
    let ((slow, open), quick) = (held(), Origin::answering(OK));
    let text = config(web, &origin, &services(&slow, &quick, ""));
    let mut ringgate = Ringgate::start(&format!("[server]\ndrain = \"1s\"\n{text}"));
    let waiting = slow_client(web);
    eventually("it has asked", || slow.requests().len() == 1);
    ringgate.signal(Signal::TERM);
    assert_eq!(ringgate.wait_exit().code(), Some(0));
    drop((waiting, open));
}

/// The nice values of the threads with this name.
fn nice(pid: i32, name: &str) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let stat = |path: &Path| std::fs::read_to_string(path.join("stat")).ok();
    tasks
        .filter_map(|task| {
            let text = stat(&task.ok()?.path())?;
            let (start, rest) = text.rsplit_once(") ")?;
            start.ends_with(&format!("({name}")).then_some(())?;
            // The 19th field of proc_pid_stat(5), counted from the third here.
            rest.split(' ').nth(16)?.parse().ok()
        })
        .collect()
}

#[test]
fn auth_21_threads_that_hash_step_back_and_are_few() {
    let (web, origin) = (free_address(), Origin::saying("app"));
    let policies = format!(
        "[policy.slow.basic]\nusers = {{ alice = '{SLOW}' }}\nfailures = 1000\n\
         [policy.quick.ip]\nallow = [\"127.0.0.0/8\"]\n"
    );
    let ringgate = Ringgate::start(&config(web, &origin, &policies));
    let pid = ringgate.pid().as_raw_nonzero().get();
    let ask = |password: &str| {
        let mut client = Client::connect(web);
        let value = BASE64_STANDARD.encode(format!("alice:{password}"));
        client.send(format!(
            "GET /slow HTTP/1.1\r\nHost: a.test\r\nAuthorization: Basic {value}\r\n\r\n"
        ));
        client
    };
    let mut asking: Vec<Client> = (0..8).map(|number| ask(&format!("wrong{number}"))).collect();
    let threads = || nice(pid, "ringgate-hash");
    eventually("passwords are hashed", || !threads().is_empty());
    eventually("they step back", || threads().iter().all(|nice| *nice == 10));
    assert!(threads().len() <= 2, "one for each worker: {:?}", threads());
    // Requests that ask for nothing go by.
    for _ in 0..100 {
        assert_eq!(support::get(web, "/quick").status(), 200);
    }
    let waits = |client: &Client| {
        let stream = &client.wire.stream;
        stream.set_nonblocking(true).unwrap();
        let nothing = stream.peek(&mut [0]).is_err();
        stream.set_nonblocking(false).unwrap();
        nothing
    };
    assert!(asking.iter().any(waits), "meanwhile passwords were hashed");
    for client in &mut asking {
        // Those that came at the same time beyond a core's four were told to wait.
        let answer = client.response();
        let is = (answer.status(), answer.reason().to_owned());
        assert!([401, 429].contains(&is.0), "{is:?}");
    }
    assert_eq!(ask("password").response().status(), 200);
}
