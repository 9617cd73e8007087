//! Capabilities: CAP_NET_BIND_SERVICE is kept, so that a reload can bind ports below 1024; nothing else is (SEC-05).
//!
//! Works on the calling thread. Called by `rights`, around the change of the user.

use rustix::io::Errno;
use rustix::thread::{self, CapabilitySet, CapabilitySets};

/// What is kept of what there is.
const KEPT: CapabilitySet = CapabilitySet::NET_BIND_SERVICE;

/// Drops all but [`KEPT`] from the bounding set, which caps what an executed program could get. Without CAP_SETPCAP
/// there is nothing that can be done, nor anything that would be gained: no error then.
///
/// # Errors
/// Those of `prctl(2)`: EPERM in some containers, whose root lacks CAP_SETPCAP.
pub fn empty_bounding_set() -> Result<(), Errno> {
    let may = thread::capabilities(None)?.effective.contains(CapabilitySet::SETPCAP);
    if !may && !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    for bit in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        if KEPT.contains(one) {
            continue;
        }
        match thread::capability_is_in_bounding_set(one) {
            Ok(true) => thread::remove_capability_from_bounding_set(one)?,
            Ok(false) => {}
            // The kernel knows no more.
            Err(_) => break,
        }
    }
    Ok(())
}

/// Drops all but [`KEPT`] from the permitted, effective and inheritable sets, and so from the ambient set. What is left
/// comes back. Nothing is asked of the kernel that is so already: a service manager's filter may refuse `capset(2)`.
///
/// # Errors
/// Those of `capset(2)`.
pub fn reduce() -> Result<CapabilitySet, Errno> {
    let now = thread::capabilities(None)?;
    let kept = now.permitted & KEPT;
    if now.permitted != kept || now.effective != kept {
        let inheritable = CapabilitySet::empty();
        let sets = CapabilitySets { effective: kept, permitted: kept, inheritable };
        thread::set_capabilities(None, sets)?;
    }
    Ok(kept)
}

/// As they stand in the log.
pub fn names(kept: CapabilitySet) -> &'static str {
    if kept.is_empty() { "none" } else { "net_bind_service" }
}
