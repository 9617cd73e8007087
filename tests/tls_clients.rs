//! Clients that others have written, over TLS: Node's https and http2, Python's ssl, openssl s_client; new versions of
//! the protocol and old ones.
//!
//! Sessions, certificates and hostile octets have tests of their own; here counts that ordinary clients get along, and
//! that those of the nineties do not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use support::{Origin, Ringgate, free_address, program};

/// ringgate on a port of https with a self-signed certificate for `a.test`, and a target that echoes.
struct Site {
    ringgate: Ringgate,
    _origin: Origin,
    listen: SocketAddr,
    dir: tempfile::TempDir,
}

impl Site {
    fn start() -> Site {
        let dir = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["a.test".to_owned()]).unwrap();
        std::fs::write(dir.path().join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(dir.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        let (origin, listen) = (Origin::script(echo), free_address());
        let at = dir.path().display();
        let ringgate = Ringgate::start(&format!(
            "[[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\nprotocol = \"https\"\n\
             tls = {{ certificates = [{{ cert = \"{at}/cert.pem\", key = \"{at}/key.pem\" }}] }}\n\
             default = {{ forward = \"all\" }}\n\n\
             [group.all]\ntargets = [\"{}\"]\nhealth = {{ type = \"off\" }}\n",
            origin.address
        ));
        Site { ringgate, _origin: origin, listen, dir }
    }

    fn cert(&self) -> PathBuf {
        self.dir.path().join("cert.pem")
    }

    /// Runs a client's script with the port and the certificate.
    #[track_caller]
    fn run(&mut self, program: PathBuf, name: &str, script: &str) {
        let path = self.dir.path().join(name);
        std::fs::write(&path, script).unwrap();
        let mut command = Command::new(program);
        command.arg(path).arg(self.listen.port().to_string()).arg(self.cert());
        let done = command.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        let error = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success() && said.contains("all good"), "{said}{error}");
        self.ringgate.assert_alive();
    }
}

/// Says the method, the path and the body that came.
fn echo(conn: &mut support::origin::Conn) -> std::io::Result<()> {
    while let Some(request) = conn.request()? {
        let body = [format!("{} ", request.start).into_bytes(), request.body.clone()].concat();
        conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()))?;
        conn.send(body)?;
    }
    Ok(())
}

const NODE_HTTPS: &str = r#"
const https = require('https'), fs = require('fs'), assert = require('assert');
const [port, cert] = process.argv.slice(2);
const options = { host: '127.0.0.1', port, servername: 'a.test', ca: fs.readFileSync(cert), headers: { Host: 'a.test' } };
const ask = (agent, method, path, body, more) => new Promise((ok, bad) => {
  const request = https.request({ ...options, ...more, agent, method, path }, response => {
    const pieces = [], socket = response.socket;
    response.on('data', piece => pieces.push(piece)).on('error', bad);
    response.on('end', () => ok({ status: response.statusCode, text: Buffer.concat(pieces).toString(), resumed: socket.isSessionReused(), version: socket.getProtocol() }));
  });
  request.on('error', bad);
  if (body) { request.write(body.slice(0, 5)); request.write(body.slice(5)); }
  request.end();
});
(async () => {
  // Kept connections, and bodies in chunks.
  const kept = new https.Agent({ keepAlive: true, maxSockets: 4 });
  const big = 'x'.repeat(300000);
  for (let round = 0; round < 10; round++) {
    const all = await Promise.all([...Array(12).keys()].map(n => ask(kept, n % 2 ? 'POST' : 'GET', '/' + n, n % 2 ? big + n : '')));
    all.forEach((answer, n) => assert(answer.status === 200 && answer.text === (n % 2 ? `POST /${n} HTTP/1.1 ${big}${n}` : `GET /${n} HTTP/1.1 `), `${n} ${answer.status} ${answer.text.length}`));
  }
  kept.destroy();
  // A new connection resumes the session of the one before, in both versions.
  for (const version of ['TLSv1.3', 'TLSv1.2']) {
    const fresh = new https.Agent({ keepAlive: false, maxSockets: 1 });
    const resumed = [];
    for (let n = 0; n < 5; n++) {
      const answer = await ask(fresh, 'GET', '/', '', { minVersion: version, maxVersion: version });
      assert.strictEqual(answer.version, version);
      resumed.push(answer.resumed);
    }
    assert(!resumed[0] && resumed.slice(1).filter(r => r).length >= 3, `${version} resumed: ${resumed}`);
  }
  // The name is checked by the client: another one is refused.
  await assert.rejects(ask(new https.Agent(), 'GET', '/', '', { servername: 'b.test' }));
  console.log('all good');
})().catch(error => { console.error(error); process.exit(1); });
"#;

const NODE_HTTP2: &str = r#"
const http2 = require('http2'), fs = require('fs'), assert = require('assert');
const [port, cert] = process.argv.slice(2);
const session = http2.connect('https://a.test:' + port, {
  ca: fs.readFileSync(cert), servername: 'a.test', lookup: (name, options, found) => options.all ? found(null, [{ address: '127.0.0.1', family: 4 }]) : found(null, '127.0.0.1', 4),
});
session.on('error', error => { console.error(error); process.exit(1); });
const ask = (headers, body) => new Promise((ok, bad) => {
  const stream = session.request(headers), pieces = [];
  let got;
  stream.on('response', h => got = h).on('data', piece => pieces.push(piece)).on('error', bad);
  stream.on('end', () => ok({ headers: got, text: Buffer.concat(pieces).toString() }));
  stream.end(body);
});
(async () => {
  const big = 'y'.repeat(400000);
  for (let round = 0; round < 5; round++) {
    const all = await Promise.all([...Array(60).keys()].map(n => n % 3
      ? ask({ ':path': '/' + n, cookie: ['a=1', 'b=2'] }) : ask({ ':method': 'POST', ':path': '/' + n }, big + n)));
    all.forEach((answer, n) => {
      assert.strictEqual(answer.headers[':status'], 200);
      assert(answer.text === (n % 3 ? `GET /${n} HTTP/1.1 ` : `POST /${n} HTTP/1.1 ${big}${n}`), `${n}: ${answer.text.slice(0, 60)}`);
    });
  }
  assert.strictEqual(session.alpnProtocol, 'h2');
  assert(session.remoteSettings.maxConcurrentStreams <= 1000, JSON.stringify(session.remoteSettings));
  // A stream that is cancelled takes nothing else with it.
  const cancelled = session.request({ ':method': 'POST', ':path': '/never' });
  cancelled.on('error', () => {});
  cancelled.write('half');
  await new Promise(ok => setTimeout(ok, 20));
  cancelled.close(http2.constants.NGHTTP2_CANCEL);
  assert.strictEqual((await ask({ ':path': '/after' })).text, 'GET /after HTTP/1.1 ');
  await new Promise((ok, bad) => session.ping((error, ms) => error ? bad(error) : ok(ms)));
  // The authority of somebody else's certificate (RFC 9110 section 15.5.20) is not served here.
  const other = await ask({ ':path': '/', ':authority': 'b.test' });
  assert([200, 421].includes(other.headers[':status']), JSON.stringify(other.headers));
  session.close();
  console.log('all good');
})().catch(error => { console.error(error); process.exit(1); });
"#;

const PYTHON: &str = r#"
import http.client, socket, ssl, sys, warnings
warnings.simplefilter("ignore")
port, cert = int(sys.argv[1]), sys.argv[2]

def context(low, high, ciphers=None):
    c = ssl.create_default_context(cafile=cert)
    # Whatever the distribution forbids, so that it is the server that refuses.
    c.set_ciphers(ciphers or "ALL:@SECLEVEL=0")
    c.minimum_version, c.maximum_version = low, high
    return c

def connect(c, name="a.test"):
    return c.wrap_socket(socket.create_connection(("127.0.0.1", port), 10), server_hostname=name)

V = ssl.TLSVersion
for low, high, got in ((V.TLSv1_2, V.TLSv1_2, "TLSv1.2"), (V.TLSv1_2, V.TLSv1_3, "TLSv1.3"), (V.TLSv1_3, V.TLSv1_3, "TLSv1.3")):
    c = context(low, high)
    with connect(c) as s:
        assert s.version() == got, s.version()
        s.sendall(b"GET /a HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
        text = b""
        # Raises where the connection ends without close_notify.
        s.suppress_ragged_eofs = False
        while piece := s.recv(4096):
            text += piece
        assert text.startswith(b"HTTP/1.1 200") and text.endswith(b"GET /a HTTP/1.1 "), text
    h = http.client.HTTPSConnection("a.test", port, context=c)
    h.sock = connect(c)
    for n in range(20):
        body = b"z" * (n * 9973)
        h.request("POST", f"/{n}", body=body, headers={"Host": "a.test"})
        r = h.getresponse()
        assert (r.status, r.read()) == (200, f"POST /{n} HTTP/1.1 ".encode() + body)
    h.close()

# What clients of that time offered.
old = "ALL:COMPLEMENTOFALL:@SECLEVEL=0"
for version in (V.TLSv1, V.TLSv1_1):
    try:
        connect(context(version, version, old)).close()
        raise SystemExit(f"{version} was accepted")
    except ssl.SSLError as error:
        assert "PROTOCOL_VERSION" in str(error).upper() or "ALERT" in str(error).upper(), error
for ciphers in ("AES128-SHA", "AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-SHA", "DHE-RSA-AES128-GCM-SHA256", "NULL-SHA256"):
    try:
        connect(context(V.TLSv1_2, V.TLSv1_2, ciphers + ":@SECLEVEL=0")).close()
        raise SystemExit(f"{ciphers} was accepted")
    except ssl.SSLError as error:
        assert "HANDSHAKE_FAILURE" in str(error).upper(), error
# ALPN: the server chooses of what is offered, and refuses what it does not speak.
for offered, chosen in ((["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1"), (["http/1.1", "h2"], None), ([], None)):
    c = context(V.TLSv1_2, V.TLSv1_3)
    if offered:
        c.set_alpn_protocols(offered)
    with connect(c) as s:
        got = s.selected_alpn_protocol()
        assert got == chosen or (chosen is None and (got in offered if offered else got is None)), (offered, got)
print("all good")
"#;

// Hazard TLS-11 among others.
#[test]
fn node_https() {
    Site::start().run(program("node", "nodejs"), "https.js", NODE_HTTPS);
}

#[test]
fn node_http2() {
    Site::start().run(program("node", "nodejs"), "http2.js", NODE_HTTP2);
}

#[test]
fn python_ssl_new_and_old() {
    Site::start().run(program("python3", "python3"), "ssl_client.py", PYTHON);
}

/// What openssl s_client says when it is told to speak like this.
fn s_client(site: &Site, arguments: &[&str]) -> (bool, String) {
    let done = Command::new(program("openssl", "openssl"))
        .args(["s_client", "-connect", &site.listen.to_string(), "-servername", "a.test"])
        .arg("-CAfile")
        .arg(site.cert())
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = [done.stdout, done.stderr].concat();
    (done.status.success(), String::from_utf8_lossy(&said).into_owned())
}

// Hazard TLS-13.
#[test]
fn openssl_is_refused_what_is_old() {
    let mut site = Site::start();
    for old in [["-tls1"], ["-tls1_1"]] {
        let (connected, said) =
            s_client(&site, &[&old[..], &["-cipher", "ALL:@SECLEVEL=0"]].concat());
        // What such a client's hello lacks may be noticed before its version.
        let told = ["alert protocol version", "alert handshake failure"];
        assert!(!connected && told.iter().any(|alert| said.contains(alert)), "{old:?}: {said}");
    }
    for (new, version) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let (connected, said) = s_client(&site, &[new]);
        assert!(connected && said.contains(&format!("New, {version}")), "{new}: {said}");
        assert!(said.contains("Verify return code: 0 (ok)"), "{new}: {said}");
        assert!(said.contains("Compression: NONE"), "{new}: {said}");
        assert!(new != "-tls1_2" || said.contains("Secure Renegotiation IS supported"), "{said}");
    }
    site.ringgate.assert_alive();
}
