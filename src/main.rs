//! The `ringgate` binary: arguments in, exit code out.

use clap::{Parser, Subcommand, ValueEnum};
use ringgate::control;
use ringgate::control::explain::{self, Asked};
use ringgate::control::usage::{self, Query, Shape};
use std::net::IpAddr;
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
    /// Say what would be done with a request, and why: listener, certificate, rules, policies, target, what is sent.
    Explain {
        /// A method and an absolute URL, as 'GET https://a.example/x'; GET where only a URL is given.
        request: String,
        /// A field of its head, as 'name: value'.
        #[arg(short = 'H', long = "header", value_name = "FIELD", value_parser = field)]
        headers: Vec<(String, String)>,
        /// The listener it arrives on [default: the one that binds the URL's port and speaks its scheme, or the first that does].
        #[arg(long, value_name = "NAME")]
        listener: Option<String>,
        /// The address of who sends it [default: 192.0.2.1].
        #[arg(long, value_name = "ADDRESS")]
        source: Option<IpAddr>,
        /// Ask the process that runs, over the [admin] of the configuration: states of targets and fills of limits are its own.
        #[arg(long)]
        running: bool,
        /// For tools.
        #[arg(long)]
        json: bool,
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
    /// Make API keys, or the hashes that files hold of them.
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// Print what consumers have used, from the usage ledger; while ringgate runs, too.
    Usage {
        /// The configuration, which names the ledger, plans and limits [default: as for run].
        #[arg(short, long, value_name = "FILE", conflicts_with = "ledger")]
        config: Option<PathBuf>,
        /// The ledger's folder, without a configuration.
        #[arg(long, value_name = "PATH")]
        ledger: Option<PathBuf>,
        /// How it is printed.
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
        /// This consumer alone.
        #[arg(long, value_name = "NAME")]
        consumer: Option<String>,
        /// current, all, or how the period's first day begins, as 2026-11 or 2026-11-21.
        #[arg(long, value_name = "PERIOD", default_value = "current", value_parser = period)]
        period: String,
    },
}

#[derive(Subcommand)]
enum KeyCommand {
    /// Print a new key, once, and the lines for the file of consumers, which hold its hash.
    New {
        /// The consumer's name.
        #[arg(long, value_name = "NAME", default_value = "NAME")]
        consumer: String,
        /// The consumer's plan.
        #[arg(long, value_name = "PLAN")]
        plan: Option<String>,
    },
    /// Print the hash of a key that there is already, read from standard input.
    Hash,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Table,
    Json,
    Csv,
}

const DEFAULTS: [&str; 2] = ["config/ringgate.toml", "/etc/ringgate/ringgate.toml"];

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run { config } => with_file(config, control::run),
        Command::Check { config } => with_file(config, control::check),
        Command::Explain { request, headers, listener, source, running, json, config } => {
            let request = if request.contains(' ') { request } else { format!("GET {request}") };
            let asked = Asked { request, headers, listener, source };
            let Some(config) = config.or_else(default_file) else { return no_file() };
            explain::explain(&explain::Query { config, asked, running, json })
        }
        Command::Demo { port, admin_port, stop_after } => {
            control::demo(port, admin_port, stop_after)
        }
        Command::Key { command: KeyCommand::New { consumer, plan } } => {
            usage::new_key(&consumer, plan.as_deref())
        }
        Command::Key { command: KeyCommand::Hash } => usage::hash_key(),
        Command::Usage { config, ledger, format, consumer, period } => {
            let shape = match format {
                Format::Table => Shape::Table,
                Format::Json => Shape::Json,
                Format::Csv => Shape::Csv,
            };
            let config = config.or_else(|| default_file().filter(|_| ledger.is_none()));
            usage::usage(&Query { config, ledger, shape, consumer, period })
        }
    }
}

fn with_file(given: Option<PathBuf>, run: fn(&Path) -> ExitCode) -> ExitCode {
    match given.or_else(default_file) {
        Some(path) => run(&path),
        None => no_file(),
    }
}

fn no_file() -> ExitCode {
    eprintln!(
        "no configuration: neither {} nor {} exists; name one with -c FILE",
        DEFAULTS[0], DEFAULTS[1]
    );
    ExitCode::from(control::EXIT_WRONG)
}

fn field(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("expected a field as 'name: value'")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

fn default_file() -> Option<PathBuf> {
    DEFAULTS.iter().map(PathBuf::from).find(|path| path.exists())
}

fn period(text: &str) -> Result<String, String> {
    let begins = text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_digit() || c == '-');
    match text {
        "current" | "all" => Ok(text.to_owned()),
        _ if begins && text.len() <= 10 => Ok(text.to_owned()),
        _ => Err("expected current, all, or the beginning of a date, as 2026-11".to_owned()),
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
