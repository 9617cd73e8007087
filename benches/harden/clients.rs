//! Well-behaved clients: one request at a time, and the open-loop generator for latencies under attack.

use crate::Options;
use crate::support::{Message, PATIENCE, Wire};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

/// Sends a request on a kept connection, or on a new one, and reads the final answer. The connection is kept while both
/// sides want it.
pub fn ask_on(
    kept: &mut Option<Wire<TcpStream>>,
    to: SocketAddr,
    request: &[u8],
) -> io::Result<Message> {
    let mut wire = match kept.take() {
        Some(wire) => wire,
        None => {
            let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_nodelay(true)?;
            Wire::new(stream)
        }
    };
    wire.send(request)?;
    let method = String::from_utf8_lossy(request).split(' ').next().unwrap_or_default().to_owned();
    let answer = wire.response(&method)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    wire.received.clear();
    if !answer.all("connection").iter().any(|v| v.eq_ignore_ascii_case("close")) {
        *kept = Some(wire);
    }
    Ok(answer)
}

/// The 99th percentile in microseconds at a fixed rate of requests, and how many failed.
pub fn latency(options: &Options, to: SocketAddr, rate: u32, secs: u32) -> (f64, u64) {
    let mut command = Command::new(&options.load);
    command.args(["--to", &to.to_string(), "--rate", &rate.to_string(), "--connections", "32"]);
    command.args(["--secs", &secs.to_string()]).stdin(Stdio::null()).stderr(Stdio::null());
    let Ok(done) = command.output() else { return (f64::NAN, u64::MAX) };
    let said: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap_or_default();
    (said["p99"].as_f64().unwrap_or(f64::NAN), said["failed"].as_u64().unwrap_or(u64::MAX))
}

pub fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 2).copied().unwrap_or(f64::NAN)
}
