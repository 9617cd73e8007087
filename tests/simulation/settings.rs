//! The configurations that a run is made of, small limits and short waits in all of them.

use ringgate::config::{self, Config};
use ringgate::net::buf::SMALL;
use std::sync::OnceLock;

/// Configurations to begin with and to reload to.
pub const VARIANTS: usize = 8;

const ALGORITHMS: [&str; 6] = ["round_robin", "least_requests", "random", "p2c", "ip_hash", "hash"];

/// The targets of a run: each is an address; which groups have it depends on the variant.
pub const TARGETS: usize = 6;

/// Client connections that there may be.
pub const CONNECTIONS: u64 = 40;

/// The budget of memory, in small blocks.
pub fn blocks(config: &Config) -> u64 {
    config.limits.memory.map_or(0, |octets| octets / SMALL as u64)
}

pub fn address(target: usize) -> String {
    format!("127.0.0.1:{}", 9001 + target)
}

pub fn target_at(address_of_it: &str) -> usize {
    (0..TARGETS).find(|target| address(*target) == address_of_it).unwrap()
}

/// A parsed configuration; each is parsed once.
pub fn variant(n: usize) -> &'static Config {
    static PARSED: [OnceLock<Config>; VARIANTS] = [const { OnceLock::new() }; VARIANTS];
    PARSED[n].get_or_init(|| {
        config::parse(&text(n), "simulation.toml", &|_| None).expect("a valid configuration")
    })
}

fn text(n: usize) -> String {
    let requests = ["\"none\"", "\"none\"", "3", "\"none\""][n % 4];
    let in_flight = [40, 40, 40, 3][n % 4];
    let pipeline = [1000, 4][n % 2];
    let (alpha, beta) = match n % 4 {
        0 => ("0 1 2", "2 3"),
        1 => ("0 1", "1 2 3 4"),
        2 => ("0 3 5", "4 5"),
        _ => ("1 2 3 4 5", "0 5"),
    };
    let algorithm = |turn: usize| match ALGORITHMS[(n + turn) % ALGORITHMS.len()] {
        "hash" => "algorithm = \"hash\"\nhash = { header = \"x-user\" }".to_owned(),
        name => format!("algorithm = \"{name}\""),
    };
    let list = |targets: &str| {
        let each = targets.split(' ').enumerate().map(|(at, t)| {
            let weight = 1 + (at + n) % 3;
            let address = address(t.parse().unwrap());
            format!("{{ address = \"{address}\", weight = {weight} }}")
        });
        each.collect::<Vec<_>>().join(", ")
    };
    let limits = "head = \"4KiB\"\nheaders = 24\nline = \"1KiB\"\nbody = \"64KiB\"\nresponse_head = \"4KiB\"";
    let waits = "header = \"400ms\"\nbody = \"300ms\"\nkeep_alive = \"700ms\"\nconnect = \"200ms\"\n\
                 response = \"500ms\"";
    let rule = |name: &str, path: &str, then: &str| {
        format!("[[rule]]\nname = \"{name}\"\n{then}\n[rule.when]\npath = [\"{path}\"]\n")
    };
    let split = "forward = [{ group = \"beta\", weight = 2 }, { group = \"alpha\", weight = 1 }]";
    let group = |name: &str, targets: &str, turn: usize| {
        let retries = (n + turn) % 4;
        let max_idle = [8, 2, 0, 1][(n + turn) % 4];
        let fail_open = n % 3 != 1;
        let drain = ["200ms", "5s"][(n + turn) % 2];
        format!(
            "[group.{name}]\ntargets = [{}]\n{}\nretries = {retries}\nfail_open = {fail_open}\n\
             drain = \"{drain}\"\nhealth = {{ type = \"off\" }}\n\
             pool = {{ max_idle = {max_idle}, idle_timeout = \"400ms\" }}\n",
            list(targets),
            algorithm(turn),
        )
    };
    let mut rules = [
        rule("a", "/a/*", "forward = \"alpha\""),
        rule("b", "/b/*", split),
        rule(
            "c",
            "/c/*",
            "forward = \"gamma\"\ntimeouts = { response = \"250ms\" }\nlimits = { body = \"4KiB\" }",
        ),
        rule("void", "/void/*", "forward = \"nobody\""),
        rule("moved", "/moved/*", "redirect = { port = 8443, scheme = \"https\", status = 307 }"),
        rule("fixed", "/fixed/*", "respond = { status = 200, body = \"fixed\" }"),
    ];
    if n % 2 == 1 {
        rules.reverse();
    }
    format!(
        "[server]\nworkers = 1\n[timeouts]\n{waits}\n[limits]\n{limits}\nrequests = {requests}\n\
         in_flight = {in_flight}\npipeline = {pipeline}\nmemory = \"1MiB\"\n\
         [[listener]]\nname = \"web\"\nbind = [\"127.0.0.1:8080\"]\n{}{}{}{}[group.nobody]\ntargets = []\n",
        rules.concat(),
        group("alpha", alpha, 0),
        group("beta", beta, 1),
        group("gamma", "3 4", 2),
    )
}
