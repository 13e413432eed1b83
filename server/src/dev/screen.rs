//! What `holdfast dev` shows: sentences, and at a terminal a table below them that is drawn again in place.

use std::io::{self, IsTerminal as _, Write as _};

/// Standard output.
pub(super) struct Screen {
    is_terminal: bool,
    /// Lines of the table that are on the screen.
    drawn: usize,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self {
            is_terminal: io::stdout().is_terminal(),
            drawn: 0,
        }
    }

    /// Whether a table can be drawn.
    pub(super) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// A text that stays, above the table.
    pub(super) fn say(&mut self, text: &str) {
        let erased = self.erased();
        write(&format!("{erased}{text}\n"));
    }

    /// The table, in place of the one before.
    pub(super) fn draw(&mut self, lines: &[String]) {
        let mut text = self.erased();
        // A line that is too long would be wrapped, and the next drawing begin at the wrong one.
        text.push_str("\x1b[?7l");
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        text.push_str("\x1b[?7h");
        write(&text);
        self.drawn = lines.len();
    }

    /// What takes the table away, and the letters that a key left there (`^C`).
    fn erased(&mut self) -> String {
        match std::mem::take(&mut self.drawn) {
            0 => String::new(),
            lines => format!("\r\x1b[{lines}A\x1b[J"),
        }
    }
}

/// The nodes run whether anybody looks on or not.
fn write(text: &str) {
    let mut stdout = io::stdout();
    let _ = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
}
