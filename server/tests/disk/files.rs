//! Files that are gone, cut short, or of an earlier time.

use std::fs;

use crate::node::Node;
use crate::template::{
    FLAGS, Outcome, Template, connect, copy_folder, files, name_of, named, outcome, read_all,
};

/// Files that carry nothing: without them a node starts as if nothing had happened.
fn is_dispensable(name: &str, blank: &str) -> bool {
    name == blank
        || matches!(name, "lock" | "ballast" | "LOCK" | "LOG" | "IDENTITY")
        || name.starts_with("LOG.old")
        // RocksDB's own write-ahead log, which is off.
        || name.ends_with(".log")
        || name.starts_with("OPTIONS-")
}

/// The segment that was made ahead: it holds nothing.
fn blank(template: &Template) -> String {
    name_of(named(&template.data(), ".wal").last().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_file_is_missed_or_not_needed() {
    let template = Template::new().await;
    let blank = blank(&template);
    for file in files(&template.data()) {
        let name = name_of(&file);
        let copy = template.copy();
        fs::remove_file(
            copy.path()
                .join(file.strip_prefix(template.data()).unwrap()),
        )
        .unwrap();
        match outcome(copy.path(), &template.expected).await {
            Outcome::Harmless => assert!(is_dispensable(&name, &blank), "{name} is not needed?"),
            Outcome::Refused(text) => {
                assert!(!is_dispensable(&name, &blank), "{name}: {text}");
                assert!(text.contains(&name), "{name} is not named: {text}");
            }
            other => panic!("{name}: {other:?}"),
        }
        // A refused start changed nothing: with the file back, everything is there.
        let back = copy
            .path()
            .join(file.strip_prefix(template.data()).unwrap());
        fs::copy(&file, &back).unwrap();
        let found = outcome(copy.path(), &template.expected).await;
        assert!(matches!(found, Outcome::Harmless), "{name}: {found:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_cut_in_half_is_noticed_or_not_needed() {
    let template = Template::new().await;
    let blank = blank(&template);
    for file in files(&template.data()) {
        let name = name_of(&file);
        let size = fs::metadata(&file).unwrap().len();
        let copy = template.copy();
        let cut = copy
            .path()
            .join(file.strip_prefix(template.data()).unwrap());
        let cut = fs::OpenOptions::new().write(true).open(cut).unwrap();
        cut.set_len(size / 2).unwrap();
        match outcome(copy.path(), &template.expected).await {
            // Half a manifest is an older one; the log has what came later, as long as it was not purged.
            Outcome::Harmless => assert!(
                is_dispensable(&name, &blank) || name.starts_with("MANIFEST"),
                "{name} is not needed?"
            ),
            Outcome::Refused(text) => {
                assert!(!is_dispensable(&name, &blank), "{name}: {text}");
                let is_named =
                    text.contains(&name) || name.starts_with("MANIFEST") || name == "CURRENT";
                assert!(is_named, "{name} is not named: {text}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_of_an_earlier_time_are_refused_or_caught_up() {
    let folder = tempfile::tempdir().unwrap();
    let (data, early) = (folder.path().join("data"), folder.path().join("early"));
    let put = async |from: i64, to: i64| {
        let node = Node::start_with(&data, &FLAGS);
        let client = connect(&node).await;
        for number in from..to {
            client
                .put(format!("key/{number}"), format!("{number}"))
                .await
                .unwrap();
        }
        let all = read_all(&client).await.unwrap();
        assert!(node.terminate().success());
        all
    };
    let before = put(0, 50).await;
    copy_folder(&data, &early);
    let after = put(50, 100).await;
    let late = folder.path().join("late");
    copy_folder(&data, &late);
    let member = data.join("member");

    // An older database: the log has the rest.
    copy_folder(&early.join("member/db"), &member.join("db"));
    assert!(matches!(outcome(&data, &after).await, Outcome::Harmless));

    // An older log: the state is ahead of it, and what the log lost may have been more.
    copy_folder(&late, &data);
    copy_folder(&early.join("member/wal"), &member.join("wal"));
    let found = outcome(&data, &after).await;
    let Outcome::Refused(text) = &found else {
        panic!("{found:?}");
    };
    assert!(
        text.contains("copied back or lost; restore both from the same time"),
        "{text}"
    );

    // No database at all is an older one, too.
    copy_folder(&late, &data);
    fs::remove_dir_all(member.join("db")).unwrap();
    assert!(matches!(outcome(&data, &after).await, Outcome::Harmless));

    // The whole folder: nothing on this node can know of what is gone. It is exactly what it was then.
    copy_folder(&early, &data);
    assert!(before.newest() < after.newest());
    assert!(matches!(outcome(&data, &before).await, Outcome::Harmless));
}
