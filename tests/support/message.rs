//! HTTP/1 messages as a test sees them: read from a stream by their framing, kept with every byte as it came.
//!
//! Deliberately another implementation than ringgate's, and a simple one: it reads byte exact, but it judges nothing
//! beyond what framing needs, so that a test can look at what really arrived.

use std::io::{self, Read, Write};

/// A request or a response.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// The request or status line.
    pub start: String,
    /// Names as they came, and values.
    pub headers: Vec<(String, String)>,
    /// Without the framing of chunks.
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    /// The head's bytes as they came.
    pub head: Vec<u8>,
    /// Whether the body came in chunks.
    pub chunked: bool,
}

impl Message {
    #[track_caller]
    pub fn status(&self) -> u16 {
        let code = self.start.split(' ').nth(1).and_then(|code| code.parse().ok());
        code.unwrap_or_else(|| panic!("no status line: {:?}", self.start))
    }

    /// The method of a request.
    pub fn method(&self) -> &str {
        self.start.split(' ').next().unwrap_or_default()
    }

    /// The target of a request.
    pub fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// Every value of `name` (case-insensitive).
    pub fn all(&self, name: &str) -> Vec<&str> {
        let same = |(n, _): &&(String, String)| n.eq_ignore_ascii_case(name);
        self.headers.iter().filter(same).map(|(_, v)| v.as_str()).collect()
    }

    /// The only value of `name`; `None` without one.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} came {} times: {all:?}", all.len());
        all.first().copied()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The reason code of an answer that ringgate made itself.
    #[track_caller]
    pub fn reason(&self) -> &str {
        self.header("x-ringgate-reason").unwrap_or("-")
    }
}

/// A stream and what was read from it and not yet used.
pub struct Wire<S> {
    pub stream: S,
    buffer: Vec<u8>,
    /// Every byte that was read.
    pub received: Vec<u8>,
}

impl<S: Read + Write> Wire<S> {
    pub fn new(stream: S) -> Wire<S> {
        Wire { stream, buffer: Vec::new(), received: Vec::new() }
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub fn pending(&self) -> String {
        String::from_utf8_lossy(&self.buffer).into_owned()
    }

    /// The next request; `None` at the end of the stream.
    pub fn request(&mut self) -> io::Result<Option<Message>> {
        let Some(mut message) = self.head()? else { return Ok(None) };
        self.framed_body(&mut message)?;
        Ok(Some(message))
    }

    /// The next response to a request with `method`; `None` at the end of the stream.
    pub fn response(&mut self, method: &str) -> io::Result<Option<Message>> {
        let Some(mut message) = self.head()? else { return Ok(None) };
        let status = message.status();
        if status < 200 || status == 204 || status == 304 || method == "HEAD" {
            return Ok(Some(message));
        }
        if !self.framed_body(&mut message)? {
            message.body = self.rest()?;
        }
        Ok(Some(message))
    }

    /// The next head, without its body; `None` at the end of the stream.
    pub fn head(&mut self) -> io::Result<Option<Message>> {
        let end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at + 4;
            }
            if self.fill()? == 0 {
                let partial = !self.buffer.is_empty();
                return if partial { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(None) };
            }
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        let text = String::from_utf8_lossy(&head).into_owned();
        let mut lines = text.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        Ok(Some(Message { start, headers: fields(lines), head, ..Message::default() }))
    }

    /// Reads the body that the head announces; false when it announces none.
    pub fn framed_body(&mut self, message: &mut Message) -> io::Result<bool> {
        if message.all("transfer-encoding").iter().any(|v| v.eq_ignore_ascii_case("chunked")) {
            message.chunked = true;
            self.chunks(message)?;
            return Ok(true);
        }
        let Some(length) = message.all("content-length").first().and_then(|v| v.parse().ok())
        else {
            return Ok(false);
        };
        message.body = self.exactly(length)?;
        Ok(true)
    }

    fn chunks(&mut self, message: &mut Message) -> io::Result<()> {
        loop {
            let line = self.line()?;
            let size = line.split(';').next().unwrap_or_default();
            let size = usize::from_str_radix(size, 16).map_err(io::Error::other)?;
            if size == 0 {
                break;
            }
            message.body.extend(self.exactly(size)?);
            if !self.line()?.is_empty() {
                return Err(io::Error::other("no CRLF after a chunk"));
            }
        }
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(());
            }
            message.trailers.extend(fields(std::iter::once(line.as_str())));
        }
    }

    /// The next line, without its CRLF.
    pub fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..at + 2).take(at).collect();
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            self.some()?;
        }
    }

    /// The next `length` bytes.
    pub fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < length {
            self.some()?;
        }
        Ok(self.buffer.drain(..length).collect())
    }

    /// Everything until the end of the stream.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        while self.fill()? > 0 {}
        Ok(std::mem::take(&mut self.buffer))
    }

    fn some(&mut self) -> io::Result<()> {
        if self.fill()? == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 16 << 10];
        let n = self.stream.read(&mut chunk)?;
        self.buffer.extend_from_slice(&chunk[..n]);
        self.received.extend_from_slice(&chunk[..n]);
        Ok(n)
    }
}

fn fields<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<(String, String)> {
    let pair = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_owned(), value.trim().to_owned()))
    };
    lines.filter_map(pair).collect()
}

fn find(within: &[u8], what: &[u8]) -> Option<usize> {
    within.windows(what.len()).position(|window| window == what)
}
