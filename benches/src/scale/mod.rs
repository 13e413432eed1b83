//! Size and time: much data with little memory, long answers, churn, hours of writes; each part on a fresh server.

mod control;
mod leases;
mod parts;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};

use crate::args::Args;
use crate::compare::server::{Kind, Server};
use crate::compare::{etcd, holdfast_binary};

/// Options of `bench scale`.
pub(crate) const OPTIONS: &[&str] = &[
    "parts", "server", "holdfast", "folder", "json", "plots", "keys", "minutes", "rate", "budget",
];

/// Every part, in the order in which they run.
const PARTS: [&str; 8] = [
    "count",
    "hash",
    "stream",
    "compaction",
    "leases",
    "churn",
    "big",
    "steady",
];

/// What all parts are told.
struct Settings {
    kind: Kind,
    binary: PathBuf,
    folder: PathBuf,
    plots: PathBuf,
    keys: Option<u64>,
    minutes: Option<f64>,
    rate: Option<f64>,
    budget: String,
}

impl Settings {
    /// A server on fresh data. Neither server may stop for its quota.
    fn server(&self, part: &str) -> Result<(Server, PathBuf)> {
        let folder = self.folder.join(format!("{part}-{}", self.kind.name()));
        if folder.exists() {
            fs::remove_dir_all(&folder)
                .with_context(|| format!("removing {}", folder.display()))?;
        }
        let mut arguments = Vec::new();
        if self.kind == Kind::Holdfast {
            arguments.push("--quota-backend-bytes=-1".to_owned());
            arguments.push(format!("--memory-budget={}", self.budget));
        }
        let server = Server::start(self.kind, &self.binary, &folder, &arguments)?;
        Ok((server, folder))
    }

    fn minutes(&self, default: f64) -> Duration {
        Duration::from_secs_f64(60.0 * self.minutes.unwrap_or(default))
    }
}

/// `bench scale`.
pub(crate) fn main(args: &Args) -> Result<()> {
    let kind = match args.text("server") {
        None | Some("holdfast") => Kind::Holdfast,
        Some("etcd") => Kind::Etcd,
        Some(other) => anyhow::bail!("--server: `{other}` is none of holdfast, etcd"),
    };
    let settings = Settings {
        kind,
        binary: match kind {
            Kind::Etcd => etcd::find()?,
            _ => holdfast_binary(args)?,
        },
        folder: args.text("folder").unwrap_or("target/bench").into(),
        plots: args.text("plots").unwrap_or("target").into(),
        keys: args.value("keys")?,
        minutes: args.value("minutes")?,
        rate: args.value("rate")?,
        budget: args.text("budget").unwrap_or("512MiB").to_owned(),
    };
    fs::create_dir_all(&settings.plots)?;
    let mut report = Map::new();
    for part in args.choice("parts", &PARTS)? {
        eprintln!("bench: {part} on {}", kind.name());
        let (mut server, folder) = settings.server(part)?;
        let outcome = match part {
            "count" => parts::count(&settings, &server),
            "hash" => parts::hash(&settings, &server),
            "stream" => parts::stream(&settings, &mut server),
            "compaction" => parts::compaction(&settings, &server),
            "leases" => leases::leases(&settings, &mut server),
            "churn" => parts::churn(&settings, &server, &folder),
            "big" => parts::big(&settings, &mut server, &folder),
            _ => parts::steady(&settings, &server, &folder),
        };
        let outcome = outcome.with_context(|| {
            format!(
                "part {part}; the last words of the server:\n{}",
                server.last_words()
            )
        })?;
        drop(server);
        fs::remove_dir_all(&folder)?;
        println!("{part}: {}", serde_json::to_string_pretty(&outcome)?);
        report.insert(part.to_owned(), outcome);
    }
    if let Some(file) = args.text("json") {
        fs::write(file, serde_json::to_string_pretty(&Value::Object(report))?)?;
    }
    Ok(())
}

/// Bytes of all files below a folder. Files that vanish meanwhile count as nothing.
fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// Fails with what was found if it is not what was written.
fn ensure_keys(found: u64, expected: u64) -> Result<()> {
    ensure!(found == expected, "found {found} keys, not {expected}");
    Ok(())
}
