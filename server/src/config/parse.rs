//! Collects what the command line, the environment or a config file set, by the rules of Go's flag package.

use std::{ffi::OsString, path::Path, time::Duration};

use super::{
    ConfigError,
    flags::{self, Flag, Kind},
    value,
};

/// A table of flags and what was set of it.
#[derive(Debug)]
pub(super) struct Values {
    table: &'static [Flag],
    set: Vec<Option<Setting>>,
}

/// A value and where it came from.
#[derive(Clone, Debug)]
struct Setting {
    text: String,
    /// What the user wrote it at: `--name`, `ETCD_NAME`, `"name" in file`.
    place: String,
}

/// What a command line asks for besides values.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// The flags as given.
    Run,
    /// `-h`, `--help`.
    Help,
}

/// The keys of a config file and what they are set to. A file of comments alone sets nothing.
fn entries(path: &Path) -> Result<serde_json::Map<String, serde_json::Value>, ConfigError> {
    let fail = |reason: String| ConfigError::File {
        path: path.to_owned(),
        reason,
    };
    let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
    match serde_saphyr::from_str(&text) {
        Ok(serde_json::Value::Object(entries)) => Ok(entries),
        Ok(serde_json::Value::Null) => Ok(serde_json::Map::new()),
        Ok(_) => Err(fail(
            "expected keys that are flag names, as in name: one".to_owned(),
        )),
        Err(error) => Err(fail(format!("neither YAML nor JSON: {error}"))),
    }
}

impl Values {
    /// Nothing set.
    pub(super) fn new(table: &'static [Flag]) -> Self {
        Self {
            table,
            set: vec![None; table.len()],
        }
    }

    /// Reads a command line. A flag given twice: the last one counts.
    pub(super) fn read_arguments(&mut self, arguments: &[String]) -> Result<Asked, ConfigError> {
        self.read_mixed(arguments, &mut |word| {
            Err(ConfigError::Positional(word.to_owned()))
        })
    }

    /// Reads a command line whose other words go to `take`.
    pub(super) fn read_mixed(
        &mut self,
        arguments: &[String],
        take: &mut dyn FnMut(&str) -> Result<(), ConfigError>,
    ) -> Result<Asked, ConfigError> {
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let dashed = argument
                .strip_prefix("--")
                .or_else(|| argument.strip_prefix('-'));
            let Some(text) = dashed.filter(|text| !text.is_empty()) else {
                take(argument)?;
                continue;
            };
            let (name, given) = match text.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (text, None),
            };
            if name == "h" || name == "help" {
                return Ok(Asked::Help);
            }
            let Some(flag) = flags::find(self.table, name) else {
                return Err(ConfigError::UnknownFlag {
                    name: name.to_owned(),
                    hint: self.nearest(name),
                });
            };
            let value = match (given, self.table[flag].kind) {
                (Some(value), _) => value,
                (None, Kind::Bool) => "true".to_owned(),
                (None, _) => match arguments.next() {
                    Some(value) => value.clone(),
                    None => return Err(ConfigError::MissingValue(name.to_owned())),
                },
            };
            self.put(flag, value, format!("--{name}"))?;
        }
        Ok(Asked::Run)
    }

    /// Reads `ETCD_*` variables for whatever the command line left unset. Returns the names that belong to no
    /// flag and those that a flag overrode.
    pub(super) fn read_environment(
        &mut self,
        environment: &[(OsString, OsString)],
    ) -> Result<(Vec<String>, Vec<String>), ConfigError> {
        let (mut unknown, mut shadowed) = (Vec::new(), Vec::new());
        for (variable, text) in environment {
            let Some(variable) = variable.to_str().filter(|name| name.starts_with("ETCD_")) else {
                continue;
            };
            // Images set ETCD_VERSION to say what they hold; nobody asks for the version by a variable.
            let flag = flags::find(self.table, &flag_of(variable))
                .filter(|flag| self.table[*flag].name != "version");
            let Some(flag) = flag else {
                unknown.push(variable.to_owned());
                continue;
            };
            let Some(text) = text.to_str() else {
                return Err(ConfigError::BadValue {
                    place: variable.to_owned(),
                    value: text.to_string_lossy().into_owned(),
                    expected: "valid UTF-8".to_owned(),
                });
            };
            if text.is_empty() {
                continue;
            }
            if self.set[flag].is_some() {
                shadowed.push(variable.to_owned());
                continue;
            }
            self.put(flag, text.to_owned(), variable.to_owned())?;
        }
        unknown.sort();
        shadowed.sort();
        Ok((unknown, shadowed))
    }

    /// Reads a config file: YAML, of which JSON is a part, whose keys are flag names.
    pub(super) fn read_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        for (key, entry) in entries(path)? {
            match (key.as_str(), entry) {
                ("client-transport-security", serde_json::Value::Object(inner)) => {
                    for (key, entry) in inner {
                        let name = if key == "allowed-hostname" {
                            "cert-allowed-hostname"
                        } else {
                            &key
                        };
                        let name = match flags::find(self.table, name) {
                            Some(_) => name.to_owned(),
                            None => format!("client-{name}"),
                        };
                        self.put_json(path, &name, &entry)?;
                    }
                }
                ("peer-transport-security", serde_json::Value::Object(inner)) => {
                    for (key, entry) in inner {
                        let name = match key.as_str() {
                            "auto-tls" => "peer-auto-tls".to_owned(),
                            "allowed-cn" | "allowed-hostname" => format!("peer-cert-{key}"),
                            _ => format!("peer-{key}"),
                        };
                        self.put_json(path, &name, &entry)?;
                    }
                }
                // A section of which everything is commented out.
                (
                    "client-transport-security" | "peer-transport-security",
                    serde_json::Value::Null,
                ) => {}
                (_, entry) => self.put_json(path, &key, &entry)?,
            }
        }
        Ok(())
    }

    fn put_json(
        &mut self,
        path: &Path,
        name: &str,
        entry: &serde_json::Value,
    ) -> Result<(), ConfigError> {
        let fail = |reason: String| ConfigError::File {
            path: path.to_owned(),
            reason,
        };
        let Some(flag) = flags::find(self.table, name) else {
            let hint = self
                .nearest(name)
                .map_or(String::new(), |near| format!("; did you mean {near:?}?"));
            return Err(fail(format!("unknown key {name:?}{hint}")));
        };
        let text = match (entry, self.table[flag].kind) {
            (serde_json::Value::Null, _) => return Ok(()),
            // etcd's files hold durations as nanoseconds.
            (serde_json::Value::Number(number), Kind::Duration) => format!("{number}ns"),
            (serde_json::Value::String(text), _) => text.clone(),
            (serde_json::Value::Bool(_) | serde_json::Value::Number(_), _) => entry.to_string(),
            (serde_json::Value::Array(parts), Kind::List) => {
                let parts: Option<Vec<_>> = parts.iter().map(serde_json::Value::as_str).collect();
                parts
                    .ok_or_else(|| fail(format!("{name:?}: expected a list of strings")))?
                    .join(",")
            }
            _ => return Err(fail(format!("{name:?}: expected a plain value"))),
        };
        self.put(flag, text, format!("{name:?} in {}", path.display()))
    }

    fn put(&mut self, flag: usize, text: String, place: String) -> Result<(), ConfigError> {
        match value::check(self.table[flag].kind, &text) {
            Ok(()) => {
                self.set[flag] = Some(Setting { text, place });
                Ok(())
            }
            Err(expected) => Err(ConfigError::BadValue {
                place,
                value: text,
                expected,
            }),
        }
    }

    /// The flag whose name is closest to a misspelt one, if any is close.
    fn nearest(&self, name: &str) -> Option<String> {
        let shown = self
            .table
            .iter()
            .filter(|flag| flag.group != flags::Group::Legacy);
        let candidate = shown
            .map(|flag| (distance(name, flag.name), flag.name))
            .min_by_key(|(distance, candidate)| (*distance, candidate.len()))?;
        let near = candidate.0 <= 2.max(name.len() / 4);
        let begun = || {
            let mut begun = self
                .table
                .iter()
                .filter(|flag| name.len() >= 3 && flag.name.starts_with(name));
            begun.next().map(|flag| flag.name)
        };
        if near {
            Some(candidate.1.to_owned())
        } else {
            begun().map(str::to_owned)
        }
    }

    fn index(&self, name: &str) -> usize {
        flags::find(self.table, name).expect("the caller names a flag of its own table")
    }

    /// Every flag that was set to something other than its default, and where.
    pub(super) fn changed(&self) -> impl Iterator<Item = (&'static Flag, &str, &str)> {
        self.table
            .iter()
            .zip(&self.set)
            .filter_map(|(flag, setting)| {
                let setting = setting
                    .as_ref()
                    .filter(|setting| !is_default(flag, &setting.text))?;
                Some((flag, setting.text.as_str(), setting.place.as_str()))
            })
    }

    /// Whether anything set the flag.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.set[self.index(name)].is_some()
    }

    /// The flag's value as written, or its default.
    pub(super) fn text(&self, name: &str) -> &str {
        let index = self.index(name);
        self.set[index]
            .as_ref()
            .map_or(self.table[index].default, |setting| &setting.text)
    }

    /// Where the flag's value was written.
    pub(super) fn place(&self, name: &str) -> String {
        self.set[self.index(name)]
            .as_ref()
            .map_or_else(|| format!("--{name}"), |setting| setting.place.clone())
    }

    /// A boolean flag's value.
    pub(super) fn boolean(&self, name: &str) -> bool {
        value::boolean(self.text(name)).expect("checked when it was set")
    }

    /// A number flag's value, whose range the table bounds to `T`.
    pub(super) fn number<T: TryFrom<i64>>(&self, name: &str) -> T {
        let number: Option<i64> = self.text(name).parse().ok();
        number
            .and_then(|number| T::try_from(number).ok())
            .expect("checked when it was set")
    }

    /// A duration flag's value.
    pub(super) fn duration(&self, name: &str) -> Duration {
        value::duration(self.text(name)).expect("checked when it was set")
    }

    /// A size flag's value in bytes.
    pub(super) fn size(&self, name: &str) -> u64 {
        value::size(self.text(name)).expect("checked when it was set")
    }

    /// A list flag's parts.
    pub(super) fn list(&self, name: &str) -> Vec<String> {
        value::list(self.text(name))
    }
}

/// Whether a value says the same as the flag's default.
fn is_default(flag: &Flag, text: &str) -> bool {
    match flag.kind {
        Kind::Bool => value::boolean(text) == value::boolean(flag.default),
        Kind::Duration => value::duration(text) == value::duration(flag.default),
        Kind::Size => value::size(text) == value::size(flag.default),
        Kind::List => value::list(text) == value::list(flag.default) || text.is_empty(),
        Kind::Number(..) | Kind::Text | Kind::Choice(_) => text == flag.default,
    }
}

/// The variable that sets a flag.
pub(super) fn variable_of(flag: &str) -> String {
    format!("ETCD_{}", flag.to_uppercase().replace('-', "_"))
}

fn flag_of(variable: &str) -> String {
    variable
        .trim_start_matches("ETCD_")
        .to_lowercase()
        .replace('_', "-")
}

/// How many letters must be typed, left out, replaced or swapped to make one word of the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut least = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    least = least.min(rows[i - 2][j - 2] + 1);
                }
                least
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_typing_mistakes() {
        for (a, b, expected) in [
            ("name", "name", 0),
            ("nmae", "name", 1),
            ("", "ab", 2),
            ("listen", "listed", 1),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn variables_and_flags_map_onto_each_other() {
        for flag in flags::NODE {
            assert_eq!(flag_of(&variable_of(flag.name)), flag.name);
        }
    }

    #[test]
    fn every_default_is_a_value_its_flag_takes() {
        for flag in flags::NODE
            .iter()
            .chain(flags::DUMP)
            .chain(flags::DUMP_STATE)
            .chain(flags::SNAPSHOT_STATUS)
            .chain(flags::SNAPSHOT_RESTORE)
            .chain(flags::SNAPSHOT_SAVE)
            .chain(flags::STATUS)
            .chain(flags::DEV)
        {
            assert_eq!(
                value::check(flag.kind, flag.default),
                Ok(()),
                "--{}",
                flag.name
            );
        }
    }

    #[test]
    fn no_flag_is_listed_twice() {
        for (at, flag) in flags::NODE.iter().enumerate() {
            assert_eq!(
                flags::find(flags::NODE, flag.name),
                Some(at),
                "--{}",
                flag.name
            );
        }
    }
}
