//! Small operators on libraries that are not ours, against the real binary over https: the programs in `operators/`, which
//! `make operators` builds. Each does one work at a time, in a namespace of its own, and says what was not as expected of
//! kube-apiserver.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod node;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use node::real::tools;
use node::{Node, free_port};

/// Works at the same time.
const WORKERS: usize = 2;

/// How long one work may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// The tests of this file want the whole machine, one after the other: candidates in an election keep to times.
static MACHINE: Mutex<()> = Mutex::new(());

/// Something that `make operators` makes.
fn built(name: &str) -> PathBuf {
    let path = tools().join(name);
    assert!(
        path.exists(),
        "{} is missing: run `make operators` once",
        path.display()
    );
    path
}

/// A program in Python, with the libraries that it needs.
fn python(program: &str) -> Command {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/operators");
    let mut command = Command::new("python3");
    command
        .arg(folder.join(program))
        .env("PYTHONPATH", built("operators-python"))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Has a program do one work; what it printed if it did not end well.
fn does(mut program: Command, work: &str, kubeconfig: &Path, log: &Path) -> Result<(), String> {
    let file = File::create(log).unwrap();
    let mut child = program
        .arg(work)
        .env("KUBECONFIG", kubeconfig)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(file.try_clone().unwrap())
        .stderr(file)
        .spawn()
        .map_err(|error| format!("{program:?}: {error}"))?;
    let deadline = Instant::now() + PATIENCE;
    let why = loop {
        match child.try_wait().unwrap() {
            Some(status) if status.success() => return Ok(()),
            Some(status) => break status.to_string(),
            None if Instant::now() > deadline => {
                child.kill().unwrap();
                child.wait().unwrap();
                break format!("it did not end in {PATIENCE:?}");
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let printed = std::fs::read(log).unwrap();
    let printed = String::from_utf8_lossy(&printed);
    Err(format!("{work}: {why}\n{printed}"))
}

/// Has a program do all works with one node, and panics with all that failed.
fn works(program: impl Fn() -> Command + Sync, works: &[&str]) {
    let _machine = MACHINE.lock().unwrap_or_else(|held| held.into_inner());
    let folder = tempfile::tempdir().unwrap();
    let url = format!("https://127.0.0.1:{}", free_port());
    let node = Node::start_with(&folder.path().join("data"), &["--listen-api-urls", &url]);
    let kubeconfig = node.data_dir.join("admin.kubeconfig");
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(work) = works.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let log = folder.path().join(work);
                    if let Err(why) = does(program(), work, &kubeconfig, &log) {
                        failures.lock().unwrap().push(why);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    let (failed, all) = (failures.len(), works.len());
    assert!(
        failures.is_empty(),
        "{failed} of {all} works failed\n\n{}",
        failures.join("\n")
    );
}

#[test]
fn kube_rs_works() {
    works(
        || Command::new(built("bin/kube-rs-check")),
        &[
            "watchers",
            "controller",
            "cut",
            "objects",
            "patches",
            "conflicts",
            "pages",
            "discovery",
        ],
    );
}

#[test]
fn client_go_works() {
    works(
        || Command::new(built("bin/client-go-check")),
        &[
            "lists",
            "election",
            "objects",
            "patches",
            "conflicts",
            "informers",
            "controller",
            "discovery",
        ],
    );
}

#[test]
fn the_python_client_works() {
    works(
        || python("python_client.py"),
        &[
            "lease_election",
            "config_map_election",
            "objects",
            "finalizers",
            "owners",
            "patches",
            "lists",
            "shared_informer",
            "dynamic_client",
            "manifests",
            "custom_resource_definitions",
            "events",
        ],
    );
}

#[test]
fn kopf_works() {
    works(
        || python("kopf_operator.py"),
        &["config_maps", "deployments"],
    );
}
