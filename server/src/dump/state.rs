//! `holdfast dump state`: prints the database of a node that is not running, for people or as JSON.
//!
//! Values are told by their length unless asked for: they may be secrets.

use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::config::DumpStateOptions;
use crate::data_dir;

/// Prints a database to standard output. Fails if it cannot be read, is damaged or in use.
pub fn run(options: &DumpStateOptions) -> ExitCode {
    match print(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            let _ = writeln!(io::stderr(), "holdfast dump state: {text}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(feature = "rocksdb")]
fn print(options: &DumpStateOptions) -> Result<(), String> {
    use super::DumpError;
    use super::items::Printer;
    use crate::logging;
    use store::engine::rocks::RocksEngine;

    data_dir::existing_wal(&options.data_dir, None).map_err(|error| error.to_string())?;
    if let Some(holder) = data_dir::holder(&options.data_dir) {
        return Err(format!(
            "{holder} is using {}; its database cannot be read meanwhile: stop it, or copy the folder and name the copy",
            options.data_dir.display()
        ));
    }
    let folder =
        data_dir::existing_database(&options.data_dir).map_err(|error| error.to_string())?;
    let engine = RocksEngine::open_to_read(&folder).map_err(|error| {
        format!(
            "cannot read the database in {}: {}",
            folder.display(),
            logging::chain(&error)
        )
    })?;
    let mut output = io::BufWriter::new(io::stdout().lock());
    let printed = Printer::new(&engine, options, &mut output).print();
    match printed.and_then(|damages| Ok(output.flush().map(|()| damages)?)) {
        Ok(0) => Ok(()),
        Ok(damages) => Err(format!(
            "{damages} damaged places; the lines with the word damage say where"
        )),
        // The reader has seen enough.
        Err(DumpError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(not(feature = "rocksdb"))]
fn print(options: &DumpStateOptions) -> Result<(), String> {
    data_dir::existing_wal(&options.data_dir, None).map_err(|error| error.to_string())?;
    Err("this build keeps its state in memory; there is nothing on disk to print".to_owned())
}
