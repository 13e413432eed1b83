//! Latencies in logarithmic buckets: constant cost to record, under 1.6 % error to read.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// Each power of two is cut into `1 << PRECISION` buckets.
const PRECISION: u32 = 6;
const STEPS: u64 = 1 << PRECISION;
/// Values below `STEPS` have a bucket each; every power of two above brings `STEPS` more.
const BUCKETS: usize = (64 - PRECISION as usize + 1) << PRECISION;

/// Counts of values from 0 to `u64::MAX`; recording is one atomic addition, so workers share it.
pub(crate) struct Histogram {
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
    largest: AtomicU64,
}

impl Histogram {
    /// An empty histogram.
    pub(crate) fn new() -> Histogram {
        Histogram {
            buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
            largest: AtomicU64::new(0),
        }
    }

    /// Counts one value.
    pub(crate) fn record(&self, value: u64) {
        self.buckets[bucket(value)].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
        self.largest.fetch_max(value, Ordering::Relaxed);
    }

    /// Adds the counts of another histogram.
    pub(crate) fn merge(&self, other: &Histogram) {
        for (mine, theirs) in self.buckets.iter().zip(&other.buckets) {
            mine.fetch_add(theirs.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.sum
            .fetch_add(other.sum.load(Ordering::Relaxed), Ordering::Relaxed);
        self.largest
            .fetch_max(other.largest.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Number of values counted.
    pub(crate) fn count(&self) -> u64 {
        self.buckets
            .iter()
            .map(|bucket| bucket.load(Ordering::Relaxed))
            .sum()
    }

    /// The value that `share` (0 to 1) of all values do not exceed; 0 if there are none.
    pub(crate) fn quantile(&self, share: f64) -> u64 {
        let count = self.count();
        let largest = self.largest.load(Ordering::Relaxed);
        let mut seen = 0_u64;
        for (index, bucket) in self.buckets.iter().enumerate() {
            seen += bucket.load(Ordering::Relaxed);
            if seen > 0 && seen as f64 >= share * count as f64 {
                return middle(index).min(largest);
            }
        }
        largest
    }

    /// Nanoseconds read as microseconds.
    pub(crate) fn latency(&self) -> Latency {
        let count = self.count();
        let micros = |nanos: u64| nanos as f64 / 1e3;
        Latency {
            mean_us: if count == 0 {
                0.0
            } else {
                micros(self.sum.load(Ordering::Relaxed)) / count as f64
            },
            p50_us: micros(self.quantile(0.5)),
            p90_us: micros(self.quantile(0.9)),
            p99_us: micros(self.quantile(0.99)),
            p999_us: micros(self.quantile(0.999)),
            max_us: micros(self.largest.load(Ordering::Relaxed)),
        }
    }
}

/// What a run reports of its latencies.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Latency {
    /// Arithmetic mean.
    pub(crate) mean_us: f64,
    /// Median.
    pub(crate) p50_us: f64,
    /// 90 % are not slower.
    pub(crate) p90_us: f64,
    /// 99 % are not slower.
    pub(crate) p99_us: f64,
    /// 99.9 % are not slower.
    pub(crate) p999_us: f64,
    /// The slowest.
    pub(crate) max_us: f64,
}

fn bucket(value: u64) -> usize {
    let index = if value < STEPS {
        value
    } else {
        let shift = u64::from(63 - value.leading_zeros() - PRECISION);
        // The top bit is always set, so each power of two starts where the one before it ended.
        (shift << PRECISION) + (value >> shift)
    };
    usize::try_from(index).unwrap_or(BUCKETS - 1)
}

/// The middle of the values that fall into a bucket.
fn middle(index: usize) -> u64 {
    let index = index as u64;
    if index < STEPS {
        return index;
    }
    let shift = (index >> PRECISION) - 1;
    let low = (index - (shift << PRECISION)) << shift;
    low + ((1 << shift) >> 1)
}

#[cfg(test)]
mod tests {
    use super::{BUCKETS, Histogram, bucket, middle};

    #[test]
    fn a_bucket_stands_for_its_values_within_one_part_in_sixty_four() {
        let mut value = 1_u64;
        while value < u64::MAX / 3 {
            let error = middle(bucket(value)).abs_diff(value);
            assert!(error <= value / 64, "{value} is off by {error}");
            value += value / 7 + 1;
        }
    }

    #[test]
    fn buckets_follow_each_other_without_gap_up_to_the_largest_value() {
        for exponent in 0..64 {
            let power = 1_u64 << exponent;
            assert_eq!(bucket(power - 1) + 1, bucket(power), "{power}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_of_a_known_series_are_found() {
        let histogram = Histogram::new();
        for value in 1..=1000 {
            histogram.record(value * 1000);
        }
        let latency = histogram.latency();
        for (found, expected) in [
            (latency.p50_us, 500.0),
            (latency.p90_us, 900.0),
            (latency.p99_us, 990.0),
        ] {
            assert!(
                (found - expected).abs() <= expected / 64.0,
                "{found} for {expected}"
            );
        }
        assert_eq!(latency.max_us, 1000.0);
        assert_eq!(latency.mean_us, 500.5);
    }

    #[test]
    fn merging_adds_counts_and_keeps_the_largest() {
        let (left, right) = (Histogram::new(), Histogram::new());
        left.record(10);
        right.record(30);
        right.record(20);
        left.merge(&right);
        assert_eq!(left.count(), 3);
        assert_eq!(left.quantile(0.5), 20);
        assert_eq!(left.quantile(1.0), 30);
    }

    #[test]
    fn an_empty_histogram_answers_zero() {
        assert_eq!(Histogram::new().quantile(0.99), 0);
        assert_eq!(Histogram::new().latency().mean_us, 0.0);
    }
}
