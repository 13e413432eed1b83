//! Times as people say them: how long ago something was, as Kubernetes shortens it.

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;

/// What stands where no time is known.
pub(super) const UNKNOWN: &str = "<unknown>";

/// How long ago a time was; `<unknown>` if the text is no time, or is the zero time that Go writes for none.
pub(super) fn since(time: &str, now: i64) -> String {
    match seconds(time) {
        Some(then) if !is_zero(then) => human(now.saturating_sub(then)),
        _ => UNKNOWN.to_owned(),
    }
}

/// The first of January of the year 1, which is what Go has where no time was set.
fn is_zero(time: i64) -> bool {
    time == days_from_civil(1, 1, 1) * DAY
}

/// Seconds since 1970 of a time in RFC 3339; parts of a second do not count.
pub(super) fn seconds(time: &str) -> Option<i64> {
    let bytes = time.as_bytes();
    // Up to here, all is at a fixed place: 2006-01-02T15:04:05.
    let (fixed, rest) = bytes.split_at_checked(19)?;
    for (place, separator) in
        [(4, b"-"), (7, b"-"), (10, b"Tt"), (13, b":"), (16, b":")] as [(usize, &[u8]); 5]
    {
        if !separator.contains(&fixed[place]) {
            return None;
        }
    }
    let year = number(&fixed[..4])?;
    let month = number(&fixed[5..7]).filter(|month| (1..=12).contains(month))?;
    let day = number(&fixed[8..10]).filter(|day| (1..=days_of(year, month)).contains(day))?;
    let hour = number(&fixed[11..13]).filter(|hour| *hour < 24)?;
    let minute = number(&fixed[14..16]).filter(|minute| *minute < 60)?;
    let second = number(&fixed[17..]).filter(|second| *second <= 60)?;
    let offset = offset(without_fraction(rest)?)?;
    Some(days_from_civil(year, month, day) * DAY + hour * HOUR + minute * MINUTE + second - offset)
}

/// What is left after parts of a second, if there are any.
fn without_fraction(text: &[u8]) -> Option<&[u8]> {
    let Some(digits) = text.strip_prefix(b".") else {
        return Some(text);
    };
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    (end > 0).then(|| &digits[end..])
}

/// Seconds that a zone such as `Z` or `+02:00` is ahead.
fn offset(zone: &[u8]) -> Option<i64> {
    match zone {
        b"Z" | b"z" => Some(0),
        [sign @ (b'+' | b'-'), time @ ..] if time.len() == 5 && time[2] == b':' => {
            let hours = number(&time[..2]).filter(|hours| *hours < 24)?;
            let minutes = number(&time[3..]).filter(|minutes| *minutes < 60)?;
            let ahead = hours * HOUR + minutes * MINUTE;
            Some(if *sign == b'-' { -ahead } else { ahead })
        }
        _ => None,
    }
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |sum, digit| {
        digit
            .is_ascii_digit()
            .then(|| sum * 10 + i64::from(digit - b'0'))
    })
}

fn days_of(year: i64, month: i64) -> i64 {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970 of a date. Years are counted from March, so that the day that may be missing is the last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// A span of seconds as Kubernetes writes it: never more than two units, and the second only while it matters.
pub(super) fn human(seconds: i64) -> String {
    let two = |large: i64, large_name: &str, small: i64, small_name: &str| {
        let first = seconds / large;
        match seconds % large / small {
            0 => format!("{first}{large_name}"),
            second => format!("{first}{large_name}{second}{small_name}"),
        }
    };
    match seconds {
        // Clocks of different machines differ a little.
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        _ if seconds < 2 * MINUTE => format!("{seconds}s"),
        _ if seconds < 10 * MINUTE => two(MINUTE, "m", 1, "s"),
        _ if seconds < 3 * HOUR => format!("{}m", seconds / MINUTE),
        _ if seconds < 8 * HOUR => two(HOUR, "h", MINUTE, "m"),
        _ if seconds < 2 * DAY => format!("{}h", seconds / HOUR),
        _ if seconds < 8 * DAY => two(DAY, "d", HOUR, "h"),
        _ if seconds < 2 * YEAR => format!("{}d", seconds / DAY),
        _ if seconds < 8 * YEAR => two(YEAR, "y", DAY, "d"),
        _ => format!("{}y", seconds / YEAR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_shortened_as_upstream_does() {
        for (seconds, text) in [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (121, "2m1s"),
            (599, "9m59s"),
            (600, "10m"),
            (3 * HOUR - 1, "179m"),
            (3 * HOUR, "3h"),
            (7 * HOUR + 59 * MINUTE + 59, "7h59m"),
            (8 * HOUR + 59 * MINUTE, "8h"),
            (2 * DAY - 1, "47h"),
            (2 * DAY, "2d"),
            (7 * DAY + 23 * HOUR, "7d23h"),
            (8 * DAY + 23 * HOUR, "8d"),
            (2 * YEAR - 1, "729d"),
            (2 * YEAR, "2y"),
            (8 * YEAR - 1, "7y364d"),
            (8 * YEAR + 5 * DAY, "8y"),
        ] {
            assert_eq!(human(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn times_are_read() {
        assert_eq!(seconds("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(seconds("2000-02-29T12:00:00Z"), Some(951_825_600));
        assert_eq!(seconds("2026-11-27T03:25:49.123456Z"), Some(1_795_749_949));
        assert_eq!(seconds("2026-11-27T05:25:49+02:00"), Some(1_795_749_949));
        assert_eq!(seconds("1969-12-31T23:59:59Z"), Some(-1));
    }

    #[test]
    fn what_is_no_time_is_not_read() {
        for text in [
            "",
            "now",
            "2026-11-27",
            "2026-13-01T00:00:00Z",
            "2025-02-29T00:00:00Z",
            "2026-11-27T24:00:00Z",
            "2026-11-27T00:00:00",
            "2026-11-27T00:00:00.Z",
            "2026-11-27T00:00:00+2:00",
            "2026-11-27T00:00:00Zé",
            "２０２６-11-27T00:00:00Z",
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn no_time_is_unknown() {
        assert_eq!(since("", 0), "<unknown>");
        assert_eq!(since("0001-01-01T00:00:00Z", 0), "<unknown>");
        assert_eq!(since("1970-01-01T00:00:00Z", 90), "90s");
    }
}
