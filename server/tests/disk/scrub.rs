//! The scrub finds damage that no request meets.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::node::Node;
use crate::template::{Outcome, Template, flip, name_of, named, outcome};

/// Waits for the end of a node that must end by itself; gives why.
fn stopped(node: Node) -> String {
    let (code, log) = node.wait();
    let text = log.join("\n");
    assert_eq!(code, Some(1), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    let stop = log.iter().find(|line| line.contains("the node stops"));
    let stop = stop.unwrap_or_else(|| panic!("no reason in: {text}"));
    let stop: Value = serde_json::from_str(stop).unwrap();
    stop["reason"].as_str().unwrap().to_owned()
}

fn contains(file: &Path, wanted: &[u8]) -> bool {
    let bytes = fs::read(file).unwrap();
    bytes.windows(wanted.len()).any(|found| found == wanted)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_that_nothing_reads_is_found() {
    let template = Template::new().await;

    // A table of the history, which no start reads. Tables name their family, behind the name of that property.
    let copy = template.copy();
    let tables = named(copy.path(), ".sst");
    let table = tables.iter().find(|table| contains(table, b"namelog"));
    let table = table.expect("a table of the history");
    flip(table, 8 * 20);
    let flags = ["--memory-budget", "64MiB", "--scrub-rate", "1GiB"];
    let reason = stopped(Node::launch(&[], copy.path(), &flags));
    for words in [
        "the scrub: ",
        "the state database is damaged",
        &name_of(table),
        "restore from a snapshot",
    ] {
        assert!(reason.contains(words), "no {words:?} in: {reason}");
    }
    flip(table, 8 * 20);
    let healed = outcome(copy.path(), &template.expected).await;
    assert!(matches!(healed, Outcome::Harmless), "{healed:?}");

    // A closed segment: a start reads it all, so it is damaged behind the start, and before the scrub has come so far.
    let copy = template.copy();
    let segment = named(copy.path(), ".wal").remove(0);
    let flags = ["--memory-budget", "64MiB", "--scrub-rate", "1MiB"];
    let node = Node::start_under(&[], copy.path(), &flags);
    flip(&segment, 8 * 1000);
    let reason = stopped(node);
    for words in [
        "the scrub: ",
        &*segment.to_string_lossy(),
        "restore from a snapshot",
    ] {
        assert!(reason.contains(words), "no {words:?} in: {reason}");
    }
    flip(&segment, 8 * 1000);
    let healed = outcome(copy.path(), &template.expected).await;
    assert!(matches!(healed, Outcome::Harmless), "{healed:?}");
}
