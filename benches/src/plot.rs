//! Curves as an SVG picture: over time, or over how much there is of something.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::compare::table::number;

/// One curve.
pub(crate) struct Curve<'a> {
    /// What it shows.
    pub(crate) name: &'a str,
    /// Where along, and the figure.
    pub(crate) points: Vec<(f64, f64)>,
}

/// What an axis shows, and how it is laid out.
#[derive(Clone, Copy)]
pub(crate) enum Axis<'a> {
    /// From zero.
    Linear(&'a str),
    /// Each power of ten as long as the next; for figures above zero.
    Powers(&'a str),
}

impl Axis<'_> {
    fn name(&self) -> &str {
        match self {
            Axis::Linear(name) | Axis::Powers(name) => name,
        }
    }

    fn place(self, value: f64) -> f64 {
        match self {
            Axis::Linear(_) => value,
            Axis::Powers(_) => value.max(f64::MIN_POSITIVE).log10(),
        }
    }

    /// What stands at a place.
    fn label(self, place: f64) -> String {
        match self {
            Axis::Linear(_) => number(place),
            // What lies between two powers has no round name.
            Axis::Powers(_) if place.fract() != 0.0 => String::new(),
            Axis::Powers(_) if place < 2.0 => 10_f64.powf(place).to_string(),
            Axis::Powers(_) => number(10_f64.powf(place)),
        }
    }

    /// The places of the first and the last value.
    fn range(self, values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
        let places = values.map(|value| self.place(value));
        let end = places.clone().fold(f64::MIN, f64::max);
        match self {
            Axis::Linear(_) => (0.0, end),
            Axis::Powers(_) => {
                let begin = places.fold(f64::MAX, f64::min).floor();
                (begin, end.max(begin + 1.0))
            }
        }
    }
}

const COLOURS: [RGBColor; 4] = [
    RGBColor(31, 119, 180),
    RGBColor(214, 39, 40),
    RGBColor(44, 160, 44),
    RGBColor(148, 103, 189),
];

/// Draws curves above each other in one picture: one panel for each group, with its own scale.
pub(crate) fn draw(
    file: &Path,
    title: &str,
    along: Axis<'_>,
    panels: &[(Axis<'_>, Vec<Curve<'_>>)],
) -> Result<()> {
    let fault = |error: &dyn std::fmt::Display| anyhow!("drawing {}: {error}", file.display());
    let height = 60 + 220 * u32::try_from(panels.len())?;
    let root = SVGBackend::new(file, (900, height)).into_drawing_area();
    root.fill(&WHITE).map_err(|error| fault(&error))?;
    let root = root
        .titled(title, ("sans-serif", 20))
        .map_err(|error| fault(&error))?;
    for ((up, curves), area) in panels.iter().zip(root.split_evenly((panels.len(), 1))) {
        let points = curves.iter().flat_map(|curve| &curve.points);
        let (begin, end) = along.range(points.clone().map(|point| point.0));
        let (bottom, top) = up.range(points.map(|point| point.1));
        let room = 0.1 * (top - bottom).max(1e-9);
        let mut chart = ChartBuilder::on(&area)
            .margin(8)
            .margin_right(24)
            .x_label_area_size(28)
            .y_label_area_size(70)
            .build_cartesian_2d(begin..end.max(begin + 0.1), bottom..top + room)
            .map_err(|error| fault(&error))?;
        chart
            .configure_mesh()
            .x_desc(along.name())
            .y_desc(up.name())
            .x_label_formatter(&|place| along.label(*place))
            .y_label_formatter(&|place| up.label(*place))
            .light_line_style(WHITE)
            .draw()
            .map_err(|error| fault(&error))?;
        for (curve, colour) in curves.iter().zip(COLOURS) {
            let places = curve.points.iter();
            let places = places.map(|(x, y)| (along.place(*x), up.place(*y)));
            chart
                .draw_series(LineSeries::new(places, colour))
                .map_err(|error| fault(&error))?
                .label(curve.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], colour));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .draw()
            .map_err(|error| fault(&error))?;
    }
    root.present().map_err(|error| fault(&error))
}

#[cfg(test)]
mod tests {
    use super::Axis;

    #[test]
    fn powers_of_ten_are_equally_far_apart_and_labelled_by_their_value() {
        let axis = Axis::Powers("watchers");
        assert_eq!(axis.range([10.0, 1000.0].into_iter()), (1.0, 3.0));
        let labels = [0.1, 10.0, 30.0, 1000.0].map(|value| axis.label(axis.place(value)));
        assert_eq!(labels, ["0.1", "10", "", "1,000"]);
        let linear = Axis::Linear("minutes");
        assert_eq!(linear.range([2.0, 5.0].into_iter()), (0.0, 5.0));
    }
}
