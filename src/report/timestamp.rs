//! Points in time as text.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SECONDS_A_DAY: i128 = 86_400;

/// A point in time in UTC as RFC 3339 has it, to milliseconds: `2026-11-27T08:15:30.250Z`. Clocks that are far off
/// have a time, too: years before 0 and after 9999 are written with their sign, as ISO 8601 does.
pub fn timestamp(time: SystemTime) -> String {
    let milliseconds = |d: Duration| i128::try_from(d.as_millis()).unwrap_or(i128::MAX);
    let since = match time.duration_since(UNIX_EPOCH) {
        Ok(after) => milliseconds(after),
        // Rounded down, as times after 1970 are.
        Err(before) => {
            let before = before.duration();
            let is_whole = before.subsec_nanos() % 1_000_000 == 0;
            -milliseconds(before) - i128::from(!is_whole)
        }
    };
    let (seconds, millisecond) = (since.div_euclid(1000), since.rem_euclid(1000));
    let (days, second) = (
        seconds.div_euclid(SECONDS_A_DAY),
        seconds.rem_euclid(SECONDS_A_DAY),
    );
    let (year, month, day) = date(days);
    let year = match year {
        0..=9999 => format!("{year:04}"),
        _ => format!("{year:+05}"),
    };
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z")
}

/// Year, month and day of the Gregorian calendar, of a number of days since 1 January 1970.
fn date(days: i128) -> (i128, i128, i128) {
    /// Of 400 years, after which the calendar repeats.
    const CYCLE: i128 = 146_097;
    // Years begin in March here: the leap day is then the last of a year, and months have 31 and 30 days in turn.
    let days = days + 719_468;
    let (cycle, day) = (days.div_euclid(CYCLE), days.rem_euclid(CYCLE));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (400 * cycle + year + next, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64, nanoseconds: u32) -> String {
        let whole = Duration::from_secs(seconds.unsigned_abs());
        let time = match seconds {
            0.. => UNIX_EPOCH.checked_add(whole),
            _ => UNIX_EPOCH.checked_sub(whole),
        };
        timestamp(time.unwrap() + Duration::from_nanos(nanoseconds.into()))
    }

    /// The expected texts are those of GNU `date --utc`.
    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799, "9999-12-31T23:59:59.000Z"),
            (-1, "1969-12-31T23:59:59.000Z"),
            (-2_203_891_200, "1900-03-01T00:00:00.000Z"),
            (-62_135_596_800, "0001-01-01T00:00:00.000Z"),
            (-62_167_219_200, "0000-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(at(seconds, 0), text, "{seconds}");
        }
        assert_eq!(at(1, 250_999_999), "1970-01-01T00:00:01.250Z");
        assert_eq!(at(-1, 999_999_999), "1969-12-31T23:59:59.999Z");
    }

    #[test]
    fn no_clock_is_too_wrong() {
        assert_eq!(at(253_402_300_800, 0), "+10000-01-01T00:00:00.000Z");
        assert_eq!(at(-62_167_219_201, 0), "-0001-12-31T23:59:59.000Z");
        for seconds in [i64::MAX, i64::MIN + 1, i64::MIN / 2] {
            assert!(at(seconds, 0).ends_with('Z'));
        }
    }
}
