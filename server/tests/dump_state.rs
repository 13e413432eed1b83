//! `holdfast dump state` on folders of stopped, running and damaged nodes.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod node;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use node::Node;
use node::http::post;
use serde_json::{Value, json};

fn dump(data: &Path, flags: &[&str]) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_holdfast"))
        .args(["dump", "state", "--data-dir"])
        .arg(data)
        .args(flags)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.success(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// The lines of one kind.
fn lines(data: &Path, flags: &[&str], kind: &str) -> Vec<Value> {
    let (succeeded, output, error) = dump(data, &[flags, &["--json"]].concat());
    assert!(succeeded, "{error}");
    output
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line["kind"] == kind)
        .collect()
}

/// A stopped node's folder: keys `a` (three versions, compacted to the second) and `b\0` (deleted), values `secret`.
fn filled(data: &Path) {
    let node = Node::start(data);
    let call = |path: &str, request: Value| {
        let answer = post(&node.endpoint, path, &request.to_string());
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    let put = |key: &str| call("/v3/kv/put", json!({"key": key, "value": "c2VjcmV0"}));
    for key in ["YQ==", "YQ==", "YgA=", "YQ=="] {
        put(key);
    }
    call("/v3/kv/deleterange", json!({"key": "YgA="}));
    call("/v3/kv/compaction", json!({"revision": 3}));
    assert!(node.terminate().success());
}

#[test]
fn the_state_of_a_stopped_node_is_told_with_a_summary_first() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    filled(&data);
    let before = listing(&data);

    let (succeeded, output, error) = dump(&data, &[]);
    assert!(succeeded, "{error}");
    let first = output.lines().next().unwrap();
    for word in ["summary", "revision 6", "compact_revision 3", "format 1"] {
        assert!(first.contains(word), "no {word:?} in {first}");
    }
    assert!(first.contains("member_table"), "{first}");
    assert!(output.contains("\nlive keys  count 1\n"), "{output}");
    assert!(!output.contains("secret"), "values are not shown unasked");
    assert!(dump(&data, &["--values"]).1.contains("value \"secret\""));

    let live = lines(&data, &[], "tip");
    assert_eq!(
        live,
        [json!({
            "kind": "tip", "key": "a", "revision": 5, "create_revision": 2, "version": 3,
            "value_bytes": 6,
        })]
    );
    let changes: Vec<_> = lines(&data, &["--from-revision=5"], "log")
        .iter()
        .map(|line| (line["revision"].clone(), line["op"].clone()))
        .collect();
    assert_eq!(
        changes,
        [(5.into(), "put".into()), (6.into(), "delete".into())]
    );
    let versions = lines(&data, &["--prefix=b", "--family=kv"], "kv");
    assert_eq!(
        versions[0]["op"], "delete",
        "the newest comes first: {versions:?}"
    );
    assert_eq!(versions[0]["key_base64"], "YgA=");
    assert_eq!(lines(&data, &["--family=kv"], "tip"), [] as [Value; 0]);
    assert_eq!(lines(&data, &["--limit=1"], "log").len(), 1);
    assert_eq!(lines(&data, &["--limit=0"], "meta").len(), 0);
    let names: Vec<_> = lines(&data, &["--family=meta"], "meta")
        .iter()
        .map(|line| line["name"].clone())
        .collect();
    assert!(names.contains(&"state".into()), "{names:?}");

    assert_eq!(listing(&data), before, "nothing is changed");
    let node = Node::start(&data);
    let answer = post(&node.endpoint, "/v3/kv/range", r#"{"key":"YQ=="}"#);
    assert!(answer.body.contains("c2VjcmV0"), "{answer:?}");
}

/// All files with their sizes.
fn listing(folder: &Path) -> Vec<(String, u64)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            files.extend(listing(&entry.path()));
        } else {
            let name = entry.path().display().to_string();
            files.push((name, entry.metadata().unwrap().len()));
        }
    }
    files.sort();
    files
}

#[test]
fn a_folder_in_use_or_without_data_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (succeeded, _, error) = dump(&data, &[]);
    assert!(!succeeded && error.contains("no data folder at"), "{error}");
    let node = Node::start(&data);
    let (succeeded, output, error) = dump(&data, &[]);
    assert!(!succeeded && output.is_empty(), "{output}");
    let holder = format!("process {}", node.pid());
    assert!(
        error.contains(&holder) && error.contains("stop it"),
        "{error}"
    );
}

#[test]
fn damage_is_told_and_what_can_be_read_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    filled(&data);
    let (_, whole, _) = dump(&data, &["--json"]);
    let is_table = |path: &std::path::PathBuf| path.extension().is_some_and(|kind| kind == "sst");
    let tables = fs::read_dir(data.join("member/db")).unwrap();
    let tables: Vec<_> = tables
        .map(|entry| entry.unwrap().path())
        .filter(is_table)
        .collect();
    assert!(!tables.is_empty());
    let mut found = 0;
    for table in tables {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(&table)
            .unwrap();
        let mut byte = [0];
        // Inside the first block, which holds the items.
        file.read_exact_at(&mut byte, 20).unwrap();
        file.write_all_at(&[!byte[0]], 20).unwrap();
        let (succeeded, output, error) = dump(&data, &["--json"]);
        file.write_all_at(&byte, 20).unwrap();
        assert!(!succeeded, "{output}");
        assert!(error.contains("damaged places"), "{error}");
        let is_damage = |line: &&str| line.contains(r#""damage":true"#);
        let damages: Vec<_> = output.lines().filter(is_damage).collect();
        assert!(
            damages.iter().any(|line| line.contains(".sst")),
            "{damages:?}"
        );
        assert!(
            output.lines().count() > damages.len() + 4,
            "the rest is there: {output}"
        );
        found += 1;
    }
    assert!(found >= 4, "a table of each family, but there were {found}");
    assert_eq!(dump(&data, &["--json"]), (true, whole, String::new()));
}
