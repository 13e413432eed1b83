//! Label and field selectors.

use serde_json::Value;

use crate::kind::Kind;
use crate::status::Status;

/// What a list or watch is selected by.
#[derive(Clone, Debug, Default)]
pub struct Selector {}

impl Selector {
    /// Reads `labelSelector` and `fieldSelector` of a request.
    ///
    /// # Errors
    ///
    /// If one cannot be read, or names a field that objects of the kind are not selected by.
    pub fn read(_kind: &Kind, _labels: &str, _fields: &str) -> Result<Self, Status> {
        Ok(Self {})
    }

    /// Whether everything matches.
    pub fn is_everything(&self) -> bool {
        true
    }

    /// The only name that matches, if the fields say so.
    pub fn name(&self) -> Option<&str> {
        None
    }

    /// The only namespace that matches, if the fields say so.
    pub fn namespace(&self) -> Option<&str> {
        None
    }

    /// Whether an object matches.
    pub fn matches(&self, _object: &Value) -> bool {
        true
    }
}
