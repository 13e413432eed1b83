//! Why the log could not be opened, read or written.

use std::fmt;
use std::io;

/// A fault of the log. Whoever meets one stops the node.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file system refused.
    #[error(
        "cannot {doing} {file}; look at the disk and at the kernel's log (dmesg), then start the node again"
    )]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// On which file.
        file: String,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// Bytes that were synced are not what was written.
    #[error(
        "the raft log is damaged in {file} at byte {offset}: {what}. It was synced, so entries that were \
         acknowledged may be lost with it, and nothing was changed. Look at it with `holdfast dump`, then remove \
         this member from the cluster and add it again with an empty data folder, or restore from a snapshot"
    )]
    Damaged {
        /// The segment.
        file: String,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// A segment is gone.
    #[error(
        "the raft log is incomplete: {file} is missing, and its entries are still needed. Put it back, or remove \
         this member from the cluster and add it again with an empty data folder, or restore from a snapshot"
    )]
    Missing {
        /// The segment.
        file: String,
    },
    /// A newer version wrote the log.
    #[error(
        "{file} has log format {found}, this version knows up to {known}: start the newer version again"
    )]
    NewerFormat {
        /// The segment.
        file: String,
        /// Its format.
        found: u32,
        /// The newest format known.
        known: u32,
    },
    /// The log is somebody else's.
    #[error(
        "{file} belongs to member {found_member:x} of cluster {found_cluster:x}, but this is member {member:x} of \
         cluster {cluster:x}: wrong data folder, or changed cluster flags"
    )]
    Foreign {
        /// The segment.
        file: String,
        /// The cluster in its header.
        found_cluster: u64,
        /// The member in its header.
        found_member: u64,
        /// This cluster.
        cluster: u64,
        /// This member.
        member: u64,
    },
    /// An entry is not in the log: purged, truncated or not appended yet.
    #[error("entry {index} is not in the log, which holds {first} up to and without {end}")]
    Absent {
        /// What was asked for.
        index: u64,
        /// The first entry there is.
        first: u64,
        /// One behind the last.
        end: u64,
    },
    /// An earlier write failed; the log takes no more.
    #[error("the raft log stopped at an earlier fault")]
    Stopped(#[source] io::Error),
}

/// The end of the log that a crash left unfinished, and that was cut. Nothing in it was ever acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The segment.
    pub file: String,
    /// Where it was cut.
    pub offset: u64,
    /// How many bytes were dropped.
    pub bytes: u64,
    /// Why the first of them is no record.
    pub what: String,
}

impl fmt::Display for TornTail {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            offset,
            bytes,
            what,
        } = self;
        write!(
            formatter,
            "cut {bytes} unfinished bytes off {file} at byte {offset}: {what}"
        )
    }
}
