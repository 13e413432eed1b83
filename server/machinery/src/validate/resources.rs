//! Names and amounts of resources: what containers ask for, what quotas and nodes have.

use serde_json::json;

use super::amount::{Amount, MALFORMED};
use super::names;
use super::place::Place;
use super::report::Report;

/// What a container or pod may ask for without a domain.
const OF_CONTAINERS: [&str; 3] = ["cpu", "ephemeral-storage", "memory"];

/// What else there is without a domain.
const STANDARD: [&str; 15] = [
    "configmaps",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
    "resourcequotas",
    "secrets",
    "services",
    "storage",
];

/// More that quotas count.
const OF_QUOTAS: [&str; 2] = ["services.loadbalancers", "services.nodeports"];

/// Those that there is only a whole number of.
const COUNTED: [&str; 9] = [
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];

/// Who asks for a resource, or has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// A container or pod.
    Container,
    /// A quota.
    Quota,
    /// A claim of a volume, or a range of limits of one.
    Any,
}

fn is_of_huge_pages(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// Kubernetes' own: without a domain, or of its domain.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether more of it may be promised than there is.
fn may_be_overcommitted(name: &str) -> bool {
    is_native(name) && !is_of_huge_pages(name)
}

fn is_standard(name: &str) -> bool {
    OF_CONTAINERS.contains(&name)
        || STANDARD.contains(&name)
        || OF_QUOTAS.contains(&name)
        || is_of_huge_pages(name)
}

/// Whether it is a name that quotas know by themselves.
pub(super) fn is_of_quotas(name: &str) -> bool {
    let is_huge = is_of_huge_pages(name) || name.starts_with("requests.hugepages-");
    is_huge || (is_standard(name) && name != "storage")
}

/// A name of a resource.
pub(super) fn check_name(place: &Place<'_>, name: &str, owner: Owner, report: &mut Report) {
    let mut refuse = |detail: &str| report.invalid_value(place, json!(name), detail);
    let errors = names::qualified(name);
    if !errors.is_empty() {
        return errors.iter().for_each(|detail| refuse(detail));
    }
    let has_domain = name.contains('/');
    let is_standard =
        is_standard(name) || (owner == Owner::Quota && name.starts_with("requests.hugepages-"));
    if !has_domain && !is_standard {
        refuse("must be a standard resource type or fully qualified");
    }
    match owner {
        Owner::Container
            if !has_domain && !OF_CONTAINERS.contains(&name) && !is_of_huge_pages(name) =>
        {
            refuse("must be a standard resource for containers");
        }
        Owner::Container if has_domain && !is_native(name) && name.starts_with("requests.") => {
            refuse("doesn't follow extended resource name standard");
        }
        _ => {}
    }
}

/// An amount of a resource: not negative, and whole if it is counted.
pub(super) fn check_amount(place: &Place<'_>, name: &str, report: &mut Report) -> Option<Amount> {
    let amount = Amount::read(place.value);
    match amount {
        None => report.invalid(place, MALFORMED),
        Some(amount) if amount.is_negative() => {
            report.invalid(place, "must be greater than or equal to 0")
        }
        Some(amount) if !amount.is_whole() && (COUNTED.contains(&name) || !is_native(name)) => {
            report.invalid(place, "must be an integer");
        }
        Some(_) => {}
    }
    amount
}

/// What a container or pod asks for: good names and amounts, and no more than its limits.
pub(super) fn check_requirements(resources: &Place<'_>, owner: Owner, report: &mut Report) {
    let (limits, requests) = (resources.at("limits"), resources.at("requests"));
    let mut has_huge_pages = false;
    let mut has_base = false;
    let mut note = |name: &str| {
        has_huge_pages |= is_of_huge_pages(name);
        has_base |= ["cpu", "memory"].contains(&name);
    };
    for (name, amount) in limits.entries() {
        check_name(&amount, name, owner, report);
        check_amount(&amount, name, report);
        note(name);
    }
    for (name, place) in requests.entries() {
        check_name(&place, name, owner, report);
        let requested = check_amount(&place, name, report);
        note(name);
        let limit = limits.key(name);
        if !limit.is_there() {
            if !may_be_overcommitted(name) {
                report.required(
                    &limits,
                    "Limit must be set for non overcommitable resources",
                );
            }
            continue;
        }
        let (Some(requested), Some(most)) = (requested, Amount::read(limit.value)) else {
            continue;
        };
        let shown = limit
            .value
            .as_str()
            .map_or_else(|| limit.value.to_string(), str::to_owned);
        if requested != most && !may_be_overcommitted(name) {
            let detail = format!("must be equal to {name} limit of {shown}");
            report.invalid_value(&requests, place.value.clone(), detail);
        } else if requested > most {
            let detail = format!("must be less than or equal to {name} limit of {shown}");
            report.invalid_value(&requests, place.value.clone(), detail);
        }
    }
    if has_huge_pages && !has_base && owner == Owner::Container {
        report.forbidden(resources, "HugePages require cpu or memory");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn found(resources: &Value) -> Vec<String> {
        let mut report = Report::default();
        check_requirements(
            &Place::whole(resources).called("resources"),
            Owner::Container,
            &mut report,
        );
        let errors = report.into_errors();
        errors
            .iter()
            .map(|error| format!("{}: {}", error.field, error.body()))
            .collect()
    }

    #[test]
    fn requests_are_no_more_than_limits() {
        assert!(
            found(&json!({ "requests": { "cpu": "100m" }, "limits": { "cpu": "0.1" } })).is_empty()
        );
        assert_eq!(
            found(&json!({ "requests": { "memory": "2Gi" }, "limits": { "memory": "1Gi" } })),
            [
                "resources.requests: Invalid value: \"2Gi\": must be less than or equal to memory limit of 1Gi"
            ]
        );
        assert_eq!(
            found(&json!({ "requests": { "a.b/gpu": "1" }, "limits": { "a.b/gpu": "2" } })),
            ["resources.requests: Invalid value: \"1\": must be equal to a.b/gpu limit of 2"]
        );
        assert_eq!(
            found(&json!({ "requests": { "a.b/gpu": "1" } })),
            [
                "resources.limits: Required value: Limit must be set for non overcommitable resources"
            ]
        );
    }

    #[test]
    fn resources_have_good_names_and_amounts() {
        assert_eq!(
            found(&json!({ "limits": { "cpu": "-1", "gpus": "1" } })),
            [
                "resources.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
                "resources.limits[gpus]: Invalid value: \"gpus\": must be a standard resource type or fully qualified",
                "resources.limits[gpus]: Invalid value: \"gpus\": must be a standard resource for containers",
            ]
        );
        assert_eq!(
            found(&json!({ "limits": { "a.b/gpu": "500m" } })),
            ["resources.limits[a.b/gpu]: Invalid value: \"500m\": must be an integer"]
        );
        assert_eq!(
            found(&json!({ "limits": { "hugepages-2Mi": "2Mi" } })),
            ["resources: Forbidden: HugePages require cpu or memory"]
        );
        assert!(found(&json!({ "limits": { "cpu": "x" } }))[0].contains("quantities must match"));
    }
}
