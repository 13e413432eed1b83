//! Whether text is an amount, such as `500m` or `1Gi`. What it amounts to does not matter here.

/// What upstream says of text that is no amount at all.
pub(super) const FORM: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

const SUFFIX: &str = "unable to parse quantity's suffix";

/// Fails with upstream's words.
pub(super) fn check(text: &str) -> Result<(), &'static str> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digits_end = unsigned
        .find(|one: char| !one.is_ascii_digit() && one != '.')
        .unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(digits_end);
    let letters_end = suffix
        .find(|one: char| !"eEinumkKMGTP".contains(one))
        .unwrap_or(suffix.len());
    let (_, exponent) = suffix.split_at(letters_end);
    let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let has_form = exponent.bytes().all(|byte| byte.is_ascii_digit());
    if number.is_empty() || number.matches('.').count() > 1 || !has_form {
        return Err(FORM);
    }
    let is_exponent = suffix
        .strip_prefix(['e', 'E'])
        .is_some_and(|exponent| exponent.parse::<i32>().is_ok());
    const SUFFIXES: [&str; 16] = [
        "", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei",
    ];
    if is_exponent || SUFFIXES.contains(&suffix) {
        Ok(())
    } else {
        Err(SUFFIX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_told_from_other_text() {
        for text in [
            "1", "+1", "-1.5", ".5", "5.", ".", "1Ki", "500m", "1e3", "1E3", "1E", "1e-3", "12Ei",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        for text in ["", "x", "1.2.3", "1e1.5", "1 Gi", "m", "1x"] {
            assert_eq!(check(text), Err(FORM), "{text}");
        }
        for text in ["1K", "1kk", "1e", "1ki", "1m5"] {
            assert_eq!(check(text), Err(SUFFIX), "{text}");
        }
    }
}
