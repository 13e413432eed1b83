//! Watches on the members of a cluster: what becomes of them without a leader, and over a snapshot.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod node;

use std::time::{Duration, Instant};

use client::{Client, Error, Keys, Watch, WatchOptions};
use node::{Node, Signal};
use tempfile::TempDir;
use tonic::Code;

const NAMES: [&str; 3] = ["a", "b", "c"];

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// Three members on this machine.
struct Cluster {
    nodes: Vec<Node>,
    clients: Vec<Client>,
    folder: TempDir,
}

impl Cluster {
    async fn start(election_timeout: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let peers = NAMES.map(|_| format!("http://127.0.0.1:{}", node::free_port()));
        let members: Vec<_> = NAMES
            .iter()
            .zip(&peers)
            .map(|(name, url)| format!("{name}={url}"))
            .collect();
        let members = members.join(",");
        let launch = |(name, peer): (&&str, &String)| {
            let flags = [
                &format!("--name={name}"),
                &format!("--listen-peer-urls={peer}"),
                &format!("--initial-advertise-peer-urls={peer}"),
                &format!("--initial-cluster={members}"),
                &format!("--election-timeout={election_timeout}"),
            ];
            Node::launch(&[], &folder.path().join(name), &flags.map(String::as_str))
        };
        let mut nodes: Vec<_> = NAMES.iter().zip(&peers).map(launch).collect();
        let mut clients = Vec::new();
        for node in &mut nodes {
            node.wait_for_log("ready to serve client requests");
            clients.push(client::connect(node.endpoint.clone()).await.unwrap());
        }
        Self {
            nodes,
            clients,
            folder,
        }
    }

    async fn leader(&self) -> usize {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            for (place, client) in self.clients.iter().enumerate() {
                let status = client.status().await.unwrap();
                if status.leader != 0 && status.leader == status.header.unwrap().member_id {
                    return place;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("no leader");
    }

    /// Puts until it succeeds: leadership may be in motion.
    async fn put(&self, place: usize, key: &str, value: impl Into<Vec<u8>>) {
        let deadline = Instant::now() + PATIENCE;
        let value = value.into();
        while let Err(error) = self.clients[place].put(key.to_owned(), value.clone()).await {
            assert!(Instant::now() < deadline, "{error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn watch(&self, place: usize, options: WatchOptions) -> Result<Watch, Error> {
        self.clients[place]
            .watch(Keys::prefix("small"), options)
            .await
    }
}

fn with_leader() -> WatchOptions {
    WatchOptions {
        require_leader: true,
        ..WatchOptions::default()
    }
}

/// The values of the next events, so many of them.
async fn values(watch: &mut Watch, count: usize) -> Vec<String> {
    let mut values = Vec::new();
    while values.len() < count {
        let batch = tokio::time::timeout(PATIENCE, watch.next()).await;
        let batch = batch.unwrap_or_else(|_| panic!("only {values:?}"));
        for event in batch.unwrap().unwrap().events {
            values.push(String::from_utf8(event.kv.unwrap().value.to_vec()).unwrap());
        }
    }
    values
}

#[track_caller]
fn assert_no_leader(error: &Error) {
    match error {
        // Of a stream that is open, and of one that is not opened.
        Error::Interrupted { source, .. } | Error::Unknown { source } => assert_eq!(
            (source.code(), source.message()),
            (Code::Unavailable, "etcdserver: no leader")
        ),
        other => panic!("{other:?}"),
    }
}

/// Leaves one member alone: one that leads, or one that follows.
async fn alone(is_leader: bool) {
    let cluster = Cluster::start("500").await;
    cluster.put(0, "small", "before").await;
    let leader = cluster.leader().await;
    let place = if is_leader { leader } else { (leader + 1) % 3 };
    let mut asked = cluster.watch(place, with_leader()).await.unwrap();
    let mut open = cluster.watch(place, 2.into()).await.unwrap();
    cluster.put(place, "small", "with a leader").await;
    assert_eq!(values(&mut asked, 1).await, ["with a leader"]);
    assert_eq!(values(&mut open, 2).await, ["before", "with a leader"]);

    let others = [(place + 1) % 3, (place + 2) % 3];
    for other in others {
        cluster.nodes[other].signal(Signal::STOP);
    }
    let began = Instant::now();
    let end = tokio::time::timeout(PATIENCE, asked.next()).await.unwrap();
    assert_no_leader(&end.unwrap_err());
    assert!(
        began.elapsed() > Duration::from_millis(1_000),
        "one look is not enough: {:?}",
        began.elapsed()
    );
    // No new one of this kind, and of the other kind one that is served from what is here.
    assert_no_leader(&cluster.watch(place, with_leader()).await.unwrap_err());
    let mut local = cluster.watch(place, 2.into()).await.unwrap();
    assert_eq!(values(&mut local, 2).await, ["before", "with a leader"]);
    let quiet = tokio::time::timeout(Duration::from_secs(1), open.next()).await;
    assert!(quiet.is_err(), "it stays open: {quiet:?}");

    for other in others {
        cluster.nodes[other].signal(Signal::CONT);
    }
    cluster.put(others[0], "small", "after").await;
    assert_eq!(values(&mut open, 1).await, ["after"]);
    assert_eq!(values(&mut local, 1).await, ["after"]);
    let deadline = Instant::now() + PATIENCE;
    let mut again = loop {
        match cluster.watch(place, with_leader()).await {
            Ok(watch) => break watch,
            // It may hear of its leader a moment later than of the write.
            Err(error) => assert_no_leader(&error),
        }
        assert!(Instant::now() < deadline, "a leader is there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    cluster.put(place, "small", "again").await;
    assert_eq!(values(&mut again, 1).await, ["again"]);
}

#[tokio::test]
async fn a_leader_that_is_alone_cuts_the_streams_that_asked_for_one() {
    alone(true).await;
}

#[tokio::test]
async fn a_follower_that_is_alone_cuts_the_streams_that_asked_for_a_leader() {
    alone(false).await;
}

#[tokio::test]
async fn a_watch_on_a_member_that_takes_over_a_snapshot_sees_everything_once() {
    let mut cluster = Cluster::start("3000").await;
    cluster.put(0, "small", "0").await;
    let leader = cluster.leader().await;
    let away = (leader + 1) % 3;
    let mut past = cluster.watch(away, 2.into()).await.unwrap();
    assert_eq!(values(&mut past, 1).await, ["0"]);
    // Only here has this member seen the first write, and "now" is behind it.
    let mut now = cluster.watch(away, WatchOptions::default()).await.unwrap();
    let mut future = cluster.watch(away, 700.into()).await.unwrap();
    cluster.put(leader, "small", "1").await;
    assert_eq!(values(&mut now, 1).await, ["1"]);
    assert_eq!(values(&mut past, 1).await, ["1"]);

    // It stands still while more is written than the log keeps.
    cluster.nodes[away].signal(Signal::STOP);
    for round in 2..700 {
        let value = vec![b'x'; 512 << 10];
        cluster
            .put(leader, &format!("big-{}", round % 64), value)
            .await;
        if round % 10 == 0 {
            cluster.put(leader, "small", round.to_string()).await;
        }
    }
    // What is on its way to it is kept until the leader has given it up.
    let first = cluster.folder.path().join(NAMES[leader]);
    let first = first.join("member/wal/0000000001.wal");
    let deadline = Instant::now() + Duration::from_secs(60);
    while first.exists() {
        assert!(Instant::now() < deadline, "the log keeps everything");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    cluster.nodes[away].signal(Signal::CONT);
    for round in 700..720 {
        cluster.put(leader, "small", round.to_string()).await;
    }
    cluster.nodes[away].wait_for_log("took over the leader's state");
    cluster.put(leader, "small", "last").await;

    let missed = (1..70).map(|tenth| (tenth * 10).to_string());
    let late = (700..720).map(|round| round.to_string());
    let all: Vec<_> = missed.chain(late).chain(["last".to_owned()]).collect();
    assert_eq!(values(&mut now, all.len()).await, all);
    assert_eq!(values(&mut past, all.len()).await, all);
    // Revision 700: two for the beginning, one for each big value, one for each tenth round.
    let from_700 = all.iter().position(|value| value == "640").unwrap();
    assert_eq!(
        values(&mut future, all.len() - from_700).await,
        all[from_700..]
    );
    cluster.put(away, "small", "live").await;
    for watch in [&mut now, &mut past, &mut future] {
        assert_eq!(values(watch, 1).await, ["live"], "and nothing twice");
    }
}
