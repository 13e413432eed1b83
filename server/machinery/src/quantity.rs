//! Amounts of resources as Kubernetes writes them (`100m`, `1.5`, `2Gi`, `1e3`): read, compared, added, and written in
//! the one form that clients get back.
//!
//! An amount is kept in nanos, the finest that there is. What is finer is rounded away from zero, and what has more
//! than 10^29 units is held to be 10^29 units; with a binary suffix the most is 2^63-1, as upstream has it.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde_json::Value;

/// Nanos in a unit.
const UNIT: u128 = 1_000_000_000;

/// The most nanos that an amount may have.
const MOST: u128 = UNIT * 100_000_000_000_000_000_000_000_000_000;

/// The most units of an amount with a binary suffix.
const MOST_BINARY: u128 = i64::MAX as u128;

/// Binary suffixes by powers of 1024.
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// Decimal suffixes by powers of 1000, from 10^-9 on.
const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];

/// How an amount was written, which decides how it is written again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Notation {
    /// `1`, `100m`, `2M`.
    Decimal,
    /// `1e3`.
    Exponent,
    /// `2Gi`.
    Binary,
}

/// An amount of something.
#[derive(Clone, Debug)]
pub struct Quantity {
    nanos: i128,
    notation: Notation,
    /// The text that it was read from, if that is written again as it is.
    text: Option<Box<str>>,
}

/// Why text is no amount; upstream's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// It does not look like one.
    Format,
    /// Its number cannot be read.
    Number,
    /// Its suffix is unknown.
    Suffix,
}

impl fmt::Display for ParseError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Format => {
                "quantities must match the regular expression \
                 '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
            }
            Self::Number => "unable to parse numeric part of quantity",
            Self::Suffix => "unable to parse quantity's suffix",
        })
    }
}

impl std::error::Error for ParseError {}

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self {
        nanos: 0,
        notation: Notation::Decimal,
        text: None,
    };

    /// A number of things.
    #[must_use]
    pub fn count(number: u32) -> Self {
        Self {
            nanos: i128::from(number) * UNIT.cast_signed(),
            ..Self::ZERO
        }
    }

    /// Reads text or a number.
    ///
    /// # Errors
    ///
    /// If it is neither, or no amount.
    pub fn of(value: &Value) -> Result<Self, ParseError> {
        match value {
            Value::String(text) => text.trim().parse(),
            Value::Number(number) => number.to_string().parse(),
            _ => Err(ParseError::Format),
        }
    }

    /// Whether it is nothing.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// Whether it is less than nothing.
    #[must_use]
    pub fn is_negative(&self) -> bool {
        self.nanos < 0
    }

    /// Whole units, rounded away from zero.
    #[must_use]
    pub fn units(&self) -> i128 {
        round_away(self.nanos, UNIT) / UNIT.cast_signed()
    }

    /// Thousandths of a unit, rounded away from zero.
    #[must_use]
    pub fn millis(&self) -> i128 {
        let milli = UNIT / 1000;
        round_away(self.nanos, milli) / milli.cast_signed()
    }

    /// Both together, written as this one is; as the other if this is nothing.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        self.with(self.nanos.saturating_add(other.nanos), other)
    }

    /// This one without the other, written as this one is; as the other if this is nothing.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        self.with(self.nanos.saturating_sub(other.nanos), other)
    }

    fn with(&self, nanos: i128, other: &Self) -> Self {
        let most = MOST.cast_signed();
        Self {
            nanos: nanos.clamp(-most, most),
            notation: if self.is_zero() {
                other.notation
            } else {
                self.notation
            },
            text: None,
        }
    }

    /// The same without what is finer than a thousandth, rounded away from zero.
    #[must_use]
    pub fn rounded_to_millis(self) -> Self {
        self.rounded(UNIT / 1000)
    }

    /// The same without parts of a unit, rounded away from zero.
    #[must_use]
    pub fn rounded_to_units(self) -> Self {
        self.rounded(UNIT)
    }

    fn rounded(self, step: u128) -> Self {
        let nanos = round_away(self.nanos, step);
        if nanos == self.nanos {
            return self;
        }
        Self {
            nanos,
            notation: self.notation,
            text: None,
        }
    }

    fn write_decimal(&self, notation: Notation, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut number = self.nanos;
        let mut exponent: i32 = -9;
        while number % 10 == 0 {
            number /= 10;
            exponent += 1;
        }
        while exponent % 3 != 0 {
            number *= 10;
            exponent -= 1;
        }
        let suffix = usize::try_from(exponent / 3 + 3)
            .ok()
            .and_then(|place| DECIMAL.get(place));
        match (notation, suffix) {
            (_, Some(_)) if exponent == 0 => write!(formatter, "{number}"),
            (Notation::Exponent, _) | (_, None) => write!(formatter, "{number}e{exponent}"),
            (_, Some(suffix)) => write!(formatter, "{number}{suffix}"),
        }
    }
}

/// The next multiple of a step, away from zero.
fn round_away(number: i128, step: u128) -> i128 {
    let step = step.cast_signed();
    let rest = number % step;
    match rest.signum() {
        0 => number,
        sign => number - rest + sign * step,
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(text) = &self.text {
            return formatter.write_str(text);
        }
        if self.is_zero() {
            return formatter.write_str("0");
        }
        let unit = UNIT.cast_signed();
        let is_whole = self.nanos % unit == 0;
        let mut number = self.nanos / unit;
        // Below 1024 a binary suffix has nothing to say, and parts of a unit it cannot say.
        match self.notation {
            Notation::Binary if is_whole && number.unsigned_abs() >= 1024 => {
                let mut power = 0;
                while number % 1024 == 0 && power + 1 < BINARY.len() {
                    number /= 1024;
                    power += 1;
                }
                write!(formatter, "{number}{}", BINARY[power])
            }
            Notation::Binary => self.write_decimal(Notation::Decimal, formatter),
            notation => self.write_decimal(notation, formatter),
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

/// The parts of an amount as text.
struct Parts<'a> {
    is_negative: bool,
    /// Digits before the point, without leading zeros; `0` if there are none.
    whole: &'a str,
    /// Digits behind the point.
    fraction: &'a str,
    suffix: &'a str,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Result<Self, ParseError> {
        let is_digit = |byte: u8| byte.is_ascii_digit();
        let (is_negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            Some(_) => (false, text),
            None => return Err(ParseError::Format),
        };
        let significant = unsigned.trim_start_matches('0');
        let (whole, rest) = split(significant, is_digit);
        let (fraction, suffix) = match rest.strip_prefix('.') {
            Some(rest) => split(rest, is_digit),
            None => ("", rest),
        };
        let (_, exponent) = split(suffix, |byte| b"eEinumkKMGTP".contains(&byte));
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        if !exponent.bytes().all(is_digit) {
            return Err(ParseError::Format);
        }
        Ok(Self {
            is_negative,
            whole: if whole.is_empty() { "0" } else { whole },
            fraction,
            suffix,
        })
    }
}

/// Splits text where bytes, which must be ASCII, are no longer of a kind.
fn split(text: &str, is_first: impl Fn(u8) -> bool) -> (&str, &str) {
    let end = text.bytes().position(|byte| !is_first(byte));
    text.split_at(end.unwrap_or(text.len()))
}

/// What a suffix says: notation, and exponent to the base of the notation.
fn suffix(text: &str) -> Result<(Notation, i32), ParseError> {
    if let Some(place) = DECIMAL.iter().position(|one| *one == text) {
        let power = i32::try_from(place).map_err(|_| ParseError::Suffix)? - 3;
        return Ok((Notation::Decimal, power * 3));
    }
    if let Some(power) = BINARY.iter().position(|one| *one == text) {
        let power = i32::try_from(power).map_err(|_| ParseError::Suffix)?;
        return Ok((Notation::Binary, power * 10));
    }
    let exponent = text
        .strip_prefix(['e', 'E'])
        .and_then(|exponent| exponent.parse().ok())
        .ok_or(ParseError::Suffix)?;
    Ok((Notation::Exponent, exponent))
}

/// Reads digits; more than there may be are the most.
fn number(digits: &str) -> u128 {
    digits.parse().unwrap_or(u128::MAX)
}

/// Nanos of digits with a decimal exponent, rounded up.
fn decimal_nanos(digits: &str, exponent: i64) -> u128 {
    let exponent = exponent.saturating_add(9);
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return 0;
    }
    match usize::try_from(exponent) {
        Ok(zeros) if zeros > 38 => MOST,
        Ok(zeros) => number(digits)
            .saturating_mul(number(&format!("1{}", "0".repeat(zeros))))
            .min(MOST),
        Err(_) => {
            let dropped = usize::try_from(exponent.unsigned_abs()).unwrap_or(usize::MAX);
            let kept = digits.len().saturating_sub(dropped);
            let (kept, dropped) = digits.split_at(kept);
            let has_rest = dropped.bytes().any(|digit| digit != b'0');
            let nanos = if kept.is_empty() { 0 } else { number(kept) };
            nanos.saturating_add(u128::from(has_rest)).min(MOST)
        }
    }
}

/// Nanos of a number with a power of two, rounded up.
fn binary_nanos(whole: &str, fraction: &str, exponent: i32) -> u128 {
    let factor = 1_u128 << exponent.clamp(0, 60);
    let units = number(whole).saturating_mul(factor);
    if units > MOST_BINARY {
        return MOST_BINARY * UNIT;
    }
    // Thirty-six digits tell every nano of the largest factor; two halves of eighteen fit into the arithmetic.
    let digit = |place: usize| {
        fraction
            .as_bytes()
            .get(place)
            .map_or(0, |digit| digit - b'0')
    };
    let half = |from: usize| {
        (from..from + 18).fold(0_u128, |sum, place| sum * 10 + u128::from(digit(place)))
    };
    let first = half(0) * factor;
    let second = (first % UNIT) * 1_000_000_000_000_000_000 + half(18) * factor;
    let scale = UNIT * 1_000_000_000_000_000_000;
    let has_rest =
        !second.is_multiple_of(scale) || fraction.bytes().skip(36).any(|digit| digit != b'0');
    let nanos = first / UNIT + second / scale + u128::from(has_rest);
    (units * UNIT + nanos).min(MOST_BINARY * UNIT)
}

impl FromStr for Quantity {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let parts = Parts::of(text)?;
        let (mut notation, exponent) = suffix(parts.suffix)?;
        let digits = parts.whole.len() + parts.fraction.len();
        let behind_point = i64::try_from(parts.fraction.len()).unwrap_or(i64::MAX);
        let scale = i64::from(exponent).saturating_sub(behind_point);
        let (nanos, is_kept) = if notation == Notation::Binary {
            let nanos = binary_nanos(parts.whole, parts.fraction, exponent);
            // The digits that upstream's quick way has room for.
            let room =
                14 - i32::try_from(parts.whole.len()).unwrap_or(i32::MAX) - exponent * 3 / 10;
            let is_kept =
                parts.fraction.is_empty() && room >= 0 && !number(parts.whole).is_multiple_of(8);
            if nanos < UNIT && nanos > 0 {
                notation = Notation::Decimal;
            }
            (nanos, is_kept)
        } else {
            let shifted = format!("{}{}", parts.whole, parts.fraction);
            let is_kept = digits <= 18
                && scale >= -9
                && scale % 3 == 0
                && !shifted.ends_with("000")
                && !shifted.starts_with('0');
            (decimal_nanos(&shifted, scale), is_kept)
        };
        let nanos = nanos.cast_signed();
        Ok(Self {
            nanos: if parts.is_negative { -nanos } else { nanos },
            notation,
            text: is_kept.then(|| text.into()),
        })
    }
}

/// Writes an amount in the form that clients get back; what is none stays as it is.
pub fn canonicalise(value: &mut Value) {
    rewrite(value, |quantity| quantity);
}

/// The same of an amount in a list of resources, where nothing is finer than a thousandth.
pub fn canonicalise_resource(value: &mut Value) {
    rewrite(value, Quantity::rounded_to_millis);
}

fn rewrite(value: &mut Value, change: impl FnOnce(Quantity) -> Quantity) {
    let Ok(quantity) = Quantity::of(value) else {
        return;
    };
    let text = change(quantity).to_string();
    if value.as_str() != Some(text.as_str()) {
        *value = Value::String(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Quantity {
        text.parse().unwrap()
    }

    #[test]
    fn amounts_are_written_as_upstream_writes_them() {
        for (text, written) in [
            ("0", "0"),
            ("00", "0"),
            ("0Mi", "0"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("0.5", "500m"),
            ("0.500", "500m"),
            ("1.5", "1500m"),
            ("1.500", "1.500"),
            ("100m", "100m"),
            ("1024Mi", "1Gi"),
            ("1000Mi", "1000Mi"),
            ("500Mi", "500Mi"),
            ("1.5Gi", "1536Mi"),
            ("0.5Gi", "512Mi"),
            ("0.1Gi", "107374182400m"),
            ("512Ki", "512Ki"),
            ("1Ki", "1Ki"),
            ("0.5Ki", "512"),
            ("1Ei", "1Ei"),
            ("8Ei", "9223372036854775807"),
            ("100000", "100k"),
            ("128974848", "128974848"),
            ("129e6", "129e6"),
            ("129M", "129M"),
            ("1e3", "1e3"),
            ("1E3", "1E3"),
            ("1e2", "100"),
            ("1e4", "10e3"),
            ("1E", "1E"),
            ("2000k", "2M"),
            ("+5", "+5"),
            ("-5", "-5"),
            ("-1000m", "-1"),
            ("007", "007"),
            ("1.", "1."),
            (".5", "500m"),
            ("1n", "1n"),
            ("0.1n", "1n"),
            ("0.0000000001", "1n"),
            ("1.0000000001", "1000000001n"),
            ("12345678901234567890", "12345678901234567890"),
        ] {
            assert_eq!(read(text).to_string(), written, "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_as_the_same() {
        for text in [
            "0.5", "1.5Gi", "0.1Gi", "1e4", "8Ei", "100000", "0.1n", "1.500",
        ] {
            let once = read(text);
            let twice = read(&once.to_string());
            assert_eq!(once, twice, "{text}");
            assert_eq!(once.to_string(), twice.to_string(), "{text}");
        }
    }

    #[test]
    fn text_that_is_no_amount_is_refused_in_upstreams_words() {
        for (text, error) in [
            ("", ParseError::Format),
            ("1 Gi", ParseError::Format),
            ("1.2.3", ParseError::Format),
            ("abc", ParseError::Format),
            ("1é", ParseError::Format),
            ("1mm", ParseError::Suffix),
            ("1gi", ParseError::Format),
            ("1K", ParseError::Suffix),
            ("1e", ParseError::Suffix),
        ] {
            assert_eq!(text.parse::<Quantity>().unwrap_err(), error, "{text}");
        }
        assert!(ParseError::Format.to_string().ends_with("[-+]?[0-9]*)$'"));
    }

    #[test]
    fn order_is_by_amount_and_not_by_text() {
        assert_eq!(read("1"), read("1000m"));
        assert!(read("1Gi") > read("1G"));
        assert!(read("-1") < read("0"));
        assert!(read("1n") > read("0"));
        assert!(read("999e100") > read("1Ei"));
    }

    #[test]
    fn sums_keep_the_notation() {
        assert_eq!(read("512Mi").plus(&read("512Mi")).to_string(), "1Gi");
        assert_eq!(read("500m").plus(&read("0.5")).to_string(), "1");
        assert_eq!(Quantity::ZERO.plus(&read("2Gi")).to_string(), "2Gi");
        assert_eq!(read("1").minus(&read("250m")).to_string(), "750m");
    }

    #[test]
    fn resources_have_no_parts_finer_than_a_thousandth() {
        let mut value = Value::from("0.0001");
        canonicalise_resource(&mut value);
        assert_eq!(value, "1m");
        let mut value = Value::from(1.5);
        canonicalise_resource(&mut value);
        assert_eq!(value, "1500m");
        let mut value = Value::from("nonsense");
        canonicalise_resource(&mut value);
        assert_eq!(value, "nonsense");
    }

    #[test]
    fn whole_units_are_rounded_away_from_zero() {
        assert_eq!(read("1500m").units(), 2);
        assert_eq!(read("-1500m").units(), -2);
        assert_eq!(read("1500m").millis(), 1500);
    }

    #[test]
    fn no_text_makes_it_panic() {
        let bytes = "0123456789.+-eEinumkKMGTP é";
        let mut seed = 7_u64;
        for _ in 0..20_000 {
            let mut text = String::new();
            for _ in 0..(seed >> 60) + 1 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let place = usize::try_from(seed >> 33).unwrap() % bytes.chars().count();
                text.extend(bytes.chars().nth(place));
            }
            if let Ok(quantity) = text.parse::<Quantity>() {
                let _ = quantity.to_string();
            }
        }
        for text in [
            &"9".repeat(500),
            &format!("1.{}Gi", "7".repeat(200)),
            "1e99999999999",
            "1e-2147483648",
        ] {
            if let Ok(quantity) = text.parse::<Quantity>() {
                let _ = quantity.to_string();
            }
        }
    }
}
