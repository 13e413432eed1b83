//! The store's machine as openraft wants it: entries go to the apply worker, a snapshot is a name.

use std::io;
use std::sync::Arc;
use std::task::Poll;

use futures_util::{Stream, TryStreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::{AsyncRuntime, OptionalSend};
use store::log::Log;
use store::mutant::{self, Mutant};
use store::snapshot::{Checkpoint, Received};
use store::{Entry, Payload, SnapshotName, StateEngine, StoreError};
use tokio::sync::oneshot;

use super::Core;
use super::apply::{Ended, Job, Jobs, Source};
use super::flush::Flushes;
use super::holds::Hold;
use super::types::{
    RaftLogId, RaftStoredMembership, Types, raft_id, raft_stored_membership, store_entry, store_id,
};

/// Entries given to the apply worker at once, in bytes: bounds what a long replay holds in memory.
const APPLY_BYTES: usize = 4 << 20;

/// Where a snapshot's content can be had.
///
/// One of this node is a name alone, until somebody sends it and asks for a [`Checkpoint`]. While it is held, the log
/// keeps the entries behind it.
pub struct SnapshotHandle(Content);

enum Content {
    Here {
        engine: Arc<dyn StateEngine>,
        _hold: Hold,
    },
    Received(Box<Received>),
}

impl SnapshotHandle {
    /// Makes the files of the snapshot, for a leader of `term` to send. Blocks on the disk.
    ///
    /// They are of the state as it is now, so their meta is that of [`Checkpoint::name`], at or behind the meta that
    /// came with this handle. None if this node has applied entries of a later term: the leader that asked is deposed,
    /// and what it sends must not be beyond its own vote.
    pub fn checkpoint(&self, term: u64) -> Result<Option<Checkpoint>, StoreError> {
        let Content::Here { engine, .. } = &self.0 else {
            return Err(StoreError::Engine {
                doing: "send a snapshot",
                source: "it was received, and is not installed yet".into(),
            });
        };
        let checkpoint = engine.checkpoint()?;
        Ok(Some(checkpoint).filter(|made| made.name().applied.term <= term))
    }
}

/// A snapshot that arrived from a leader of `term`, to be given to openraft. None if it cannot be that leader's: it
/// ends in an entry of a later term.
pub fn received<R: AsyncRuntime>(
    received: Received,
    term: u64,
) -> Option<SnapshotOf<Types<R>, SnapshotHandle>> {
    if received.name().applied.term > term {
        return None;
    }
    Some(openraft::Snapshot {
        meta: meta::<R>(received.name()),
        snapshot: SnapshotHandle(Content::Received(Box::new(received))),
    })
}

/// The state machine's side of openraft.
pub struct StateMachine {
    core: Arc<Core>,
    jobs: Jobs,
    flushes: Flushes,
    /// Entries are applied only once this log has synced them, so that the state on disk is never
    /// ahead of the log. openraft's storage suite applies entries it never logged: none there.
    log: Option<Log>,
    /// The end of the last job, if it was not waited for.
    under_way: Option<Ended>,
}

/// Makes a snapshot: flushes the state, and names what is durable then.
pub struct SnapshotBuilder {
    core: Arc<Core>,
    flushes: Flushes,
}

impl StateMachine {
    /// openraft's view of the machine behind `jobs`.
    pub fn new(core: Arc<Core>, jobs: Jobs, flushes: Flushes, log: Option<Log>) -> Self {
        Self {
            core,
            jobs,
            flushes,
            log,
            under_way: None,
        }
    }

    /// Has entries applied, after those before them.
    ///
    /// Of commands nobody here needs to know when they are applied: their callers hear of it from the worker. Consensus
    /// may take them for applied one job early, and is not woken for each. What it does with others does depend on it.
    async fn apply_now(&mut self, entries: Vec<Entry>) -> Result<(), io::Error> {
        let Some(last) = entries.last().map(|entry| entry.id.index) else {
            return Ok(());
        };
        let is_left = (1..=self.core.left_to_apply()).contains(&last);
        if let Some(log) = &self.log
            && !is_left
            && !mutant::is_on(Mutant::AnswerBeforeCommit)
        {
            std::future::poll_fn(|context| {
                self.core.synced_waker.register(context.waker());
                if log.synced_index().is_some_and(|synced| synced >= last) {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
        }
        let are_commands = entries
            .iter()
            .all(|entry| matches!(entry.payload, Payload::Commands(_)));
        self.finish().await?;
        let log = self.log.as_ref().filter(|_| is_left).cloned();
        let ended = self.jobs.start(|done| Job::Apply { entries, log, done })?;
        self.under_way = Some(ended);
        if !are_commands {
            self.finish().await?;
        }
        Ok(())
    }

    /// Waits until what is under way is applied.
    async fn finish(&mut self) -> Result<(), io::Error> {
        match self.under_way.take() {
            Some(ended) => Jobs::end_of(ended).await,
            None => Ok(()),
        }
    }
}

impl<R: AsyncRuntime> RaftStateMachine<Types<R>> for StateMachine {
    type SnapshotData = SnapshotHandle;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<RaftLogId>, RaftStoredMembership), io::Error> {
        self.finish().await?;
        let (applied, membership) = self.core.applied();
        Ok((applied.map(raft_id), raft_stored_membership(&membership)))
    }

    async fn apply<S>(&mut self, mut stream: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types<R>>, io::Error>> + Unpin + OptionalSend,
    {
        let mut entries = Vec::new();
        let mut responders = Vec::new();
        let mut bytes = 0;
        while let Some((entry, responder)) = stream.try_next().await? {
            let entry = store_entry(entry);
            if let Payload::Commands(encoded) = &entry.payload {
                bytes += encoded.len();
            }
            entries.push(entry);
            responders.extend(responder);
            if bytes >= APPLY_BYTES {
                self.apply_now(std::mem::take(&mut entries)).await?;
                bytes = 0;
            }
        }
        self.apply_now(entries).await?;
        // The callers have their answers already; these only end openraft's own bookkeeping.
        for responder in responders {
            responder.send(());
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder {
            core: self.core.clone(),
            flushes: self.flushes.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMetaOf<Types<R>>,
        snapshot: SnapshotHandle,
    ) -> Result<(), io::Error> {
        let source = match snapshot.0 {
            Content::Here { engine, .. } => Source::Engine(engine),
            Content::Received(received) => {
                let expected = meta.last_log_id.as_ref().map(store_id);
                if expected != Some(received.name().applied) {
                    return Err(io::Error::other(
                        "the snapshot to be installed is not the one that arrived",
                    ));
                }
                Source::Received(received)
            }
        };
        self.jobs.run(|done| Job::Install { source, done }).await
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<SnapshotOf<Types<R>, SnapshotHandle>>, io::Error> {
        let (done, named) = oneshot::channel();
        self.jobs.run(|ended| Job::Durable { done, ended }).await?;
        let name = named.await.map_err(|_| ended())?;
        Ok(name.map(|name| snapshot::<R>(&self.core, Some(&name))))
    }
}

impl<R: AsyncRuntime> RaftSnapshotBuilder<Types<R>> for SnapshotBuilder {
    type SnapshotData = SnapshotHandle;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<Types<R>, SnapshotHandle>, io::Error> {
        let name = self.flushes.flush().await?;
        Ok(snapshot::<R>(&self.core, name.as_ref()))
    }
}

fn ended() -> io::Error {
    io::Error::other("the apply worker ended")
}

/// Without a name: the state before the first entry.
fn snapshot<R: AsyncRuntime>(
    core: &Core,
    name: Option<&SnapshotName>,
) -> SnapshotOf<Types<R>, SnapshotHandle> {
    let index = name.map_or(0, |name| name.applied.index);
    openraft::Snapshot {
        meta: name.map(meta::<R>).unwrap_or_default(),
        snapshot: SnapshotHandle(Content::Here {
            engine: core.engine.clone(),
            _hold: core.holds.hold(index),
        }),
    }
}

fn meta<R: AsyncRuntime>(name: &SnapshotName) -> SnapshotMetaOf<Types<R>> {
    openraft::SnapshotMeta {
        last_log_id: Some(raft_id(name.applied)),
        last_membership: raft_stored_membership(&name.membership),
    }
}
