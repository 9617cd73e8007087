//! HTTP/1 as the simulated peers read it: strict, simple, and another implementation than ringgate's.
//!
//! What ringgate writes must be the plainest possible HTTP: whatever is not is an error here, also where a lenient
//! peer would let it pass.

/// A head: its first line, and its fields with names in lower case.
#[derive(Clone, Debug, Default)]
pub struct Head {
    pub start: String,
    pub fields: Vec<(String, String)>,
}

/// How a body ends, and what has come of it.
#[derive(Clone, Debug)]
pub struct Body {
    state: State,
    pub octets: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Length(usize),
    Close,
    ChunkSize,
    ChunkData(usize),
    ChunkEnd,
    Trailers,
    Done,
}

/// The octets of the body that belongs to `seed`: whoever sees a part of another's body sees whose it is.
pub fn pattern(seed: &str, len: usize) -> Vec<u8> {
    let mut octets = format!("{seed}|").repeat(len / (seed.len() + 1) + 1).into_bytes();
    octets.truncate(len);
    octets
}

impl Head {
    /// Takes a head off the front of `rx`, once it is whole.
    pub fn take(rx: &mut Vec<u8>) -> Result<Option<Head>, String> {
        let Some(end) = find(rx, b"\r\n\r\n") else { return Ok(None) };
        let text = String::from_utf8(rx[..end].to_vec()).map_err(|_| "a head is not ASCII")?;
        rx.drain(..end + 4);
        let mut lines = text.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let mut fields = Vec::new();
        for line in lines {
            let plain = !line.contains(['\r', '\n', '\0']);
            let (name, value) = line.split_once(": ").filter(|_| plain).ok_or(line)?;
            let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
            if name.is_empty() || !name.chars().all(token) {
                return Err(format!("a field is called {name:?}"));
            }
            fields.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        Ok(Some(Head { start, fields }))
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// What follows a request's or response's head; `silent` where a response has no body whatever its fields say.
    pub fn body(&self, silent: bool, is_request: bool) -> Result<Body, String> {
        let count = |name: &str| self.fields.iter().filter(|(n, _)| n == name).count();
        if count("content-length") + count("transfer-encoding") > 1 {
            return Err(format!("framed more than once: {:?}", self.fields));
        }
        let state = match (self.field("content-length"), self.field("transfer-encoding")) {
            _ if silent => State::Done,
            (Some(length), _) => {
                State::Length(length.parse().map_err(|_| format!("a length of {length:?}"))?)
            }
            (_, Some("chunked")) => State::ChunkSize,
            (_, Some(other)) => return Err(format!("a coding called {other:?}")),
            (None, None) if is_request => State::Done,
            (None, None) => State::Close,
        };
        let state = if state == State::Length(0) { State::Done } else { state };
        Ok(Body { state, octets: Vec::new() })
    }
}

impl Body {
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether nothing but the end of the connection ends it.
    pub fn ends_with_the_connection(&self) -> bool {
        self.state == State::Close
    }

    /// Takes what belongs to it off the front of `rx`.
    pub fn feed(&mut self, rx: &mut Vec<u8>) -> Result<(), String> {
        let mut at = 0;
        while self.state != State::Done && self.step(rx, &mut at)? {}
        rx.drain(..at);
        Ok(())
    }

    // Whether there may be more to do with what is there.
    fn step(&mut self, rx: &[u8], at: &mut usize) -> Result<bool, String> {
        let rest = &rx[*at..];
        match self.state {
            State::Length(left) | State::ChunkData(left) => {
                let n = left.min(rest.len());
                self.octets.extend_from_slice(&rest[..n]);
                *at += n;
                self.state = match self.state {
                    State::Length(_) if left == n => State::Done,
                    State::Length(_) => State::Length(left - n),
                    _ if left == n => State::ChunkEnd,
                    _ => State::ChunkData(left - n),
                };
                return Ok(left == n);
            }
            State::Close => {
                self.octets.extend_from_slice(rest);
                *at += rest.len();
                return Ok(false);
            }
            State::Done => return Ok(false),
            State::ChunkSize | State::ChunkEnd | State::Trailers => {}
        }
        let Some(end) = find(rest, b"\r\n") else { return Ok(false) };
        let line = std::str::from_utf8(&rest[..end]).map_err(|_| "a chunk line is not ASCII")?;
        self.state = match self.state {
            State::ChunkSize => match usize::from_str_radix(line, 16) {
                Ok(0) => State::Trailers,
                Ok(n) if n < 1 << 24 => State::ChunkData(n),
                _ => return Err(format!("a chunk of {line:?}")),
            },
            State::ChunkEnd if line.is_empty() => State::ChunkSize,
            State::ChunkEnd => return Err(format!("after a chunk: {line:?}")),
            _ if line.is_empty() => State::Done,
            _ => State::Trailers,
        };
        *at += end + 2;
        Ok(true)
    }
}

/// A body in chunks of the given sizes, in turn.
pub fn chunked(octets: &[u8], sizes: &[usize], extension: &str, trailers: &str) -> Vec<u8> {
    let (mut out, mut rest, mut turn) = (Vec::new(), octets, 0);
    while !rest.is_empty() {
        let n = sizes[turn % sizes.len()].clamp(1, rest.len());
        out.extend_from_slice(format!("{n:x}{extension}\r\n").as_bytes());
        out.extend_from_slice(&rest[..n]);
        out.extend_from_slice(b"\r\n");
        (rest, turn) = (&rest[n..], turn + 1);
    }
    out.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
    out
}

pub fn find(within: &[u8], what: &[u8]) -> Option<usize> {
    memchr::memmem::find(within, what)
}
