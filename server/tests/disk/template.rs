//! A folder with some of everything in it, and what must be found in it.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use client::{Client, Error, EventType, KeyValue, Keys, ListOptions, WatchOptions};
use serde_json::Value;

use crate::node::Node;

/// The least memory, so that values are read from files; and nothing in the background that a test did not ask for.
pub(crate) const FLAGS: [&str; 4] = ["--memory-budget", "64MiB", "--scrub-rate", "0"];

/// All that a node can be asked for: what is there now, and every change since the first.
#[derive(PartialEq, Eq)]
pub(crate) struct Everything {
    now: Vec<KeyValue>,
    changes: Vec<(bool, KeyValue)>,
}

impl Everything {
    pub(crate) fn newest(&self) -> i64 {
        self.changes.last().map_or(1, |(_, kv)| kv.mod_revision)
    }
}

/// Reads everything.
pub(crate) async fn read_all(client: &Client) -> Result<Everything, Error> {
    let list = client.list(Keys::all(), ListOptions::default()).await?;
    let mut changes = Vec::new();
    let mut watch = client.watch(Keys::all(), WatchOptions::from(1)).await?;
    let newest = |changes: &[(bool, KeyValue)]| changes.last().map_or(1, |(_, kv)| kv.mod_revision);
    while newest(&changes) < list.revision {
        let batch = tokio::time::timeout(Duration::from_secs(20), watch.next()).await;
        let Some(batch) = batch.expect("history arrives")? else {
            panic!("the watch ended without an error");
        };
        for event in batch.events {
            changes.push((event.r#type() == EventType::Put, event.kv.unwrap()));
        }
    }
    Ok(Everything {
        now: list.kvs,
        changes,
    })
}

pub(crate) fn connect(node: &Node) -> impl Future<Output = Client> + Send + use<> {
    let connecting = client::connect(node.endpoint.clone());
    async { connecting.await.unwrap() }
}

/// A folder that was made once and is copied for each case.
pub(crate) struct Template {
    folder: tempfile::TempDir,
    pub(crate) expected: Everything,
}

/// What the last record of a log is.
fn last_kind(data: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_holdfast"))
        .args(["dump", "--data-dir"])
        .arg(data)
        .output()
        .expect("the binary runs");
    let text = String::from_utf8(output.stdout).expect("JSON");
    let last = text.lines().next_back().expect("a record");
    let record: Value = serde_json::from_str(last).expect("JSON");
    record["kind"].as_str().expect("a kind").to_owned()
}

impl Template {
    /// Two runs that flushed, so that each family has several tables, and a third that was killed: its writes are in
    /// the log alone. The log has a closed segment.
    pub(crate) async fn new() -> Template {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let mut acknowledged = Vec::new();
        for run in 0..3 {
            let node = Node::start_with(&data, &FLAGS);
            let client = connect(&node).await;
            for number in 0..60 {
                let key = format!("key/{number:03}");
                let value = format!("{run}-{number}-").repeat(20);
                let revision = client.put(key.clone(), value).await.unwrap();
                acknowledged.push((key, revision));
            }
            let revision = client
                .delete(format!("key/{run:03}"))
                .await
                .unwrap()
                .revision;
            acknowledged.push((format!("key/{run:03}"), revision));
            if run == 0 {
                // Fills the first segment, which is small.
                for number in 0..5 {
                    let value = format!("{number}-").repeat(500_000);
                    let revision = client.put(format!("large/{number}"), value).await.unwrap();
                    acknowledged.push((format!("large/{number}"), revision));
                }
            }
            if run == 1 {
                // They lie in blocks that only history needs.
                for number in 0..5 {
                    let key = format!("large/{number}");
                    let revision = client.delete(key.clone()).await.unwrap().revision;
                    acknowledged.push((key, revision));
                }
            }
            if run < 2 {
                assert!(node.terminate().success());
            } else {
                // The log marks its last batch as synced, so that damage to it is told from a torn end.
                let since = Instant::now();
                while last_kind(&data) != "committed" {
                    assert!(since.elapsed().as_secs() < 20, "the log marks nothing");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                node.kill();
            }
        }
        let whole = Template {
            folder,
            expected: Everything {
                now: Vec::new(),
                changes: Vec::new(),
            },
        };
        let copy = whole.copy();
        let node = Node::start_with(copy.path(), &FLAGS);
        let expected = read_all(&connect(&node).await).await.unwrap();
        for (key, revision) in acknowledged {
            let is_it = |kv: &KeyValue| kv.key == key && kv.mod_revision == revision;
            assert!(expected.changes.iter().any(|(_, kv)| is_it(kv)), "{key}");
        }
        Template { expected, ..whole }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A copy of its own. Segments are mostly zeros, which take no room in it.
    pub(crate) fn copy(&self) -> Copy {
        let copy = Copy(tempfile::tempdir().unwrap());
        copy_folder(&self.data(), copy.path());
        copy
    }
}

pub(crate) struct Copy(tempfile::TempDir);

impl Copy {
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

/// Makes `to` what `from` is.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    let copied = Command::new("cp")
        .args(["-a", "--sparse=always"])
        .args([from, to])
        .status();
    assert!(copied.unwrap().success());
}

/// All files of a data folder.
pub(crate) fn files(data: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in ["member", "member/wal", "member/db"] {
        for entry in fs::read_dir(data.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// The files of a data folder with this in their names.
pub(crate) fn named(data: &Path, part: &str) -> Vec<PathBuf> {
    let mut files = files(data);
    files.retain(|file| name_of(file).contains(part));
    files
}

pub(crate) fn name_of(file: &Path) -> String {
    file.file_name().unwrap().to_string_lossy().into_owned()
}

/// Inverts one bit.
pub(crate) fn flip(file: &Path, bit: u64) {
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(file)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, bit / 8).unwrap();
    byte[0] ^= 1 << (bit % 8);
    file.write_all_at(&byte, bit / 8).unwrap();
}

/// What became of damage.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Everything is there and right.
    Harmless,
    /// The node did not start, and said this.
    Refused(String),
    /// The node stopped when it met the damage, and said this.
    Stopped(String),
    /// It serves, and what it says is not what was written.
    Wrong,
}

impl Outcome {
    /// The message, which must be one that helps: it names a place and says what to do.
    pub(crate) fn message(&self) -> Option<&str> {
        match self {
            Outcome::Refused(text) | Outcome::Stopped(text) => Some(text),
            Outcome::Harmless | Outcome::Wrong => None,
        }
    }
}

/// A message that helps says one of these.
pub(crate) const ADVICE: [&str; 6] = [
    "restore",
    "choose another folder",
    "wrong data folder",
    "start the newer version",
    "start it with that version",
    "look at the disk",
];

/// Starts a node on the folder and asks it for everything.
pub(crate) async fn outcome(data: &Path, expected: &Everything) -> Outcome {
    let mut node = Node::launch(&[], data, &FLAGS);
    let serves = node.serves();
    if serves {
        let client = connect(&node).await;
        match read_all(&client).await {
            Ok(found) if found == *expected => return Outcome::Harmless,
            Ok(_) => return Outcome::Wrong,
            Err(_) => {}
        }
    }
    let (code, log) = node.wait();
    let text = log.join("\n");
    assert_eq!(code, Some(1), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    let is_fatal = |line: &&String| line.contains(r#""level":"fatal""#);
    let fatal = log.iter().find(is_fatal).expect("a last line says why");
    let fatal: Value = serde_json::from_str(fatal).unwrap();
    let why = fatal["error"].as_str().or(fatal["reason"].as_str());
    // Met after consensus has begun, it has a line of its own before the last one.
    let stop = log.iter().find(|line| line.contains("the node stops"));
    let said = format!("{} {}", why.unwrap(), stop.map_or("", String::as_str));
    assert!(
        ADVICE
            .iter()
            .any(|advice| said.to_lowercase().contains(advice)),
        "no advice in: {said}"
    );
    if serves {
        Outcome::Stopped(said)
    } else {
        Outcome::Refused(said)
    }
}
