//! The messages and services of etcd v3, gRPC health checks, and Holdfast's own log format and peer protocol.
//!
//! The `.proto` files under `etcd/` and `health/` are a wire format that belongs to others: packages, names and
//! numbers are theirs and a test holds them to it. `holdfast/` is ours: a disk format, and what members say to each other. This crate depends on
//! no other of the workspace.
//!
//! Every `bytes` field is a [`bytes::Bytes`], so that decoding shares the request's buffer. Whoever keeps such a
//! field for long copies it first, or it pins the whole request.

/// All of the above as an encoded `google.protobuf.FileDescriptorSet`, with upstream's names.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    rust_2018_idioms,
    clippy::all,
    reason = "generated code is not ours to polish"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/tree.rs"));
}

/// etcd's packages, under the names that they have on the wire.
pub mod etcd {
    pub use crate::generated::{authpb, etcdserverpb, mvccpb, v3electionpb, v3lockpb};
}

pub use crate::generated::grpc::health::v1 as health;
pub use crate::generated::holdfast::command::v1 as command;
pub use crate::generated::holdfast::peer::v1 as peer;
