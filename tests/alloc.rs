//! A request in steady state allocates nothing: a worker runs here under an allocator that counts.
#![allow(
    missing_docs,
    unsafe_code,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::disallowed_methods
)]

#[path = "jwt/signer.rs"]
mod signer;

use crossbeam::channel::unbounded;
use ringgate::config::{self, AccessLog};
use ringgate::net::runtime::{self, Driver};
use ringgate::observe::{self, Format};
use ringgate::shard::{self, Machine, Message, Pulse};
use ringgate::snapshot::{self, compile::Context};
use ringgate::worker::{self, Start};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

struct Counting;

static COUNT: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static COUNTED: Cell<bool> = const { Cell::new(false) };
}

fn count() {
    if COUNTED.try_with(Cell::get).unwrap_or(false) {
        COUNT.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call goes on to the system's allocator unchanged; counting touches an atomic and a plain thread-local.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        unsafe { System.dealloc(ptr, layout) }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello";

fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            std::thread::spawn(move || {
                let mut seen = Vec::new();
                let mut block = [0; 4096];
                while let Ok(n) = stream.read(&mut block) {
                    if n == 0 {
                        return;
                    }
                    seen.extend_from_slice(&block[..n]);
                    if seen.windows(4).any(|w| w == b"\r\n\r\n") {
                        seen.clear();
                        stream.write_all(ANSWER).unwrap();
                    }
                }
            });
        }
    });
    address
}

/// Policies that decide by the head alone.
const POLICIES: &str = r#"
[policy.ip.ip]
deny = ["192.0.2.0/24", "2001:db8::/32"]
[policy.cors.cors]
origins = ["https://app.example", "https://*.wild.example"]
expose = ["x-total"]
[policy.headers.headers]
preset = "web"
set = { x-frame-options = "DENY" }
[policy.block.block]
path = ["/.git", 'regex:\.(bak|sql)$']
query = ["union select", 'regex:^cmd=']
cookie = ["<script"]
headers = { user-agent = ["sqlmap", 'regex:^nikto'], "*" = ["$${jndi:"] }
[policy.rate.rate]
limit = "1000000/s"
burst = 1000000
key = ["client_ip", "cookie:a"]
[policy.keys.api_key]
consumers = ["consumers.toml"]
query = "key"
[policy.keys.api_key.plan.gold]
rate = "100000/s"
quota = "1000000/day"
[policy.concurrency.concurrency]
limit = 10
[policy.window.window]
requests = 1000000
window = "1m"
"#;

/// Whose key is "k".
const CONSUMERS: &str = r#"[consumer.acme]
plan = "gold"
keys = ["sha256:8254c329a92850f6d539dd376f4816ee2764517da5e0235514af433164480d7a"]
"#;

fn start(driver: Driver, log: AccessLog, signer: &signer::Signer) -> SocketAddr {
    let keys = signer::jwks([signer.jwk()]);
    let target = origin();
    let text = format!(
        "[[listener]]\nname = \"web\"\nbind = [\"127.0.0.1:0\"]\n[[rule]]\nname = \"all\"\nforward = \"o\"\n\
         when = {{ host = [\"a.example\"], path = [\"/v1/*\"] }}\n\
         [[rule]]\nname = \"known\"\nforward = \"o\"\npolicy = [\"jwt\"]\n\
         when = {{ host = [\"a.example\"], path = [\"/jwt\"] }}\n\
         [[rule]]\nname = \"judged\"\nforward = \"o\"\nwhen = {{ path = [\"/v2/*\"] }}\n\
         policy = [\"ip\", \"cors\", \"headers\", \"block\", \"window\", \"keys\", \"rate\", \"concurrency\"]\n\
         [[rule]]\nname = \"stays\"\nforward = [{{ group = \"o\" }}, {{ group = \"p\" }}]\nwhen = {{ path = [\"/v3/*\"] }}\n\
         sticky = {{}}\ncanary = {{ group = \"q\", percent = 50 }}\n\
         [policy.jwt]\njwt = {{ issuer = \"i\", audience = \"a\", jwks = '{keys}', remember_for = \"10m\", claims_to_headers = {{ x-user = \"sub\" }} }}\n\
         [group.o]\ntargets = [\"{target}\"]\n[group.p]\ntargets = [\"{target}\"]\nsticky = {{}}\n\
         [group.q]\ntargets = [\"{target}\"]\nsticky = {{}}\n{POLICIES}"
    );
    let mut config = config::parse(&text, "test.toml", &|_| None).expect("the file is fine");
    for policy in &mut config.policies {
        let files = policy.settings.files().into_iter();
        policy.octets = files.map(|path| (path, Arc::from(CONSUMERS.as_bytes()))).collect();
    }
    let context = Context { generation: 1, workers: 1, old: None, resolve: &|_| Vec::new() };
    let snapshot = Arc::new(snapshot::compile(&config, context).expect("the file compiles"));
    let socket = ringgate::net::listen::bind("127.0.0.1:0".parse().unwrap(), 64, None).unwrap();
    let address = ringgate::net::listen::address_of(&socket).unwrap();
    let listener = snapshot.listeners[0].id;
    let (mailbox, letters) = unbounded();
    let (ringer, doorbell) = runtime::doorbell().unwrap();
    let (graveyard, _) = unbounded();
    let off = log == AccessLog::Off;
    let handle = observe::start(log).unwrap();
    let sink = (!off).then(|| handle.sink());
    let start = Start {
        id: 0,
        workers: 1,
        cpu: None,
        driver,
        snapshot,
        log: shard::AccessLog { sink, format: Arc::new(Format::parse("json").unwrap()) },
        machine: Arc::new(Machine::new(100, &config.limits)),
        mailbox: letters,
        doorbell,
        asks: tokio::sync::mpsc::unbounded_channel().0,
        graveyard,
        pulse: Arc::<Pulse>::default(),
        pulses: Vec::new(),
        retired: Arc::default(),
    };
    std::thread::spawn(move || {
        COUNTED.with(|counted| counted.set(true));
        worker::run(start).expect("the worker runs");
    });
    mailbox.send(Message::Listen { listener, port: address.port(), socket, token: 1 }).unwrap();
    ringer.ring();
    // They live as long as the worker is to be heard by.
    std::mem::forget((mailbox, ringer, handle));
    address
}

fn ask(client: &mut TcpStream, request: &[u8]) -> String {
    client.write_all(request).unwrap();
    let (mut seen, mut block) = (Vec::new(), [0; 4096]);
    while !seen.ends_with(b"\r\n\r\nhello") {
        let n = client.read(&mut block).unwrap();
        assert!(n > 0, "the connection stays open: {:?}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&block[..n]);
    }
    assert!(seen.starts_with(b"HTTP/1.1 200"), "{:?}", String::from_utf8_lossy(&seen));
    String::from_utf8(seen).unwrap()
}

/// A request of a client that stays where it is, once it is somewhere.
fn staying(client: &mut TcpStream) -> Vec<u8> {
    let mut request = "GET /v3/x HTTP/1.1\r\nHost: a.example\r\nCookie: a=b".to_owned();
    let answer = ask(client, format!("{request}\r\n\r\n").as_bytes());
    let set = answer.lines().filter_map(|line| line.strip_prefix("set-cookie: "));
    for cookie in set.map(|cookie| cookie.split(';').next().unwrap()) {
        request += "; ";
        request += cookie;
    }
    assert!(request.contains("RINGGATE"), "{answer}");
    (request + "\r\n\r\n").into_bytes()
}

// One test: two workers at once would count for each other.
#[test]
fn a_request_in_steady_state_allocates_nothing() {
    let get = b"GET /v1/x?y=z HTTP/1.1\r\nHost: A.example\r\nAccept: */*\r\nUser-Agent: test\r\nCookie: a=b\r\n\r\n";
    let signer = signer::Signer::new("ES256", "k");
    let claims =
        serde_json::json!({ "iss": "i", "aud": "a", "sub": "u", "exp": signer::unix() + 3600 });
    let token = signer.sign(&claims);
    let known =
        format!("GET /jwt HTTP/1.1\r\nHost: a.example\r\nAuthorization: Bearer {token}\r\n\r\n");
    let post = b"POST /v1/x HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello";
    let judged = b"GET /v2/x;v=1?q=a+b%2Bc HTTP/1.1\r\nHost: a.example\r\nUser-Agent: test\r\nCookie: a=%3cb\r\n\
                   Origin: https://x.wild.example\r\nX-API-Key: k\r\n\r\n";
    let mut drivers = vec![Driver::Epoll];
    if runtime::probe_ring().is_ok() {
        drivers.push(Driver::IoUring);
    }
    for driver in drivers {
        for log in [AccessLog::Off, AccessLog::File("/dev/null".into())] {
            let mut client = TcpStream::connect(start(driver, log.clone(), &signer)).unwrap();
            let stays = staying(&mut client);
            for request in [get.as_slice(), post, judged, known.as_bytes(), &stays] {
                (0..300).for_each(|_| drop(ask(&mut client, request)));
                let before = COUNT.load(Ordering::Relaxed);
                assert!(before > 0, "the allocator counts");
                (0..1000).for_each(|_| drop(ask(&mut client, request)));
                let allocated = COUNT.load(Ordering::Relaxed) - before;
                // A worker that rests now and then (dates, flushed logs) may allocate; a request may not.
                assert!(
                    allocated < 20,
                    "{driver:?} {log:?} {}: {allocated} allocations in 1000 requests",
                    String::from_utf8_lossy(request)
                );
            }
        }
    }
}
