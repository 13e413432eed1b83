//! What a run leaves behind: one line of JSON for each operation, watch response, status and fault, and the files they are in.
//!
//! All times are nanoseconds of one monotonic clock of the harness, which started with the run. Every client lives in
//! the harness, so the order in real time between any two lines is exact.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::model::{Body, Change, Op};
use super::watch::Record;

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// Answered.
    Ok,
    /// Certainly not done, now or later.
    Definite,
    /// It may have been done, or may still be done.
    Indefinite,
}

/// One operation of one client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Operation {
    /// Whoever asked. A client takes a new number after an outcome it does not know, as that operation may go on.
    pub(crate) process: u64,
    /// The member asked, by its place.
    pub(crate) node: usize,
    /// Which process of that member, counted from 1, ran when it was asked, and when it had answered.
    pub(crate) life: (u64, u64),
    pub(crate) invoke: u64,
    #[serde(rename = "return")]
    pub(crate) returned: u64,
    pub(crate) op: Op,
    pub(crate) outcome: Outcome,
    /// Of the answer's header; 0 without an answer.
    #[serde(default)]
    pub(crate) revision: i64,
    #[serde(default)]
    pub(crate) term: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) body: Option<Body>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

/// What a member said of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) time: u64,
    pub(crate) node: usize,
    /// Which process of that member it was.
    pub(crate) life: u64,
    pub(crate) member: u64,
    /// The leader that it knows of; 0 for none.
    pub(crate) leader: u64,
    pub(crate) term: u64,
    pub(crate) revision: i64,
}

impl Status {
    pub(crate) fn leads(&self) -> bool {
        self.leader == self.member && self.member != 0
    }
}

/// What was broken, and how one knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fault {
    pub(crate) kind: String,
    /// The members that it struck.
    pub(crate) nodes: Vec<usize>,
    /// From when on it was in force, and from when on it was certainly over.
    pub(crate) begin: u64,
    pub(crate) end: u64,
    /// When every member answered a linearizable read after that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) recovered: Option<u64>,
    /// When all of them showed the same hash at one revision after that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) converged: Option<u64>,
    /// What was wrong afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) damage: Option<String>,
    /// Who led just before.
    pub(crate) leader: Option<usize>,
    /// Whether the one who led was put out of action.
    pub(crate) took_leader: bool,
    /// Members that could reach less than a majority, in both directions, from `begin` to `end` without pause.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) minority: Vec<usize>,
    pub(crate) happened: bool,
    /// What shows that it happened, or why it did not.
    pub(crate) proof: String,
}

/// What each member held in the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ending {
    /// When nobody asked for anything any more.
    pub(crate) quiet: u64,
    /// Of a linearizable read on each member, after that.
    pub(crate) revisions: Vec<i64>,
    /// Of each member at that revision.
    pub(crate) hashes: Vec<u32>,
    /// What kept it from being told, members that ended by themselves, lines of their logs that tell of a defect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) alarming: Vec<String>,
}

/// Everything that a run left behind.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) operations: Vec<Operation>,
    pub(crate) watch: Record,
    pub(crate) statuses: Vec<Status>,
    pub(crate) faults: Vec<Fault>,
    /// What each member showed to a watch from the first revision on, after the end; before the oldest that it had kept,
    /// what the recorders had heard.
    pub(crate) logs: Vec<Vec<Change>>,
    pub(crate) ending: Ending,
}

const OPERATIONS: &str = "history.jsonl";
const STATUSES: &str = "status.jsonl";
const FAULTS: &str = "faults.jsonl";
const ENDING: &str = "ending.json";

fn log_name(node: usize) -> String {
    format!("log-n{}.jsonl", node + 1)
}

impl History {
    /// Writes all files. The operations of a long run are many; nothing else keeps them if the harness ends early.
    pub(crate) fn save(&self, folder: &Path) -> anyhow::Result<()> {
        write_lines(&folder.join(OPERATIONS), &self.operations)?;
        self.watch.save(folder)?;
        write_lines(&folder.join(STATUSES), &self.statuses)?;
        write_lines(&folder.join(FAULTS), &self.faults)?;
        for (node, log) in self.logs.iter().enumerate() {
            write_lines(&folder.join(log_name(node)), log)?;
        }
        write_json(&folder.join(ENDING), &self.ending)
    }

    pub(crate) fn load(folder: &Path) -> anyhow::Result<History> {
        let mut logs = Vec::new();
        while folder.join(log_name(logs.len())).exists() {
            logs.push(read_lines(&folder.join(log_name(logs.len())))?);
        }
        Ok(History {
            operations: read_lines(&folder.join(OPERATIONS))?,
            watch: Record::load(folder)?,
            statuses: read_lines(&folder.join(STATUSES))?,
            faults: read_lines(&folder.join(FAULTS))?,
            logs,
            ending: read_json(&folder.join(ENDING))?,
        })
    }
}

/// Writes one value a line.
pub(crate) fn write_lines<T: Serialize>(
    path: &Path,
    lines: impl IntoIterator<Item = T>,
) -> anyhow::Result<()> {
    let mut file = BufWriter::new(create(path)?);
    for line in lines {
        serde_json::to_writer(&mut file, &line)?;
        file.write_all(b"\n")?;
    }
    Ok(file.flush()?)
}

/// Reads what [`write_lines`] wrote.
pub(crate) fn read_lines<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Vec<T>> {
    let file = BufReader::new(open(path)?);
    file.lines()
        .enumerate()
        .map(|(index, line)| {
            serde_json::from_str(&line?)
                .with_context(|| format!("{}, line {}", path.display(), index + 1))
        })
        .collect()
}

/// Writes one value, to be read by people, too.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> anyhow::Result<()> {
    let mut file = BufWriter::new(create(path)?);
    serde_json::to_writer_pretty(&mut file, value)?;
    file.write_all(b"\n")?;
    Ok(file.flush()?)
}

/// Reads what [`write_json`] wrote.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    serde_json::from_reader(BufReader::new(open(path)?))
        .with_context(|| format!("{} is not what it should be", path.display()))
}

fn create(path: &Path) -> anyhow::Result<File> {
    File::create(path).with_context(|| format!("cannot write {}", path.display()))
}

fn open(path: &Path) -> anyhow::Result<File> {
    File::open(path).with_context(|| {
        format!(
            "cannot read {}: is that the folder of a run?",
            path.display()
        )
    })
}

/// The folders below `folder`, itself included, that hold a run, in order.
pub(crate) fn runs_below(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if folder.join(OPERATIONS).exists() {
        return Ok(vec![folder.to_owned()]);
    }
    let mut runs = Vec::new();
    for entry in
        std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let path = entry?.path();
        if path.join(OPERATIONS).exists() {
            runs.push(path);
        }
    }
    runs.sort();
    Ok(runs)
}
