//! The real etcd and its tools, from where `make etcd` puts them, to compare with.

use std::io::Read;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{free_port, http};

/// Where one of `etcd`, `etcdctl` and `etcdutl` is.
pub(crate) fn tool(name: &str) -> PathBuf {
    let cache = std::env::var("HOLDFAST_CACHE")
        .unwrap_or_else(|_| format!("{}/.cache/holdfast", std::env::var("HOME").unwrap()));
    let path = PathBuf::from(cache).join("tools/bin").join(name);
    assert!(
        path.exists(),
        "{} is missing: run `make etcd` once",
        path.display()
    );
    path
}

/// Whether the tools are of etcd 3.7, which is built where Go is; elsewhere they are older.
pub(crate) fn is_current() -> bool {
    let output = Command::new(tool("etcd")).arg("--version").output();
    String::from_utf8(output.unwrap().stdout)
        .unwrap()
        .starts_with("etcd Version: 3.7.")
}

/// A started `etcd`; killed when dropped.
pub(crate) struct Etcd {
    pub(crate) endpoint: String,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Etcd {
    /// Starts one on an empty folder and waits until it serves.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with more flags.
    pub(crate) fn start_with(flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let endpoint = format!("127.0.0.1:{}", free_port());
        let url = format!("http://{endpoint}");
        let peer = format!("http://127.0.0.1:{}", free_port());
        let mut child = Command::new(tool("etcd"))
            .args([
                "--listen-client-urls",
                &url,
                "--advertise-client-urls",
                &url,
            ])
            .args(["--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .args(["--log-level", "error", "--data-dir"])
            .arg(folder.path().join("data"))
            .args(flags)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + super::PATIENCE;
        loop {
            let is_up = TcpStream::connect(&endpoint).is_ok()
                && http::get(&endpoint, "/health").status == 200;
            if is_up {
                break;
            }
            let has_ended = child.try_wait().unwrap().is_some();
            if has_ended || Instant::now() > deadline {
                let _ = child.kill();
                let mut log = String::new();
                let _ = child.stderr.take().unwrap().read_to_string(&mut log);
                panic!("etcd does not serve:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Self {
            endpoint,
            child,
            _folder: folder,
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
