//! What is asked of a request before it is carried out: ranges of limits, quotas, and what its author is warned of.
//!
//! All of it depends on other objects of the namespace, which whoever calls looks up: here is only what they mean.

mod amounts;
pub mod limits;
pub mod quota;
pub mod warnings;
