//! `ringgate explain`: the question from the command line, to a file or to the process that runs.
//!
//! The process is asked over its admin listener, which the file names. Called by `main`; [`live`] by the admin listener.

use crate::config::Config;
use crate::control::explain::{Asked, Explanation, build, text};
use crate::control::{EXIT_FAILED, EXIT_WRONG, check};
use crate::snapshot::Snapshot;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// The question.
#[derive(Debug)]
pub struct Query {
    /// The file; it also says where the running process is asked.
    pub config: PathBuf,
    /// What is asked about.
    pub asked: Asked,
    /// Ask the process that runs.
    pub running: bool,
    /// For tools.
    pub json: bool,
}

// For an answer of the running process.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers it on standard output.
pub fn explain(query: &Query) -> ExitCode {
    let checked = check::check(&query.config);
    if !checked.problems.0.is_empty() && !query.running {
        eprintln!("{}", checked.problems);
        return ExitCode::from(EXIT_WRONG);
    }
    let answer =
        if query.running { ask(&checked.config, query) } else { own(&checked.config, query) };
    match answer {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err((code, error)) => {
            eprintln!("{error}");
            ExitCode::from(code)
        }
    }
}

fn own(config: &Config, query: &Query) -> Result<String, (u8, String)> {
    let explanation = build(config, None, &query.asked).map_err(|error| (EXIT_WRONG, error))?;
    Ok(shown(&explanation, query.json))
}

fn shown(explanation: &Explanation, json: bool) -> String {
    if !json {
        return text::text(explanation);
    }
    let mut text = serde_json::to_string_pretty(explanation).unwrap_or_default();
    text.push('\n');
    text
}

fn ask(config: &Config, query: &Query) -> Result<String, (u8, String)> {
    let Some(admin) = &config.admin else {
        let found = "the file has no [admin], over which the process could be asked";
        return Err((EXIT_WRONG, found.to_owned()));
    };
    let format = if query.json { "json" } else { "text" };
    let url = format!("http://{}/explain?format={format}", admin.bind);
    let failed = |error: &dyn std::fmt::Display| {
        (EXIT_FAILED, format!("the process at {} does not answer: {error}", admin.bind))
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed(&error))?;
    let answer = runtime.block_on(async {
        let client = client()?;
        let answer = client.post(&url).json(&query.asked).send().await?;
        let status = answer.status();
        answer.text().await.map(|text| (status, text))
    });
    match answer {
        Ok((status, text)) if status.is_success() => Ok(text),
        Ok((_, text)) => Err((EXIT_WRONG, text.trim_end().to_owned())),
        Err(error) => Err(failed(&error)),
    }
}

// The admin listener speaks no TLS; what builds a client wants it named all the same.
fn client() -> reqwest::Result<reqwest::Client> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map(|tls| {
            tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth()
        });
    let builder = reqwest::Client::builder().timeout(PATIENCE).no_proxy();
    match tls {
        Ok(tls) => builder.tls_backend_preconfigured(tls).build(),
        Err(_) => builder.build(),
    }
}

/// The answer of the running process; `question` is JSON.
///
/// # Errors
/// What is wrong with the question.
pub fn live(
    config: &Config,
    running: &Snapshot,
    question: &[u8],
    json: bool,
) -> Result<String, String> {
    let asked: Asked = serde_json::from_slice(question).map_err(|error| {
        format!("a question is JSON as {{\"request\": \"GET https://a.example/x\"}}: {error}")
    })?;
    build(config, Some(running), &asked).map(|explanation| shown(&explanation, json))
}
