//! The file format of bbolt, which etcd keeps its state and its snapshots in: reading and bulk writing, no more.
//!
//! A file is pages of equal size. Pages 0 and 1 are *meta* pages: two copies of what leads to everything else, each
//! with a checksum; the valid one of the later transaction counts. All other pages make up B+trees: *branch* pages
//! point to pages by the first key below them, *leaf* pages hold keys and values. A page that needs more room goes on
//! in the ones right behind it (*overflow*). A *bucket* is a tree of its own, named by an item of the tree above it;
//! a small one lies *inline* in the value of that item. The *freelist* names the pages that nothing uses.
//!
//! Numbers are little-endian; the format is that of 64-bit machines, as etcd writes it.

pub mod read;
pub mod write;

use std::io;

/// First field of a meta page.
const MAGIC: u32 = 0xED0C_DAED;
/// The one format there is.
const VERSION: u32 = 2;
/// Id, flags, count and overflow of a page.
const PAGE_HEADER: usize = 16;
/// Of a leaf: flags, position, key length, value length. Of a branch: position, key length, page.
const ELEMENT: usize = 16;
/// The root page of a bucket and its sequence number.
const BUCKET_HEADER: usize = 16;
/// Fields of a meta page that its checksum covers.
const META_SUMMED: usize = 56;
/// A freelist that is not kept in the file.
const NO_FREELIST: u64 = u64::MAX;
/// In place of the count of a freelist page: the count is the first number of the list.
const LONG_FREELIST: u16 = 0xFFFF;
/// Of a leaf's element: its value is a bucket.
const BUCKET_FLAG: u32 = 1;
/// The longest key.
const MAX_KEY: usize = 32 * 1024;

/// What a page holds; the number is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Branch = 0x01,
    Leaf = 0x02,
    Meta = 0x04,
    Freelist = 0x10,
}

/// Why a file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BoltError {
    /// The system failed.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// Not such a file at all.
    #[error("this is not an etcd database: {0}")]
    NotBolt(String),
    /// The file is shorter than it says.
    #[error("the file is cut off: it should have {expected} bytes and has {found}")]
    CutOff {
        /// Bytes that its pages need.
        expected: u64,
        /// Bytes that are there.
        found: u64,
    },
    /// Something in the file cannot be as it is.
    #[error("the file is damaged at page {page}: {what}")]
    Damaged {
        /// The page.
        page: u64,
        /// What is wrong with it.
        what: String,
    },
    /// An item that the format cannot hold, or that is out of order.
    #[error("an item cannot be written: {0}")]
    Unwritable(String),
}

fn read_failed(source: io::Error) -> BoltError {
    BoltError::Io {
        doing: "read the database file",
        source,
    }
}

fn write_failed(source: io::Error) -> BoltError {
    BoltError::Io {
        doing: "write the database file",
        source,
    }
}

/// FNV-1a of 64 bits.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
