//! Children that cannot outlive their parent.
//!
//! A child is started as this program, which asks the kernel for a SIGKILL when the parent dies and then
//! becomes the real program under the same process id. So a child ends even if the parent is killed.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// First word of the command line that means [`become_program`].
pub(crate) const COMMAND: &str = "guarded";

/// A command that starts `program` under guard. The guard watches the *thread* that spawns it: spawn from one
/// that lives as long as the child is needed.
pub(crate) fn command(program: &Path) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("finding this program")?);
    command
        .arg(COMMAND)
        .arg(std::process::id().to_string())
        .arg(program);
    Ok(command)
}

/// The child's side: parent's id, program and its arguments.
pub(crate) fn become_program(words: &[String]) -> Result<()> {
    let [parent, program, arguments @ ..] = words else {
        bail!("{COMMAND} is for internal use")
    };
    set_parent_process_death_signal(Some(Signal::KILL)).context("setting the death signal")?;
    // The parent may have died before the signal was set.
    let found = getppid().map(|pid| pid.as_raw_nonzero().get().to_string());
    if found.as_ref() != Some(parent) {
        bail!("the parent is gone");
    }
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("starting {program}"))
}
