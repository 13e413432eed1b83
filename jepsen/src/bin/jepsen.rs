//! `jepsen`: runs real clusters under faults and checks what they told; see `docs/jepsen.md`.

use std::process::ExitCode;

fn main() -> ExitCode {
    jepsen::cluster::command::main(std::env::args().skip(1).collect())
}
