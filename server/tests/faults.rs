//! Disks that lie, fail or were tampered with: a node loses nothing that it acknowledged, or says that it cannot start.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod node;

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use client::Client;
use node::{Node, traced};
use serde_json::Value;

/// Starts a node that must end by itself: gives the error of its last line, after checks that hold for all of them.
fn refusal(data: &Path) -> String {
    refusal_under(&[], data)
}

fn refusal_under(wrapper: &[&str], data: &Path) -> String {
    let (code, log) = Node::launch(wrapper, data, &[]).wait();
    let text = log.join("\n");
    assert_eq!(code, Some(1), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    let is_error = |line: &&Value| line["level"] == "error" || line["level"] == "fatal";
    let lines: Vec<Value> = log
        .iter()
        .map(|line| serde_json::from_str(line).expect("every line is JSON"))
        .collect();
    let errors: Vec<&Value> = lines.iter().filter(is_error).collect();
    let [error] = errors[..] else {
        panic!("not one clear line: {text}");
    };
    assert_eq!(
        (&error["level"], &error["msg"]),
        (&"fatal".into(), &"cannot start".into())
    );
    error["error"].as_str().unwrap().to_owned()
}

fn assert_says(error: &str, words: &[&str]) {
    for word in words {
        assert!(error.contains(word), "no {word:?} in: {error}");
    }
}

/// The records of a stopped node's log.
fn records(data: &Path) -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_holdfast"))
        .args(["dump", "--data-dir"])
        .arg(data)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// File and offset of a record.
fn place(data: &Path, record: &Value) -> (PathBuf, u64) {
    let name = record["segment"].as_str().unwrap();
    let offset = record["offset"].as_u64().unwrap();
    (data.join("member/wal").join(name), offset)
}

fn is_put(record: &Value, key: &str) -> bool {
    record["commands"][0]["put"]["key"] == key
}

fn write_at(file: &Path, offset: u64, bytes: &[u8]) {
    let file = fs::OpenOptions::new().write(true).open(file).unwrap();
    file.write_all_at(bytes, offset).unwrap();
}

/// Inverts one byte.
fn flip(file: &Path, offset: u64) {
    let mut byte = [0];
    fs::File::open(file)
        .unwrap()
        .read_exact_at(&mut byte, offset)
        .unwrap();
    write_at(file, offset, &[!byte[0]]);
}

async fn connect(node: &Node) -> Client {
    client::connect(node.endpoint.clone()).await.unwrap()
}

/// Puts `key0` to `key9`, each with its own name as value.
async fn fill(node: &Node) {
    let client = connect(node).await;
    for number in 0..10 {
        let key = format!("key{number}");
        client.put(key.clone(), key).await.unwrap();
    }
}

async fn assert_filled(node: &Node) {
    let client = connect(node).await;
    for number in 0..10 {
        let key = format!("key{number}");
        let found = client.get(key.clone()).await.unwrap().unwrap();
        assert_eq!(found.value, key.as_bytes());
    }
}

/// A node that was filled and killed, with its log quiet: all of it is marked as synced but the last record.
async fn killed(data: &Path) {
    let node = Node::start(data);
    fill(&node).await;
    quiet(data).await;
    node.kill();
}

/// Waits until the log has said of its last batch that it is synced.
async fn quiet(data: &Path) {
    let since = Instant::now();
    while records(data).last().unwrap()["kind"] != "committed" {
        assert!(since.elapsed().as_secs() < 20, "the log marks nothing");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What a start must say that cut a torn tail.
fn cut_line(node: &mut Node) -> Value {
    let line = node.wait_for_log("that a crash left unfinished");
    serde_json::from_str(&line).unwrap()
}

#[tokio::test]
async fn a_torn_tail_is_cut_with_one_line_and_nothing_acknowledged_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    killed(&data).await;

    // A write that never was acknowledged: half of a record, then what the disk held before.
    let found = records(&data);
    let put = found.iter().find(|record| is_put(record, "key3")).unwrap();
    let (file, offset) = place(&data, put);
    let mut torn = vec![0; 40];
    let bytes = fs::File::open(&file).unwrap();
    bytes.read_exact_at(&mut torn, offset).unwrap();
    torn.extend_from_slice(&[0xa5; 300]);
    let all = fs::read(&file).unwrap();
    let end = all.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1;
    write_at(&file, end, &torn);
    let mut node = Node::start(&data);
    let cut = cut_line(&mut node);
    assert_eq!(cut["level"], "warn");
    assert_eq!(cut["file"].as_str().map(Path::new), Some(&*file));
    assert!(cut["offset"].as_u64().unwrap() <= end, "{cut}");
    assert!(cut["bytes"].as_u64().unwrap() >= 340, "{cut}");
    assert!(cut["what"].is_string(), "{cut}");
    assert_filled(&node).await;
    quiet(&data).await;
    node.kill();

    // The last record itself stops in the middle; being the last one, it carries nothing that was acknowledged.
    let found = records(&data);
    let last = found.last().unwrap();
    assert_eq!(last["kind"], "committed", "{last}");
    let (file, offset) = place(&data, last);
    write_at(&file, offset + 15, &[0; 15]);
    let mut node = Node::start(&data);
    let cut = cut_line(&mut node);
    assert_eq!(cut["file"].as_str().map(Path::new), Some(&*file));
    assert_filled(&node).await;
    connect(&node).await.put("after", "1").await.unwrap();
    node.kill();

    let mut node = Node::start(&data);
    assert_filled(&node).await;
    let after = connect(&node).await.get("after").await.unwrap();
    assert_eq!(after.unwrap().value, "1");
    node.wait_for_log("opened the raft log");
}

#[tokio::test]
async fn a_flipped_byte_inside_the_log_stops_the_start_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    killed(&data).await;
    let found = records(&data);
    let put = found.iter().find(|record| is_put(record, "key5")).unwrap();
    let (file, offset) = place(&data, put);
    flip(&file, offset + 40);
    let before = fs::read(&file).unwrap();

    let error = refusal(&data);
    assert_says(
        &error,
        &[
            "cannot open the raft log: ",
            &format!("damaged in {} at byte {offset}: ", file.display()),
            "checksum",
            "entries that were acknowledged may be lost",
            "nothing was changed",
            "holdfast dump",
            "restore from a snapshot",
        ],
    );
    assert!(fs::read(&file).unwrap() == before);
    let damage = records(&data);
    let damage = damage.iter().find(|record| record["kind"] == "damage");
    assert_eq!(damage.unwrap()["offset"], offset, "the dump shows it, too");

    flip(&file, offset + 40);
    assert_filled(&Node::start(&data)).await;
}

/// Nothing is flushed yet, so the log is all there is: without it the node would be a new, empty one under the old name.
#[tokio::test]
async fn a_log_that_is_gone_is_missed_and_not_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let node = Node::start(&data);
    connect(&node).await.put("k", "v").await.unwrap();
    node.kill();
    let (wal, away) = (data.join("member/wal"), folder.path().join("away"));
    fs::rename(&wal, &away).unwrap();
    let words = [
        &*format!("there is no log in {}", wal.display()),
        "Is the disk mounted?",
        "restore data folder and log from the same backup",
    ];
    assert_says(&refusal(&data), &words);
    // A mount point without its disk is an empty folder.
    fs::create_dir(&wal).unwrap();
    assert_says(&refusal(&data), &words);
    fs::remove_dir(&wal).unwrap();
    fs::rename(&away, &wal).unwrap();
    let node = Node::start(&data);
    let value = connect(&node).await.get("k").await.unwrap().unwrap().value;
    assert_eq!(value, "v");
}

#[tokio::test]
async fn a_missing_log_segment_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let node = Node::start(&data);
    let client = connect(&node).await;
    for number in 0..5 {
        let value = vec![b'v'; 1_000_000];
        client.put(format!("big{number}"), value).await.unwrap();
    }
    node.kill();
    let found = records(&data);
    let (last, _) = place(&data, found.last().unwrap());
    let (first, _) = place(&data, &found[0]);
    assert_ne!(first, last, "the log is longer than its first segment");
    for file in [first, last] {
        let away = folder.path().join("away");
        fs::rename(&file, &away).unwrap();
        assert_says(
            &refusal(&data),
            &[
                &format!("the raft log is incomplete: {} is missing", file.display()),
                "Put it back",
                "restore from a snapshot",
            ],
        );
        fs::rename(&away, &file).unwrap();
    }
    let node = Node::start(&data);
    let client = connect(&node).await;
    assert_eq!(
        client.get("big4").await.unwrap().unwrap().value.len(),
        1_000_000
    );
}

/// The files of the database with this in their names.
#[cfg(feature = "rocksdb")]
fn database_files(data: &Path, part: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(data.join("member/db")).unwrap();
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.to_str().unwrap().contains(part));
    files.sort();
    files
}

/// Where the data of a record of a manifest begins, about in its middle. A record is a checksum (4 bytes), a length (2),
/// a type and its data. A length that is wrong may look as if the file ended there, which a crash explains: RocksDB
/// goes back to what was before, and the raft log has the rest.
#[cfg(feature = "rocksdb")]
fn within_a_record(manifest: &[u8]) -> u64 {
    let mut start = 0;
    loop {
        let length = u16::from_le_bytes([manifest[start + 4], manifest[start + 5]]);
        let data = start + 7;
        let end = data + usize::from(length);
        if length > 0 && end > manifest.len() / 2 {
            return data as u64;
        }
        start = end;
    }
}

#[cfg(feature = "rocksdb")]
#[tokio::test]
async fn a_damaged_database_is_named_and_never_answers_wrongly() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let node = Node::start(&data);
    fill(&node).await;
    assert!(node.terminate().success());
    let database = data.join("member/db").display().to_string();

    let current = data.join("member/db/CURRENT");
    let whole = fs::read(&current).unwrap();
    fs::write(&current, "nonsense").unwrap();
    assert_says(
        &refusal(&data),
        &["cannot open the database in ", &database, "CURRENT"],
    );
    fs::write(&current, &whole).unwrap();

    let manifest = database_files(&data, "MANIFEST-").pop().unwrap();
    let whole = fs::read(&manifest).unwrap();
    flip(&manifest, within_a_record(&whole));
    assert_says(
        &refusal(&data),
        &["cannot open the database in ", &database, "damaged"],
    );
    fs::remove_file(&manifest).unwrap();
    let name = manifest.file_name().unwrap().to_str().unwrap();
    assert_says(
        &refusal(&data),
        &["cannot open the database in ", &database, name],
    );
    fs::write(&manifest, &whole).unwrap();

    // One file at a time: gone, or with a byte of its data changed.
    let files = database_files(&data, ".sst");
    assert!(files.len() >= 4, "one for each family: {files:?}");
    let mut met = 0;
    for file in &files {
        let whole = fs::read(file).unwrap();
        fs::remove_file(file).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        assert_says(
            &refusal(&data),
            &["cannot open the database in ", &database, name],
        );
        fs::write(file, &whole).unwrap();

        flip(file, 10);
        // Without the scrub, which would meet the damage at some moment of its own.
        let mut node = Node::launch(&[], &data, &["--scrub-rate", "0"]);
        if node.serves() {
            // Files that a start does not read are read by the first request that needs them.
            let client = connect(&node).await;
            let past = client::ListOptions {
                revision: 5,
                ..Default::default()
            };
            match client.list(client::Keys::prefix("key"), past).await {
                Ok(list) => {
                    let values = list.kvs.iter().map(|kv| (&kv.key[..], &kv.value[..]));
                    assert!(values.clone().count() == 4 && values.clone().all(|(k, v)| k == v));
                    node.kill();
                    fs::write(file, &whole).unwrap();
                    continue;
                }
                Err(error) => assert!(
                    error.to_string().contains("the store could not be read"),
                    "{error}"
                ),
            }
        }
        let (code, log) = node.wait();
        let text = log.join("\n");
        assert_eq!(code, Some(1), "{text}");
        assert!(!text.contains("panicked"), "{text}");
        let last: Value = serde_json::from_str(log.last().unwrap()).unwrap();
        assert_eq!(last["level"], "fatal", "{text}");
        // Met after consensus has begun, it has a line of its own before the last one.
        let stop = log.iter().find(|line| line.contains("the node stops"));
        let why = format!("{}{}", stop.map_or("", String::as_str), last["error"]);
        assert_says(&why, &["the state database is damaged", name]);
        met += 1;
        fs::write(file, &whole).unwrap();
    }
    assert!(met >= 2, "most damage was met");
    assert_filled(&Node::start(&data)).await;
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let path = data.display().to_string();
    let node = Node::start(&data);
    let in_use = format!("{path} is in use by process {}", node.pid());
    assert_says(&refusal(&data), &[&in_use, "--data-dir"]);
    assert!(node.terminate().success());

    let set_mode = |mode| fs::set_permissions(&data, fs::Permissions::from_mode(mode)).unwrap();
    set_mode(0o777);
    assert_says(
        &refusal(&data),
        &[&format!(
            "{path} may be written by other users (mode 0777); run: chmod 700 {path}"
        )],
    );
    set_mode(0o700);

    let identity = data.join("member/identity.json");
    let text = fs::read_to_string(&identity).unwrap();
    let newer = text.replace("\"format\": 1", "\"format\": 9");
    assert_ne!(newer, text);
    fs::write(&identity, newer).unwrap();
    assert_says(
        &refusal(&data),
        &[&format!(
            "{} was written by a newer Holdfast (format 9, this one knows 2); start it with that version",
            identity.display()
        )],
    );
    fs::write(&identity, text).unwrap();
    assert_filled_not_at_all(&Node::start(&data)).await;
}

/// The node serves; it was never written to.
async fn assert_filled_not_at_all(node: &Node) {
    assert!(connect(node).await.get("key0").await.unwrap().is_none());
}

#[test]
fn a_folder_that_may_not_be_written_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let read_only = folder.path().join("read-only");
    fs::create_dir(&read_only).unwrap();
    fs::set_permissions(&read_only, fs::Permissions::from_mode(0o500)).unwrap();
    // Also root is held to the mode once it has no capabilities.
    let wrapper: &[&str] = if rustix::process::geteuid().is_root() {
        &["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    } else {
        &[]
    };
    let data = read_only.join("data");
    assert_says(
        &refusal_under(wrapper, &data),
        &[
            &format!("{} is not writable for this user", data.display()),
            "make it belong to the user that runs holdfast, or choose another folder (--data-dir)",
        ],
    );
    assert!(!data.exists());

    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    assert_says(
        &refusal(&file.join("data")),
        &["cannot use ", &*file.to_string_lossy(), "Not a directory"],
    );
}

#[tokio::test]
async fn a_failed_sync_stops_the_node_and_nothing_is_acknowledged_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    // A first start makes files, with syncs that this is not about.
    assert!(Node::start(&data).terminate().success());
    let wrapper = traced("inject=fdatasync:error=EIO:when=30+");
    let node = Node::start_under(&wrapper, &data, &[]);
    let client = connect(&node).await;
    // More clients than the syncs that are left have places, so that some wait at every moment.
    let puts = (0..8).map(|writer| {
        let client = client.clone();
        tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            for number in 0..1000 {
                let key = format!("{writer}/{number}");
                match client.put(key.clone(), "v").await {
                    Ok(revision) => acknowledged.push((key, revision)),
                    Err(error) => return (acknowledged, error.to_string()),
                }
            }
            panic!("every put succeeded");
        })
    });
    let puts: Vec<_> = puts.collect();
    let mut acknowledged = Vec::new();
    for put in puts {
        let (keys, _) = put.await.unwrap();
        acknowledged.extend(keys);
    }
    assert!(!acknowledged.is_empty());
    let (code, log) = tokio::task::spawn_blocking(|| node.wait()).await.unwrap();
    let text = log.join("\n");
    assert_eq!(code, Some(1), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    let stops: Vec<&String> = log
        .iter()
        .filter(|line| line.contains("the node stops: it cannot keep its promises any more"))
        .collect();
    let [stop] = stops[..] else {
        panic!("not one clear line: {text}");
    };
    assert_says(stop, &["the raft log cannot be written", "os error 5"]);
    let fatal = log.iter().find(|line| line.contains(r#""level":"fatal""#));
    assert_says(fatal.unwrap(), &["the node cannot go on", "os error 5"]);

    // What was written before the sync that failed may be there or not; what was acknowledged must be.
    let node = Node::start(&data);
    let client = connect(&node).await;
    for (key, revision) in acknowledged {
        let found = client.get(key.clone()).await.unwrap();
        assert_eq!(found.map(|kv| kv.mod_revision), Some(revision), "{key}");
    }
}
