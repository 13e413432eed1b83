//! Whole messages, encoded and decoded: for calls that are not measured.

use anyhow::{Context, Result, ensure};
use bytes::{Buf as _, Bytes, BytesMut};
use prost::Message;

use crate::wire::{Channel, Method};

impl Channel {
    /// One unary call, with every field of its answer.
    pub(crate) async fn fetch<T: Message + Default>(
        &mut self,
        method: &Method,
        request: &impl Message,
    ) -> Result<T> {
        let mut bytes = BytesMut::new();
        let take = |piece: &[u8]| {
            bytes.extend_from_slice(piece);
            Ok(())
        };
        self.download(method, framed(request), take).await?;
        let message = take_message(&mut bytes).context("an answer without a message")?;
        ensure!(bytes.is_empty(), "more than one message in a unary answer");
        T::decode(message).context("decoding an answer")
    }
}

/// Takes the first whole message out of the bytes so far.
pub(crate) fn take_message(bytes: &mut BytesMut) -> Option<Bytes> {
    let prefix: [u8; 5] = bytes.get(..5)?.try_into().ok()?;
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if bytes.len() < 5 + length {
        return None;
    }
    bytes.advance(5);
    Some(bytes.split_to(length).freeze())
}

/// A request as gRPC sends it.
pub(crate) fn framed(message: &impl Message) -> Bytes {
    let body = message.encode_to_vec();
    let length = u32::try_from(body.len()).expect("a request is far below 4 GiB");
    let mut frame = Vec::with_capacity(5 + body.len());
    frame.push(0);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&body);
    frame.into()
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use prost::Message as _;
    use proto::etcd::etcdserverpb::CompactionRequest;

    use super::{framed, take_message};

    #[test]
    fn a_message_is_taken_when_its_last_byte_is_there() {
        let request = CompactionRequest {
            revision: 300,
            physical: true,
        };
        let whole = framed(&request);
        let mut bytes = BytesMut::from(&whole[..whole.len() - 1]);
        assert!(take_message(&mut bytes).is_none());
        bytes.extend_from_slice(&whole[whole.len() - 1..]);
        bytes.extend_from_slice(&[0, 0]);
        let taken = take_message(&mut bytes).unwrap();
        assert_eq!(CompactionRequest::decode(taken).unwrap(), request);
        assert_eq!(&bytes[..], [0, 0]);
    }
}
