//! Amounts such as `100m` or `2Gi`, as far as rules compare them.

use serde_json::Value;

/// What upstream says of text that is no amount.
pub(super) const MALFORMED: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

/// Billionths in one.
const ONE: i128 = 1_000_000_000;

/// An amount in billionths, the smallest part that upstream tells apart. What is too large stays at the largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Amount(i128);

impl Amount {
    /// One.
    pub(super) const ONE: Self = Self(ONE);

    /// Reads an amount; none if it is not one.
    pub(super) fn read(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Self::parse(text),
            Value::Number(number) => Self::parse(&number.to_string()),
            _ => None,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (sign, unsigned) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text.strip_prefix('+').unwrap_or(text)),
        };
        let is_of_number = |letter: char| letter.is_ascii_digit() || letter == '.';
        let end = unsigned.find(|letter| !is_of_number(letter));
        let (number, suffix) = unsigned.split_at(end.unwrap_or(unsigned.len()));
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && part.is_empty()) || part.contains('.') {
            return None;
        }
        let (tens, factor) = scale(suffix)?;
        let mut billionths = Decimal::new(whole, part).shifted(9 + tens);
        billionths = billionths.checked_mul(factor).unwrap_or(i128::MAX);
        Some(Self(sign * billionths))
    }

    /// Whether it is less than nothing.
    pub(super) fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// Whether it is more than nothing.
    pub(super) fn is_positive(self) -> bool {
        self.0 > 0
    }

    /// Whether it has no parts smaller than one.
    pub(super) fn is_whole(self) -> bool {
        self.0 % ONE == 0
    }

    /// As a number that may be a little off.
    pub(super) fn to_float(self) -> f64 {
        self.0 as f64 / ONE as f64
    }
}

/// What a suffix multiplies by: a power of ten, and another factor.
fn scale(suffix: &str) -> Option<(i64, i128)> {
    let decimal = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
    let binary = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    if let Some(place) = decimal.iter().position(|one| *one == suffix) {
        return Some((i64::try_from(place).ok()? * 3 - 9, 1));
    }
    if let Some(place) = binary.iter().position(|one| *one == suffix) {
        return Some((0, 1 << (10 * (place + 1))));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?;
    let is_number = exponent
        .trim_start_matches(['+', '-'])
        .bytes()
        .all(|byte| byte.is_ascii_digit());
    if !is_number || exponent.is_empty() {
        return None;
    }
    Some((exponent.parse::<i32>().ok()?.into(), 1))
}

/// Digits before and after the point.
struct Decimal<'a> {
    whole: &'a [u8],
    part: &'a [u8],
}

impl<'a> Decimal<'a> {
    fn new(whole: &'a str, part: &'a str) -> Self {
        Self {
            whole: whole.as_bytes(),
            part: part.as_bytes(),
        }
    }

    /// The number times a power of ten, rounded up to a whole one.
    fn shifted(&self, tens: i64) -> i128 {
        let digits: Vec<i128> = self
            .whole
            .iter()
            .chain(self.part)
            .map(|byte| i128::from(byte - b'0'))
            .collect();
        let length = i64::try_from(self.whole.len()).unwrap_or(i64::MAX);
        let kept = usize::try_from(length.saturating_add(tens).max(0)).unwrap_or(usize::MAX);
        let mut number: i128 = 0;
        for digit in digits.iter().take(kept) {
            number = number.saturating_mul(10).saturating_add(*digit);
        }
        if digits.iter().skip(kept).any(|digit| *digit > 0) {
            return number.saturating_add(1);
        }
        // Beyond forty zeros anything but nothing is at the largest already.
        for _ in 0..kept.saturating_sub(digits.len()).min(40) {
            number = number.saturating_mul(10);
        }
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(text: &str) -> Option<Amount> {
        Amount::read(&json!(text))
    }

    #[test]
    fn amounts_are_compared_by_what_they_mean() {
        assert_eq!(read("1000m"), read("1"));
        assert_eq!(read("1Ki"), read("1024"));
        assert_eq!(read("1e3"), read("1k"));
        assert_eq!(read("1.5Gi"), read("1536Mi"));
        assert_eq!(
            read("100E").unwrap().max(read("1").unwrap()),
            read("100E").unwrap()
        );
        assert!(read("1Gi") > read("1G"));
        assert!(read("0.1") < read("101m"));
        assert!(read("-1").unwrap().is_negative());
        assert!(!read("100m").unwrap().is_whole());
        assert!(read("1n").unwrap().is_positive());
        assert_eq!(Amount::read(&json!(2)), read("2"));
        assert_eq!(Amount::read(&json!(0.5)), read("500m"));
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in [
            "", "a", "1.2.3", "1Kib", "m", "-", "1e", "1 ", "1Zi", ".", "1e-",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn no_amount_is_too_large_to_be_read() {
        for text in [
            "1e1000000000",
            "999999999999999999999999999999999999999999E",
            "1e-1000000000",
        ] {
            assert!(read(text).is_some_and(Amount::is_positive), "{text}");
        }
        assert_eq!(read("0e1000000000"), read("0"));
    }
}
