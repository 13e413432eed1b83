//! Kubernetes' rules for objects, as pure functions over JSON trees: no I/O, no clock, no randomness.
//!
//! A kind is data: what [`kind`] says of it, its [`schema`], its defaults, rules and columns. The tables are files in
//! `data/`, some made from upstream's published ones by the command `import`. Nothing here knows of HTTP, of the store,
//! or of any one kind but through the tables.

pub mod admission;
pub mod convert;
pub mod decode;
pub mod defaults;
pub mod discovery;
pub mod kind;
pub mod openapi;
pub mod patch;
pub mod quantity;
pub mod schema;
pub mod selector;
pub mod status;
pub mod table;
pub mod validate;
