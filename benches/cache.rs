//! What a stored answer costs before an octet is written: its key, its place, and whether it may be given; and what storing one costs
//! where room has to be made.

#![allow(missing_docs, clippy::unwrap_used)]

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use ringgate::base::Tick;
use ringgate::cache::{Ask, Key, KeySettings, Meta, Request, Settings, judge};
use ringgate::http::RequestView;
use ringgate::http::fields::OwnedFields;
use ringgate::store::{Entry, Put, Store};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

fn request<'a>(fields: &'a OwnedFields, path: &'a str) -> Request<'a> {
    let view = RequestView {
        method: b"GET",
        host: b"www.example.com",
        path: path.as_bytes(),
        query: Some(b"page=2"),
        fields: fields.view(),
        peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    Request {
        view,
        scheme: "https",
        port: None,
        authority: b"www.example.com",
        local_port: 443,
        group: "",
        trusted: false,
        identified: false,
        has_body: false,
    }
}

fn entry(fields: &OwnedFields, path: &str) -> Arc<Entry> {
    let key = Key::of(&KeySettings::default(), &request(fields, path), "r");
    let meta = Meta { status: 200, lifetime: Duration::from_secs(3600), ..Meta::default() };
    let lines =
        b"content-type: text/html\r\netag: \"1\"\r\ndate: Mon, 01 Jan 2024 00:00:00 GMT\r\n";
    let body = Arc::new(vec![b'x'; 10 << 10].into_boxed_slice());
    Arc::new(Entry::new(key, Box::default(), Arc::from("r"), meta, lines.to_vec(), None, body))
}

fn put(store: &Store, entry: &Arc<Entry>) -> Put {
    let stamp = store.look(&entry.key).unwrap().stamp();
    store.put(entry, stamp)
}

fn benches(c: &mut Criterion) {
    let fields: OwnedFields = [
        ("host", "www.example.com"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64)"),
        ("accept", "text/html,application/xhtml+xml"),
        ("accept-encoding", "gzip, deflate, br"),
    ]
    .into_iter()
    .collect();
    let settings = Settings::default();
    let store = Store::default();
    store.resize(256 << 20);
    let paths: Vec<String> = (0..10_000).map(|n| format!("/catalogue/item/{n}")).collect();
    for path in &paths {
        put(&store, &entry(&fields, path));
    }
    let (mut key, mut n) = (Key::default(), 0);
    c.bench_function("cache/hit", |b| {
        b.iter(|| {
            n = (n + 7919) % paths.len();
            let request = request(&fields, &paths[n]);
            let ask = Ask::of(&settings, &request).unwrap();
            key.set(&settings.key, &request, "r");
            let look = store.look(&key).unwrap();
            let entry = look.entries(&key).next_back().map(Arc::clone).unwrap();
            entry.touch();
            black_box((judge(&entry.meta(), &ask, Tick::ZERO), entry))
        });
    });
    let full = Store::default();
    full.resize(8 << 20);
    let mut next = 0_u64;
    c.bench_function("cache/put_10k_evicting", |b| {
        b.iter_batched(
            || {
                next += 1;
                entry(&fields, &format!("/{next}"))
            },
            |entry| put(&full, &entry),
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(all, benches);
criterion_main!(all);
