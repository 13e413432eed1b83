//! What a machine shows, compared with the model.

use proto::etcd::etcdserverpb::RangeRequest;
use rand::Rng;
use rand::rngs::StdRng;
use store::{Machine, Reader, Record, Refusal, View};

use crate::generate::key;
use crate::model::{Change, Model};

pub(crate) fn check_range(reader: &Reader, view: &View, model: &Model, request: &RangeRequest) {
    let found = reader.range(view, request).unwrap().map(|answer| {
        let kvs: Vec<_> = answer.records.iter().map(Record::to_key_value).collect();
        (kvs, answer.count, answer.more)
    });
    assert_eq!(found, model.range(request), "{request:?}");
}

pub(crate) fn check_changes(found: &store::ChangeSet, expected: &[Change], previous_from: i64) {
    assert_eq!(found.changes.len(), expected.len());
    for (found, (key, new, old)) in found.changes.iter().zip(expected) {
        assert_eq!(
            (found.record.key(), found.is_delete),
            (&**key, new.is_none())
        );
        assert_eq!(found.record.mod_revision(), found_revision(found));
        match new {
            Some(new) => assert_eq!(found.record.to_key_value(), *new),
            None => assert_eq!(found.record.version(), 0),
        }
        let old = old
            .as_ref()
            .filter(|_| found.record.mod_revision() > previous_from);
        assert_eq!(found.previous.is_some(), old.is_some());
        if let (Some(found), Some(old)) = (&found.previous, old) {
            assert_eq!(
                (found.mod_revision, found.version),
                (old.mod_revision, old.version)
            );
            assert_eq!(
                (found.create_revision, found.lease),
                (old.create_revision, old.lease)
            );
            if let Some(record) = &found.record {
                assert_eq!(record.to_key_value(), *old);
            }
        }
    }
}

fn found_revision(change: &store::Change) -> i64 {
    change.record.fields().mod_revision
}

/// What became of a key, the newest first, as far back as history goes.
fn check_versions(reader: &Reader, model: &Model, key: &[u8], up_to: i64) {
    let mut found = Vec::new();
    reader
        .versions(key, up_to, &mut |version| {
            assert_eq!(version.record.key(), key);
            let value = (!version.is_delete).then(|| version.record.to_key_value());
            found.push((version.record.mod_revision(), value));
            true
        })
        .unwrap();
    let mut expected = Vec::new();
    let readable = up_to >= model.compact_revision;
    for revision in (1..=up_to).rev().filter(|_| readable) {
        let changes = &model.changes[revision as usize - 1];
        let last = changes.iter().rev().find(|(changed, ..)| *changed == key);
        let Some((_, new, _)) = last else { continue };
        if new.is_some() || revision >= model.compact_revision {
            expected.push((revision, new.clone()));
        }
        if revision <= model.compact_revision {
            break;
        }
    }
    assert_eq!(found, expected, "{key:?} up to {up_to}");
}

pub(crate) fn check_history(reader: &Reader, view: &View, model: &Model, random: &mut StdRng) {
    let after = random.random_range(0..=view.revision);
    let wanted = key(random);
    check_versions(reader, model, &wanted, after);
    check_versions(reader, model, &wanted, view.revision);
    let wants_all = random.random_bool(0.5);
    let limit = random.random_range(1..20);
    let mut wants = |key: &[u8]| wants_all || key >= &*wanted;
    let found = reader
        .history(view, after, view.revision, limit, &mut wants)
        .unwrap();
    let found = match found {
        Err(refusal) => {
            let (requested, compacted) = (after + 1, model.compact_revision);
            assert!(requested < compacted);
            assert_eq!(
                refusal,
                Refusal::Compacted {
                    requested,
                    compacted
                }
            );
            return;
        }
        Ok(found) => found,
    };
    assert!(found.sets.len() <= limit && (found.up_to > after || after == view.revision));
    let mut sets = found.sets.iter();
    for revision in after + 1..=found.up_to {
        let changes = model.changes[revision as usize - 1].iter();
        let expected: Vec<_> = changes
            .filter(|(key, ..)| wants_all || *key >= wanted)
            .cloned()
            .collect();
        if !expected.is_empty() {
            let set = sets.next().unwrap();
            assert_eq!(set.revision, revision);
            check_changes(set, &expected, model.compact_revision);
            for (key, ..) in expected {
                let previous = reader.previous(&key, revision).unwrap();
                let old = (revision > 1 && revision > model.compact_revision)
                    .then(|| model.state_at(revision - 1).get(&key).cloned());
                assert_eq!(previous.map(|record| record.to_key_value()), old.flatten());
            }
        }
    }
    assert!(sets.next().is_none());
}

/// The view is the model's newest state, and answers these questions as the model does.
pub(crate) fn check_view(machine: &Machine, model: &Model, questions: &[RangeRequest]) {
    let reader = machine.reader();
    let view = reader.view();
    assert_eq!(
        (view.revision, view.compact_revision),
        (model.revision(), model.compact_revision)
    );
    assert_eq!(view.index.len(), model.state_at(view.revision).len());
    let mut leases = reader.leases().all();
    leases.sort_unstable_by_key(|(id, _)| *id);
    let expected = model.leases.iter().map(|(&id, &term)| (id, term));
    assert_eq!(leases, expected.collect::<Vec<_>>());
    for &id in model.leases.keys() {
        assert_eq!(reader.leases().keys(id), Some(model.keys_of(id)));
    }
    for question in questions {
        check_range(&reader, &view, model, question);
    }
}

/// Every revision that can be read, whole; the others are refused.
pub(crate) fn check_all_revisions(machine: &Machine, model: &Model) {
    let reader = machine.reader();
    let view = reader.view();
    for revision in 1..=model.revision() + 1 {
        let request = RangeRequest {
            key: "\0".into(),
            range_end: "\0".into(),
            revision,
            ..Default::default()
        };
        check_range(&reader, &view, model, &request);
    }
}
