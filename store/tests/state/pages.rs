//! Lists page by page: later pages show the first one's revision, count exactly, and cost no scan while it is held.

use std::sync::Arc;
use std::time::Duration;

use proto::command::command::Op;
use proto::etcd::etcdserverpb::RangeRequest;
use proto::etcd::etcdserverpb::range_request::{SortOrder, SortTarget};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use store::engine::memory::MemoryEngine;
use store::{Machine, Options, Reader, Refusal, View};

use crate::commands::{apply, apply_one, compact, delete, put, range};
use crate::counting::Counting;
use crate::generate::seed;

fn machine() -> (Machine, Arc<Counting>) {
    let engine = Counting::new();
    let mut machine = Machine::open(engine.clone(), Options::default()).unwrap();
    let puts = (0..100).map(|number| Op::Put(put(&format!("k{number:03}"), "old")));
    apply(&mut machine, puts.collect());
    (machine, engine)
}

fn page(from: &str, limit: i64, revision: i64) -> RangeRequest {
    RangeRequest {
        limit,
        revision,
        ..range(from, "l")
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// Reads as the server does: tells of the answer.
fn read(reader: &Reader, request: &RangeRequest, now: Duration) -> (Vec<String>, i64, bool) {
    let view = reader.view();
    let answer = reader.range(&view, request).unwrap().unwrap();
    reader.note_page(&view, request, answer.more, now);
    let found = answer.records.iter().map(|record| {
        let key = std::str::from_utf8(record.key()).unwrap();
        format!("{key}={}", std::str::from_utf8(record.value()).unwrap())
    });
    (found.collect(), answer.count, answer.more)
}

#[test]
fn later_pages_show_the_first_ones_revision_without_a_scan() {
    let (mut machine, engine) = machine();
    let reader = machine.reader();
    let revision = reader.view().revision;
    let (first, count, more) = read(&reader, &page("k", 40, 0), SECOND);
    assert_eq!((first.len(), count, more), (40, 100, true));
    assert_eq!(reader.holding().views, 1);

    apply(
        &mut machine,
        vec![
            Op::Put(put("k050", "new")),
            Op::Put(put("k050x", "new")),
            Op::DeleteRange(delete("k060", "k070")),
        ],
    );
    let before = engine.reads();
    let (second, count, more) = read(&reader, &page("k039\0", 40, revision), 2 * SECOND);
    assert_eq!((count, more), (60, true));
    assert_eq!(second[10], "k050=old");
    assert_eq!(second[39], "k079=old");
    let (third, count, more) = read(&reader, &page("k079\0", 40, revision), 3 * SECOND);
    assert_eq!((third.len(), count, more), (20, 20, false));
    assert_eq!(engine.reads(), before, "a page scans");
    assert_eq!(reader.holding().views, 0, "the list has come to its end");

    // The same page without the view.
    let again = read(&reader, &page("k039\0", 40, revision), 4 * SECOND);
    assert_eq!(again, (second, 60, true));
    assert!(engine.reads().scans > before.scans);
}

#[test]
fn a_compacted_revision_is_refused_although_its_view_is_held() {
    let (mut machine, _) = machine();
    let reader = machine.reader();
    let revision = reader.view().revision;
    read(&reader, &page("k", 40, 0), SECOND);
    apply(&mut machine, vec![Op::Put(put("k", "new"))]);
    apply_one(&mut machine, compact(revision + 1)).unwrap();
    assert_eq!(reader.holding().views, 1);
    let view = reader.view();
    let refusal = Refusal::Compacted {
        requested: revision,
        compacted: revision + 1,
    };
    let answer = reader.range(&view, &page("k039\0", 40, revision)).unwrap();
    assert_eq!(answer, Err(refusal));
    assert!(reader.held(&view, revision).is_none());
}

#[test]
fn only_what_has_a_next_page_is_held() {
    let (machine, _) = machine();
    let reader = machine.reader();
    let descending = RangeRequest {
        sort_order: SortOrder::Descend.into(),
        ..page("k", 40, 0)
    };
    let by_version = RangeRequest {
        sort_target: SortTarget::Version.into(),
        ..page("k", 40, 0)
    };
    for request in [
        page("k", 100, 0),
        page("k", 0, 0),
        page("k", 1, 0),
        descending,
        by_version,
    ] {
        read(&reader, &request, SECOND);
        assert_eq!(reader.holding().views, 0, "{request:?}");
    }
}

#[test]
fn a_view_goes_when_nobody_asked_for_a_minute() {
    let (mut machine, _) = machine();
    let reader = machine.reader();
    let revision = reader.view().revision;
    read(&reader, &page("k", 10, 0), SECOND);
    apply(&mut machine, vec![Op::Put(put("k", "new"))]);
    read(&reader, &page("k009\0", 10, revision), 50 * SECOND);
    reader.expire_pages(109 * SECOND);
    assert_eq!(reader.holding().views, 1);
    reader.expire_pages(110 * SECOND);
    assert_eq!(reader.holding().views, 0);
}

#[test]
fn lists_at_one_revision_share_a_view_until_the_last_one_ends() {
    let (mut machine, _) = machine();
    let reader = machine.reader();
    let revision = reader.view().revision;
    for _ in 0..2 {
        read(&reader, &page("k", 60, 0), SECOND);
    }
    apply(&mut machine, vec![Op::Put(put("k", "new"))]);
    for left in [1, 0] {
        read(&reader, &page("k059\0", 60, revision), SECOND);
        assert_eq!(reader.holding().views, left);
    }
}

#[test]
fn views_are_few_and_do_not_follow_each_other_at_once() {
    let (mut machine, _) = machine();
    let reader = machine.reader();
    let step = |machine: &mut Machine, now| {
        apply(machine, vec![Op::Put(put("k", "new"))]);
        read(&machine.reader(), &page("k", 10, 0), now);
    };
    for _ in 0..10 {
        step(&mut machine, SECOND);
    }
    assert_eq!(reader.holding().views, 4, "at one time");
    for number in 1..40 {
        step(&mut machine, SECOND + number * Duration::from_millis(50));
    }
    assert_eq!(reader.holding().views, 16);
    let view = reader.view();
    assert!(reader.held(&view, view.revision - 15).is_some());
    assert!(reader.held(&view, view.revision - 16).is_none());
}

#[test]
fn views_go_when_they_keep_too_much_in_memory() {
    let options = Options {
        value_budget_bytes: 32 << 20,
    };
    let mut machine = Machine::open(Arc::new(MemoryEngine::new()), options).unwrap();
    let reader = machine.reader();
    let large = "v".repeat(1 << 20);
    let put_all = |machine: &mut Machine| {
        for number in 0..30 {
            apply(machine, vec![Op::Put(put(&format!("k{number}"), &large))]);
        }
    };
    put_all(&mut machine);
    read(&reader, &page("k", 10, 0), SECOND);
    assert_eq!(reader.holding().bytes, 0);
    apply(&mut machine, vec![Op::Put(put("k0", &large))]);
    reader.expire_pages(SECOND);
    let holding = reader.holding();
    assert!(holding.views == 1 && holding.bytes > 1 << 20, "{holding:?}");
    put_all(&mut machine);
    reader.expire_pages(SECOND);
    assert_eq!(reader.holding().views, 0);
}

#[test]
fn what_is_chosen_of_the_past_is_counted_with_its_keys() {
    const KEYS: usize = 100;
    const LEN: usize = 1_000;
    let mut machine = Machine::open(Arc::new(MemoryEngine::new()), Options::default()).unwrap();
    let key = |number: usize| format!("k{number:0LEN$}");
    let puts = (0..KEYS).map(|number| Op::Put(put(&key(number), "v")));
    apply(&mut machine, puts.collect());
    let past = machine.reader().view().revision;
    apply(&mut machine, vec![Op::Put(put("other", "v"))]);
    let reader = machine.reader();
    let held = |revision| {
        let request = page("k", 0, revision);
        let chosen = reader.choose(&reader.view(), &request, &|| true);
        let chosen = chosen.unwrap().unwrap().unwrap();
        assert_eq!(chosen.len(), KEYS);
        chosen.held_bytes
    };
    assert_eq!(held(0), KEYS * 16);
    let of_past = held(past);
    assert!(
        (KEYS * LEN..KEYS * (LEN + 100)).contains(&of_past),
        "{of_past}"
    );
}

#[test]
fn a_page_costs_what_it_answers() {
    const KEYS: usize = 2_000;
    const PAGE: u64 = 4_000;
    let engine = Counting::new();
    // No value stays in memory.
    let options = Options {
        value_budget_bytes: 0,
    };
    let mut machine = Machine::open(engine.clone(), options).unwrap();
    let value = "v".repeat(100);
    let puts = (0..KEYS).map(|number| Op::Put(put(&format!("k{number:05}"), &value)));
    apply(&mut machine, puts.collect());
    let reader = machine.reader();
    let (past, first) = (reader.pin(reader.view().revision).unwrap(), reader.view());
    // No key that is live now tells where a page of then may end.
    apply(&mut machine, vec![Op::DeleteRange(delete("k", "l"))]);
    let last = reader.view();

    for (view, pin) in [(&first, None), (&last, Some(&past))] {
        let mut request = range("k", "l");
        let (mut found, mut pages) = (0, 0);
        let reads = engine.reads_of(|| {
            loop {
                let page = reader.page(view, pin, &request, PAGE, u64::MAX, &|| true);
                let page = page.unwrap().unwrap().unwrap();
                let Some(last) = page.last() else {
                    break;
                };
                let bytes: usize = page.iter().map(|record| record.encoded().len()).sum();
                assert!(bytes as u64 <= PAGE, "{bytes}");
                request.key = [last.key(), b"\0"].concat().into();
                found += page.len();
                pages += 1;
            }
        });
        assert!(found == KEYS && pages > KEYS / 40, "{found} in {pages}");
        // The version of each key and what has deleted it; once more what did not fit into a page.
        let most = 2 * (KEYS + pages);
        assert!(reads.gets + reads.items <= most, "{reads:?} in {pages}");

        // The limit ends a page, too, and one record is always taken.
        for (limit, bytes, len) in [(10, PAGE, 10), (0, 1, 1)] {
            let request = page_of(limit);
            let reads = engine.reads_of(|| {
                let page = reader.page(view, pin, &request, bytes, u64::MAX, &|| true);
                assert_eq!(page.unwrap().unwrap().unwrap().len(), len);
            });
            assert!(reads.gets + reads.items <= 2 * (len + 1), "{reads:?}");
        }
        let too_much = reader.page(view, pin, &page_of(0), PAGE, 100, &|| true);
        assert_eq!(too_much.unwrap(), Ok(None));
        let given_up = reader.page(view, pin, &page_of(0), PAGE, u64::MAX, &|| false);
        assert_eq!(given_up.unwrap(), Ok(None));
    }
}

fn page_of(limit: i64) -> RangeRequest {
    page("k", limit, 0)
}

/// Everything that a range can ask for, at a revision that may be held.
fn random_request(random: &mut StdRng, view: &View) -> RangeRequest {
    let from = random.random_range(0..12);
    let end = match random.random_range(0..4) {
        0 => String::new(),
        1 => "\0".to_owned(),
        _ => format!("k{:02}", from + random.random_range(0..12)),
    };
    let revision = match random.random_range(0..3) {
        0 => 0,
        _ => random.random_range((view.revision - 12).max(1)..=view.revision),
    };
    let mut request = RangeRequest {
        limit: random.random_range(0..6),
        revision,
        ..range(&format!("k{from:02}"), &end)
    };
    if random.random_bool(0.3) {
        request.sort_order = random.random_range(0..3);
        request.sort_target = random.random_range(0..5);
        request.min_mod_revision = random.random_range(0..3) * view.revision / 3;
    }
    request.keys_only = random.random_bool(0.1);
    request.count_only = random.random_bool(0.1);
    request
}

#[test]
fn held_views_change_no_answer() {
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    // A tiny budget strips values, so that held views have to read the engine, too.
    let open = || {
        let options = Options {
            value_budget_bytes: 1024,
        };
        Machine::open(Arc::new(MemoryEngine::new()), options).unwrap()
    };
    let (mut holding, mut plain) = (open(), open());
    let mut held = 0;
    for number in 0..4_000 {
        let mut ops = Vec::new();
        for _ in 0..random.random_range(0..3) {
            let key = format!("k{:02}", random.random_range(0..24));
            ops.push(if random.random_bool(0.3) {
                Op::DeleteRange(delete(&key, ""))
            } else {
                Op::Put(put(
                    &key,
                    &number.to_string().repeat(random.random_range(0..40)),
                ))
            });
        }
        if random.random_bool(0.02) {
            let revision = holding.reader().view().revision;
            ops.push(compact(revision - random.random_range(0..8)));
        }
        let answers = apply(&mut holding, ops.clone()).answers;
        assert_eq!(answers, apply(&mut plain, ops).answers);
        let reader = holding.reader();
        let view = reader.view();
        let request = random_request(&mut random, &view);
        let answer = reader.range(&view, &request).unwrap();
        let expected = {
            let reader = plain.reader();
            reader.range(&reader.view(), &request).unwrap()
        };
        assert_eq!(answer, expected, "{request:?} at {number}, SEED={seed}");
        held += usize::from(reader.held(&view, request.revision).is_some());
        if let Ok(answer) = answer {
            let now = number * Duration::from_millis(60);
            reader.note_page(&view, &request, answer.more, now);
        }
    }
    assert!(held > 100, "{held} answers came from a held view");
}
