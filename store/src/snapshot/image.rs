//! All items of an engine as one run of bytes: the snapshot of an engine that keeps no files.
//!
//! Items follow each other family by family, in the order of their keys: the family's number, then key and value, each
//! behind its length as a varint.

use std::sync::Arc;

use crate::engine::memory::MemoryEngine;
use crate::engine::{Batch, Family, StateEngine};
use crate::error::StoreError;
use crate::layout::varint;

/// Bytes written to the engine at once.
const BATCH_BYTES: usize = 1 << 20;

/// Appends an item.
pub(crate) fn put_item(out: &mut Vec<u8>, family: Family, key: &[u8], value: &[u8]) {
    varint::put(out, family as u64);
    for bytes in [key, value] {
        varint::put(out, bytes.len() as u64);
        out.extend_from_slice(bytes);
    }
}

/// An engine with these items, all of them flushed.
pub(super) fn read(image: &[u8]) -> Result<Arc<MemoryEngine>, StoreError> {
    let engine = MemoryEngine::new();
    let mut batch = Batch::default();
    let mut rest = image;
    while !rest.is_empty() {
        let (family, key, value) = take_item(&mut rest)
            .ok_or_else(|| StoreError::damaged("the image of a state cannot be read"))?;
        batch.put(
            family,
            |out| out.extend_from_slice(key),
            |out| out.extend_from_slice(value),
        );
        if batch.bytes() > BATCH_BYTES {
            engine.write(&batch)?;
            batch.clear();
        }
    }
    engine.write(&batch)?;
    engine.flush()?;
    Ok(Arc::new(engine))
}

fn take_item<'a>(rest: &mut &'a [u8]) -> Option<(Family, &'a [u8], &'a [u8])> {
    let family = usize::try_from(varint::take(rest)?).ok()?;
    let family = *Family::ALL.get(family)?;
    let mut bytes = || {
        let len = usize::try_from(varint::take(rest)?).ok()?;
        let (bytes, tail) = rest.split_at_checked(len)?;
        *rest = tail;
        Some(bytes)
    };
    Some((family, bytes()?, bytes()?))
}
