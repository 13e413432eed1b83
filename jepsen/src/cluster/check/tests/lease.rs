//! Each rule about leases, broken alone.

use super::{Scene, assert_broken, fault};
use crate::cluster::history::{History, Outcome};
use crate::cluster::model::{Body, Op};

const LEASE: i64 = 7;
const NOT_FOUND: &str = "NotFound: etcdserver: requested lease not found";

/// Calls take half a second each, and begin a second after each other.
impl Scene {
    fn grant(&mut self, ttl: i64) -> usize {
        let body = Some(Body::Grant { ttl });
        let op = Op::Grant { lease: LEASE, ttl };
        let revision = self.state.revision();
        self.record(op, Outcome::Ok, revision, body)
    }

    fn keep_alive(&mut self, ttl: i64) -> usize {
        let op = Op::KeepAlive { lease: LEASE };
        let revision = self.state.revision();
        self.record(op, Outcome::Ok, revision, Some(Body::KeepAlive { ttl }))
    }

    fn keys(&mut self, keys: &[&str]) -> usize {
        let body = Body::TimeToLive {
            ttl: 1,
            granted: 3,
            keys: keys.iter().map(|&key| key.to_owned()).collect(),
        };
        let revision = self.state.revision();
        let op = Op::TimeToLive { lease: LEASE };
        self.record(op, Outcome::Ok, revision, Some(body))
    }

    /// Time in which nobody does anything.
    fn wait(&mut self, seconds: u64) {
        self.now += seconds * 1_000_000_000;
    }

    /// The server ends the lease, and a read shows it.
    fn expire(&mut self) {
        self.apply(&Op::Revoke { lease: LEASE });
        self.ok(super::get("other"));
    }

    fn refuse(&mut self, op: Op, error: &str) -> usize {
        let place = self.record(op, Outcome::Definite, 0, None);
        self.history.operations[place].error = Some(error.to_owned());
        place
    }
}

fn attach(key: &str, value: &str) -> Op {
    Op::Put {
        key: key.into(),
        value: value.into(),
        previous: false,
        lease: LEASE,
    }
}

/// Granted for three seconds, two keys, kept alive.
fn scene() -> Scene {
    let mut scene = Scene::new();
    scene.grant(3);
    scene.ok(attach("a", "1"));
    scene.ok(attach("b", "2"));
    scene.keep_alive(3);
    scene
}

#[test]
fn a_lease_that_is_kept_alive_and_then_expires_breaks_nothing() {
    let mut scene = scene();
    scene.keys(&["a", "b"]);
    scene.wait(2);
    scene.expire();
    scene.keep_alive(0);
    scene.refuse(attach("a", "3"), NOT_FOUND);
    assert_broken(&scene.end(), &[]);
}

#[test]
fn a_lease_that_is_revoked_breaks_nothing_whether_its_answer_is_lost_or_not() {
    let mut told = scene();
    told.ok(Op::Revoke { lease: LEASE });
    told.keep_alive(0);
    assert_broken(&told.end(), &[]);
    let mut lost = scene();
    lost.lost(Op::Revoke { lease: LEASE });
    lost.ok(super::get("a"));
    assert_broken(&lost.end(), &[]);
}

#[test]
fn an_expiry_before_its_time_breaks_early() {
    let mut scene = scene();
    scene.expire();
    assert_broken(&scene.end(), &["lease-early"]);
}

#[test]
fn a_leader_that_sleeps_and_then_expires_what_was_kept_alive_elsewhere_breaks_early() {
    let mut scene = scene();
    let begin = scene.now;
    // Stopped for longer than the lease lasts; the next leader keeps it alive meanwhile.
    for _ in 0..5 {
        let place = scene.keep_alive(3);
        scene.history.operations[place].node = 1;
    }
    scene.expire();
    let now = scene.now;
    let mut history = scene.end();
    let mut stop = fault(begin, now);
    stop.kind = "stop-leader".into();
    stop.minority.clear();
    history.faults = vec![stop];
    assert_broken(&history, &["lease-early"]);
}

#[test]
fn a_lease_told_to_be_gone_before_its_time_breaks_early_also_without_keys() {
    let mut scene = Scene::new();
    scene.grant(3);
    scene.keep_alive(0);
    assert_broken(&scene.end(), &["lease-early", "lease-unknown"]);
}

#[test]
fn a_lease_that_stays_breaks_late() {
    let stays = |seconds| {
        let mut scene = scene();
        scene.wait(seconds);
        scene.keys(&["a", "b"]);
        scene.end()
    };
    assert_broken(&stays(6), &[]);
    assert_broken(&stays(20), &["lease-late"]);
    // A fault gives it its time once more.
    let mut history = stays(20);
    history.faults = vec![fault(6_000_000_000, 15_000_000_000)];
    assert_broken(&history, &[]);
    let mut scene = scene();
    scene.wait(20);
    scene.expire();
    assert_broken(&scene.end(), &["lease-late"]);
}

#[test]
fn a_key_that_outlives_the_others_of_its_lease_breaks_whole() {
    let mut scene = scene();
    scene.wait(3);
    let mut half = scene.state.end_of(LEASE);
    half.truncate(1);
    scene.state.apply(&half, scene.state.revision() + 1);
    scene.log.extend(half);
    scene.ok(super::get("other"));
    scene.expire();
    // A second end of one lease.
    assert_broken(&scene.end(), &["lease-whole"]);
    let mut wrong = self::scene();
    wrong.wait(3);
    let mut reversed = wrong.state.end_of(LEASE);
    reversed.reverse();
    wrong.state.apply(&reversed, wrong.state.revision() + 1);
    wrong.log.extend(reversed);
    wrong.ok(super::get("other"));
    assert!(
        super::verdict(&wrong.end())
            .broken
            .contains_key("lease-whole")
    );
}

fn ended() -> Scene {
    let mut scene = scene();
    scene.wait(3);
    scene.expire();
    scene
}

#[test]
fn whatever_finds_a_lease_after_its_end_breaks_ended() {
    let mut kept = ended();
    kept.keep_alive(3);
    assert!(
        super::verdict(&kept.end())
            .broken
            .contains_key("lease-ended")
    );
    let mut found = ended();
    found.keys(&[]);
    assert_broken(&found.end(), &["lease-ended"]);
    let mut written = ended();
    written.ok(attach("c", "3"));
    assert_broken(&written.end(), &["lease-ended"]);
    let mut outlived = scene();
    let revision = outlived.state.revision();
    outlived.record(
        Op::Revoke { lease: LEASE },
        Outcome::Ok,
        revision,
        Some(Body::Revoke),
    );
    assert_broken(&outlived.end(), &["lease-ended"]);
}

#[test]
fn another_word_for_a_lease_that_does_not_exist_breaks_unknown() {
    let refused = |error: &str| -> History {
        let mut scene = Scene::new();
        scene.refuse(attach("a", "1"), error);
        scene.end()
    };
    assert_broken(&refused(NOT_FOUND), &[]);
    assert_broken(
        &refused("NotFound: etcdserver: lease not found"),
        &["lease-unknown"],
    );
    let mut taken = Scene::new();
    taken.ok(attach("a", "1"));
    assert_broken(&taken.end(), &["lease-unknown"]);
}

#[test]
fn keys_that_are_not_attached_break_keys() {
    for wrong in [&["a"][..], &["a", "b", "c"], &[]] {
        let mut scene = scene();
        scene.keys(wrong);
        assert_broken(&scene.end(), &["lease-keys"]);
    }
}
