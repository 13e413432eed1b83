//! etcd's hash over the stored history, computed in key order.
//!
//! etcd hashes versions in the order of their revisions, which is the order it stores them in. Here versions stand in
//! the order of their keys. So each version is hashed alone, as it comes, and what remains of it is a `Piece`; the
//! pieces are sorted by revision and joined. That is exact: CRCs are linear. A history of more pieces than there is
//! room for is gone through again and again, each time for the next ones: time grows with it then, and memory does not.
//!
//! What is hashed depends on the revisions alone, never on how far a member has come in freeing compacted versions.

use std::collections::HashMap;

use crate::answer::Refusal;
use crate::engine::{Family, StateEngine, Step};
use crate::error::StoreError;
use crate::layout::{self, Op};
use crate::reader::View;

/// A hash, and what it is a hash of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvHash {
    /// CRC-32C.
    pub hash: u32,
    /// Versions up to here count only as far as a compaction would keep them; -1 when nothing was compacted yet.
    pub compact_revision: i64,
    /// Versions up to here count.
    pub revision: i64,
}

/// What etcd's hash begins with: the name of the bucket.
const PREFIX: &[u8] = b"key";

/// Pieces that there is room for: 48 MiB of them. A power of two, so that a vector grows to just that.
const ROOM: usize = 1 << 21;

/// Revision and sub-revision.
type Place = (i64, u32);

/// One version: where it stands, and the CRC and length of what etcd hashes of it.
struct Piece {
    revision: i64,
    sub: u32,
    crc: u32,
    len: u32,
    /// It counts only if no key is live.
    is_spared: bool,
}

impl Piece {
    fn place(&self) -> Place {
        (self.revision, self.sub)
    }
}

/// The pieces behind a place, as many of the first ones as there is room for.
struct Window {
    /// Nothing up to here belongs to it.
    from: Option<Place>,
    /// Nothing behind this does; none while all has fitted in.
    to: Option<Place>,
    pieces: Vec<Piece>,
    room: usize,
}

impl Window {
    fn takes(&self, place: Place) -> bool {
        self.from.is_none_or(|from| place > from) && self.to.is_none_or(|to| place <= to)
    }

    fn push(&mut self, piece: Piece) {
        self.pieces.push(piece);
        if self.pieces.len() >= self.room {
            // A quarter goes, so that it has not to be done again soon.
            let kept = (self.room / 4 * 3).max(1);
            let (_, last, _) = self
                .pieces
                .select_nth_unstable_by_key(kept - 1, Piece::place);
            self.to = Some(last.place());
            self.pieces.truncate(kept);
        }
    }
}

/// Hashes the history up to `asked`, by etcd's rules; 0 is the newest revision. None if `goes_on` says no meanwhile.
///
/// Revisions from `compacted` on can be read, and whoever calls sees to it that they stay so meanwhile.
pub(crate) fn kv(
    engine: &dyn StateEngine,
    view: &View,
    compacted: i64,
    asked: i64,
    goes_on: &dyn Fn() -> bool,
) -> Result<Result<Option<KvHash>, Refusal>, StoreError> {
    if asked > view.revision {
        return Ok(Err(Refusal::FutureRevision {
            requested: asked,
            current: view.revision,
        }));
    }
    let revision = if asked == 0 { view.revision } else { asked };
    // Below zero there is nothing to hash, and etcd says so without complaint.
    if revision >= 0 && revision < compacted {
        return Ok(Err(Refusal::Compacted {
            requested: revision,
            compacted,
        }));
    }
    let hash = history(engine, compacted, revision, ROOM, goes_on)?;
    Ok(Ok(hash.map(|hash| KvHash {
        hash,
        compact_revision: compacted,
        revision,
    })))
}

/// Hashes what every member holds alike: the history as [`kv`] does, and the family that the index is made from.
pub(crate) fn whole(
    engine: &dyn StateEngine,
    view: &View,
    compacted: i64,
    goes_on: &dyn Fn() -> bool,
) -> Result<Option<u32>, StoreError> {
    let Ok(Some(history)) = kv(engine, view, compacted, 0, goes_on)? else {
        return Ok(None);
    };
    let mut crc = crc32c::crc32c(layout::name(Family::Kv).as_bytes());
    crc = crc32c::crc32c_append(crc, &history.hash.to_be_bytes());
    crc = crc32c::crc32c_append(crc, layout::name(Family::Tip).as_bytes());
    let mut is_whole = true;
    engine.scan_once(Family::Tip, &[], None, &mut |key, value, _| {
        is_whole = goes_on();
        if !is_whole {
            return Step::Stop;
        }
        crc = crc32c::crc32c_append(crc, key);
        crc = crc32c::crc32c_append(crc, value);
        Step::Next
    })?;
    Ok(is_whole.then_some(crc))
}

/// The hash of the versions that count, with room for so many pieces.
fn history(
    engine: &dyn StateEngine,
    compacted: i64,
    revision: i64,
    room: usize,
    goes_on: &dyn Fn() -> bool,
) -> Result<Option<u32>, StoreError> {
    let mut chosen = Chosen {
        compacted,
        revision,
        window: Window {
            from: None,
            to: None,
            pieces: Vec::new(),
            room,
        },
        is_any_live: false,
        key: Vec::new(),
        has_newer: false,
        is_settled: false,
    };
    let mut crc = crc32c::crc32c(PREFIX);
    loop {
        if !gather(engine, &mut chosen, goes_on)? {
            return Ok(None);
        }
        let window = &mut chosen.window;
        window.pieces.sort_unstable_by_key(Piece::place);
        crc = join(crc, &window.pieces);
        // Whatever is written, swept or rewritten meanwhile, the next pass sees the same versions of these revisions.
        window.pieces.clear();
        match window.to.take() {
            None => return Ok(Some(crc)),
            last => window.from = last,
        }
    }
}

/// Goes through all versions for the pieces of the window; false if it was ended early.
fn gather(
    engine: &dyn StateEngine,
    chosen: &mut Chosen,
    goes_on: &dyn Fn() -> bool,
) -> Result<bool, StoreError> {
    chosen.key.clear();
    (chosen.has_newer, chosen.is_settled) = (false, false);
    let (mut fault, mut is_whole) = (None, true);
    engine.scan_once(Family::Kv, &[], None, &mut |key, value, _| {
        is_whole = goes_on();
        if !is_whole {
            return Step::Stop;
        }
        match chosen.visit(key, value) {
            Ok(()) => Step::Next,
            Err(error) => {
                fault = Some(error);
                Step::Stop
            }
        }
    })?;
    if let Some(fault) = fault {
        return Err(fault);
    }
    if chosen.is_any_live {
        // Else they stay, which is etcd's quirk: with nothing that a compaction would keep, it leaves nothing out.
        chosen.window.pieces.retain(|piece| !piece.is_spared);
    }
    Ok(is_whole)
}

/// Chooses the versions that count, while they pass by: key by key, the newest first.
struct Chosen {
    compacted: i64,
    revision: i64,
    window: Window,
    /// Whether a key is live at `revision`, as far as is known.
    is_any_live: bool,
    /// The escaped key at hand.
    key: Vec<u8>,
    /// It has a version that counts already.
    has_newer: bool,
    /// Of the older ones none counts.
    is_settled: bool,
}

impl Chosen {
    fn visit(&mut self, stored_key: &[u8], stored: &[u8]) -> Result<(), StoreError> {
        let found = layout::split_kv_key(stored_key)?;
        if found.escaped != self.key {
            self.key.clear();
            self.key.extend_from_slice(found.escaped);
            (self.has_newer, self.is_settled) = (false, false);
        }
        if found.mod_revision > self.revision || self.is_settled {
            return Ok(());
        }
        let (op, sub, encoded) = layout::kv_parts(stored)?;
        // The first one at or below the revision is in force there.
        let is_live = op == Op::Put && !self.has_newer;
        self.is_any_live |= is_live;
        let place = (found.mod_revision, sub);
        if found.mod_revision > self.compacted {
            self.has_newer = true;
            return self.take(place, op, encoded, false);
        }
        // In force at the compacted revision: older ones are compacted. Of a tombstone etcd counts nothing either,
        // whether a compaction removes it or, at its very revision, keeps it.
        self.is_settled = true;
        if op == Op::Put && (is_live || !self.is_any_live) {
            self.take(place, op, encoded, !is_live)?;
        }
        Ok(())
    }

    /// Hashes a version as etcd stores it: a revision key, then the key-value pair, of which a tombstone has the key.
    fn take(
        &mut self,
        place: Place,
        op: Op,
        encoded: &[u8],
        is_spared: bool,
    ) -> Result<(), StoreError> {
        if !self.window.takes(place) {
            return Ok(());
        }
        let (revision, sub) = place;
        let mut head = [b'_'; 18];
        head[..8].copy_from_slice(&revision.to_be_bytes());
        head[9..17].copy_from_slice(&u64::from(sub).to_be_bytes());
        let (head, body) = match op {
            Op::Put => (&head[..17], encoded),
            Op::Delete => {
                head[17] = b't';
                (&head[..], layout::encoded_key_field(encoded)?)
            }
        };
        let len = u32::try_from(head.len() + body.len()).map_err(|_| {
            StoreError::damaged("a version in family kv is longer than any request")
        })?;
        self.window.push(Piece {
            revision,
            sub,
            crc: crc32c::crc32c_append(crc32c::crc32c(head), body),
            len,
            is_spared,
        });
        Ok(())
    }
}

/// The CRC of everything behind each other.
fn join(prefix: u32, pieces: &[Piece]) -> u32 {
    let mut powers = HashMap::new();
    pieces.iter().fold(prefix, |crc, piece| {
        let power = *powers
            .entry(piece.len)
            .or_insert_with(|| power_of_x(u64::from(piece.len) * 8));
        multiply(power, crc) ^ piece.crc
    })
}

/// CRC-32C's polynomial; the highest bit stands for the lowest power.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// The number one, in the same order of bits.
const ONE: u32 = 1 << 31;

/// The product modulo the polynomial.
fn multiply(left: u32, mut right: u32) -> u32 {
    let mut product = 0;
    let mut bit = ONE;
    while bit != 0 {
        // No branches: which bits are set cannot be foretold.
        product ^= right & 0u32.wrapping_sub(u32::from(left & bit != 0));
        right = (right >> 1) ^ (POLYNOMIAL & 0u32.wrapping_sub(right & 1));
        bit >>= 1;
    }
    product
}

/// x to this power, modulo the polynomial.
fn power_of_x(mut exponent: u64) -> u32 {
    let (mut power, mut square) = (ONE, ONE >> 1);
    while exponent != 0 {
        if exponent & 1 != 0 {
            power = multiply(power, square);
        }
        square = multiply(square, square);
        exponent >>= 1;
    }
    power
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use rand::rngs::StdRng;
    use rand::seq::SliceRandom as _;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::engine::Batch;
    use crate::engine::memory::MemoryEngine;
    use crate::record::{Fields, Record};

    #[test]
    fn joined_pieces_have_the_crc_of_the_whole() {
        eprintln!("seed 31");
        let mut random = StdRng::seed_from_u64(31);
        for _ in 0..200 {
            let mut whole = PREFIX.to_vec();
            let pieces: Vec<Piece> = (0..random.random_range(0..20))
                .map(|revision| {
                    let len = random.random_range(0..400);
                    let part: Vec<u8> = (0..len).map(|_| random.random()).collect();
                    whole.extend_from_slice(&part);
                    Piece {
                        revision,
                        sub: 0,
                        crc: crc32c::crc32c(&part),
                        len: u32::try_from(len).unwrap(),
                        is_spared: false,
                    }
                })
                .collect();
            let joined = join(crc32c::crc32c(PREFIX), &pieces);
            assert_eq!(joined, crc32c::crc32c(&whole));
        }
    }

    /// Versions of some keys, or of one, of which the last ones are deletions or not.
    fn engine_of(random: &mut StdRng, is_live: bool) -> (MemoryEngine, i64) {
        let engine = MemoryEngine::new();
        let mut batch = Batch::default();
        let (mut revision, mut sub) = (2, 0);
        let keys = random.random_range(1..9_u8);
        for round in 0..60_u8 {
            let is_last = round >= 48;
            // At the end it is each one's turn.
            let key = if is_last {
                round % keys
            } else {
                random.random_range(0..keys)
            };
            let key = [b'a' + key];
            let op = if is_last && !is_live || random.random_bool(0.2) {
                Op::Delete
            } else {
                Op::Put
            };
            let fields = Fields {
                key: &key,
                create_revision: 2,
                mod_revision: revision,
                version: 1,
                value: &vec![round; random.random_range(0..40)],
                lease: 0,
            };
            let record = match op {
                Op::Put => Record::new(&fields),
                Op::Delete => Record::tombstone(&mut Vec::new(), &key, revision),
            };
            batch.put(
                Family::Kv,
                |out| layout::put_kv_key(out, &key, revision),
                |out| layout::put_kv_value(out, op, sub, &record),
            );
            if is_last || random.random_bool(0.5) {
                (revision, sub) = (revision + 1, 0);
            } else {
                sub += 1;
            }
        }
        engine.write(&batch).unwrap();
        (engine, revision)
    }

    #[test]
    fn with_room_for_a_few_pieces_the_hash_is_the_same() {
        eprintln!("seed 32");
        let mut random = StdRng::seed_from_u64(32);
        let mut passes = 0;
        for round in 0..60 {
            let (engine, newest) = engine_of(&mut random, round % 2 == 0);
            for compacted in [-1, 2, newest / 2, newest] {
                let revision = random.random_range(compacted.max(1)..=newest);
                let hash = |room| {
                    let counted = Cell::new(0);
                    let goes_on = || {
                        counted.set(counted.get() + 1);
                        true
                    };
                    let hash = history(&engine, compacted, revision, room, &goes_on).unwrap();
                    (hash.unwrap(), counted.get())
                };
                let (expected, visited) = hash(ROOM);
                for room in [1, 2, 3, 7, 20] {
                    let (found, visits) = hash(room);
                    assert_eq!(found, expected, "{round} {compacted} {revision} {room}");
                    passes += visits / visited;
                }
                let stopped = history(&engine, compacted, revision, 3, &|| false).unwrap();
                assert_eq!(stopped, None);
            }
        }
        assert!(passes > 60 * 4 * 5 * 4, "{passes} passes");
    }

    #[test]
    fn a_window_never_holds_more_than_it_has_room_for() {
        eprintln!("seed 33");
        let mut random = StdRng::seed_from_u64(33);
        let mut places: Vec<Place> = (0..1000)
            .map(|place| (place / 3, u32::try_from(place % 3).unwrap()))
            .collect();
        places.shuffle(&mut random);
        let mut window = Window {
            from: Some((10, 1)),
            to: None,
            pieces: Vec::new(),
            room: 64,
        };
        for &place in &places {
            if window.takes(place) {
                window.push(Piece {
                    revision: place.0,
                    sub: place.1,
                    crc: 0,
                    len: 0,
                    is_spared: false,
                });
            }
            assert!(window.pieces.len() < 64 && window.pieces.capacity() <= 64);
        }
        places.sort_unstable();
        let held = window.pieces.len();
        assert!(held >= 48);
        window.pieces.sort_unstable_by_key(Piece::place);
        let found = window.pieces.iter().map(Piece::place);
        assert!(
            found.eq(places
                .iter()
                .copied()
                .filter(|&place| place > (10, 1))
                .take(held))
        );
        assert_eq!(window.to, window.pieces.last().map(Piece::place));
    }

    #[test]
    fn lengths_beyond_any_table_are_joined_too() {
        let (left, len) = (crc32c::crc32c(b"left"), 3_000_000_007_usize);
        let right = Piece {
            revision: 0,
            sub: 0,
            crc: 7,
            len: u32::try_from(len).unwrap(),
            is_spared: false,
        };
        assert_eq!(join(left, &[right]), crc32c::crc32c_combine(left, 7, len));
    }
}
