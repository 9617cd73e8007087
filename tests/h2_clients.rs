//! HTTP/2 clients that others have written, over plain TCP with prior knowledge and over TLS: curl, nghttp, h2load, Node's http2,
//! Python's httpx.
//!
//! What frames may say is judged in `h2_strict`; here counts that ordinary clients get along: large bodies both ways,
//! many streams, windows, padding, CONTINUATION, trailers, compression of heads.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use support::origin::Conn;
use support::{Origin, Ringgate, free_address, program};

/// ringgate with a plain listener and one of https, before an origin that keeps what is sent to it.
struct Site {
    ringgate: Ringgate,
    origin: Origin,
    plain: SocketAddr,
    secure: SocketAddr,
    dir: tempfile::TempDir,
}

impl Site {
    fn start() -> Site {
        let dir = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["a.test".to_owned()]).unwrap();
        std::fs::write(dir.path().join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(dir.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        std::fs::write(dir.path().join("big"), big()).unwrap();
        let (origin, plain, secure) = (Origin::script(serve), free_address(), free_address());
        let at = dir.path().display();
        let ringgate = Ringgate::start(&format!(
            "[[listener]]\nname = \"plain\"\nbind = [\"{plain}\"]\ndefault = {{ forward = \"all\" }}\n\n\
             [[listener]]\nname = \"secure\"\nbind = [\"{secure}\"]\nprotocol = \"https\"\n\
             tls = {{ certificates = [{{ cert = \"{at}/cert.pem\", key = \"{at}/key.pem\" }}] }}\n\
             default = {{ forward = \"all\" }}\n\n\
             [group.all]\ntargets = [\"{}\"]\nhealth = {{ type = \"off\" }}\n",
            origin.address
        ));
        Site { ringgate, origin, plain, secure, dir }
    }

    fn file(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Runs `command` to its end and returns what it said.
    #[track_caller]
    fn run(&mut self, command: &mut Command) -> String {
        let done = command.current_dir(self.dir.path()).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        let error = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{command:?}: {said}{error}");
        self.ringgate.assert_alive();
        said
    }

    /// What curl says of a path; arguments that come later count.
    #[track_caller]
    fn curl(&mut self, secure: bool, more: &[&str], path: &str) -> String {
        let (scheme, port, knows) = match secure {
            true => ("https", self.secure.port(), "--http2"),
            false => ("http", self.plain.port(), "--http2-prior-knowledge"),
        };
        let mut command = Command::new(program("curl", "curl"));
        command.args(["-sS", "--fail", "--max-time", "30", "--cacert", "cert.pem"]);
        // Both at once are refused.
        command.args((!more.contains(&"--http2")).then_some(knows));
        command.args(["--resolve", &format!("a.test:{port}:127.0.0.1")]).args(more);
        self.run(command.arg(format!("{scheme}://a.test:{port}{path}")))
    }

    /// Runs a client's script with both ports and the certificate.
    #[track_caller]
    fn script(&mut self, program: PathBuf, name: &str, script: &str) {
        std::fs::write(self.file(name), script).unwrap();
        let mut command = Command::new(program);
        command.arg(self.file(name)).arg(self.plain.port().to_string());
        command.arg(self.secure.port().to_string()).arg(self.file("cert.pem"));
        let said = self.run(&mut command);
        assert!(said.contains("all good"), "{said}");
    }
}

fn big() -> Vec<u8> {
    (0..3_000_000).map(|n: u32| (n % 249) as u8).collect()
}

/// `/big` is three million octets, `/cat` is what was sent, `/trailers` ends with one, everything else its method and path.
fn serve(conn: &mut Conn) -> std::io::Result<()> {
    while let Some(request) = conn.request()? {
        let body = match request.target() {
            "/big" => big(),
            "/cat" => request.body.clone(),
            "/trailers" => {
                let text = "4\r\nbody\r\n0\r\nx-sum: 42\r\n\r\n";
                let head =
                    "HTTP/1.1 200 OK\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n";
                conn.send([head, text].concat())?;
                continue;
            }
            target => format!("{} {target}", request.method()).into_bytes(),
        };
        conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()))?;
        if request.method() != "HEAD" {
            conn.send(body)?;
        }
    }
    Ok(())
}

#[test]
fn curl() {
    let mut site = Site::start();
    for secure in [false, true] {
        let version = ["-o", "got", "-w", "%{http_version} %{response_code}"];
        assert_eq!(site.curl(secure, &version, "/big"), "2 200");
        assert_eq!(site.curl(secure, &["-X", "OWN"], "/x?y=1"), "OWN /x?y=1");
        assert!(site.curl(secure, &["--head"], "/big").contains("content-length: 3000000"));
        // An upload of known length, one without, one that waits to be asked.
        site.curl(secure, &["-T", "big", "-o", "known"], "/cat");
        site.curl(secure, &["-T", "big", "-H", "Content-Length:", "-o", "unknown"], "/cat");
        site.curl(secure, &["-T", "big", "-H", "Expect: 100-continue", "-o", "asked"], "/cat");
        for name in ["got", "known", "unknown", "asked"] {
            let got = std::fs::read(site.file(name)).unwrap();
            assert!(got == big(), "{name} was changed");
        }
        let cookies = "a=1; b=2";
        site.curl(secure, &["-b", cookies], "/cookie");
        assert_eq!(site.origin.last().header("cookie"), Some(cookies));
    }
    // Many requests of one connection at the same time. (curl 7.88 cannot use a connection with prior knowledge again.)
    let many =
        ["-Z", "--parallel-max", "50", "-o", "#1", "-w", "%{http_version} %{num_connects}\n"];
    let said = site.curl(true, &many, "/[1-200]");
    assert_eq!(said.matches("2 0\n").count(), 199, "{said}");
    for n in 1..=200 {
        let got = std::fs::read_to_string(site.file(&n.to_string())).unwrap();
        assert_eq!(got, format!("GET /{n}"));
    }
    assert_eq!(site.curl(true, &["--http1.1", "-w", " %{http_version}"], "/x"), "GET /x 1.1");
    // Without prior knowledge HTTP/1.1 is spoken; the offer to change is not taken, and not passed on.
    assert_eq!(site.curl(false, &["--http2", "-w", " %{http_version}"], "/x"), "GET /x 1.1");
    let last = site.origin.last();
    assert!(last.all("upgrade").is_empty() && last.all("http2-settings").is_empty());
}

#[test]
fn nghttp() {
    let mut site = Site::start();
    for url in [format!("http://{}", site.plain), format!("https://{}", site.secure)] {
        let nghttp = |site: &mut Site, more: &[&str], path: &str| {
            let mut command = Command::new(program("nghttp", "nghttp2-client"));
            command.args(["-y", "-t", "20s", "-H", ":authority: a.test"]).args(more);
            site.run(command.arg(format!("{url}{path}")))
        };
        assert_eq!(nghttp(&mut site, &[], "/x"), "GET /x");
        for (more, path) in [
            (&["--padding=255"][..], "/big"),
            (&["-w", "4", "-W", "4"], "/x?a-path-that-is-longer-than-the-window-of-fifteen-octets"),
            (&["-w", "30", "-W", "30"], "/big"),
            (&["--header-table-size=0"], "/big"),
            (&["--header-table-size=65536", "--encoder-header-table-size=65536"], "/big"),
            (&["-p", "256", "--no-dep"], "/x"),
            (&["--max-concurrent-streams=1"], "/x"),
            (&["-d", "big", "--padding=64"], "/cat"),
            (&["-d", "big", "--expect-continue", "--trailer=x-sum: 1"], "/cat"),
        ] {
            let before = site.origin.requests().len();
            let said = nghttp(&mut site, &[&["-s", "-n"], more].concat(), path);
            let path = path.split('?').next().unwrap_or_default();
            assert!(said.contains(" 200 ") && said.contains(path), "{more:?}: {said}");
            assert_eq!(site.origin.requests().len(), before + 1, "{more:?}");
        }
        let many = ["-s", "-n", "-m", "100", "--continuation"];
        let said = nghttp(&mut site, &many, "/x");
        assert_eq!(said.matches(" 200 ").count(), 100, "{said}");
    }
}

#[test]
fn h2load() {
    let mut site = Site::start();
    for (url, arguments, requests) in [
        (format!("http://{}/x", site.plain), ["-c", "4", "-m", "32"], 4000),
        (format!("https://{}/x", site.secure), ["-c", "4", "-m", "10"], 2000),
        (format!("http://{}/big", site.plain), ["-c", "2", "-m", "8"], 40),
    ] {
        let mut command = Command::new(program("h2load", "nghttp2-client"));
        command.args(["-n", &requests.to_string()]).args(arguments).arg(url);
        let said = site.run(&mut command);
        let all = format!("{requests} done, {requests} succeeded, 0 failed, 0 errored, 0 timeout");
        assert!(said.contains(&all), "{said}");
        assert!(said.contains(&format!("{requests} 2xx")), "{said}");
    }
}

const NODE: &str = r#"
const http2 = require('http2'), assert = require('assert'), fs = require('fs');
const [plain, secure, cert] = process.argv.slice(2);
const ask = (session, headers, body, trailers) => new Promise((ok, bad) => {
  const stream = session.request({ ':authority': 'a.test', ...headers }, { endStream: body === undefined, waitForTrailers: !!trailers });
  const got = { pieces: [] };
  stream.on('response', h => got.headers = h).on('trailers', t => got.trailers = t).on('error', bad);
  stream.on('wantTrailers', () => stream.sendTrailers(trailers));
  stream.on('data', p => got.pieces.push(p)).on('end', () => { got.body = Buffer.concat(got.pieces); ok(got); });
  if (body !== undefined) stream.end(body);
});
const origins = [[`http://127.0.0.1:${plain}`, {}], [`https://127.0.0.1:${secure}`, { ca: fs.readFileSync(cert), servername: 'a.test' }]];
(async () => {
  for (const [origin, options] of origins) {
    // Its own bound on what waits to be sent is ten million octets.
    const session = http2.connect(origin, { maxSessionMemory: 100, ...options });
    session.on('error', error => { throw error; });
    const big = Buffer.alloc(2000000, 'node');
    const all = await Promise.all([...Array(60).keys()].map(n =>
      n % 3 ? ask(session, { ':path': '/' + n }) : ask(session, { ':path': '/cat', ':method': 'POST' }, big)));
    all.forEach((got, n) => {
      assert.strictEqual(got.headers[':status'], 200);
      assert(n % 3 ? got.body.toString() === 'GET /' + n : got.body.equals(big), `${n}: ${got.body.length}`);
    });
    const ended = await ask(session, { ':path': '/trailers', te: 'trailers' });
    assert.deepStrictEqual([ended.body.toString(), ended.trailers && ended.trailers['x-sum']], ['body', '42']);
    const sent = await ask(session, { ':path': '/cat', ':method': 'POST', trailer: 'x-sum' }, 'sent', { 'x-sum': '1' });
    assert.strictEqual(sent.body.toString(), 'sent');
    // Cancelled in the middle, again and again: others go on.
    for (let n = 0; n < 30; n++) {
      const stream = session.request({ ':path': '/big', ':authority': 'a.test' });
      await new Promise((ok, bad) => { stream.once('data', ok).on('error', bad); });
      stream.close(http2.constants.NGHTTP2_CANCEL);
      assert.strictEqual((await ask(session, { ':path': '/after' })).body.toString(), 'GET /after');
    }
    assert.strictEqual((await ask(session, { ':path': '/big' })).body.length, 3000000);
    await new Promise((ok, bad) => session.ping((error, took) => error ? bad(error) : ok(took)));
    await new Promise(ok => session.close(ok));
  }
  console.log('all good');
})().catch(error => { console.error(error); process.exit(1); });
"#;

#[test]
fn node_http2() {
    Site::start().script(program("node", "nodejs"), "client.js", NODE);
}

const PYTHON: &str = r#"
import asyncio, ssl, sys, httpx
plain, secure, cert = sys.argv[1:]
BIG = b"python" * 300_000

async def over(base, verify):
    headers = {"host": "a.test"}
    async with httpx.AsyncClient(http1=False, http2=True, verify=verify, base_url=base, headers=headers, timeout=20) as client:
        async def one(n):
            if n % 4:
                answer = await client.get(f"/{n}")
                assert answer.text == f"GET /{n}", answer.text
            else:
                answer = await client.post("/cat", content=BIG)
                assert answer.content == BIG, len(answer.content)
            assert answer.status_code == 200 and answer.http_version == "HTTP/2", answer
        # One who waits for room to send may, in httpcore 1.0, read what another has already been given, hear of nothing until the next
        # frame comes, and keep everybody else from reading. So frames come, whoever waits.
        ticks = []
        async def now_and_then():
            while True:
                ticks.append(asyncio.create_task(client.get("/tick")))
                await asyncio.sleep(0.05)
        ticking = asyncio.create_task(now_and_then())
        await asyncio.gather(*(one(n) for n in range(60)))
        ticking.cancel()
        assert {answer.text for answer in await asyncio.gather(*ticks)} == {"GET /tick"}
        async def pieces():
            for n in range(50):
                yield bytes([n]) * 1000
        answer = await client.post("/cat", content=pieces())
        assert len(answer.content) == 50_000
        assert len((await client.get("/big")).content) == 3_000_000

async def main():
    await over(f"http://127.0.0.1:{plain}", False)
    trusted = ssl.create_default_context(cafile=cert)
    trusted.check_hostname = False
    await over(f"https://127.0.0.1:{secure}", trusted)
    print("all good")

asyncio.run(main())
"#;

#[test]
fn python_httpx() {
    Site::start().script(python(), "client.py", PYTHON);
}

/// A Python that has the module httpx with HTTP/2, which scripts/test installs.
fn python() -> PathBuf {
    let home = std::env::var("HOME").unwrap_or_default();
    let cache = std::env::var("XDG_CACHE_HOME").unwrap_or_else(|_| format!("{home}/.cache"));
    let own = PathBuf::from(cache).join("ringgate/python/bin/python");
    let python = if own.exists() { own } else { program("python3", "python3") };
    let has = Command::new(&python).args(["-c", "import httpx, h2"]).output().unwrap();
    assert!(
        has.status.success(),
        "this test needs Python's httpx: pip install 'httpx[http2]' (scripts/test does it)"
    );
    python
}
