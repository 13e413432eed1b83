//! Whether state and log are of the same past, and how they become so where a crash cut an installation short.
//!
//! Apply waits for the log's sync, so a state that was applied here never is ahead of the log. A state that was
//! installed is, until consensus has purged the log up to it:
//!
//! 1. what the log holds in place of the snapshot's last entry, if that is another one, is truncated;
//! 2. the new database is put in force, durably;
//! 3. the log is purged up to the snapshot's last entry, and goes on behind it.
//!
//! A crash between 2 and 3 leaves a log that ends before the state. Its last entries may even be of a later term than
//! the state's last one: a leader of term 7 wrote entry 90 here and nowhere else, and the next leader, of term 8, sent a
//! snapshot that ends in entry 100 of term 5. By log ids the log is newer then, and openraft would take it as such:
//! so it is cleared up before openraft sees it. What is dropped was never committed, since the snapshot was, or is in
//! the snapshot. Should step 1 be missing, the same holds for entries at and behind the snapshot's last one that are not
//! its successors: all of them go.
//!
//! That it is such a crash, and not a log that somebody copied back, is told by a mark in the state: the entry that it
//! was installed at. Once anything was applied behind that entry, the log has been purged up to it, and a log that ends
//! before it was lost.

use store::log::Log;
use store::{LogId, Machine, snapshot};

use super::driver::StartError;
use super::log_storage::LogStorage;

/// What is to be done before consensus starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Agreement {
    /// Nothing.
    Reached,
    /// The log is to begin behind this entry, and all that it holds is to go.
    LogBeginsBehind(LogId),
}

/// Compares what the state says with what the log holds.
pub(super) fn of(machine: &Machine, log: &Log) -> Result<Agreement, StartError> {
    let state = State {
        applied: machine.applied(),
        installed: snapshot::installed(&*machine.reader().engine())?,
    };
    let purged = log.last_purged().map_or(0, |id| id.index);
    let last = log.last().map_or(0, |id| id.index);
    judge(state, purged, last, |id| holds(log, id))
}

/// Where a state stands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct State {
    /// The last entry applied.
    pub(crate) applied: Option<LogId>,
    /// The entry that it was installed at, if it ever was.
    pub(crate) installed: Option<LogId>,
}

/// Compares a state with a log that is purged up to one index, ends at another, and holds what it is asked for.
pub(crate) fn judge(
    state: State,
    purged: u64,
    last: u64,
    holds: impl FnOnce(LogId) -> Result<bool, StartError>,
) -> Result<Agreement, StartError> {
    let Some(applied) = state.applied else {
        return match purged {
            0 => Ok(Agreement::Reached),
            purged => Err(StartError::BehindLog { applied: 0, purged }),
        };
    };
    if applied.index < purged {
        return Err(StartError::BehindLog {
            applied: applied.index,
            purged,
        });
    }
    let last = last.max(purged);
    let is_ahead = applied.index > last;
    if !is_ahead && (applied.index == purged || holds(applied)?) {
        return Ok(Agreement::Reached);
    }
    if state.installed == Some(applied) {
        return Ok(Agreement::LogBeginsBehind(applied));
    }
    if is_ahead {
        return Err(StartError::AheadOfLog {
            applied: applied.index,
            last,
        });
    }
    Err(StartError::OtherLog {
        applied: applied.index,
    })
}

fn holds(log: &Log, id: LogId) -> Result<bool, StartError> {
    let entries = log.entries(id.index..id.index + 1, usize::MAX)?;
    Ok(entries.first().is_some_and(|entry| entry.id == id))
}

impl Agreement {
    /// Does what is to be done, durably. The log's worker runs.
    pub(super) async fn establish(self, log: &Log) -> Result<(), StartError> {
        let Self::LogBeginsBehind(entry) = self else {
            return Ok(());
        };
        tracing::info!(
            applied_index = entry.index,
            last_index = log.last().map_or(0, |id| id.index),
            "the log ends before the state that was installed last, or beside it; it begins anew behind it"
        );
        let storage = LogStorage::new(log.clone(), None);
        // A crash in between leaves the first case again.
        let truncated = storage.durably(|log, done| log.truncate_after(None, done));
        truncated.await?;
        storage.durably(|log, done| log.purge(entry, done)).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt as _;
    use store::engine::StateEngine as _;
    use store::engine::memory::MemoryEngine;
    use store::fs::SimFs;
    use store::log::{LogOptions, Worker};
    use store::{Entry, Options, Payload, Vote};

    use super::*;

    fn entry(term: u64, index: u64) -> Entry {
        Entry {
            id: LogId { term, index },
            payload: Payload::Blank,
        }
    }

    const VOTE: Vote = Vote {
        term: 8,
        voted_for: Some(2),
        committed: true,
    };

    /// A log with these entries, purged up to one of them.
    fn log(ids: &[(u64, u64)], purged: Option<(u64, u64)>) -> (SimFs, Log, Worker) {
        let disk = SimFs::new(1);
        let (log, mut worker, _) = open(&disk);
        log.save_vote(VOTE, Box::new(|done| done.unwrap()));
        let entries = ids.iter().map(|&(term, index)| entry(term, index));
        log.append(entries.collect(), Box::new(|done| done.unwrap()));
        if let Some((term, index)) = purged {
            log.purge(LogId { term, index }, Box::new(|done| done.unwrap()));
        }
        worker.run_once();
        (disk, log, worker)
    }

    fn open(disk: &SimFs) -> (Log, Worker, store::log::Recovered) {
        Log::open(Arc::new(disk.clone()), LogOptions::new(1, 1)).unwrap()
    }

    /// A machine that goes on from a state that was installed at the first of these entries.
    fn installed_at(ids: &[(u64, u64)]) -> Machine {
        let other = Arc::new(MemoryEngine::new());
        let mut source = Machine::open(other.clone(), Options::default()).unwrap();
        let (term, index) = ids[0];
        source.apply(&[entry(term, index)]).unwrap();
        other.flush().unwrap();
        let mut machine = applied(&[]);
        machine.install(&*other).unwrap();
        for &(term, index) in &ids[1..] {
            machine.apply(&[entry(term, index)]).unwrap();
        }
        machine
    }

    fn applied(ids: &[(u64, u64)]) -> Machine {
        let mut machine = Machine::open(Arc::new(MemoryEngine::new()), Options::default()).unwrap();
        for &(term, index) in ids {
            machine.apply(&[entry(term, index)]).unwrap();
        }
        machine
    }

    /// The log is cleared up, and after that the two agree, also after a crash at any point of it.
    fn is_cleared_up(machine: &Machine, (disk, log, mut worker): (SimFs, Log, Worker)) {
        let expected = machine.applied().unwrap();
        let agreement = of(machine, &log).unwrap();
        assert_eq!(agreement, Agreement::LogBeginsBehind(expected));
        let mut establishing = Box::pin(agreement.establish(&log));
        while (&mut establishing).now_or_never().is_none() {
            worker.run_once();
            let (crashed, _, _) = open(&disk);
            let found = of(machine, &crashed).unwrap();
            assert!(
                [agreement, Agreement::Reached].contains(&found),
                "{found:?}"
            );
        }
        drop(establishing);
        for log in [log, open(&disk).0] {
            assert_eq!(of(machine, &log).unwrap(), Agreement::Reached);
            assert_eq!(
                (log.last(), log.last_purged()),
                (Some(expected), Some(expected))
            );
            assert_eq!(log.vote(), Some(VOTE));
            assert!(log.range().is_empty());
        }
        let (log, mut worker, _) = open(&disk);
        log.append(
            vec![entry(8, expected.index + 1)],
            Box::new(|done| done.unwrap()),
        );
        worker.run_once();
        assert_eq!(of(machine, &log).unwrap(), Agreement::Reached);
    }

    #[test]
    fn a_log_that_ends_before_an_installed_state_begins_anew_behind_it() {
        let machine = installed_at(&[(5, 100)]);
        is_cleared_up(&machine, log(&[(1, 1), (1, 2)], None));
        is_cleared_up(&machine, log(&[(1, 1), (1, 2), (1, 3)], Some((1, 2))));
        is_cleared_up(&machine, log(&[], None));
    }

    #[test]
    fn so_does_one_whose_last_entry_is_of_a_later_term_than_the_state() {
        let machine = installed_at(&[(5, 100)]);
        is_cleared_up(&machine, log(&[(1, 1), (7, 2)], None));
    }

    #[test]
    fn so_does_one_with_another_entry_in_the_place_of_the_states_last() {
        let machine = installed_at(&[(5, 3)]);
        for term in [4, 7] {
            is_cleared_up(&machine, log(&[(1, 1), (1, 2), (term, 3)], None));
            let longer = [(1, 1), (1, 2), (term, 3), (term, 4), (term, 5)];
            is_cleared_up(&machine, log(&longer, Some((1, 1))));
        }
    }

    #[test]
    fn a_log_that_holds_the_states_last_entry_stays_as_it_is() {
        for machine in [installed_at(&[(5, 3)]), applied(&[(1, 1), (1, 2), (5, 3)])] {
            for (_, log, _worker) in [
                log(&[(1, 1), (1, 2), (5, 3)], None),
                log(&[(1, 1), (1, 2), (5, 3), (7, 4)], None),
                log(&[(1, 1), (1, 2), (5, 3), (7, 4)], Some((5, 3))),
                log(&[(1, 1), (1, 2), (5, 3)], Some((5, 3))),
            ] {
                assert_eq!(of(&machine, &log).unwrap(), Agreement::Reached);
            }
        }
        let (_, fresh, _worker) = log(&[], None);
        assert_eq!(of(&applied(&[]), &fresh).unwrap(), Agreement::Reached);
    }

    #[test]
    fn a_log_that_was_lost_or_copied_back_is_refused() {
        let (_, short, _worker) = log(&[(1, 1), (1, 2)], None);
        for machine in [
            applied(&[(1, 1), (1, 2), (1, 3)]),
            // What was applied since had to be in the log, behind the installed entry.
            installed_at(&[(5, 100), (5, 101)]),
        ] {
            let refused = of(&machine, &short).unwrap_err();
            assert!(
                matches!(refused, StartError::AheadOfLog { last: 2, .. }),
                "{refused}"
            );
        }
        let (_, other, _worker) = log(&[(1, 1), (2, 2), (2, 3)], None);
        let refused = of(&applied(&[(1, 1), (1, 2)]), &other).unwrap_err();
        assert!(
            matches!(refused, StartError::OtherLog { applied: 2 }),
            "{refused}"
        );
        let (_, purged, _worker) = log(&[(1, 1), (1, 2), (1, 3)], Some((1, 2)));
        for machine in [applied(&[]), applied(&[(1, 1)]), installed_at(&[(1, 1)])] {
            let refused = of(&machine, &purged).unwrap_err();
            assert!(
                matches!(refused, StartError::BehindLog { purged: 2, .. }),
                "{refused}"
            );
        }
    }
}
