//! What is done to pods by creating something at them: a node is chosen, or they are evicted.

use bytes::Bytes;
use http::StatusCode;
use machinery::decode::Media;
use machinery::selector::labels::Labels;
use machinery::status::{About, Reason, Status};
use serde_json::{Value, json};

use super::delete::Deletion;
use super::modify::Edit;
use crate::resource::asked::Asked;
use crate::resource::path::{Query, Target};
use crate::resource::reply::{Reply, Wish};
use crate::resource::{Api, meta, stored};

impl Api {
    /// Chooses the node of a pod, which has none yet.
    pub(in crate::resource) async fn bind(
        &self,
        asked: &Asked,
        media: Media,
        body: &Bytes,
    ) -> Result<Reply, Status> {
        let binding = asked.other(media, body, ("", "v1", "Binding"))?;
        let target = &binding["target"];
        let node = target["name"].as_str().unwrap_or_default().to_owned();
        let kind = target["kind"].as_str().unwrap_or_default();
        if node.is_empty() || !matches!(kind, "" | "Node") {
            return Err(Status::bad_request(
                "a pod can only be bound to a Node, by its name",
            ));
        }
        let now = meta::timestamp(asked.wish.now);
        let about = About {
            kind: "pods/binding".to_owned(),
            ..asked.about()
        };
        let edit = |pod: &mut Value| {
            let held = pod["spec"]["nodeName"].as_str().unwrap_or_default();
            if !held.is_empty() {
                let why = format!(
                    "pod {} is already assigned to node {held:?}",
                    asked.target.name
                );
                return Err(Status::conflict(about.clone(), &why));
            }
            if meta::is_being_deleted(pod) {
                let why = format!(
                    "pod {} is being deleted, cannot be assigned to a host",
                    asked.target.name
                );
                return Err(Status::conflict(about.clone(), &why));
            }
            pod["spec"]["nodeName"] = json!(node);
            let annotations = binding["metadata"]["annotations"].as_object();
            for (name, value) in annotations.into_iter().flatten() {
                pod["metadata"]["annotations"][name] = value.clone();
            }
            let mut conditions = pod["status"]["conditions"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            conditions.retain(|one| one["type"] != "PodScheduled");
            conditions.push(json!({
                "type": "PodScheduled", "status": "True", "lastTransitionTime": now,
            }));
            pod["status"]["conditions"] = json!(conditions);
            Ok(())
        };
        let query = Query::default();
        let whole = part_of(asked, "binding", query);
        self.modify(&whole, &Edit::Other(&edit), &mut Vec::new())
            .await?;
        Ok(done(StatusCode::CREATED))
    }

    /// Deletes a pod, unless a disruption budget forbids it.
    pub(in crate::resource) async fn evict(
        &self,
        asked: &Asked,
        media: Media,
        body: &Bytes,
    ) -> Result<Reply, Status> {
        let eviction = asked.other(media, body, ("policy", "v1", "Eviction"))?;
        let mut deletion = Deletion::of(&eviction["deleteOptions"], &asked.query)?;
        deletion.is_dry |= asked.is_dry_run();
        let (kind, namespace) = (&asked.kind, &asked.target.namespace);
        let found = self.registry.get(&asked.key()).await?;
        let found = found.ok_or_else(|| Status::not_found(asked.about()))?;
        let pod = found.value(kind)?;
        let budgets = self.kind("policy", "v1", "poddisruptionbudgets");
        for record in self.registry.all(&budgets.key(namespace, ""))? {
            let budget = stored::parse(record.value(), record.mod_revision(), budgets)?;
            let covers = Labels::of_object(&budget["spec"]["selector"])
                .is_ok_and(|labels| labels.matches(&pod));
            if covers && budget["status"]["disruptionsAllowed"].as_i64().unwrap_or(0) <= 0 {
                let name = meta::text(&budget, "name");
                let message = "Cannot evict pod as it would violate the pod's disruption budget.";
                let cause = format!("The disruption budget {name} does not allow a disruption now");
                return Err(Status::new(Reason::TooManyRequests, message).because(
                    "DisruptionBudget",
                    cause,
                    "",
                ));
            }
        }
        self.delete_object(
            kind,
            namespace,
            &asked.target.name,
            &deletion,
            asked.wish.now,
        )
        .await?;
        Ok(done(StatusCode::CREATED))
    }
}

/// The same object, written as one of its parts.
fn part_of(asked: &Asked, subresource: &str, query: Query) -> Asked {
    Asked {
        kind: asked.kind.clone(),
        target: Target {
            subresource: subresource.to_owned(),
            ..asked.target.clone()
        },
        query,
        wish: Wish {
            now: asked.wish.now,
            ..Wish::default()
        },
    }
}

fn done(code: StatusCode) -> Reply {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code.as_u16(),
    });
    Reply::value(code, &status)
}
