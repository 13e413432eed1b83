//! What a watcher wants: a range of keys and how it wants to see their changes.

use bytes::Bytes;

/// A set of keys in the forms that matching tells apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KeyRange {
    /// Exactly this key.
    One(Bytes),
    /// Every key that starts so.
    Prefix(Bytes),
    /// From the first (included) to the second (excluded).
    Between(Bytes, Bytes),
    /// From this key on.
    From(Bytes),
    /// Every key.
    All,
}

impl KeyRange {
    /// The range that a request names by etcd's convention; none if it is empty.
    ///
    /// The keys are copied: a slice of the request would pin its whole buffer for the life of the watcher.
    pub fn new(key: &[u8], range_end: &[u8]) -> Option<Self> {
        let key = if key.is_empty() { b"\0" } else { key };
        Some(match range_end {
            [] => Self::One(Bytes::copy_from_slice(key)),
            // No key is empty, so "from \0 on" leaves none out.
            [0] if key == b"\0" => Self::All,
            [0] => Self::From(Bytes::copy_from_slice(key)),
            end if key >= end => return None,
            end if is_end_of_prefix(key, end) => Self::Prefix(Bytes::copy_from_slice(key)),
            end => Self::Between(Bytes::copy_from_slice(key), Bytes::copy_from_slice(end)),
        })
    }

    /// The length of its keys.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::One(key) | Self::Prefix(key) | Self::From(key) => key.len(),
            Self::Between(from, to) => from.len() + to.len(),
            Self::All => 0,
        }
    }

    /// Whether the key belongs to it.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::One(one) => key == one,
            Self::Prefix(prefix) => key.starts_with(prefix),
            Self::Between(from, to) => key >= &from[..] && key < &to[..],
            Self::From(from) => key >= &from[..],
            Self::All => true,
        }
    }
}

/// Whether `end` is the first key behind all that start with `key`.
fn is_end_of_prefix(key: &[u8], end: &[u8]) -> bool {
    let Some(last) = key.iter().rposition(|byte| *byte != 0xff) else {
        return false;
    };
    end.len() == last + 1 && end[..last] == key[..last] && end[last] == key[last] + 1
}

/// Watchers with equal interests receive the same bytes, so these are found and built once for all of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Interest {
    /// Which keys.
    pub range: KeyRange,
    /// Puts are not reported.
    pub without_puts: bool,
    /// Deletes are not reported.
    pub without_deletes: bool,
    /// Each event carries what was there before.
    pub with_previous: bool,
    /// A response that is too long may come in pieces.
    pub fragment: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(key: &'static [u8], end: &'static [u8]) -> Option<KeyRange> {
        KeyRange::new(key, end)
    }

    #[test]
    fn the_range_end_convention_is_etcds() {
        assert_eq!(range(b"a", b""), Some(KeyRange::One("a".into())));
        assert_eq!(range(b"", b""), Some(KeyRange::One("\0".into())));
        assert_eq!(range(b"\0", b"\0"), Some(KeyRange::All));
        assert_eq!(range(b"", b"\0"), Some(KeyRange::All));
        assert_eq!(range(b"a", b"\0"), Some(KeyRange::From("a".into())));
        assert_eq!(range(b"a/", b"a0"), Some(KeyRange::Prefix("a/".into())));
        assert_eq!(
            range(b"a", b"c"),
            Some(KeyRange::Between("a".into(), "c".into()))
        );
        assert_eq!(range(b"b", b"a"), None);
        assert_eq!(range(b"a", b"a"), None);
    }

    #[test]
    fn a_prefix_that_ends_in_ff_is_recognised() {
        assert_eq!(
            range(b"a\xff", b"b"),
            Some(KeyRange::Prefix(Bytes::from_static(b"a\xff")))
        );
        assert_eq!(
            range(b"\xff", b"\0"),
            Some(KeyRange::From(Bytes::from_static(b"\xff")))
        );
        let prefix = range(b"a\xff", b"b").unwrap();
        assert!(prefix.contains(b"a\xff\x01"));
        assert!(!prefix.contains(b"a\xfe"));
        assert!(!prefix.contains(b"b"));
    }
}
