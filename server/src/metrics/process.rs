//! The figures of the process itself, from `/proc`.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{Counter, IntGauge};

use super::{Registered, set};

/// Linux counts the time of a process in hundredths of a second on every machine it runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Under the names of Prometheus' own clients, and etcd's.
pub(super) struct Process {
    cpu_seconds: Counter,
    resident_bytes: IntGauge,
    virtual_bytes: IntGauge,
    open_files: [IntGauge; 2],
    max_files: [IntGauge; 2],
}

impl Process {
    pub(super) fn new(new: &Registered<'_>) -> Self {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let start = new.gauge(
            "process_start_time_seconds",
            "When the process began, in seconds since 1970.",
        );
        set(&start, now.as_secs());
        Self {
            cpu_seconds: new.add(Counter::new(
                "process_cpu_seconds_total",
                "CPU time of the process.",
            )),
            resident_bytes: new.gauge(
                "process_resident_memory_bytes",
                "Memory of the process in RAM.",
            ),
            virtual_bytes: new.gauge(
                "process_virtual_memory_bytes",
                "Address space of the process.",
            ),
            open_files: [
                new.gauge("process_open_fds", "Open file descriptors."),
                new.gauge("os_fd_used", "Open file descriptors."),
            ],
            max_files: [
                new.gauge("process_max_fds", "File descriptors that may be open."),
                new.gauge("os_fd_limit", "File descriptors that may be open."),
            ],
        }
    }

    /// Reads everything anew; what cannot be read keeps its last figure.
    pub(super) fn refresh(&self) {
        if let Ok(status) = fs::read_to_string("/proc/self/status") {
            let bytes = |key| kilobytes(&status, key).map(|kilobytes| kilobytes * 1024);
            bytes("VmRSS:").inspect(|bytes| set(&self.resident_bytes, *bytes));
            bytes("VmSize:").inspect(|bytes| set(&self.virtual_bytes, *bytes));
        }
        if let Some(ticks) = fs::read_to_string("/proc/self/stat")
            .ok()
            .and_then(|stat| cpu_ticks(&stat))
        {
            let seconds = f64::from(ticks) / TICKS_PER_SECOND;
            // A counter can only grow; two scrapes at once must not count twice.
            self.cpu_seconds
                .inc_by((seconds - self.cpu_seconds.get()).max(0.0));
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            // The reading itself has one open.
            let open = files.count().saturating_sub(1) as u64;
            self.open_files.iter().for_each(|gauge| set(gauge, open));
        }
        if let Some(most) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
            self.max_files.iter().for_each(|gauge| set(gauge, most));
        }
    }
}

/// A figure of `/proc/self/status`, where lines look like `VmRSS:      1234 kB`.
fn kilobytes(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

/// User and system time in `/proc/self/stat`. The second field, a name in parentheses, may hold spaces.
fn cpu_ticks(stat: &str) -> Option<u32> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_process_may_hold_anything() {
        let stat = "42 (a) b) S 1 2 3 4 5 6 7 8 9 10 700 77 0 0 20 0 9 0 1 2 3";
        assert_eq!(cpu_ticks(stat), Some(777));
    }

    #[test]
    fn memory_is_found_by_its_key() {
        assert_eq!(
            kilobytes("Name:\tx\nVmSize:\t  20 kB\nVmRSS:\t  10 kB\n", "VmRSS:"),
            Some(10)
        );
    }

    #[test]
    fn this_process_has_memory_and_files() {
        let registry = prometheus::Registry::new();
        let process = Process::new(&Registered(&registry));
        process.refresh();
        assert!(process.resident_bytes.get() > 1 << 20);
        assert!(process.open_files[0].get() >= 3);
        assert!(process.max_files[0].get() > 0);
    }
}
