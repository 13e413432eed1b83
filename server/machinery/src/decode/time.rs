//! Points in time as Kubernetes writes them: RFC 3339, in UTC, in whole seconds or in microseconds.

/// How exact a time is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Precision {
    /// `Time`.
    Seconds,
    /// `MicroTime`.
    Microseconds,
}

impl Precision {
    /// The form as Go spells it, which its errors quote.
    fn layout(self) -> &'static str {
        match self {
            Self::Seconds => "2006-01-02T15:04:05Z07:00",
            Self::Microseconds => "2006-01-02T15:04:05.000000Z07:00",
        }
    }
}

/// A point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Time {
    /// Since 1970.
    pub(super) seconds: i64,
    /// Beyond those.
    pub(super) nanoseconds: u32,
}

/// Why text is no time.
enum Fault<'t> {
    /// What is left does not begin with this part of the form.
    Form(&'t str, &'static str),
    /// This part is greater than it may be.
    Range(&'static str),
    /// More than a time.
    Extra(&'t str),
}

impl Time {
    /// Reads RFC 3339 as Go does. Fails with Go's words.
    pub(super) fn read(text: &str, precision: Precision) -> Result<Self, String> {
        parse(text, precision).map_err(|fault| match fault {
            Fault::Form(rest, part) => {
                let layout = precision.layout();
                format!("parsing time {text:?} as {layout:?}: cannot parse {rest:?} as {part:?}")
            }
            Fault::Range(part) => format!("parsing time {text:?}: {part} out of range"),
            Fault::Extra(rest) => format!("parsing time {text:?}: extra text: {rest:?}"),
        })
    }

    /// `2006-01-02T15:04:05Z`.
    pub(super) fn write(self, precision: Precision) -> String {
        let (day, second) = (
            self.seconds.div_euclid(86_400),
            self.seconds.rem_euclid(86_400),
        );
        let (year, month, day) = date(day);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let start = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
        match precision {
            Precision::Seconds => start + "Z",
            Precision::Microseconds => format!("{start}.{:06}Z", self.nanoseconds / 1000),
        }
    }
}

fn parse(text: &str, precision: Precision) -> Result<Time, Fault<'_>> {
    let (year, rest) = number(text, 4..=4, "2006")?;
    let rest = separator(rest, "-")?;
    let (month, rest) = number(rest, 2..=2, "01")?;
    if !(1..=12).contains(&month) {
        return Err(Fault::Range("month"));
    }
    let rest = separator(rest, "-")?;
    let (day, rest) = number(rest, 2..=2, "02")?;
    let rest = separator(rest, "T")?;
    let (hour, rest) = number(rest, 1..=2, "15")?;
    if hour > 23 {
        return Err(Fault::Range("hour"));
    }
    let rest = separator(rest, ":")?;
    let (minute, rest) = number(rest, 2..=2, "04")?;
    if minute > 59 {
        return Err(Fault::Range("minute"));
    }
    let rest = separator(rest, ":")?;
    let (second, rest) = number(rest, 2..=2, "05")?;
    if second > 59 {
        return Err(Fault::Range("second"));
    }
    let (nanoseconds, rest) = fraction(rest, precision)?;
    let (offset, rest) = zone(rest)?;
    if !rest.is_empty() {
        return Err(Fault::Extra(rest));
    }
    if day < 1 || day > days_of(month, year) {
        return Err(Fault::Range("day"));
    }
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Ok(Time {
        seconds: seconds - offset,
        nanoseconds,
    })
}

/// Digits, as many as there may be, and what comes behind them.
fn number<'t>(
    text: &'t str,
    lengths: std::ops::RangeInclusive<usize>,
    part: &'static str,
) -> Result<(i64, &'t str), Fault<'t>> {
    let digits = text.bytes().take(*lengths.end());
    let length = digits.take_while(u8::is_ascii_digit).count();
    if length < *lengths.start() {
        return Err(Fault::Form(text, part));
    }
    let (digits, rest) = text.split_at(length);
    let value = digits
        .bytes()
        .fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
    Ok((value, rest))
}

fn separator<'t>(text: &'t str, part: &'static str) -> Result<&'t str, Fault<'t>> {
    text.strip_prefix(part).ok_or(Fault::Form(text, part))
}

/// Nanoseconds. Where the form has no fraction one may be there all the same, of any length, behind a dot or a comma.
fn fraction(text: &str, precision: Precision) -> Result<(u32, &str), Fault<'_>> {
    let behind = text.strip_prefix(['.', ',']);
    let length = behind.map_or(0, |behind| {
        behind.bytes().take_while(u8::is_ascii_digit).count()
    });
    let (behind, length) = match (precision, behind) {
        (Precision::Seconds, Some(behind)) if length > 0 => (behind, length),
        (Precision::Seconds, _) => return Ok((0, text)),
        (Precision::Microseconds, Some(behind)) if length >= 6 => (behind, 6),
        (Precision::Microseconds, _) => return Err(Fault::Form(text, ".000000")),
    };
    let (digits, rest) = behind.split_at(length);
    let nanoseconds = digits.bytes().chain(std::iter::repeat(b'0')).take(9);
    let nanoseconds = nanoseconds.fold(0, |value, digit| value * 10 + u32::from(digit - b'0'));
    Ok((nanoseconds, rest))
}

/// Seconds east of Greenwich.
fn zone(text: &str) -> Result<(i64, &str), Fault<'_>> {
    if let Some(rest) = text.strip_prefix('Z') {
        return Ok((0, rest));
    }
    let fault = Fault::Form(text, "Z07:00");
    let sign = match text.bytes().next() {
        Some(b'+') => 1,
        Some(b'-') => -1,
        _ => return Err(fault),
    };
    let two = |from: usize| -> Option<i64> {
        let digits = text.get(from..from + 2)?;
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| digits.parse().ok()).flatten()
    };
    let (Some(hour), Some(":"), Some(minute)) = (two(1), text.get(3..4), two(4)) else {
        return Err(fault);
    };
    if hour > 24 {
        return Err(Fault::Range("time zone offset hour"));
    }
    if minute > 60 {
        return Err(Fault::Range("time zone offset minute"));
    }
    Ok((sign * (hour * 3600 + minute * 60), &text[6..]))
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of(month: i64, year: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970. Counted in years that begin in March, so that the day that leap years have comes last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let months_since_march = (month + 9) % 12;
    let day_of_year = (153 * months_since_march + 2) / 5 + day - 1;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + day_of_year - 719_468
}

/// Year, month and day, from days since 1970.
fn date(days: i64) -> (i64, i64, i64) {
    // A guess that is never too late, brought nearer until it is right.
    let longest = if days < 0 { 365 } else { 366 };
    let mut year = 1970 + days.div_euclid(longest);
    while self::days(year + 1, 1, 1) <= days {
        let missing = days - self::days(year + 1, 1, 1);
        year += 1 + missing / 366;
    }
    let mut day = days - self::days(year, 1, 1) + 1;
    let mut month = 1;
    while day > days_of(month, year) {
        day -= days_of(month, year);
        month += 1;
    }
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Result<String, String> {
        Time::read(text, Precision::Seconds).map(|time| time.write(Precision::Seconds))
    }

    fn micros(text: &str) -> Result<String, String> {
        Time::read(text, Precision::Microseconds).map(|time| time.write(Precision::Microseconds))
    }

    #[test]
    fn times_are_kept_in_utc_and_whole_seconds() {
        for (text, kept) in [
            ("2024-02-29T23:00:00Z", "2024-02-29T23:00:00Z"),
            ("2024-02-20T23:00:00.5Z", "2024-02-20T23:00:00Z"),
            ("2024-02-20T23:00:00,5Z", "2024-02-20T23:00:00Z"),
            ("2024-02-20T23:00:00+02:00", "2024-02-20T21:00:00Z"),
            ("2024-12-31T23:00:00-02:30", "2025-01-01T01:30:00Z"),
            ("2024-02-20T3:00:00Z", "2024-02-20T03:00:00Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
            ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
            ("1969-12-31T23:59:59Z", "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(seconds(text).as_deref(), Ok(kept));
        }
    }

    #[test]
    fn every_day_is_written_as_it_was_read() {
        for day in -800_000..3_000_000 {
            let (year, month, of_month) = date(day);
            assert_eq!(days(year, month, of_month), day);
            assert!((1..=days_of(month, year)).contains(&of_month));
        }
    }

    #[test]
    fn micro_times_have_six_digits() {
        assert_eq!(
            micros("2024-02-20T23:00:00.123456+02:00").as_deref(),
            Ok("2024-02-20T21:00:00.123456Z")
        );
        assert_eq!(
            micros("2024-02-20T23:00:00Z").unwrap_err(),
            r#"parsing time "2024-02-20T23:00:00Z" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "Z" as ".000000""#
        );
        assert_eq!(
            micros("2024-02-20T23:00:00.123456789Z").unwrap_err(),
            r#"parsing time "2024-02-20T23:00:00.123456789Z" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "789Z" as "Z07:00""#
        );
    }

    #[test]
    fn what_is_no_time_is_refused_in_the_words_of_go() {
        for (text, why) in [
            (
                "x",
                r#" as "2006-01-02T15:04:05Z07:00": cannot parse "x" as "2006""#,
            ),
            (
                "",
                r#" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "2006""#,
            ),
            (
                "2024-02",
                r#" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "-""#,
            ),
            ("2024-13-01T00:00:00Z", ": month out of range"),
            ("2024-02-30T00:00:00Z", ": day out of range"),
            ("2024-02-20T24:00:00Z", ": hour out of range"),
            ("2024-02-20T23:60:00Z", ": minute out of range"),
            ("2024-02-20T23:00:60Z", ": second out of range"),
            ("2024-02-20T23:00:00Zx", r#": extra text: "x""#),
            (
                "2024-02-20T23:00:00+25:00",
                ": time zone offset hour out of range",
            ),
            (
                "2024-02-20T23:00:00",
                r#" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "Z07:00""#,
            ),
            (
                "2024-02-20t03:00:00z",
                r#" as "2006-01-02T15:04:05Z07:00": cannot parse "t03:00:00z" as "T""#,
            ),
            (
                "2024-02-20T23:00:00+0200",
                r#" as "2006-01-02T15:04:05Z07:00": cannot parse "+0200" as "Z07:00""#,
            ),
            (
                "2024-02-20T23:00:00+0é:00",
                r#" as "2006-01-02T15:04:05Z07:00": cannot parse "+0é:00" as "Z07:00""#,
            ),
        ] {
            assert_eq!(
                seconds(text).unwrap_err(),
                format!("parsing time {text:?}{why}")
            );
        }
    }
}
