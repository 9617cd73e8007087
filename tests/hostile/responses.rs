//! Hostile answers through ringgate to clients that keep their connections.
//!
//! Every hostile answer is followed by a good request; whatever the target did, its answer must be its own. A client
//! never sees a cut body as whole, another's response, or two final ones, and a spoilt connection carries nothing more.

use super::answers::{After, Answer, Expected, all};
use super::replies::{Replies, Reply, shown};
use super::{TOKEN, token};
use crate::support::origin::Conn;
use crate::support::ringgate::forwarding;
use crate::support::{Origin, Ringgate, connect_from, free_address};
use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What the clients do with their half of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Whole,
    /// Closes its writing half behind the request.
    Half,
    /// Leaves before the answer is complete; the answer is not judged, what follows is.
    Leave,
}

pub struct Report {
    pub answers: usize,
    pub wrong: Vec<String>,
    pub took: Duration,
}

const PATIENCE: Duration = Duration::from_secs(10);

/// What the target remembers: how often it saw each request, and what came on a connection that was spoilt.
#[derive(Default)]
struct Memory {
    times: Mutex<HashMap<String, usize>>,
    spoilt: Mutex<Vec<String>>,
}

/// Sends every answer, or a selection of `most`, by four clients at once.
pub fn run(seed: u64, most: usize) -> Report {
    let began = Instant::now();
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut answers = all();
    rng.shuffle(&mut answers);
    answers.truncate(most);
    answers.sort_by_key(|a| a.after == After::Later);
    let answers = Arc::new(answers);
    let memory = Arc::new(Memory::default());
    let origin = {
        let (answers, memory) = (Arc::clone(&answers), Arc::clone(&memory));
        Origin::script(move |conn| serve(conn, &answers, &memory))
    };
    let listen = free_address();
    let config = forwarding(listen, &[origin.address], "timeouts = { response = \"1s\" }\n");
    let mut ringgate = Ringgate::start(&format!("[timeouts]\nbody = \"300ms\"\n\n{config}"));
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    // Bytes that nobody asked for, and that come while a request is on its way, cannot be told from its answer. So
    // these come last, by one client that lets them arrive.
    let alone = answers.partition_point(|a| a.after != After::Later);
    let work = |until: usize| {
        let mut connection = None;
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(answer) = answers.get(number).filter(|_| number < until) else { return };
            let manner = match fastrand::Rng::with_seed(seed ^ number as u64).u8(..10) {
                0 => Manner::Half,
                1 => Manner::Leave,
                _ => Manner::Whole,
            };
            if let Err(text) = one(listen, number, answer, manner, &mut connection) {
                connection = None;
                let sent = shown(&answer.bytes);
                wrong.lock().unwrap().push(format!(
                    "{} {} to {} ({manner:?}, {:?}): {text}; wanted {:?}\n   {sent:?}",
                    number, answer.family, answer.method, answer.after, answer.expected
                ));
            }
        }
    };
    std::thread::scope(|scope| (0..6).for_each(|_| drop(scope.spawn(|| work(alone)))));
    next.store(alone, Ordering::Relaxed);
    work(answers.len());
    let mut wrong = wrong.into_inner().unwrap();
    wrong.extend(memory.spoilt.lock().unwrap().drain(..));
    for (request, times) in memory.times.lock().unwrap().iter() {
        let most = if request.starts_with("POST") { 1 } else { 2 };
        if *times > most {
            wrong.push(format!("{request} was sent {times} times"));
        }
    }
    ringgate.assert_alive();
    for metric in ["ringgate_task_panics_total", "ringgate_worker_restarts_total"] {
        if ringgate.metric(metric) != Some(0.0) {
            wrong.push(format!("{metric} is {:?}\n{}", ringgate.metric(metric), ringgate.output()));
        }
    }
    Report { answers: answers.len(), wrong, took: began.elapsed() }
}

/// The target's side of one connection.
fn serve(conn: &mut Conn, answers: &[Answer], memory: &Memory) -> io::Result<()> {
    let mut spoilt: Option<String> = None;
    while let Some(request) = conn.wire.request()? {
        if let Some(why) = &spoilt {
            memory
                .spoilt
                .lock()
                .unwrap()
                .push(format!("{:?} came on a connection that was spoilt by {why}", request.start));
        }
        let target = request.target().to_owned();
        *memory
            .times
            .lock()
            .unwrap()
            .entry(format!("{} {target}", request.method()))
            .or_default() += 1;
        let Some(number) = target.strip_prefix("/bad-") else {
            let body = format!("{} on {}", target, conn.number);
            conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()))?;
            continue;
        };
        let Some(answer) = usize::from_str_radix(number, 16).ok().and_then(|n| answers.get(n))
        else {
            return Ok(());
        };
        let mut bytes = answer.bytes.clone();
        while let Some(at) = memchr::memmem::find(&bytes, TOKEN.as_bytes()) {
            bytes[at..at + 8].copy_from_slice(&number.as_bytes()[..8]);
        }
        conn.send(bytes)?;
        match answer.after {
            After::Close => return Ok(()),
            After::Reset => {
                rustix::net::sockopt::set_socket_linger(&conn.wire.stream, Some(Duration::ZERO))?;
                return Ok(());
            }
            After::Stay => {}
            After::Later => {
                std::thread::sleep(Duration::from_millis(3));
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")?;
            }
        }
        // Unasked bytes that come later may meet a request that is on its way already; its answer is what counts.
        if !answer.leaves_it_usable() && answer.after != After::Later {
            spoilt = Some(format!("answer {number} ({})", answer.family));
        }
    }
    Ok(())
}

/// One hostile answer and the good request behind it.
fn one(
    to: SocketAddr,
    number: usize,
    answer: &Answer,
    manner: Manner,
    kept: &mut Option<TcpStream>,
) -> Result<(), String> {
    let error = |e: io::Error| format!("client: {e}");
    let mut stream = match kept.take() {
        Some(stream) => stream,
        None => connect(number, to).map_err(error)?,
    };
    let version = if answer.old { "1.0" } else { "1.1" };
    let body = if answer.method == "POST" { "Content-Length: 5\r\n\r\nabcde" } else { "\r\n" };
    let request = format!(
        "{} /bad-{} HTTP/{version}\r\nHost: a.test\r\n{body}",
        answer.method,
        token(number)
    );
    stream.write_all(request.as_bytes()).map_err(error)?;
    match manner {
        Manner::Whole => {}
        // It may have been answered and reset by now.
        Manner::Half => drop(stream.shutdown(Shutdown::Write)),
        Manner::Leave => {
            stream.set_read_timeout(Some(Duration::from_millis(2))).map_err(error)?;
            let _ = stream.read(&mut [0; 20]);
            drop(stream);
            stream = connect(number, to).map_err(error)?;
        }
    }
    let mut open = true;
    if manner != Manner::Leave {
        let (reply, end) =
            receive(&mut stream, answer.method).map_err(|e| format!("a reply: {e}"))?;
        judge(reply.as_ref(), end, answer)?;
        open = end.is_none() && manner == Manner::Whole && reply.is_some_and(|r| !r.closes());
    }
    if !open {
        stream = connect(number, to).map_err(error)?;
    }
    if answer.after == After::Later {
        std::thread::sleep(Duration::from_millis(20));
    }
    let path = format!("/good-{}", token(number));
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n").as_bytes())
        .map_err(error)?;
    let (reply, end) = receive(&mut stream, "GET").map_err(|e| format!("the good reply: {e}"))?;
    let right = reply
        .as_ref()
        .is_some_and(|r| r.whole && r.status == 200 && r.body.starts_with(path.as_bytes()));
    if !right {
        return Err(format!("the request behind it got {reply:?}"));
    }
    if end.is_none() {
        *kept = Some(stream);
    }
    Ok(())
}

fn connect(number: usize, to: SocketAddr) -> io::Result<TcpStream> {
    let stream = connect_from(Ipv4Addr::new(127, 2, (number >> 8) as u8, number as u8 | 1), to)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn judge(reply: Option<&Reply>, end: Option<ErrorKind>, answer: &Answer) -> Result<(), String> {
    let refused = |r: &Reply| {
        r.whole && matches!(r.status, 502 | 504) && r.field("x-ringgate-reason").is_some()
    };
    let closed = |r: &Reply| {
        let reason = r.field("x-ringgate-reason");
        refused(r) && matches!(reason, Some("target_closed" | "target_reset"))
    };
    let Some(reply) = reply else {
        return match answer.expected {
            Expected::Broken if end.is_some() => Ok(()),
            Expected::Anything => Ok(()),
            _ => Err(format!("no reply, {end:?}")),
        };
    };
    // To an old client the end of the connection is the end of the body; only a reset says otherwise.
    let framed =
        reply.field("content-length").is_some() || reply.field("transfer-encoding").is_some();
    let whole = reply.whole && (framed || end != Some(ErrorKind::ConnectionReset));
    let told = || {
        format!(
            "{} {:?} whole={whole} {:?}",
            reply.status,
            reply.field("x-ringgate-reason"),
            shown(&reply.body)
        )
    };
    if reply.interim > 8 {
        return Err(format!("{} interim responses", reply.interim));
    }
    let right = match &answer.expected {
        Expected::Refused => refused(reply),
        Expected::Broken => refused(reply) || !whole,
        // What cannot be sent twice is lost when its connection turns out to have been closed by an earlier answer.
        Expected::Exactly(..) if answer.method == "POST" && closed(reply) => true,
        Expected::Exactly(status, body) => whole && reply.status == *status && reply.body == *body,
        Expected::Anything => true,
    };
    if right { Ok(()) } else { Err(told()) }
}

/// Reads until a response is whole or the connection ends, and how it ended.
fn receive(
    stream: &mut TcpStream,
    method: &str,
) -> Result<(Option<Reply>, Option<ErrorKind>), String> {
    let deadline = Instant::now() + PATIENCE;
    let mut received = Vec::new();
    let mut chunk = [0; 16 << 10];
    loop {
        stream.set_read_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
        let end = match stream.read(&mut chunk) {
            Ok(0) => Some(ErrorKind::UnexpectedEof),
            Ok(n) => {
                received.extend_from_slice(&chunk[..n]);
                None
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Err(format!("nothing within {PATIENCE:?}"));
            }
            Err(e) => Some(e.kind()),
        };
        let mut replies = Replies::new(&received);
        let reply = match replies.next(method) {
            Ok(reply) => reply,
            Err(_) if end.is_some() && memchr::memmem::rfind(&received, b"\r\n\r\n").is_none() => {
                None
            }
            Err(text) if end.is_some() => return Err(text),
            // Perhaps the rest is still to come.
            Err(_) => None,
        };
        let framed = reply.as_ref().is_some_and(|r| {
            let sized =
                r.field("content-length").is_some() || r.field("transfer-encoding").is_some();
            r.whole && (sized || method == "HEAD" || matches!(r.status, 204 | 304))
        });
        if framed && !replies.rest().is_empty() {
            return Err(format!("more than one response: {:?}", shown(replies.rest())));
        }
        if framed || end.is_some() {
            return Ok((reply, end));
        }
        if Instant::now() > deadline {
            return Err("it does not end".to_owned());
        }
    }
}
