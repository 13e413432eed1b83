//! Sorting versions by revision with bounded memory: full buffers go to a temporary file as sorted runs, which are
//! merged.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Revision, sub-revision, flag and length before the bytes of a version in a run.
const HEAD: usize = 8 + 4 + 1 + 4;

/// A version: its place in history, and what is stored of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version<'a> {
    pub(super) revision: i64,
    pub(super) sub: u32,
    pub(super) is_deletion: bool,
    pub(super) encoded: &'a [u8],
}

/// Takes versions in any order.
pub(super) struct Sorter<'f> {
    file: &'f File,
    limit: usize,
    bytes: Vec<u8>,
    places: Vec<Place>,
    runs: Vec<Run<'f>>,
    end: u64,
}

struct Place {
    revision: i64,
    sub: u32,
    is_deletion: bool,
    at: usize,
    len: u32,
}

/// A sorted part of the file, and what of it is in memory.
struct Run<'f> {
    file: &'f File,
    next: u64,
    end: u64,
    buffer: Vec<u8>,
    at: usize,
}

impl<'f> Sorter<'f> {
    /// Uses `file`, which is empty, for what does not fit into `limit` bytes.
    pub(super) fn new(file: &'f File, limit: usize) -> Self {
        Self {
            file,
            limit,
            bytes: Vec::new(),
            places: Vec::new(),
            runs: Vec::new(),
            end: 0,
        }
    }

    pub(super) fn push(&mut self, version: Version<'_>) -> io::Result<()> {
        let Version {
            revision,
            sub,
            is_deletion,
            encoded,
        } = version;
        let len = u32::try_from(encoded.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        if self.memory() + encoded.len() > self.limit && !self.places.is_empty() {
            self.spill()?;
        }
        let at = self.bytes.len();
        self.bytes.extend_from_slice(encoded);
        self.places.push(Place {
            revision,
            sub,
            is_deletion,
            at,
            len,
        });
        Ok(())
    }

    fn memory(&self) -> usize {
        self.bytes.len() + self.places.len() * size_of::<Place>()
    }

    fn sort(&mut self) {
        self.places
            .sort_unstable_by_key(|place| (place.revision, place.sub));
    }

    fn spill(&mut self) -> io::Result<()> {
        self.sort();
        let from = self.end;
        let mut buffer = Vec::with_capacity(1 << 20);
        for place in &self.places {
            buffer.extend_from_slice(&place.revision.to_be_bytes());
            buffer.extend_from_slice(&place.sub.to_be_bytes());
            buffer.push(place.is_deletion.into());
            buffer.extend_from_slice(&place.len.to_be_bytes());
            buffer.extend_from_slice(&self.bytes[place.at..place.at + place.len as usize]);
            if buffer.len() >= 1 << 20 {
                self.file.write_all_at(&buffer, self.end)?;
                self.end += buffer.len() as u64;
                buffer.clear();
            }
        }
        self.file.write_all_at(&buffer, self.end)?;
        self.end += buffer.len() as u64;
        self.runs.push(Run {
            file: self.file,
            next: from,
            end: self.end,
            buffer: Vec::new(),
            at: 0,
        });
        self.places.clear();
        self.bytes.clear();
        Ok(())
    }

    /// Gives all versions back, sorted; ends early with the visitor's error.
    pub(super) fn finish<E: From<io::Error>>(
        mut self,
        mut visit: impl FnMut(Version<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.runs.is_empty() {
            self.sort();
            return self.places.iter().try_for_each(|place| {
                visit(Version {
                    revision: place.revision,
                    sub: place.sub,
                    is_deletion: place.is_deletion,
                    encoded: &self.bytes[place.at..place.at + place.len as usize],
                })
            });
        }
        self.spill()?;
        (self.bytes, self.places) = Default::default();
        let share = (self.limit / self.runs.len()).clamp(4 << 10, 1 << 20);
        let mut heads = BinaryHeap::new();
        for (place, run) in self.runs.iter_mut().enumerate() {
            heads.extend(run.head(share)?.map(|head| Reverse((head, place))));
        }
        while let Some(Reverse((_, place))) = heads.pop() {
            let run = &mut self.runs[place];
            visit(run.take(share)?)?;
            heads.extend(run.head(share)?.map(|head| Reverse((head, place))));
        }
        Ok(())
    }
}

impl Run<'_> {
    /// Revision and sub-revision of the next version, if there is one.
    fn head(&mut self, share: usize) -> io::Result<Option<(u64, u32)>> {
        if self.at == self.buffer.len() && self.next == self.end {
            return Ok(None);
        }
        self.need(HEAD, share)?;
        Ok(Some((
            be64(&self.buffer[self.at..]),
            be32(&self.buffer[self.at + 8..]),
        )))
    }

    fn take(&mut self, share: usize) -> io::Result<Version<'_>> {
        self.need(HEAD, share)?;
        let len = be32(&self.buffer[self.at + 13..]) as usize;
        self.need(HEAD + len, share)?;
        let head = &self.buffer[self.at..];
        self.at += HEAD + len;
        Ok(Version {
            revision: be64(head).cast_signed(),
            sub: be32(&head[8..]),
            is_deletion: head[12] != 0,
            encoded: &head[HEAD..HEAD + len],
        })
    }

    /// Has the next so many bytes in memory.
    fn need(&mut self, bytes: usize, share: usize) -> io::Result<()> {
        let have = self.buffer.len() - self.at;
        if have >= bytes {
            return Ok(());
        }
        self.buffer.drain(..self.at);
        self.at = 0;
        let left = usize::try_from(self.end - self.next).unwrap_or(usize::MAX);
        let more = bytes.max(share).saturating_sub(have).min(left);
        // Not more than that: what one large version took would stay taken, in each of the runs.
        self.buffer.shrink_to(have + more);
        self.buffer.reserve_exact(more);
        self.buffer.resize(have + more, 0);
        self.file
            .read_exact_at(&mut self.buffer[have..], self.next)?;
        self.next += more as u64;
        if have + more < bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

fn be64(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .take(8)
        .fold(0, |number, &byte| number << 8 | u64::from(byte))
}

fn be32(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .take(4)
        .fold(0, |number, &byte| number << 8 | u32::from(byte))
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::seq::SliceRandom as _;
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn a_run_gives_the_memory_of_a_large_version_back() {
        const SHARE: usize = 4 << 10;
        let file = tempfile::tempfile().unwrap();
        let mut sorter = Sorter::new(&file, 1 << 30);
        for revision in 0..100 {
            let large = revision % 10 == 5;
            let encoded = vec![7; if large { 1 << 20 } else { 100 }];
            sorter
                .push(Version {
                    revision,
                    sub: 0,
                    is_deletion: false,
                    encoded: &encoded,
                })
                .unwrap();
        }
        sorter.spill().unwrap();
        let run = &mut sorter.runs[0];
        let mut taken = 0;
        while run.head(SHARE).unwrap().is_some() {
            assert!(run.buffer.capacity() <= SHARE, "behind {taken} versions");
            run.take(SHARE).unwrap();
            taken += 1;
        }
        assert_eq!(taken, 100);
    }

    #[test]
    fn versions_come_back_in_order_whether_they_fit_or_not() {
        eprintln!("seed 71");
        let mut random = StdRng::seed_from_u64(71);
        let mut versions: Vec<(i64, u32, bool, Vec<u8>)> = (0..3000_i64)
            .map(|place| {
                let len = random.random_range(0..if place % 500 == 0 { 20_000 } else { 50 });
                (
                    place / 3,
                    u32::try_from(place % 3).unwrap(),
                    place % 7 == 0,
                    vec![7; len],
                )
            })
            .collect();
        let expected = versions.clone();
        versions.shuffle(&mut random);
        for limit in [500, 10_000, 50_000, 10 << 20] {
            let file = tempfile::tempfile().unwrap();
            let mut sorter = Sorter::new(&file, limit);
            for (revision, sub, is_deletion, encoded) in &versions {
                let (revision, sub, is_deletion) = (*revision, *sub, *is_deletion);
                sorter
                    .push(Version {
                        revision,
                        sub,
                        is_deletion,
                        encoded,
                    })
                    .unwrap();
            }
            assert_eq!(sorter.runs.is_empty(), limit == 10 << 20);
            let mut found = Vec::new();
            let done: io::Result<()> = sorter.finish(|version| {
                found.push((
                    version.revision,
                    version.sub,
                    version.is_deletion,
                    version.encoded.to_vec(),
                ));
                Ok(())
            });
            done.unwrap();
            assert!(found == expected, "limit {limit}");
        }
    }
}
