//! The command line of `holdfast dev`.

use std::path::PathBuf;

use super::{Asked, ConfigError, Invocation, Values, flags, help};

/// What `holdfast dev` is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevOptions {
    /// How many nodes. If not said, as many as the folder has, or three.
    pub nodes: Option<u16>,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// The first node's client port. If not said, that of the folder, or 2379.
    pub base_port: Option<u16>,
    /// Whether what is there goes first.
    pub is_fresh: bool,
}

/// Reads what follows `holdfast dev`.
pub(super) fn read(arguments: &[String]) -> Result<Invocation, ConfigError> {
    let mut values = Values::new(flags::DEV);
    if values.read_arguments(arguments)? == Asked::Help {
        return Ok(Invocation::Print(help::dev()));
    }
    if values.text("data-dir").is_empty() {
        return Err(ConfigError::Invalid(
            "--data-dir must name a folder".to_owned(),
        ));
    }
    let given = |name: &str| values.is_set(name).then(|| values.number(name));
    Ok(Invocation::Dev(DevOptions {
        nodes: given("nodes"),
        data_dir: PathBuf::from(values.text("data-dir")),
        base_port: given("base-port"),
        is_fresh: values.boolean("fresh"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Invocation, ConfigError> {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        super::read(&words)
    }

    #[test]
    fn what_is_not_said_is_left_to_the_folder() {
        let Ok(Invocation::Dev(options)) = read("") else {
            panic!()
        };
        assert_eq!(
            (options.nodes, options.base_port, options.is_fresh),
            (None, None, false)
        );
        let Ok(Invocation::Dev(options)) = read("--nodes 5 --base-port=4000 --data-dir x --fresh")
        else {
            panic!()
        };
        assert_eq!(
            (options.nodes, options.base_port, options.is_fresh),
            (Some(5), Some(4000), true)
        );
        assert!(matches!(read("-h"), Ok(Invocation::Print(_))));
    }

    #[test]
    fn a_cluster_has_an_odd_number_of_nodes_and_ports_that_exist() {
        for line in [
            "--nodes 2",
            "--nodes 7",
            "--base-port 0",
            "--base-port 65530",
            "--data-dir=",
        ] {
            assert!(read(line).is_err(), "{line}");
        }
    }
}
