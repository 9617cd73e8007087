//! Wall time as text, in UTC: ISO 8601 with microseconds, and the date of the Common Log Format.
//!
//! The text of a second is made once and reused: one [`Clock`] a worker, handed to the formats. It reads no
//! clock itself; time comes in as microseconds since 1970.

const MICROS: u64 = 1_000_000;
const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];
/// 9999-12-31T23:59:59: later times are written as this one, to keep four digits of year.
const LAST_SECOND: u64 = 253_402_300_799;

/// The text of the last seconds that were asked for. Two, because a request that began in one second often
/// ends in the next, and some formats write both.
#[derive(Debug, Default)]
pub struct Clock {
    stamps: [Stamp; 2],
}

/// One second as text.
#[derive(Debug)]
struct Stamp {
    second: u64,
    iso: [u8; 19],
    clf: [u8; 28],
}

impl Default for Stamp {
    fn default() -> Stamp {
        Stamp::of(0)
    }
}

impl Clock {
    /// Appends `2026-07-02T22:23:00.186641Z`.
    pub fn iso(&mut self, micros: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.stamp(micros).iso);
        let mut fraction = *b".000000Z";
        digits(micros % MICROS, &mut fraction[1..7]);
        out.extend_from_slice(&fraction);
    }

    /// Appends `[02/Jul/2026:22:23:00 +0000]`.
    pub fn clf(&mut self, micros: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.stamp(micros).clf);
    }

    fn stamp(&mut self, micros: u64) -> &Stamp {
        let second = (micros / MICROS).min(LAST_SECOND);
        let [even, odd] = &mut self.stamps;
        let stamp = if second.is_multiple_of(2) { even } else { odd };
        if stamp.second != second {
            *stamp = Stamp::of(second);
        }
        stamp
    }
}

impl Stamp {
    fn of(second: u64) -> Stamp {
        let (year, month, day) = civil(second / 86_400);
        let of_day = second % 86_400;
        let (hour, minute, sec) = (of_day / 3600, of_day / 60 % 60, of_day % 60);

        let mut iso = *b"0000-00-00T00:00:00";
        digits(year, &mut iso[0..4]);
        digits(month, &mut iso[5..7]);
        digits(day, &mut iso[8..10]);
        digits(hour, &mut iso[11..13]);
        digits(minute, &mut iso[14..16]);
        digits(sec, &mut iso[17..19]);

        let mut clf = *b"[00/Jan/0000:00:00:00 +0000]";
        digits(day, &mut clf[1..3]);
        let name = usize::try_from(month).ok().and_then(|m| MONTHS.get(m.wrapping_sub(1)));
        clf[4..7].copy_from_slice(*name.unwrap_or(&MONTHS[0]));
        digits(year, &mut clf[8..12]);
        digits(hour, &mut clf[13..15]);
        digits(minute, &mut clf[16..18]);
        digits(sec, &mut clf[19..21]);

        Stamp { second, iso, clf }
    }
}

/// Year, month and day of a day since 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date
/// algorithms", civil_from_days, for days that are not negative).
fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let era = z / 146_097;
    let of_era = z % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// Writes the last digits of `value`, with leading zeros, into the whole of `place`.
fn digits(mut value: u64, place: &mut [u8]) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(micros: u64, iso: &str, clf: &str) {
        let (mut clock, mut out) = (Clock::default(), Vec::new());
        clock.iso(micros, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), iso);
        let mut out = Vec::new();
        clock.clf(micros, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), clf);
    }

    #[test]
    fn writes_known_moments() {
        check(0, "1970-01-01T00:00:00.000000Z", "[01/Jan/1970:00:00:00 +0000]");
        check(951_782_400_000_001, "2000-02-29T00:00:00.000001Z", "[29/Feb/2000:00:00:00 +0000]");
        check(1_709_251_199_999_999, "2024-02-29T23:59:59.999999Z", "[29/Feb/2024:23:59:59 +0000]");
        check(4_107_542_400_000_000, "2100-03-01T00:00:00.000000Z", "[01/Mar/2100:00:00:00 +0000]");
        check(1_783_030_980_186_641, "2026-07-02T22:23:00.186641Z", "[02/Jul/2026:22:23:00 +0000]");
        check(u64::MAX, "9999-12-31T23:59:59.551615Z", "[31/Dec/9999:23:59:59 +0000]");
    }

    #[test]
    fn a_kept_second_is_not_mistaken_for_another() {
        let mut clock = Clock::default();
        for second in [5, 6, 7, 5, 105, 6, 0] {
            let (mut kept, mut fresh) = (Vec::new(), Vec::new());
            clock.iso(second * MICROS, &mut kept);
            Clock::default().iso(second * MICROS, &mut fresh);
            assert_eq!(kept, fresh);
        }
    }

    #[test]
    fn agrees_with_the_field_date_of_http() {
        for day in (0..60_000).step_by(17) {
            let (year, month, day_of_month) = civil(day);
            let date = std::time::UNIX_EPOCH + std::time::Duration::from_secs(day * 86_400);
            let text = httpdate::fmt_http_date(date);
            let month = std::str::from_utf8(MONTHS[month as usize - 1]).unwrap();
            assert_eq!(&text[5..16], format!("{day_of_month:02} {month} {year}"));
        }
    }
}
