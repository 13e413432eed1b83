//! Protobuf's wire format: fields as they follow each other.

/// A field as it is on the wire.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Wired<'b> {
    /// A number of any length.
    Varint(u64),
    /// Eight bytes.
    Eight(u64),
    /// Any number of bytes.
    Bytes(&'b [u8]),
    /// Four bytes, which no field of Kubernetes has.
    Four,
}

impl Wired<'_> {
    /// As protobuf numbers them.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Varint(_) => 0,
            Self::Eight(_) => 1,
            Self::Bytes(_) => 2,
            Self::Four => 5,
        }
    }
}

/// The fields of a message, by their numbers. Ends after the first error.
pub(super) struct Fields<'b> {
    rest: &'b [u8],
}

impl<'b> Fields<'b> {
    pub(super) fn of(message: &'b [u8]) -> Self {
        Self { rest: message }
    }

    fn field(&mut self) -> Result<(u32, Wired<'b>), String> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| format!("proto: illegal tag {tag}"))?;
        if number == 0 {
            return Err(format!("proto: illegal tag {number} (wire type {tag})"));
        }
        let wired = match tag & 7 {
            0 => Wired::Varint(self.varint()?),
            1 => {
                let bytes = self.take(8)?;
                let bytes = bytes.iter().rev();
                Wired::Eight(bytes.fold(0, |value, byte| value << 8 | u64::from(*byte)))
            }
            2 => {
                let length = self.varint()?;
                let length = usize::try_from(length).map_err(|_| end())?;
                Wired::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Wired::Four
            }
            other => return Err(format!("proto: illegal wireType {other}")),
        };
        Ok((number, wired))
    }

    fn take(&mut self, length: usize) -> Result<&'b [u8], String> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(end)?;
        self.rest = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, String> {
        let (value, length) = varint(self.rest)?;
        self.rest = &self.rest[length..];
        Ok(value)
    }
}

impl<'b> Iterator for Fields<'b> {
    type Item = Result<(u32, Wired<'b>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// A number of any length, and how many bytes it is long.
pub(super) fn varint(bytes: &[u8]) -> Result<(u64, usize), String> {
    let mut value = 0;
    for (place, byte) in bytes.iter().enumerate() {
        if place == 10 {
            return Err("proto: integer overflow".to_owned());
        }
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok((value, place + 1));
        }
    }
    Err(end())
}

fn end() -> String {
    "unexpected EOF".to_owned()
}
