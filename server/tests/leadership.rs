//! A leader stays the leader while nothing fails, however slow the network and however high the load: real processes with
//! the default timings.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod node;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use client::Client;
use node::Node;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;

const NAMES: [&str; 3] = ["a", "b", "c"];

/// One test at a time: they want to know what they do to a cluster, not what they do to each other.
static ALONE: Mutex<()> = Mutex::const_new(());

struct Cluster {
    _folder: TempDir,
    nodes: Vec<Node>,
}

impl Cluster {
    /// Three members that listen on some ports and are reached by the others through these.
    fn start(listen: &[String], reached: &[String]) -> Self {
        let folder = TempDir::new().unwrap();
        let members: Vec<_> = NAMES
            .iter()
            .zip(reached)
            .map(|(name, url)| format!("{name}={url}"))
            .collect();
        let launch = |place: usize| {
            let flags = [
                "--name",
                NAMES[place],
                "--listen-peer-urls",
                &listen[place],
                "--initial-advertise-peer-urls",
                &reached[place],
                "--initial-cluster",
                &members.join(","),
            ];
            Node::launch(&[], &folder.path().join(NAMES[place]), &flags)
        };
        let mut nodes: Vec<_> = (0..NAMES.len()).map(launch).collect();
        for node in &mut nodes {
            node.wait_for_log("ready to serve client requests");
        }
        Self {
            _folder: folder,
            nodes,
        }
    }

    async fn clients(&self) -> Vec<Client> {
        let mut clients = Vec::new();
        for node in &self.nodes {
            clients.push(client::connect(node.endpoint.clone()).await.unwrap());
        }
        clients
    }
}

/// Leader and term, once all members say the same.
async fn leader(clients: &[Client]) -> (u64, u64) {
    loop {
        let mut said = Vec::new();
        for client in clients {
            let status = client.status().await.unwrap();
            said.push((status.leader, status.raft_term));
        }
        if said[0].0 != 0 && said.iter().all(|one| *one == said[0]) {
            return said[0];
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn free_urls() -> Vec<String> {
    let url = |_| format!("http://127.0.0.1:{}", node::free_port());
    NAMES.iter().map(url).collect()
}

/// Carries every connection on to another address, and every byte so much later, each way.
async fn delay_all(listener: TcpListener, to: String, delay: Duration) {
    loop {
        let (near, _) = listener.accept().await.unwrap();
        let to = to.clone();
        tokio::spawn(async move {
            // Refused while the member starts: who connected finds a connection that ends.
            let Ok(far) = TcpStream::connect(&to).await else {
                return;
            };
            for side in [&near, &far] {
                side.set_nodelay(true).unwrap();
            }
            let (near, far) = (near.into_split(), far.into_split());
            tokio::spawn(delay_one(near.0, far.1, delay));
            delay_one(far.0, near.1, delay).await;
        });
    }
}

/// Ends when one side does.
async fn delay_one(
    mut from: impl AsyncRead + Unpin + Send + 'static,
    mut to: impl AsyncWrite + Unpin,
    delay: Duration,
) {
    let (sender, mut receiver) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    tokio::spawn(async move {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            let due = Instant::now() + delay;
            if sender.send((due, buffer[..read].to_vec())).is_err() {
                return;
            }
        }
    });
    while let Some((due, bytes)) = receiver.recv().await {
        tokio::time::sleep_until(due).await;
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// How many puts members acknowledge while 50 ms pass between any two of them.
async fn endure_a_slow_network(time: Duration) {
    let _alone = ALONE.lock().await;
    let (listen, reached) = (free_urls(), free_urls());
    for (listen, reached) in listen.iter().zip(&reached) {
        let address = |url: &str| url.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind(address(reached)).await.unwrap();
        let delay = Duration::from_millis(50);
        tokio::spawn(delay_all(listener, address(listen), delay));
    }
    let cluster = Cluster::start(&listen, &reached);
    let clients = cluster.clients().await;
    let before = leader(&clients).await;
    let until = Instant::now() + time;
    let mut puts = 0_u64;
    let mut fastest = Duration::MAX;
    while Instant::now() < until {
        for (client, name) in clients.iter().zip(NAMES) {
            let since = Instant::now();
            client.put(name, puts.to_string()).await.unwrap();
            fastest = fastest.min(since.elapsed());
            assert!(client.get(name).await.unwrap().is_some());
            puts += 1;
        }
    }
    let after = leader(&clients).await;
    eprintln!("{puts} puts in {time:?}, the fastest in {fastest:?}; leader and term {after:x?}");
    assert!(fastest >= Duration::from_millis(100), "the network is fast");
    assert_eq!(before, after, "there was an election");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_network_costs_no_leader() {
    endure_a_slow_network(Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "an hour, or MINUTES: cargo test --workspace --test leadership -- --ignored --nocapture"]
async fn an_hour_of_a_slow_network_costs_no_leader() {
    let minutes = std::env::var("MINUTES").map_or(60, |minutes| minutes.parse().unwrap());
    endure_a_slow_network(Duration::from_secs(60 * minutes)).await;
}

/// More than the members can do: large values and small ones, at all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_load_costs_no_leader() {
    const LARGE: usize = 100;
    const SMALL: usize = 60;
    let _alone = ALONE.lock().await;
    let urls = free_urls();
    let cluster = Cluster::start(&urls, &urls);
    let clients = cluster.clients().await;
    let before = leader(&clients).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let (puts, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut writers = Vec::new();
    for number in 0..LARGE + SMALL {
        let client = clients[number % clients.len()].clone();
        let (is_over, puts, refused) = (is_over.clone(), puts.clone(), refused.clone());
        let size = if number < LARGE { 512 << 10 } else { 256 };
        writers.push(tokio::spawn(async move {
            while !is_over.load(Ordering::Relaxed) {
                let put = client.put(format!("key-{number}"), vec![b'x'; size]);
                // Whose turn does not come in time is told so.
                let counter = if put.await.is_ok() { &puts } else { &refused };
                counter.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    is_over.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    let after = leader(&clients).await;
    let puts = puts.load(Ordering::Relaxed);
    let refused = refused.load(Ordering::Relaxed);
    eprintln!("{puts} puts, {refused} refused; leader and term {after:x?}");
    assert!(puts > 500, "{puts} puts are no full load");
    assert_eq!(before, after, "there was an election");
}
