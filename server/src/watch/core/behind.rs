//! Watchers that are behind: brought forward from the ring or from history, or cancelled if compaction was faster.

use std::sync::Arc;

use store::StoreError;

use super::super::catch_up::{HISTORY_WINDOW, Job, Of, SCAN_REVISIONS, Scan, Told};
use super::super::watcher::{State, Watcher};
use super::{Core, Reached, stage};

impl Core {
    /// Brings watchers forward that are behind: from the ring here, from history by the other worker.
    pub(super) fn catch_up(&mut self) -> Result<bool, StoreError> {
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
    pub(super) fn scan_again(&mut self, key: u64) {
        if let Some(State::Scanning(cursor)) = self.watchers.get(&key).map(|watcher| watcher.state)
        {
            self.set_state(key, State::Behind(cursor));
        }
    }

    /// Hands out what a scan up to `up_to` found.
    pub(super) fn tell(&mut self, told: Vec<Told>, up_to: i64) {
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
    pub(super) fn all_fall_behind(&mut self) {
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
}
