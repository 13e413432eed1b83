//! A pace that needs no clock: pauses in proportion to what was done.

use std::time::Duration;

/// How long to pause so that not more than so many bytes a second go.
pub(crate) struct Pace {
    rate: u64,
    done: u64,
}

/// Shorter pauses than this one cost more than they spare.
const STEP: Duration = Duration::from_millis(20);

impl Pace {
    /// Bytes a second.
    pub(crate) fn new(rate: u64) -> Self {
        Self { rate, done: 0 }
    }

    /// After so many bytes more: the pause that is due, if one is.
    pub(crate) fn pause(&mut self, bytes: u64) -> Option<Duration> {
        self.done += bytes;
        let due = Duration::from_micros(self.done.saturating_mul(1_000_000) / self.rate.max(1));
        (due >= STEP).then(|| {
            self.done = 0;
            due
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_add_up_to_the_rate() {
        let mut pace = Pace::new(1 << 20);
        let paused: Duration = (0..100).filter_map(|_| pace.pause(10 << 10)).sum();
        assert!(paused > Duration::from_millis(900) && paused < Duration::from_millis(1_000));
    }
}
