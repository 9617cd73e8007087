//! The tables of the whole program: `[server]`, `[timeouts]`, `[limits]`, `[admin]`, `[log]`; and `timeouts = { ... }`
//! of a listener, rule or group.
//!
//! They are read in place, over what is there already, because a table may be spread over several files. Called by
//! `read`, and by the readers of listeners, rules and groups.

use crate::config::http2;
use crate::config::item::{Item, Table, set};
use crate::config::keys::{HTTP2_LIMITS, Keys, TIMEOUTS, where_timeout_belongs};
use crate::config::problem::{Wrong, did_you_mean};
use crate::config::secrets::secrets;
use crate::config::{AccessLog, Admin, Driver, Limits, Log, Server, TimeoutOverrides, Timeouts};
use crate::config::{Account, Sandbox};
use crate::config::{Place, syntax};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// The longest duration of any kind.
pub(super) const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
/// A wait that may also be no wait at all.
pub(super) const DRAIN: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(24 * 3600);
/// A wait for a peer: waiting for no time at all would refuse everything.
pub(super) const WAIT: RangeInclusive<Duration> = Duration::from_millis(1)..=LONGEST;
/// A request body.
pub(super) const BODY: RangeInclusive<u64> = 0..=u64::MAX >> 1;

/// `[server]`
pub(super) fn server(table: &Table<'_>, server: &mut Server) {
    set(&mut server.workers, table.item("workers").and_then(|item| workers(&item)));
    set(&mut server.pin, table.item("pin").and_then(|item| item.boolean()));
    set(&mut server.hand_over, table.item("hand_over").and_then(|item| item.boolean()));
    let drivers = [("auto", Driver::Auto), ("io_uring", Driver::IoUring), ("epoll", Driver::Epoll)];
    set(&mut server.driver, table.item("driver").and_then(|item| item.choice(&drivers)));
    set(&mut server.drain, table.item("drain").and_then(|item| item.duration(DRAIN)));
    let connections = table.item("max_connections");
    set(&mut server.max_connections, connections.and_then(|item| item.integer(1..=10_000_000)));
    if let Some(item) = table.item("trusted_proxies") {
        let items = if item.is_array() { item.array("") } else { vec![item] };
        server.trusted_proxies =
            items.iter().filter_map(|item| item.parsed(syntax::NETWORK, syntax::network)).collect();
    }
    let via = table.item("via").and_then(|item| {
        item.parsed("a token (RFC 9110 section 5.6.2), as it stands in Via", |text| {
            if syntax::is_token(text) { Ok(text.to_owned()) } else { Wrong::plain() }
        })
    });
    set(&mut server.via, via);
    set(&mut server.forwarded, table.item("forwarded").and_then(|item| item.boolean()));
    set(&mut server.paths.merge_slashes, table.item("merge_slashes").and_then(|i| i.boolean()));
    let separators = table.item("encoded_separators");
    let separators = separators.and_then(|item| item.choice(&[("refuse", false), ("keep", true)]));
    set(&mut server.paths.keep_separators, separators);
    set(&mut server.secrets, table.item("secrets").and_then(|item| secrets(&item)));
    set(&mut server.user, table.item("user").map(|item| account(&item)));
    set(&mut server.group, table.item("group").map(|item| account(&item)));
    let sandbox = [("auto", Sandbox::Auto), ("on", Sandbox::On), ("off", Sandbox::Off)];
    set(&mut server.sandbox, table.item("sandbox").and_then(|item| item.choice(&sandbox)));
    let watch = table.item("watch_certificates").and_then(|item| item.boolean());
    set(&mut server.watch_certificates, watch);
    let zone = table.item("zone").and_then(|item| {
        item.parsed(syntax::NAME, |text| match text {
            // An environment variable that is not set.
            "" => Ok(None),
            name => syntax::name(name).map(Some),
        })
    });
    set(&mut server.zone, zone);
}

fn account(item: &Item<'_>) -> Option<Account> {
    let name = item.parsed("a name or number of this system's accounts", |text| {
        let fits = |c: char| c.is_ascii_graphic() && !matches!(c, ':' | '/' | ',');
        let wrong = text.is_empty() || text.len() > 255 || !text.chars().all(fits);
        if wrong { Wrong::plain() } else { Ok(text.to_owned()) }
    })?;
    Some(Account { name, place: item.place() })
}

fn workers(item: &Item<'_>) -> Option<Option<usize>> {
    const KIND: &str = "\"auto\" or a whole number from 1 to 1024";
    if item.is_integer() {
        let count = item.integer_or(KIND, 1..=1024)?;
        return Some(usize::try_from(count).ok());
    }
    item.parsed(KIND, |text| match (text, text.trim().parse()) {
        ("auto", _) => Ok(None),
        (_, Ok(count)) if (1..=1024).contains(&count) => Ok(Some(count)),
        _ => Err(Wrong { expected: String::new(), hint: did_you_mean(text, ["auto"]) }),
    })
}

/// `[timeouts]`
pub(super) fn timeouts(table: &Table<'_>, timeouts: &mut Timeouts) {
    let wait = |key: &str| table.item(key).and_then(|item| item.duration(WAIT));
    set(&mut timeouts.handshake, wait("handshake"));
    set(&mut timeouts.header, wait("header"));
    set(&mut timeouts.body, wait("body"));
    set(&mut timeouts.keep_alive, wait("keep_alive"));
    set(&mut timeouts.connect, wait("connect"));
    set(&mut timeouts.response, wait("response"));
    set(&mut timeouts.idle, wait("idle"));
}

/// `timeouts = { ... }` with the keys that its owner may set.
pub(super) fn overrides(owner: &Table<'_>, keys: Keys) -> TimeoutOverrides {
    let table =
        owner.item("timeouts").and_then(|item| item.table_hinting(keys, where_timeout_belongs));
    let Some(table) = table else { return TimeoutOverrides::default() };
    debug_assert!(keys.iter().all(|key| TIMEOUTS.contains(key) || *key == "total"));
    let wait = |key: &str| {
        if !keys.contains(&key) {
            return None;
        }
        table.item(key)?.duration(WAIT)
    };
    TimeoutOverrides {
        handshake: wait("handshake"),
        header: wait("header"),
        body: wait("body"),
        keep_alive: wait("keep_alive"),
        connect: wait("connect"),
        response: wait("response"),
        idle: wait("idle"),
        total: wait("total"),
    }
}

/// `[limits]`; that `line` fits into `head` is checked when all files are read.
pub(super) fn limits(table: &Table<'_>, limits: &mut Limits) {
    const HEAD: RangeInclusive<u64> = 1 << 10..=1 << 20;
    let head = |key: &str| table.item(key).and_then(|item| item.size(HEAD));
    set(&mut limits.head, head("head"));
    set(&mut limits.response_head, head("response_head"));
    let headers = table.item("headers").and_then(|item| item.integer(1..=1000));
    set(&mut limits.headers, headers.and_then(|count| usize::try_from(count).ok()));
    set(&mut limits.line, table.item("line").and_then(|item| item.size(64..=1 << 20)));
    set(&mut limits.body, table.item("body").and_then(|item| item.size_or_none(BODY)));
    set(&mut limits.requests, table.item("requests").and_then(|item| count_or_none(&item)));
    let pipeline = table.item("pipeline").and_then(|item| item.integer(1..=1_000_000));
    set(&mut limits.pipeline, pipeline);
    let clients = table.item("client_connections").and_then(|item| count_or_none(&item));
    set(
        &mut limits.client_connections,
        clients.map(|n| n.map(|n| u32::try_from(n).unwrap_or(u32::MAX))),
    );
    let in_flight = table.item("in_flight").and_then(|item| item.integer(1..=10_000_000));
    set(&mut limits.in_flight, in_flight);
    set(&mut limits.tunnels, table.item("tunnels").and_then(|item| item.integer(1..=10_000_000)));
    let handshakes = table.item("handshakes").and_then(|item| item.integer(1..=1_000_000));
    set(&mut limits.handshakes, handshakes.and_then(|n| usize::try_from(n).ok()));
    const MEMORY: RangeInclusive<u64> = 1 << 20..=1 << 40;
    set(&mut limits.memory, table.item("memory").and_then(|item| item.size_or_none(MEMORY)));
    const RATE: RangeInclusive<u64> = 1..=1 << 30;
    set(&mut limits.min_rate, table.item("min_rate").and_then(|item| item.size_or_none(RATE)));
    if let Some(table) = table.item("http2").and_then(|item| item.table(HTTP2_LIMITS)) {
        http2::limits(&table, &mut limits.http2);
    }
}

pub(super) fn count_or_none(item: &Item<'_>) -> Option<Option<u64>> {
    const KIND: &str = "\"none\" or a whole number from 1 to 1000000000";
    match item.peek_text() {
        Some("none") => Some(None),
        _ => item.integer_or(KIND, 1..=1_000_000_000).map(Some),
    }
}

/// `[admin]`: there is an admin listener as soon as there is the table.
pub(super) fn admin(table: &Table<'_>, admin: &mut Option<Admin>) {
    const DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9901);
    let place: Place = table.place();
    let admin = admin.get_or_insert(Admin { bind: DEFAULT, place });
    let Some(item) = table.item("bind") else { return };
    admin.place = item.place();
    set(&mut admin.bind, item.parsed(syntax::BIND, syntax::bind));
}

/// `[log]`; what a template may say is known to the writer of access records.
pub(super) fn log(table: &Table<'_>, log: &mut Log) {
    const ACCESS: &str = "\"stdout\", \"off\" or a path with a \"/\"";
    let access = table.item("access").and_then(|item| {
        item.parsed(ACCESS, |text| match text {
            "off" => Ok(AccessLog::Off),
            "stdout" => Ok(AccessLog::Stdout),
            path if path.contains('/') && !path.contains('\0') => {
                Ok(AccessLog::File(PathBuf::from(path)))
            }
            word => {
                let near = did_you_mean(word, ["off", "stdout"]);
                let hint = near.or_else(|| Some(format!("a file here is \"./{word}\"")));
                Err(Wrong { expected: String::new(), hint })
            }
        })
    });
    set(&mut log.access, access);
    let Some(item) = table.item("format") else { return };
    log.place = item.place();
    let format = item.parsed("json, combined, alb or a template on one line", |text| {
        if text.trim().is_empty() || text.chars().any(char::is_control) {
            return Wrong::plain();
        }
        Ok(text.to_owned())
    });
    set(&mut log.format, format);
}
