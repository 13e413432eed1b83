//! The `holdfast` binary.

use std::io::{self, Write as _};
use std::process::ExitCode;

use server::config::Invocation;
use server::{dev, dump, recover, resource, snapshot, start, status};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What a command line that is not understood ends with, as etcd's does.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    match Invocation::of_process() {
        Ok(Invocation::Run(config)) => start::run(*config),
        Ok(Invocation::Dump(options)) => dump::run(&options),
        Ok(Invocation::DumpState(options)) => dump::state::run(&options),
        Ok(Invocation::Snapshot(command)) => snapshot::run(&command),
        Ok(Invocation::Recover(options)) => recover::run(&options),
        Ok(Invocation::Status(options)) => status::run(&options),
        Ok(Invocation::Kubeconfig(folder)) => resource::print_kubeconfig(&folder),
        Ok(Invocation::Dev(options)) => dev::run(&options),
        Ok(Invocation::Print(text)) => match io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(error) => {
            let _ = writeln!(
                io::stderr(),
                "holdfast: {error}\nRun 'holdfast --help' for all flags."
            );
            ExitCode::from(USAGE)
        }
    }
}
