//! Real clients before ringgate and real servers behind it: curl, wrk, Node, Python, nginx.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use support::ringgate::forwarding;
use support::{Origin, Ringgate, eventually, free_address, get, program};

/// A server of somebody else's, ended by its id.
struct Server(Child);

impl Server {
    #[track_caller]
    fn start(command: &mut Command, address: SocketAddr) -> Server {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Server(child);
        eventually("the server listens", || {
            assert!(server.0.try_wait().unwrap().is_none(), "{command:?} ended");
            TcpStream::connect(address).is_ok()
        });
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[track_caller]
fn run(command: &mut Command) -> String {
    let done = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{command:?}: {said}{}", String::from_utf8_lossy(&done.stderr));
    said
}

fn before(target: SocketAddr) -> (Ringgate, SocketAddr) {
    let listen = free_address();
    (Ringgate::start(&forwarding(listen, &[target], "")), listen)
}

/// A folder of files and what serves it.
fn files() -> (tempfile::TempDir, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let big: Vec<u8> = (0..3_000_000).map(|n: u32| (n % 249) as u8).collect();
    std::fs::write(dir.path().join("big"), &big).unwrap();
    std::fs::write(dir.path().join("hello"), "hello").unwrap();
    (dir, big)
}

fn nginx(dir: &Path, address: SocketAddr) -> Server {
    let at = dir.display();
    let conf = format!(
        "daemon off; master_process off; pid {at}/pid; error_log {at}/err; worker_processes 1;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; client_body_temp_path {at}/b; proxy_temp_path {at}/p; fastcgi_temp_path {at}/f;\n\
         uwsgi_temp_path {at}/u; scgi_temp_path {at}/s; gzip on; gzip_min_length 1; gzip_types *;\n\
         server {{ listen {address}; root {at}; location /up {{ client_max_body_size 0; dav_methods PUT; }} }} }}\n"
    );
    std::fs::write(dir.join("conf"), conf).unwrap();
    std::fs::create_dir_all(dir.join("up")).unwrap();
    Server::start(
        Command::new(program("nginx", "nginx"))
            .args(["-p", dir.to_str().unwrap(), "-c"])
            .arg(dir.join("conf")),
        address,
    )
}

#[test]
fn curl_before_nginx() {
    let (dir, big) = files();
    let address = free_address();
    let _nginx = nginx(dir.path(), address);
    let (_ringgate, listen) = before(address);
    let out = tempfile::tempdir().unwrap();
    let got = out.path().join("got");
    let curl = |args: &[&str]| {
        let mut command = Command::new(program("curl", "curl"));
        run(command.args(["-sS", "--fail", "--max-time", "20", "-o"]).arg(&got).args(args))
    };
    let url = |path: &str| format!("http://{listen}{path}");
    let is =
        |expected: &[u8]| assert!(std::fs::read(&got).unwrap() == expected, "the body was changed");

    curl(&[&url("/big")]);
    is(&big);
    curl(&["--http1.0", &url("/hello")]);
    is(b"hello");
    // nginx sends this one in chunks.
    curl(&["--compressed", &url("/big")]);
    is(&big);
    curl(&["-r", "100-199", &url("/big")]);
    is(&big[100..200]);
    curl(&["-H", "Connection: close", &url("/hello")]);
    is(b"hello");
    curl(&["--head", &url("/big")]);
    assert!(String::from_utf8_lossy(&std::fs::read(&got).unwrap()).contains("3000000"));
    // An upload with Expect: 100-continue, one in chunks, one of nothing.
    let source = dir.path().join("big");
    let source = source.to_str().unwrap();
    curl(&["-T", source, "-H", "Expect: 100-continue", &url("/up/one")]);
    assert!(std::fs::read(dir.path().join("up/one")).unwrap() == big);
    curl(&[
        "-T",
        source,
        "-H",
        "Transfer-Encoding: chunked",
        "-H",
        "Content-Length:",
        &url("/up/two"),
    ]);
    assert!(std::fs::read(dir.path().join("up/two")).unwrap() == big);
    curl(&["-X", "PUT", "-H", "Content-Length: 0", &url("/up/three")]);
    // Several requests on one connection.
    curl(&[&url("/hello"), "-o", "/dev/null", &url("/big"), "-o", "/dev/null", &url("/hello")]);
}

#[test]
fn wrk_before_nginx() {
    let (dir, _) = files();
    let address = free_address();
    let _nginx = nginx(dir.path(), address);
    let (mut ringgate, listen) = before(address);
    for more in [&[] as &[&str], &["-H", "Connection: close"]] {
        let mut command = Command::new(program("wrk", "wrk"));
        let said = run(command
            .args(["-t1", "-c64", "-d2s"])
            .args(more)
            .arg(format!("http://{listen}/hello")));
        assert!(!said.contains("Non-2xx") && !said.contains("Socket errors"), "{said}");
        let requests = said.lines().find_map(|l| l.trim().split_once(" requests in")).unwrap().0;
        assert!(requests.parse::<u64>().unwrap() > 100, "{said}");
    }
    ringgate.assert_alive();
}

const NODE_SERVER: &str = r#"
const http = require('http');
http.createServer((req, res) => {
  const pieces = [];
  req.on('data', d => pieces.push(d));
  req.on('end', () => {
    const body = Buffer.concat(pieces);
    res.setHeader('X-Got', String(body.length));
    if (req.url === '/trailers') {
      res.writeHead(200, { Trailer: 'X-Sum' });
      res.write('abc'); res.addTrailers({ 'X-Sum': '42' }); return res.end();
    }
    if (req.url === '/early') res.writeEarlyHints({ link: '</a.css>; rel=preload' });
    // Without a length: Node chooses chunks.
    res.write(req.method + ' ' + req.url + ' '); res.end(body);
  });
}).listen(Number(process.argv[2]), '127.0.0.1');
"#;

const NODE_CLIENT: &str = r#"
const http = require('http');
const port = Number(process.argv[2]);
const agent = new http.Agent({ keepAlive: true, maxSockets: 8 });
const ask = (method, path, body) => new Promise((ok, bad) => {
  const req = http.request({ port, host: '127.0.0.1', agent, method, path, headers: { TE: 'trailers', Connection: 'keep-alive, TE' } }, res => {
    let text = ''; res.on('data', d => text += d);
    res.on('end', () => ok({ status: res.statusCode, text, trailers: res.trailers, reused: req.reusedSocket }));
    res.on('error', bad);
  });
  req.on('error', bad);
  // In pieces, so that the body goes out in chunks.
  if (body) { req.write(body.slice(0, 5)); req.write(body.slice(5)); }
  req.end();
});
(async () => {
  let reused = 0;
  for (let round = 0; round < 20; round++) {
    const all = await Promise.all([...Array(20).keys()].map(n => ask(n % 2 ? 'POST' : 'GET', '/' + n, n % 2 ? 'body-of-' + n : '')));
    all.forEach((a, n) => {
      const want = (n % 2 ? 'POST /' : 'GET /') + n + ' ' + (n % 2 ? 'body-of-' + n : '');
      if (a.status !== 200 || a.text !== want) throw new Error(JSON.stringify(a) + ' wanted ' + want);
      reused += a.reused;
    });
  }
  // Node counts only connections that were idle in between: 8 in each round but the first.
  if (reused < 150) throw new Error('only ' + reused + ' requests on a used connection');
  const t = await ask('GET', '/trailers');
  if (t.trailers['x-sum'] !== '42') throw new Error('trailers ' + JSON.stringify(t));
  const e = await ask('GET', '/early');
  if (e.status !== 200) throw new Error('early ' + JSON.stringify(e));
  agent.destroy();
  console.log('all good');
})().catch(e => { console.error(e); process.exit(1); });
"#;

#[test]
fn node_before_node() {
    let dir = tempfile::tempdir().unwrap();
    let (server, client) = (dir.path().join("server.js"), dir.path().join("client.js"));
    std::fs::write(&server, NODE_SERVER).unwrap();
    std::fs::write(&client, NODE_CLIENT).unwrap();
    let address = free_address();
    let node = program("node", "nodejs");
    let _server =
        Server::start(Command::new(&node).arg(server).arg(address.port().to_string()), address);
    let (_ringgate, listen) = before(address);
    let said = run(Command::new(&node).arg(client).arg(listen.port().to_string()));
    assert!(said.contains("all good"), "{said}");
}

const PYTHON_CLIENT: &str = r#"
import http.client, sys
c = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=10)
for n in range(50):
    c.request("GET", "/hello")
    r = c.getresponse(); body = r.read()
    assert (r.status, body) == (200, b"hello"), (r.status, body)
c.request("POST", "/hello", body=iter([b"abc", b"def"]), encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
r = c.getresponse(); r.read()
assert r.status == 501, r.status
c.close()
c.request("HEAD", "/big")
r = c.getresponse(); assert r.getheader("Content-Length") == "3000000" and r.read() == b""
print("all good")
"#;

#[test]
fn python_before_python() {
    let (dir, big) = files();
    let address = free_address();
    let python = program("python3", "python3");
    // An HTTP/1.0 server: every answer ends with its connection.
    let mut command = Command::new(&python);
    command
        .args(["-m", "http.server", "--bind", "127.0.0.1", &address.port().to_string()])
        .current_dir(dir.path());
    let _server = Server::start(&mut command, address);
    let (_ringgate, listen) = before(address);
    assert!(get(listen, "/big").body == big, "the body was changed");
    let client = dir.path().join("client.py");
    std::fs::write(&client, PYTHON_CLIENT).unwrap();
    let said = run(Command::new(&python).arg(client).arg(listen.port().to_string()));
    assert!(said.contains("all good"), "{said}");
}

#[test]
fn curl_reads_own_answers() {
    let origin = Origin::saying("ok");
    let listen = free_address();
    let _ringgate = Ringgate::start(&format!(
        "[[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\n\n[[rule]]\nname = \"moved\"\nwhen = {{ path = [\"/old\"] }}\n\
         redirect = {{ path = \"/new\", status = 301 }}\n\n[[rule]]\nname = \"all\"\nwhen = {{ path = [\"/new\"] }}\nforward = \"all\"\n\n\
         [group.all]\ntargets = [\"{}\"]\nhealth = {{ type = \"off\" }}\n",
        origin.address
    ));
    let curl = |args: &[&str]| {
        run(Command::new(program("curl", "curl")).args(["-sS", "--max-time", "20"]).args(args))
    };
    assert_eq!(curl(&["-L", &format!("http://{listen}/old")]), "ok");
    let said = curl(&["-i", &format!("http://{listen}/none")]);
    assert!(said.contains("x-ringgate-reason: no_route"), "{said}");
}
