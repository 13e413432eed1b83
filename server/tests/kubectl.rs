//! The real kubectl against the real binary. What it is told and what it then prints is data: the files
//! `kubectl/*.yaml`, written from what kube-apiserver 1.37 answers.
//!
//! A file is a list of cases. Each has a namespace of its own, `$NS`, which is also the namespace that kubectl takes by
//! itself, and an empty folder, which is its home and where it works: caches are cold at its first step, and warm then.
//! All cases share the server; names of what is in no namespace contain `$NS`.
//!
//! ```yaml
//! - name: what is shown           # with the file's name: what CASES=... chooses by
//!   files: {one.yaml: ...}        # are in the folder
//!   steps:                        # the case ends at the first that fails
//!   - run: get pods -o name       # arguments of kubectl, or `etcdctl ...`; quotes as in a shell
//!     stdin: ...
//!     env: {KUBE_EDITOR: ...}
//!     exit: 1                     # else 0
//!     out: |                      # all of stdout; not looked at if not given
//!       pod/one
//!     err: ...                    # all of stderr; if not given, it is empty where the exit code is 0
//!     eventually: true            # repeated until it is so
//!     save: name                  # stdout is $name from here on
//!     while:                      # steps that are done while this one runs. It is stopped when it has printed `out`,
//!     - run: delete pod one       # or, with `ends: true`, ends by itself.
//! ```
//!
//! Lines of expected output are taken word for word, but two and more spaces stand for any two and more (columns are as
//! wide as what is in them), and `<age>`, `<rv>`, `<uid>`, `<time>`, `<ip>`, `<port>`, `<random>` and `<any>` for what is
//! different each time. A line between two `/` is a pattern; a line `...` stands for any lines.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "kubectl/case.rs"]
mod case;
#[path = "kubectl/expected.rs"]
mod expected;
mod node;
#[path = "kubectl/run.rs"]
mod run;
#[path = "kubectl/table.rs"]
mod table;

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use case::Case;
use node::{Node, free_port, http};
use run::Target;

/// Cases at the same time.
const WORKERS: usize = 4;

/// The tests of this file want the whole machine, one after the other.
static MACHINE: Mutex<()> = Mutex::new(());

/// A node with the resource API, not waited for.
fn launch(folder: &Path, flags: &[&str]) -> (Node, Target) {
    let api = format!("127.0.0.1:{}", free_port());
    let url = format!("http://{api}");
    let mut all = vec!["--listen-api-urls", &url];
    all.extend(flags);
    let node = Node::launch(&[], folder, &all);
    let etcd = node.endpoint.clone();
    (node, Target { api, etcd })
}

fn await_ready(node: &mut Node) {
    node.wait_for_log("ready to serve client requests");
}

/// Whether a member is the leader.
fn leads(target: &Target) -> bool {
    let answer = http::post(&target.etcd, "/v3/maintenance/status", "{}");
    let status: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    status["leader"] == status["header"]["member_id"]
}

/// Cases that are run only if they are asked for.
const NOT_YET: &str = include_str!("kubectl/not_yet.txt");

fn is_not_yet(case: &Case) -> bool {
    NOT_YET.lines().any(|title| title == case.title())
}

/// Runs the cases that are chosen, and panics with all that failed.
fn all_pass(target: &Target) {
    let chosen = std::env::var("CASES").unwrap_or_default();
    let cases: Vec<Case> = case::all()
        .into_iter()
        .filter(|case| case.title().contains(&chosen))
        .filter(|case| !chosen.is_empty() || !is_not_yet(case))
        .collect();
    assert!(!cases.is_empty(), "no case is called {chosen:?}");
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(place) else {
                        break;
                    };
                    if let Err(why) = run::run(case, place, target) {
                        let report = format!("{}\n{why}", case.title());
                        failures.lock().unwrap().push(report);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(
        failures.is_empty(),
        "{} of {} cases failed\n\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

#[test]
fn kubectl_works_with_one_node() {
    let _machine = MACHINE.lock().unwrap_or_else(|held| held.into_inner());
    let folder = tempfile::tempdir().unwrap();
    let (mut node, target) = launch(&folder.path().join("data"), &[]);
    await_ready(&mut node);
    all_pass(&target);
    if std::env::var_os("CASES").is_none() {
        table::compare(&case::all(), is_not_yet);
    }
}

#[test]
fn kubectl_works_through_a_follower_of_three() {
    const NAMES: [&str; 3] = ["a", "b", "c"];
    let _machine = MACHINE.lock().unwrap_or_else(|held| held.into_inner());
    let folder = tempfile::tempdir().unwrap();
    let peers = NAMES.map(|_| format!("http://127.0.0.1:{}", free_port()));
    let members = NAMES.iter().zip(&peers);
    let members: Vec<String> = members.map(|(name, url)| format!("{name}={url}")).collect();
    let members = members.join(",");
    let mut nodes = Vec::new();
    let mut targets = Vec::new();
    // None serves before a quorum is there, so none is waited for before all are started.
    for (name, peer) in NAMES.iter().zip(&peers) {
        let flags = [
            "--name",
            name,
            "--listen-peer-urls",
            peer,
            "--initial-advertise-peer-urls",
            peer,
            "--initial-cluster",
            &members,
            // Leadership stays, however busy the machine is.
            "--election-timeout",
            "5000",
        ];
        let (node, target) = launch(&folder.path().join(name), &flags);
        nodes.push(node);
        targets.push(target);
    }
    nodes.iter_mut().for_each(await_ready);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !targets.iter().any(leads) {
        assert!(Instant::now() < deadline, "no leader");
        std::thread::sleep(Duration::from_millis(50));
    }
    let follower = targets.iter().find(|target| !leads(target)).unwrap();
    all_pass(follower);
}
