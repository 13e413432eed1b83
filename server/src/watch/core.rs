//! The hub's state and every rule of when a watcher is told what. One thread owns it; time comes in as a number.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::Duration;

use slab::Slab;
use store::mutant::{self, Mutant};
use store::{ChangeSet, StoreError};

use super::catch_up::{HISTORY_WINDOW, Job, Of, SCAN_REVISIONS, Scan, Scanned, Told};
use super::frame::{Batch, Response};
use super::group::Groups;
use super::hub::{Command, Create, Request, Shared};
use super::outbox::{End, Events, Item, Notice, NoticeKind, Outbox, Refused};
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

    fn command(&mut self, command: Command, now: Duration) -> Result<(), StoreError> {
        match command {
            Command::Open {
                stream,
                outbox,
                wakers,
            } => self.open(stream, outbox, wakers),
            Command::Close { stream } => self.close(stream),
            Command::Drained { stream } => {
                if let Some(&place) = self.by_serial.get(&stream) {
                    self.has_room(place);
                }
            }
            Command::Request { stream, request } => {
                if let Some(&place) = self.by_serial.get(&stream) {
                    self.streams[place].requests += 1;
                    self.mark_dirty(place);
                    match request {
                        Request::Create(create) => self.create(place, create, now),
                        Request::Cancel(watch_id) => self.cancel(place, watch_id),
                        Request::Progress => self.progress(place),
                    }
                }
            }
            Command::Scanned(scanned) => {
                let is_of_changes = matches!(
                    scanned,
                    Scanned::Told {
                        is_of_history: false,
                        ..
                    }
                );
                self.is_scanning &= is_of_changes;
                match scanned {
                    Scanned::Told {
                        up_to, told, left, ..
                    } => {
                        self.tell(told, up_to);
                        left.into_iter().for_each(|key| self.scan_again(key));
                    }
                    Scanned::Compacted(watchers) => {
                        watchers.into_iter().for_each(|key| self.scan_again(key))
                    }
                    Scanned::Fault(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    fn open(&mut self, serial: u64, outbox: Arc<Outbox>, wakers: Option<Arc<Wakers>>) {
        let shard = wakers.map(|wakers| {
            let known = self
                .shards
                .iter()
                .find(|(_, shard)| Arc::ptr_eq(&shard.wakers, &wakers));
            let place = match known.map(|(place, _)| place) {
                Some(place) => place,
                None => self.shards.insert(Shard {
                    wakers,
                    streams: 0,
                    batch: Vec::new(),
                }),
            };
            self.shards[place].streams += 1;
            place
        });
        let place = self.streams.insert(StreamState::new(serial, outbox, shard));
        self.by_serial.insert(serial, place);
    }

    fn close(&mut self, serial: u64) {
        let Some(place) = self.by_serial.remove(&serial) else {
            return;
        };
        let stream = self.streams.remove(place);
        for key in stream.watchers.into_values() {
            let Some(watcher) = self.forget(key) else {
                continue;
            };
            match watcher.state {
                State::Live => {
                    self.live -= 1;
                    // The first of an interest takes the others with it.
                    self.groups.leave_all(&watcher.interest, place);
                }
                State::Behind(cursor) => drop(self.behind.remove(&(cursor, key))),
                State::Waiting(start) => drop(self.waiting.remove(&(start, key))),
                State::Scanning(_) | State::Stuck(_) => {}
            }
        }
        if let Some(due) = stream.progress_at {
            self.ticks.remove(&(due, place));
        }
        if let Some(number) = stream.shard {
            self.shards[number].streams -= 1;
            if self.shards[number].streams == 0 {
                // Wakers of this step may still be in there.
                let mut shard = self.shards.remove(number);
                shard.wakers.wake(&mut shard.batch);
            }
        }
    }

    fn create(&mut self, place: usize, create: Create, now: Duration) {
        let compacted = self.shared.reader.view().compact_revision;
        let store_revision = self.store_revision();
        let refused = if create.start_revision < 0 {
            Some(Refused::Revision)
        } else if create.range.is_none() {
            Some(Refused::EmptyRange)
        } else if create.watch_id != 0
            && self.streams[place].watchers.contains_key(&create.watch_id)
        {
            Some(Refused::DuplicateId)
        } else if self.watcher_bytes > self.shared.options.watcher_bytes {
            Some(Refused::TooMany)
        } else {
            None
        };
        let (Some(interest), None) = (create.interest(), refused) else {
            let why = refused.unwrap_or(Refused::EmptyRange);
            self.notify(place, -1, store_revision, NoticeKind::Refused(why));
            return;
        };
        let stream = &mut self.streams[place];
        let watch_id = if create.watch_id == 0 {
            while stream.watchers.contains_key(&stream.next_id) {
                stream.next_id += 1;
            }
            stream.next_id += 1;
            stream.next_id - 1
        } else {
            create.watch_id
        };
        self.notify(place, watch_id, store_revision, NoticeKind::Created);
        if create.start_revision > 0 && create.start_revision < compacted {
            self.notify_compacted(place, watch_id, compacted);
            return;
        }
        let start = if create.start_revision == 0 {
            store_revision + 1
        } else {
            create.start_revision
        };
        let key = self.next_key;
        self.next_key += 1;
        let state = if start > self.revision + 1 {
            State::Waiting(start)
        } else {
            State::Behind(start - 1)
        };
        self.streams[place].set_incomplete();
        self.streams[place].watchers.insert(watch_id, key);
        let watcher = Watcher {
            stream: place,
            watch_id,
            interest: Arc::new(interest),
            state,
            not_before: create.start_revision,
            wants_progress: create.progress_notify,
            was_sent: false,
        };
        self.watcher_bytes += watcher.bytes();
        self.watchers.insert(key, watcher);
        self.enter_state(key, state);
        if create.progress_notify && self.streams[place].progress_at.is_none() {
            self.schedule_tick(place, now);
        }
    }

    fn cancel(&mut self, place: usize, watch_id: i64) {
        if self.remove(place, watch_id) {
            // As when it was made: what a client may already have seen.
            let revision = self.store_revision();
            self.notify(place, watch_id, revision, NoticeKind::Canceled);
        }
    }

    fn remove(&mut self, place: usize, watch_id: i64) -> bool {
        let Some(key) = self.streams[place].watchers.remove(&watch_id) else {
            return false;
        };
        self.streams[place].set_incomplete();
        self.leave_state(key);
        self.forget(key);
        true
    }

    fn forget(&mut self, key: u64) -> Option<Watcher> {
        let watcher = self.watchers.remove(&key)?;
        self.watcher_bytes -= watcher.bytes();
        Some(watcher)
    }

    /// Asks for an answer at what the store holds now, which the hub may not have reached yet.
    fn progress(&mut self, place: usize) {
        let due = (self.store_revision(), self.streams[place].serial);
        if self.progress_due.last() != Some(&due) {
            self.progress_due.push(due);
        }
    }

    /// Answers those whose revision is reached, if all watchers of the stream were told everything. Else not at all:
    /// the client asks again.
    fn answer_progress(&mut self) {
        if self
            .progress_due
            .first()
            .is_none_or(|(revision, _)| *revision > self.revision)
        {
            return;
        }
        // In order of revisions, because the store's never goes back.
        let end = self
            .progress_due
            .partition_point(|(revision, _)| *revision <= self.revision);
        let due: Vec<(i64, u64)> = self.progress_due.drain(..end).collect();
        for (_, serial) in due {
            let Some(&place) = self.by_serial.get(&serial) else {
                continue;
            };
            let keys = &self.streams[place].watchers;
            let has_all = |key| {
                self.watchers
                    .get(key)
                    .is_none_or(|watcher| self.has_all(watcher))
            };
            if !keys.is_empty() && keys.values().all(has_all) {
                self.streams[place].is_complete = true;
                self.notify(place, -1, self.revision, NoticeKind::Progress);
            }
        }
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

    /// Brings watchers forward that are behind: from the ring here, from history by the other worker.
    fn catch_up(&mut self) -> Result<bool, StoreError> {
        if self.behind.is_empty() {
            return Ok(false);
        }
        self.cancel_compacted();
        let first = self.ring.first().unwrap_or(self.revision + 1);
        let mut has_worked = false;
        if !self.is_scanning
            && let Some(after) = self.next_scan(first)
        {
            let up_to = (first - 1).min(after + HISTORY_WINDOW);
            let (scan, taken) = self.take_behind(after, up_to);
            self.set_scanning(taken);
            let of = Of::History;
            let job = Job {
                scan,
                after,
                up_to,
                of,
            };
            if self.jobs.push(job).is_ok() {
                self.is_scanning = true;
                has_worked = true;
            }
        }
        if let Some(&(after, _)) = self.behind.range((first - 1, 0)..).next() {
            let up_to = self.revision.min(after + SCAN_REVISIONS);
            let (scan, taken) = self.take_behind(after, up_to);
            let sets = self.ring.range(after, up_to);
            if scan.must_read(&sets) {
                // The others of this scan wait a little, too: most often there are none.
                self.set_scanning(taken);
                let of = Of::Changes(sets);
                let job = Job {
                    scan,
                    after,
                    up_to,
                    of,
                };
                // A queue that is closed belongs to a hub that ends.
                let _ = self.jobs.push(job);
            } else {
                // Those that are left are still behind.
                let (told, _) = scan.run(&sets, &self.shared)?;
                self.tell(told, up_to);
            }
            has_worked = true;
        }
        Ok(has_worked)
    }

    /// Where the next scan of history begins; what comes from `first` on is in the ring. In turn at the watcher that is
    /// furthest behind, whose way most others share, and at the nearest, which shall not wait for that one all its way.
    fn next_scan(&mut self, first: i64) -> Option<i64> {
        let mut behind = self.behind.range(..(first - 1, 0));
        let next = if self.is_nearest_next {
            behind.next_back()
        } else {
            behind.next()
        };
        let (after, _) = next?;
        self.is_nearest_next = !self.is_nearest_next;
        Some(*after)
    }

    /// The watchers with cursors in `[after, up_to)` as one scan; and who they are.
    fn take_behind(&self, after: i64, up_to: i64) -> (Scan, Vec<(i64, u64)>) {
        let mut scan = Scan::default();
        let taken: Vec<(i64, u64)> = self.behind.range((after, 0)..(up_to, 0)).copied().collect();
        for &(cursor, key) in &taken {
            if let Some(watcher) = self.watchers.get(&key) {
                scan.add(&watcher.interest, cursor, key);
            }
        }
        (scan, taken)
    }

    /// Somebody else goes on with these watchers.
    fn set_scanning(&mut self, taken: Vec<(i64, u64)>) {
        for (cursor, key) in taken {
            self.set_state(key, State::Scanning(cursor));
        }
    }

    fn cancel_compacted(&mut self) {
        let compacted = self.shared.reader.view().compact_revision;
        while let Some(&(cursor, key)) = self.behind.first()
            && cursor + 1 < compacted
        {
            self.behind.remove(&(cursor, key));
            let Some(watcher) = self.forget(key) else {
                continue;
            };
            self.streams[watcher.stream]
                .watchers
                .remove(&watcher.watch_id);
            self.notify_compacted(watcher.stream, watcher.watch_id, compacted);
        }
    }

    /// A scan that was to move this watcher had no room for it, or found that compaction was faster, for it or for another.
    fn scan_again(&mut self, key: u64) {
        if let Some(State::Scanning(cursor)) = self.watchers.get(&key).map(|watcher| watcher.state)
        {
            self.set_state(key, State::Behind(cursor));
        }
    }

    /// Hands out what a scan up to `up_to` found.
    fn tell(&mut self, told: Vec<Told>, up_to: i64) {
        let term = self.term();
        for Told {
            after,
            watchers,
            responses,
        } in told
        {
            let mut receivers: Vec<(usize, i64, u64)> = watchers
                .into_iter()
                // Some may have been cancelled since.
                .filter_map(|key| {
                    self.watchers
                        .get(&key)
                        .map(|watcher| (watcher.stream, watcher.watch_id, key))
                })
                .collect();
            receivers.sort_unstable();
            for on_stream in receivers.chunk_by(|a, b| a.0 == b.0) {
                let place = on_stream[0].0;
                let ids = Arc::new(on_stream.iter().map(|(_, watch_id, _)| *watch_id).collect());
                let up_to = up_to.max(after);
                let reached = stage(
                    &mut self.streams[place],
                    &ids,
                    &responses,
                    after,
                    up_to,
                    term,
                );
                self.mark_dirty(place);
                for (_, _, key) in on_stream {
                    if let Some(watcher) = self.watchers.get_mut(key) {
                        watcher.was_sent |= !responses.is_empty();
                    }
                    self.set_state(
                        *key,
                        match reached {
                            Reached::All => State::Behind(up_to),
                            Reached::Only(cursor) => State::Stuck(cursor),
                        },
                    );
                }
                if matches!(reached, Reached::All) {
                    self.count_events(&responses, on_stream.len());
                }
            }
        }
    }

    /// Nobody is live any more: what was not handed out is to be read from history.
    fn all_fall_behind(&mut self) {
        let live =
            |(key, watcher): (&u64, &Watcher)| (watcher.state == State::Live).then_some(*key);
        let keys: Vec<u64> = self.watchers.iter().filter_map(live).collect();
        for key in keys {
            self.leave_state(key);
            if let Some(watcher) = self.watchers.get_mut(&key) {
                watcher.state = State::Behind(self.revision);
                self.behind.insert((self.revision, key));
            }
        }
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
