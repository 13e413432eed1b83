//! The real `etcdctl` for the members of a cluster of one: listed, added, changed, removed, and kept.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod node;

use std::path::PathBuf;
use std::process::Command;

use node::{Node, http};
use serde_json::Value;

/// What etcdctl printed, to stdout if it succeeded, else to stderr.
fn etcdctl(node: &Node, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(node::etcdctl())
        .args(["--endpoints", &node.endpoint])
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() {
        Ok(text(output.stdout))
    } else {
        Err(text(output.stderr))
    }
}

/// The text of a refusal.
fn refusal(node: &Node, arguments: &[&str]) -> String {
    let complaint = etcdctl(node, arguments).unwrap_err();
    let error = complaint.lines().last().unwrap();
    error.strip_prefix("Error: ").unwrap_or(error).to_owned()
}

/// The members, as a list in JSON.
fn members(node: &Node) -> Vec<Value> {
    let list = etcdctl(node, &["member", "list", "-w", "json"]).unwrap();
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list["header"]["revision"], Value::Null, "{list}");
    list["members"].as_array().unwrap().clone()
}

fn learner(node: &Node) -> Option<Value> {
    let is_learner = |member: &Value| member["isLearner"] == true;
    members(node).into_iter().find(is_learner)
}

/// An id as etcdctl takes it.
fn id(member: &Value) -> String {
    format!("{:x}", member["ID"].as_u64().unwrap())
}

fn start(flags: &[&str]) -> (tempfile::TempDir, PathBuf, Node) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let node = Node::start_with(&data, flags);
    (folder, data, node)
}

const ADD: [&str; 4] = [
    "member",
    "add",
    "new",
    "--peer-urls=http://127.0.0.1:3,http://127.0.0.1:2",
];

#[test]
fn a_learner_is_added_changed_and_removed_for_good() {
    let (_folder, data, node) = start(&["--name=one"]);
    let [own] = &members(&node)[..] else {
        panic!("one member")
    };
    assert_eq!(own["name"], "one");
    let add = [&ADD[..], &["--learner"]].concat();
    let added = etcdctl(&node, &add).unwrap();
    assert!(added.contains("ETCD_INITIAL_CLUSTER_STATE=\"existing\""));
    let member = learner(&node).unwrap();
    assert_eq!(
        member["peerURLs"],
        serde_json::json!(["http://127.0.0.1:2", "http://127.0.0.1:3"])
    );
    assert_eq!(member["name"], Value::Null, "it was not started");

    let update = [
        "member",
        "update",
        &id(&member),
        "--peer-urls=http://127.0.0.1:9",
    ];
    etcdctl(&node, &update).unwrap();
    // What is answered stays, also if nothing was flushed.
    node.kill();
    let node = Node::start_with(&data, &["--name=one"]);
    let changed = learner(&node).unwrap();
    assert_eq!(changed["ID"], member["ID"]);
    assert_eq!(
        changed["peerURLs"],
        serde_json::json!(["http://127.0.0.1:9"])
    );

    let remove = ["member", "remove", &id(&member)];
    etcdctl(&node, &remove).unwrap();
    assert!(node.terminate().success());
    let node = Node::start_with(&data, &["--name=one"]);
    assert_eq!(members(&node).len(), 1);
    assert_eq!(
        refusal(&node, &remove),
        "etcdserver: member not found",
        "removed is as never there"
    );
    assert_eq!(
        refusal(&node, &["member", "remove", &id(own)]),
        "etcdserver: re-configuration failed due to not enough started members"
    );
}

#[test]
fn a_member_publishes_its_name_and_addresses_when_they_change() {
    let (_folder, data, node) = start(&["--name=one"]);
    let before = members(&node).remove(0);
    assert!(node.terminate().success());
    let node = Node::start_with(&data, &["--name=other"]);
    let after = members(&node).remove(0);
    assert_eq!(after["name"], "other");
    assert_eq!(after["ID"], before["ID"]);
    assert_eq!(
        after["clientURLs"],
        serde_json::json!([format!("http://{}", node.endpoint)])
    );
    // A start that changes nothing proposes nothing: of the log it takes the leader's own entry alone.
    let index = |node: &Node| -> u64 {
        let status = http::post(&node.endpoint, "/v3/maintenance/status", "{}");
        let status: Value = serde_json::from_str(&status.body).unwrap();
        status["raftIndex"].as_str().unwrap().parse().unwrap()
    };
    let last = index(&node);
    let endpoint = node.endpoint.clone();
    assert!(node.terminate().success());
    let url = format!("http://{endpoint}");
    let same = [
        "--name=other",
        "--listen-client-urls",
        &url,
        "--advertise-client-urls",
        &url,
    ];
    let node = Node::start_with(&data, &same);
    let found = http::post(&endpoint, "/v3/maintenance/status", "{}");
    let found: Value = serde_json::from_str(&found.body).unwrap();
    let found: u64 = found["raftIndex"].as_str().unwrap().parse().unwrap();
    assert_eq!(found, last + 1, "{}", node.data_dir.display());
}

#[test]
fn learners_are_limited_and_voters_need_a_quorum_that_runs() {
    let (_folder, _data, node) = start(&["--max-learners=2"]);
    const ADD: [&str; 4] = ["member", "add", "new", "--learner"];
    for url in ["http://127.0.0.1:2", "http://127.0.0.1:3"] {
        let add = [&ADD[..], &["--peer-urls", url]].concat();
        etcdctl(&node, &add).unwrap();
    }
    let own = members(&node);
    let own = own.iter().find(|member| member["isLearner"] != true);
    let own = id(own.unwrap());
    for (arguments, expected) in [
        (
            &[&ADD[..], &["--peer-urls=http://127.0.0.1:4"]].concat()[..],
            "etcdserver: too many learner members in cluster",
        ),
        (
            &[
                &ADD[..],
                &["--peer-urls=http://127.0.0.1:5,http://127.0.0.1:3"],
            ]
            .concat(),
            "etcdserver: Peer URLs already exists",
        ),
        (
            &["member", "promote", &own],
            "etcdserver: can only promote a learner member",
        ),
        (&["member", "promote", "7"], "etcdserver: member not found"),
        (
            &["member", "update", "7", "--peer-urls=http://127.0.0.1:8"],
            "etcdserver: member not found",
        ),
        (
            &["member", "update", &own, "--peer-urls=http://127.0.0.1:3"],
            "etcdserver: Peer URLs already exists",
        ),
    ] {
        let said = refusal(&node, arguments);
        assert!(said.ends_with(expected), "{arguments:?}: {said}");
    }
    // etcdctl does not let it through.
    let own = u64::from_str_radix(&own, 16).unwrap().to_string();
    let update = serde_json::json!({"ID": own, "peerURLs": ["nonsense"]});
    let said = http::post(
        &node.endpoint,
        "/v3/cluster/member/update",
        &update.to_string(),
    );
    assert!(
        said.body
            .contains("etcdserver: given member URLs are invalid"),
        "{said:?}"
    );
}

/// Nothing tells yet how far a learner is, so that it is taken for one that is ready.
#[test]
fn one_that_never_ran_is_not_promoted_and_counts_as_down() {
    let (_folder, _data, node) = start(&[]);
    etcdctl(&node, &[&ADD[..], &["--learner"]].concat()).unwrap();
    let member = learner(&node).unwrap();
    assert_eq!(
        refusal(&node, &["member", "promote", &id(&member)]),
        "etcdserver: can only promote a learner member which is in sync with leader"
    );
    etcdctl(&node, &["member", "remove", &id(&member)]).unwrap();
    // One alone may grow, but of three voters only one would run.
    let second = ["member", "add", "second", "--peer-urls=http://127.0.0.1:4"];
    etcdctl(&node, &second).unwrap();
    let third = ["member", "add", "third", "--peer-urls=http://127.0.0.1:5"];
    assert_eq!(
        refusal(&node, &third),
        "etcdserver: re-configuration failed due to not enough started members"
    );
    // And until it runs it has no say.
    etcdctl(&node, &["put", "key", "value"]).unwrap();
}
