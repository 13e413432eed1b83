//! Applications use client libraries that are not ours: here the crate `etcd-client`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod node;

use std::process::Command;

use node::Node;
use node::real::{Etcd, tool};

/// Has the library do some work with a server.
fn works(endpoint: &str, work: &str) {
    let output = Command::new(tool("etcd-client-check"))
        .args([endpoint, work])
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{work}: {complaint}");
}

fn works_with_holdfast(work: &str) {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder.path().join("data"));
    works(&node.endpoint, work);
}

#[test]
fn etcd_client_reads_and_writes_keys() {
    works_with_holdfast("kv");
}

#[test]
fn etcd_client_watches() {
    works_with_holdfast("watch");
}

#[test]
fn etcd_client_holds_leases() {
    works_with_holdfast("lease");
}

#[test]
fn etcd_client_locks() {
    works_with_holdfast("lock");
}

#[test]
fn etcd_client_elects() {
    works_with_holdfast("election");
}

/// What is expected of Holdfast is what etcd does.
#[test]
fn etcd_client_finds_the_same_with_etcd() {
    let etcd = Etcd::start();
    for work in ["kv", "watch", "lease", "lock", "election"] {
        works(&etcd.endpoint, work);
    }
}
