//! What is refused, what stays in the log, and what a crash between two steps leaves.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use proto::command::member_change::{Bootstrap, Change, Remove};
use proto::command::{Batch, Command, MemberChange, command::Op};
use proto::etcd::etcdserverpb::{Member, PutRequest};
use store::engine::StateEngine as _;
use store::engine::memory::MemoryEngine;
use store::engine::rocks::{RocksEngine, RocksOptions};
use store::fs::RealFs;
use store::log::{Log, LogOptions};
use store::{
    BATCH_FORMAT, Entry, FEATURE_LEVEL, LogId, Machine, Membership, Options, Payload, Vote,
};

use super::steps::{End, ORDER, Step, take};
use super::survey::{Survey, Verdict, Work};
use super::*;
use crate::data_dir::{DataDir, Identity};

const OWN: u64 = 1;
const CLUSTER: u64 = 7;
const NOW: Duration = Duration::from_secs(1_000);
const IDENTITY: Identity = Identity {
    cluster_id: CLUSTER,
    member_id: OWN,
};

fn opened(path: &Path) -> Result<DataDir, DataDirError> {
    DataDir::open(path, None, || Ok(IDENTITY))
}

fn options(folder: &DataDir) -> LogOptions {
    LogOptions {
        segment_bytes: 1 << 16,
        ..LogOptions::new(folder.log_cluster_id(), OWN)
    }
}

/// The folder of a stopped member: with these entries in its log, and some of them, from the first, in its database.
fn member(path: &Path, entries: &[Entry], applied: usize, committed: usize) {
    let folder = opened(path).unwrap();
    let fs = Arc::new(RealFs::new(folder.wal()));
    let (log, worker, _) = Log::open(fs, options(&folder)).unwrap();
    folder.note_log().unwrap();
    let vote = Vote {
        term: 5,
        voted_for: Some(3),
        committed: false,
    };
    log.save_vote(vote, Box::new(|done| done.unwrap()));
    log.append(entries.to_vec(), Box::new(|done| done.unwrap()));
    if let Some(entry) = entries[..committed].last() {
        log.save_committed(entry.id);
    }
    log.close();
    worker.run();
    let engine = RocksEngine::open(folder.database(), &RocksOptions::default()).unwrap();
    let mut machine = Machine::open(Arc::new(engine), Options::default()).unwrap();
    machine.apply(&entries[..applied]).unwrap();
    machine.flush().unwrap();
    std::fs::write(folder.member().join("peers.json"), "{}").unwrap();
}

fn commands(ops: Vec<Op>) -> Payload {
    let command = |op| Command {
        op: Some(op),
        ..Command::default()
    };
    let batch = Batch {
        format: BATCH_FORMAT,
        feature_level: FEATURE_LEVEL,
        commands: ops.into_iter().map(command).collect(),
        ..Batch::default()
    };
    Payload::Commands(batch.encode_to_vec().into())
}

fn change(change: Change) -> Payload {
    let change = Some(change);
    commands(vec![Op::MemberChange(MemberChange { change })])
}

fn put(key: &'static str) -> Payload {
    commands(vec![Op::Put(PutRequest {
        key: key.into(),
        ..PutRequest::default()
    })])
}

fn voters(ids: &[u64]) -> Payload {
    Payload::Membership(Membership {
        voters: vec![ids.iter().copied().collect()],
        members: ids.iter().copied().collect(),
    })
}

fn table(voters: &[u64], learners: &[u64]) -> Payload {
    let member = |id: u64, is_learner| Member {
        id,
        name: format!("n{id}"),
        peer_urls: vec![format!("http://n{id}:2380")],
        is_learner,
        ..Member::default()
    };
    let voters = voters.iter().map(|&id| member(id, false));
    let learners = learners.iter().map(|&id| member(id, true));
    change(Change::Bootstrap(Bootstrap {
        members: voters.chain(learners).collect(),
    }))
}

/// Entries of term 2, from index 1 on.
fn numbered(payloads: impl IntoIterator<Item = Payload>) -> Vec<Entry> {
    let number = |(place, payload)| Entry {
        id: LogId {
            term: 2,
            index: place as u64 + 1,
        },
        payload,
    };
    payloads.into_iter().enumerate().map(number).collect()
}

/// Of a cluster of three: two writes are applied, one is committed, and one more is in the log.
fn one_of_three(path: &Path) -> Vec<Entry> {
    let payloads = [
        voters(&[1, 2, 3]),
        table(&[1, 2, 3], &[]),
        put("a"),
        put("b"),
        put("c"),
        put("d"),
    ];
    let entries = numbered(payloads);
    member(path, &entries, 4, 5);
    entries
}

fn surveyed(path: &Path) -> Result<Survey, Failure> {
    Survey::of(&Recovering::look(path)?)
}

fn work(survey: &Survey) -> Work {
    match survey.verdict().unwrap() {
        Verdict::Recover(work) => work,
        Verdict::NothingToDo => panic!("nothing to do"),
    }
}

fn recovered(path: &Path) {
    let mut folder = Recovering::open(path).unwrap();
    let survey = Survey::of(&folder).unwrap();
    let work = work(&survey);
    steps::all(&mut folder, &survey, &work, NOW * 2).unwrap();
}

/// Everything that a lone member needs is there, and all that was in the log.
fn is_recovered(path: &Path, before: &[Entry]) -> u64 {
    let survey = surveyed(path).unwrap();
    assert!(matches!(survey.verdict(), Ok(Verdict::NothingToDo)));
    let ids: Vec<_> = survey.members.iter().map(|member| member.id).collect();
    assert_eq!(ids, [OWN]);
    assert!(survey.members.is_removed(2) && survey.members.is_removed(3));
    assert_eq!(survey.uncommitted(), 0);
    assert!(!path.join("member/peers.json").exists());

    let folder = opened(path).unwrap();
    assert_eq!(folder.log_cluster_id(), CLUSTER);
    assert_ne!(folder.identity().cluster_id, CLUSTER);
    assert_eq!(folder.identity().member_id, OWN);
    let fs = Arc::new(RealFs::new(folder.wal()));
    let (log, _worker, found) = Log::open(fs, options(&folder)).unwrap();
    let entries = log.entries(1..survey.last.index + 1, usize::MAX).unwrap();
    assert_eq!(entries[..before.len()], *before);
    let alone = voters(&[OWN]);
    assert_eq!(entries.last().map(|entry| &entry.payload), Some(&alone));
    assert!(
        entries[before.len()..]
            .iter()
            .all(|entry| entry.id.term > 5)
    );
    let vote = found.vote.unwrap();
    assert_eq!((vote.term, vote.voted_for), (survey.last.term, Some(OWN)));
    // The state that a start makes of it.
    let engine = RocksEngine::open(folder.database(), &RocksOptions::default()).unwrap();
    let mut machine = Machine::open(Arc::new(engine), Options::default()).unwrap();
    machine.apply(&entries).unwrap();
    assert_eq!(machine.membership().membership.voters, [[OWN].into()]);
    assert_eq!(machine.reader().view().revision, 5);
    assert_eq!(machine.reader().view().members.list().len(), 1);
    folder.identity().cluster_id
}

#[test]
fn a_survey_tells_what_is_there_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    one_of_three(folder.path());
    let survey = surveyed(folder.path()).unwrap();
    let id = |index| Some(LogId { term: 2, index });
    assert_eq!((survey.applied, survey.committed), (id(4), id(5)));
    assert_eq!((Some(survey.last), survey.term), (id(6), 5));
    assert_eq!((survey.revision, survey.uncommitted()), (3, 1));
    let removed: Vec<_> = work(&survey).removed.iter().map(|one| one.id).collect();
    assert_eq!(removed, [2, 3]);
    let text = report::standing(folder.path(), &survey)
        + &report::plan(folder.path(), &survey, &work(&survey));
    for expected in [
        "member n1 (1) in cluster 7",
        "n2      2   http://n2:2380",
        "last entry in the log     term 2, index 6",
        "term 2, index 5 (1 entry behind it)",
        "in term 6: the first removes n2 (2), n3 (3)",
        "the last 1 entry, which is not known to be committed",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert_eq!(opened(folder.path()).unwrap().identity(), IDENTITY);
}

#[test]
fn a_crash_between_any_two_steps_leaves_what_was_or_what_can_be_recovered_again() {
    let begin = ORDER.iter().position(|step| *step == Step::Begin).unwrap();
    for done in 0..=ORDER.len() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let entries = one_of_three(path);
        let mut recovering = Recovering::open(path).unwrap();
        let survey = Survey::of(&recovering).unwrap();
        let work = work(&survey);
        for &step in &ORDER[..done] {
            take(step, &mut recovering, &survey, &work, NOW).unwrap();
        }
        let given = recovering.identity().cluster_id;
        drop(recovering);
        match opened(path) {
            Ok(folder) if done <= begin => assert_eq!(folder.identity(), IDENTITY),
            Ok(folder) => assert!(done == ORDER.len(), "{done}: {:?}", folder.identity()),
            Err(DataDirError::Recovering(_)) => {
                assert!((begin + 1..ORDER.len()).contains(&done));
            }
            Err(error) => panic!("{done}: {error}"),
        }
        if done < ORDER.len() {
            recovered(path);
        }
        let cluster = is_recovered(path, &entries);
        assert!(done <= begin || cluster == given, "the id was chosen once");
    }
}

#[test]
fn a_crash_within_the_append_is_recovered_again() {
    for kept in 0..2 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let entries = one_of_three(path);
        let mut recovering = Recovering::open(path).unwrap();
        let survey = Survey::of(&recovering).unwrap();
        let work = work(&survey);
        take(Step::Begin, &mut recovering, &survey, &work, NOW).unwrap();
        let mut end = End::new(&recovering, &survey, &work, NOW);
        assert_eq!(end.entries.len(), 2);
        end.entries.truncate(kept);
        end.append().unwrap();
        drop(recovering);
        let again = surveyed(path).unwrap();
        assert!(again.has_begun && again.membership.voters == [[1, 2, 3].into()]);
        recovered(path);
        is_recovered(path, &entries);
    }
}

#[test]
fn a_state_that_was_taken_over_and_the_old_log_beside_it_are_recovered() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let before = numbered([voters(&[1, 2, 3]), put("a")]);
    member(path, &before, 1, 1);
    let source = Arc::new(MemoryEngine::new());
    let mut machine = Machine::open(source.clone(), Options::default()).unwrap();
    let mut entries = numbered([voters(&[1, 2, 3]), table(&[1, 2, 3], &[])]);
    entries[1].id = LogId { term: 4, index: 90 };
    machine.apply(&entries).unwrap();
    source.flush().unwrap();
    {
        let engine = RocksEngine::open(&path.join("member/db"), &RocksOptions::default()).unwrap();
        let mut machine = Machine::open(Arc::new(engine), Options::default()).unwrap();
        machine.install(&*source).unwrap();
        machine.flush().unwrap();
    }
    let installed = Some(LogId { term: 4, index: 90 });
    let survey = surveyed(path).unwrap();
    assert_eq!(survey.log_begins_behind, installed);
    recovered(path);
    let survey = surveyed(path).unwrap();
    assert!(matches!(survey.verdict(), Ok(Verdict::NothingToDo)));
    assert_eq!((survey.last.index, survey.log_begins_behind), (92, None));
}

#[test]
fn who_needs_nobody_has_nothing_to_recover() {
    let folder = tempfile::tempdir().unwrap();
    member(
        folder.path(),
        &numbered([voters(&[1]), table(&[1], &[4])]),
        2,
        2,
    );
    let survey = surveyed(folder.path()).unwrap();
    assert!(matches!(survey.verdict(), Ok(Verdict::NothingToDo)));
}

#[test]
fn who_is_no_survivor_is_refused() {
    let three = voters(&[1, 2, 3]);
    let removal = change(Change::Remove(Remove { id: OWN }));
    for (entries, expected) in [
        (
            vec![three.clone(), table(&[1, 2, 3], &[]), removal],
            "was removed from its cluster",
        ),
        (
            vec![voters(&[2, 3]), table(&[2, 3], &[1])],
            "is a learner: it has no vote yet",
        ),
        // The table lets it vote, and raft does not yet.
        (
            vec![voters(&[2, 3]), table(&[1, 2, 3], &[])],
            "is a learner: it has no vote yet",
        ),
        (vec![three], "nothing was ever written"),
        (vec![Payload::Blank], "there is no data in this folder"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let entries = numbered(entries);
        // Also what is in the log alone counts.
        member(folder.path(), &entries, 1, 1);
        let error = surveyed(folder.path()).unwrap().verdict().unwrap_err();
        assert!(error.to_string().contains(expected), "{expected}: {error}");
    }
}

#[test]
fn a_folder_without_data_in_use_or_damaged_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let options = |path: &Path| RecoverOptions {
        data_dir: path.to_owned(),
        is_dry_run: true,
        is_agreed: true,
    };
    let refusal = |path: &Path| recover(&options(path)).unwrap_err().to_string();
    let missing = path.join("missing");
    assert!(refusal(&missing).contains("no data folder at"));
    assert!(!missing.exists());

    let entries = one_of_three(path);
    let held = opened(path).unwrap();
    assert!(refusal(path).contains("is recovered while it is stopped"));
    drop(held);

    let wal = path.join("member/wal/0000000001.wal");
    let sound = std::fs::read(&wal).unwrap();
    let key = sound.windows(1).rposition(|byte| byte == b"a").unwrap();
    let mut damaged = sound.clone();
    damaged[key] ^= 1;
    std::fs::write(&wal, damaged).unwrap();
    let text = refusal(path);
    assert!(text.contains("the raft log is damaged"), "{text}");
    std::fs::write(&wal, sound).unwrap();

    // The log of an earlier time.
    std::fs::remove_dir_all(path.join("member/wal")).unwrap();
    let text = refusal(path);
    assert!(text.contains("there is no log in"), "{text}");
    std::fs::create_dir(path.join("member/wal")).unwrap();
    let fs = Arc::new(RealFs::new(path.join("member/wal")));
    let (log, worker, _) = Log::open(fs, LogOptions::new(CLUSTER, OWN)).unwrap();
    log.append(entries[..2].to_vec(), Box::new(|done| done.unwrap()));
    log.close();
    worker.run();
    let text = refusal(path);
    assert!(text.contains("copied back or lost"), "{text}");
}

#[test]
fn only_yes_and_the_clusters_id_are_agreement() {
    for answer in ["yes\n", "YES", " ab12 \n", "AB12"] {
        assert!(is_agreement(answer, 0xab12), "{answer:?}");
    }
    for answer in ["", "\n", "y\n", "no\n", "ab1", "yes please"] {
        assert!(!is_agreement(answer, 0xab12), "{answer:?}");
    }
}
