//! Schedules of CronJobs: whether text is one, and if not, why, in the words of the library that upstream reads them
//! with.

/// What each of the five fields may be, with names that stand for numbers from the least on.
const FIELDS: [(u32, u32, &[&str]); 5] = [
    (0, 59, &[]),
    (0, 23, &[]),
    (1, 31, &[]),
    (
        1,
        12,
        &[
            "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
        ],
    ),
    (0, 6, &["sun", "mon", "tue", "wed", "thu", "fri", "sat"]),
];

/// Words for whole schedules.
const WORDS: [&str; 7] = [
    "@yearly",
    "@annually",
    "@monthly",
    "@weekly",
    "@daily",
    "@midnight",
    "@hourly",
];

/// What begins a schedule with a time zone of its own.
pub(super) fn has_zone(schedule: &str) -> bool {
    schedule.starts_with("TZ=") || schedule.starts_with("CRON_TZ=")
}

/// Reads a schedule.
///
/// # Errors
///
/// With what is wrong with it.
pub(super) fn check(schedule: &str) -> Result<(), String> {
    if schedule.is_empty() {
        return Err("empty spec string".to_owned());
    }
    let schedule = match schedule.split_once(' ') {
        Some((zone, rest)) if has_zone(zone) => rest.trim(),
        _ => schedule,
    };
    if let Some(period) = schedule.strip_prefix("@every ") {
        let is_period = is_duration(period);
        return is_period
            .then_some(())
            .ok_or_else(|| format!("failed to parse duration {schedule}"));
    }
    if schedule.starts_with('@') {
        let is_known = WORDS.contains(&schedule);
        return is_known
            .then_some(())
            .ok_or_else(|| format!("unrecognized descriptor: {schedule}"));
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(format!(
            "expected exactly 5 fields, found {}: [{}]",
            fields.len(),
            fields.join(" ")
        ));
    }
    for (field, (least, most, names)) in fields.iter().zip(FIELDS) {
        for range in field.split(',').filter(|range| !range.is_empty()) {
            check_range(range, least, most, names)?;
        }
    }
    Ok(())
}

fn check_range(range: &str, least: u32, most: u32, names: &[&str]) -> Result<(), String> {
    let (span, step) = match range.split_once('/') {
        Some((_, step)) if step.contains('/') => return Err(format!("too many slashes: {range}")),
        Some((span, step)) => (span, Some(step)),
        None => (range, None),
    };
    let (first, last) = match span.split_once('-') {
        Some((_, last)) if last.contains('-') => return Err(format!("too many hyphens: {range}")),
        Some((first, last)) => (first, Some(last)),
        None => (span, None),
    };
    let number = |text: &str| {
        let named = names
            .iter()
            .position(|name| text.eq_ignore_ascii_case(name));
        match named.and_then(|place| u32::try_from(place).ok()) {
            Some(place) => Ok(place + least),
            None => read(text),
        }
    };
    let (start, end) = match (first, last) {
        ("*" | "?", _) => (least, most),
        (_, Some(last)) => (number(first)?, number(last)?),
        (_, None) if step.is_some() => (number(first)?, most),
        (_, None) => (number(first)?, number(first)?),
    };
    let step = step.map_or(Ok(1), read)?;
    if start < least {
        return Err(format!(
            "beginning of range ({start}) below minimum ({least}): {range}"
        ));
    }
    if end > most {
        return Err(format!(
            "end of range ({end}) above maximum ({most}): {range}"
        ));
    }
    if start > end {
        return Err(format!(
            "beginning of range ({start}) beyond end of range ({end}): {range}"
        ));
    }
    if step == 0 {
        return Err(format!(
            "step of range should be a positive number: {range}"
        ));
    }
    Ok(())
}

fn read(text: &str) -> Result<u32, String> {
    let number: i64 = text.parse().map_err(|_| {
        format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax")
    })?;
    u32::try_from(number).map_err(|_| format!("negative number ({number}) not allowed: {text}"))
}

/// Whether text is a duration as Go writes it: `1h30m`, `-1.5s`.
fn is_duration(text: &str) -> bool {
    let mut rest = text.trim_start_matches(['+', '-']);
    if rest == "0" {
        return true;
    }
    let units = ["ns", "us", "µs", "μs", "ms", "s", "m", "h"];
    let mut is_duration = !rest.is_empty();
    while is_duration && !rest.is_empty() {
        let unit = rest.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == '.');
        let number = &rest[..rest.len() - unit.len()];
        let end = unit.find(|letter: char| letter.is_ascii_digit() || letter == '.');
        let (unit, next) = unit.split_at(end.unwrap_or(unit.len()));
        let has_digit = number.bytes().any(|byte| byte.is_ascii_digit());
        is_duration = has_digit && number.matches('.').count() <= 1 && units.contains(&unit);
        rest = next;
    }
    is_duration
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_read() {
        for schedule in [
            "* * * * *",
            "*/5 0-23/2 1,15 jan-MAR sun",
            "5/15 * ? * *",
            "@daily",
            "@every 1h30m",
            "TZ=Europe/Paris 0 0 * * *",
        ] {
            assert_eq!(check(schedule), Ok(()), "{schedule}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_schedule_is_said() {
        let wrong = |schedule: &str| check(schedule).unwrap_err();
        assert_eq!(
            wrong("* * *"),
            "expected exactly 5 fields, found 3: [* * *]"
        );
        assert_eq!(
            wrong("60 * * * *"),
            "end of range (60) above maximum (59): 60"
        );
        assert_eq!(
            wrong("* * 0 * *"),
            "beginning of range (0) below minimum (1): 0"
        );
        assert_eq!(
            wrong("5-1 * * * *"),
            "beginning of range (5) beyond end of range (1): 5-1"
        );
        assert_eq!(
            wrong("*/0 * * * *"),
            "step of range should be a positive number: */0"
        );
        assert_eq!(wrong("1-2-3 * * * *"), "too many hyphens: 1-2-3");
        assert_eq!(wrong("1/2/3 * * * *"), "too many slashes: 1/2/3");
        assert_eq!(
            wrong("x * * * *"),
            "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax"
        );
        assert_eq!(wrong("@often"), "unrecognized descriptor: @often");
        assert_eq!(wrong("@every soon"), "failed to parse duration @every soon");
        assert_eq!(wrong(""), "empty spec string");
    }
}
