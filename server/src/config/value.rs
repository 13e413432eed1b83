//! Reads single values in the forms that etcd's users write them: Go booleans and durations, byte sizes.

use std::time::Duration;

use super::flags::Kind;

/// Checks that a value has the form its flag needs; says what is expected if not.
pub(super) fn check(kind: Kind, text: &str) -> Result<(), String> {
    match kind {
        Kind::Text | Kind::List => Ok(()),
        Kind::Bool => boolean(text)
            .map(drop)
            .ok_or_else(|| "true or false".to_owned()),
        Kind::Duration => duration(text)
            .map(drop)
            .ok_or_else(|| "a duration such as 500ms, 10s or 1m30s".to_owned()),
        Kind::Size => size(text)
            .map(drop)
            .ok_or_else(|| "a size such as 512MiB or 1GiB".to_owned()),
        Kind::Choice(words) if words.contains(&text) => Ok(()),
        Kind::Choice(words) => Err(format!("one of {}", words.join(", "))),
        Kind::Number(least, most) => match text.parse::<i64>() {
            Ok(number) if (least..=most).contains(&number) => Ok(()),
            _ if most == i64::MAX && least == i64::MIN => Err("a whole number".to_owned()),
            _ if most == i64::MAX => Err(format!("a whole number, {least} or more")),
            _ => Err(format!("a whole number from {least} to {most}")),
        },
    }
}

/// A boolean as Go's flag package reads it.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A duration as Go writes it, without the negative ones: no flag has a use for them.
pub(super) fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return None;
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let end = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        let nanoseconds: u64 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        total = total.checked_add(scaled(number, nanoseconds)?)?;
        rest = next;
    }
    Some(total)
}

/// `number` (digits, at most one point) times a unit of so many nanoseconds.
fn scaled(number: &str, nanoseconds: u64) -> Option<Duration> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let mut total = whole.checked_mul(nanoseconds)?;
    let mut place = nanoseconds;
    for digit in fraction.chars() {
        place /= 10;
        total = total.checked_add(place.checked_mul(u64::from(digit.to_digit(10)?))?)?;
    }
    Some(Duration::from_nanos(total))
}

/// A number of bytes, with or without a unit. `MB` and `MiB` both mean 1,048,576: as in etcd's own texts.
pub(super) fn size(text: &str) -> Option<u64> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let shift = match unit.trim() {
        "" | "B" => 0,
        "K" | "KB" | "KiB" => 10,
        "M" | "MB" | "MiB" => 20,
        "G" | "GB" | "GiB" => 30,
        "T" | "TB" | "TiB" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// The parts of a comma-separated list, without empty ones.
pub(super) fn list(text: &str) -> Vec<String> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let cases = [
            ("0", Some(0)),
            ("0s", Some(0)),
            ("100ms", Some(100_000_000)),
            ("1m30s", Some(90_000_000_000)),
            ("1.5h", Some(5_400_000_000_000)),
            (".5s", Some(500_000_000)),
            ("2h45m0.5s", Some(9_900_500_000_000)),
            ("3us", Some(3_000)),
            ("", None),
            ("10", None),
            ("s", None),
            (".s", None),
            ("1.2.3s", None),
            ("-1s", None),
            ("1 s", None),
            ("5d", None),
            ("99999999999h", None),
        ];
        for (text, nanoseconds) in cases {
            assert_eq!(
                duration(text),
                nanoseconds.map(Duration::from_nanos),
                "{text:?}"
            );
        }
    }

    #[test]
    fn sizes_take_binary_units() {
        let cases = [
            ("0", Some(0)),
            ("1024", Some(1024)),
            ("512MiB", Some(512 << 20)),
            ("2 GB", Some(2 << 30)),
            ("MiB", None),
            ("1PiB", None),
            ("-1", None),
            ("99999999TiB", None),
        ];
        for (text, bytes) in cases {
            assert_eq!(size(text), bytes, "{text:?}");
        }
    }

    #[test]
    fn a_bad_value_is_told_what_is_expected() {
        assert_eq!(
            check(Kind::Number(1, 5), "6").unwrap_err(),
            "a whole number from 1 to 5"
        );
        assert_eq!(
            check(Kind::Choice(&["a", "b"]), "c").unwrap_err(),
            "one of a, b"
        );
        assert_eq!(check(Kind::Bool, "yes").unwrap_err(), "true or false");
        assert!(check(Kind::Bool, "T").is_ok());
    }
}
