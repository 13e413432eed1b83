//! Times as Kubernetes writes them: in UTC, to the second or to the microsecond.

use serde_json::Value;

/// How exact a time is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Precision {
    /// `2026-08-01T10:00:00Z`.
    Seconds,
    /// `2026-08-01T10:00:00.000000Z`.
    Micros,
}

/// Writes a time in RFC 3339 in its one form; what is none stays as it is.
pub(super) fn normalise(value: &mut Value, precision: Precision) {
    let Some(text) = value.as_str() else {
        return;
    };
    let Some(time) = Time::of(text) else {
        return;
    };
    let time = time.written(precision);
    if text != time {
        *value = Value::String(time);
    }
}

struct Time {
    /// Seconds since 1970.
    seconds: i64,
    micros: u32,
}

impl Time {
    /// Reads RFC 3339: `2026-08-01T12:00:00.5+02:00`.
    fn of(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let number = |from: usize, digits: usize| -> Option<i64> {
            let digits = bytes.get(from..from + digits)?;
            let all = digits.iter().all(u8::is_ascii_digit);
            all.then(|| {
                digits
                    .iter()
                    .fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'))
            })
        };
        let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
        if marks
            .iter()
            .any(|(place, mark)| bytes.get(*place) != Some(mark))
        {
            return None;
        }
        let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
        let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
        let is_date = (1..=12).contains(&month) && (1..=days_of(year, month)).contains(&day);
        if !is_date || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let mut rest = 19;
        let mut micros = 0;
        if bytes.get(rest) == Some(&b'.') {
            let digits = bytes[rest + 1..]
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count();
            if digits == 0 {
                return None;
            }
            for place in 1..=6 {
                let digit = if place <= digits {
                    bytes[rest + place] - b'0'
                } else {
                    0
                };
                micros = micros * 10 + u32::from(digit);
            }
            rest += 1 + digits;
        }
        let offset = match bytes.get(rest)? {
            b'Z' if bytes.len() == rest + 1 => 0,
            sign @ (b'+' | b'-') if bytes.len() == rest + 6 && bytes[rest + 3] == b':' => {
                let (hours, minutes) = (number(rest + 1, 2)?, number(rest + 4, 2)?);
                if hours > 24 || minutes > 60 {
                    return None;
                }
                let offset = (hours * 60 + minutes) * 60;
                if *sign == b'+' { offset } else { -offset }
            }
            _ => return None,
        };
        let seconds = ((days_since_1970(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
        Some(Self {
            seconds: seconds - offset,
            micros,
        })
    }

    fn written(&self, precision: Precision) -> String {
        let (year, month, day) = date(self.seconds.div_euclid(86_400));
        let second = self.seconds.rem_euclid(86_400);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let until_seconds =
            format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
        match precision {
            Precision::Seconds => format!("{until_seconds}Z"),
            Precision::Micros => format!("{until_seconds}.{:06}Z", self.micros),
        }
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Years that begin in March have the leap day last, so that days count evenly; 400 of them have 146,097 days.
const DAYS_OF_400_YEARS: i64 = 146_097;

/// Days from 0000-03-01 to 1970-01-01.
const DAYS_UNTIL_1970: i64 = 719_468;

fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month < 3 { year - 1 } else { year };
    let months = (month + 9) % 12;
    let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
    let days = year * 365 + year / 4 - year / 100 + (153 * months + 2) / 5 + day - 1;
    era * DAYS_OF_400_YEARS + days - DAYS_UNTIL_1970
}

fn date(days: i64) -> (i64, i64, i64) {
    let days = days + DAYS_UNTIL_1970;
    let (era, day) = (
        days.div_euclid(DAYS_OF_400_YEARS),
        days.rem_euclid(DAYS_OF_400_YEARS),
    );
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (year * 365 + year / 4 - year / 100);
    let months = (5 * day + 2) / 153;
    let month = (months + 2) % 12 + 1;
    let year = era * 400 + year + i64::from(month < 3);
    (year, month, day - (153 * months + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalised(text: &str, precision: Precision) -> Value {
        let mut value = Value::from(text);
        normalise(&mut value, precision);
        value
    }

    #[test]
    fn times_are_written_in_utc() {
        for (text, written) in [
            ("2026-08-01T10:00:00Z", "2026-08-01T10:00:00Z"),
            ("2026-08-01T10:00:00.999Z", "2026-08-01T10:00:00Z"),
            ("2026-01-01T00:30:00+02:00", "2025-12-31T22:30:00Z"),
            ("2024-02-28T23:00:00-05:30", "2024-02-29T04:30:00Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ] {
            assert_eq!(normalised(text, Precision::Seconds), written);
        }
        for (text, written) in [
            ("2026-08-01T10:00:00Z", "2026-08-01T10:00:00.000000Z"),
            (
                "2026-08-01T10:00:00.1234567Z",
                "2026-08-01T10:00:00.123456Z",
            ),
        ] {
            assert_eq!(normalised(text, Precision::Micros), written);
        }
    }

    #[test]
    fn what_is_no_time_stays() {
        for text in [
            "",
            "yesterday",
            "2026-13-01T10:00:00Z",
            "2025-02-29T10:00:00Z",
            "2026-08-01 10:00:00Z",
            "2026-08-01T10:00:00",
            "2026-08-01T10:00:00.Z",
            "2026-08-01T10:00:00+0200",
            "2026-08-01T10:00:00é",
        ] {
            assert_eq!(normalised(text, Precision::Seconds), text);
        }
    }

    #[test]
    fn every_day_of_centuries_is_found_again() {
        for day in -800_000..800_000 {
            let (year, month, of_month) = date(day);
            assert_eq!(days_since_1970(year, month, of_month), day);
            assert!((1..=days_of(year, month)).contains(&of_month));
        }
    }
}
