//! The real etcd and its tools, from where `make etcd` puts them, to compare with.

use std::io::Read;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{free_port, http};

/// An etcd that whoever runs the tests has chosen to compare with.
fn chosen() -> Option<PathBuf> {
    std::env::var_os("ETCD").map(PathBuf::from)
}

/// The folder that the Makefile puts tools into.
pub(crate) fn tools() -> PathBuf {
    let cache = std::env::var("HOLDFAST_CACHE")
        .unwrap_or_else(|_| format!("{}/.cache/holdfast", std::env::var("HOME").unwrap()));
    PathBuf::from(cache).join("tools")
}

/// Where one of `etcd`, `etcdctl` and `etcdutl` is, or the program on the other client library.
pub(crate) fn tool(name: &str) -> PathBuf {
    if let ("etcd", Some(path)) = (name, chosen()) {
        return path;
    }
    let path = tools().join("bin").join(name);
    assert!(
        path.exists(),
        "{} is missing: run `make etcd other-client` once",
        path.display()
    );
    path
}

/// Fails where etcd is not of the version that is compared, so that nobody takes another one for the same; unless it was
/// chosen.
pub(crate) fn check_version() {
    if chosen().is_none() {
        let version = says("etcd", &["--version"]);
        let path = tool("etcd");
        assert!(
            version.starts_with("etcd Version: 3.7."),
            "{} is not etcd 3.7: run `make etcd`, or choose another one by ETCD=/path\n{version}",
            path.display()
        );
    }
}

/// Runs a tool to its end; what it printed. It must succeed.
pub(crate) fn says(name: &str, arguments: &[&str]) -> String {
    let output = Command::new(tool(name)).args(arguments).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {arguments:?}: {complaint}");
    String::from_utf8(output.stdout).unwrap()
}

/// An address that a member can be known by.
pub(crate) fn peer_url() -> String {
    format!("http://127.0.0.1:{}", free_port())
}

/// A started `etcd`; killed when dropped.
pub(crate) struct Etcd {
    pub(crate) endpoint: String,
    child: Child,
    /// Removed with it.
    folder: Option<tempfile::TempDir>,
}

impl Etcd {
    /// Starts one on an empty folder and waits until it serves.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with more flags.
    pub(crate) fn start_with(flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut etcd = Self::start_on(&folder.path().join("data"), &peer_url(), flags);
        etcd.folder = Some(folder);
        etcd
    }

    /// The same on a folder of the caller's, known to peers by `peer`.
    pub(crate) fn start_on(data_dir: &Path, peer: &str, flags: &[&str]) -> Self {
        let endpoint = format!("127.0.0.1:{}", free_port());
        let url = format!("http://{endpoint}");
        let mut child = Command::new(tool("etcd"))
            .args([
                "--listen-client-urls",
                &url,
                "--advertise-client-urls",
                &url,
            ])
            .args(["--listen-peer-urls", peer])
            .args(["--initial-advertise-peer-urls", peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .args(["--log-level", "error", "--data-dir"])
            .arg(data_dir)
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
            folder: None,
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
