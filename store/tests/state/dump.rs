//! Reading a database for people: every family, parts of it, and what is damaged.

use std::sync::Arc;

use proto::command::command::Op;
use proto::etcd::etcdserverpb::request_op::Request;
use store::dump::{self, Item, Wanted};
use store::engine::memory::MemoryEngine;
use store::engine::{Batch, Family, StateEngine};
use store::{Machine, Options, layout};

use crate::commands::{apply_one, compact, delete, put, txn};

fn text(item: &Item<'_>) -> String {
    match item {
        Item::Version {
            op,
            sub,
            superseded,
            fields,
        } => format!(
            "{op:?} {}.{sub}{} {} = {}",
            fields.mod_revision,
            if *superseded { " superseded" } else { "" },
            fields.key.escape_ascii(),
            fields.value.escape_ascii()
        ),
        Item::Live { fields, value_len } => format!(
            "live {} at {} ({value_len})",
            fields.key.escape_ascii(),
            fields.mod_revision
        ),
        Item::Change {
            revision,
            sub,
            op,
            key,
        } => format!("{op:?} {revision}.{sub} {}", key.escape_ascii()),
        Item::Meta { name, .. } => format!("meta {}", name.escape_ascii()),
        Item::Damaged { key, error, .. } => format!("damaged {}: {error}", key.escape_ascii()),
    }
}

const ALL: Wanted<'_> = Wanted {
    prefix: b"",
    from_revision: 0,
};

fn lines(engine: &dyn StateEngine, family: Family, wanted: &Wanted<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    dump::items(engine, family, wanted, &mut |item| {
        lines.push(text(&item));
        true
    })
    .unwrap();
    lines
}

fn filled() -> Arc<MemoryEngine> {
    let engine = Arc::new(MemoryEngine::new());
    let mut machine = Machine::open(engine.clone(), Options::default()).unwrap();
    let twice = txn(vec![
        Request::RequestDeleteRange(delete("a", "")),
        Request::RequestPut(put("a", "3")),
    ]);
    for op in [
        Op::Put(put("a", "1")),
        Op::Put(put("a\0b", "")),
        twice,
        Op::Put(put("b", "4")),
        Op::DeleteRange(delete("b", "")),
    ] {
        apply_one(&mut machine, op).unwrap();
    }
    engine
}

#[test]
fn every_family_is_told_in_its_order() {
    let engine = filled();
    assert_eq!(
        lines(&*engine, Family::Kv, &ALL),
        [
            "Put 4.1 a = 3",
            "Delete 4.0 superseded a = ",
            "Put 2.0 a = 1",
            "Put 3.0 a\\x00b = ",
            "Delete 6.0 b = ",
            "Put 5.0 b = 4",
        ]
    );
    assert_eq!(
        lines(&*engine, Family::Tip, &ALL),
        ["live a at 4 (1)", "live a\\x00b at 3 (0)"]
    );
    assert_eq!(
        lines(&*engine, Family::Log, &ALL),
        [
            "Put 2.0 a",
            "Put 3.0 a\\x00b",
            "Delete 4.0 a",
            "Put 4.1 a",
            "Put 5.0 b",
            "Delete 6.0 b",
        ]
    );
    let names = lines(&*engine, Family::Meta, &ALL);
    assert!(names.contains(&"meta format".to_owned()), "{names:?}");
    assert!(names.contains(&"meta state".to_owned()), "{names:?}");
}

#[test]
fn a_part_is_told_by_prefix_and_revision() {
    let engine = filled();
    let wanted = Wanted {
        prefix: b"a\0",
        from_revision: 0,
    };
    assert_eq!(lines(&*engine, Family::Kv, &wanted), ["Put 3.0 a\\x00b = "]);
    assert_eq!(
        lines(&*engine, Family::Tip, &wanted),
        ["live a\\x00b at 3 (0)"]
    );
    assert_eq!(lines(&*engine, Family::Log, &wanted), ["Put 3.0 a\\x00b"]);
    let wanted = Wanted {
        prefix: b"a",
        from_revision: 4,
    };
    assert_eq!(
        lines(&*engine, Family::Kv, &wanted),
        ["Put 4.1 a = 3", "Delete 4.0 superseded a = "]
    );
    assert_eq!(lines(&*engine, Family::Tip, &wanted), ["live a at 4 (1)"]);
    assert_eq!(
        lines(&*engine, Family::Log, &wanted),
        ["Delete 4.0 a", "Put 4.1 a"]
    );
    let mut seen = 0;
    let mut visit = |_: Item<'_>| {
        seen += 1;
        seen < 2
    };
    dump::items(&*engine, Family::Kv, &ALL, &mut visit).unwrap();
    assert_eq!(seen, 2, "the visitor may end it");
}

#[test]
fn a_summary_tells_where_the_state_is() {
    let engine = filled();
    let summary = dump::summary(&*engine).unwrap();
    assert_eq!(summary.format, Some(layout::FORMAT));
    let state = summary.state.unwrap();
    assert_eq!(state.revision, 6);
    assert_eq!(dump::live_keys(&*engine).unwrap(), 2);
    let empty = dump::summary(&MemoryEngine::new()).unwrap();
    assert!(empty.state.is_none() && empty.format.is_none());
}

#[test]
fn what_cannot_be_understood_is_told_and_the_rest_follows() {
    let engine = filled();
    let mut batch = Batch::default();
    let damage = [
        (Family::Kv, &b"no revision"[..], &b"\0\0"[..]),
        (Family::Tip, b"aa", b"\xff"),
        (Family::Log, b"short", b""),
    ];
    for (family, key, value) in damage {
        batch.put(
            family,
            |out| out.extend_from_slice(key),
            |out| out.extend_from_slice(value),
        );
    }
    // A version that stands where another key's belongs.
    let mut other = Vec::new();
    layout::put_kv_key(&mut other, b"a", 2);
    let mut stored = Vec::new();
    engine
        .get(Family::Kv, &other, &mut |value| stored = value.to_vec())
        .unwrap();
    batch.put(
        Family::Kv,
        |out| layout::put_kv_key(out, b"c", 2),
        |out| out.extend_from_slice(&stored),
    );
    engine.write(&batch).unwrap();
    for (family, damaged, whole) in [(Family::Kv, 2, 6), (Family::Tip, 1, 2), (Family::Log, 1, 6)] {
        let lines = lines(&*engine, family, &ALL);
        let is_damaged = |line: &&String| line.starts_with("damaged");
        assert_eq!(
            lines.iter().filter(is_damaged).count(),
            damaged,
            "{lines:?}"
        );
        assert_eq!(lines.len(), damaged + whole, "{lines:?}");
    }
}

#[test]
fn compaction_shows_in_the_summary() {
    let engine = Arc::new(MemoryEngine::new());
    let mut machine = Machine::open(engine.clone(), Options::default()).unwrap();
    for value in ["1", "2", "3"] {
        apply_one(&mut machine, Op::Put(put("a", value))).unwrap();
    }
    apply_one(&mut machine, compact(3)).unwrap();
    let state = dump::summary(&*engine).unwrap().state.unwrap();
    assert_eq!((state.revision, state.compact_revision), (4, 3));
}
