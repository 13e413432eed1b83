//! The real `etcdctl` for alarms, status and defragmentation.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod node;

use std::process::Command;

use client::Client;
use node::Node;
use proto::etcd::etcdserverpb::alarm_request::AlarmAction;
use proto::etcd::etcdserverpb::{AlarmRequest, AlarmType};

/// What etcdctl printed, to stdout if it succeeded, else to stderr.
async fn etcdctl(node: &Node, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(node::etcdctl());
    command
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", &node.endpoint])
        .args(arguments);
    // Beside the test's own runtime, which serves the client.
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = output.await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() {
        Ok(text(output.stdout))
    } else {
        Err(text(output.stderr))
    }
}

async fn start(flags: &[&str]) -> (tempfile::TempDir, Node, Client) {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start_with(&folder.path().join("data"), flags);
    let client = client::connect(node.endpoint.clone()).await.unwrap();
    (folder, node, client)
}

async fn activate(client: &Client, member_id: u64, alarm: AlarmType) {
    let request = AlarmRequest {
        action: AlarmAction::Activate as i32,
        member_id,
        alarm: alarm as i32,
    };
    client.maintenance().alarm(request).await.unwrap();
}

/// Go prints one space or two between the fields of a message.
fn single_spaced(text: &str) -> String {
    text.split(' ')
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

#[tokio::test]
async fn alarms_are_listed_obeyed_shown_and_disarmed() {
    let (_folder, node, client) = start(&[]).await;
    assert_eq!(etcdctl(&node, &["alarm", "list"]).await.unwrap(), "");
    etcdctl(&node, &["put", "a", "1"]).await.unwrap();
    activate(&client, 7, AlarmType::Nospace).await;
    let listed = etcdctl(&node, &["alarm", "list"]).await.unwrap();
    assert_eq!(single_spaced(&listed), "memberID:7 alarm:NOSPACE\n");

    let refused = etcdctl(&node, &["put", "a", "2"]).await.unwrap_err();
    assert!(
        refused.contains("etcdserver: mvcc: database space exceeded"),
        "{refused}"
    );
    assert_eq!(etcdctl(&node, &["get", "a"]).await.unwrap(), "a\n1\n");
    assert_eq!(etcdctl(&node, &["del", "a"]).await.unwrap(), "1\n");

    let health = etcdctl(&node, &["endpoint", "health"]).await.unwrap_err();
    assert!(health.contains("NOSPACE"), "{health}");
    let status = etcdctl(&node, &["endpoint", "status", "-w", "json"])
        .await
        .unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let status = &status[0]["Status"];
    assert_eq!(
        status["errors"],
        serde_json::json!(["memberID:7 alarm:NOSPACE"])
    );

    activate(&client, 9, AlarmType::Corrupt).await;
    let refused = etcdctl(&node, &["del", "a"]).await.unwrap_err();
    assert!(refused.contains("etcdserver: corrupt cluster"), "{refused}");

    let disarmed = etcdctl(&node, &["alarm", "disarm"]).await.unwrap();
    assert_eq!(
        single_spaced(&disarmed),
        "memberID:7 alarm:NOSPACE\nmemberID:9 alarm:CORRUPT\n"
    );
    assert_eq!(etcdctl(&node, &["alarm", "list"]).await.unwrap(), "");
    assert_eq!(etcdctl(&node, &["put", "a", "3"]).await.unwrap(), "OK\n");
    let health = etcdctl(&node, &["endpoint", "health"]).await;
    assert!(health.is_ok(), "{health:?}");
}

#[tokio::test]
async fn status_tells_sizes_quota_and_errors_and_defrag_succeeds() {
    let (_folder, node, _client) = start(&["--quota-backend-bytes", "1073741824"]).await;
    etcdctl(&node, &["put", "a", "1"]).await.unwrap();
    let json = ["endpoint", "status", "-w", "json"];
    let status: serde_json::Value =
        serde_json::from_str(&etcdctl(&node, &json).await.unwrap()).unwrap();
    let status = &status[0]["Status"];
    let number = |field: &str| status[field].as_u64().unwrap_or_default();
    assert_eq!(number("dbSizeQuota"), 1 << 30);
    assert!(number("dbSize") > 0 && number("dbSizeInUse") <= number("dbSize"));
    assert_eq!(status["version"], "3.7.1");
    assert_eq!(status["storageVersion"], "3.7.0");
    assert_eq!(status["downgradeInfo"], serde_json::json!({}));
    assert!(status.get("errors").is_none(), "{status}");
    assert!(number("leader") != 0 && number("raftIndex") >= number("raftAppliedIndex"));
    let table = etcdctl(&node, &["endpoint", "status", "-w", "table"])
        .await
        .unwrap();
    assert!(table.contains("3.7.1"), "{table}");
    assert!(
        table.contains("1.1 GB"),
        "the quota in etcdctl's words: {table}"
    );

    let done = etcdctl(&node, &["defrag"]).await.unwrap();
    assert!(
        done.contains("Finished defragmenting etcd member"),
        "{done}"
    );
    // Many at once are one run.
    let runs = (0..4).map(|_| etcdctl(&node, &["defrag"]));
    for done in futures_util::future::join_all(runs).await {
        assert!(done.unwrap().contains("Finished defragmenting"));
    }
    assert_eq!(etcdctl(&node, &["get", "a"]).await.unwrap(), "a\n1\n");
    assert_eq!(etcdctl(&node, &["put", "a", "2"]).await.unwrap(), "OK\n");
}

#[tokio::test]
async fn alarms_outlive_the_node() {
    let (folder, node, client) = start(&[]).await;
    activate(&client, 7, AlarmType::Nospace).await;
    drop(client);
    node.kill();
    let node = Node::start(&folder.path().join("data"));
    let listed = etcdctl(&node, &["alarm", "list"]).await.unwrap();
    assert_eq!(single_spaced(&listed), "memberID:7 alarm:NOSPACE\n");
    assert!(node.terminate().success());
    let node = Node::start(&folder.path().join("data"));
    let listed = etcdctl(&node, &["alarm", "list"]).await.unwrap();
    assert_eq!(single_spaced(&listed), "memberID:7 alarm:NOSPACE\n");
}
