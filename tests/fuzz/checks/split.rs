//! Where the network may cut what it delivers.
//!
//! Short inputs are cut everywhere, long ones in places that depend on the input only, so that a finding repeats.

/// Inputs up to here are cut once at every octet.
const EVERY_CUT: usize = 192;
/// Inputs up to here also arrive octet by octet.
const OCTET_BY_OCTET: usize = 1024;

/// Ways in which `data` may arrive, each as the ends of its pieces, of which the last is that of the whole.
pub fn splits(data: &[u8]) -> impl Iterator<Item = Vec<usize>> {
    let len = data.len();
    let every = (0..len).take(if len <= EVERY_CUT { len } else { 0 }).map(move |at| vec![at, len]);
    let slow = (len > 0 && len <= OCTET_BY_OCTET).then(|| (1..=len).collect());
    // FNV-1a, then a xorshift.
    let seed = data.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| {
        (hash ^ u64::from(*octet)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mut state = seed | 1;
    let some = (1..=4usize).map(move |cuts| {
        let mut ends = vec![len];
        for _ in 0..cuts * 2 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            ends.push((state % (len as u64 + 1)) as usize);
        }
        ends.sort_unstable();
        ends
    });
    every.chain(slow).chain(some)
}
