//! The periods of quotas: days, weeks and months of UTC, moved by an offset.
//!
//! A period is known by its number, so that counters hold it in a few bits. Nothing here reads a clock. Called by the check of
//! API keys, and by control for the ledger.

use std::fmt;

/// Seconds of a day.
pub const DAY: i64 = 86_400;

/// What repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Every {
    /// From midnight to midnight.
    Day,
    /// From Monday to Monday (ISO 8601).
    Week,
    /// From the first to the first.
    Month,
}

impl Every {
    /// All of them, by how they are written.
    pub const WORDS: &[(&str, Every)] =
        &[("day", Every::Day), ("week", Every::Week), ("month", Every::Month)];

    /// As users write it.
    pub fn word(self) -> &'static str {
        match self {
            Every::Day => "day",
            Every::Week => "week",
            Every::Month => "month",
        }
    }
}

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The periods of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Period {
    /// What repeats.
    pub every: Every,
    /// Seconds that each begins later than in UTC; earlier where negative.
    pub offset: i64,
}

impl Period {
    /// The number of the period that `unix` (seconds since 1970) is in; it grows by one with each.
    #[inline]
    pub fn number(self, unix: u64) -> u32 {
        let days = (signed(unix) - self.offset).div_euclid(DAY);
        let number = match self.every {
            Every::Day => days,
            // 1970 began on a Thursday.
            Every::Week => (days + 3).div_euclid(7),
            Every::Month => {
                let (year, month, _) = civil(days);
                (year - 1970) * 12 + i64::from(month) - 1
            }
        };
        u32::try_from(number).unwrap_or(0)
    }

    /// Where a period begins and where the next one does, in seconds since 1970.
    pub fn bounds(self, number: u32) -> (u64, u64) {
        (self.start(number), self.start(number.saturating_add(1)))
    }

    fn start(self, number: u32) -> u64 {
        let number = i64::from(number);
        let days = match self.every {
            Every::Day => number,
            Every::Week => number * 7 - 3,
            Every::Month => {
                let month = u32::try_from(number % 12 + 1).unwrap_or(1);
                days(1970 + number / 12, month, 1)
            }
        };
        u64::try_from(days * DAY + self.offset).unwrap_or(0)
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar (Howard Hinnant, `days_from_civil`).
pub fn days(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = i64::from((153 * ((month + 9) % 12) + 2) / 5 + day) - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The date that is so many days after 1970-01-01: year, month, day (Howard Hinnant, `civil_from_days`).
pub fn civil(days: i64) -> (i64, u32, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    (year, u32::try_from(month).unwrap_or(1), u32::try_from(day).unwrap_or(1))
}

fn signed(unix: u64) -> i64 {
    i64::try_from(unix).unwrap_or(i64::MAX >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    // 2026-11-21T22:00:00Z, a Saturday.
    const NOW: u64 = 1_795_298_400;

    fn period(every: Every, hours: i64) -> Period {
        Period { every, offset: hours * 3600 }
    }

    #[track_caller]
    fn check(period: Period, unix: u64, from: (i64, u32, u32), to: (i64, u32, u32), hours: i64) {
        let at = |(y, m, d): (i64, u32, u32)| (days(y, m, d) * DAY + hours * 3600) as u64;
        assert_eq!(period.bounds(period.number(unix)), (at(from), at(to)));
    }

    #[test]
    fn periods_are_those_of_the_calendar() {
        check(period(Every::Day, 0), NOW, (2026, 11, 21), (2026, 11, 22), 0);
        check(period(Every::Week, 0), NOW, (2026, 11, 16), (2026, 11, 23), 0);
        check(period(Every::Month, 0), NOW, (2026, 11, 1), (2026, 12, 1), 0);
        check(period(Every::Day, 23), NOW, (2026, 11, 20), (2026, 11, 21), 23);
        check(period(Every::Day, -9), NOW, (2026, 11, 22), (2026, 11, 23), -9);
        check(period(Every::Week, -24), NOW, (2026, 11, 16), (2026, 11, 23), -24);
        check(period(Every::Week, -24), NOW + 7200, (2026, 11, 23), (2026, 11, 30), -24);
        let december = NOW + 20 * 86_400;
        check(period(Every::Month, 0), december, (2026, 12, 1), (2027, 1, 1), 0);
    }

    #[test]
    fn every_second_is_in_the_period_of_its_number() {
        let mut rng = fastrand::Rng::with_seed(7);
        for (_, every) in Every::WORDS {
            for _ in 0..5000 {
                let period = period(*every, rng.i64(-24..=24));
                let unix = rng.u64(172_800..5_000_000_000);
                let (start, end) = period.bounds(period.number(unix));
                assert!(start <= unix && unix < end, "{period:?} {unix}");
                assert_eq!(period.number(end), period.number(unix) + 1, "{period:?} {unix}");
            }
        }
    }

    #[test]
    fn days_and_dates_agree() {
        for day in (-800_000..800_000).step_by(17) {
            let (year, month, of_month) = civil(day);
            assert_eq!(days(year, month, of_month), day);
        }
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(days(2000, 2, 29), 11_016);
    }
}
