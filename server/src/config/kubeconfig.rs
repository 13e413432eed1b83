//! The command line of `holdfast kubeconfig`.

use std::path::PathBuf;

use super::{Asked, ConfigError, Environment, Invocation, Values, flags, help};

/// Reads what follows `holdfast kubeconfig`.
pub(super) fn read(
    arguments: &[String],
    environment: &Environment,
) -> Result<Invocation, ConfigError> {
    let mut values = Values::new(flags::KUBECONFIG);
    if values.read_arguments(arguments)? == Asked::Help {
        return Ok(Invocation::Print(help::kubeconfig()));
    }
    values.read_environment(environment)?;
    let folder = PathBuf::from(values.text("data-dir"));
    Ok(Invocation::Kubeconfig(folder))
}
