//! The command line of `holdfast status`.

use std::time::Duration;

use super::{Asked, ConfigError, Invocation, Values, flags, help};

/// What `holdfast status` is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusOptions {
    /// Whom to ask, as `host:port`.
    pub endpoints: Vec<String>,
    /// Whether all members are asked, of which these endpoints tell.
    pub is_for_cluster: bool,
    /// One JSON object instead of a table.
    pub json: bool,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// Reads what follows `holdfast status`.
pub(super) fn read(arguments: &[String]) -> Result<Invocation, ConfigError> {
    let mut values = Values::new(flags::STATUS);
    if values.read_arguments(arguments)? == Asked::Help {
        return Ok(Invocation::Print(help::status()));
    }
    let endpoints: Result<Vec<_>, _> = values.list("endpoints").iter().map(endpoint).collect();
    let endpoints = endpoints?;
    if endpoints.is_empty() {
        return Err(ConfigError::Invalid(
            "--endpoints must name at least one address".to_owned(),
        ));
    }
    let timeout = values.duration("timeout");
    if timeout.is_zero() {
        return Err(ConfigError::Invalid(
            "--timeout must be more than nothing".to_owned(),
        ));
    }
    Ok(Invocation::Status(StatusOptions {
        endpoints,
        is_for_cluster: values.boolean("cluster"),
        json: values.boolean("json"),
        timeout,
    }))
}

fn endpoint(text: &String) -> Result<String, ConfigError> {
    if text.starts_with("https://") {
        return Err(ConfigError::Invalid(format!(
            "--endpoints: {text}: TLS is not built yet; use an address without encryption"
        )));
    }
    let address = text.strip_prefix("http://").unwrap_or(text);
    let address = address.trim_end_matches('/');
    let is_address = address.parse::<http::uri::Authority>().is_ok_and(|parsed| {
        !parsed.host().is_empty() && parsed.port_u16().is_some() && !address.contains('@')
    });
    if !is_address {
        return Err(ConfigError::Invalid(format!(
            "--endpoints: expected addresses such as 127.0.0.1:2379, found {text:?}"
        )));
    }
    Ok(address.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Invocation, ConfigError> {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        super::read(&words)
    }

    #[test]
    fn endpoints_are_written_with_or_without_a_scheme() {
        let Ok(Invocation::Status(options)) =
            read("--endpoints http://a:1,[::1]:2/ --cluster --json")
        else {
            panic!()
        };
        assert_eq!(options.endpoints, ["a:1", "[::1]:2"]);
        assert!(options.is_for_cluster && options.json);
        let Ok(Invocation::Status(options)) = read("") else {
            panic!()
        };
        assert_eq!(options.endpoints, ["127.0.0.1:2379"]);
        assert!(matches!(read("--help"), Ok(Invocation::Print(_))));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for (line, expected) in [
            ("--endpoints a", "such as 127.0.0.1:2379, found \"a\""),
            ("--endpoints a:b", "such as"),
            ("--endpoints unix://a:1", "such as"),
            ("--endpoints https://a:1", "TLS is not built yet"),
            ("--endpoints=", "at least one"),
            ("--timeout 0s", "more than nothing"),
            ("a:1", "not a valid flag"),
        ] {
            let Err(error) = read(line) else {
                panic!("{line}")
            };
            assert!(error.to_string().contains(expected), "{line}: {error}");
        }
    }
}
