use serde_json::json;

use super::*;
use crate::kind::Kinds;

fn kind(group: &str, plural: &str) -> &'static Kind {
    Kinds::builtin().at(group, "v1", plural).unwrap()
}

fn of_pod(metadata: Value, spec: Value) -> Vec<String> {
    let mut pod = json!({ "metadata": metadata, "spec": spec });
    pod["metadata"]["name"] = json!("p");
    crate::defaults::fill(kind("", "pods"), &mut pod);
    warnings(kind("", "pods"), &pod, None)
}

/// Each spec of a pod with the only warning about it.
#[test]
fn pods_are_warned_of() {
    let one = |container: Value| {
        let mut all = json!({ "containers": [container] });
        all["containers"][0]["name"] = json!("a");
        all
    };
    let volume = |volume: Value| json!({ "containers": [], "volumes": [volume] });
    for (spec, warning) in [
        (
            one(json!({ "env": [{ "name": "A", "value": "1" }, { "name": "A", "value": "2" }] })),
            "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
        ),
        (
            one(
                json!({ "resources": { "limits": { "memory": "100m" }, "requests": { "memory": "0" } } }),
            ),
            "spec.containers[0].resources.limits[memory]: fractional byte value \"100m\" is invalid, must be an integer",
        ),
        (
            one(json!({ "ports": [{ "containerPort": 80 }, { "containerPort": 80 }] })),
            "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
        ),
        (
            one(
                json!({ "ports": [{ "containerPort": 80, "hostPort": 8080 }, { "containerPort": 80 }] }),
            ),
            "spec.containers[0].ports[1]: overlapping port definition with spec.containers[0].ports[0]",
        ),
        (
            one(json!({ "ports": [
                { "containerPort": 80, "hostPort": 8080 },
                { "containerPort": 80, "hostPort": 8080, "hostIP": "10.0.0.1" },
            ] })),
            "spec.containers[0].ports[1]: dangerously ambiguous port definition with spec.containers[0].ports[0]",
        ),
        (
            one(json!({ "ports": [{ "containerPort": 80, "hostIP": "10.0.0.1" }] })),
            "spec.containers[0].ports[0]: hostIP set without hostPort: \
             {Name: HostPort:0 ContainerPort:80 Protocol:TCP HostIP:10.0.0.1}",
        ),
        (
            json!({
                "containers": [{ "name": "a", "ports": [{ "name": "x", "containerPort": 80 }] }],
                "initContainers": [{ "name": "b", "ports": [{ "name": "x", "containerPort": 81 }] }],
            }),
            "spec.containers[0].ports[0]: duplicate port name \"x\" with spec.initContainers[0].ports[0], services \
             and probes that select ports by name will use spec.initContainers[0].ports[0]",
        ),
        (
            json!({ "nodeSelector": { "beta.kubernetes.io/os": "linux" } }),
            "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
        ),
        (
            json!({ "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    { "matchExpressions": [{ "key": "beta.kubernetes.io/arch", "operator": "Exists" }] },
                ],
            } } } }),
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]\
             .matchExpressions[0].key: beta.kubernetes.io/arch is deprecated since v1.14; use \
             \"kubernetes.io/arch\" instead",
        ),
        (
            json!({ "affinity": { "podAntiAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [
                { "weight": 1, "podAffinityTerm": { "topologyKey": "a" } },
            ] } } }),
            "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm\
             .labelSelector: a null labelSelector results in matching no pod",
        ),
        (
            json!({ "topologySpreadConstraints": [{ "topologyKey": "a", "maxSkew": 1 }] }),
            "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
        ),
        (
            json!({ "imagePullSecrets": [{ "name": "a" }, { "name": "a" }] }),
            "spec.imagePullSecrets[1].name: duplicate name \"a\"",
        ),
        (
            json!({ "imagePullSecrets": [{}] }),
            "spec.imagePullSecrets[0].name: invalid empty name \"\"",
        ),
        (
            json!({ "hostAliases": [{ "ip": "1.1.1.1" }, { "ip": "1.1.1.1" }] }),
            "spec.hostAliases[1].ip: duplicate ip \"1.1.1.1\"",
        ),
        (
            volume(json!({ "name": "v", "gitRepo": { "repository": "r" } })),
            "spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+",
        ),
        (
            volume(json!({ "name": "v", "storageos": {} })),
            "spec.volumes[0].storageOS: deprecated in v1.22, non-functional in v1.25+",
        ),
        (
            volume(json!({ "name": "v", "configMap": { "name": "m", "items": [
                { "key": "a", "path": "x" }, { "key": "b", "path": "x/y/" }, { "key": "c", "path": "xy" },
            ] } })),
            "volume \"v\" (ConfigMap \"m\"): overlapping paths: \"x/y\" with \"x\"",
        ),
        (
            volume(json!({ "name": "v", "projected": { "sources": [
                { "secret": { "name": "s", "items": [{ "key": "a", "path": "x" }] } },
                { "serviceAccountToken": { "path": "x" } },
            ] } })),
            "volume \"v\" (Projected): overlapping paths: \"x\" (ServiceAccountToken) with \"x\" (Secret \"s\")",
        ),
        (
            volume(json!({ "name": "v", "projected": { "sources": [{}] } })),
            "volume \"v\" (Projected) has no sources provided",
        ),
        (
            json!({ "dnsConfig": { "nameservers": ["2001:DB8::1"] } }),
            "spec.dnsConfig.nameservers[0]: IPv6 address \"2001:DB8::1\" should be in RFC 5952 canonical format \
             (\"2001:db8::1\")",
        ),
    ] {
        assert_eq!(of_pod(json!({}), spec.clone()), [warning], "{spec}");
    }
}

#[test]
fn variables_that_add_to_their_former_value_are_good() {
    let spec = json!({ "containers": [{ "name": "a", "env": [
        { "name": "A", "value": "1" }, { "name": "A", "value": "$(A)2" },
    ] }] });
    assert!(of_pod(json!({}), spec).is_empty());
}

#[test]
fn annotations_of_pods_are_deprecated() {
    for (key, warning) in [
        (
            "scheduler.alpha.kubernetes.io/critical-pod",
            "metadata.annotations[scheduler.alpha.kubernetes.io/critical-pod]: non-functional in v1.16+; use the \
             \"priorityClassName\" field instead",
        ),
        (
            "seccomp.security.alpha.kubernetes.io/pod",
            "metadata.annotations[seccomp.security.alpha.kubernetes.io/pod]: non-functional in v1.27+; use the \
             \"seccompProfile\" field instead",
        ),
        (
            "container.apparmor.security.beta.kubernetes.io/a",
            "metadata.annotations[container.apparmor.security.beta.kubernetes.io/a]: deprecated since v1.30; use the \
             \"appArmorProfile\" field instead",
        ),
    ] {
        let spec = json!({ "containers": [{ "name": "a" }] });
        let metadata = json!({ "annotations": { key: "unconfined" } });
        assert_eq!(of_pod(metadata, spec), [warning]);
    }
}

#[test]
fn a_pod_is_warned_of_only_when_it_is_created() {
    let pod =
        json!({ "metadata": { "name": "a.b" }, "spec": { "terminationGracePeriodSeconds": -1 } });
    let pods = kind("", "pods");
    let found = warnings(pods, &pod, None);
    assert_eq!(found.len(), 2);
    assert_eq!(
        found[0],
        "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is \
         recommended: [must not contain dots]"
    );
    assert!(warnings(pods, &pod, Some(&pod)).is_empty());
}

#[test]
fn templates_are_warned_of_when_they_change() {
    let spec = json!({ "template": { "spec": { "terminationGracePeriodSeconds": -1 } } });
    let deployment = json!({ "metadata": { "name": "a" }, "spec": spec });
    let deployments = kind("apps", "deployments");
    let words = "terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1";
    let warning = format!("spec.template.spec.{words}");
    let found = warnings(deployments, &deployment, None);
    assert_eq!(found, std::slice::from_ref(&warning));
    assert!(warnings(deployments, &deployment, Some(&deployment)).is_empty());
    let mut old = deployment.clone();
    old["spec"]["replicas"] = json!(2);
    assert_eq!(warnings(deployments, &deployment, Some(&old)), [warning]);
    let job = json!({ "metadata": { "name": "a" }, "spec": { "jobTemplate": { "spec": spec } } });
    assert_eq!(
        warnings(kind("batch", "cronjobs"), &job, None),
        [format!("spec.jobTemplate.spec.template.spec.{words}")]
    );
}

/// An object of each other kind with what is said of it when it is created.
#[test]
fn other_kinds_are_warned_of() {
    for (group, plural, object, expected) in [
        (
            "",
            "services",
            json!({ "spec": { "type": "ClusterIP", "externalIPs": ["1.2.3.4"], "trafficDistribution": "PreferClose" } }),
            vec![
                "spec.externalIPs is deprecated and may no longer be implemented in some clusters",
                "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"",
            ],
        ),
        (
            "",
            "services",
            json!({ "spec": { "type": "ClusterIP", "clusterIP": "None", "sessionAffinity": "ClientIP" } }),
            vec!["spec.SessionAffinity is ignored for headless services"],
        ),
        (
            "",
            "endpoints",
            json!({ "subsets": [{ "addresses": [{ "ip": "010.0.0.1" }] }] }),
            vec![
                "subsets[0].addresses[0].ip: non-standard IP address \"010.0.0.1\" is invalid: use \"10.0.0.1\"",
            ],
        ),
        (
            "discovery.k8s.io",
            "endpointslices",
            json!({ "addressType": "FQDN" }),
            vec!["spec.addressType: FQDN endpoints are deprecated"],
        ),
        (
            "networking.k8s.io",
            "networkpolicies",
            json!({ "spec": { "ingress": [{ "from": [{ "ipBlock": { "cidr": "10.0.0.1/8" } }] }] } }),
            vec![
                "spec.ingress[0].from[0].ipBlock.cidr: CIDR value \"10.0.0.1/8\" is ambiguous in this context \
                 (should be \"10.0.0.0/8\" or \"10.0.0.1/32\"?)",
            ],
        ),
        (
            "networking.k8s.io",
            "ingresses",
            json!({ "metadata": { "annotations": { "kubernetes.io/ingress.class": "x" } } }),
            vec![
                "annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead",
            ],
        ),
        (
            "",
            "nodes",
            json!({ "spec": { "externalID": "x", "podCIDRs": ["::ffff:10.0.0.0/120"] } }),
            vec![
                "spec.externalID: this field is deprecated, and is unused by Kubernetes",
                "spec.podCIDRs[0]: non-standard CIDR value \"::ffff:10.0.0.0/120\" is invalid: use \"10.0.0.0/24\"",
            ],
        ),
        (
            "",
            "persistentvolumes",
            json!({ "spec": { "persistentVolumeReclaimPolicy": "Recycle", "rbd": {} } }),
            vec![
                "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the \
                 recommended approach is to use dynamic provisioning.",
                "spec.rbd: deprecated in v1.28, non-functional in v1.31+",
            ],
        ),
        (
            "",
            "persistentvolumeclaims",
            json!({
                "metadata": { "annotations": { "volume.beta.kubernetes.io/storage-class": "x" } },
                "spec": { "resources": { "requests": { "storage": "100m" } } },
            }),
            vec![
                "metadata.annotations[volume.beta.kubernetes.io/storage-class]: deprecated since v1.8; use \
                 \"storageClassName\" attribute instead",
                "spec.resources.requests[storage]: fractional byte value \"100m\" is invalid, must be an integer",
            ],
        ),
        (
            "storage.k8s.io",
            "storageclasses",
            json!({ "allowedTopologies": [{ "matchLabelExpressions": [
                { "key": "failure-domain.beta.kubernetes.io/zone" },
            ] }] }),
            vec![
                "allowedTopologies[0].matchLabelExpressions[0].key: deprecated since v1.17; use \
                 \"topology.kubernetes.io/zone\" instead",
            ],
        ),
        (
            "storage.k8s.io",
            "csidrivers",
            json!({ "spec": { "tokenRequests": [{ "audience": "a" }] } }),
            vec![
                "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent \
                 possible logging of tokens in volume attributes",
            ],
        ),
        (
            "node.k8s.io",
            "runtimeclasses",
            json!({ "scheduling": { "nodeSelector": { "node-role.kubernetes.io/master": "" } } }),
            vec!["scheduling.nodeSelector: use \"node-role.kubernetes.io/control-plane\" instead"],
        ),
        (
            "",
            "serviceaccounts",
            json!({ "metadata": { "annotations": { "kubernetes.io/enforce-mountable-secrets": "true" } } }),
            vec![
                "metadata.annotations[kubernetes.io/enforce-mountable-secrets]: deprecated in v1.32+; prefer separate \
                 namespaces to isolate access to mounted secrets",
            ],
        ),
        (
            "",
            "resourcequotas",
            json!({ "spec": { "hard": { "cpu": "3", "limits.cpu": "2" } } }),
            vec!["ResourceQuota cpu (3) should be less than limits.cpu (2)"],
        ),
        (
            "",
            "secrets",
            json!({ "type": "kubernetes.io/tls", "data": { "tls.crt": "YQ==", "tls.key": "YQ==" } }),
            vec!["tls: failed to find any PEM data in certificate input"],
        ),
        (
            "apps",
            "statefulsets",
            json!({ "spec": { "revisionHistoryLimit": -1 } }),
            vec![
                "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is \
                 recommended",
            ],
        ),
        (
            "admissionregistration.k8s.io",
            "validatingwebhookconfigurations",
            json!({ "webhooks": [{ "rules": [
                { "apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews", "pods"] },
            ] }] }),
            vec![
                "webhooks[0].rules[0]: tokenreviews.authentication.k8s.io is excluded from admission webhooks; this \
                 rule will have no effect",
            ],
        ),
        ("", "configmaps", json!({}), vec![]),
    ] {
        assert_eq!(
            warnings(kind(group, plural), &object, None),
            expected,
            "{plural}"
        );
    }
}

#[test]
fn finalizers_of_custom_objects_have_a_domain() {
    let mut custom = kind("", "configmaps").clone();
    custom.schema = None;
    let object = |names: Value| json!({ "metadata": { "finalizers": names } });
    let new = object(json!(["x.com/a", "plain", "x.com", "orphan"]));
    let end = "to avoid accidental conflicts with other finalizer writers";
    let dotted = format!(
        "metadata.finalizers: \"x.com\": prefer a domain-qualified finalizer name including a path (/) {end}"
    );
    let plain =
        format!("metadata.finalizers: \"plain\": prefer a domain-qualified finalizer name {end}");
    assert_eq!(warnings(&custom, &new, None), [plain, dotted.clone()]);
    assert_eq!(
        warnings(&custom, &new, Some(&object(json!(["plain"])))),
        [dotted]
    );
}

#[test]
fn addresses_in_a_status_are_warned_of() {
    let service =
        json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "::ffff:1.2.3.4" }] } } });
    assert_eq!(
        status_warnings(kind("", "services"), &service),
        [
            "status.loadBalancer.ingress[0]: non-standard IP address \"::ffff:1.2.3.4\" is invalid: use \"1.2.3.4\""
        ]
    );
}
