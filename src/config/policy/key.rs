//! `key`, `ipv6_prefix` and `keys`, which all limits have. Called by `rate`, `concurrency` and `window`.

use crate::config::item::{Item, Table, set};
use crate::config::problem::{Wrong, did_you_mean};
use crate::config::syntax;
use crate::policy::key::{KEYS, Key, Part};

/// What `key` may be.
const KEY: &str = "client_ip, consumer, plan, path, method, host, rule, machine, \"claim:NAME\", \
                   \"header:NAME\" or \"cookie:NAME\"";
const PLAIN: [(&str, Part); 8] = [
    ("client_ip", Part::ClientIp),
    ("consumer", Part::Consumer),
    ("plan", Part::Plan),
    ("path", Part::Path),
    ("method", Part::Method),
    ("host", Part::Host),
    ("rule", Part::Rule),
    ("machine", Part::Machine),
];
// More parts than these nobody means.
const MOST_PARTS: usize = 8;

/// What a limit counts by.
pub(super) fn key(table: &Table<'_>) -> Key {
    let mut key = Key::default();
    if let Some(item) = table.item("key") {
        let items = item.one_or_more(KEY);
        if items.len() > MOST_PARTS {
            item.problem(format!("{} parts", items.len()), format!("at most {MOST_PARTS}"), None);
        }
        let parts: Vec<Part> = items.iter().filter_map(part).collect();
        if parts.len() > 1 && parts.contains(&Part::Machine) {
            item.problem("machine beside others", "machine alone, or the others", None);
        }
        key.parts = parts;
    }
    let prefix = table.item("ipv6_prefix").and_then(|item| item.integer(1..=128));
    set(&mut key.ipv6_prefix, prefix.and_then(|bits| u8::try_from(bits).ok()));
    key
}

/// How many keys are remembered.
pub(super) fn keys(table: &Table<'_>) -> usize {
    let keys = table.item("keys").and_then(|item| item.integer(1..=16_777_216));
    keys.and_then(|keys| usize::try_from(keys).ok()).unwrap_or(KEYS)
}

// What other products call it, or the nearest word.
fn meant(text: &str) -> Option<String> {
    let word = match text.to_ascii_lowercase().as_str() {
        "ip" | "addr" | "address" | "remote_addr" | "source" | "source_ip" => "client_ip",
        "user" | "api_key" | "subject" => "consumer",
        "sub" => "claim:sub",
        "uri" | "url" => "path",
        "all" | "global" | "none" | "server" => "machine",
        "header" => "header:x-tenant",
        "cookie" => "cookie:session",
        "claim" => "claim:sub",
        _ => return did_you_mean(text, PLAIN.iter().map(|(word, _)| *word)),
    };
    Some(format!("did you mean {word:?}?"))
}

fn part(item: &Item<'_>) -> Option<Part> {
    item.parsed(KEY, |text| {
        let named = |name: &str| {
            if syntax::is_token(name) {
                Ok(Box::from(name))
            } else {
                Wrong::expected("a name after the colon, as in \"header:x-tenant\"")
            }
        };
        match text.split_once(':') {
            Some(("claim", "")) => Wrong::expected("a name after the colon, as in \"claim:sub\""),
            // Claims may be named by URLs, and found in objects by dots.
            Some(("claim", name)) => Ok(Part::Claim(Box::from(name))),
            Some(("header", name)) => named(&name.to_ascii_lowercase()).map(Part::Header),
            Some(("cookie", name)) => named(name).map(Part::Cookie),
            _ => {
                let found = PLAIN.iter().find(|(word, _)| *word == text);
                found
                    .map(|(_, part)| part.clone())
                    .ok_or_else(|| Wrong { expected: String::new(), hint: meant(text) })
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_other_products_are_known() {
        for (text, expected) in [
            ("ip", Some("did you mean \"client_ip\"?")),
            ("Header", Some("did you mean \"header:x-tenant\"?")),
            ("consumr", Some("did you mean \"consumer\"?")),
            ("something else", None),
        ] {
            assert_eq!(meant(text).as_deref(), expected, "{text}");
        }
    }
}
