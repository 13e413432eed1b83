//! A lean client: pre-encoded gRPC requests over `h2`, answers scanned for the few fields a run needs; and plain HTTP
//! on the same connections.

mod ask;
mod client;
mod event;
mod fields;
mod message;
mod request;
mod scan;

pub(crate) use client::{Channel, Method, STREAM_WINDOW, Stream, connect, connect_with};
pub(crate) use event::Event;
pub(crate) use message::{framed, take_message};
pub(crate) use request::{KEY_DIGITS, Request, range_of};
pub(crate) use scan::Answer;
