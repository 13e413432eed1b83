//! The verbs, one file each; `modify` is what update and patch share.

mod create;
mod delete;
mod modify;
mod read;
mod scale;
mod watch;

pub(super) use self::delete::Deletion;
