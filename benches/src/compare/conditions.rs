//! Under which conditions the figures were measured: what a reader needs to judge or repeat them.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// The machine, the programs and the day.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Conditions {
    /// Model of the processor.
    pub(crate) cpu: String,
    /// Cores that the servers and the generator share.
    pub(crate) cores: usize,
    /// Memory of the machine.
    pub(crate) memory_mib: u64,
    /// Kernel release.
    pub(crate) kernel: String,
    /// File system of the data folders.
    pub(crate) file_system: String,
    /// Load average of the last minute at the start; far above 0 means a machine that others use.
    pub(crate) load_average: f64,
    /// What holdfast says of itself.
    pub(crate) holdfast: String,
    /// What etcd says of itself.
    pub(crate) etcd: String,
    /// UTC.
    pub(crate) date: String,
}

impl Conditions {
    /// Reads them; what cannot be read is left empty or 0.
    pub(crate) fn now(folder: &Path, holdfast: Option<&Path>, etcd: Option<&Path>) -> Conditions {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let first = |text: String| {
            text.split_whitespace()
                .next()
                .unwrap_or_default()
                .to_owned()
        };
        let seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        Conditions {
            cpu: field(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: first(field(&read("/proc/meminfo"), "MemTotal"))
                .parse()
                .map_or(0, |kib: u64| kib / 1024),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            file_system: file_system(&read("/proc/mounts"), folder),
            load_average: first(read("/proc/loadavg")).parse().unwrap_or(0.0),
            holdfast: holdfast.map_or_else(String::new, version),
            etcd: etcd.map_or_else(String::new, version),
            date: date(seconds),
        }
    }
}

impl Conditions {
    /// All of them in one line.
    pub(crate) fn line(&self) -> String {
        let Conditions {
            cpu,
            cores,
            memory_mib,
            kernel,
            file_system,
            load_average,
            holdfast,
            etcd,
            date,
        } = self;
        let servers = [holdfast.as_str(), etcd.as_str()].into_iter();
        let servers: Vec<_> = servers.filter(|version| !version.is_empty()).collect();
        format!(
            "{date}; {cpu}, {cores} cores, {memory_mib} MiB, Linux {kernel}, {file_system}, load average at the \
             start {load_average}. {}.",
            servers.join("; ")
        )
    }
}

/// The value of the first line `name : value`.
fn field(text: &str, name: &str) -> String {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

/// Type of the file system that holds `folder`: that of the longest mount point above it.
fn file_system(mounts: &str, folder: &Path) -> String {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let above = mounts.filter(|(point, _)| folder.starts_with(point));
    above
        .max_by_key(|(point, _)| point.len())
        .map_or_else(String::new, |(_, kind)| kind.to_owned())
}

fn version(binary: &Path) -> String {
    let output = Command::new(binary).arg("--version").output();
    own_version(
        &output
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
            .unwrap_or_default(),
    )
}

/// A server that stands in for etcd names etcd's version first and its own on a later line.
fn own_version(text: &str) -> String {
    let own = text.lines().find(|line| line.starts_with("Holdfast"));
    own.or_else(|| text.lines().next())
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// Seconds since 1970 as `2026-01-31 12:00 UTC`.
fn date(seconds: u64) -> String {
    let (mut days, minutes) = (seconds / 86_400, seconds % 86_400 / 60);
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let months = [
        31,
        28 + u64::from(is_leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let mut month = 1;
    for length in months {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!(
        "{year}-{month:02}-{:02} {:02}:{:02} UTC",
        days + 1,
        minutes / 60,
        minutes % 60
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{date, field, file_system, own_version};

    #[test]
    fn dates_follow_the_calendar() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_827_696), "2000-02-29 12:34 UTC");
        assert_eq!(date(1_798_761_599), "2026-12-31 23:59 UTC");
    }

    #[test]
    fn a_server_is_named_by_its_own_version() {
        assert_eq!(
            own_version("etcd Version: 3.7.1\nGit SHA: x\nHoldfast Version: 0.1.0\n"),
            "Holdfast Version: 0.1.0"
        );
        assert_eq!(
            own_version("etcd Version: 3.5.1\nGit SHA: x\n"),
            "etcd Version: 3.5.1"
        );
    }

    #[test]
    fn the_longest_mount_point_above_a_folder_counts() {
        let mounts = "none / ext4 rw 0 0\nnone /no xfs rw 0 0\nnone /no/such tmpfs rw 0 0\n";
        assert_eq!(file_system(mounts, Path::new("/no/such/folder")), "tmpfs");
        assert_eq!(file_system(mounts, Path::new("/nose/folder")), "ext4");
        assert_eq!(
            field("flags : x\nmodel name\t: A CPU\n", "model name"),
            "A CPU"
        );
    }
}
