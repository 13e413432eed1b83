//! Several members are one store: real processes, real connections.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod node;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use client::{Client, ListOptions};
use node::{Node, Signal};
use proto::etcd::etcdserverpb::kv_client::KvClient;
use proto::etcd::etcdserverpb::lease_client::LeaseClient;
use proto::etcd::etcdserverpb::{
    HashKvRequest, LeaseGrantRequest, LeaseKeepAliveRequest, PutRequest, StatusResponse,
};
use proto::peer::ReadIndexRequest;
use proto::peer::peer_client::PeerClient;
use tempfile::TempDir;

const NAMES: [&str; 3] = ["a", "b", "c"];

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Three members on this machine.
struct Cluster {
    folder: TempDir,
    peers: Vec<String>,
    election_timeout: String,
    nodes: Vec<Option<Node>>,
}

impl Cluster {
    /// Leadership moves only when the test wants it: an election waits longer than a busy machine may stand still.
    fn start() -> Self {
        Self::start_with("3000")
    }

    fn start_with(election_timeout: &str) -> Self {
        let peers = NAMES.map(|_| format!("http://127.0.0.1:{}", node::free_port()));
        let mut cluster = Self {
            folder: TempDir::new().unwrap(),
            peers: peers.to_vec(),
            election_timeout: election_timeout.to_owned(),
            nodes: Vec::new(),
        };
        // None serves before a quorum is there, so none is waited for before all are started.
        cluster.nodes = (0..NAMES.len())
            .map(|place| Some(cluster.launch(place)))
            .collect();
        for place in 0..NAMES.len() {
            cluster.await_ready(place);
        }
        cluster
    }

    fn launch(&self, place: usize) -> Node {
        let members: Vec<_> = NAMES
            .iter()
            .zip(&self.peers)
            .map(|(name, url)| format!("{name}={url}"))
            .collect();
        let flags = [
            "--name",
            NAMES[place],
            "--listen-peer-urls",
            &self.peers[place],
            "--initial-advertise-peer-urls",
            &self.peers[place],
            "--initial-cluster",
            &members.join(","),
            "--election-timeout",
            &self.election_timeout,
        ];
        Node::launch(&[], &self.path(place), &flags)
    }

    fn path(&self, place: usize) -> std::path::PathBuf {
        Path::new(self.folder.path()).join(NAMES[place])
    }

    fn await_ready(&mut self, place: usize) {
        self.node(place)
            .wait_for_log("ready to serve client requests");
    }

    fn node(&mut self, place: usize) -> &mut Node {
        self.nodes[place].as_mut().unwrap()
    }

    fn restart(&mut self, place: usize) {
        self.nodes[place] = Some(self.launch(place));
        self.await_ready(place);
    }

    async fn client(&mut self, place: usize) -> Client {
        client::connect(self.node(place).endpoint.clone())
            .await
            .unwrap()
    }

    async fn status(&mut self, place: usize) -> StatusResponse {
        self.client(place).await.status().await.unwrap()
    }

    async fn leader(&mut self) -> usize {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            for place in 0..NAMES.len() {
                if self.nodes[place].is_none() {
                    continue;
                }
                let status = self.status(place).await;
                if status.leader != 0 && status.leader == status.header.unwrap().member_id {
                    return place;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("no leader");
    }

    /// All members hold the same, at the same revision.
    async fn agree(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut hashes = Vec::new();
            for place in 0..NAMES.len() {
                let client = self.client(place).await;
                let hash = client.maintenance().hash_kv(HashKvRequest::default()).await;
                let hash = hash.unwrap().into_inner();
                hashes.push((hash.hash, hash.hash_revision, hash.header.unwrap().revision));
            }
            if hashes.iter().all(|hash| *hash == hashes[0]) {
                return;
            }
            assert!(Instant::now() < deadline, "the members differ: {hashes:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Puts until it succeeds: leadership may be in motion.
    async fn put(&mut self, place: usize, key: &str, value: &str) {
        let deadline = Instant::now() + PATIENCE;
        let client = self.client(place).await;
        while let Err(error) = client.put(key.to_owned(), value.to_owned()).await {
            assert!(Instant::now() < deadline, "{error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn serializable() -> ListOptions {
    ListOptions {
        serializable: true,
        ..ListOptions::default()
    }
}

#[tokio::test]
async fn every_member_takes_writes_and_answers_for_all() {
    let mut cluster = Cluster::start();
    for (place, name) in NAMES.iter().enumerate() {
        let writer = cluster.client(place).await;
        for number in 0..20 {
            let key = format!("{name}-{number}");
            writer.put(key.clone(), "value").await.unwrap();
            // Linearizable, wherever it is asked.
            for (other, reader) in NAMES.iter().enumerate() {
                let found = cluster.client(other).await.get(key.clone()).await.unwrap();
                assert!(found.is_some(), "{key} at {reader}");
            }
        }
    }
    let status = cluster.status(0).await;
    assert_eq!(status.header.unwrap().revision, 61);
    cluster.agree().await;
}

#[tokio::test]
async fn a_killed_leader_is_replaced_and_comes_back() {
    let mut cluster = Cluster::start_with("700");
    cluster.put(0, "before", "1").await;
    for round in 0..2 {
        let leader = cluster.leader().await;
        cluster.nodes[leader].take().unwrap().kill();
        let other = (leader + 1) % NAMES.len();
        cluster.put(other, "during", &round.to_string()).await;
        let found = cluster.client(other).await.get("before").await.unwrap();
        assert!(found.is_some());
        cluster.restart(leader);
    }
    cluster.agree().await;
    // All at once: what was acknowledged is there.
    for place in 0..NAMES.len() {
        cluster.nodes[place].take().unwrap().kill();
    }
    for place in 0..NAMES.len() {
        cluster.nodes[place] = Some(cluster.launch(place));
    }
    for place in 0..NAMES.len() {
        cluster.await_ready(place);
        let client = cluster.client(place).await;
        let found = client.get("during").await.unwrap().unwrap();
        assert_eq!(&*found.value, b"1");
    }
    cluster.agree().await;
}

#[tokio::test]
async fn a_minority_refuses_in_time_and_still_shows_what_it_has() {
    let mut cluster = Cluster::start_with("700");
    cluster.put(0, "key", "value").await;
    cluster.agree().await;
    let leader = cluster.leader().await;
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    for other in others {
        cluster.node(other).signal(Signal::STOP);
    }
    // Once with a leader that does not know yet, once with one that does.
    for _ in 0..2 {
        let client = cluster.client(leader).await;
        let began = Instant::now();
        let refused = client.put("key", "other").await;
        assert!(refused.is_err());
        assert!(
            began.elapsed() < Duration::from_secs(3),
            "{:?}",
            began.elapsed()
        );
        let began = Instant::now();
        assert!(client.get("key").await.is_err());
        assert!(
            began.elapsed() < Duration::from_secs(3),
            "{:?}",
            began.elapsed()
        );
        let list = client.list("key", serializable()).await.unwrap();
        assert_eq!(&*list.kvs[0].value, b"value");
    }
    for other in others {
        cluster.node(other).signal(Signal::CONT);
    }
    cluster.put(others[0], "after", "1").await;
    cluster.agree().await;
}

#[tokio::test]
async fn a_leader_that_stops_hands_over_first() {
    // Without that the next leader would come after ten seconds.
    let mut cluster = Cluster::start_with("10000");
    cluster.put(0, "key", "value").await;
    let leader = cluster.leader().await;
    let stopping = cluster.nodes[leader].take().unwrap();
    let other = (leader + 1) % NAMES.len();
    let term = cluster.status(other).await.raft_term;
    let began = Instant::now();
    assert!(stopping.terminate().success());
    cluster.put(other, "key", "again").await;
    assert!(
        began.elapsed() < Duration::from_secs(6),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(cluster.status(other).await.raft_term, term + 1);
}

#[tokio::test]
async fn leadership_is_moved_by_the_real_etcdctl() {
    let mut cluster = Cluster::start();
    let leader = cluster.leader().await;
    let target = (leader + 1) % NAMES.len();
    let id = cluster.status(target).await.header.unwrap().member_id;
    let endpoints: Vec<_> = (0..NAMES.len())
        .map(|place| cluster.node(place).endpoint.clone())
        .collect();
    let run = |endpoint: &str, id: u64| {
        let output = Command::new(node::etcdctl())
            .args(["--endpoints", endpoint, "move-leader", &format!("{id:x}")])
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    };
    let (moved, text) = run(&endpoints.join(","), id);
    assert!(moved, "{text}");
    assert!(text.contains("Leadership transferred from"), "{text}");
    assert_eq!(cluster.leader().await, target);
    let (moved, text) = run(&endpoints[target], 7);
    assert!(!moved && text.contains("bad leader transferee"), "{text}");
    cluster.put(0, "key", "value").await;
    cluster.agree().await;
}

/// Runs etcdctl until it succeeds.
fn insist(endpoint: &str, arguments: &[&str]) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let output = Command::new(node::etcdctl())
            .args(["--endpoints", endpoint])
            .args(arguments)
            .output()
            .unwrap();
        if output.status.success() {
            return String::from_utf8(output.stdout).unwrap();
        }
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(Instant::now() < deadline, "{arguments:?}: {text}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[tokio::test]
async fn members_come_and_go_with_the_real_etcdctl() {
    let mut cluster = Cluster::start();
    for number in 0..50 {
        cluster.put(0, &format!("key-{number}"), "value").await;
    }
    let leader = cluster.leader().await;
    let endpoint = cluster.node(leader).endpoint.clone();
    let peer = format!("http://127.0.0.1:{}", node::free_port());
    let url = format!("--peer-urls={peer}");
    // In the first five seconds of a cluster it is refused, as in etcd.
    let added = insist(&endpoint, &["member", "add", "d", "--learner", &url]);
    assert!(added.contains("added as learner"), "{added}");
    let id = added.split_whitespace().nth(1).unwrap().to_owned();

    let mut members: Vec<_> = NAMES
        .iter()
        .zip(&cluster.peers)
        .map(|(name, url)| format!("{name}={url}"))
        .collect();
    members.push(format!("d={peer}"));
    let flags = [
        "--name=d",
        "--election-timeout=3000",
        "--initial-cluster-state=existing",
        "--listen-peer-urls",
        &peer,
        "--initial-advertise-peer-urls",
        &peer,
        "--initial-cluster",
        &members.join(","),
    ];
    let folder = cluster.folder.path().join("d");
    let mut fourth = Node::launch(&[], &folder, &flags);
    fourth.wait_for_log("ready to serve client requests");
    let client = client::connect(fourth.endpoint.clone()).await.unwrap();
    let error = client.get("key-0").await.unwrap_err();
    assert!(
        error.to_string().contains("not supported for learner"),
        "{error}"
    );
    let list = client.list("key-49", serializable()).await.unwrap();
    assert_eq!(list.kvs.len(), 1, "it has what was written before it came");

    // Asked of one that does not lead: the leader says how far the learner is.
    let follower = (leader + 1) % NAMES.len();
    let follower = cluster.node(follower).endpoint.clone();
    insist(&follower, &["member", "promote", &id]);
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = client.put("from-d", "value").await {
        assert!(Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    // The leader goes, and tells why it ends.
    let leader = cluster.leader().await;
    let status = cluster.status(leader).await;
    let id = format!("{:x}", status.header.unwrap().member_id);
    // Asked of one that stays: the other may end before it has answered.
    insist(&fourth.endpoint, &["member", "remove", &id]);
    let removed = cluster.nodes[leader].take().unwrap();
    let (code, log) = removed.wait();
    assert_eq!(code, Some(1));
    assert!(
        log.join("\n")
            .contains("this member was removed from the cluster")
    );
    let found = client.get("from-d").await.unwrap();
    assert!(found.is_some());
    cluster
        .put((leader + 1) % NAMES.len(), "after", "value")
        .await;
    let list = insist(&fourth.endpoint, &["member", "list"]);
    assert_eq!(list.lines().count(), 3, "{list}");
    // With its old data it stays outside.
    let again = cluster.launch(leader);
    let (code, _) = again.wait();
    assert_eq!(code, Some(1));
}

/// Down to one member: of two, the one that stays needs the other for the very change that drops it.
async fn shrink(goes_the_leader: bool) {
    let mut cluster = Cluster::start_with("700");
    cluster.put(0, "key", "value").await;
    for left in [2, 1] {
        let leader = cluster.leader().await;
        let follower =
            (0..NAMES.len()).find(|&place| place != leader && cluster.nodes[place].is_some());
        let follower = follower.unwrap();
        let (goes, stays) = match goes_the_leader {
            true => (leader, follower),
            false => (follower, leader),
        };
        let status = cluster.status(goes).await;
        let id = format!("{:x}", status.header.unwrap().member_id);
        let endpoint = cluster.node(stays).endpoint.clone();
        insist(&endpoint, &["member", "remove", &id]);
        let (code, log) = cluster.nodes[goes].take().unwrap().wait();
        let log = log.join("\n");
        assert_eq!(code, Some(1), "{log}");
        assert!(
            log.contains("this member was removed from the cluster"),
            "{log}"
        );
        cluster.put(stays, "left", &left.to_string()).await;
        let list = insist(&endpoint, &["member", "list"]);
        assert_eq!(list.lines().count(), left, "{list}");
    }
    let last = cluster.leader().await;
    let found = cluster.client(last).await.get("key").await.unwrap();
    assert!(found.is_some());
}

#[tokio::test]
async fn followers_are_removed_until_one_member_is_left() {
    shrink(false).await;
}

#[tokio::test]
async fn leaders_are_removed_until_one_member_is_left() {
    shrink(true).await;
}

/// A member that is alone syncs its lone writes later than one that has others: no write may be lost, or be there twice, or
/// be another one elsewhere, when that changes under a writer.
#[tokio::test]
async fn a_member_that_is_alone_is_joined_and_left_under_a_lone_writer() {
    let folder = TempDir::new().unwrap();
    let peers = [(); 2].map(|()| format!("http://127.0.0.1:{}", node::free_port()));
    let launch = |name: &str, place: usize, members: &str, state: &str| {
        let (url, state) = (&peers[place], format!("--initial-cluster-state={state}"));
        let flags = [
            "--name",
            name,
            "--election-timeout=1000",
            "--listen-peer-urls",
            url,
            "--initial-advertise-peer-urls",
            url,
            "--initial-cluster",
            members,
            &state,
        ];
        let mut node = Node::launch(&[], &folder.path().join(name), &flags);
        node.wait_for_log("ready to serve client requests");
        node
    };
    let alone = format!("first={}", peers[0]);
    let first = launch("first", 0, &alone, "new");
    let client = client::connect(first.endpoint.clone()).await.unwrap();
    let (stop, is_over) = tokio::sync::watch::channel(false);
    let writer = {
        let client = client.clone();
        tokio::spawn(async move {
            // One at a time; what fails may be done all the same.
            let (mut acknowledged, mut tried) = (0, 0);
            while !*is_over.borrow() {
                tried += 1;
                match client.put("count", tried.to_string()).await {
                    Ok(_) => acknowledged = tried,
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
            (acknowledged, tried)
        })
    };
    for round in 0..2 {
        let name = format!("second-{round}");
        let url = format!("--peer-urls={}", peers[1]);
        let added = insist(
            &first.endpoint,
            &["member", "add", &name, "--learner", &url],
        );
        let id = added.split_whitespace().nth(1).unwrap().to_owned();
        let members = format!("{alone},{name}={}", peers[1]);
        let mut second = launch(&name, 1, &members, "existing");
        insist(&first.endpoint, &["member", "promote", &id]);
        let hash = async |endpoint: &str, revision: i64| {
            let client = client::connect(endpoint.to_owned()).await.unwrap();
            let request = HashKvRequest { revision };
            client.maintenance().hash_kv(request).await
        };
        let newest = hash(&first.endpoint, 0).await.unwrap().into_inner();
        let deadline = Instant::now() + PATIENCE;
        let found = loop {
            match hash(&second.endpoint, newest.hash_revision).await {
                Ok(found) => break found.into_inner(),
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert_eq!(found.hash, newest.hash, "at {}", newest.hash_revision);
        insist(&first.endpoint, &["member", "remove", &id]);
        second.wait_for_log("this member was removed from the cluster");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    // It is alone again, and ends in the middle of a write.
    first.signal(Signal::KILL);
    stop.send(true).unwrap();
    let (acknowledged, tried) = writer.await.unwrap();
    first.wait();
    let first = launch("first", 0, &alone, "new");
    let client = client::connect(first.endpoint.clone()).await.unwrap();
    let found = client.get("count").await.unwrap().unwrap();
    let found: u64 = String::from_utf8_lossy(&found.value).parse().unwrap();
    assert!(acknowledged > 100, "{acknowledged}");
    assert!(
        (acknowledged..=tried).contains(&found),
        "{acknowledged} was acknowledged, {tried} tried, and {found} is there"
    );
}

#[tokio::test]
async fn a_member_whose_data_was_wiped_or_copied_back_may_not_come_back() {
    let mut cluster = Cluster::start();
    cluster.put(0, "key", "1").await;
    let leader = cluster.leader().await;
    let follower = (leader + 1) % NAMES.len();
    assert!(
        cluster.nodes[follower]
            .take()
            .unwrap()
            .terminate()
            .success()
    );
    let (path, copy) = (cluster.path(follower), cluster.folder.path().join("copy"));
    let copy_folder = |from: &Path, to: &Path| {
        let copied = Command::new("cp")
            .arg("-a")
            .args([from, to])
            .status()
            .unwrap();
        assert!(copied.success());
    };
    copy_folder(&path, &copy);
    cluster.restart(follower);
    for number in 0..20 {
        cluster.put(follower, "key", &number.to_string()).await;
    }
    // What is acknowledged is written down by the leader within a second.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    cluster.nodes[follower].take().unwrap().kill();
    std::fs::remove_dir_all(&path).unwrap();
    copy_folder(&copy, &path);
    for what in ["copied back", "wiped"] {
        let (code, log) = cluster.launch(follower).wait();
        assert_eq!(code, Some(1), "{what}");
        let log = log.join("\n");
        assert!(log.contains("was lost or copied back"), "{what}: {log}");
        std::fs::remove_dir_all(&path).unwrap();
    }
    cluster.put(leader, "key", "after").await;
}

#[tokio::test]
async fn one_that_is_far_behind_takes_over_the_state_while_writes_go_on() {
    let mut cluster = Cluster::start();
    cluster.put(0, "old", "value").await;
    cluster.agree().await;
    let leader = cluster.leader().await;
    let away = (leader + 1) % NAMES.len();
    cluster.nodes[away].take().unwrap().kill();
    // More than the log keeps.
    let client = cluster.client(leader).await;
    let fill = |from: usize| {
        let client = client.clone();
        async move {
            for number in from..from + 100 {
                let value = vec![b'x'; 512 << 10];
                let key = format!("big-{}", number % 64);
                let deadline = Instant::now() + PATIENCE;
                // Leadership may move on a machine that has much to do.
                while let Err(error) = client.put(key.clone(), value.clone()).await {
                    assert!(Instant::now() < deadline, "{error}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    };
    for round in 0..6 {
        fill(round * 100).await;
    }
    cluster.nodes[away] = Some(cluster.launch(away));
    fill(600).await;
    cluster
        .node(away)
        .wait_for_log("took over the leader's state");
    cluster.await_ready(away);
    fill(700).await;
    cluster.agree().await;
    let client = cluster.client(away).await;
    assert!(client.get("old").await.unwrap().is_some());
    // And it starts again with what it took over.
    cluster.nodes[away].take().unwrap().kill();
    cluster.restart(away);
    cluster.agree().await;
}

#[test]
fn a_peer_of_another_cluster_is_refused_and_logged_once() {
    let mut cluster = Cluster::start();
    let folder = TempDir::new().unwrap();
    let own = format!("http://127.0.0.1:{}", node::free_port());
    let stranger = Node::launch(
        &[],
        folder.path(),
        &[
            "--name=x",
            "--listen-peer-urls",
            &own,
            "--initial-advertise-peer-urls",
            &own,
            "--initial-cluster",
            &format!("x={own},a={}", cluster.peers[0]),
        ],
    );
    cluster.node(0).wait_for_log("refused a peer");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(cluster.node(0).logged("refused a peer").len(), 1);
    drop(stranger);
}

/// Only what raft says is listened to, for the sender may lead a cluster that this member has yet to catch up with.
#[tokio::test]
async fn a_peer_that_is_not_known_is_refused_and_logged_once() {
    let mut cluster = Cluster::start();
    let header = cluster.status(0).await.header.unwrap();
    let request = |cluster_id: u64| {
        let mut request = tonic::Request::new(ReadIndexRequest {});
        let ids = [
            ("holdfast-cluster", cluster_id),
            ("holdfast-from", 0xdead),
            ("holdfast-to", header.member_id),
        ];
        for (name, id) in ids {
            let id = format!("{id:x}").parse().unwrap();
            request.metadata_mut().insert(name, id);
        }
        request
    };
    let endpoint = cluster.peers[0].trim_start_matches("http://").to_owned();
    let channel = client::connect(endpoint).await.unwrap().channel();
    let mut peer = PeerClient::new(channel);
    for _ in 0..3 {
        let refusal = peer
            .read_index(request(header.cluster_id))
            .await
            .unwrap_err();
        assert_eq!(refusal.code(), tonic::Code::FailedPrecondition);
        assert!(
            refusal.message().contains("dead is not known here"),
            "{refusal}"
        );
    }
    let node = cluster.node(0);
    node.wait_for_log("refused a peer");
    assert_eq!(node.logged("refused a peer").len(), 1);
    assert_eq!(node.logged("not known as a member here").len(), 1);
}

/// A lease, a key that goes with it, and a member to ask.
struct Leased {
    id: i64,
    ttl: Duration,
}

impl Leased {
    const KEY: &str = "leased";

    async fn grant(cluster: &mut Cluster, place: usize, ttl: i64) -> Self {
        let client = cluster.client(place).await;
        let mut leases = LeaseClient::new(client.channel());
        let request = LeaseGrantRequest { ttl, id: 0 };
        let id = leases.lease_grant(request).await.unwrap().into_inner().id;
        let put = PutRequest {
            key: Self::KEY.into(),
            lease: id,
            ..PutRequest::default()
        };
        KvClient::new(client.channel()).put(put).await.unwrap();
        let ttl = Duration::from_secs(ttl.unsigned_abs());
        Self { id, ttl }
    }

    /// Keeps it alive through a member, also while leadership is in motion. Answers until when it lives at least.
    async fn keep(&self, cluster: &mut Cluster, place: usize) -> Instant {
        let deadline = Instant::now() + PATIENCE;
        let client = cluster.client(place).await;
        let mut leases = LeaseClient::new(client.channel());
        loop {
            let asked = Instant::now();
            let request = futures_util::stream::iter([LeaseKeepAliveRequest { id: self.id }]);
            let error = match leases.lease_keep_alive(request).await {
                Ok(answers) => match answers.into_inner().message().await {
                    Ok(answer) => {
                        assert_eq!(answer.unwrap().ttl.unsigned_abs(), self.ttl.as_secs());
                        return asked + self.ttl;
                    }
                    Err(error) => error,
                },
                Err(error) => error,
            };
            assert!(Instant::now() < deadline, "{error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn lives(cluster: &mut Cluster, place: usize) -> bool {
        let deadline = Instant::now() + PATIENCE;
        let client = cluster.client(place).await;
        loop {
            match client.get(Self::KEY).await {
                Ok(found) => return found.is_some(),
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn a_lease_is_kept_alive_through_any_member_and_outlives_its_leader_but_not_its_time() {
    let mut cluster = Cluster::start_with("700");
    let leader = cluster.leader().await;
    let follower = (leader + 1) % NAMES.len();
    let lease = Leased::grant(&mut cluster, follower, 3).await;
    let mut until = Instant::now();
    for round in 0..14 {
        until = lease.keep(&mut cluster, follower).await;
        if round == 6 {
            cluster.nodes[leader].take().unwrap().kill();
        }
        assert!(Leased::lives(&mut cluster, follower).await);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let deadline = until + PATIENCE;
    while Leased::lives(&mut cluster, follower).await {
        assert!(Instant::now() < deadline, "it does not end");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(Instant::now() >= until, "it ended early");
}

#[tokio::test]
async fn a_leader_that_was_paused_ends_no_lease_that_another_one_keeps_alive() {
    let mut cluster = Cluster::start_with("700");
    let leader = cluster.leader().await;
    let other = (leader + 1) % NAMES.len();
    let lease = Leased::grant(&mut cluster, leader, 3).await;
    cluster.node(leader).signal(Signal::STOP);
    // By the clock of the paused one it is long over then.
    for round in 0..20 {
        lease.keep(&mut cluster, other).await;
        if round == 14 {
            cluster.node(leader).signal(Signal::CONT);
        }
        assert!(Leased::lives(&mut cluster, other).await);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    cluster.agree().await;
    assert!(Leased::lives(&mut cluster, leader).await);
}
