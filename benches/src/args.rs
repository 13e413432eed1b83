//! Command-line options: `--name value` or `--name=value`, and switches without a value.

use std::fmt::Display;
use std::str::FromStr;

use anyhow::Result;

/// The command line is wrong; the process exits with 2.
#[derive(Debug)]
pub(crate) struct Misuse(pub(crate) String);

impl Display for Misuse {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} (`bench help` lists the options)", self.0)
    }
}

impl std::error::Error for Misuse {}

/// Options as given, checked against the names that the command knows.
#[derive(Debug, Default)]
pub(crate) struct Args(Vec<(String, String)>);

impl Args {
    /// Refuses what is in neither `options` (with a value) nor `switches` (without).
    pub(crate) fn parse(words: Vec<String>, options: &[&str], switches: &[&str]) -> Result<Args> {
        let mut given = Vec::new();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let Some(body) = word.strip_prefix("--") else {
                return Err(Misuse(format!("`{word}` is not an option")).into());
            };
            let (name, value) = match body.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (body.to_owned(), None),
            };
            let value = if options.contains(&name.as_str()) {
                let value = value.or_else(|| words.next());
                value.ok_or_else(|| Misuse(format!("--{name} needs a value")))?
            } else if !switches.contains(&name.as_str()) {
                return Err(Misuse(format!("--{name} is not known here")).into());
            } else if value.is_some() {
                return Err(Misuse(format!("--{name} takes no value")).into());
            } else {
                String::new()
            };
            given.push((name, value));
        }
        Ok(Args(given))
    }

    /// The last value given for an option.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .rev()
            .find(|(given, _)| given == name)
            .map(|(_, value)| value.as_str())
    }

    /// Whether a switch was given.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.text(name).is_some()
    }

    /// The value of an option, read as `T`.
    pub(crate) fn value<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let value = text
            .parse()
            .map_err(|error| Misuse(format!("--{name} {text}: {error}")))?;
        Ok(Some(value))
    }

    /// The comma-separated values of an option, each read as `T`.
    pub(crate) fn values<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<Vec<T>>> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let values = text.split(',').map(|word| {
            word.parse()
                .map_err(|error| Misuse(format!("--{name} {word}: {error}")).into())
        });
        values.collect::<Result<_>>().map(Some)
    }

    /// The comma-separated names of an option, each one of `known`; all of `known` if the option is not given.
    pub(crate) fn choice(&self, name: &str, known: &[&'static str]) -> Result<Vec<&'static str>> {
        let Some(text) = self.text(name) else {
            return Ok(known.to_vec());
        };
        text.split(',')
            .map(|word| {
                let found = known.iter().copied().find(|known| *known == word);
                found.ok_or_else(|| {
                    Misuse(format!(
                        "--{name}: `{word}` is none of {}",
                        known.join(", ")
                    ))
                    .into()
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Args;

    fn parse(line: &str) -> Result<Args, String> {
        let words = line.split_whitespace().map(str::to_owned).collect();
        Args::parse(words, &["keys", "work"], &["quick"]).map_err(|error| error.to_string())
    }

    #[test]
    fn both_spellings_of_a_value_are_read_and_the_last_one_wins() {
        let args = parse("--keys=5 --quick --keys 7").unwrap();
        assert_eq!(args.value::<u64>("keys").unwrap(), Some(7));
        assert!(args.is_set("quick"));
        assert_eq!(args.text("work"), None);
    }

    #[test]
    fn several_values_are_separated_by_commas() {
        let args = parse("--keys 5,7").unwrap();
        assert_eq!(args.values::<u64>("keys").unwrap(), Some(vec![5, 7]));
        assert_eq!(args.values::<u64>("work").unwrap(), None);
        let error = parse("--keys 5,x").unwrap().values::<u64>("keys");
        assert!(error.unwrap_err().to_string().contains("--keys x"));
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        assert!(
            parse("--kees 5")
                .unwrap_err()
                .contains("--kees is not known")
        );
        assert!(
            parse("--quick=1")
                .unwrap_err()
                .contains("--quick takes no value")
        );
        assert!(
            parse("--keys")
                .unwrap_err()
                .contains("--keys needs a value")
        );
        assert!(parse("put").unwrap_err().contains("`put` is not an option"));
        let args = parse("--keys many").unwrap();
        assert!(
            args.value::<u64>("keys")
                .unwrap_err()
                .to_string()
                .contains("--keys many")
        );
        assert!(
            args.choice("keys", &["few"])
                .unwrap_err()
                .to_string()
                .contains("none of few")
        );
    }
}
