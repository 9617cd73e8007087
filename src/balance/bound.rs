//! Consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam 2016): no target has more in flight than a fixed
//! multiple of the average, so that a popular key spreads to the targets next in line. What is in flight is counted elsewhere.

/// How many times the average a target may have in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    thousandths: u32,
}

impl Bound {
    /// The least: with it every target has the average, rounded up.
    pub const LEAST: u32 = 1_000;
    /// The most.
    pub const MOST: u32 = 100_000;

    /// A bound of so many thousandths; what is outside of [`Bound::LEAST`] and [`Bound::MOST`] becomes that.
    pub fn of_thousandths(thousandths: u32) -> Bound {
        Bound { thousandths: thousandths.clamp(Bound::LEAST, Bound::MOST) }
    }

    /// How many a target may have, one more request among `total` in flight included: the bound times its part of all of
    /// them by weight, rounded up. The capacities of all targets together are never less than `total + 1`.
    pub(super) fn capacity(self, total: u32, weight: u32, sum: u64) -> u64 {
        let part = (u128::from(total) + 1) * u128::from(weight) * u128::from(self.thousandths);
        u64::try_from(part.div_ceil(u128::from(sum.max(1)) * 1_000)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacity_is_a_multiple_of_the_part_rounded_up() {
        for (thousandths, total, weight, sum, expected) in [
            (1_250, 0, 1, 3, 1),
            (1_250, 7, 1, 4, 3),
            (1_250, 99, 1, 10, 13),
            (1_000, 99, 1, 10, 10),
            (1_000, 99, 5, 10, 50),
            (2_000, 9, 1, 1, 20),
            (1, 9, 1, 2, 5),
            (100_000, u32::MAX, u32::MAX, 1, u64::MAX),
        ] {
            let capacity = Bound::of_thousandths(thousandths).capacity(total, weight, sum);
            assert_eq!(capacity, expected, "{thousandths} {total} {weight}/{sum}");
        }
    }

    #[test]
    fn there_is_always_room_for_one_more() {
        for weights in [&[1_u32, 1, 1][..], &[999, 1, 7], &[5]] {
            let sum: u64 = weights.iter().map(|w| u64::from(*w)).sum();
            for total in 0..200 {
                let bound = Bound::of_thousandths(Bound::LEAST);
                let all: u64 = weights.iter().map(|w| bound.capacity(total, *w, sum)).sum();
                assert!(all > u64::from(total), "{weights:?} {total}");
            }
        }
    }
}
