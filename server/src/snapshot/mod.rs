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

/// A number of bytes as etcd's tools print it: powers of ten, two digits below ten.
fn human(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let mut unit = 0;
    let mut whole = bytes;
    let mut scale: u64 = 1;
    while whole >= 1000 {
        whole /= 1000;
        scale *= 1000;
        unit += 1;
    }
    // Rounded half up to a tenth; u128, or the largest numbers overflow.
    let tenths = (u128::from(bytes) * 10 + u128::from(scale) / 2) / u128::from(scale);
    if tenths < 100 && unit > 0 {
        format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
    } else {
        // As Go prints it: a half goes to the even number.
        let (whole, rest) = (tenths / 10, tenths % 10);
        let is_up = rest > 5 || (rest == 5 && whole % 2 == 1);
        format!("{} {}", whole + u128::from(is_up), UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_printed_as_etcds_tools_do() {
        for (bytes, text) in [
            (0, "0 B"),
            (9, "9 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (9949, "9.9 kB"),
            (20_480, "20 kB"),
            (21_520, "22 kB"),
            (45_056, "45 kB"),
            (1_234_567, "1.2 MB"),
            (u64::MAX, "18 EB"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }
}
