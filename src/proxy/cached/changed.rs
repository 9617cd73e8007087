//! Ends what a request has changed (RFC 9111 section 4.4), whichever rule has stored it; and what the head of another response shows
//! to have been replaced (section 4.3.5).
//!
//! Called by `receive` with the response to a request whose method is not safe, and by `fill` with one to `HEAD`.

use super::{answers, request_of};
use crate::cache::{Key, KeySettings, Origin, Request, invalidate, update};
use crate::http::{Method, RequestView};
use crate::proxy::Exchange;
use std::sync::Arc;

/// Whether this request may change what is stored.
#[inline]
pub fn may_change(x: &Exchange<'_>) -> bool {
    let safe = matches!(x.scratch.request.method, Method::Get | Method::Head | Method::Options);
    !safe && !x.epoch.snapshot.stores.is_empty() && !x.scratch.trace.inner
}

/// Forgets what the response, whose head is `head`, says to have changed.
pub fn forget(x: &Exchange<'_>, head: &[u8]) {
    let (request, response) = (request_of(x), &x.scratch.response);
    let (response, paths) = ((response.status, response.view(head)), x.epoch.snapshot.paths);
    let changed = invalidate::changed(&request, response.0, response.1, paths);
    for origin in &changed {
        // Where it lies depends on what a rule's keys hold of the query.
        for settings in &x.epoch.snapshot.stores {
            if let Some(key) = key_of(&request, settings, origin) {
                x.shard.store.invalidate(&key, origin);
            }
        }
    }
}

// The key of a request for what lies at the same origin. Which rule it would be is nothing to where it lies.
fn key_of(request: &Request<'_>, settings: &KeySettings, origin: &Origin) -> Option<Key> {
    let path = origin.base.get(origin.authority().len()..)?;
    let query = origin.query.as_deref();
    let view = RequestView { path, query, ..request.view };
    Some(Key::of(settings, &Request { view, ..*request }, ""))
}

/// Forgets what is stored under `key` and answers this request, where the response to its `HEAD` shows that it has been replaced.
pub(super) fn compare(x: &Exchange<'_>, key: &Key, head: &[u8]) {
    let response = &x.scratch.response;
    let store = &x.shard.store;
    let Some(look) = store.look(key) else { return };
    let fields = x.view().fields;
    let entry = look.entries(key).rev().find(|entry| answers(entry, fields)).map(Arc::clone);
    drop(look);
    let Some(entry) = entry.filter(|_| response.status == 200) else { return };
    let length = entry.body.len() as u64;
    if update::is_outdated(&entry.stored, length, response.view(head), response.declared) {
        store.forget(&entry);
    }
}
