//! What a process has used so far, from `/proc`.

use std::fs;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// CPU time and memory of a process at one moment.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// User and system time since the process began.
    pub(crate) cpu_seconds: f64,
    /// Resident memory.
    pub(crate) rss_kib: u64,
    /// Part of it that is the process's own; the rest are mapped files.
    pub(crate) rss_own_kib: u64,
    /// Most resident memory at any time.
    pub(crate) peak_rss_kib: u64,
}

impl Usage {
    /// Reads the usage of a process.
    pub(crate) fn of(pid: u32) -> Result<Usage> {
        Usage::read(&pid.to_string())
    }

    /// Reads the usage of several processes and adds it up; none if there is no process.
    pub(crate) fn of_all(pids: &[u32]) -> Result<Option<Usage>> {
        let usages = pids.iter().map(|pid| Usage::of(*pid));
        let usages = usages.collect::<Result<Vec<_>>>()?;
        Ok(usages.into_iter().reduce(Usage::plus))
    }

    /// Peaks are added, too, though they may lie at different moments: the sum is an upper bound.
    fn plus(self, other: Usage) -> Usage {
        Usage {
            cpu_seconds: self.cpu_seconds + other.cpu_seconds,
            rss_kib: self.rss_kib + other.rss_kib,
            rss_own_kib: self.rss_own_kib + other.rss_own_kib,
            peak_rss_kib: self.peak_rss_kib + other.peak_rss_kib,
        }
    }

    /// Reads the usage of this process.
    pub(crate) fn of_self() -> Result<Usage> {
        Usage::read("self")
    }

    fn read(process: &str) -> Result<Usage> {
        let file = |name: &str| {
            let path = format!("/proc/{process}/{name}");
            fs::read_to_string(&path).with_context(|| format!("reading {path}"))
        };
        let ticks = rustix::param::clock_ticks_per_second();
        parse(&file("stat")?, &file("status")?, ticks)
            .with_context(|| format!("usage of process {process}"))
    }
}

/// Whether a process stands still after a SIGSTOP.
pub(crate) fn is_stopped(pid: u32) -> Result<bool> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    Ok(state(&stat) == Some('T'))
}

fn state(stat: &str) -> Option<char> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.trim_start().chars().next()
}

fn parse(stat: &str, status: &str, ticks_per_second: u64) -> Result<Usage> {
    // The second field is the program's name and may hold blanks and brackets.
    let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || {
        fields
            .next()
            .and_then(|field| field.parse::<u64>().ok())
            .context("no CPU time in stat")
    };
    let cpu_ticks = ticks()? + ticks()?;
    let kib = |name: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|value| value.split_whitespace().next()?.parse().ok())
            .unwrap_or(0)
    };
    Ok(Usage {
        cpu_seconds: cpu_ticks as f64 / ticks_per_second as f64,
        rss_kib: kib("VmRSS"),
        rss_own_kib: kib("RssAnon"),
        peak_rss_kib: kib("VmHWM"),
    })
}

#[cfg(test)]
mod tests {
    use super::{Usage, is_stopped, parse, state};

    #[test]
    fn the_fields_are_found_behind_a_name_with_blanks_and_brackets() {
        let stat = "17 (a ) b) S 1 17 17 0 -1 4194560 1 2 3 4 250 50 0 0 20 0 9 0 1 2 3";
        let status = "Name:\ta\nVmHWM:\t  900 kB\nVmRSS:\t  800 kB\nRssAnon:\t 700 kB\n";
        let usage = parse(stat, status, 100).unwrap();
        assert_eq!(usage.cpu_seconds, 3.0);
        assert_eq!(
            (usage.rss_kib, usage.rss_own_kib, usage.peak_rss_kib),
            (800, 700, 900)
        );
    }

    #[test]
    fn a_process_that_stands_still_is_known_by_its_state() {
        assert_eq!(state("17 (a ) b) T 1 17"), Some('T'));
        assert_eq!(state("17 (T) S 1 17"), Some('S'));
        assert!(!is_stopped(std::process::id()).unwrap());
    }

    #[test]
    fn processes_are_measured_as_one() {
        let usage = Usage {
            cpu_seconds: 1.5,
            rss_kib: 800,
            rss_own_kib: 700,
            peak_rss_kib: 900,
        };
        let sum = usage.clone().plus(usage);
        assert_eq!(sum.cpu_seconds, 3.0);
        assert_eq!(
            (sum.rss_kib, sum.rss_own_kib, sum.peak_rss_kib),
            (1600, 1400, 1800)
        );
        assert!(Usage::of_all(&[]).unwrap().is_none());
        let own = std::process::id();
        assert!(Usage::of_all(&[own, own]).unwrap().unwrap().rss_kib > 0);
    }

    #[test]
    fn a_process_that_does_not_exist_is_an_error() {
        assert!(Usage::of(u32::MAX).is_err());
        assert!(Usage::of_self().unwrap().rss_kib > 0);
    }
}
