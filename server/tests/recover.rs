//! A cluster whose majority is lost for good goes on with one survivor: `holdfast recover`, on real processes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod node;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use client::{Client, ListOptions};
use node::Node;
use tempfile::TempDir;

const NAMES: [&str; 3] = ["a", "b", "c"];

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long something is looked at that must not come.
const SHORT: Duration = Duration::from_secs(3);

/// Three members on this machine, with the flags that they always have.
struct Cluster {
    folder: TempDir,
    peers: Vec<String>,
}

impl Cluster {
    fn new() -> Self {
        Self {
            folder: TempDir::new().unwrap(),
            peers: NAMES
                .map(|_| format!("http://127.0.0.1:{}", node::free_port()))
                .to_vec(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn launch(&self, place: usize) -> Node {
        let members = NAMES.iter().zip(&self.peers);
        let members: Vec<_> = members.map(|(name, url)| format!("{name}={url}")).collect();
        let flags = [
            "--name",
            NAMES[place],
            "--listen-peer-urls",
            &self.peers[place],
            "--initial-advertise-peer-urls",
            &self.peers[place],
            "--initial-cluster",
            &members.join(","),
            "--election-timeout=3000",
        ];
        Node::launch(&[], &self.path(NAMES[place]), &flags)
    }

    /// A new member, after `member add`, of a cluster that has one member.
    fn join(&self, name: &str, peer: &str, only: usize) -> Node {
        let only = format!("{}={}", NAMES[only], self.peers[only]);
        let flags = [
            "--name",
            name,
            "--initial-cluster-state=existing",
            "--listen-peer-urls",
            peer,
            "--initial-advertise-peer-urls",
            peer,
            "--initial-cluster",
            &format!("{only},{name}={peer}"),
            "--election-timeout=3000",
        ];
        let mut node = Node::launch(&[], &self.path(name), &flags);
        node.wait_for_log("ready to serve client requests");
        node
    }
}

async fn client(node: &Node) -> Client {
    client::connect(node.endpoint.clone()).await.unwrap()
}

/// The place of the leader, once there is one.
async fn leader(nodes: &[Node]) -> usize {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        for (place, node) in nodes.iter().enumerate() {
            let status = client(node).await.status().await.unwrap();
            if status.leader != 0 && status.leader == status.header.unwrap().member_id {
                return place;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no leader");
}

/// Exit code, standard output and standard error; without a terminal.
fn recover(data_dir: &Path, flags: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_holdfast"))
        .arg("recover")
        .arg("--data-dir")
        .arg(data_dir)
        .args(flags)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn etcdctl(endpoint: &str, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(node::etcdctl())
        .args(["--endpoints", endpoint])
        .args(arguments)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

/// All files below a folder, with their content. RocksDB's own log is for people.
fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            files.extend(content(&path));
        } else if name != "LOG" && !name.starts_with("LOG.old") && name != "lock" {
            files.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    files
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.unwrap().success());
}

#[tokio::test]
async fn a_survivor_goes_on_as_a_new_cluster_with_all_that_was_in_its_log() {
    let cluster = Cluster::new();
    let mut nodes: Vec<_> = (0..NAMES.len())
        .map(|place| cluster.launch(place))
        .collect();
    for node in &mut nodes {
        node.wait_for_log("ready to serve client requests");
    }
    let survivor = leader(&nodes).await;
    let path = cluster.path(NAMES[survivor]);
    let writer = client(&nodes[survivor]).await;
    for number in 0..20 {
        writer.put(format!("key-{number}"), "value").await.unwrap();
    }
    let (code, _, error) = recover(&path, &["--yes"]);
    assert_eq!(code, Some(1));
    assert!(
        error.contains("is recovered while it is stopped"),
        "{error}"
    );

    // The others burn. What is written meanwhile is in one log alone, and nobody answers it.
    let mut kept = None;
    for (place, node) in nodes.into_iter().enumerate() {
        if place == survivor {
            kept = Some(node);
        } else {
            node.kill();
        }
    }
    let unanswered = tokio::time::timeout(SHORT, writer.put("unanswered", "value")).await;
    assert!(!matches!(unanswered, Ok(Ok(_))));
    kept.unwrap().kill();
    let [gone, back] = [1, 2].map(|step| (survivor + step) % NAMES.len());
    std::fs::remove_dir_all(cluster.path(NAMES[gone])).unwrap();
    copy(&cluster.path(NAMES[back]), &cluster.path("aside"));
    std::fs::remove_dir_all(cluster.path(NAMES[back])).unwrap();

    // Alone it answers nothing that must be true for all.
    let alone = cluster.launch(survivor);
    let asked = async {
        client::connect(alone.endpoint.clone())
            .await?
            .get("key-0")
            .await
    };
    let answer = tokio::time::timeout(SHORT, asked).await;
    assert!(!matches!(answer, Ok(Ok(_))));
    alone.kill();

    let before = content(&path);
    let (code, plan, error) = recover(&path, &["--dry-run"]);
    assert_eq!(code, Some(0), "{error}");
    for expected in [
        format!("member {} (", NAMES[survivor]),
        format!("{} (", NAMES[gone]),
        format!("{} (", NAMES[back]),
        "the first removes".to_owned(),
        "not known to be committed".to_owned(),
        "Never start another old member".to_owned(),
        "nothing was changed".to_owned(),
    ] {
        assert!(plan.contains(&expected), "{expected}: {plan}");
    }
    assert!(before == content(&path), "a dry run changed something");
    let (code, _, error) = recover(&path, &[]);
    assert_eq!(code, Some(1));
    assert!(error.contains("standard input is no terminal"), "{error}");
    assert!(before == content(&path), "a refusal changed something");

    let (code, text, error) = recover(&path, &["--yes"]);
    assert_eq!(code, Some(0), "{error}");
    assert!(text.contains("\nDone. Member") && text.contains("etcdctl member add"));
    let (code, text, _) = recover(&path, &["--yes"]);
    assert_eq!(code, Some(0));
    assert!(text.contains("Nothing is to be recovered"), "{text}");

    let mut alone = cluster.launch(survivor);
    alone.wait_for_log("ready to serve client requests");
    let reader = client(&alone).await;
    for number in 0..20 {
        let key = format!("key-{number}");
        assert!(reader.get(key.clone()).await.unwrap().is_some(), "{key}");
    }
    assert!(reader.get("unanswered").await.unwrap().is_some());
    reader.put("after", "value").await.unwrap();
    let (_, list) = etcdctl(&alone.endpoint, &["member", "list"]);
    assert_eq!(list.lines().count(), 1, "{list}");
    let old_cluster = plan.split("in cluster ").nth(1).unwrap();
    let old_cluster = u64::from_str_radix(old_cluster.split('.').next().unwrap(), 16).unwrap();
    let header = reader.status().await.unwrap().header.unwrap();
    assert_ne!(header.cluster_id, old_cluster);

    // An old member comes back with its old folder, and is not listened to.
    copy(&cluster.path("aside"), &cluster.path(NAMES[back]));
    let term = reader.status().await.unwrap().raft_term;
    let mut old = cluster.launch(back);
    let refusal = alone.wait_for_log("refused a peer");
    assert!(refusal.contains("it is of cluster"), "{refusal}");
    tokio::time::sleep(SHORT).await;
    reader.put("beside", "value").await.unwrap();
    assert_eq!(reader.status().await.unwrap().raft_term, term);
    assert!(old.logged("ready to serve client requests").is_empty());
    drop(old);

    // A new one takes its place, its name and its address, with an empty folder.
    std::fs::remove_dir_all(cluster.path(NAMES[back])).unwrap();
    let peer = &cluster.peers[back];
    let url = format!("--peer-urls={peer}");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (is_added, text) = etcdctl(&alone.endpoint, &["member", "add", NAMES[back], &url]);
        if is_added {
            break;
        }
        assert!(Instant::now() < deadline, "{text}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let new = cluster.join(NAMES[back], peer, survivor);
    let joined = client(&new).await;
    for key in ["key-19", "unanswered", "after", "beside"] {
        let options = ListOptions {
            serializable: true,
            ..ListOptions::default()
        };
        let deadline = Instant::now() + PATIENCE;
        while joined.list(key, options).await.unwrap().kvs.is_empty() {
            assert!(Instant::now() < deadline, "{key}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = joined.put("from-new", "value").await {
        assert!(Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // It can be stopped and started as ever.
    assert!(new.terminate().success());
    alone.kill();
    let new = cluster.launch(survivor);
    let mut other = cluster.launch(back);
    other.wait_for_log("ready to serve client requests");
    let found = client(&other).await.get("from-new").await.unwrap();
    assert!(found.is_some());
    drop(new);
}

#[test]
fn what_is_no_survivor_is_refused_in_words() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("missing");
    let (code, _, error) = recover(&path, &["--yes"]);
    assert_eq!(code, Some(1));
    assert!(
        error.starts_with("holdfast recover: no data folder at "),
        "{error}"
    );
    assert!(!path.exists());
    let path = folder.path().join("alone");
    let node = Node::start(&path);
    node.kill();
    let (code, text, _) = recover(&path, &[]);
    assert_eq!(code, Some(0));
    assert!(text.contains("Nothing is to be recovered"), "{text}");
    // It starts as before.
    drop(Node::start(&path));
}
