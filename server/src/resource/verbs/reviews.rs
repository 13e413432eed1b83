//! Questions that are asked by creating something that is not kept: who am I, may I?

use bytes::Bytes;
use http::StatusCode;
use machinery::decode::Media;
use machinery::status::Status;
use serde_json::{Value, json};

use crate::resource::Api;
use crate::resource::asked::Asked;
use crate::resource::reply::Reply;
use crate::resource::who::User;

/// Whether objects of a kind are questions.
pub(in crate::resource) fn is_review(asked: &Asked) -> bool {
    matches!(
        asked.kind.group.as_str(),
        "authentication.k8s.io" | "authorization.k8s.io"
    )
}

impl Api {
    /// Answers a question.
    pub(in crate::resource) fn review(
        &self,
        asked: &Asked,
        user: &User,
        media: Media,
        body: &Bytes,
    ) -> Result<Reply, Status> {
        let mut warnings = Vec::new();
        let mut review = asked.object(media, body, &mut warnings)?;
        let spec = &review["spec"];
        let status = match asked.kind.kind.as_str() {
            "SelfSubjectReview" => json!({
                "userInfo": { "username": user.name, "groups": user.groups },
            }),
            "SelfSubjectAccessReview" => may(user.may_all()),
            "SubjectAccessReview" | "LocalSubjectAccessReview" => {
                let groups = spec["groups"].as_array().into_iter().flatten();
                let groups = groups.filter_map(|group| group.as_str().map(str::to_owned));
                let about = User {
                    name: spec["user"].as_str().unwrap_or_default().to_owned(),
                    groups: groups.collect(),
                };
                may(about.may_all())
            }
            "SelfSubjectRulesReview" => json!({
                "incomplete": false,
                "resourceRules": [{ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"] }],
                "nonResourceRules": [{ "verbs": ["*"], "nonResourceURLs": ["*"] }],
            }),
            // There are no tokens yet.
            _ => json!({ "authenticated": false, "user": {} }),
        };
        review["status"] = status;
        let mut reply = Reply::value(StatusCode::CREATED, &review);
        reply.warnings = warnings;
        Ok(reply)
    }
}

fn may(is_allowed: bool) -> Value {
    if is_allowed {
        json!({ "allowed": true })
    } else {
        json!({ "allowed": false, "reason": "only the holder of admin.kubeconfig may do anything yet" })
    }
}
