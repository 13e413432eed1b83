//! Limits of the process: few open files, little memory.

use std::time::Duration;

use client::Options;
use serde_json::Value;

use crate::node::Node;
use crate::template::{FLAGS, Template, connect, read_all};

/// The lines that a node logged before it ended with an error.
fn refused(wrapper: &[&str], data: &std::path::Path) -> String {
    let (code, log) = Node::launch(wrapper, data, &FLAGS).wait();
    let text = log.join("\n");
    assert_eq!(code, Some(1), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    let last: Value = serde_json::from_str(log.last().unwrap()).unwrap();
    assert_eq!(last["level"], "fatal", "{text}");
    last["error"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_few_files_connections_wait_and_everything_else_works() {
    let template = Template::new().await;
    let copy = template.copy();
    let error = refused(&["prlimit", "--nofile=100:100"], copy.path());
    for words in ["only 100 files open", "ulimit -n 1024", "LimitNOFILE"] {
        assert!(error.contains(words), "no {words:?} in: {error}");
    }

    // The soft limit is raised to the hard one.
    let mut node = Node::start_under(&["prlimit", "--nofile=100:200"], copy.path(), &FLAGS);
    node.wait_for_log("few files may be open");
    let client = connect(&node).await;
    assert!(read_all(&client).await.unwrap() == template.expected);
    // Each is a connection of its own; those beyond the limit wait to be accepted.
    let mut clients = Vec::new();
    let options = Options {
        request_timeout: Duration::from_secs(3),
        ..Options::default()
    };
    for _ in 0..150 {
        if let Ok(client) = options.connect(node.endpoint.clone()).await {
            clients.push(client);
        }
    }
    let mut answered = Vec::new();
    for client in clients {
        answered.push(tokio::spawn(async move {
            let is_answered = client.get("key/030").await.is_ok();
            (client, is_answered)
        }));
    }
    let mut open = Vec::new();
    for answer in answered {
        open.push(answer.await.unwrap());
    }
    let served = open.iter().filter(|(_, is_answered)| *is_answered).count();
    assert!((20..150).contains(&served), "{served} of 150 were served");
    node.wait_for_log("too many connections; new ones wait until one ends");
    for number in 0..50 {
        client.put("after", format!("{number}")).await.unwrap();
    }
    drop(open);
    // There is room again.
    let later = connect(&node).await;
    assert_eq!(later.get("after").await.unwrap().unwrap().value, "49");
    assert!(node.terminate().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_room_in_memory_a_start_is_refused_and_nothing_acknowledged_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    assert!(Node::start_with(&data, &FLAGS).terminate().success());
    for mebibytes in [60, 200, 300] {
        let limit = format!("--as={}", mebibytes << 20);
        let error = refused(&["prlimit", &limit], &data);
        let only = format!("only {mebibytes} MiB of address space");
        for words in [
            &only,
            "needs 320 MiB",
            "ulimit -v unlimited",
            "--memory-budget",
        ] {
            assert!(error.contains(words), "no {words:?} in: {error}");
        }
    }
    // With little more it runs; should it meet the limit then, the process ends, and the log has what it acknowledged.
    let mut acknowledged = Vec::new();
    for mebibytes in [400, 700] {
        let limit = format!("--as={}", mebibytes << 20);
        let node = Node::start_under(&["prlimit", &limit], &data, &FLAGS);
        let client = connect(&node).await;
        for number in 0..40 {
            let key = format!("{mebibytes}/{number}");
            match client.put(key.clone(), "v".repeat(1_000_000)).await {
                Ok(revision) => acknowledged.push((key, revision)),
                Err(_) => break,
            }
        }
        node.kill();
    }
    assert!(!acknowledged.is_empty());
    let node = Node::start_with(&data, &FLAGS);
    let client = connect(&node).await;
    for (key, revision) in acknowledged {
        let found = client.get(key.clone()).await.unwrap();
        assert_eq!(found.map(|kv| kv.mod_revision), Some(revision), "{key}");
    }
}
