//! Secrets that keys are derived from: as many octets as a key has, at least, and nothing of them in what is printed.
//!
//! Called by the readers of `[server]` and of `oidc`.

use crate::base::sealed::Secret;
use crate::config::item::Item;

/// What one looks like.
pub(super) const SECRET: &str = "a secret of 32 to 512 octets, such as of `openssl rand -hex 32`";

/// One or several; each once. `None` where none is right.
pub(super) fn secrets(item: &Item<'_>) -> Option<Vec<Secret>> {
    let items = item.one_or_more(SECRET);
    let read: Vec<Secret> = items.iter().filter_map(secret).collect();
    let distinct = read.iter().enumerate().all(|(at, one)| !read.iter().take(at).any(|o| o == one));
    if !distinct {
        item.problem("a secret twice", "each secret once", None);
    }
    (!read.is_empty()).then_some(read)
}

// What was found is not said: it may be most of a secret.
fn secret(item: &Item<'_>) -> Option<Secret> {
    let text = item.text(SECRET)?;
    if (32..=512).contains(&text.len()) {
        return Some(Secret::new(text.as_bytes()));
    }
    item.problem(format!("{} octets", text.len()), SECRET, None);
    None
}
