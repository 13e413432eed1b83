//! What streams ask for: they open and close, watchers are created and cancelled, progress is asked for.

use std::sync::Arc;
use std::time::Duration;

use store::StoreError;

use super::super::catch_up::Scanned;
use super::super::hub::{Command, Create, Request};
use super::super::outbox::{NoticeKind, Outbox, Refused};
use super::super::wake::Wakers;
use super::super::watcher::{State, StreamState, Watcher};
use super::{Core, Shard};

impl Core {
    pub(super) fn command(&mut self, command: Command, now: Duration) -> Result<(), StoreError> {
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

    pub(super) fn remove(&mut self, place: usize, watch_id: i64) -> bool {
        let Some(key) = self.streams[place].watchers.remove(&watch_id) else {
            return false;
        };
        self.streams[place].set_incomplete();
        self.leave_state(key);
        self.forget(key);
        true
    }

    pub(super) fn forget(&mut self, key: u64) -> Option<Watcher> {
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
    pub(super) fn answer_progress(&mut self) {
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
}
