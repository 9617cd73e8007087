//! Questions and answers over real sockets, on the answering thread itself.

use super::*;
use crate::policy::ask::{Call, Called};
use crate::policy::basic::hash::tests::{ARGON2, BCRYPT};
use std::sync::atomic::AtomicUsize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

const PATIENCE: Duration = Duration::from_secs(15);

/// Answers, and what they say.
struct Rig {
    answers: Answers,
    replies: UnboundedReceiver<(usize, u64, Reply)>,
}

impl Rig {
    fn new() -> Rig {
        let (to, replies) = unbounded_channel();
        let reply = move |worker, ticket, reply| to.send((worker, ticket, reply)).unwrap();
        let resolver = Resolver::with_servers(&[]);
        Rig { answers: Answers::start(2, resolver, reply).unwrap(), replies }
    }

    fn ask(&self, ticket: u64, question: Question) {
        self.answers.take(Ask { worker: 7, ticket, question: Box::new(question) });
    }

    async fn reply(&mut self) -> (u64, Reply) {
        let next = tokio::time::timeout(PATIENCE, self.replies.recv()).await;
        let (worker, ticket, reply) = next.expect("a reply in time").unwrap();
        assert_eq!(worker, 7);
        (ticket, reply)
    }

    async fn call(&mut self, call: Call) -> Result<Arc<Called>, String> {
        self.ask(1, Question::Call(call));
        match self.reply().await.1 {
            Reply::Called(called) => Ok(called),
            Reply::Failed(why) | Reply::Unasked(why) => Err(why.to_string()),
            Reply::Password(_) => panic!("nobody asked about a password"),
        }
    }
}

/// A service that reads a head and writes what it is told to; counts its requests.
struct Service {
    port: u16,
    requests: Arc<AtomicUsize>,
    open: Arc<Notify>,
    heads: UnboundedReceiver<String>,
}

impl Service {
    /// `held`: it answers a request only once [`Service::open`] lets it.
    async fn start(answer: Vec<u8>, held: bool) -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (requests, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let (told, heads) = unbounded_channel();
        let (count, gate) = (Arc::clone(&requests), Arc::clone(&open));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (answer, count) = (answer.clone(), Arc::clone(&count));
                let (gate, told) = (Arc::clone(&gate), told.clone());
                tokio::spawn(async move {
                    let head = read_head(&mut stream).await;
                    count.fetch_add(1, Ordering::SeqCst);
                    let _ = told.send(head);
                    if held {
                        gate.notified().await;
                    }
                    let _ = stream.write_all(&answer).await;
                });
            }
        });
        Service { port, requests, open, heads }
    }

    fn call(&self) -> Call {
        Call {
            method: "GET",
            url: format!("http://127.0.0.1:{}/x?secret=1", self.port),
            timeout: PATIENCE,
            most: 64,
            ..Call::default()
        }
    }

    fn count(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.windows(4).any(|w| w == b"\r\n\r\n") {
        let mut some = [0; 1024];
        match stream.read(&mut some).await {
            Ok(count) if count > 0 => head.extend_from_slice(&some[..count]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

fn answer(head: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
        .into_bytes()
}

#[tokio::test]
async fn passwords_are_checked() {
    let mut rig = Rig::new();
    for (hash, password, expected) in [
        (BCRYPT, "password", true),
        (BCRYPT, "Password", false),
        (ARGON2, "password", true),
        (ARGON2, "", false),
        ("broken", "broken", false),
    ] {
        rig.ask(5, Question::Password { hash: Arc::from(hash), password: password.into() });
        let (ticket, reply) = rig.reply().await;
        assert!(ticket == 5 && matches!(reply, Reply::Password(said) if said == expected));
    }
    let stats = rig.answers.stats();
    assert_eq!(stats.passwords.load(Ordering::Relaxed), 5);
    assert_eq!(stats.open.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_service_is_called_with_what_was_asked_and_nothing_else() {
    let mut service = Service::start(answer("201 Made\r\nX-A: 1\r\nx-a: 2", "hello"), false).await;
    let mut call = service.call();
    call.method = "POST";
    call.body = b"token=t".to_vec();
    call.fields = vec![
        ("authorization".to_owned(), b"Basic eA==".to_vec()),
        ("x-b".to_owned(), b"\xfc".to_vec()),
    ];
    // What libraries like to take from the environment is not looked at: the call goes to the service itself.
    let mut rig = Rig::new();
    let called = rig.call(call).await.unwrap();
    assert_eq!((called.status, called.body.as_slice()), (201, b"hello".as_slice()));
    assert_eq!(called.field("x-a"), Some(b"1".as_slice()));
    assert_eq!(called.fields.iter().filter(|(name, _)| name == "x-a").count(), 2);
    let head = service.heads.recv().await.unwrap().to_ascii_lowercase();
    for part in
        ["post /x?secret=1 http/1.1\r\n", "authorization: basic ea==\r\n", "content-length: 7\r\n"]
    {
        assert!(head.contains(part), "{head}");
    }
    for part in ["cookie", "accept-encoding", "referer", "forwarded"] {
        assert!(!head.contains(part), "{head}");
    }
}

#[tokio::test]
async fn auth_17_redirects_are_answers_and_not_followed() {
    let elsewhere = Service::start(answer("200 OK", "internal"), false).await;
    let to = format!("302 Found\r\nlocation: http://127.0.0.1:{}/", elsewhere.port);
    let service = Service::start(answer(&to, ""), false).await;
    let called = Rig::new().call(service.call()).await.unwrap();
    assert_eq!(called.status, 302);
    assert!(called.field("location").is_some());
    assert_eq!(elsewhere.count(), 0);
}

#[tokio::test]
async fn auth_17_every_way_a_service_fails_ends_in_time() {
    let huge = Service::start(answer("200 OK", &"x".repeat(65)), false).await;
    let chunks = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    let endless = Service::start(
        [chunks, b"20\r\n".to_vec(), vec![b'x'; 32], b"\r\n30\r\n".to_vec(), vec![b'x'; 48]]
            .concat(),
        false,
    )
    .await;
    let junk = Service::start(b"SMTP ready\r\n\r\n".to_vec(), false).await;
    let short =
        Service::start(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx".to_vec(), false).await;
    let held = Service::start(answer("200 OK", ""), true).await;
    let down = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let url = |url: &str| Call { url: url.to_owned(), ..huge.call() };
    let mut rig = Rig::new();
    for (call, why) in [
        (huge.call(), "more than 64 octets"),
        (endless.call(), "more than 64 octets"),
        (junk.call(), "invalid HTTP"),
        (short.call(), "end of file"),
        (Call { timeout: Duration::from_millis(50), ..held.call() }, "no whole answer within 50ms"),
        (url(&format!("http://{down}/")), "refused"),
        (url("http://nowhere.invalid/"), "error"),
        (url("ftp://127.0.0.1/"), "neither http nor https"),
        (url("nothing"), "is none"),
        (
            Call { ca: Some(Arc::from(&b"junk"[..])), ..url("https://127.0.0.1:1/") },
            "no certificate",
        ),
        (Call { fields: vec![("a b".to_owned(), vec![])], ..huge.call() }, "no name of a field"),
        (
            Call { fields: vec![("a".to_owned(), b"x\r\ny: z".to_vec())], ..huge.call() },
            "cannot be sent",
        ),
    ] {
        let text = call.url.clone();
        let said = rig.call(call).await.unwrap_err();
        assert!(said.contains(why), "{text}: {said}");
        assert!(!said.contains("secret"), "AUTH-14: {said}");
    }
    let stats = rig.answers.stats();
    assert_eq!(stats.calls_failed.load(Ordering::Relaxed), 12);
    assert_eq!(stats.open.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn auth_18_calls_of_one_key_are_made_once() {
    let service = Service::start(answer("200 OK", "once"), true).await;
    let mut rig = Rig::new();
    let call = Call { once: Some([1; 32]), keep: Duration::from_secs(60), ..service.call() };
    for ticket in 0..50 {
        rig.ask(ticket, Question::Call(call.clone()));
    }
    service.open.notify_one();
    let mut tickets = Vec::new();
    for _ in 0..50 {
        let (ticket, reply) = rig.reply().await;
        assert!(matches!(reply, Reply::Called(called) if called.body == b"once"));
        tickets.push(ticket);
    }
    tickets.sort_unstable();
    assert_eq!(tickets, (0..50).collect::<Vec<_>>());
    // One that comes later gets what is kept.
    rig.call(call.clone()).await.unwrap();
    assert_eq!(service.count(), 1);
    assert_eq!(rig.answers.stats().calls_shared.load(Ordering::Relaxed), 50);
    // Another key is another call.
    service.open.notify_one();
    rig.call(Call { once: Some([2; 32]), ..call }).await.unwrap();
    assert_eq!(service.count(), 2);
}

#[tokio::test]
async fn a_slow_service_leaves_places_to_others() {
    let slow = Service::start(answer("200 OK", "slow"), true).await;
    let quick = Service::start(answer("200 OK", "quick"), false).await;
    let mut rig = Rig::new();
    for ticket in 0..3000 {
        let timeout = Duration::from_secs(3);
        rig.ask(100 + ticket, Question::Call(Call { timeout, ..slow.call() }));
    }
    rig.ask(1, Question::Call(quick.call()));
    let mut early = 0;
    loop {
        match rig.reply().await {
            (1, reply) => {
                assert!(matches!(reply, Reply::Called(called) if called.body == b"quick"));
                break;
            }
            (_, Reply::Unasked(why)) => {
                assert!(why.contains("wait already"), "{why}");
                early += 1;
            }
            (_, reply) => panic!("{reply:?}"),
        }
    }
    assert_eq!(early, 3000 - 2048, "what cannot wait is told at once");
    assert!(slow.count() <= 256, "{} at the same time", slow.count());
}
