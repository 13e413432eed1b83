//! What a run looks for in answers: how many objects they have, their revision, and what a watch tells; nothing is parsed.

use anyhow::{Context, Result, bail};

use crate::api::objects::NAME_PREFIX;

/// What is in front of every object's name and nowhere else in it, behind its first quote: the first byte of what is
/// looked for must not come again in it.
const MARK: &[u8] = b"name\":\"";

/// Counts the objects of an answer that comes in pieces.
#[derive(Default)]
pub(crate) struct Objects {
    count: u64,
    /// Bytes of the mark and the prefix seen so far.
    matched: usize,
}

impl Objects {
    /// Takes the next piece.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) {
        let expected = |place: usize| match MARK.get(place) {
            Some(byte) => *byte,
            None => NAME_PREFIX.as_bytes()[place - MARK.len()],
        };
        while let Some(byte) = bytes.first() {
            if self.matched == 0 {
                let Some(place) = bytes.iter().position(|byte| *byte == MARK[0]) else {
                    return;
                };
                self.matched = 1;
                bytes = &bytes[place + 1..];
            } else if *byte == expected(self.matched) {
                self.matched += 1;
                bytes = &bytes[1..];
                if self.matched == MARK.len() + NAME_PREFIX.len() {
                    self.count += 1;
                    self.matched = 0;
                }
            } else {
                // The byte may be the first of a mark.
                self.matched = 0;
            }
        }
    }

    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}

/// How many objects a whole answer has.
pub(crate) fn count(answer: &[u8]) -> u64 {
    let mut objects = Objects::default();
    objects.feed(answer);
    objects.count()
}

/// The first `resourceVersion` of an answer: that of the object, or that of the list.
pub(crate) fn revision(answer: &[u8]) -> Result<i64> {
    const NAME: &[u8] = b"\"resourceVersion\":\"";
    let place = answer.windows(NAME.len()).position(|part| part == NAME);
    let rest = &answer[place.context("an answer without a resourceVersion")? + NAME.len()..];
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let revision = std::str::from_utf8(&rest[..digits])?.parse();
    revision.context("a resourceVersion that is no number")
}

/// How the line of a change begins. Everything is there before a watch begins, so nothing else may come.
const CHANGE: &[u8] = b"{\"type\":\"MODIFIED\"";
/// What of another line is shown.
const SHOWN_BYTES: usize = 300;

/// Counts the events of a watch, which come one a line, in pieces.
#[derive(Default)]
pub(crate) struct Lines {
    /// Bytes of the line seen so far, up to the length of [`CHANGE`].
    begun: usize,
}

impl Lines {
    /// Takes the next piece; answers with how many lines it ends.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Result<u64> {
        let mut ended = 0;
        while !bytes.is_empty() {
            let missing = CHANGE.len() - self.begun;
            if missing > 0 {
                let part = &bytes[..missing.min(bytes.len())];
                if !CHANGE[self.begun..].starts_with(part) {
                    let shown = &bytes[..bytes.len().min(SHOWN_BYTES)];
                    bail!(
                        "a watch tells something else than a change: {}",
                        String::from_utf8_lossy(shown)
                    );
                }
                self.begun += part.len();
                bytes = &bytes[part.len()..];
                continue;
            }
            let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
                break;
            };
            ended += 1;
            self.begun = 0;
            bytes = &bytes[end + 1..];
        }
        Ok(ended)
    }
}

#[cfg(test)]
mod tests {
    use super::{Lines, Objects, count, revision};

    const LIST: &str = r#"{"kind":"ConfigMapList","apiVersion":"v1","metadata":{"resourceVersion":"1604"},"items":[
        {"metadata":{"name":"item-0000000001","namespace":"bench","resourceVersion":"16"},"data":{"value":"ename"}},
        {"metadata":{"name":"other","namespace":"bench","resourceVersion":"17"},"data":{"nname":"x"}},
        {"metadata":{"namespace":"bench","name":"item-0000000002","resourceVersion":"18"}}]}"#;

    #[test]
    fn objects_are_counted_wherever_the_pieces_end() {
        assert_eq!(count(LIST.as_bytes()), 2);
        for size in 1..40 {
            let mut objects = Objects::default();
            for piece in LIST.as_bytes().chunks(size) {
                objects.feed(piece);
            }
            assert_eq!(objects.count(), 2, "pieces of {size}");
        }
        // A false start right before a true one.
        assert_eq!(count(br#""nname":"item-"#), 1);
        assert_eq!(count(br#""nanamename":"item"#), 0);
    }

    #[test]
    fn the_first_revision_is_read() {
        assert_eq!(revision(LIST.as_bytes()).unwrap(), 1604);
        let error = |text: &str| revision(text.as_bytes()).unwrap_err().to_string();
        assert!(error("{}").contains("without a resourceVersion"));
        assert!(error(r#"{"resourceVersion":"x"}"#).contains("no number"));
        assert!(error(r#"{"resourceVersion":""#).contains("no number"));
    }

    #[test]
    fn changes_are_counted_line_by_line_wherever_the_pieces_end() {
        let line = "{\"type\":\"MODIFIED\",\"object\":{\"kind\":\"ConfigMap\"}}\n";
        let text = line.repeat(5);
        for size in 1..60 {
            let mut lines = Lines::default();
            let pieces = text.as_bytes().chunks(size);
            let ended: u64 = pieces.map(|piece| lines.feed(piece).unwrap()).sum();
            assert_eq!(ended, 5, "pieces of {size}");
            assert_eq!(lines.begun, 0);
        }
        let mut lines = Lines::default();
        assert_eq!(lines.feed(&text.as_bytes()[..text.len() - 1]).unwrap(), 4);
        assert_eq!(lines.feed(b"\n").unwrap(), 1);
    }

    #[test]
    fn anything_but_a_change_is_an_error_that_shows_it() {
        let text = b"{\"type\":\"ERROR\",\"object\":{\"code\":410}}\n";
        let error = Lines::default().feed(text).unwrap_err().to_string();
        assert!(
            error.ends_with("\"ERROR\",\"object\":{\"code\":410}}\n"),
            "{error}"
        );
    }
}
