//! `holdfast snapshot`: checks snapshot files, makes data folders of them, and saves them from a running member.

mod file;
mod restore;
mod save;
mod status;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::config::SnapshotCommand;
use crate::logging;

/// How often long work says how far it is.
const SAY_EVERY: Duration = Duration::from_secs(2);

/// Carries out a command; says on standard error why it failed.
pub fn run(command: &SnapshotCommand) -> ExitCode {
    let done = match command {
        SnapshotCommand::Status { file, format } => status::run(file, *format),
        SnapshotCommand::Restore(options) => restore::run(options),
        SnapshotCommand::Save { file, endpoint } => save::run(file, endpoint),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&logging::chain(&*error));
            ExitCode::FAILURE
        }
    }
}

/// What went wrong; the text is for whoever ran the command.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A line on standard error, which may be closed.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "holdfast snapshot: {text}");
}

/// Says how far long work is, now and then.
struct Progress {
    last: Instant,
}

impl Progress {
    fn new() -> Self {
        Self {
            last: Instant::now(),
        }
    }

    fn tell(&mut self, text: impl FnOnce() -> String) {
        if self.last.elapsed() >= SAY_EVERY {
            self.last = Instant::now();
            say(&text());
        }
    }
}
