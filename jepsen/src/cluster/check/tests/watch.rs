//! Each rule about watchers, broken alone: by one that asked for something and was told something else.

use super::{Scene, assert_broken, delete, put, verdict};
use crate::cluster::history::{History, Outcome};
use crate::cluster::model::{Body, Change, Kv, Op, Step};
use crate::cluster::watch::{Asked, Said, Watcher};

/// Revisions 2 to 8: a key that is written, deleted and written again, two others in one transaction.
fn scene() -> Scene {
    let mut scene = Scene::new();
    scene.ok(put("a/1", "1"));
    scene.ok(put("a/1", "2"));
    scene.ok(Op::Txn {
        when: Vec::new(),
        then: vec![
            Step::Put("a/2".into(), "3".into()),
            Step::Put("b/1".into(), "3".into()),
        ],
        otherwise: Vec::new(),
    });
    scene.ok(delete("a/1"));
    scene.ok(put("a/1", "4"));
    scene.ok(put("b/1", "5"));
    scene.ok(put("a/2", "6"));
    scene
}

fn all() -> Asked {
    Asked {
        progress: false,
        fragment: false,
        ..Asked::everything(1)
    }
}

/// One response: its header's revision, what it is, and its events.
type Response = (i64, Said, Vec<Change>);

/// The history with one more watcher, who was told this.
fn told(mut history: History, asked: Asked, responses: Vec<Response>) -> History {
    let time = history.ending.quiet;
    let record = &mut history.watch;
    let stream = record.open();
    let watcher = Some(record.watch(Watcher {
        stream,
        node: 1,
        asked,
        resumes: None,
        stays: false,
        cancelled: None,
    }));
    for (revision, said, events) in responses {
        record.add(stream, watcher, time, revision, said, events);
    }
    history
}

/// What a perfect server tells a watcher from a start on, a response for each revision.
fn right(scene: &Scene, asked: &Asked) -> Vec<Response> {
    let mut responses = vec![(8, Said::Created, Vec::new())];
    let wanted = scene
        .log
        .iter()
        .filter(|change| change.revision >= asked.start && asked.wants(change));
    let wanted: Vec<Change> = wanted
        .map(|change| Change {
            previous: change.previous.clone().filter(|_| asked.previous),
            ..change.clone()
        })
        .collect();
    for changes in wanted.chunk_by(|a, b| a.revision == b.revision) {
        responses.push((changes[0].revision, Said::Events, changes.to_vec()));
    }
    responses
}

/// Asserts that a watcher who asked for this and was told that breaks just these rules.
fn assert_rules(asked: Asked, alter: impl FnOnce(&mut Vec<Response>), rules: &[&str]) {
    let scene = scene();
    let mut responses = right(&scene, &asked);
    alter(&mut responses);
    assert_broken(&told(scene.end(), asked, responses), rules);
}

/// The event of a response.
fn event(responses: &mut [Response], response: usize) -> &mut Change {
    &mut responses[response].2[0]
}

#[test]
fn a_watcher_who_is_told_what_it_asked_for_breaks_nothing() {
    assert_rules(all(), |_| {}, &[]);
    assert_rules(Asked::everything(4), |_| {}, &[]);
    let puts = Asked {
        no_delete: true,
        start: 3,
        ..Asked::prefix("a/")
    };
    assert_rules(
        puts,
        |responses| {
            // In one response, which a watcher that catches up gets, under a header that is ahead of it.
            let events = responses
                .drain(1..)
                .flat_map(|(.., events)| events)
                .collect();
            responses.push((8, Said::Events, events));
        },
        &[],
    );
}

#[test]
fn an_event_that_was_filtered_out_breaks_filter() {
    let one = Asked {
        previous: true,
        start: 1,
        ..Asked::prefix("a/")
    };
    let other = scene().log[3].clone();
    assert_eq!(other.key, "b/1");
    assert_rules(
        one,
        |responses| responses[3].2.push(other),
        &["watch-filter"],
    );
    let deletions = Asked {
        no_put: true,
        start: 5,
        ..all()
    };
    let put = scene().log[5].clone();
    assert_rules(
        deletions,
        |responses| responses.push((6, Said::Events, vec![put])),
        &["watch-filter"],
    );
}

#[test]
fn a_step_back_breaks_ordered() {
    assert_rules(
        all(),
        |responses| responses.swap(5, 6),
        &["watch-ordered", "watch-reliable"],
    );
}

#[test]
fn an_event_that_comes_twice_breaks_unique() {
    // Within a response, so that nothing else is wrong.
    assert_rules(
        all(),
        |responses| {
            let again = responses[6].2[0].clone();
            responses[6].2.push(again);
        },
        &["watch-unique"],
    );
    assert_rules(
        all(),
        |responses| responses.insert(2, responses[1].clone()),
        &["watch-atomic", "watch-unique"],
    );
}

#[test]
fn a_revision_in_two_responses_breaks_atomic() {
    assert_rules(
        all(),
        |responses| {
            let half = responses[3].2.split_off(1);
            responses.insert(4, (4, Said::Events, half));
        },
        &["watch-atomic"],
    );
}

#[test]
fn progress_ahead_of_an_event_breaks_bookmarkable() {
    let asked = || Asked {
        progress: true,
        ..all()
    };
    assert_rules(
        asked(),
        |responses| responses.insert(4, (4, Said::Empty, Vec::new())),
        &[],
    );
    assert_rules(
        asked(),
        |responses| responses.insert(4, (5, Said::Empty, Vec::new())),
        &["watch-bookmarkable"],
    );
    // Behind an event.
    assert_rules(
        asked(),
        |responses| responses.insert(4, (3, Said::Empty, Vec::new())),
        &["watch-bookmarkable"],
    );
    // Of the whole stream.
    let scene = scene();
    let mut responses = right(&scene, &all());
    responses.truncate(3);
    responses[0].0 = 1;
    let mut history = told(scene.end(), all(), responses);
    let stream = history.watch.watchers[3].stream;
    let time = history.ending.quiet;
    let mut behind = history.clone();
    behind
        .watch
        .add(stream, None, time, 3, Said::Empty, Vec::new());
    assert_broken(&behind, &[]);
    history
        .watch
        .add(stream, None, time, 4, Said::Empty, Vec::new());
    assert_broken(&history, &["watch-bookmarkable"]);
}

#[test]
fn a_watcher_that_begins_too_late_breaks_resumable() {
    let asked = || Asked { start: 3, ..all() };
    assert_rules(
        asked(),
        |responses| drop(responses.remove(1)),
        &["watch-resumable"],
    );
    // One that does not see what comes right behind "now".
    let now = Asked { start: 0, ..all() };
    assert_rules(
        now,
        |responses| {
            responses[0].0 = 5;
            responses.drain(1..6);
        },
        &["watch-resumable"],
    );
}

#[test]
fn a_gap_and_a_wrong_event_break_reliable() {
    assert_rules(
        all(),
        |responses| drop(responses.remove(2)),
        &["watch-reliable"],
    );
    let alter = |kv: &mut Kv| kv.value.push('x');
    assert_rules(
        all(),
        |responses| event(responses, 2).after.iter_mut().for_each(alter),
        &["watch-reliable"],
    );
    assert_rules(
        all(),
        |responses| {
            let event = event(responses, 7);
            event.key = "never".into();
            event.previous = None;
        },
        &["watch-atomic", "watch-reliable"],
    );
}

#[test]
fn one_who_stays_and_does_not_get_to_the_end_breaks_reliable() {
    let scene = scene();
    let mut responses = right(&scene, &all());
    responses.pop();
    let mut history = told(scene.end(), all(), responses);
    assert_broken(&history, &[]);
    history.watch.watchers[3].stays = true;
    assert_broken(&history, &["watch-reliable"]);
    // Unless another one goes on for it, and gets there.
    let rest = history.watch.last(&history.watch.deliveries[7]).cloned();
    let asked = Asked { start: 8, ..all() };
    let events = rest.into_iter().collect();
    let mut history = told(
        history,
        asked,
        vec![(8, Said::Created, Vec::new()), (8, Said::Events, events)],
    );
    history.watch.watchers[4].resumes = Some(3);
    history.watch.watchers[4].stays = true;
    assert_broken(&history, &[]);
}

#[test]
fn a_key_that_is_not_new_and_told_to_be_breaks_is_create() {
    let mut scene = scene();
    scene.ok(put("b/1", "7"));
    let mut responses = right(&scene, &all());
    let kv = responses[8].2[0].after.as_mut().unwrap();
    (kv.created, kv.version) = (9, 1);
    let history = told(scene.end(), all(), responses);
    // What is told is not what happened, either.
    assert_broken(&history, &["watch-is-create", "watch-reliable"]);
}

#[test]
fn a_wrong_previous_value_breaks_prev_kv() {
    assert_rules(
        all(),
        |responses| event(responses, 2).previous = None,
        &["watch-prev-kv"],
    );
    let alter = |kv: &mut Kv| kv.value.push('x');
    assert_rules(
        all(),
        |responses| event(responses, 2).previous.iter_mut().for_each(alter),
        &["watch-prev-kv"],
    );
    // To one who did not ask.
    let without = Asked {
        previous: false,
        ..all()
    };
    let previous = scene().log[1].previous.clone();
    assert_rules(
        without,
        |responses| event(responses, 2).previous = previous,
        &["watch-prev-kv"],
    );
}

#[test]
fn a_previous_value_may_be_missing_for_one_whose_end_was_asked_for() {
    let scene = scene();
    let mut responses = right(&scene, &all());
    event(&mut responses, 2).previous = None;
    let mut history = told(scene.end(), all(), responses);
    history.watch.watchers[3].cancelled = Some(0);
    assert_broken(&history, &[]);
}

#[test]
fn progress_from_before_a_watcher_was_made_is_not_about_it() {
    let scene = scene();
    let future = Asked { start: 8, ..all() };
    let mut responses = right(&scene, &future);
    // Made when the store was at revision 6, as its confirmation says.
    responses[0].0 = 6;
    responses.truncate(1);
    let mut history = told(scene.end(), future, responses);
    let stream = history.watch.watchers[3].stream;
    let time = history.ending.quiet;
    history
        .watch
        .add(stream, None, time, 6, Said::Empty, Vec::new());
    assert_broken(&history, &[]);
    history
        .watch
        .add(stream, None, time, 8, Said::Empty, Vec::new());
    assert_broken(&history, &["watch-bookmarkable"]);
}

#[test]
fn a_previous_value_may_be_missing_when_it_may_be_compacted() {
    let mut scene = scene();
    let op = Op::Compact { revision: 3 };
    scene.record(op, Outcome::Ok, 8, Some(Body::Compact));
    let mut responses = right(&scene, &all());
    event(&mut responses, 2).previous = None;
    let history = told(scene.end(), all(), responses.clone());
    assert_broken(&history, &[]);
    event(&mut responses, 4).previous = None;
    let mut scene = self::scene();
    scene.record(
        Op::Compact { revision: 3 },
        Outcome::Ok,
        8,
        Some(Body::Compact),
    );
    assert_broken(&told(scene.end(), all(), responses), &["watch-prev-kv"]);
}

#[test]
fn anything_below_the_start_breaks_start() {
    let asked = || Asked {
        start: 6,
        progress: true,
        ..all()
    };
    let early = scene().log[4].clone();
    assert_rules(
        asked(),
        |responses| responses.insert(1, (5, Said::Events, vec![early])),
        &["watch-start"],
    );
    // A watcher of the future that is told progress before it begins.
    let future = Asked {
        start: 100,
        progress: true,
        ..all()
    };
    assert_rules(
        future,
        |responses| responses.push((8, Said::Empty, Vec::new())),
        &["watch-start"],
    );
}

/// A history in which revision 5 was compacted, with a watcher from `start` on that had two responses and was then ended.
fn cancelled(start: i64, compacted: i64) -> History {
    let mut scene = scene();
    scene.record(
        Op::Compact { revision: 5 },
        Outcome::Ok,
        8,
        Some(Body::Compact),
    );
    let asked = Asked { start, ..all() };
    let mut responses = right(&scene, &asked);
    responses.truncate(2);
    responses.push((8, Said::Cancelled(compacted), Vec::new()));
    told(scene.end(), asked, responses)
}

#[test]
fn an_end_for_no_reason_or_with_a_wrong_revision_breaks_cancelled() {
    assert_broken(&cancelled(2, 5), &[]);
    assert_broken(&cancelled(2, 6), &["watch-cancelled"]);
    // It had everything below revision 5.
    assert_broken(&cancelled(4, 5), &["watch-cancelled"]);
    let mut history = cancelled(2, 0);
    assert_broken(&history, &["watch-cancelled"]);
    history.watch.watchers[3].cancelled = Some(0);
    assert_broken(&history, &[]);
    assert_rules(
        all(),
        |responses| *responses = vec![(8, Said::Refused, Vec::new())],
        &["watch-cancelled"],
    );
}

#[test]
fn pieces_that_are_not_asked_for_or_torn_apart_break_fragments() {
    let split = |responses: &mut Vec<Response>| {
        let rest = responses[3].2.split_off(1);
        responses[3].1 = Said::Piece;
        responses.insert(4, (4, Said::Events, rest));
    };
    let asked = || Asked {
        fragment: true,
        progress: true,
        ..all()
    };
    assert_rules(asked(), split, &[]);
    assert_rules(all(), split, &["watch-fragments"]);
    assert_rules(
        asked(),
        |responses| {
            split(responses);
            responses.insert(4, (3, Said::Empty, Vec::new()));
        },
        &["watch-fragments"],
    );
    // The last piece is lost, and what follows is taken for it.
    assert_rules(
        asked(),
        |responses| {
            split(responses);
            responses.remove(4);
        },
        &["watch-reliable"],
    );
    // A stream that breaks between two pieces is no fault.
    assert_rules(
        asked(),
        |responses| {
            split(responses);
            responses.truncate(4);
        },
        &[],
    );
}

#[test]
fn an_empty_response_to_one_who_wants_no_progress_breaks_empty() {
    assert_rules(
        all(),
        |responses| responses.push((8, Said::Empty, Vec::new())),
        &["watch-empty"],
    );
    let mut history = scene().end();
    let time = history.ending.quiet;
    let stream = history.watch.open();
    let events = vec![history.logs[0][0].clone()];
    history
        .watch
        .add(stream, None, time, 2, Said::Events, events);
    assert!(verdict(&history).broken.contains_key("watch-empty"));
}
