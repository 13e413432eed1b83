//! Quotas: what each object counts for, which quotas it counts in, and whether there is room for it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::amounts::{self, Amounts, View};
use crate::defaults::qos_class;
use crate::kind::Kind;
use crate::quantity::Quantity;

/// What of pods is counted by these names.
const OF_PODS: [&str; 11] = [
    "count/pods",
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "pods",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// If a quota counts one of these, all containers must say how much of it they want.
const NEEDED: [&str; 6] = [
    "cpu",
    "limits.cpu",
    "limits.memory",
    "memory",
    "requests.cpu",
    "requests.memory",
];

/// What of services is counted.
const OF_SERVICES: [&str; 4] = [
    "count/services",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];

/// What of claims is counted, for all classes of storage or for one.
const OF_CLAIMS: [&str; 2] = ["persistentvolumeclaims", "requests.storage"];

/// Between a class of storage and what is counted.
const STORAGE_CLASS: &str = ".storageclass.storage.k8s.io/";

/// Behind a class of devices.
const DEVICES: &str = ".deviceclass.resource.k8s.io/devices";

/// Before a class of devices that pods ask for as a resource.
const DEVICE_CLASS: &str = "deviceclass.resource.kubernetes.io/";

/// The most devices that a claim gets if it asks for all.
const MOST_DEVICES: u32 = 32;

/// Kinds that are also counted by their plural alone.
const ALIASED: [&str; 4] = [
    "configmaps",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
];

/// Why a quota does not let a request pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no room, or the object does not say what it needs. The words that follow `is forbidden: `.
    Forbidden(String),
    /// What is used so far is not known: whoever calls asks again with a quota whose status [`recount`] made. The words
    /// are those that upstream refuses with.
    Uncounted(String),
}

/// How objects of a kind are counted.
#[derive(Clone, Copy, Debug)]
enum Counting<'a> {
    Nothing,
    Pods,
    Services,
    VolumeClaims,
    DeviceClaims,
    /// Only how many there are.
    Number(&'a Kind),
}

impl<'a> Counting<'a> {
    fn of(kind: &'a Kind) -> Self {
        // What is not kept is not counted, and events never were.
        if !kind.namespaced || !kind.is_stored() {
            return Self::Nothing;
        }
        match (kind.group.as_str(), kind.plural.as_str()) {
            ("" | "events.k8s.io", "events") => Self::Nothing,
            ("", "pods") => Self::Pods,
            ("", "services") => Self::Services,
            ("", "persistentvolumeclaims") => Self::VolumeClaims,
            ("resource.k8s.io", "resourceclaims") => Self::DeviceClaims,
            _ => Self::Number(kind),
        }
    }

    /// Whether objects may count for a name.
    fn has(self, name: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Pods => {
                OF_PODS.contains(&name)
                    || name.starts_with("hugepages-")
                    || name.starts_with("requests.hugepages-")
                    || name.strip_prefix("requests.").is_some_and(|resource| {
                        !is_native(name) || resource.starts_with(DEVICE_CLASS)
                    })
            }
            Self::Services => OF_SERVICES.contains(&name),
            Self::VolumeClaims => {
                let of_class = name.split_once(STORAGE_CLASS).map(|(_, rest)| rest);
                name == "count/persistentvolumeclaims"
                    || OF_CLAIMS.contains(&name)
                    || of_class.is_some_and(|rest| OF_CLAIMS.contains(&rest))
            }
            Self::DeviceClaims => {
                name == "count/resourceclaims.resource.k8s.io" || name.ends_with(DEVICES)
            }
            Self::Number(kind) => name == number_name(kind) || alias(kind) == Some(name),
        }
    }
}

/// `count/deployments.apps`.
fn number_name(kind: &Kind) -> String {
    match kind.group.as_str() {
        "" => format!("count/{}", kind.plural),
        group => format!("count/{}.{group}", kind.plural),
    }
}

fn alias(kind: &Kind) -> Option<&str> {
    (kind.group.is_empty() && ALIASED.contains(&kind.plural.as_str())).then_some(&kind.plural)
}

/// Kubernetes' own: without a domain, or of its domain.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// What an object counts for: all names that quotas may know it by, with amounts.
///
/// A pod that is past its end counts only as an object. One whose grace period ran out counts until it is gone: there
/// is no clock here. Devices that pods get through extended resources are counted by what the pods ask for.
pub fn usage(kind: &Kind, object: &Value) -> BTreeMap<String, Quantity> {
    let one = || Quantity::count(1);
    match Counting::of(kind) {
        Counting::Nothing => Amounts::new(),
        Counting::Pods => pod_usage(object),
        Counting::Services => service_usage(object),
        Counting::VolumeClaims => claim_usage(object),
        Counting::DeviceClaims => device_usage(object),
        Counting::Number(kind) => {
            let names = [Some(number_name(kind)), alias(kind).map(str::to_owned)];
            names
                .into_iter()
                .flatten()
                .map(|name| (name, one()))
                .collect()
        }
    }
}

fn pod_usage(pod: &Value) -> Amounts {
    let mut usage = Amounts::from([("count/pods".to_owned(), Quantity::count(1))]);
    if matches!(
        pod["status"]["phase"].as_str(),
        Some("Failed" | "Succeeded")
    ) {
        return usage;
    }
    let requests = amounts::of_pod(pod, "requests", View::Held);
    let limits = amounts::of_pod(pod, "limits", View::Held);
    usage.extend(compute_usage(&requests, &limits));
    usage
}

/// What requests and limits count for.
fn compute_usage(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut usage = Amounts::from([("pods".to_owned(), Quantity::count(1))]);
    for name in ["cpu", "ephemeral-storage", "memory"] {
        if let Some(request) = requests.get(name) {
            usage.insert(name.to_owned(), request.clone());
            usage.insert(format!("requests.{name}"), request.clone());
        }
        if let Some(limit) = limits.get(name) {
            usage.insert(format!("limits.{name}"), limit.clone());
        }
    }
    for (name, request) in requests {
        let is_huge = name.starts_with("hugepages-");
        if is_huge {
            usage.insert(name.clone(), request.clone());
        }
        let is_extended = !is_native(name) && !name.starts_with("requests.");
        if is_huge || is_extended || name.starts_with(DEVICE_CLASS) {
            usage.insert(format!("requests.{name}"), request.clone());
        }
    }
    usage
}

fn service_usage(service: &Value) -> Amounts {
    let spec = &service["spec"];
    let ports = spec["ports"].as_array().map_or(&[][..], Vec::as_slice);
    let with_nodes = ports
        .iter()
        .filter(|port| port["nodePort"].as_i64().unwrap_or_default() != 0);
    let (balancers, nodes) = match spec["type"].as_str() {
        Some("NodePort") => (0, ports.len()),
        // Without ports of nodes, only those count that are asked for by their numbers.
        Some("LoadBalancer") if spec["allocateLoadBalancerNodePorts"] == false => {
            (1, with_nodes.count())
        }
        Some("LoadBalancer") => (1, ports.len()),
        _ => (0, 0),
    };
    let nodes = u32::try_from(nodes).unwrap_or(u32::MAX);
    let counts = [1, 1, balancers, nodes];
    let counts = OF_SERVICES.iter().zip(counts);
    counts
        .map(|(name, number)| ((*name).to_owned(), Quantity::count(number)))
        .collect()
}

fn claim_usage(claim: &Value) -> Amounts {
    let spec = &claim["spec"];
    let one = || Quantity::count(1);
    let mut usage = Amounts::from([
        ("count/persistentvolumeclaims".to_owned(), one()),
        ("persistentvolumeclaims".to_owned(), one()),
    ]);
    let storage = |list: &Value| Quantity::of(list.get("storage")?).ok();
    let requested = storage(&spec["resources"]["requests"]).map(Quantity::rounded_to_units);
    let allocated = storage(&claim["status"]["allocatedResources"]);
    let held = requested.map(|requested| match allocated {
        Some(allocated) if allocated > requested => allocated.rounded_to_units(),
        _ => requested,
    });
    // An annotation, if there is one, is what volumes are found by.
    let annotations = &claim["metadata"]["annotations"];
    let class = annotations["volume.beta.kubernetes.io/storage-class"].as_str();
    let class = class
        .or_else(|| spec["storageClassName"].as_str())
        .unwrap_or_default();
    let of_class = |name: &str| format!("{class}{STORAGE_CLASS}{name}");
    if !class.is_empty() {
        usage.insert(of_class("persistentvolumeclaims"), one());
    }
    if let Some(held) = held {
        if !class.is_empty() {
            usage.insert(of_class("requests.storage"), held.clone());
        }
        usage.insert("requests.storage".to_owned(), held);
    }
    usage
}

fn device_usage(claim: &Value) -> Amounts {
    let name = "count/resourceclaims.resource.k8s.io".to_owned();
    let mut usage = Amounts::from([(name, Quantity::count(1))]);
    let of = |request: &Value| {
        let class = request["deviceClassName"].as_str().unwrap_or_default();
        let number = match request["allocationMode"].as_str() {
            Some("ExactCount") => {
                let count = request["count"].as_u64().unwrap_or_default();
                u32::try_from(count).unwrap_or(u32::MAX)
            }
            Some("All") => MOST_DEVICES,
            _ => 0,
        };
        Amounts::from([(format!("{class}{DEVICES}"), Quantity::count(number))])
    };
    let requests = claim["spec"]["devices"]["requests"].as_array();
    for request in requests.into_iter().flatten() {
        match request["firstAvailable"].as_array() {
            // Nobody knows which of them it will be, so the most of each class counts.
            Some(choices) if !choices.is_empty() => {
                let mut most = Amounts::new();
                for choice in choices {
                    amounts::raise(&mut most, &of(choice));
                }
                most.retain(|_, amount| !amount.is_zero());
                amounts::add(&mut usage, &most);
            }
            _ if request["exactly"].is_object() => {
                amounts::add(&mut usage, &of(&request["exactly"]));
            }
            _ => {}
        }
    }
    usage
}

/// The amounts of a quota that objects of a kind may count for.
fn counted_names<'a>(quota: &'a Value, kind: &'a Kind) -> impl Iterator<Item = &'a str> {
    let hard = quota["spec"]["hard"].as_object();
    let counting = Counting::of(kind);
    let names = hard.into_iter().flatten().map(|(name, _)| name.as_str());
    names.filter(move |name| counting.has(name))
}

/// Whether objects of a kind may count in a quota at all. It looks at names only.
pub fn counts(quota: &Value, kind: &Kind) -> bool {
    counted_names(quota, kind).next().is_some()
}

/// Whether an object counts in a quota: it counts for one of its names, and is of all of its scopes.
pub fn matches(quota: &Value, kind: &Kind, object: &Value) -> bool {
    counts(quota, kind) && is_in_scopes(quota, kind, object)
}

fn is_in_scopes(quota: &Value, kind: &Kind, object: &Value) -> bool {
    let spec = &quota["spec"];
    let counting = Counting::of(kind);
    let is_in = |scope: &str, operator: &str, values: &Value| match counting {
        Counting::Pods => is_pod_in_scope(object, scope, operator, values),
        Counting::VolumeClaims if scope == "VolumeAttributesClass" => {
            let classes = attribute_classes(object);
            match operator {
                "Exists" => !classes.is_empty(),
                _ if classes.is_empty() => selects(operator, values, None),
                _ => classes
                    .iter()
                    .any(|class| selects(operator, values, Some(class))),
            }
        }
        _ => false,
    };
    let scopes = spec["scopes"].as_array().into_iter().flatten();
    let selectors = spec["scopeSelector"]["matchExpressions"].as_array();
    let mut selectors = selectors.into_iter().flatten();
    let text = |value: &'_ Value| value.as_str().unwrap_or_default().to_owned();
    scopes
        .into_iter()
        .all(|scope| is_in(&text(scope), "Exists", &Value::Null))
        && selectors.all(|selector| {
            let (scope, operator) = (text(&selector["scopeName"]), text(&selector["operator"]));
            is_in(&scope, &operator, &selector["values"])
        })
}

fn is_pod_in_scope(pod: &Value, scope: &str, operator: &str, values: &Value) -> bool {
    match scope {
        "Terminating" => is_terminating(pod),
        "NotTerminating" => !is_terminating(pod),
        "BestEffort" => is_best_effort(pod),
        "NotBestEffort" => !is_best_effort(pod),
        "PriorityClass" => {
            let class = pod["spec"]["priorityClassName"].as_str();
            selects(operator, values, class.filter(|class| !class.is_empty()))
        }
        "CrossNamespacePodAffinity" => looks_across_namespaces(pod),
        _ => false,
    }
}

/// Whether a selector selects a value, or that there is none.
fn selects(operator: &str, values: &Value, value: Option<&str>) -> bool {
    let mut values = values.as_array().into_iter().flatten();
    let is_listed = value.is_some_and(|value| values.any(|one| one == value));
    match operator {
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "In" => is_listed,
        "NotIn" => !is_listed,
        _ => false,
    }
}

/// Whether a pod is to end by itself.
fn is_terminating(pod: &Value) -> bool {
    let seconds = pod["spec"]["activeDeadlineSeconds"].as_i64();
    seconds.is_some_and(|seconds| seconds >= 0)
}

fn is_best_effort(pod: &Value) -> bool {
    match pod["status"]["qosClass"].as_str() {
        Some(class) if !class.is_empty() => class == "BestEffort",
        _ => pod
            .as_object()
            .is_none_or(|pod| qos_class(pod) == "BestEffort"),
    }
}

/// Whether where a pod may run depends on pods of other namespaces.
fn looks_across_namespaces(pod: &Value) -> bool {
    let affinity = &pod["spec"]["affinity"];
    let lists = ["podAffinity", "podAntiAffinity"]
        .into_iter()
        .flat_map(|field| {
            let affinity = &affinity[field];
            [
                (
                    &affinity["requiredDuringSchedulingIgnoredDuringExecution"],
                    false,
                ),
                (
                    &affinity["preferredDuringSchedulingIgnoredDuringExecution"],
                    true,
                ),
            ]
        });
    lists.into_iter().any(|(terms, is_weighted)| {
        let mut terms = terms.as_array().into_iter().flatten();
        terms.any(|term| {
            let term = if is_weighted {
                &term["podAffinityTerm"]
            } else {
                term
            };
            let namespaces = term["namespaces"].as_array();
            namespaces.is_some_and(|list| !list.is_empty()) || term["namespaceSelector"].is_object()
        })
    })
}

/// The classes of attributes that a claim has, gets, or is to have.
fn attribute_classes(claim: &Value) -> BTreeSet<&str> {
    let status = &claim["status"];
    let classes = [
        &claim["spec"]["volumeAttributesClassName"],
        &status["currentVolumeAttributesClassName"],
        &status["modifyVolumeStatus"]["targetVolumeAttributesClassName"],
    ];
    let classes = classes.into_iter().filter_map(Value::as_str);
    classes.filter(|class| !class.is_empty()).collect()
}

/// Asks a quota whether a request may pass. `old` is what is there before an update, none for a create. It is asked of
/// creates and updates, of the subresource `resize` of pods too, but not of any other.
///
/// The answer is the quota with what is used then, to be kept before the request is carried out; or none if that does
/// not change. What is freed, by a delete or an update, is not given back here: [`recount`] does that.
///
/// # Errors
///
/// If there is no room, or if what is used is not known.
pub fn admit(
    quota: &Value,
    kind: &Kind,
    old: Option<&Value>,
    new: &Value,
) -> Result<Option<Value>, Refusal> {
    let counting = Counting::of(kind);
    if !old.is_none_or(|old| may_change(counting, kind, old, new)) || !matches(quota, kind, new) {
        return Ok(None);
    }
    let quota_name = quota["metadata"]["name"].as_str().unwrap_or_default();
    let names: BTreeSet<&str> = counted_names(quota, kind).collect();
    if matches!(counting, Counting::Pods)
        && let Some(missing) = missing_of_pod(&names, new)
    {
        let text = format!("failed quota: {quota_name}: {missing}");
        return Err(Refusal::Forbidden(text));
    }
    let mut used = amounts::read(&quota["status"]["used"]);
    if names.iter().any(|name| !used.contains_key(*name)) {
        let names: Vec<&str> = names.into_iter().collect();
        let text = format!(
            "status unknown for quota: {quota_name}, resources: {}",
            names.join(",")
        );
        return Err(Refusal::Uncounted(text));
    }

    let mut requested = usage(kind, new);
    let negative: Vec<&str> = requested
        .iter()
        .filter_map(|(name, amount)| amount.is_negative().then_some(name.as_str()))
        .collect();
    if !negative.is_empty() {
        let text = format!(
            "quota usage is negative for resource(s): {}",
            negative.join(",")
        );
        return Err(Refusal::Forbidden(text));
    }
    if let Some(old) = old.filter(|old| matches(quota, kind, old)) {
        let before = usage(kind, old);
        for (name, amount) in &mut requested {
            if let Some(before) = before.get(name) {
                *amount = amount.minus(before);
            }
        }
    }
    let hard = amounts::read(&quota["spec"]["hard"]);
    requested.retain(|name, amount| *amount > Quantity::ZERO && hard.contains_key(name));
    if requested.is_empty() {
        return Ok(None);
    }

    let before = used.clone();
    amounts::add(&mut used, &requested);
    let exceeded: BTreeSet<&str> = requested
        .keys()
        .map(String::as_str)
        .filter(|name| used.get(*name) > hard.get(*name))
        .collect();
    if !exceeded.is_empty() {
        let text = format!(
            "exceeded quota: {quota_name}, requested: {}, used: {}, limited: {}",
            shown(&requested, &exceeded),
            shown(&before, &exceeded),
            shown(&hard, &exceeded)
        );
        return Err(Refusal::Forbidden(text));
    }
    let mut changed = quota.clone();
    changed["status"]["hard"] = amounts::write(&hard);
    changed["status"]["used"] = amounts::write(&used);
    Ok(Some(changed))
}

/// Whether an update may need more than there was. Of pods only what they ask for and whether they end by themselves
/// counts, so that those that came before a quota can still be changed.
fn may_change(counting: Counting<'_>, kind: &Kind, old: &Value, new: &Value) -> bool {
    match counting {
        Counting::Nothing | Counting::Number(_) => false,
        Counting::Pods => {
            is_terminating(old) != is_terminating(new) || usage(kind, old) != usage(kind, new)
        }
        Counting::Services | Counting::VolumeClaims | Counting::DeviceClaims => true,
    }
}

/// `pods=1,requests.cpu=2` of some names.
fn shown(list: &Amounts, names: &BTreeSet<&str>) -> String {
    let parts: Vec<String> = list
        .iter()
        .filter(|(name, _)| names.contains(name.as_str()))
        .map(|(name, amount)| format!("{name}={amount}"))
        .collect();
    parts.join(",")
}

/// What containers of a pod would have to say, and do not.
fn missing_of_pod(names: &BTreeSet<&str>, pod: &Value) -> Option<String> {
    let spec = &pod["spec"];
    let has_own = ["requests", "limits"].iter().any(|field| {
        let own = amounts::read(&spec["resources"][*field]);
        own.keys()
            .any(|name| amounts::is_of_whole_pods(name, View::Held))
    });
    if has_own {
        return None;
    }
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let lists = ["containers", "initContainers"].map(|list| spec[list].as_array());
    for container in lists.into_iter().flatten().flatten() {
        let resources = &container["resources"];
        let said = compute_usage(
            &amounts::read(&resources["requests"]),
            &amounts::read(&resources["limits"]),
        );
        for name in names.iter().filter(|name| NEEDED.contains(*name)) {
            if !said.contains_key(*name) {
                let container = container["name"].as_str().unwrap_or_default();
                missing.entry(name).or_default().insert(container);
            }
        }
    }
    let parts: Vec<String> = missing
        .into_iter()
        .map(|(name, containers)| {
            let containers: Vec<&str> = containers.into_iter().collect();
            format!("{name} for: {}", containers.join(","))
        })
        .collect();
    (!parts.is_empty()).then(|| format!("must specify {}", parts.join("; ")))
}

/// The status of a quota, made from all objects of its namespace: `hard` and `used`. Names that nothing can count for
/// are not in `used`.
pub fn recount<'a>(quota: &Value, objects: impl Iterator<Item = (&'a Kind, &'a Value)>) -> Value {
    let hard = amounts::read(&quota["spec"]["hard"]);
    let known = [
        Counting::Pods,
        Counting::Services,
        Counting::VolumeClaims,
        Counting::DeviceClaims,
    ];
    let is_known = |name: &str| {
        name.starts_with("count/")
            || ALIASED.contains(&name)
            || known.iter().any(|counting| counting.has(name))
    };
    let names = hard.keys().filter(|name| is_known(name));
    let mut used: Amounts = names.map(|name| (name.clone(), Quantity::ZERO)).collect();
    for (kind, object) in objects {
        if matches(quota, kind, object) {
            let mut usage = usage(kind, object);
            usage.retain(|name, _| used.contains_key(name));
            amounts::add(&mut used, &usage);
        }
    }
    json!({ "hard": amounts::write(&hard), "used": amounts::write(&used) })
}

#[cfg(test)]
mod tests;
