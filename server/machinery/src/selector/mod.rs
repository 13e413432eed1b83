//! Label and field selectors: what lists and watches are selected by.

pub mod fields;
pub mod labels;
mod syntax;

use serde_json::Value;

use crate::kind::Kind;
use crate::status::Status;
use fields::Fields;
use labels::Labels;

/// What a list or watch is selected by. Matching neither allocates nor parses: it is done for each object of a list and
/// for each event of a watch.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    /// By labels.
    pub labels: Labels,
    /// By fields.
    pub fields: Fields,
}

impl Selector {
    /// Reads `labelSelector` and `fieldSelector` of a request.
    ///
    /// # Errors
    ///
    /// If one cannot be read, or names a field that objects of the kind are not selected by.
    pub fn read(kind: &Kind, labels: &str, fields: &str) -> Result<Self, Status> {
        Ok(Self {
            labels: Labels::read(labels)?,
            fields: Fields::read(kind, fields)?,
        })
    }

    /// Whether everything matches.
    pub fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    /// The only name that matches, if the fields say so.
    pub fn name(&self) -> Option<&str> {
        self.fields.required("metadata.name")
    }

    /// The only namespace that matches, if the fields say so.
    pub fn namespace(&self) -> Option<&str> {
        self.fields.required("metadata.namespace")
    }

    /// Whether an object matches.
    pub fn matches(&self, object: &Value) -> bool {
        self.fields.matches(object) && self.labels.matches(object)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kind::Kinds;

    #[test]
    fn labels_and_fields_must_both_match() {
        let pods = Kinds::builtin().at("", "v1", "pods").unwrap();
        let selector =
            Selector::read(pods, "app=web", "metadata.name=a,metadata.namespace=n").unwrap();
        let pod = |name: &str, app: &str| json!({"metadata": {"name": name, "namespace": "n", "labels": {"app": app}}});
        assert!(selector.matches(&pod("a", "web")));
        assert!(!selector.matches(&pod("b", "web")));
        assert!(!selector.matches(&pod("a", "log")));
        assert!(!selector.is_everything());
        assert_eq!(selector.name(), Some("a"));
        assert_eq!(selector.namespace(), Some("n"));
    }

    #[test]
    fn an_empty_selector_selects_everything() {
        let pods = Kinds::builtin().at("", "v1", "pods").unwrap();
        for selector in [
            Selector::default(),
            Selector::read(pods, "", "").unwrap(),
            Selector::read(pods, " ", ",").unwrap(),
        ] {
            assert!(selector.is_everything());
            assert!(selector.matches(&json!({})));
            assert_eq!((selector.name(), selector.namespace()), (None, None));
        }
    }
}
