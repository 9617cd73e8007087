//! Requests in the background: keep-alive clients that count what was answered and write down what was not.

use super::{Message, PATIENCE, Wire};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A number of clients that send GETs until they are stopped.
pub struct Load {
    stopping: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    failed: Arc<Mutex<Vec<String>>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    /// `good` says whether an answer is right. Each client renews its connection after every 50 requests.
    pub fn start(
        to: SocketAddr,
        clients: usize,
        good: impl Fn(&Message) -> bool + Send + Sync + 'static,
    ) -> Load {
        let stopping = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicUsize::new(0));
        let failed = Arc::new(Mutex::new(Vec::new()));
        let good = Arc::new(good);
        let threads = (0..clients)
            .map(|_| {
                let (stopping, answered) = (Arc::clone(&stopping), Arc::clone(&answered));
                let (failed, good) = (Arc::clone(&failed), Arc::clone(&good));
                std::thread::spawn(move || {
                    while !stopping.load(Ordering::SeqCst) {
                        if let Err(error) = some_requests(to, &stopping, &answered, &*good) {
                            failed.lock().unwrap().push(error.to_string());
                        }
                    }
                })
            })
            .collect();
        Load { stopping, answered, failed, threads }
    }

    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::SeqCst)
    }

    /// Stops and returns how many requests were answered well, and what happened to the others.
    pub fn stop(self) -> (usize, Vec<String>) {
        self.stopping.store(true, Ordering::SeqCst);
        for thread in self.threads {
            let _ = thread.join();
        }
        let failed = self.failed.lock().unwrap().clone();
        (self.answered.load(Ordering::SeqCst), failed)
    }

    /// Stops and fails the test if a single request failed.
    #[track_caller]
    pub fn stop_without_failures(self) -> usize {
        let (answered, failed) = self.stop();
        assert!(
            failed.is_empty(),
            "{} of {} failed: {:?}",
            failed.len(),
            answered + failed.len(),
            first(&failed)
        );
        assert!(answered > 0, "nothing was answered");
        answered
    }
}

fn first(failed: &[String]) -> &[String] {
    &failed[..failed.len().min(5)]
}

fn some_requests(
    to: SocketAddr,
    stopping: &AtomicBool,
    answered: &AtomicUsize,
    good: &dyn Fn(&Message) -> bool,
) -> io::Result<()> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut wire = Wire::new(stream);
    for n in 0..50 {
        if stopping.load(Ordering::SeqCst) {
            break;
        }
        let sent = wire.send(b"GET /load HTTP/1.1\r\nHost: a.test\r\n\r\n");
        let answer = sent.and_then(|()| wire.response("GET"));
        let answer =
            answer.map_err(|e| io::Error::other(format!("request {n} of a connection: {e}")))?;
        let answer = answer.ok_or_else(|| {
            io::Error::other(format!("closed without a word before the answer to request {n}"))
        })?;
        if !good(&answer) {
            let text = answer.text();
            return Err(io::Error::other(format!("{} {} {text}", answer.start, answer.reason())));
        }
        answered.fetch_add(1, Ordering::SeqCst);
        wire.received.clear();
        if answer.all("connection").iter().any(|v| v.eq_ignore_ascii_case("close")) {
            break;
        }
    }
    Ok(())
}
