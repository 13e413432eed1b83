//! Makes the files in `data/` that come from upstream's published ones. `data/README.md` says where these are.

mod enums;
mod protobuf;
mod schemas;

use std::error::Error;
use std::process::ExitCode;

const USAGE: &str = "usage: import schemas <_definitions.json> <folder of a Go module>...\n       import protobuf <folder of a Go module>...";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result: Result<(), Box<dyn Error>> = match arguments[..] {
        ["schemas", source, ref folders @ ..] if !folders.is_empty() => {
            schemas::import(source, folders)
        }
        ["protobuf", ref folders @ ..] if !folders.is_empty() => protobuf::import(folders),
        _ => Err(USAGE.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
