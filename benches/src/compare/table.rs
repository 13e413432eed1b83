//! Figures with their spread, and tables of them as text and as Markdown.

use serde::Serialize;

/// Median and spread of one figure over the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Figure {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Figure {
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Figure> {
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            (values[middle - 1] + values[middle]) / 2.0
        };
        Some(Figure {
            median,
            least,
            most,
        })
    }

    pub(crate) fn with_spread(self) -> String {
        let [median, least, most] = [self.median, self.least, self.most].map(number);
        if least == most {
            median
        } else {
            format!("{median} ({least}-{most})")
        }
    }
}

pub(crate) fn ratio(ours: Option<Figure>, theirs: Option<Figure>) -> Option<f64> {
    let (ours, theirs) = ours.zip(theirs)?;
    (theirs.median > 0.0).then(|| ours.median / theirs.median)
}

/// Three digits that count, and thousands separated.
pub(crate) fn number(value: f64) -> String {
    if value < 10.0 {
        return format!("{value:.2}");
    }
    if value < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub(crate) fn missing() -> String {
    "-".to_owned()
}

pub(crate) fn median(figure: Option<Figure>) -> String {
    figure.map_or_else(missing, |figure| number(figure.median))
}

pub(crate) fn ratio_text(ratio: Option<f64>) -> String {
    ratio.map_or_else(missing, |ratio| format!("{ratio:.2}x"))
}

pub(crate) fn met_text(is_met: Option<bool>) -> String {
    match is_met {
        Some(true) => "yes".to_owned(),
        Some(false) => "NO".to_owned(),
        None => missing(),
    }
}

/// Cells that are laid out at the end.
pub(crate) struct Table {
    head: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(head: &[&str]) -> Table {
        Table {
            head: head.iter().map(|&cell| cell.to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn to_text(&self) -> String {
        let lines = || std::iter::once(&self.head).chain(&self.rows);
        let widths: Vec<usize> = (0..self.head.len())
            .map(|column| lines().map(|row| row[column].len()).max().unwrap_or(0))
            .collect();
        let mut text = String::new();
        for row in lines() {
            let cells = row
                .iter()
                .zip(&widths)
                .enumerate()
                .map(|(column, (cell, width))| {
                    // Names to the left, figures to the right.
                    if column == 0 {
                        format!("{cell:<width$}")
                    } else {
                        format!("{cell:>width$}")
                    }
                });
            text.push_str(&cells.collect::<Vec<_>>().join("  "));
            text.push('\n');
        }
        text
    }

    pub(crate) fn to_markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let mut text = line(&self.head);
        text.push_str(&format!("|---{}|\n", "|---:".repeat(self.head.len() - 1)));
        for row in &self.rows {
            text.push_str(&line(row));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::{Figure, Table, number};

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        let figure = Figure::of(vec![4.0, 1.0, 9.0, 2.0]).unwrap();
        assert_eq!(
            figure,
            Figure {
                median: 3.0,
                least: 1.0,
                most: 9.0
            }
        );
        assert_eq!(Figure::of(vec![7.0, 5.0, 6.0]).unwrap().median, 6.0);
        assert_eq!(Figure::of(Vec::new()), None);
        assert_eq!(figure.with_spread(), "3.00 (1.00-9.00)");
    }

    #[test]
    fn numbers_show_the_digits_that_count() {
        let shown = [0.4567, 24.06, 350.4, 28_123.4, 1_234_567.0].map(number);
        assert_eq!(shown, ["0.46", "24.1", "350", "28,123", "1,234,567"]);
    }

    #[test]
    fn both_layouts_have_every_cell() {
        let mut table = Table::new(&["work", "us"]);
        table.rows.push(vec!["put".to_owned(), "24.0".to_owned()]);
        assert_eq!(table.to_text(), "work    us\nput   24.0\n");
        assert_eq!(
            table.to_markdown(),
            "| work | us |\n|---|---:|\n| put | 24.0 |\n"
        );
    }
}
