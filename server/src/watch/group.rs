//! Live watchers, grouped by what they want: a thousand watchers of one prefix are matched once.

use std::collections::HashMap;
use std::sync::Arc;

use slab::Slab;

use super::frame::Batch;
use super::index::Index;
use super::interest::Interest;

/// All live watchers with one interest.
pub(super) struct Group {
    pub(super) interest: Arc<Interest>,
    /// In order of their streams.
    pub(super) members: Vec<Member>,
    /// Events of the batch at hand that lie in the range.
    hits: Vec<usize>,
}

/// Those of them that are on one stream.
pub(super) struct Member {
    pub(super) stream: usize,
    pub(super) watch_ids: Arc<Vec<i64>>,
    /// Whether they were sent anything since the stream's last progress tick.
    pub(super) was_sent: bool,
}

/// All groups.
#[derive(Default)]
pub(super) struct Groups {
    groups: Slab<Group>,
    by_interest: HashMap<Arc<Interest>, usize>,
    index: Index,
}

impl Groups {
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    pub(super) fn get(&mut self, number: usize) -> &mut Group {
        &mut self.groups[number]
    }

    /// Adds a watcher. Gives the group's copy of the interest, so that its members keep only that one.
    pub(super) fn join(
        &mut self,
        interest: &Arc<Interest>,
        stream: usize,
        watch_id: i64,
    ) -> Arc<Interest> {
        let number = match self.by_interest.get(interest) {
            Some(number) => *number,
            None => {
                let group = Group {
                    interest: interest.clone(),
                    members: Vec::new(),
                    hits: Vec::new(),
                };
                let number = self.groups.insert(group);
                self.by_interest.insert(interest.clone(), number);
                self.index.insert(&interest.range, number);
                number
            }
        };
        let Group {
            interest, members, ..
        } = &mut self.groups[number];
        match members.binary_search_by_key(&stream, |member| member.stream) {
            Ok(place) => Arc::make_mut(&mut members[place].watch_ids).push(watch_id),
            Err(place) => {
                let watch_ids = Arc::new(vec![watch_id]);
                members.insert(
                    place,
                    Member {
                        stream,
                        watch_ids,
                        was_sent: false,
                    },
                );
            }
        }
        interest.clone()
    }

    /// Takes a watcher out.
    pub(super) fn leave(&mut self, interest: &Interest, stream: usize, watch_id: i64) {
        self.change_member(interest, stream, |watch_ids| {
            Arc::make_mut(watch_ids).retain(|known| *known != watch_id);
        });
    }

    /// Takes all watchers of a stream out of a group, and says which they were.
    pub(super) fn leave_all(&mut self, interest: &Interest, stream: usize) -> Arc<Vec<i64>> {
        let mut all = Arc::default();
        self.change_member(interest, stream, |watch_ids| {
            all = std::mem::take(watch_ids)
        });
        all
    }

    /// The watchers of an interest on a stream.
    pub(super) fn member(&mut self, interest: &Interest, stream: usize) -> Option<&mut Member> {
        let members = &mut self.groups[*self.by_interest.get(interest)?].members;
        let place = members
            .binary_search_by_key(&stream, |member| member.stream)
            .ok()?;
        members.get_mut(place)
    }

    /// Finds the events of each group. Appends the numbers of groups that have any to `touched`.
    pub(super) fn find(&mut self, batch: &Batch<'_>, touched: &mut Vec<usize>) {
        let Self { groups, index, .. } = self;
        for (event, key) in batch.keys().enumerate() {
            index.for_each(key, |number| {
                let hits = &mut groups[number].hits;
                if hits.is_empty() {
                    touched.push(number);
                }
                hits.push(event);
            });
        }
    }

    /// What [`Groups::find`] found for a group; to be given back to [`Groups::reuse`].
    pub(super) fn take_hits(&mut self, number: usize) -> Vec<usize> {
        std::mem::take(&mut self.groups[number].hits)
    }

    /// Keeps a small list for the next batch, so that a busy group does not allocate.
    pub(super) fn reuse(&mut self, number: usize, mut hits: Vec<usize>) {
        if hits.capacity() <= 16 {
            hits.clear();
            self.groups[number].hits = hits;
        }
    }

    fn change_member(
        &mut self,
        interest: &Interest,
        stream: usize,
        change: impl FnOnce(&mut Arc<Vec<i64>>),
    ) {
        let Some(&number) = self.by_interest.get(interest) else {
            return;
        };
        let members = &mut self.groups[number].members;
        let Ok(place) = members.binary_search_by_key(&stream, |member| member.stream) else {
            return;
        };
        change(&mut members[place].watch_ids);
        if !members[place].watch_ids.is_empty() {
            return;
        }
        members.remove(place);
        if members.is_empty() {
            self.groups.remove(number);
            self.by_interest.remove(interest);
            self.index.remove(&interest.range, number);
        }
    }
}
