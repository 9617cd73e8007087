//! What a client received, cut into responses strictly: a reader that forgives nothing.

/// One final response.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Whether all of it is here, as its own framing says.
    pub whole: bool,
    /// Interim responses before it.
    pub interim: usize,
}

impl Reply {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub fn closes(&self) -> bool {
        self.fields
            .iter()
            .any(|(n, v)| n.eq_ignore_ascii_case("connection") && v.eq_ignore_ascii_case("close"))
    }
}

/// Reads responses one after the other.
pub struct Replies<'a> {
    rest: &'a [u8],
}

impl<'a> Replies<'a> {
    pub fn new(received: &'a [u8]) -> Replies<'a> {
        Replies { rest: received }
    }

    /// What has not been read as a response.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next final response to a request with `method`.
    ///
    /// # Errors
    /// What is wrong with what stands there.
    pub fn next(&mut self, method: &str) -> Result<Option<Reply>, String> {
        let mut interim = 0;
        loop {
            if self.rest.is_empty() {
                return if interim == 0 {
                    Ok(None)
                } else {
                    Err("interim responses without a final one".to_owned())
                };
            }
            let Some(end) = memchr::memmem::find(self.rest, b"\r\n\r\n") else {
                return Err(format!("no response head: {:?}", shown(self.rest)));
            };
            let mut reply = head(&self.rest[..end])?;
            self.rest = &self.rest[end + 4..];
            if reply.status < 200 {
                interim += 1;
                continue;
            }
            reply.interim = interim;
            self.body(&mut reply, method)?;
            return Ok(Some(reply));
        }
    }

    fn body(&mut self, reply: &mut Reply, method: &str) -> Result<(), String> {
        let coding = reply.field("transfer-encoding").map(str::to_owned);
        let length = reply.field("content-length").map(str::to_owned);
        if coding.is_some() && length.is_some() {
            return Err("a response with both lengths".to_owned());
        }
        reply.whole = true;
        if method == "HEAD" || matches!(reply.status, 204 | 304) {
            return Ok(());
        }
        match (coding, length) {
            (Some(coding), _) if coding == "chunked" => self.chunks(reply),
            (Some(coding), _) => Err(format!("a response with transfer-encoding {coding:?}")),
            (None, Some(length)) => {
                let length: usize =
                    length.parse().map_err(|_| format!("content-length {length:?}"))?;
                reply.whole = self.rest.len() >= length;
                let (body, rest) = self.rest.split_at(length.min(self.rest.len()));
                (reply.body, self.rest) = (body.to_vec(), rest);
                Ok(())
            }
            // The end of the connection is the end of the body.
            (None, None) => {
                reply.body = std::mem::take(&mut self.rest).to_vec();
                Ok(())
            }
        }
    }

    /// The rest is the beginning of something.
    fn cut(&mut self) -> Result<(), String> {
        self.rest = &[];
        Ok(())
    }

    fn chunks(&mut self, reply: &mut Reply) -> Result<(), String> {
        reply.whole = false;
        loop {
            let Some(end) = memchr::memmem::find(self.rest, b"\r\n") else {
                return self.cut();
            };
            let line = std::str::from_utf8(&self.rest[..end]).map_err(|e| e.to_string())?;
            let size =
                usize::from_str_radix(line, 16).map_err(|_| format!("chunk line {line:?}"))?;
            self.rest = &self.rest[end + 2..];
            if size == 0 {
                break;
            }
            if self.rest.len() < size + 2 {
                return self.cut();
            }
            reply.body.extend_from_slice(&self.rest[..size]);
            if &self.rest[size..size + 2] != b"\r\n" {
                return Err("no CRLF behind a chunk".to_owned());
            }
            self.rest = &self.rest[size + 2..];
        }
        // Trailers up to the empty line.
        loop {
            let Some(end) = memchr::memmem::find(self.rest, b"\r\n") else {
                return self.cut();
            };
            self.rest = &self.rest[end + 2..];
            if end == 0 {
                reply.whole = true;
                return Ok(());
            }
        }
    }
}

fn head(head: &[u8]) -> Result<Reply, String> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let start = lines.next().unwrap_or_default();
    let status = start
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
        .and_then(|code| code.parse().ok());
    let Some(status) = status else { return Err(format!("no status line: {:?}", shown(head))) };
    let mut fields = Vec::new();
    for line in lines {
        let Some((name, value)) = line.split_once(':') else {
            return Err(format!("no field: {line:?}"));
        };
        if line.contains(['\r', '\n', '\0']) || name.contains(' ') {
            return Err(format!("a broken field: {line:?}"));
        }
        fields.push((name.to_owned(), value.trim().to_owned()));
    }
    Ok(Reply { status, fields, ..Reply::default() })
}

pub fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned()
}
