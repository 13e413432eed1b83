//! Things shared out as evenly as they go, in their order: watchers to streams, streams to connections.

use std::ops::Range;

/// Which of `total` things the part of this number has.
pub(super) fn of(total: usize, parts: usize, part: usize) -> Range<usize> {
    total * part / parts..total * (part + 1) / parts
}

/// Which part has a thing.
pub(super) fn holder(total: usize, parts: usize, thing: usize) -> usize {
    ((thing + 1) * parts - 1) / total
}

#[cfg(test)]
mod tests {
    use super::{holder, of};

    #[test]
    fn everything_is_in_the_one_part_that_holds_it() {
        for (total, parts) in [(10_000, 100), (1000, 7), (7, 7), (3, 7), (1, 1)] {
            let mut seen = 0;
            for part in 0..parts {
                for thing in of(total, parts, part) {
                    assert_eq!((thing, holder(total, parts, thing)), (seen, part));
                    seen += 1;
                }
            }
            assert_eq!(seen, total);
        }
    }
}
