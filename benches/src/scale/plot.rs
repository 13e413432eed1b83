//! Curves over time as an SVG picture.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

/// One curve.
pub(crate) struct Curve<'a> {
    /// What it shows.
    pub(crate) name: &'a str,
    /// Minutes, and the figure.
    pub(crate) points: Vec<(f64, f64)>,
}

const COLOURS: [RGBColor; 4] = [
    RGBColor(31, 119, 180),
    RGBColor(214, 39, 40),
    RGBColor(44, 160, 44),
    RGBColor(148, 103, 189),
];

/// Draws curves above each other in one picture: one panel for each group, with its own scale from zero.
pub(crate) fn draw(file: &Path, title: &str, panels: &[(&str, Vec<Curve<'_>>)]) -> Result<()> {
    let fault = |error: &dyn std::fmt::Display| anyhow!("drawing {}: {error}", file.display());
    let height = 60 + 220 * u32::try_from(panels.len())?;
    let root = SVGBackend::new(file, (900, height)).into_drawing_area();
    root.fill(&WHITE).map_err(|error| fault(&error))?;
    let root = root
        .titled(title, ("sans-serif", 20))
        .map_err(|error| fault(&error))?;
    for ((label, curves), area) in panels.iter().zip(root.split_evenly((panels.len(), 1))) {
        let points = || curves.iter().flat_map(|curve| &curve.points);
        let end = points().map(|point| point.0).fold(0.0, f64::max).max(0.1);
        let top = points().map(|point| point.1).fold(0.0, f64::max).max(1e-9);
        let mut chart = ChartBuilder::on(&area)
            .margin(8)
            .x_label_area_size(28)
            .y_label_area_size(70)
            .build_cartesian_2d(0.0..end, 0.0..top * 1.1)
            .map_err(|error| fault(&error))?;
        chart
            .configure_mesh()
            .x_desc("minutes")
            .y_desc(*label)
            .light_line_style(WHITE)
            .draw()
            .map_err(|error| fault(&error))?;
        for (curve, colour) in curves.iter().zip(COLOURS) {
            chart
                .draw_series(LineSeries::new(curve.points.iter().copied(), colour))
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
