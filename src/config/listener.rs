//! `[[listener]]`: where connections are accepted, and what is done when no rule matches.
//!
//! That an address is bound only once is noted here for `check`. Called by `read`.

use crate::config::check::Seen;
use crate::config::hsts;
use crate::config::item::{Item, Table};
use crate::config::keys::{ACTION, LISTENER, LISTENER_TIMEOUTS};
use crate::config::relayed;
use crate::config::sections;
use crate::config::{Action, Listener, Protocol, Respond, Steer, syntax};
use crate::config::{action, listener_tls, policy, traffic};
use crate::http::desync::Mode;
use crate::http::proxy_protocol::Versions;
use crate::transform::Scope;
use std::net::SocketAddr;

/// The length of an accept queue where the file gives none.
const BACKLOG: u64 = 4096;

/// One listener; `item.path` is `listener.NAME`.
pub(super) fn listener(item: &Item<'_>, seen: &mut Seen) -> Option<Listener> {
    let table = item.table(LISTENER)?;
    let name = table.need("name", syntax::NAME).and_then(|item| {
        let name = item.parsed(syntax::NAME, syntax::name)?;
        seen.listener(&name, &item);
        Some(name)
    });
    let protocols = [
        ("http", Protocol::Http),
        ("https", Protocol::Https),
        ("tcp", Protocol::Tcp),
        ("tls", Protocol::Tls),
    ];
    let protocol = table.item("protocol").and_then(|item| item.choice(&protocols));
    let protocol = protocol.unwrap_or_default();
    relayed::listener(&table, protocol);
    let secure = protocol == Protocol::Https;
    let steer = table
        .item("steer")
        .and_then(|item| item.choice(&[("off", Steer::Off), ("cpu", Steer::Cpu)]));
    let modes =
        [("strict", Mode::Strict), ("defensive", Mode::Defensive), ("monitor", Mode::Monitor)];
    let desync = table.item("desync").and_then(|item| item.choice(&modes));
    let versions = [
        ("off", None),
        ("v1", Some(Versions::V1)),
        ("v2", Some(Versions::V2)),
        ("any", Some(Versions::Any)),
    ];
    let proxy_protocol = table.item("proxy_protocol").and_then(|item| item.choice(&versions));
    let backlog = table.item("backlog").and_then(|item| item.integer(1..=65_535));
    Some(Listener {
        name: name.unwrap_or_default(),
        bind: bind(&table, seen),
        protocol,
        default: table.item("default").map_or_else(not_found, |item| {
            let table = item.table(ACTION);
            table
                .and_then(|table| action::action(&table, seen, Scope::ANY))
                .unwrap_or_else(not_found)
        }),
        steer: steer.unwrap_or(Steer::Off),
        backlog: u32::try_from(backlog.unwrap_or(BACKLOG)).unwrap_or(u32::MAX),
        proxy_protocol: proxy_protocol.flatten(),
        http2: table.item("http2").and_then(|item| item.boolean()).unwrap_or(true),
        desync: desync.unwrap_or_default(),
        errors: traffic::change::errors(&table),
        hsts: hsts::hsts(&table, secure),
        redirect_https: hsts::redirect_https(&table, secure),
        timeouts: sections::overrides(&table, LISTENER_TIMEOUTS),
        policies: policy::names(&table, seen),
        tls: listener_tls::listener_tls(&table, protocol),
        compress: traffic::compress::of_listener(&table),
        place: item.place(),
    })
}

/// What a listener does when no rule matches and the file names nothing else.
fn not_found() -> Action {
    Action::Respond(Respond { status: 404, ..Respond::default() })
}

fn bind(table: &Table<'_>, seen: &mut Seen) -> Vec<SocketAddr> {
    let Some(item) = table.need("bind", syntax::BIND) else { return Vec::new() };
    let mut addresses = Vec::new();
    for item in item.one_or_more(syntax::BIND) {
        let Some(address) = item.parsed(syntax::BIND, syntax::bind) else { continue };
        seen.bind(address, &item);
        addresses.push(address);
    }
    addresses
}
