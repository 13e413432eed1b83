//! A Holdfast and an etcd with nothing in them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::statvfs;
use tempfile::TempDir;

use crate::node::real::tool;
use crate::node::{Node, free_port};
use crate::side::Side;

/// What four pairs may take: Holdfast refuses writes long before a disk is full.
const ROOM: u64 = 8 << 30;

/// Both servers; they end, and their folders go, when this is dropped.
pub(crate) struct Servers {
    etcd: Etcd,
    holdfast: Node,
    _folder: TempDir,
}

struct Etcd {
    endpoint: String,
    child: Child,
    log: PathBuf,
}

impl Servers {
    /// Starts both with these flags.
    pub(crate) fn start(flags: &[&str]) -> Self {
        // In memory, where there is room for it: this test is about answers.
        let memory = Path::new("/dev/shm");
        let has_room = statvfs(memory).is_ok_and(|found| found.f_bavail * found.f_frsize > ROOM);
        let folder = if has_room {
            tempfile::tempdir_in(memory).unwrap()
        } else {
            tempfile::tempdir().unwrap()
        };
        let etcd = Etcd::start(folder.path().join("etcd"), flags);
        let holdfast = Node::start_with(&folder.path().join("holdfast"), flags);
        Self {
            etcd,
            holdfast,
            _folder: folder,
        }
    }

    /// Connections to both: etcd's first.
    pub(crate) async fn connect(&mut self) -> (Side, Side) {
        let etcd = self.etcd.connect().await;
        let holdfast = client::connect(self.holdfast.endpoint.clone())
            .await
            .unwrap();
        (etcd, Side::new(holdfast))
    }

    /// What etcd logged: errors only.
    pub(crate) fn etcd_log(&self) -> String {
        std::fs::read_to_string(&self.etcd.log).unwrap()
    }
}

impl Etcd {
    fn start(folder: PathBuf, flags: &[&str]) -> Self {
        let endpoint = format!("127.0.0.1:{}", free_port());
        let client_url = format!("http://{endpoint}");
        let peer_url = format!("http://127.0.0.1:{}", free_port());
        let log = folder.with_extension("log");
        let child = Command::new(tool("etcd"))
            .arg("--data-dir")
            .arg(&folder)
            .args(["--name", "one", "--unsafe-no-fsync", "--log-level", "error"])
            .args(["--listen-client-urls", &client_url])
            .args(["--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &peer_url])
            .args(["--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("one={peer_url}")])
            .args(["--heartbeat-interval", "20", "--election-timeout", "200"])
            .args(flags)
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self {
            endpoint,
            child,
            log,
        }
    }

    /// Connects as soon as it has elected itself.
    async fn connect(&mut self) -> Side {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Ok(client) = client::connect(self.endpoint.clone()).await
                && client.get("ready").await.is_ok()
            {
                return Side::new(client);
            }
            assert!(
                Instant::now() < deadline && self.child.try_wait().unwrap().is_none(),
                "etcd does not serve: {}",
                std::fs::read_to_string(&self.log).unwrap()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
