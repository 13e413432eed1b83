//! The index over many runs: a row for each kind of run, a group of columns for each system.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::{PAGE, document, escape, write};
use crate::cluster::check::Verdict;
use crate::cluster::conditions::Conditions;
use crate::cluster::suite::figure;

/// A run in an index.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) folder: PathBuf,
    pub(crate) conditions: Conditions,
    pub(crate) verdict: Verdict,
}

/// Writes it to `path`; links are relative to that where they can be.
pub(crate) fn write_index(path: &Path, entries: &[Entry]) -> anyhow::Result<()> {
    let base = path.parent().unwrap_or(Path::new("."));
    write(path, &render(base, entries))
}

fn render(base: &Path, entries: &[Entry]) -> String {
    let mut systems: Vec<String> = entries
        .iter()
        .map(|entry| entry.conditions.system())
        .collect();
    systems.sort();
    systems.dedup();
    let mut rows: BTreeMap<String, Vec<&Entry>> = BTreeMap::new();
    for entry in entries {
        rows.entry(entry.conditions.title())
            .or_default()
            .push(entry);
    }
    let mut body = format!(
        "<h1>Clusters under faults: {}</h1>\n",
        escape(&systems.join(" beside "))
    );
    body.push_str("<table><tr><th>system</th><th class=\"num\">runs</th><th class=\"num\">ok</th><th class=\"num\">operations</th>\
        <th class=\"num\">contradictions</th><th class=\"num\">faults</th><th class=\"num\">leader taken to next write: times</th>\
        <th class=\"num\">median</th><th class=\"num\">longest</th></tr>");
    for system in &systems {
        let of: Vec<&Entry> = entries
            .iter()
            .filter(|entry| entry.conditions.system() == *system)
            .collect();
        let sum = |count: fn(&Entry) -> u64| of.iter().map(|entry| count(entry)).sum::<u64>();
        let mut gaps: Vec<f64> = of
            .iter()
            .flat_map(|entry| &entry.verdict.measures.gaps)
            .filter_map(|gap| gap.ms)
            .collect();
        gaps.sort_by(f64::total_cmp);
        let _ = write!(
            body,
            "<tr><td>{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td>\
             <td class=\"num\">{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td></tr>",
            escape(system),
            of.len(),
            sum(|entry| u64::from(entry.verdict.is_pass())),
            figure(sum(|entry| entry.verdict.measures.ok)),
            sum(|entry| entry.verdict.broken.values().sum()),
            sum(|entry| entry.verdict.measures.faults.values().sum()),
            gaps.len(),
            gaps.get(gaps.len() / 2)
                .map_or("-".to_owned(), |gap| format!("{gap:.0} ms")),
            gaps.last()
                .map_or("-".to_owned(), |gap| format!("{gap:.0} ms")),
        );
    }
    body.push_str(
        "</table>\n<h2>Runs</h2>\n<div class=\"scroll\"><table><tr><th>workload and faults</th>",
    );
    for system in &systems {
        let _ = write!(
            body,
            "<th>{}</th><th class=\"num\">answered</th><th class=\"num\">unknown</th><th class=\"num\">next write</th>",
            escape(system)
        );
    }
    body.push_str("</tr>");
    for (title, entries) in rows {
        let _ = write!(body, "<tr><td>{}</td>", escape(&title));
        for system in &systems {
            let of: Vec<&&Entry> = entries
                .iter()
                .filter(|entry| entry.conditions.system() == *system)
                .collect();
            cells(&mut body, base, &of);
        }
        body.push_str("</tr>");
    }
    body.push_str("</table></div>\n");
    document("Clusters under faults", &body)
}

/// Several runs of one kind share a cell.
fn cells(body: &mut String, base: &Path, entries: &[&&Entry]) {
    if entries.is_empty() {
        body.push_str("<td></td><td></td><td></td><td></td>");
        return;
    }
    body.push_str("<td>");
    for entry in entries {
        let folder = entry.folder.strip_prefix(base).unwrap_or(&entry.folder);
        let _ = write!(
            body,
            "<a class=\"verdict {0}\" href=\"{1}\" title=\"seed {2}\">{0}</a> ",
            entry.verdict.word(),
            escape(&folder.join(PAGE).to_string_lossy()),
            entry.conditions.seed
        );
    }
    let sum = |count: fn(&Entry) -> u64| entries.iter().map(|entry| count(entry)).sum::<u64>();
    let gaps = entries
        .iter()
        .flat_map(|entry| &entry.verdict.measures.gaps)
        .filter_map(|gap| gap.ms);
    let longest = gaps.fold(0.0, f64::max);
    let _ = write!(
        body,
        "</td><td class=\"num\">{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td>",
        figure(sum(|entry| entry.verdict.measures.ok)),
        figure(sum(|entry| entry.verdict.measures.indefinite)),
        if longest > 0.0 {
            format!("{longest:.0} ms")
        } else {
            String::new()
        },
    );
}
