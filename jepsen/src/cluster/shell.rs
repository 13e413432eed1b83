//! Other programs, run to their end.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

/// Runs a command line, split at spaces, and returns what it wrote.
pub(crate) fn run(line: &str) -> anyhow::Result<String> {
    run_with_input(line, "")
}

/// The same, with something to read.
pub(crate) fn run_with_input(line: &str, input: &str) -> anyhow::Result<String> {
    let mut words = line.split_whitespace();
    let program = words.next().context("an empty command")?;
    let mut child = Command::new(program)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run `{program}`: install it first"))?;
    let mut stdin = child.stdin.take().context("a pipe")?;
    stdin.write_all(input.as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "`{line}` failed: {}",
        said.trim_end()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs it whatever comes of it: for taking down what may be gone already.
pub(crate) fn try_run(line: &str) {
    let _: anyhow::Result<String> = run(line);
}
