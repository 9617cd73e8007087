//! `ringgate usage`: what consumers have used, printed from the ledger; and `ringgate key`: a new key, or the hash of one.
//!
//! The ledger is read as it is on disk, while ringgate runs or not; what was counted since its last flush is not in it. With a
//! configuration limits, plans and labels are printed, too. Called by `main`.

use crate::config::{self, Config};
use crate::control::ledger::record::Key;
use crate::control::ledger::store::{self, Count};
use crate::control::source::unix_now;
use crate::control::{EXIT_FAILED, EXIT_WRONG, fresh};
use crate::policy::Settings;
use crate::policy::api_key::period::{DAY, civil};
use crate::policy::api_key::{consumers, directory, secret};
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// How usage is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Columns for people.
    Table,
    /// An array of objects.
    Json,
    /// RFC 4180, with a header line.
    Csv,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Query {
    /// The main file.
    pub config: Option<PathBuf>,
    /// The ledger's folder instead.
    pub ledger: Option<PathBuf>,
    /// How it is printed.
    pub shape: Shape,
    /// This consumer alone.
    pub consumer: Option<String>,
    /// `current`, `all`, or what the period's first day begins with, as `2026-11`.
    pub period: String,
}

/// One line of what is printed.
#[derive(Clone, Debug, PartialEq)]
struct Line {
    policy: String,
    consumer: String,
    per: &'static str,
    from: String,
    to: String,
    used: u64,
    limit: Option<u64>,
    plan: Option<String>,
    labels: BTreeMap<String, String>,
}

/// What the configuration says of one consumer.
#[derive(Clone, Debug, Default)]
struct Known {
    plan: Option<String>,
    limit: Option<u64>,
    per: Option<&'static str>,
    labels: BTreeMap<String, String>,
}

/// Prints what consumers have used.
pub fn usage(query: &Query) -> ExitCode {
    let config = match query.config.as_deref().map(load).transpose() {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("{problems}");
            return ExitCode::from(EXIT_WRONG);
        }
    };
    let folder = query.ledger.clone().or_else(|| config.as_ref().map(|c| c.usage.folder.clone()));
    let folder = folder.unwrap_or_else(|| config::Usage::default().folder);
    let loaded = std::fs::read_dir(&folder).and_then(|_| store::load(&folder));
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("the usage ledger in {} cannot be read: {error}", folder.display());
            return ExitCode::from(EXIT_FAILED);
        }
    };
    for (name, _, damage) in loaded.damaged.iter().filter(|(.., damage)| damage.within > 0) {
        let octets = damage.within + damage.at_end;
        let path = folder.join(name);
        eprintln!("warning: {octets} octets of {} are no whole records", path.display());
    }
    let known = config.as_ref().map(known).unwrap_or_default();
    let lines = lines(&loaded.counts, &known, query, unix_now());
    let text = match query.shape {
        Shape::Table => table(&lines),
        Shape::Json => json(&lines),
        Shape::Csv => csv(&lines),
    };
    // A reader that has seen enough, as head(1), is no failure.
    let _ = io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// Prints a new key, once, and what of it belongs into the file of consumers.
pub fn new_key(consumer: &str, plan: Option<&str>) -> ExitCode {
    // A key is shown once: better none than one whose lines no file may hold.
    if !consumers::is_name(consumer) {
        eprintln!("--consumer: found {consumer:?}, expected {}", consumers::NAME);
        return ExitCode::from(EXIT_WRONG);
    }
    let mut random = [0; 32];
    if aws_lc_rs::rand::fill(&mut random).is_err() {
        eprintln!("this system gives no random numbers");
        return ExitCode::from(EXIT_FAILED);
    }
    let key = secret::key(&random);
    let hash = secret::written(&secret::digest(key.as_bytes()));
    let plan = plan.map(|plan| format!("plan = {plan:?}\n")).unwrap_or_default();
    let name = match consumer.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)) {
        true => consumer.to_owned(),
        false => format!("{consumer:?}"),
    };
    println!("{key}\n\n[consumer.{name}]\n{plan}keys = [\"{hash}\"]");
    eprintln!(
        "The first line is the key: it is shown only now. The others belong into the file of consumers."
    );
    ExitCode::SUCCESS
}

/// Prints the hash of the key on standard input, for keys that there are already.
pub fn hash_key() -> ExitCode {
    let mut text = String::new();
    // A key is far shorter.
    let read = io::stdin().take(64 << 10).read_to_string(&mut text);
    let key = text.trim_end_matches(['\r', '\n']);
    if read.is_err() || key.is_empty() || key.contains(char::is_whitespace) {
        eprintln!("expected one key on standard input, without blanks");
        return ExitCode::from(EXIT_WRONG);
    }
    if key.len() < 20 {
        eprintln!(
            "warning: a key this short can be found from its hash; `ringgate key new` makes better ones"
        );
    }
    println!("{}", secret::written(&secret::digest(key.as_bytes())));
    ExitCode::SUCCESS
}

fn load(path: &Path) -> Result<Config, config::Problems> {
    config::load(path, &|name| std::env::var(name).ok())
}

/// What the files of consumers say; those that cannot be read say nothing.
fn known(config: &Config) -> HashMap<(String, String), Known> {
    let mut known: HashMap<(String, String), Known> = HashMap::new();
    let mut read = fresh::Files::default();
    for policy in &config.policies {
        let Settings::ApiKey(settings) = &policy.settings else { continue };
        let mut octets = HashMap::new();
        for path in &settings.consumers {
            match read.read(path) {
                Ok(text) => drop(octets.insert(path.clone(), text.into())),
                Err(error) => eprintln!("warning: {}: {error}", path.display()),
            }
        }
        let files = |path: &Path| octets.get(path).map(std::sync::Arc::clone);
        let consumers = match directory::consumers(settings, &files) {
            Ok(consumers) => consumers,
            Err(remarks) => {
                remarks.iter().for_each(|remark| eprintln!("warning: {remark}"));
                continue;
            }
        };
        for consumer in consumers {
            let plan = consumer.plan.and_then(|at| settings.plans.get(usize::from(at)));
            let one = known.entry((policy.name.clone(), consumer.name.to_string())).or_default();
            one.plan = plan.map(|plan| plan.name.to_string());
            one.limit = plan.and_then(|plan| plan.quota?.limit);
            one.per = plan.and_then(|plan| Some(plan.quota?.period.every.word()));
        }
        for text in octets.values() {
            let text: &std::sync::Arc<[u8]> = text;
            let text = std::str::from_utf8(text).unwrap_or_default();
            for (consumer, label, text) in consumers::labels(text) {
                if let Some(one) = known.get_mut(&(policy.name.clone(), consumer)) {
                    one.labels.insert(label, text);
                }
            }
        }
    }
    known
}

fn lines(
    counts: &HashMap<Key, Count>,
    known: &HashMap<(String, String), Known>,
    query: &Query,
    now: u64,
) -> Vec<Line> {
    let mut lines: Vec<(u64, Line)> = Vec::new();
    for (key, count) in counts {
        let from = moment(key.start);
        let asked = match query.period.as_str() {
            "current" => key.start <= now && now < count.end,
            "all" => true,
            day => from.starts_with(day),
        };
        let one = query.consumer.as_deref().is_none_or(|name| name == &*key.consumer);
        if !asked || !one {
            continue;
        }
        let of = known.get(&(key.policy.to_string(), key.consumer.to_string()));
        let of = of.cloned().unwrap_or_default();
        lines.push((
            key.start,
            Line {
                policy: key.policy.to_string(),
                consumer: key.consumer.to_string(),
                per: key.every.word(),
                from,
                to: moment(count.end),
                used: count.count,
                // A limit by the month says nothing about what was counted by the day.
                limit: of.limit.filter(|_| of.per == Some(key.every.word())),
                plan: of.plan,
                labels: of.labels,
            },
        ));
    }
    lines.sort_by(|(a, x), (b, y)| {
        (&x.policy, &x.consumer, a, x.per).cmp(&(&y.policy, &y.consumer, b, y.per))
    });
    lines.into_iter().map(|(_, line)| line).collect()
}

const COLUMNS: [&str; 8] = ["policy", "consumer", "plan", "per", "from", "to", "used", "limit"];

fn cells(line: &Line) -> [String; 8] {
    let limit = line.limit.map(|limit| limit.to_string()).unwrap_or_default();
    [
        line.policy.clone(),
        line.consumer.clone(),
        line.plan.clone().unwrap_or_default(),
        line.per.to_owned(),
        line.from.clone(),
        line.to.clone(),
        line.used.to_string(),
        limit,
    ]
}

fn table(lines: &[Line]) -> String {
    let rows: Vec<[String; 8]> = lines.iter().map(cells).collect();
    let mut widths = COLUMNS.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    let mut text = String::new();
    let header = COLUMNS.map(str::to_owned);
    for row in std::iter::once(&header).chain(&rows) {
        let cells = row.iter().zip(widths).enumerate().map(|(at, (cell, width))| match at {
            // Numbers end in one column.
            6 | 7 => format!("{cell:>width$}"),
            _ => format!("{cell:<width$}"),
        });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

fn json(lines: &[Line]) -> String {
    let objects = lines.iter().map(|line| {
        serde_json::json!({
            "policy": line.policy, "consumer": line.consumer, "plan": line.plan, "per": line.per, "from": line.from,
            "to": line.to, "used": line.used, "limit": line.limit, "labels": line.labels,
        })
    });
    let mut text = serde_json::Value::Array(objects.collect()).to_string();
    text.push('\n');
    text
}

fn csv(lines: &[Line]) -> String {
    let mut text = COLUMNS.join(",") + "\r\n";
    for line in lines {
        text += &cells(line).map(|cell| quoted(&cell)).join(",");
        text += "\r\n";
    }
    text
}

// No name may hold a comma, a quote or a line's end. A spreadsheet takes what begins so for a formula.
fn quoted(cell: &str) -> String {
    if cell.starts_with(['+', '-', '@', '=']) { format!("\"'{cell}\"") } else { cell.to_owned() }
}

/// As `2026-11-21T00:00:00Z`.
fn moment(unix: u64) -> String {
    let unix = i64::try_from(unix).unwrap_or(0);
    let (year, month, day) = civil(unix.div_euclid(DAY));
    let of_day = unix.rem_euclid(DAY);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::ledger::record::Record;
    use crate::policy::api_key::{Every, Period};

    const NOW: u64 = 1_795_262_400;

    fn query(period: &str, consumer: Option<&str>) -> Query {
        Query {
            config: None,
            ledger: None,
            shape: Shape::Table,
            consumer: consumer.map(str::to_owned),
            period: period.to_owned(),
        }
    }

    fn counts() -> HashMap<Key, Count> {
        let mut counts = HashMap::new();
        for (consumer, every, back, count) in [
            ("acme", Every::Day, 0, 5),
            ("acme", Every::Day, 1, 70),
            ("+beta", Every::Month, 0, 3),
            ("acme", Every::Month, 1, 9),
        ] {
            let period = Period { every, offset: 0 };
            let number = period.number(NOW) - back;
            let record = Record::of(&"keys".into(), &consumer.into(), period, number, count);
            counts.insert(record.key, Count { count, end: record.end });
        }
        counts
    }

    fn known() -> HashMap<(String, String), Known> {
        let labels = [("team".to_owned(), "a \"b\"".to_owned())].into();
        let acme = Known { plan: Some("gold".into()), limit: Some(100), per: Some("day"), labels };
        [(("keys".to_owned(), "acme".to_owned()), acme)].into()
    }

    #[test]
    fn prints_tables_and_csv() {
        let lines = lines(&counts(), &known(), &query("current", None), NOW);
        let table = table(&lines);
        let expected = "\
policy  consumer  plan  per    from                  to                    used  limit
keys    +beta           month  2026-11-01T00:00:00Z  2026-12-01T00:00:00Z     3
keys    acme      gold  day    2026-11-21T00:00:00Z  2026-11-22T00:00:00Z     5    100
";
        assert_eq!(table, expected);
        let csv = csv(&lines);
        let first = "keys,\"'+beta\",,month,2026-11-01T00:00:00Z,2026-12-01T00:00:00Z,3,\r\n";
        assert!(csv.starts_with("policy,consumer,plan,per,from,to,used,limit\r\n"), "{csv}");
        assert!(csv.contains(first), "{csv}");
    }

    #[test]
    fn prints_json() {
        let lines = lines(&counts(), &known(), &query("2026-11-20", None), NOW);
        let value: serde_json::Value = serde_json::from_str(&json(&lines)).unwrap();
        let expected = serde_json::json!([{
            "policy": "keys", "consumer": "acme", "plan": "gold", "per": "day", "from": "2026-11-20T00:00:00Z",
            "to": "2026-11-21T00:00:00Z", "used": 70, "limit": 100, "labels": { "team": "a \"b\"" }
        }]);
        assert_eq!(value, expected);
        assert_eq!(json(&[]), "[]\n");
    }

    #[test]
    fn chooses_periods_and_consumers() {
        for (period, consumer, expected) in [
            ("current", None, 2),
            ("current", Some("acme"), 1),
            ("all", None, 4),
            ("all", Some("acme"), 3),
            ("all", Some("nobody"), 0),
            ("2026-11", None, 3),
            ("2026-10", None, 1),
            ("2026", Some("+beta"), 1),
        ] {
            let lines = lines(&counts(), &known(), &query(period, consumer), NOW);
            assert_eq!(lines.len(), expected, "{period} {consumer:?}");
        }
    }
}
