//! `ip` of a policy: its keys, and what may be written there. Called by the policies' reader.

use crate::config::check::Seen;
use crate::config::item::{Item, Table};
use crate::config::keys::Keys;
use crate::config::problem::Wrong;
use crate::config::syntax;
use crate::policy::ip::{List, Of, Settings};
use std::path::{Path, PathBuf};

/// Its tables.
pub(super) const TABLES: &[(&str, Keys)] = &[("policy.*.ip", KEYS)];

const KEYS: Keys = &["allow", "deny", "allow_file", "deny_file", "of"];

/// `ip = { ... }`
pub(super) fn read(item: &Item<'_>, _: &mut Seen) -> Option<Settings> {
    let table = item.table(KEYS)?;
    let settings = Settings {
        allow: list(&table, "allow", "allow_file"),
        deny: list(&table, "deny", "deny_file"),
        of: table
            .item("of")
            .and_then(|item| item.choice(&[("client", Of::Client), ("peer", Of::Peer)]))
            .unwrap_or_default(),
    };
    let given = table.given().any(|(key, _)| key != "of");
    if !given {
        table.problem(item.path.clone(), "no list", "one of allow, deny, allow_file, deny_file");
    }
    Some(settings)
}

fn list(table: &Table<'_>, networks: &str, files: &str) -> List {
    let networks = table.item(networks).map(|item| {
        let items = item.one_or_more(syntax::NETWORK);
        items.iter().filter_map(|i| i.parsed(syntax::NETWORK, syntax::network)).collect()
    });
    let files = table.item(files).map(|item| self::files(&item));
    List { networks: networks.unwrap_or_default(), files: files.unwrap_or_default() }
}

/// The most files of one key.
const MOST_FILES: usize = 100;

/// Paths of lists, relative to the folder of the file that names them.
pub(super) fn files(item: &Item<'_>) -> Vec<PathBuf> {
    const KIND: &str = "the path of a file with one entry a line";
    let items = item.one_or_more(KIND);
    if items.len() > MOST_FILES {
        item.problem(format!("{} files", items.len()), format!("at most {MOST_FILES}"), None);
    }
    let place = item.place();
    let folder = Path::new(&*place.file).parent().unwrap_or(Path::new(""));
    let path = |item: &Item<'_>| {
        item.parsed(KIND, |text| {
            let fits = !text.is_empty() && !text.contains('\0');
            if fits { Ok(folder.join(text)) } else { Wrong::plain() }
        })
    };
    items.iter().filter_map(path).collect()
}
