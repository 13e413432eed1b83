//! `holdfast recover`: makes one survivor of a lost majority the only member of a new cluster, with the data it has.
//!
//! It works on the folder of a stopped member. `survey` reads what is there and changes nothing; `report` says what that
//! means and what will be lost; `steps` does it. Decisions, and why:
//!
//! - **Entries behind the last one known to be committed stay.** They may have been acknowledged, and nobody is left who
//!   could say that they were not. To drop them could lose what a client was promised; to keep them can only carry out
//!   what a client asked for and got no answer to, which it must reckon with anyway.
//! - **The cluster id is a new one.** Members tell it in every call and refuse those of another cluster, so an old member
//!   that comes back can neither vote for, follow, nor be followed by the recovered one, whatever its log says. The ids
//!   of the removed members alone would not do: an old majority that comes back does not know that it was removed. The
//!   id has the time in it: two survivors that are both recovered, by mistake, are two clusters, and never one.
//! - **The segments of the log stay as they are**, under the former cluster's id, which the identity remembers. They
//!   cannot all be rewritten in one step.
//! - **The rest is what members do**: the others are removed from the table of members by commands, so that their ids are
//!   never used again, and raft is told of the one voter by a membership entry, both in a term above every other. The
//!   member elects itself at its next start and applies them behind everything before.
//! - **The order of the steps** makes a crash harmless. The identity says first that a recovery has begun, and from then
//!   on no node starts; it says last that it has ended. In between everything can be done again. The membership entry is
//!   the last in the log: without it the log alone would not make a leader either.
//! - **Revisions stay**, so those that are lost are given again. Raising them is what `snapshot restore` does; the report
//!   says when that is better.

mod report;
mod steps;
mod survey;
#[cfg(all(test, feature = "rocksdb"))]
mod tests;

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use crate::config::RecoverOptions;
use crate::data_dir::{DataDirError, Recovering};
use crate::logging;

use self::survey::{Survey, Verdict};

/// What went wrong; the text is for whoever ran the command.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Carries out the command; says on standard error why it failed.
pub fn run(options: &RecoverOptions) -> ExitCode {
    match recover(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(
                io::stderr(),
                "holdfast recover: {}",
                logging::chain(&*error)
            );
            ExitCode::FAILURE
        }
    }
}

fn recover(options: &RecoverOptions) -> Result<(), Failure> {
    let data_dir = &options.data_dir;
    let opened = if options.is_dry_run {
        Recovering::look(data_dir)
    } else {
        Recovering::open(data_dir)
    };
    let mut folder = opened.map_err(|error| match error {
        DataDirError::InUse { path, holder } => Failure::from(format!(
            "{} is in use by {holder}: a member is recovered while it is stopped; stop it first",
            path.display()
        )),
        other => other.into(),
    })?;
    let survey = Survey::of(&folder)?;
    let mut output = io::stdout();
    output.write_all(report::standing(data_dir, &survey).as_bytes())?;
    let work = match survey.verdict()? {
        Verdict::NothingToDo => {
            output.write_all(report::NOTHING.as_bytes())?;
            return Ok(());
        }
        Verdict::Recover(work) => work,
    };
    output.write_all(report::plan(data_dir, &survey, &work).as_bytes())?;
    if options.is_dry_run {
        output.write_all(b"\nThis was a dry run: nothing was changed.\n")?;
        return Ok(());
    }
    if !options.is_agreed {
        ask(&mut output, survey.identity.cluster_id)?;
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.unwrap_or(Duration::ZERO);
    steps::all(&mut folder, &survey, &work, now)?;
    output.write_all(report::done(data_dir, &folder, &survey).as_bytes())?;
    Ok(())
}

/// Has a person agree.
fn ask(output: &mut io::Stdout, cluster_id: u64) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Err(
            "nothing was changed: standard input is no terminal, so nobody can be asked. Run it in a terminal, or give \
             --yes if all that is printed above is wanted"
                .into(),
        );
    }
    write!(
        output,
        "\nTo do this, type yes or the old cluster's id ({cluster_id:x}); anything else ends here: "
    )?;
    output.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if is_agreement(&answer, cluster_id) {
        Ok(())
    } else {
        Err("nothing was changed: it was not agreed to".into())
    }
}

fn is_agreement(answer: &str, cluster_id: u64) -> bool {
    let answer = answer.trim();
    answer.eq_ignore_ascii_case("yes") || answer.eq_ignore_ascii_case(&format!("{cluster_id:x}"))
}
