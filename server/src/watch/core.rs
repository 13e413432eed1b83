//! The hub's state, and when those who are told live are told what. One thread owns it; time comes in as a number.
//!
//! `requests` has what streams ask for, `behind` those who are not live.

mod behind;
mod requests;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::Duration;

use slab::Slab;
use store::mutant::{self, Mutant};
use store::{ChangeSet, StoreError};

use super::catch_up::Job;
use super::frame::{Batch, Response};
use super::group::Groups;
use super::hub::{Command, Shared};
use super::outbox::{End, Events, Item, Notice, NoticeKind};
use super::ring::Ring;
use super::wake::Wakers;
use super::watcher::{State, StreamState, Watcher};
use crate::exec::Queue;

/// All streams and watchers.
///
/// - A live watcher has been told, or has staged for it, everything up to `revision`.
/// - A watcher in `behind` has a cursor below `revision`; one in `waiting` starts above `revision + 1`.
/// - The ring, if it holds anything, ends at `revision`.
pub(super) struct Core {
    shared: Arc<Shared>,
    jobs: Arc<Queue<Job>>,
    /// The last revision that was handed out.
    revision: i64,
    ring: Ring,
    groups: Groups,
    streams: Slab<StreamState>,
    by_serial: HashMap<u64, usize>,
    watchers: HashMap<u64, Watcher>,
    next_key: u64,
    live: usize,
    /// Watchers in the state `Behind`, by cursor.
    behind: BTreeSet<(i64, u64)>,
    /// Watchers in the state `Waiting`, by start.
    waiting: BTreeSet<(i64, u64)>,
    /// What the watchers take.
    watcher_bytes: usize,
    /// Whether a read of history is under way. One at a time: those that fall behind meanwhile share the next.
    is_scanning: bool,
    /// Whose turn the next one is.
    is_nearest_next: bool,
    /// When streams are due to tell their progress.
    ticks: BTreeSet<(Duration, usize)>,
    /// Streams that asked for progress when the store was ahead of the hub: answered at that revision.
    progress_due: Vec<(i64, u64)>,
    dirty: Vec<usize>,
    shards: Slab<Shard>,
    /// Groups with events in the batch at hand.
    touched: Vec<usize>,
}

struct Shard {
    wakers: Arc<Wakers>,
    streams: usize,
    batch: Vec<Waker>,
}

/// How much of some responses a stream took.
enum Reached {
    All,
    /// Everything up to this revision.
    Only(i64),
}

impl Core {
    pub(super) fn new(shared: Arc<Shared>, jobs: Arc<Queue<Job>>) -> Self {
        Self {
            revision: shared.reader.view().revision,
            ring: Ring::new(shared.options.ring_bytes),
            jobs,
            shared,
            groups: Groups::default(),
            streams: Slab::new(),
            by_serial: HashMap::new(),
            watchers: HashMap::new(),
            next_key: 0,
            live: 0,
            behind: BTreeSet::new(),
            waiting: BTreeSet::new(),
            watcher_bytes: 0,
            is_scanning: false,
            is_nearest_next: false,
            ticks: BTreeSet::new(),
            progress_due: Vec::new(),
            dirty: Vec::new(),
            shards: Slab::new(),
            touched: Vec::new(),
        }
    }

    /// Moves everything forward once. Returns whether there may be more to do at once.
    ///
    /// `jumped` is the revision that the store went on to without change sets, 0 if it did not; `sets` follow it.
    pub(super) fn step(
        &mut self,
        sets: Vec<Arc<ChangeSet>>,
        jumped: i64,
        commands: Vec<Command>,
        now: Duration,
    ) -> Result<bool, StoreError> {
        if jumped > self.revision {
            self.jump(jumped);
        }
        self.publish(sets)?;
        for command in commands {
            self.command(command, now)?;
        }
        let has_worked = self.catch_up()?;
        self.answer_progress();
        self.tick(now);
        self.flush();
        self.shared.told.store(self.revision, Ordering::SeqCst);
        self.count();
        Ok(has_worked)
    }

    /// When time alone makes work.
    pub(super) fn next_tick(&self) -> Option<Duration> {
        self.ticks.first().map(|(due, _)| *due)
    }

    /// Whether a step without input would do anything.
    pub(super) fn has_work(&self, now: Duration) -> bool {
        let first = self.ring.first().unwrap_or(self.revision + 1);
        let in_ring = self.behind.range((first - 1, 0)..).next().is_some();
        let in_history = !self.is_scanning
            && self
                .behind
                .first()
                .is_some_and(|(cursor, _)| cursor + 1 < first);
        in_ring || in_history || self.next_tick().is_some_and(|due| due <= now)
    }

    /// Ends every stream, also those whose opening is among the commands left.
    pub(super) fn end(&mut self, left: Vec<Command>, end: End) {
        self.flush();
        let mut wakers: Vec<Waker> = Vec::new();
        for command in left {
            if let Command::Open { outbox, .. } = command {
                wakers.extend(outbox.end(end));
            }
        }
        for (_, stream) in &self.streams {
            wakers.extend(stream.outbox.end(end));
        }
        wakers.into_iter().for_each(Waker::wake);
        self.streams.clear();
        self.watchers.clear();
        self.watcher_bytes = 0;
        self.groups = Groups::default();
    }

    fn publish(&mut self, mut sets: Vec<Arc<ChangeSet>>) -> Result<(), StoreError> {
        sets.retain(|set| set.revision > self.revision);
        let (Some(first), Some(last)) = (sets.first(), sets.last()) else {
            return Ok(());
        };
        let (first, last) = (first.revision, last.revision);
        if first > self.revision + 1 {
            self.jump(first - 1);
        }
        let after = first - 1;
        if !self.groups.is_empty() {
            self.tell_live(&sets, after, last)?;
        }
        for set in sets {
            self.ring.push(set);
        }
        self.reach(last);
        Ok(())
    }

    /// Goes on to a revision without the change sets up to it: the store was replaced by a later one. What lies between
    /// is read from its history. The ring begins anew: it has no gaps.
    fn jump(&mut self, to: i64) {
        self.all_fall_behind();
        self.ring.clear();
        self.reach(to);
    }

    /// The hub is at a revision; those that wait for it begin.
    fn reach(&mut self, revision: i64) {
        self.revision = revision;
        while let Some(&(start, key)) = self.waiting.first()
            && start <= revision + 1
        {
            self.set_state(key, State::Behind(start - 1));
        }
    }

    /// Hands the changes in `(after, up_to]` to the live watchers that want them.
    fn tell_live(
        &mut self,
        sets: &[Arc<ChangeSet>],
        after: i64,
        up_to: i64,
    ) -> Result<(), StoreError> {
        let mut batch = Batch::new(sets, &self.shared.room);
        let mut touched = std::mem::take(&mut self.touched);
        self.groups.find(&batch, &mut touched);
        let term = self.term();
        let mut fallen = Vec::new();
        for number in touched.drain(..) {
            let hits = self.groups.take_hits(number);
            let group = self.groups.get(number);
            if batch.must_read(&hits, &group.interest) {
                // Not here, where everybody waits: who wants it catches up.
                let members = group.members.iter();
                fallen.extend(members.map(|member| {
                    let interest = group.interest.clone();
                    (interest, member.stream, State::Behind(after))
                }));
                self.groups.reuse(number, hits);
                continue;
            }
            let options = &self.shared.options;
            let responses = batch.responses(
                &hits,
                &group.interest,
                options.message_bytes,
                &self.shared.reader,
            )?;
            if !responses.is_empty() {
                for member in &mut group.members {
                    let stream = &mut self.streams[member.stream];
                    let ids = &member.watch_ids;
                    member.was_sent = true;
                    if !stream.is_dirty {
                        stream.is_dirty = true;
                        self.dirty.push(member.stream);
                    }
                    if let Reached::Only(cursor) =
                        stage(stream, ids, &responses, after, up_to, term)
                    {
                        let state = State::Stuck(cursor);
                        fallen.push((group.interest.clone(), member.stream, state));
                    }
                }
                let receivers: usize = group
                    .members
                    .iter()
                    .map(|member| member.watch_ids.len())
                    .sum();
                self.count_events(&responses, receivers);
            }
            self.groups.reuse(number, hits);
        }
        self.touched = touched;
        for (interest, place, state) in fallen {
            let watch_ids = self.groups.leave_all(&interest, place);
            let stream = &mut self.streams[place];
            stream.set_incomplete();
            for watch_id in watch_ids.iter() {
                let Some(&key) = stream.watchers.get(watch_id) else {
                    continue;
                };
                if let Some(watcher) = self.watchers.get_mut(&key) {
                    watcher.state = state;
                    match state {
                        State::Behind(cursor) => drop(self.behind.insert((cursor, key))),
                        _ => stream.stuck.push(key),
                    }
                    self.live -= 1;
                }
            }
        }
        Ok(())
    }

    /// Whether the watcher was told everything up to the hub's revision, and has begun.
    fn has_all(&self, watcher: &Watcher) -> bool {
        let is_live = watcher.state == State::Live || mutant::is_on(Mutant::ProgressAhead);
        is_live && watcher.not_before <= self.revision
    }

    /// Tells idle watchers that want it the revision, each stream in its own time.
    fn tick(&mut self, now: Duration) {
        while let Some(&(due, place)) = self.ticks.first()
            && due <= now
        {
            self.ticks.remove(&(due, place));
            let mut told = Vec::new();
            let mut is_wanted = false;
            for (watch_id, key) in &self.streams[place].watchers {
                let Some(watcher) = self
                    .watchers
                    .get(key)
                    .filter(|watcher| watcher.wants_progress)
                else {
                    continue;
                };
                is_wanted = true;
                let was_sent = watcher.was_sent
                    || self
                        .groups
                        .member(&watcher.interest, place)
                        .is_some_and(|member| member.was_sent);
                if !was_sent && self.has_all(watcher) {
                    told.push(*watch_id);
                }
            }
            for key in self.streams[place].watchers.values() {
                let Some(watcher) = self.watchers.get_mut(key) else {
                    continue;
                };
                watcher.was_sent = false;
                if let Some(member) = self.groups.member(&watcher.interest, place) {
                    member.was_sent = false;
                }
            }
            told.sort_unstable();
            for watch_id in told {
                self.notify(place, watch_id, self.revision, NoticeKind::Progress);
            }
            self.streams[place].progress_at = None;
            if is_wanted {
                self.schedule_tick(place, now);
            }
        }
    }

    fn schedule_tick(&mut self, place: usize, now: Duration) {
        let interval = self.shared.options.progress_interval;
        let stream = &mut self.streams[place];
        // Spreads streams over a tenth of the interval, without any randomness.
        let part =
            u32::try_from(stream.serial.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54).unwrap_or(0);
        let due = now + interval + interval * part / 10_240;
        stream.progress_at = Some(due);
        self.ticks.insert((due, place));
    }

    fn set_state(&mut self, key: u64, state: State) {
        self.leave_state(key);
        self.enter_state(key, state);
    }

    fn leave_state(&mut self, key: u64) {
        let Some(watcher) = self.watchers.get(&key) else {
            return;
        };
        match watcher.state {
            State::Live => {
                self.live -= 1;
                if let Some(stream) = self.streams.get_mut(watcher.stream) {
                    stream.set_incomplete();
                }
                self.groups
                    .leave(&watcher.interest, watcher.stream, watcher.watch_id);
            }
            State::Behind(cursor) => drop(self.behind.remove(&(cursor, key))),
            State::Waiting(start) => drop(self.waiting.remove(&(start, key))),
            // Whoever goes through these lists looks at the state.
            State::Scanning(_) | State::Stuck(_) => {}
        }
    }

    /// One that is "behind" at the hub's revision is live.
    fn enter_state(&mut self, key: u64, state: State) {
        let Some(watcher) = self.watchers.get_mut(&key) else {
            return;
        };
        watcher.state = match state {
            State::Behind(cursor) if cursor >= self.revision => State::Live,
            other => other,
        };
        match watcher.state {
            State::Live => {
                self.live += 1;
                // Watchers of a group share one copy of what they want.
                watcher.interest =
                    self.groups
                        .join(&watcher.interest, watcher.stream, watcher.watch_id);
            }
            State::Behind(cursor) => drop(self.behind.insert((cursor, key))),
            State::Waiting(start) => drop(self.waiting.insert((start, key))),
            State::Stuck(_) => self.streams[watcher.stream].stuck.push(key),
            State::Scanning(_) => {}
        }
    }

    /// The stream's queue has drained: its watchers may go on.
    fn has_room(&mut self, place: usize) {
        let stream = &mut self.streams[place];
        stream.awaits_room = false;
        for key in std::mem::take(&mut stream.stuck) {
            if let Some(State::Stuck(cursor)) = self.watchers.get(&key).map(|watcher| watcher.state)
            {
                let cursor = cursor - i64::from(mutant::is_on(Mutant::EventsRepeated));
                self.set_state(key, State::Behind(cursor));
            }
        }
    }

    /// At no revision, as in etcd: the watcher has not come to any that its client could go on from.
    fn notify_compacted(&mut self, place: usize, watch_id: i64, compacted: i64) {
        self.notify(place, watch_id, 0, NoticeKind::Compacted(compacted));
    }

    fn notify(&mut self, place: usize, watch_id: i64, revision: i64, kind: NoticeKind) {
        let notice = Notice {
            watch_id,
            revision,
            term: self.term(),
            kind,
        };
        self.streams[place].stage(Item::Notice(notice));
        self.mark_dirty(place);
    }

    fn mark_dirty(&mut self, place: usize) {
        let stream = &mut self.streams[place];
        if !stream.is_dirty {
            stream.is_dirty = true;
            self.dirty.push(place);
        }
    }

    /// Hands over what was staged: one push for each stream, one wake-up for each shard.
    fn flush(&mut self) {
        let mut alone: Vec<Waker> = Vec::new();
        for place in std::mem::take(&mut self.dirty) {
            // Its place may be empty or taken by another by now; flushing that one is harmless.
            let Some(stream) = self.streams.get_mut(place) else {
                continue;
            };
            stream.is_dirty = false;
            let requests = std::mem::take(&mut stream.requests);
            let waker = stream.outbox.extend(&mut stream.staged, requests);
            if stream.is_complete {
                stream.outbox.set_complete(true);
            }
            if stream.staged.capacity() > 16 {
                stream.staged = Vec::new();
            }
            match stream.shard.and_then(|number| self.shards.get_mut(number)) {
                Some(shard) => shard.batch.extend(waker),
                None => alone.extend(waker),
            }
            if !stream.stuck.is_empty() && !stream.awaits_room {
                stream.awaits_room = stream.outbox.await_room();
                if !stream.awaits_room {
                    self.has_room(place);
                }
            }
        }
        for (_, shard) in &mut self.shards {
            shard.wakers.wake(&mut shard.batch);
        }
        alone.into_iter().for_each(Waker::wake);
    }

    fn count(&self) {
        let stats = &self.shared.stats;
        stats.watchers.store(self.watchers.len(), Ordering::Relaxed);
        let slow = self.watchers.len() - self.live - self.waiting.len();
        stats.slow_watchers.store(slow, Ordering::Relaxed);
        stats.ring_bytes.store(self.ring.bytes(), Ordering::Relaxed);
    }

    fn count_events(&self, responses: &[Response], receivers: usize) {
        let events: usize = responses
            .iter()
            .flat_map(|response| &response.pieces)
            .map(|piece| piece.events())
            .sum();
        self.shared
            .stats
            .events
            .fetch_add((events * receivers) as u64, Ordering::Relaxed);
    }

    /// The hub may be a little behind the store; "now" is what a client may already have seen.
    fn store_revision(&self) -> i64 {
        self.shared.reader.view().revision.max(self.revision)
    }

    fn term(&self) -> u64 {
        self.shared.identity.term.load(Ordering::Relaxed)
    }
}

/// Queues responses that bring some watchers of a stream from `after` to `up_to`, as far as there is room.
fn stage(
    stream: &mut StreamState,
    watch_ids: &Arc<Vec<i64>>,
    responses: &[Response],
    after: i64,
    up_to: i64,
    term: u64,
) -> Reached {
    let mut cursor = after;
    for (number, response) in responses.iter().enumerate() {
        if !stream.outbox.has_room() {
            if mutant::is_on(Mutant::OverflowLost) {
                return Reached::All;
            }
            return Reached::Only(cursor);
        }
        cursor = if number + 1 == responses.len() {
            up_to
        } else {
            response.revision
        };
        let events = |watch_ids: &Arc<Vec<i64>>, number: usize| {
            Item::Events(Events {
                watch_ids: watch_ids.clone(),
                revision: cursor,
                term,
                has_more: number + 1 < response.pieces.len(),
                payload: response.pieces[number].clone(),
            })
        };
        if response.pieces.len() == 1 {
            stream.stage(events(watch_ids, 0));
            continue;
        }
        // The fragments of one response follow each other; clients put them together by that.
        for watch_id in watch_ids.iter() {
            let watch_id = Arc::new(vec![*watch_id]);
            (0..response.pieces.len()).for_each(|number| stream.stage(events(&watch_id, number)));
        }
    }
    Reached::All
}
