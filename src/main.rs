//! The `ringgate` binary: arguments in, exit code out.

use clap::{Parser, Subcommand};
use ringgate::control;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

#[derive(Parser)]
#[command(
    name = "ringgate",
    version,
    about = "An edge load balancer for Linux: one binary, one file, one worker per core",
    after_help = "Exit codes: 0 fine, 1 failure at run time, 2 wrong usage or configuration.\n\
                  Signals: HUP reload, TERM or QUIT drain and stop, INT stop, USR1 reopen logs.\n\
                  Environment: RINGGATE_LOG sets the level of the error log (error, warn, info, debug)."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until told to stop.
    Run {
        /// The configuration [default: config/ringgate.toml, then /etc/ringgate/ringgate.toml].
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Say everything that is wrong with a configuration, and change nothing.
    Check {
        /// The configuration [default: as for run].
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Start three back ends inside this process, balance over them, and print what to try.
    Demo {
        /// The port to serve on.
        #[arg(long, default_value_t = 8080)]
        port: u16,
        /// The port for metrics and health.
        #[arg(long, default_value_t = 9901)]
        admin_port: u16,
        /// Stop by itself after this long, as 10s or 5m.
        #[arg(long = "for", value_name = "TIME", value_parser = duration)]
        stop_after: Option<Duration>,
    },
}

const DEFAULTS: [&str; 2] = ["config/ringgate.toml", "/etc/ringgate/ringgate.toml"];

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run { config } => with_file(config, control::run),
        Command::Check { config } => with_file(config, control::check),
        Command::Demo { port, admin_port, stop_after } => {
            control::demo(port, admin_port, stop_after)
        }
    }
}

fn with_file(given: Option<PathBuf>, run: fn(&Path) -> ExitCode) -> ExitCode {
    let found = given.or_else(|| DEFAULTS.iter().map(PathBuf::from).find(|p| p.exists()));
    match found {
        Some(path) => run(&path),
        None => {
            eprintln!(
                "no configuration: neither {} nor {} exists; name one with -c FILE",
                DEFAULTS[0], DEFAULTS[1]
            );
            ExitCode::from(control::EXIT_WRONG)
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 =
        digits.parse().map_err(|_| "expected a number and a unit, as 10s".to_owned())?;
    match text.get(digits.len()..).unwrap_or_default() {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        "h" => Ok(Duration::from_secs(number.saturating_mul(3600))),
        _ => Err("expected a unit of ms, s, m or h".to_owned()),
    }
}
