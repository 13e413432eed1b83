//! The fields of an encoded message that lies in one piece, one after the other.

use anyhow::{Context, Result, bail};

/// What is left of a message.
pub(super) struct Fields<'a>(&'a [u8]);

/// The content of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Fields<'a> {
    /// Begins with the first field.
    pub(super) fn of(message: &'a [u8]) -> Fields<'a> {
        Fields(message)
    }

    /// Number and content of the next field; none after the last one.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Content<'a>)>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.number()?;
        let content = match tag & 7 {
            0 => Content::Number(self.number()?),
            2 => {
                let length = usize::try_from(self.number()?)?;
                let split = self.0.split_at_checked(length);
                let (bytes, rest) = split.context("a message ends in the middle of a field")?;
                self.0 = rest;
                Content::Bytes(bytes)
            }
            kind => bail!("the wire type {kind}, which etcd does not use"),
        };
        Ok(Some((tag >> 3, content)))
    }

    fn number(&mut self) -> Result<u64> {
        let (mut value, mut shift) = (0, 0);
        for (place, byte) in self.0.iter().enumerate() {
            if varint(&mut value, &mut shift, *byte)? {
                self.0 = &self.0[place + 1..];
                return Ok(value);
            }
        }
        bail!("a message ends in the middle of a number")
    }
}

/// Adds one byte to a number; true if it was the last one.
pub(super) fn varint(value: &mut u64, shift: &mut u32, byte: u8) -> Result<bool> {
    if *shift > 63 {
        bail!("a number of more than ten bytes");
    }
    *value |= u64::from(byte & 0x7f) << *shift;
    *shift += 7;
    Ok(byte & 0x80 == 0)
}

#[cfg(test)]
mod tests {
    use super::{Content, Fields};

    #[test]
    fn cut_fields_are_errors() {
        let fields = |bytes: &'static [u8]| Fields::of(bytes).next().map_err(|e| e.to_string());
        assert_eq!(
            fields(&[0x08, 0x81, 1]),
            Ok(Some((1, Content::Number(129))))
        );
        assert_eq!(fields(&[0x12, 1, 7]), Ok(Some((2, Content::Bytes(&[7])))));
        assert_eq!(fields(&[]), Ok(None));
        assert!(fields(&[0x08]).unwrap_err().contains("middle of a number"));
        assert!(
            fields(&[0x12, 2, 7])
                .unwrap_err()
                .contains("middle of a field")
        );
        assert!(fields(&[0x0d]).unwrap_err().contains("wire type 5"));
    }
}
