//! RFC 9111 by section, against a running ringgate and a target that answers as each case says; with RFC 5861 (stale), 9211
//! (Cache-Status) and 9213 (CDN-Cache-Control).
//!
//! Each test starts one ringgate; each case has a path of its own, so that cases do not meet. A body says which answer of the
//! target it is, so that where a response comes from is seen. Ages are told by the target (`Age`, `Date`), not waited for.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panics")]

mod support;

#[path = "rfc9111/freshness.rs"]
mod freshness;
#[path = "rfc9111/invalidation.rs"]
mod invalidation;
#[path = "rfc9111/partial.rs"]
mod partial;
#[path = "rfc9111/private.rs"]
mod private;
#[path = "rfc9111/requests.rs"]
mod requests;
#[path = "rfc9111/rig.rs"]
mod rig;
#[path = "rfc9111/stale.rs"]
mod stale;
#[path = "rfc9111/status.rs"]
mod status;
#[path = "rfc9111/storing.rs"]
mod storing;
#[path = "rfc9111/validation.rs"]
mod validation;
#[path = "rfc9111/vary.rs"]
mod vary;
