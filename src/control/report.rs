//! What the process says about itself: one screen at the start, and the error log.
//!
//! The error log goes to standard error through a thread of its own that drops lines rather than wait, so that
//! a worker can log without blocking. Access records are `observe`'s. Called by control once, at the start.

use crate::config;
use std::fmt::Write;
use std::io::{self, IsTerminal};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// Names the environment variable with the error log's filter, as `info` or `ringgate::health=debug`.
pub const LOG_FILTER: &str = "RINGGATE_LOG";
/// Groups that are shown before "... and N more".
const GROUPS: usize = 10;
/// Listeners and groups that are shown, together.
const ROWS: usize = 14;
/// Addresses of one listener that are shown.
const ADDRESSES: usize = 3;
/// Columns of a name; longer names push the rest to the right.
const NAME_WIDTH: usize = 24;

/// What [`start_screen`] shows.
#[derive(Clone, Debug, Default)]
pub struct StartScreen {
    /// The version of ringgate.
    pub version: &'static str,
    /// The file that was loaded.
    pub config: String,
    /// `io_uring` or `epoll`.
    pub driver: &'static str,
    /// Why another driver than the preferred one runs.
    pub driver_note: Option<String>,
    /// Worker threads.
    pub workers: usize,
    /// Whether each is pinned to its CPU.
    pub pinned: bool,
    /// Name and addresses of each listener.
    pub listeners: Vec<(String, Vec<String>)>,
    /// Rules in the file.
    pub rules: usize,
    /// Each group.
    pub groups: Vec<GroupLine>,
    /// Where the admin endpoints are.
    pub admin: Option<String>,
    /// Where access records go, and their format.
    pub access_log: String,
}

/// Says once, at the start, what a file leaves to chance that it need not.
pub fn note(config: &config::Config) {
    if config::is_sealed_alone(config) {
        tracing::info!(
            "cookies that keep clients where they are are sealed with a key of this process: a restart, or another node, does \
             not know them (set server.secrets)"
        );
    }
}

/// One group on the start screen.
#[derive(Clone, Debug, Default)]
pub struct GroupLine {
    /// Its name.
    pub name: String,
    /// Its targets.
    pub targets: usize,
    /// `round_robin`, ...
    pub algorithm: String,
}

/// The name of an algorithm, as users write it.
pub fn algorithm_name(algorithm: &config::Algorithm) -> &'static str {
    match algorithm {
        config::Algorithm::RoundRobin => "round_robin",
        config::Algorithm::LeastRequests => "least_requests",
        config::Algorithm::LeastTime => "least_time",
        config::Algorithm::Random => "random",
        config::Algorithm::PowerOfTwo => "p2c",
        config::Algorithm::IpHash => "ip_hash",
        config::Algorithm::Hash(_) => "hash",
        config::Algorithm::Maglev(_) => "maglev",
    }
}

/// The screen printed at the start: at most 24 lines, however much is configured.
pub fn start_screen(s: &StartScreen) -> String {
    let mut out = String::new();
    let pin = if s.pinned { "pinned" } else { "not pinned" };
    line(&mut out, format_args!("ringgate {}  {}", s.version, s.config));
    let note = s.driver_note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default();
    line(&mut out, format_args!("  driver     {}{note}", s.driver));
    line(&mut out, format_args!("  workers    {}, {pin}", s.workers));
    line(&mut out, format_args!("  admin      {}", s.admin.as_deref().unwrap_or("off")));
    line(&mut out, format_args!("  access log {}", s.access_log));

    line(&mut out, format_args!("  listeners  {}", s.listeners.len()));
    let groups = s.groups.len().min(GROUPS);
    list(&mut out, &s.listeners, ROWS - groups, |(name, addresses)| {
        format!("{name:NAME_WIDTH$} {}", first(addresses))
    });
    line(
        &mut out,
        format_args!("  groups     {}, behind {}", s.groups.len(), plural(s.rules, "rule")),
    );
    list(&mut out, &s.groups, groups, |group| {
        format!(
            "{:NAME_WIDTH$} {}, {}",
            group.name,
            plural(group.targets, "target"),
            group.algorithm
        )
    });
    out
}

/// Starts the error log: lines on standard error, filtered by [`LOG_FILTER`] (`info` when unset or wrong).
/// Keep the guard until the process ends; dropping it writes what is queued. A second call changes nothing.
pub fn init_tracing() -> WorkerGuard {
    let (writer, guard) =
        NonBlockingBuilder::default().lossy(true).thread_name("error-log").finish(io::stderr());
    let filter = std::env::var(LOG_FILTER).unwrap_or_default();
    let parsed = EnvFilter::try_new(if filter.is_empty() { "info" } else { &filter });
    let wrong = parsed.is_err();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(parsed.unwrap_or_else(|_| EnvFilter::new("info")))
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .with_writer(writer);
    let first = subscriber.try_init().is_ok();
    if first && wrong {
        tracing::warn!("{LOG_FILTER}={filter:?} is not a filter; logging at info");
    }
    guard
}

fn list<T>(out: &mut String, items: &[T], shown: usize, show: impl Fn(&T) -> String) {
    for item in items.iter().take(shown) {
        line(out, format_args!("    {}", show(item)));
    }
    if items.len() > shown {
        line(out, format_args!("    ... and {} more", items.len() - shown));
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = out.write_fmt(text);
    while out.ends_with(' ') {
        out.pop();
    }
    out.push('\n');
}

fn first(addresses: &[String]) -> String {
    let mut text = addresses.iter().take(ADDRESSES).cloned().collect::<Vec<_>>().join(", ");
    if addresses.len() > ADDRESSES {
        let _ = write!(text, ", ... and {} more", addresses.len() - ADDRESSES);
    }
    text
}

fn plural(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screen(listeners: usize, groups: usize) -> StartScreen {
        let addresses = vec!["0.0.0.0:8080".to_owned(), "[::]:8080".to_owned()];
        StartScreen {
            version: "0.1.0",
            config: "config/ringgate.toml".to_owned(),
            driver: "epoll",
            driver_note: Some("io_uring is refused: Operation not permitted".to_owned()),
            workers: 4,
            pinned: true,
            listeners: (0..listeners).map(|n| (format!("web-{n}"), addresses.clone())).collect(),
            rules: 1,
            groups: (0..groups)
                .map(|n| GroupLine {
                    name: format!("group-{n}"),
                    targets: n,
                    algorithm: "round_robin".to_owned(),
                })
                .collect(),
            admin: Some("http://127.0.0.1:9901".to_owned()),
            access_log: "stdout, json".to_owned(),
        }
    }

    #[test]
    fn says_what_runs() {
        assert_eq!(
            start_screen(&screen(1, 2)),
            "ringgate 0.1.0  config/ringgate.toml\n\
             \x20 driver     epoll (io_uring is refused: Operation not permitted)\n\
             \x20 workers    4, pinned\n\
             \x20 admin      http://127.0.0.1:9901\n\
             \x20 access log stdout, json\n\
             \x20 listeners  1\n\
             \x20   web-0                    0.0.0.0:8080, [::]:8080\n\
             \x20 groups     2, behind 1 rule\n\
             \x20   group-0                  0 targets, round_robin\n\
             \x20   group-1                  1 target, round_robin\n"
        );
    }

    #[test]
    fn fits_on_one_screen_whatever_is_configured() {
        for (listeners, groups) in
            [(0, 0), (1, 10), (5, 10), (4, 9), (5, 9), (6, 9), (100, 0), (100, 9), (100, 10_000)]
        {
            let text = start_screen(&screen(listeners, groups));
            let lines = text.lines().count();
            assert!(lines <= 24, "{listeners} listeners, {groups} groups: {lines} lines\n{text}");
        }
        assert!(start_screen(&screen(1, 12)).contains("    ... and 2 more\n"));
    }

    #[test]
    fn the_error_log_can_be_started_twice() {
        let _first = init_tracing();
        let _second = init_tracing();
        tracing::debug!("not shown");
    }
}
