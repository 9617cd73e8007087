//! Certificates by ACME against `pebble`, Let's Encrypt's small server for tests, with a name server of its own.
//!
//! Both challenges, renewal ahead of time, a restart without an order, an authority that is away. Both programs are in
//! Debian's package `pebble`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

#[path = "acme/authority.rs"]
mod authority;
mod support;

use authority::Authority;
use std::net::SocketAddr;
use support::{Client, Ringgate, eventually, free_address, get};

/// A plain listener that sends everybody to https, as is usual beside ACME.
fn plain(listen: SocketAddr) -> String {
    format!(
        "[[listener]]\nname = \"plain\"\nbind = [\"{listen}\"]\n\
         default = {{ redirect = {{ scheme = \"https\", status = 301 }} }}\n"
    )
}

fn with_acme(listener: &str, acme: &str) -> String {
    format!("{listener}tls = {{ acme = {acme} }}\n")
}

#[test]
fn try_it() {
    let (http, tls) = (free_address(), free_address());
    let authority = Authority::start(http, tls, 3600);
    let storage = tempfile::tempdir().unwrap();
    let config =
        with_acme(&plain(http), "['a.test', 'b.test']") + &authority.table(storage.path(), "");
    let ringgate = Ringgate::start(&config);
    for name in ["a.test", "b.test"] {
        let series = format!("ringgate_acme_attempts_total{{name=\"{name}\",result=\"ok\"}}");
        eventually(&format!("a certificate for {name}"), || ringgate.metric(&series) == Some(1.0));
    }
    println!("{}", ringgate.output());
    for f in storage.path().read_dir().unwrap() {
        println!("{:?}", f);
    }
    println!(
        "{}",
        ringgate.metrics().lines().filter(|l| l.contains("acme")).collect::<Vec<_>>().join("\n")
    );
    assert_eq!(authority.signed(), 2);
    assert_eq!(get(http, "/x").status(), 301);
    assert_eq!(get(http, "/.well-known/acme-challenge/unknown").status(), 301);
    let _ = Client::connect(http);
}
