//! What the system grants the process: open files, and how they are shared out, and address space.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Without as many a node cannot work.
const NEEDED: u64 = 128;
/// With fewer it works for a small database and few clients.
const WISHED: u64 = 1024;
/// From here on the database need not count its own.
const PLENTY: u64 = 65_536;
/// For the log, threads, listeners and what is open for a moment.
const OWN: u64 = 64;

/// Address space beside the memory that is budgeted: code, stacks, the allocator's reserves.
const BESIDE: u64 = 256 << 20;

/// The shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFiles {
    /// All of them.
    pub limit: u64,
    /// Tables that the database may keep open; nothing: all there are.
    pub database: Option<i32>,
    /// Connections that may be open.
    pub connections: usize,
}

/// Raises the limit as far as the system allows, and shares it out. Too low a limit is an error that says what to do.
pub fn open_files() -> io::Result<OpenFiles> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some() && current != maximum {
        let raised = Rlimit {
            current: maximum,
            maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "cannot raise the limit of open files as far as the system allows");
        }
    }
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if limit < NEEDED {
        return Err(io::Error::other(format!(
            "this process may have only {limit} files open, and a node needs {NEEDED} or more: run `ulimit -n {WISHED}` \
             first, or set LimitNOFILE={WISHED} in the unit file"
        )));
    }
    if limit < WISHED {
        tracing::warn!(
            limit,
            "few files may be open; with many clients or much data, run `ulimit -n {WISHED}` first, or set \
             LimitNOFILE={WISHED} in the unit file"
        );
    }
    Ok(share(limit))
}

/// Refuses an address space in which the budgeted memory has no room: the database may hang where it gets none.
pub fn address_space(budget: u64) -> io::Result<()> {
    const MIB: u64 = 1 << 20;
    let needed = budget.saturating_add(BESIDE);
    match getrlimit(Resource::As).current {
        Some(limit) if limit < needed => Err(io::Error::other(format!(
            "this process may have only {} MiB of address space, and a node with a memory budget of {} MiB needs {} MiB \
             or more: run `ulimit -v unlimited` first, or give it a smaller --memory-budget",
            limit / MIB,
            budget / MIB,
            needed / MIB,
        ))),
        _ => Ok(()),
    }
}

fn share(limit: u64) -> OpenFiles {
    let half = (limit - OWN) / 2;
    OpenFiles {
        limit,
        database: (limit < PLENTY).then(|| i32::try_from(half).unwrap_or(i32::MAX)),
        connections: usize::try_from(half).unwrap_or(usize::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_stay_below_the_limit() {
        for limit in [NEEDED, WISHED, PLENTY - 1] {
            let shares = share(limit);
            let database = u64::try_from(shares.database.unwrap()).unwrap();
            assert!(database + shares.connections as u64 + OWN <= limit);
            assert!(database >= 32, "{limit}");
        }
        assert_eq!(share(PLENTY).database, None);
        assert_eq!(share(u64::MAX).limit, u64::MAX);
    }
}
