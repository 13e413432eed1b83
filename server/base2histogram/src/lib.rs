//! A histogram that keeps nothing.
//!
//! openraft counts batch sizes and stages in `base2histogram`, readable only with its feature `runtime-stats`,
//! which Holdfast does not turn on: it has metrics of its own. The real crate builds 26 MiB of tables at its first
//! use, a twelfth of what a node with half a million keys may take, so this one stands in for it.

use std::fmt;
use std::marker::PhantomData;

/// Takes values and keeps none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram<T = ()>(PhantomData<T>);

/// What there is to say about no values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PercentileStats {
    /// How many values there are.
    pub samples: u64,
    /// Percentile 0.1.
    pub p0_1: u64,
    /// Percentile 1.
    pub p1: u64,
    /// Percentile 5.
    pub p5: u64,
    /// Percentile 10.
    pub p10: u64,
    /// The median.
    pub p50: u64,
    /// Percentile 90.
    pub p90: u64,
    /// Percentile 99.
    pub p99: u64,
    /// Percentile 99.9.
    pub p99_9: u64,
}

/// A picture of nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct AsciiChart;

impl<T> Histogram<T> {
    /// An empty one; it stays empty.
    #[must_use]
    pub const fn new() -> Self {
        Self(PhantomData)
    }

    /// Forgets the value.
    pub const fn record(&mut self, _: u64) {}

    /// Forgets the value as often.
    pub const fn record_n(&mut self, _: u64, _: u64) {}

    /// Zeros.
    #[must_use]
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats::default()
    }
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not counted")
    }
}

impl AsciiChart {
    /// An empty chart.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }

    /// Still empty.
    #[must_use]
    pub fn add(self, _: &str, _: Histogram) -> Self {
        self
    }
}
