//! The order of turns of smooth weighted round robin (nginx's algorithm), worked out for one whole period.
//!
//! A table and a shared cursor, rather than running weights, are what lets workers take turns together without a lock.

/// The longest period, unless there are more candidates than that.
const MOST_TURNS: u64 = 4_096;

/// Whose turn it is, for one period. Weights are divided by their greatest common divisor; if the period would still
/// be longer than 4,096 turns, they are scaled down in proportion, each to at least one turn. Weights that are all
/// equal take turns in the order of the list. Candidates of weight 0 do not appear.
pub(super) fn sequence(weights: &[u32]) -> Box<[u32]> {
    let mut shares: Vec<(u32, u64)> =
        (0u32..).zip(weights).filter(|(_, w)| **w > 0).map(|(at, w)| (at, u64::from(*w))).collect();
    reduce(&mut shares);
    let total: u64 = shares.iter().map(|(_, share)| share).sum();
    if total > MOST_TURNS {
        for (_, share) in &mut shares {
            *share = (*share * MOST_TURNS / total).max(1);
        }
        reduce(&mut shares);
    }
    if shares.iter().all(|(_, share)| *share == 1) {
        return shares.into_iter().map(|(at, _)| at).collect();
    }

    let total: u64 = shares.iter().map(|(_, share)| share).sum();
    let mut current = vec![0i64; shares.len()];
    let turn = |_| {
        // Everyone gains their share; whoever has most takes the turn and pays for it.
        let mut most = (i64::MIN, 0, 0);
        for (slot, (gained, (at, share))) in current.iter_mut().zip(&shares).enumerate() {
            *gained += share.cast_signed();
            if *gained > most.0 {
                most = (*gained, slot, *at);
            }
        }
        if let Some(gained) = current.get_mut(most.1) {
            *gained -= total.cast_signed();
        }
        most.2
    };
    (0..total).map(turn).collect()
}

fn reduce(shares: &mut [(u32, u64)]) {
    let divisor = shares.iter().fold(0, |divisor, (_, share)| gcd(*share, divisor)).max(1);
    shares.iter_mut().for_each(|(_, share)| *share /= divisor);
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
