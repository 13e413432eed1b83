//! The subresource `scale`: how many there are to be, whatever the kind.

use bytes::Bytes;
use machinery::decode::Media;
use machinery::patch::PatchType;
use machinery::status::{Fault, FieldError, Status};
use serde_json::{Value, json};

use super::modify::{Edit, Patch, check_name};
use crate::resource::asked::Asked;
use crate::resource::reply::Reply;
use crate::resource::{Api, meta};

const SCALE: (&str, &str, &str) = ("autoscaling", "v1", "Scale");

impl Api {
    pub(in crate::resource) async fn get_scale(&self, asked: &Asked) -> Result<Reply, Status> {
        let found = self.registry.get(&asked.key()).await?;
        let found = found.ok_or_else(|| Status::not_found(asked.about()))?;
        let scale = scale_of(&found.value(&asked.kind)?);
        Ok(Reply::scale(&scale, &asked.wish))
    }

    pub(in crate::resource) async fn update_scale(
        &self,
        asked: &Asked,
        media: Media,
        body: &Bytes,
    ) -> Result<Reply, Status> {
        let wanted = asked.other(media, body, SCALE)?;
        self.rescale(asked, &|_| Ok(wanted.clone())).await
    }

    pub(in crate::resource) async fn patch_scale(
        &self,
        asked: &Asked,
        patch_type: PatchType,
        body: &Bytes,
    ) -> Result<Reply, Status> {
        let patch = Patch::read(patch_type, body)?;
        self.rescale(asked, &|scale| {
            patch.apply(asked, scale, SCALE, &mut Vec::new())
        })
        .await
    }

    async fn rescale(
        &self,
        asked: &Asked,
        wanted: &(dyn Fn(&Value) -> Result<Value, Status> + Sync),
    ) -> Result<Reply, Status> {
        let edit = |object: &mut Value| {
            let wanted = wanted(&scale_of(object))?;
            check_name(asked, &wanted)?;
            let replicas = wanted["spec"]["replicas"].as_i64().unwrap_or(0);
            if replicas < 0 {
                let detail = "must be greater than or equal to 0";
                let error = FieldError::new("spec.replicas", Fault::Invalid, detail).of(replicas);
                let about = machinery::status::About {
                    group: SCALE.0.to_owned(),
                    kind: SCALE.2.to_owned(),
                    name: asked.target.name.clone(),
                };
                return Err(Status::invalid(about, &[error]));
            }
            let version = meta::text(&wanted, "resourceVersion");
            if !version.is_empty() {
                meta::of(object).insert("resourceVersion".to_owned(), version.into());
            }
            object["spec"]["replicas"] = json!(replicas);
            Ok(())
        };
        // The whole object is written, by whoever may only write this of it.
        let whole = Asked {
            kind: asked.kind.clone(),
            target: crate::resource::path::Target {
                subresource: String::new(),
                ..asked.target.clone()
            },
            query: asked.query.clone(),
            wish: asked.wish.clone(),
        };
        let modified = self
            .modify(&whole, &Edit::Other(&edit), &mut Vec::new())
            .await?;
        Ok(Reply::scale(
            &scale_of(&modified.written.object),
            &asked.wish,
        ))
    }
}

fn scale_of(object: &Value) -> Value {
    let metadata = &object["metadata"];
    let mut scale = json!({
        "kind": SCALE.2,
        "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
            "creationTimestamp": metadata["creationTimestamp"],
        },
        "spec": {},
        "status": { "replicas": object["status"]["replicas"].as_i64().unwrap_or(0) },
    });
    if let Some(replicas) = object["spec"]["replicas"]
        .as_i64()
        .filter(|replicas| *replicas != 0)
    {
        scale["spec"]["replicas"] = json!(replicas);
    }
    let selector = selector_text(&object["spec"]["selector"]);
    if !selector.is_empty() {
        scale["status"]["selector"] = json!(selector);
    }
    scale
}

/// A selector as text: a map of labels, or `matchLabels` of one.
fn selector_text(selector: &Value) -> String {
    let labels = match selector.get("matchLabels") {
        Some(labels) => labels,
        None => selector,
    };
    let pairs = labels.as_object().into_iter().flatten();
    let pairs = pairs.filter_map(|(name, value)| Some(format!("{name}={}", value.as_str()?)));
    pairs.collect::<Vec<_>>().join(",")
}
