//! The table of docs/resource-api.md that says what kubectl can do: made from the cases, once they have passed.

use std::collections::BTreeMap;
use std::path::Path;

use super::case::{Case, words};

/// What needs nodes, of which this server has none: refused, as the cases show.
const NEVER: [&str; 3] = ["exec", "logs", "top"];

const BEGIN: &str = "<!-- made by tests/kubectl.rs -->\n";
const END: &str = "<!-- end -->\n";

#[derive(Default)]
struct Row {
    works: usize,
    not_yet: Vec<String>,
    is_refused: bool,
}

/// Panics if the documentation says something else than the cases, all of which but those named have passed. With
/// `UPDATE_DOCS=1` the documentation is changed instead.
pub(crate) fn compare(cases: &[Case], is_not_yet: impl Fn(&Case) -> bool) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/resource-api.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (held, after) = rest.split_once(END).unwrap();
    let table = table(cases, is_not_yet);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(
        held, table,
        "docs/resource-api.md is not what the cases show: UPDATE_DOCS=1 changes it"
    );
}

fn table(cases: &[Case], is_not_yet: impl Fn(&Case) -> bool) -> String {
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    for case in cases {
        let commands = commands(case);
        if is_not_yet(case) {
            // What the case is about comes last.
            if let Some(command) = commands.last() {
                let row = rows.entry(command.clone()).or_default();
                row.not_yet.push(case.name.clone());
            }
            continue;
        }
        let mut counted = Vec::new();
        for command in commands {
            if !counted.contains(&command) {
                let row = rows.entry(command.clone()).or_default();
                row.works += 1;
                row.is_refused = NEVER.contains(&command.as_str());
                counted.push(command);
            }
        }
    }
    let mut table =
        "| command | works: cases that pass | not yet | never |\n|---|---|---|---|\n".to_owned();
    for (command, row) in rows {
        let (works, never) = if row.is_refused {
            (String::new(), "refused: there are no nodes")
        } else {
            (row.works.to_string(), "")
        };
        let not_yet = row.not_yet.join("; ");
        table += &format!("| `{command}` | {works} | {not_yet} | {never} |\n");
    }
    table
}

/// The commands of a case, in their order; what is done meanwhile, too.
fn commands(case: &Case) -> Vec<String> {
    let steps = case.steps.iter();
    let steps = steps.flat_map(|step| std::iter::once(step).chain(&step.meanwhile));
    let commands = steps.filter_map(|step| {
        let command = words(&step.run).into_iter().next()?;
        if NEVER.contains(&command.as_str()) {
            assert_ne!(step.exit, 0, "{}: {command} needs nodes", case.title());
        }
        Some(command)
    });
    commands.collect()
}
