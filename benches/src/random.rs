//! Cheap pseudo-random numbers: values that do not compress, and keys in no order.

/// The generator `SplitMix64`: one multiplication chain a number, equal seeds give equal series.
pub(crate) struct Random(u64);

impl Random {
    /// A series of its own for each seed. All are parts of one long series: mixing the seed takes them far from each other.
    pub(crate) fn new(seed: u64) -> Random {
        Random(Random(seed).next())
    }

    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Overwrites `bytes`.
    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        let mut words = bytes.chunks_exact_mut(8);
        for word in &mut words {
            word.copy_from_slice(&self.next().to_le_bytes());
        }
        let rest = words.into_remainder();
        let last = self.next().to_le_bytes();
        let length = rest.len();
        rest.copy_from_slice(&last[..length]);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::Random;

    #[test]
    fn filled_bytes_are_spread_over_all_values_and_repeat_for_the_same_seed() {
        let (mut bytes, mut again) = ([0_u8; 4099], [0_u8; 4099]);
        Random::new(7).fill(&mut bytes);
        Random::new(7).fill(&mut again);
        assert_eq!(bytes, again);
        let mut counts = [0_u32; 256];
        for byte in bytes {
            counts[usize::from(byte)] += 1;
        }
        assert!(counts.iter().all(|count| (1..60).contains(count)));
        Random::new(8).fill(&mut again);
        assert_ne!(bytes, again);
    }
    #[test]
    fn series_of_neighbouring_seeds_do_not_overlap() {
        let series = |seed| {
            let mut random = Random::new(seed);
            (0..1_000).map(move |_| random.next())
        };
        let numbers: HashSet<u64> = (0..100).flat_map(series).collect();
        assert_eq!(numbers.len(), 100_000);
    }
}
