//! How figures are printed for people.

/// Where a column's cells stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// The lines of a table: titles, then rows. A column is as wide as its widest cell.
pub(crate) fn table(head: &[(&str, Align)], rows: &[Vec<String>]) -> Vec<String> {
    let titles: Vec<String> = head.iter().map(|(title, _)| (*title).to_owned()).collect();
    let all = || std::iter::once(&titles).chain(rows);
    let width = |column: usize| {
        let cells = all().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let mut text = String::new();
        for ((cell, width), (_, align)) in row.iter().zip(&widths).zip(head) {
            text.push_str(&match align {
                Align::Left => format!("{cell:<width$}  "),
                Align::Right => format!("{cell:>width$}  "),
            });
        }
        text.trim_end().to_owned()
    };
    all().map(line).collect()
}

/// A number of bytes as etcd's tools print it: powers of ten, two digits below ten.
pub(crate) fn human(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let mut unit = 0;
    let mut whole = bytes;
    let mut scale: u64 = 1;
    while whole >= 1000 {
        whole /= 1000;
        scale *= 1000;
        unit += 1;
    }
    // Rounded half up to a tenth; u128, or the largest numbers overflow.
    let tenths = (u128::from(bytes) * 10 + u128::from(scale) / 2) / u128::from(scale);
    if tenths < 100 && unit > 0 {
        format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
    } else {
        // As Go prints it: a half goes to the even number.
        let (whole, rest) = (tenths / 10, tenths % 10);
        let is_up = rest > 5 || (rest == 5 && whole % 2 == 1);
        format!("{} {}", whole + u128::from(is_up), UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_printed_as_etcds_tools_do() {
        for (bytes, text) in [
            (0, "0 B"),
            (9, "9 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (9949, "9.9 kB"),
            (20_480, "20 kB"),
            (21_520, "22 kB"),
            (45_056, "45 kB"),
            (1_234_567, "1.2 MB"),
            (u64::MAX, "18 EB"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let head = [
            ("NAME", Align::Left),
            ("INDEX", Align::Right),
            ("ERRORS", Align::Left),
        ];
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let lines = table(
            &head,
            &[row(["märz", "7", "-"]), row(["april", "1234567", ""])],
        );
        assert_eq!(
            lines,
            [
                "NAME     INDEX  ERRORS",
                "märz         7  -",
                "april  1234567"
            ]
        );
    }
}
