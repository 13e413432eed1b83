//! The command line of `holdfast recover`.

use std::path::PathBuf;

use super::{Asked, ConfigError, Environment, Invocation, Values, flags, help};

/// What `holdfast recover` is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoverOptions {
    /// The data folder of the survivor.
    pub data_dir: PathBuf,
    /// Whether it only says what it would do.
    pub is_dry_run: bool,
    /// Whether nobody is asked.
    pub is_agreed: bool,
}

/// Reads what follows `holdfast recover`.
pub(super) fn read(
    arguments: &[String],
    environment: &Environment,
) -> Result<Invocation, ConfigError> {
    let mut values = Values::new(flags::RECOVER);
    if values.read_arguments(arguments)? == Asked::Help {
        return Ok(Invocation::Print(help::recover()));
    }
    values.read_environment(environment)?;
    Ok(Invocation::Recover(RecoverOptions {
        data_dir: PathBuf::from(values.text("data-dir")),
        is_dry_run: values.boolean("dry-run"),
        is_agreed: values.boolean("yes"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Invocation, ConfigError> {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        let variables = vec![("ETCD_DATA_DIR".into(), "/from/variable".into())];
        super::read(&words, &variables)
    }

    #[test]
    fn the_folder_comes_from_its_flag_or_variable_and_nobody_has_agreed_by_default() {
        let Ok(Invocation::Recover(options)) = read("") else {
            panic!()
        };
        assert_eq!(options.data_dir, PathBuf::from("/from/variable"));
        assert!(!options.is_dry_run && !options.is_agreed);
        let Ok(Invocation::Recover(options)) = read("--data-dir d --dry-run --yes") else {
            panic!()
        };
        assert_eq!(options.data_dir, PathBuf::from("d"));
        assert!(options.is_dry_run && options.is_agreed);
        assert!(matches!(read("--help"), Ok(Invocation::Print(_))));
        assert!(read("d").is_err() && read("--force").is_err());
    }
}
