//! What rules and groups say about traffic: one file for each thing that may be said, with its keys and its reader.
//!
//! What is read are the settings of the modules that decide (`balance`, `sticky`, `protect`, `transform`, `cache`, `fanout`);
//! what is compiled of them stands in `snapshot::traffic`. Called by `rule`, `group` and `read`.

pub(super) mod aggregate;
pub(super) mod balancing;
pub(in crate::config) mod cache;
pub(super) mod change;
mod change_json;
pub(in crate::config) mod compress;
pub(super) mod mirror;
pub(super) mod protect;
pub(super) mod retry;
pub mod sticky;

use crate::config::check::Seen;
use crate::config::item::Table;
use crate::config::keys::Keys;
use crate::protect::{self as protection, Importance, Retry};
use crate::{cache as storing, fanout, sticky as staying, transform};

/// What a rule says about traffic.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleTraffic {
    /// `sticky`: how clients stay with one group.
    pub sticky: Option<staying::GroupSettings>,
    /// `canary`: which requests try another group.
    pub canary: Option<staying::CanarySettings>,
    /// `retry`; left out, the group's.
    pub retry: Option<Retry>,
    /// `importance`
    pub importance: Importance,
    /// `request`: what is changed before a target gets it.
    pub request: Option<transform::RequestSettings>,
    /// `response` and `errors`: what is changed before a client gets it.
    pub response: Option<transform::ResponseSettings>,
    /// `compress`
    pub compress: transform::compress::Choice,
    /// `bandwidth`
    pub bandwidth: Option<transform::bandwidth::Settings>,
    /// `mirror`
    pub mirror: Option<fanout::MirrorSettings>,
    /// `inject`
    pub inject: Option<fanout::InjectSettings>,
    /// `cache`
    pub cache: Option<storing::Settings>,
}

/// What a group says about traffic.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupTraffic {
    /// `slow_start`, `zones`, and the bound of `hash`.
    pub balance: crate::balance::Settings,
    /// `sticky`: how clients stay with one target.
    pub sticky: Option<staying::TargetSettings>,
    /// `outlier`
    pub outlier: Option<protection::OutlierSettings>,
    /// `breaker`
    pub breaker: Option<protection::BreakerSettings>,
    /// `bounds`
    pub bounds: Option<protection::BoundSettings>,
    /// `retry`
    pub retry: Option<Retry>,
}

/// The tables of all of it, with their keys.
pub(super) fn tables() -> impl Iterator<Item = &'static (&'static str, Keys)> {
    [
        aggregate::TABLES,
        balancing::TABLES,
        cache::TABLES,
        change::TABLES,
        compress::TABLES,
        mirror::TABLES,
        protect::TABLES,
        retry::TABLES,
        sticky::TABLES,
    ]
    .into_iter()
    .flatten()
}

/// Of a rule.
pub(super) fn of_rule(table: &Table<'_>, seen: &mut Seen) -> RuleTraffic {
    let traffic = RuleTraffic {
        sticky: sticky::of_rule(table),
        canary: sticky::canary(table, seen),
        retry: retry::read(table),
        importance: protect::importance(table),
        request: change::request(table),
        response: change::response(table),
        compress: compress::of_rule(table),
        bandwidth: compress::bandwidth(table),
        mirror: mirror::mirror(table, seen),
        inject: mirror::inject(table),
        cache: cache::rule(table),
    };
    cache::tell_apart(table, traffic.cache.as_ref(), traffic.request.as_ref());
    traffic
}

/// Of a group.
pub(super) fn of_group(table: &Table<'_>, _seen: &mut Seen) -> GroupTraffic {
    GroupTraffic {
        balance: balancing::settings(table),
        sticky: sticky::of_group(table),
        outlier: protect::outlier(table),
        breaker: protect::breaker(table),
        bounds: protect::bounds(table),
        retry: retry::read(table),
    }
}
