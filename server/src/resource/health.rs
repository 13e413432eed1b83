//! Whether this member is well: one check each for what that is made of, in the words of kube-apiserver.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};

use machinery::status::Status;
use serde_json::{Value, json};

use super::asked::Asked;
use super::path::Query;
use super::reply::{List, Reply};
use super::{Api, reply};
use crate::etcd::Body;

/// Set once the first objects have been seen, which are there from then on.
#[derive(Default)]
pub(super) struct Furnished(AtomicBool);

/// What can be checked. A restart would not help against what is missing in the last ones: `livez` leaves them out.
const CHECKS: [&str; 4] = ["ping", "log", "etcd", "poststarthook/bootstrap"];
const OF_LIFE: usize = 2;

impl Api {
    /// Answers `/livez`, `/readyz` or `/healthz`, or one check of it; none if there is no such check.
    pub(super) fn health(&self, path: &str, query: &Query) -> Option<Response<Body>> {
        let (of, one) = path.split_once('/').unwrap_or((path, ""));
        let among = if of == "livez" { OF_LIFE } else { CHECKS.len() };
        let excluded: Vec<&str> = query.all("exclude").collect();
        let checks: Vec<&str> = match one {
            "" => CHECKS[..among]
                .iter()
                .copied()
                .filter(|check| !excluded.contains(check))
                .collect(),
            one => vec![CHECKS.into_iter().find(|check| *check == one)?],
        };
        let results: Vec<(&str, bool)> = checks
            .into_iter()
            .map(|check| (check, self.is_well(check)))
            .collect();
        let is_well = results.iter().all(|(_, is_well)| *is_well);
        let code = if is_well {
            StatusCode::OK
        } else {
            StatusCode::INTERNAL_SERVER_ERROR
        };
        let is_verbose = query.all("verbose").next().is_some();
        let text = if is_well && (!is_verbose || !one.is_empty()) {
            "ok".to_owned()
        } else {
            listed(of, &results)
        };
        let media = HeaderValue::from_static("text/plain; charset=utf-8");
        Some(reply::whole(code, media, Bytes::from(text)))
    }

    /// The kind `ComponentStatus`, which nobody keeps: of what upstream names only the store is here.
    pub(super) fn components(&self, asked: &Asked) -> Result<Reply, Status> {
        let is_well = self.is_well("etcd");
        let (status, message) = if is_well {
            ("True", "ok")
        } else {
            ("False", "the cluster has no leader")
        };
        let store = json!({
            "kind": asked.kind.kind,
            "apiVersion": asked.kind.api_version(),
            "metadata": { "name": "etcd-0" },
            "conditions": [{ "type": "Healthy", "status": status, "message": message }],
        });
        if asked.target.name.is_empty() {
            let selector = asked.selector()?;
            let list = List {
                kind: &asked.kind,
                revision: self.registry.reader().view().revision,
                token: None,
                remaining: None,
            };
            let found: Vec<Value> = [store]
                .into_iter()
                .filter(|one| selector.matches(one))
                .collect();
            return list.of_values(&found, &asked.wish);
        }
        if asked.target.name != "etcd-0" {
            return Err(Status::not_found(asked.about()));
        }
        let code = StatusCode::OK;
        Ok(Reply::object(code, &asked.kind, &store, &asked.wish))
    }

    fn is_well(&self, check: &str) -> bool {
        match check {
            "etcd" => self.registry.node.status().has_leader,
            "poststarthook/bootstrap" => self.is_furnished(),
            // Whoever answers is there.
            _ => true,
        }
    }

    /// Whether what must be there from the beginning has been made.
    fn is_furnished(&self) -> bool {
        let seen = &self.furnished.0;
        if seen.load(Ordering::Relaxed) {
            return true;
        }
        let key = self.kind("", "v1", "services").key("default", "kubernetes");
        let is_there = matches!(self.registry.look(&key), Ok(Some(_)));
        seen.store(is_there, Ordering::Relaxed);
        is_there
    }
}

/// Every check on a line of its own.
fn listed(of: &str, results: &[(&str, bool)]) -> String {
    let mut text = String::new();
    for (check, is_well) in results {
        text += &match (*is_well, *check) {
            (true, check) => format!("[+]{check} ok\n"),
            (false, "etcd") => "[-]etcd failed: the cluster has no leader\n".to_owned(),
            (false, check) => format!("[-]{check} failed: the first objects are not there yet\n"),
        };
    }
    let is_well = results.iter().all(|(_, is_well)| *is_well);
    let verdict = if is_well { "passed" } else { "failed" };
    text + &format!("{of} check {verdict}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_has_a_line_and_the_last_says_how_all_are() {
        assert_eq!(
            listed("livez", &[("ping", true), ("log", true)]),
            "[+]ping ok\n[+]log ok\nlivez check passed\n"
        );
        let text = listed("readyz", &[("ping", true), ("etcd", false)]);
        assert!(text.starts_with("[+]ping ok\n[-]etcd failed: "), "{text}");
        assert!(text.ends_with("\nreadyz check failed\n"), "{text}");
    }
}
