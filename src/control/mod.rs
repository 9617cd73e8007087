//! The ordinary thread beside the workers: start, signals, reload, probes, names, admin.
//!
//! It runs tokio and well-kept libraries, owns the listening sockets, and tells workers what to do through their mailboxes.
//! [`service`] is the loop; each other file is one concern.

pub mod acme;
pub mod answers;
pub mod check;
pub mod crew;
pub mod demo;
pub mod descriptors;
pub mod expect;
pub mod expiry;
pub mod explain;
pub mod fresh;
pub mod guards;
pub mod jwks;
pub mod ledger;
pub mod listener_tls;
pub mod notify;
pub mod pages;
mod policies;
pub mod probe;
pub mod protect;
pub mod rehearsal;
pub mod report;
pub mod resolve;
pub mod rights;
pub mod service;
pub mod sockets;
pub mod source;
pub mod storing;
pub mod target_tls;
pub mod usage;
pub mod watch;
pub mod watchdog;

use crate::config;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Wrong usage or wrong configuration.
pub const EXIT_WRONG: u8 = 2;
/// Failure at run time.
pub const EXIT_FAILED: u8 = 1;

/// `ringgate run`: serves by `path` until told to stop.
pub fn run(path: &Path) -> ExitCode {
    let checked = check::check(path);
    if !checked.problems.0.is_empty() {
        eprintln!("{}", checked.problems);
        return ExitCode::from(EXIT_WRONG);
    }
    // Before the error log's thread, the first of all.
    let rights = match rights::take(&checked.config, Some(path)) {
        Ok(rights) => rights,
        Err(refused) => return refuse(&refused),
    };
    let guard = report::init_tracing();
    for warning in checked.warnings.iter().chain(&checked.expired) {
        tracing::warn!("{warning}");
    }
    rights.report();
    let from = service::From::File(path.to_owned());
    let code = on_runtime(service::serve(from, checked, None, rights));
    drop(guard);
    code
}

/// `ringgate check`: says everything that is wrong with `path`.
pub fn check(path: &Path) -> ExitCode {
    let checked = check::check(path);
    // Accounts are a matter of the machine: another one than this may serve by the file.
    let account = rights::user::find(&checked.config.server);
    let storage = account.as_ref().map(|a| rights::storage::problems(&checked.config, a.as_ref()));
    for warning in
        checked.warnings.iter().chain(account.as_ref().err()).chain(storage.iter().flatten())
    {
        eprintln!("warning: {warning}");
    }
    // What runs goes on with an expired certificate; a file is not fine with one.
    let mut problems = checked.problems;
    problems.0.extend(checked.expired);
    if !problems.0.is_empty() {
        eprintln!("{problems}");
        return ExitCode::from(EXIT_WRONG);
    }
    let config = &checked.config;
    println!(
        "{}: fine: {} listener(s), {} rule(s), {} group(s), {} policies, {} expectation(s) met",
        path.display(),
        config.listeners.len(),
        config.rules.len(),
        config.groups.len(),
        config.policies.len(),
        config.expects.len(),
    );
    ExitCode::SUCCESS
}

/// `ringgate demo`: three back ends inside the process, balanced over, until `stop_after` or a signal.
pub fn demo(port: u16, admin_port: u16, stop_after: Option<Duration>) -> ExitCode {
    let mut config = config::Config::default();
    // As many as a demonstration needs: no reason to warn of a low limit of descriptors.
    config.server.max_connections = 100;
    let rights = match rights::take(&config, None) {
        Ok(rights) => rights,
        Err(refused) => return refuse(&refused),
    };
    let guard = report::init_tracing();
    rights.report();
    let code = on_runtime(async move {
        let backends = match demo::start_backends().await {
            Ok(backends) => backends,
            Err(error) => {
                eprintln!("the demo's back ends cannot start: {error}");
                return EXIT_FAILED;
            }
        };
        let text = demo::config(&backends, port, admin_port);
        let checked = check::check_text(&text, "demo.toml");
        if !checked.problems.0.is_empty() {
            eprintln!("{}", checked.problems);
            return EXIT_FAILED;
        }
        let hints = demo::hints(port, admin_port);
        let from = service::From::Demo { hints, stop_after };
        service::serve(from, checked, stop_after, rights).await
    });
    drop(guard);
    code
}

fn refuse(refused: &rights::Refused) -> ExitCode {
    eprintln!("{refused}");
    ExitCode::from(match refused {
        rights::Refused::Wrong(_) => EXIT_WRONG,
        rights::Refused::Failed(_) => EXIT_FAILED,
    })
}

fn on_runtime(main: impl Future<Output = u8>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => ExitCode::from(runtime.block_on(main)),
        Err(error) => {
            eprintln!("the control thread cannot start: {error}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}
