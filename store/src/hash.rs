//! etcd's hash over the stored history, computed in key order.
//!
//! etcd hashes versions in the order of their revisions, which is the order it stores them in. Here versions stand in
//! the order of their keys. So each version is hashed alone, as it comes, and what remains of it is a `Piece`; the
//! pieces are sorted by revision and joined. That is exact: CRCs are linear.
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

/// One version: where it stands, and the CRC and length of what etcd hashes of it.
struct Piece {
    revision: i64,
    sub: u32,
    crc: u32,
    len: u32,
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
    let pieces = pieces(engine, compacted, revision, goes_on)?;
    Ok(Ok(pieces.map(|pieces| KvHash {
        hash: join(crc32c::crc32c(PREFIX), &pieces),
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

/// The versions that count, in the order of their revisions.
fn pieces(
    engine: &dyn StateEngine,
    compacted: i64,
    revision: i64,
    goes_on: &dyn Fn() -> bool,
) -> Result<Option<Vec<Piece>>, StoreError> {
    let mut chosen = Chosen {
        compacted,
        revision,
        counted: Vec::new(),
        spared: Vec::new(),
        is_any_live: false,
        key: Vec::new(),
        has_newer: false,
        is_settled: false,
    };
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
    let mut pieces = chosen.counted;
    if !chosen.is_any_live {
        // etcd's quirk: with nothing that a compaction would keep, it leaves nothing out.
        pieces.append(&mut chosen.spared);
    }
    pieces.sort_unstable_by_key(|piece| (piece.revision, piece.sub));
    Ok(is_whole.then_some(pieces))
}

/// Chooses the versions that count, while they pass by: key by key, the newest first.
struct Chosen {
    compacted: i64,
    revision: i64,
    counted: Vec<Piece>,
    /// Those that count only if no key is live at `revision`.
    spared: Vec<Piece>,
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
        if found.mod_revision > self.compacted {
            self.has_newer = true;
            self.counted
                .push(self.piece(found.mod_revision, sub, op, encoded)?);
            return Ok(());
        }
        // In force at the compacted revision: older ones are compacted. Of a tombstone etcd counts nothing either,
        // whether a compaction removes it or, at its very revision, keeps it.
        self.is_settled = true;
        if op == Op::Put {
            let piece = self.piece(found.mod_revision, sub, op, encoded)?;
            if is_live {
                self.counted.push(piece);
            } else if !self.is_any_live {
                self.spared.push(piece);
            }
        }
        Ok(())
    }

    /// Hashes a version as etcd stores it: a revision key, then the key-value pair, of which a tombstone has the key.
    fn piece(&self, revision: i64, sub: u32, op: Op, encoded: &[u8]) -> Result<Piece, StoreError> {
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
        Ok(Piece {
            revision,
            sub,
            crc: crc32c::crc32c_append(crc32c::crc32c(head), body),
            len,
        })
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
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

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
                    }
                })
                .collect();
            let joined = join(crc32c::crc32c(PREFIX), &pieces);
            assert_eq!(joined, crc32c::crc32c(&whole));
        }
    }

    #[test]
    fn lengths_beyond_any_table_are_joined_too() {
        let (left, len) = (crc32c::crc32c(b"left"), 3_000_000_007_usize);
        let right = Piece {
            revision: 0,
            sub: 0,
            crc: 7,
            len: u32::try_from(len).unwrap(),
        };
        assert_eq!(join(left, &[right]), crc32c::crc32c_combine(left, 7, len));
    }
}
