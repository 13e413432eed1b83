//! The verbs, one file each; `modify` is what update and patch share.

mod create;
mod delete;
mod modify;
mod pods;
mod read;
mod reviews;
mod scale;
mod watch;

pub(super) use self::delete::Deletion;
pub(super) use self::reviews::is_review;
pub(super) use self::watch::{begin_line, end_line, previous};
