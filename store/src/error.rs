//! Faults: local, never an answer. Whoever meets one stops the node.

use std::path::PathBuf;

/// Why the store cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The engine failed to read or write.
    #[error(
        "the state engine failed to {doing}; look at the disk and at the kernel's log (dmesg), then start the node \
         again: what was acknowledged is in the raft log"
    )]
    Engine {
        /// What was attempted.
        doing: &'static str,
        /// What the engine said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The disk is full. Nothing was changed, and the same call may be made again.
    #[error("the state engine found no space to {doing}")]
    OutOfSpace {
        /// What was attempted.
        doing: &'static str,
        /// What the engine said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Stored bytes are not what was written.
    #[error(
        "the state database is damaged{}: {detail}; restore from a snapshot, or remove this member from \
         the cluster and add it again with an empty data folder",
        in_file(.file)
    )]
    Corrupt {
        /// The file, where the engine names it.
        file: Option<String>,
        /// What is wrong with it.
        detail: String,
    },
    /// Another process has the database open.
    #[error("the state database in {} is in use by another process", folder.display())]
    Locked {
        /// Its folder.
        folder: PathBuf,
    },
    /// The database was written by a newer version.
    #[error("the state database has format {found}, this version knows up to {known}")]
    NewerFormat {
        /// The format on disk.
        found: u64,
        /// The newest format known.
        known: u64,
    },
    /// A log entry cannot be understood by this version. Skipping it would let members diverge.
    #[error("log entry {index} needs a newer version: {needs}")]
    UnknownCommand {
        /// The entry's place in the log.
        index: u64,
        /// What is not known.
        needs: Need,
    },
    /// A log entry is not an encoded batch of commands.
    #[error("log entry {index} cannot be decoded")]
    Undecodable {
        /// The entry's place in the log.
        index: u64,
        /// What the decoder said.
        #[source]
        source: prost::DecodeError,
    },
    /// An earlier fault left the machine between two states; it takes no more entries.
    #[error("the state machine stopped at an earlier fault")]
    Stopped,
}

/// What a log entry needs that this version does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Need {
    /// An envelope format.
    #[error("envelope format {0}")]
    Format(u32),
    /// A feature level of the cluster.
    #[error("feature level {0}")]
    FeatureLevel(u32),
    /// The command at this place in the batch.
    #[error("command {0} of the batch")]
    Command(usize),
}

impl StoreError {
    /// Damage found while decoding something stored.
    pub(crate) fn damaged(detail: impl Into<String>) -> Self {
        Self::Corrupt {
            file: None,
            detail: detail.into(),
        }
    }
}

fn in_file(file: &Option<String>) -> String {
    file.as_ref()
        .map(|file| format!(" (file {file})"))
        .unwrap_or_default()
}
