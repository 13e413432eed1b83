//! The command line of `holdfast snapshot`, with the names and flags of etcdutl and etcdctl.

use std::path::PathBuf;

use super::{
    Asked, Config, ConfigError, Invocation, Values, advertised_urls, flags, help, initial_cluster,
    optional,
};

/// What to do with a snapshot file.
#[derive(Clone, Debug)]
pub enum SnapshotCommand {
    /// Check it and tell what is in it.
    Status {
        /// The file.
        file: PathBuf,
        /// How to print it.
        format: StatusFormat,
    },
    /// Make a data folder of it.
    Restore(Box<RestoreOptions>),
    /// Make it from a running member.
    Save {
        /// The file.
        file: PathBuf,
        /// The member's address.
        endpoint: String,
    },
}

/// How a status is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusFormat {
    /// One line.
    Simple,
    /// A table.
    Table,
    /// A JSON object.
    Json,
    /// A line for each field.
    Fields,
}

/// What `holdfast snapshot restore` is told.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// The file.
    pub file: PathBuf,
    /// The new node, as far as it matters: name, folders, addresses and token.
    pub config: Config,
    /// Whether the file's digest does not matter.
    pub skips_hash_check: bool,
    /// By how much the newest revision is raised; everything up to there is then compacted.
    pub bump_revision: Option<i64>,
    /// Whether a file with users and roles enforced is taken.
    pub is_without_auth: bool,
}

/// Reads what follows `holdfast snapshot`.
pub(super) fn read(arguments: &[String]) -> Result<Invocation, ConfigError> {
    let (table, rest) = match arguments.first().map(String::as_str) {
        Some("status") => (flags::SNAPSHOT_STATUS, &arguments[1..]),
        Some("restore") => (flags::SNAPSHOT_RESTORE, &arguments[1..]),
        Some("save") => (flags::SNAPSHOT_SAVE, &arguments[1..]),
        None | Some("help" | "-h" | "-help" | "--help") => {
            return Ok(Invocation::Print(help::snapshot()));
        }
        Some(other) => {
            return Err(ConfigError::Invalid(format!(
                "holdfast snapshot has no command {other:?}; it has status, restore and save"
            )));
        }
    };
    let mut values = Values::new(table);
    let mut words = Vec::new();
    let long: Vec<_> = rest.iter().map(|word| spelt_out(word)).collect();
    let asked = values.read_mixed(&long, &mut |word| {
        words.push(word.to_owned());
        Ok(())
    })?;
    if asked == Asked::Help {
        return Ok(Invocation::Print(help::snapshot()));
    }
    let [file] = words.as_slice() else {
        let command = &arguments[0];
        return Err(ConfigError::Invalid(format!(
            "snapshot {command} requires exactly one argument, the file"
        )));
    };
    let file = PathBuf::from(file);
    let command = match arguments[0].as_str() {
        "status" => SnapshotCommand::Status {
            file,
            format: match values.text("write-out") {
                "table" => StatusFormat::Table,
                "json" => StatusFormat::Json,
                "fields" => StatusFormat::Fields,
                _ => StatusFormat::Simple,
            },
        },
        "restore" => SnapshotCommand::Restore(Box::new(restore(file, &values)?)),
        _ => save(file, &values)?,
    };
    Ok(Invocation::Snapshot(command))
}

/// `-w` is the one flag with a short name.
fn spelt_out(word: &str) -> String {
    match word.strip_prefix("-w") {
        Some(rest) if rest.is_empty() || rest.starts_with('=') => format!("--write-out{rest}"),
        _ => word.to_owned(),
    }
}

fn restore(file: PathBuf, values: &Values) -> Result<RestoreOptions, ConfigError> {
    let bump: i64 = values.number("bump-revision");
    if (bump > 0) != values.boolean("mark-compacted") {
        return Err(ConfigError::Invalid(
            "--bump-revision and --mark-compacted go together: give both or neither".to_owned(),
        ));
    }
    let name = values.text("name").to_owned();
    let data_dir =
        optional(values.text("data-dir")).unwrap_or_else(|| PathBuf::from(format!("{name}.etcd")));
    let config = Config {
        data_dir,
        wal_dir: optional(values.text("wal-dir")),
        initial_advertise_peer_urls: advertised_urls(values, "initial-advertise-peer-urls")?,
        initial_cluster: initial_cluster(values)?,
        initial_cluster_token: values.text("initial-cluster-token").to_owned(),
        name,
        ..Config::default()
    };
    // Refused now rather than after a long copy.
    config.initial_members()?;
    Ok(RestoreOptions {
        file,
        config,
        skips_hash_check: values.boolean("skip-hash-check"),
        bump_revision: (bump > 0).then_some(bump),
        is_without_auth: values.boolean("without-auth"),
    })
}

fn save(file: PathBuf, values: &Values) -> Result<SnapshotCommand, ConfigError> {
    let text = values.text("endpoints");
    let endpoint = text.strip_prefix("http://").unwrap_or(text);
    let has_port = endpoint
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if endpoint.contains(',') || !has_port {
        return Err(ConfigError::Invalid(format!(
            "--endpoints: expected one address such as 127.0.0.1:2379, found {text:?}; a snapshot is that of one member"
        )));
    }
    Ok(SnapshotCommand::Save {
        file,
        endpoint: endpoint.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Invocation, ConfigError> {
        let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
        super::read(&words)
    }

    #[test]
    fn flags_and_file_come_in_any_order_as_etcdutl_takes_them() {
        for line in [
            "status f.db -w json",
            "status -w=json f.db",
            "status --write-out json f.db",
        ] {
            let Ok(Invocation::Snapshot(SnapshotCommand::Status { file, format })) = read(line)
            else {
                panic!("{line}")
            };
            assert_eq!((file, format), (PathBuf::from("f.db"), StatusFormat::Json));
        }
        let line = "restore f.db --name a --initial-cluster a=http://h:1 --initial-advertise-peer-urls http://h:1 \
                    --bump-revision 10 --mark-compacted --skip-hash-check";
        let Ok(Invocation::Snapshot(SnapshotCommand::Restore(options))) = read(line) else {
            panic!("{line}")
        };
        assert_eq!(options.config.data_dir, PathBuf::from("a.etcd"));
        assert_eq!(options.bump_revision, Some(10));
        assert!(options.skips_hash_check && !options.is_without_auth);
        let line = "save f.db --endpoints http://10.0.0.1:2379";
        let Ok(Invocation::Snapshot(SnapshotCommand::Save { endpoint, .. })) = read(line) else {
            panic!("{line}")
        };
        assert_eq!(endpoint, "10.0.0.1:2379");
        for line in ["help", "--help", "restore --help", "status f -h"] {
            assert!(matches!(read(line), Ok(Invocation::Print(_))), "{line}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_before_anything_is_done() {
        for (line, expected) in [
            ("status", "exactly one argument"),
            ("status a b", "exactly one argument"),
            ("convert a", "it has status, restore and save"),
            ("restore f --bump-revision 5", "go together"),
            ("restore f --mark-compacted", "go together"),
            (
                "restore f --name b --initial-cluster a=http://h:1",
                "couldn't find local name",
            ),
            (
                "restore f --name c --initial-cluster a=http://h:1,b=http://h:2",
                "couldn't find local name",
            ),
            (
                "restore f --name a --initial-cluster a=http://h:1",
                "make them equal",
            ),
            ("save f --endpoints a:1,b:2", "one address"),
            ("status f --nothing", "unknown flag"),
        ] {
            let Err(error) = read(line) else {
                panic!("{line}")
            };
            assert!(error.to_string().contains(expected), "{line}: {error}");
        }
    }
}
