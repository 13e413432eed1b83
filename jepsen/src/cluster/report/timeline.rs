//! The picture of a run: faults, leaders, and what each member answered and how fast, over time.

use std::fmt::Write as _;

use super::escape;
use crate::cluster::conditions::Conditions;
use crate::cluster::history::{History, Outcome};
use crate::cluster::node::{name, names};

const WIDTH: f64 = 1200.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const FAULT_ROWS: usize = 3;
const ROW: f64 = 20.0;
/// What the name of a fault may take.
const LABEL_ROOM: f64 = 160.0;
const LEADER: f64 = 26.0;
/// The least width of a reign that has its name written on it.
const LABEL: f64 = 56.0;
const COUNTS: f64 = 56.0;
const LATENCY: f64 = 44.0;
const GAP: f64 = 16.0;
/// The latency panel is logarithmic, from one millisecond on.
const LATENCY_TOP_MS: f64 = 10_000.0;

/// What one member did in one stretch of time.
#[derive(Clone, Debug, Default)]
struct Bin {
    ok: u32,
    definite: u32,
    indefinite: u32,
    latencies_ms: Vec<f64>,
}

struct Scale {
    seconds: f64,
}

impl Scale {
    fn x(&self, nanoseconds: u64) -> f64 {
        LEFT + (seconds(nanoseconds) / self.seconds).min(1.0) * (WIDTH - LEFT - RIGHT)
    }
}

#[allow(clippy::cast_precision_loss, reason = "a place in a picture")]
fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

#[allow(clippy::cast_precision_loss, reason = "a place in a picture")]
fn float(count: usize) -> f64 {
    count as f64
}

/// Draws it.
pub(super) fn draw(conditions: &Conditions, history: &History) -> String {
    let last = history
        .operations
        .iter()
        .map(|operation| operation.returned)
        .max()
        .unwrap_or(1);
    let scale = Scale {
        seconds: seconds(last).max(1.0),
    };
    let top_of_nodes = ROW * float(FAULT_ROWS) + LEADER + 2.0 * GAP;
    let node_height = COUNTS + LATENCY + GAP + 6.0;
    let places = history
        .operations
        .iter()
        .map(|operation| operation.node + 1)
        .max()
        .unwrap_or(0);
    let places = places.max(conditions.nodes);
    let height = top_of_nodes + node_height * float(places) + 24.0;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"faults, leaders, answers and latency over time\">\n"
    );
    grid(&mut svg, &scale, height - 20.0);
    faults(&mut svg, &scale, history, height - 20.0);
    leaders(&mut svg, &scale, history, ROW * float(FAULT_ROWS) + GAP);
    for node in 0..places {
        let top = top_of_nodes + node_height * float(node);
        member(&mut svg, &scale, history, node, top);
    }
    svg.push_str("</svg>\n");
    svg
}

fn grid(svg: &mut String, scale: &Scale, bottom: f64) {
    let step = [1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0];
    let step = step
        .into_iter()
        .find(|step| scale.seconds / step <= 16.0)
        .unwrap_or(3600.0);
    let mut at = 0.0;
    while at <= scale.seconds {
        let x = LEFT + at / scale.seconds * (WIDTH - LEFT - RIGHT);
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" y1=\"0\" x2=\"{x:.1}\" y2=\"{bottom:.0}\" stroke=\"var(--line)\"/>\
             <text x=\"{x:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{at:.0} s</text>",
            bottom + 14.0
        );
        at += step;
    }
}

fn faults(svg: &mut String, scale: &Scale, history: &History, bottom: f64) {
    let _ = write!(svg, "<text x=\"0\" y=\"14\">faults</text>");
    for (number, fault) in history.faults.iter().enumerate() {
        let (from, to) = (scale.x(fault.begin), scale.x(fault.end));
        let width = (to - from).max(2.0);
        let y = ROW * float(number % FAULT_ROWS);
        let label = format!("{} {}", fault.kind, names(&fault.nodes));
        let (at, anchor) = if from > WIDTH - LABEL_ROOM {
            (WIDTH - RIGHT, "end")
        } else {
            (from, "start")
        };
        let color = if fault.happened {
            "var(--unknown)"
        } else {
            "var(--definite)"
        };
        let _ = writeln!(
            svg,
            "<g><title>{}</title><rect x=\"{from:.1}\" y=\"0\" width=\"{width:.1}\" height=\"{bottom:.0}\" fill=\"var(--fault)\"/>\
             <rect x=\"{from:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"4\" rx=\"2\" fill=\"{color}\"/>\
             <text class=\"strong\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text></g>",
            escape(&fault.proof),
            y + 15.0,
            escape(&label)
        );
    }
}

/// Who said that it leads, and in which term. Segments end where another begins.
fn leaders(svg: &mut String, scale: &Scale, history: &History, top: f64) {
    let _ = write!(svg, "<text x=\"0\" y=\"{:.0}\">leader</text>", top + 17.0);
    let mut reigns: Vec<(u64, usize, u64, u64)> = Vec::new();
    for status in history.statuses.iter().filter(|status| status.leads()) {
        match reigns
            .iter_mut()
            .find(|(term, node, _, _)| (*term, *node) == (status.term, status.node))
        {
            Some(reign) => reign.3 = status.time,
            None => reigns.push((status.term, status.node, status.time, status.time)),
        }
    }
    for (number, (term, node, from, to)) in reigns.iter().enumerate() {
        let (x, end) = (scale.x(*from), scale.x(*to));
        let width = (end - x).max(3.0);
        // A deposed leader that does not know it yet overlaps with its successor.
        let y = top + if number % 2 == 0 { 0.0 } else { LEADER / 2.0 };
        let text = format!("{} term {term}", name(*node));
        let label = if width > LABEL {
            let (x, y) = (x + 4.0, y + 9.5);
            format!("<text class=\"on\" x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>")
        } else {
            String::new()
        };
        let _ = writeln!(
            svg,
            "<g><title>{text}</title><rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{:.1}\" rx=\"2\" \
             fill=\"var(--n{})\"/>{label}</g>",
            LEADER / 2.0 - 1.0,
            node % 5 + 1,
        );
    }
}

fn member(svg: &mut String, scale: &Scale, history: &History, node: usize, top: f64) {
    let bins = bins(scale, history, node);
    let (count_base, latency_base) = (top + COUNTS, top + COUNTS + 6.0 + LATENCY);
    let most = bins
        .iter()
        .map(|bin| bin.ok + bin.definite + bin.indefinite)
        .max()
        .unwrap_or(0)
        .max(1);
    let step = (WIDTH - LEFT - RIGHT) / float(bins.len());
    let _ = writeln!(
        svg,
        "<text x=\"0\" y=\"{:.0}\" style=\"fill:var(--n{});font-weight:600\">{}</text>\
         <text x=\"0\" y=\"{:.0}\">{:.0}/s</text><text x=\"0\" y=\"{:.0}\">latency</text>\
         <text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">10 s</text><text x=\"{:.0}\" y=\"{latency_base:.0}\" text-anchor=\"end\">1 ms</text>",
        top + 12.0,
        node % 5 + 1,
        name(node),
        top + 26.0,
        f64::from(most) / (scale.seconds / float(bins.len())),
        latency_base - LATENCY / 2.0 + 4.0,
        LEFT - 4.0,
        latency_base - LATENCY + 8.0,
        LEFT - 4.0,
    );
    for y in [count_base, latency_base] {
        let _ = write!(
            svg,
            "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{:.0}\" y2=\"{y:.1}\" stroke=\"var(--line)\"/>",
            WIDTH - RIGHT
        );
    }
    let (mut middle, mut slowest) = (String::new(), String::new());
    let mut is_down = false;
    for (number, bin) in bins.iter().enumerate() {
        let x = LEFT + step * float(number);
        let mut y = count_base;
        for (count, color) in [
            (bin.ok, "ok"),
            (bin.definite, "definite"),
            (bin.indefinite, "unknown"),
        ] {
            if count > 0 {
                let height = f64::from(count) / f64::from(most) * (COUNTS - 4.0);
                y -= height;
                let _ = write!(
                    svg,
                    "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{height:.1}\" fill=\"var(--{color})\"/>",
                    (step - 0.5).max(0.5)
                );
            }
        }
        let mut latencies = bin.latencies_ms.clone();
        latencies.sort_by(f64::total_cmp);
        if let Some(&worst) = latencies.last() {
            let at = x + step / 2.0;
            let median = latencies[latencies.len() / 2];
            point(&mut middle, is_down, at, latency_base, median);
            point(&mut slowest, is_down, at, latency_base, worst);
        }
        // A gap where nothing was answered, not a line across it.
        is_down = !latencies.is_empty();
    }
    let _ = writeln!(
        svg,
        "<path d=\"{slowest}\" fill=\"none\" stroke=\"var(--dim)\" stroke-width=\"1\"/>\
         <path d=\"{middle}\" fill=\"none\" stroke=\"var(--n{})\" stroke-width=\"1.5\"/>",
        node % 5 + 1
    );
}

/// Goes on to a point, with the pen down or not.
fn point(path: &mut String, is_down: bool, x: f64, base: f64, latency_ms: f64) {
    let part = (latency_ms.max(1.0).ln() / LATENCY_TOP_MS.ln()).min(1.0);
    let command = if is_down { 'L' } else { 'M' };
    let _ = write!(path, "{command}{x:.1} {:.1}", base - part * LATENCY);
}

fn bins(scale: &Scale, history: &History, node: usize) -> Vec<Bin> {
    let width = 250_000_000_u64.max(
        history
            .operations
            .iter()
            .map(|op| op.returned)
            .max()
            .unwrap_or(0)
            / 240,
    );
    let place = |time: u64| usize::try_from(time / width).unwrap_or(0);
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a run lasts hours at most"
    )]
    let last = place((scale.seconds * 1e9) as u64);
    let mut bins = vec![Bin::default(); last + 1];
    for operation in history
        .operations
        .iter()
        .filter(|operation| operation.node == node)
    {
        let bin = &mut bins[place(operation.returned).min(last)];
        match operation.outcome {
            Outcome::Ok => {
                bin.ok += 1;
                bin.latencies_ms
                    .push(seconds(operation.returned - operation.invoke) * 1e3);
            }
            Outcome::Definite => bin.definite += 1,
            Outcome::Indefinite => bin.indefinite += 1,
        }
    }
    bins
}
