//! Which keys: the wire's pair of key and range end, made so that it means what was asked for.

use bytes::Bytes;

/// Reaches to the end of the key space, as a range end on the wire.
const OPEN: Bytes = Bytes::from_static(b"\0");
/// The first key that can exist.
const FIRST: Bytes = Bytes::from_static(b"\0");
/// An interval without keys. On the wire an empty range end means something else, so emptiness takes a form of
/// its own.
const NONE: Keys = Keys {
    key: Bytes::from_static(b"\0\0"),
    range_end: Bytes::from_static(b"\0\0"),
};

/// One key, or an interval of keys in byte order. Anything that is bytes is a single key: `Keys::from("a")`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Keys {
    key: Bytes,
    range_end: Bytes,
}

impl Keys {
    /// The keys that begin with `prefix`.
    pub fn prefix(prefix: impl Into<Bytes>) -> Keys {
        let prefix = prefix.into();
        if prefix.is_empty() {
            return Keys::all();
        }
        // The end is the prefix with its last byte that can grow grown by one, and cut after it.
        let range_end = match prefix.iter().rposition(|byte| *byte != 0xff) {
            Some(position) => {
                let mut end = prefix[..=position].to_vec();
                end[position] += 1;
                Bytes::from(end)
            }
            None => OPEN,
        };
        Keys {
            key: prefix,
            range_end,
        }
    }

    /// The keys from `start`, up to but without `end`.
    pub fn range(start: impl Into<Bytes>, end: impl Into<Bytes>) -> Keys {
        let (start, end) = (first_if_empty(start.into()), end.into());
        if end <= start {
            return NONE;
        }
        Keys {
            key: start,
            range_end: end,
        }
    }

    /// `start` and every key after it.
    pub fn from_key(start: impl Into<Bytes>) -> Keys {
        Keys {
            key: first_if_empty(start.into()),
            range_end: OPEN,
        }
    }

    /// Every key.
    pub fn all() -> Keys {
        Keys {
            key: FIRST,
            range_end: OPEN,
        }
    }

    /// The pair `key`, `range_end` of the wire.
    pub fn into_wire(self) -> (Bytes, Bytes) {
        (self.key, self.range_end)
    }
}

impl From<Bytes> for Keys {
    fn from(key: Bytes) -> Keys {
        Keys {
            key,
            range_end: Bytes::new(),
        }
    }
}

impl From<&str> for Keys {
    fn from(key: &str) -> Keys {
        Bytes::copy_from_slice(key.as_bytes()).into()
    }
}

impl From<&[u8]> for Keys {
    fn from(key: &[u8]) -> Keys {
        Bytes::copy_from_slice(key).into()
    }
}

impl From<String> for Keys {
    fn from(key: String) -> Keys {
        Bytes::from(key).into()
    }
}

impl From<Vec<u8>> for Keys {
    fn from(key: Vec<u8>) -> Keys {
        Bytes::from(key).into()
    }
}

fn first_if_empty(key: Bytes) -> Bytes {
    if key.is_empty() { FIRST } else { key }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(keys: Keys) -> (Vec<u8>, Vec<u8>) {
        let (key, range_end) = keys.into_wire();
        (key.to_vec(), range_end.to_vec())
    }

    fn pair(key: &[u8], range_end: &[u8]) -> (Vec<u8>, Vec<u8>) {
        (key.to_vec(), range_end.to_vec())
    }

    #[test]
    fn single_key_has_no_range_end() {
        assert_eq!(wire(Keys::from("a")), pair(b"a", b""));
    }

    #[test]
    fn prefix_ends_before_the_next_possible_prefix() {
        assert_eq!(wire(Keys::prefix("a/")), pair(b"a/", b"a0"));
        assert_eq!(
            wire(Keys::prefix(&b"a\xff\xff"[..])),
            pair(b"a\xff\xff", b"b")
        );
    }

    #[test]
    fn prefix_that_cannot_grow_is_open_ended() {
        assert_eq!(
            wire(Keys::prefix(&b"\xff\xff"[..])),
            pair(b"\xff\xff", b"\0")
        );
    }

    #[test]
    fn empty_prefix_is_every_key() {
        assert_eq!(wire(Keys::prefix("")), pair(b"\0", b"\0"));
    }

    #[test]
    fn range_is_passed_on() {
        assert_eq!(wire(Keys::range("a", "c")), pair(b"a", b"c"));
        assert_eq!(wire(Keys::range("", "c")), pair(b"\0", b"c"));
    }

    #[test]
    fn range_without_keys_never_turns_into_another_range() {
        for (start, end) in [
            ("a", ""),
            ("a", "\0"),
            ("\0", "\0"),
            ("", ""),
            ("b", "a"),
            ("a", "a"),
        ] {
            let (key, range_end) = wire(Keys::range(start, end));
            assert!(
                range_end.len() > 1 && range_end <= key,
                "{start:?}..{end:?}: {key:?}, {range_end:?}"
            );
        }
    }
}
