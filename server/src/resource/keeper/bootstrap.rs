//! Objects that are there from the beginning, and again if somebody deletes them: `bootstrap.yaml`.

use machinery::decode::{Media, decode};
use machinery::schema::Schemas;
use machinery::status::{Reason, Status};
use serde_json::Value;

use super::graph::Head;
use crate::resource::{Api, meta};

/// One document each.
const OBJECTS: &str = include_str!("bootstrap.yaml");

/// Creates what is not there.
pub(super) async fn run(api: &Api) -> Result<(), Status> {
    api.registry.barrier().await?;
    for text in OBJECTS.split("\n---\n") {
        let object: Value = decode(Media::Yaml, text.as_bytes(), Schemas::builtin(), None)?.value;
        let api_version = object["apiVersion"].as_str().unwrap_or_default();
        let (group, version) = Head::group_version(api_version);
        let name = object["kind"].as_str().unwrap_or_default();
        let Some(kind) = api.kinds.named(group, version, name) else {
            return Err(Status::new(
                Reason::InternalError,
                format!("the objects that must be there name an unknown kind, {name}"),
            ));
        };
        let namespace = meta::text(&object, "namespace").to_owned();
        if api
            .registry
            .look(&kind.key(&namespace, meta::text(&object, "name")))?
            .is_some()
        {
            continue;
        }
        let created = api
            .create_object(kind, &namespace, object, false, api.registry.now())
            .await;
        match created {
            Ok(_) => {}
            Err(error) if error.reason == Reason::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use machinery::kind::Kinds;

    use super::*;

    #[test]
    fn every_object_is_of_a_kind_that_is_served() {
        for text in OBJECTS.split("\n---\n") {
            let decoded = decode(Media::Yaml, text.as_bytes(), Schemas::builtin(), None);
            let object = decoded.unwrap().value;
            let (group, version) = Head::group_version(object["apiVersion"].as_str().unwrap());
            let kind = object["kind"].as_str().unwrap();
            assert!(
                Kinds::builtin().named(group, version, kind).is_some(),
                "{kind}"
            );
        }
    }
}
