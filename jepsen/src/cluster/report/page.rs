//! The page of one run.

use std::fmt::Write as _;

use super::{document, escape, timeline};
use crate::cluster::check::{Measures, Verdict};
use crate::cluster::conditions::Conditions;
use crate::cluster::history::History;
use crate::cluster::suite::figure;

pub(super) fn render(conditions: &Conditions, history: &History, verdict: &Verdict) -> String {
    let title = format!("{} on {}", conditions.title(), conditions.system());
    let mut body = format!(
        "<h1><span class=\"verdict {0}\">{0}</span>{1}</h1>\n<p class=\"dim\">{2} members, {3} s, seed {4}; {5}; kernel {6}</p>\n",
        verdict.word(),
        escape(&conditions.title()),
        conditions.nodes,
        conditions.seconds,
        conditions.seed,
        escape(&conditions.system()),
        escape(&conditions.kernel),
    );
    body.push_str(&proof_line(history, verdict));
    body.push_str(&cards(&verdict.measures));
    problems(&mut body, verdict);
    body.push_str(
        "<h2>What happened</h2>\n<p class=\"dim\"><span class=\"key\" style=\"background:var(--ok)\"></span>answered\
         <span class=\"key\" style=\"background:var(--definite)\"></span>certainly not done\
         <span class=\"key\" style=\"background:var(--unknown)\"></span>outcome unknown; latency on a logarithmic scale, \
         coloured the median, grey the slowest of each bar</p>\n<div class=\"scroll\">",
    );
    body.push_str(&timeline::draw(conditions, history));
    body.push_str("</div>\n");
    faults(&mut body, history, verdict);
    errors(&mut body, &verdict.measures);
    let _ = writeln!(
        body,
        "<h2>Again</h2>\n<pre>{}</pre>\n<p class=\"dim\">The seed decides operations and faults, not the machine's timing. \
         <code>jepsen check</code> checks the stored history again; its files are beside this page.</p>",
        escape(&command(conditions))
    );
    document(&title, &body)
}

/// What the run shows, in one sentence.
fn proof_line(history: &History, verdict: &Verdict) -> String {
    let operations = figure(history.operations.len() as u64);
    let contradictions: u64 = verdict.broken.values().sum();
    if contradictions > 0 {
        return format!(
            "<p><b>{operations} operations, {contradictions} contradictions.</b></p>\n"
        );
    }
    format!(
        "<p><b>{operations} operations, one order of {} revisions found, {} events delivered to {} watchers, 0 contradictions.</b></p>\n",
        verdict.measures.revisions,
        figure(verdict.measures.watch.events),
        figure(verdict.measures.watch.watchers),
    )
}

fn cards(measures: &Measures) -> String {
    let mut gaps: Vec<f64> = measures.gaps.iter().filter_map(|gap| gap.ms).collect();
    gaps.sort_by(f64::total_cmp);
    let gap = match gaps.last() {
        Some(longest) => format!("{:.0} / {longest:.0} ms", gaps[gaps.len() / 2]),
        None => "-".to_owned(),
    };
    let longest = measures.convergences_ms.iter().copied().fold(0.0, f64::max);
    let cards = [
        (figure(measures.ok), "operations answered"),
        (format!("{:.0}/s", measures.rate), "answered a second"),
        (figure(measures.definite), "certainly not done"),
        (figure(measures.indefinite), "outcome unknown"),
        (
            format!("{:.1} / {:.0} ms", measures.p50_ms, measures.p99_ms),
            "latency p50 / p99",
        ),
        (gap, "leader taken to next write, median / longest"),
        (
            format!("{longest:.0} ms"),
            "longest from healing to one hash",
        ),
        (
            figure(measures.in_transition),
            "linearizable answers to requests made while a leader was missing",
        ),
    ];
    let mut html = String::from("<div class=\"cards\">");
    for (value, label) in cards {
        let _ = write!(
            html,
            "<div class=\"card\"><b>{value}</b><span>{label}</span></div>"
        );
    }
    html.push_str("</div>\n");
    html
}

fn problems(body: &mut String, verdict: &Verdict) {
    if !verdict.broken.is_empty() {
        body.push_str("<h2>Broken promises</h2>\n<table><tr><th>rule</th><th>found</th></tr>");
        for violation in &verdict.violations {
            let _ = write!(
                body,
                "<tr><td>{}</td><td><code>{}</code></td></tr>",
                escape(&violation.rule),
                escape(&violation.text)
            );
        }
        body.push_str("</table>\n<p class=\"dim\">");
        for (rule, count) in &verdict.broken {
            let _ = write!(body, "{}: {count} in all. ", escape(rule));
        }
        body.push_str("</p>\n");
    }
    if !verdict.lacking.is_empty() {
        body.push_str("<h2>Why this run does not count</h2>\n<ul>");
        for text in &verdict.lacking {
            let _ = write!(body, "<li>{}</li>", escape(text));
        }
        body.push_str("</ul>\n");
    }
}

fn faults(body: &mut String, history: &History, verdict: &Verdict) {
    if history.faults.is_empty() {
        return;
    }
    body.push_str(
        "<h2>Faults</h2>\n<div class=\"scroll\"><table><tr><th>fault</th><th class=\"num\">from</th><th class=\"num\">lasted</th>\
         <th class=\"num\">next write</th><th class=\"num\">all answer</th><th class=\"num\">one hash</th><th>proof</th></tr>",
    );
    for fault in &history.faults {
        let at = seconds(fault.begin);
        let gap = verdict
            .measures
            .gaps
            .iter()
            .find(|gap| (gap.at_s - at).abs() < 1e-3 && gap.kind == fault.kind);
        let gap = gap
            .and_then(|gap| gap.ms)
            .map_or(String::new(), |ms| format!("{ms:.0} ms"));
        let after = |moment: Option<u64>| match moment {
            Some(moment) => format!("{:.2} s", seconds(moment.saturating_sub(fault.end))),
            None => "never".to_owned(),
        };
        let _ = write!(
            body,
            "<tr><td>{}{}</td><td class=\"num\">{at:.1} s</td><td class=\"num\">{:.1} s</td><td class=\"num\">{gap}</td>\
             <td class=\"num\">{}</td><td class=\"num\">{}</td><td>{}</td></tr>",
            escape(&fault.kind),
            if fault.happened {
                ""
            } else {
                " (did not happen)"
            },
            seconds(fault.end.saturating_sub(fault.begin)),
            after(fault.recovered),
            after(fault.converged),
            escape(&fault.proof),
        );
    }
    body.push_str("</table></div>\n");
    let minority = &verdict.measures.minority;
    if minority.asked > 0 {
        let _ = writeln!(
            body,
            "<p class=\"dim\">Minorities that were cut off were asked {} times later than two election timeouts after the cut and two seconds before its end: {} times \
             they said within 2 s that they cannot, {} times they said nothing until the client gave up.</p>",
            minority.asked, minority.clear_within_2s, minority.silent
        );
    }
}

fn errors(body: &mut String, measures: &Measures) {
    if measures.errors.is_empty() {
        return;
    }
    body.push_str("<h2>What clients were told instead of an answer</h2>\n<table><tr><th class=\"num\">times</th><th>error</th></tr>");
    let mut errors: Vec<(&String, &u64)> = measures.errors.iter().collect();
    errors.sort_by(|a, b| b.1.cmp(a.1));
    for (error, count) in errors.into_iter().take(20) {
        let _ = write!(
            body,
            "<tr><td class=\"num\">{count}</td><td><code>{}</code></td></tr>",
            escape(error)
        );
    }
    body.push_str("</table>\n");
}

/// What makes this run again.
pub(super) fn command(conditions: &Conditions) -> String {
    let mut line = format!(
        "jepsen run --binary {} --nodes {} --seconds {} --seed {} --workload {} --faults {} --rate {} --clients {} --out DIR",
        conditions.binary.display(),
        conditions.nodes,
        conditions.seconds,
        conditions.seed,
        conditions.workload,
        if conditions.faults.is_empty() {
            "none".to_owned()
        } else {
            conditions.faults.join(",")
        },
        conditions.rate,
        conditions.clients,
    );
    for flag in &conditions.flags {
        let _ = write!(line, " --server-flag {flag}");
    }
    line
}

#[allow(clippy::cast_precision_loss, reason = "a time for people")]
fn seconds(nanoseconds: u64) -> f64 {
    (nanoseconds / 1_000) as f64 / 1e6
}
