//! Rows of nodes, events, and how the cluster is run.

use super::*;

#[test]
fn a_node() {
    let node = "
        metadata:
          labels: {node-role.kubernetes.io/worker: '', kubernetes.io/role: db, node-role.kubernetes.io/: ''}
        spec: {unschedulable: true}
        status:
          conditions: [{type: MemoryPressure, status: 'False'}, {type: Ready, status: 'True'}]
          addresses: [{type: Hostname, address: n1}, {type: InternalIP, address: 10.0.0.9}]
          nodeInfo: {kubeletVersion: v1.37.1, kernelVersion: 6.1.0, architecture: amd64}";
    assert_eq!(
        cells("", "Node", node),
        json!([
            "web",
            "Ready,SchedulingDisabled",
            "db,worker",
            "5m",
            "v1.37.1",
            "10.0.0.9",
            "<none>",
            "<unknown>",
            "6.1.0 (amd64)",
            "<unknown>"
        ])
    );
    let silent = "status: {conditions: [{type: Ready, status: Unknown}]}";
    assert_eq!(cells("", "Node", silent)[1], "NotReady");
    assert_eq!(cells("", "Node", "{}")[1], "Unknown");
    assert_eq!(cells("", "Node", "{}")[2], "<none>");
}

#[test]
fn events_of_both_groups() {
    let event = "
        type: Warning
        reason: BackOff
        message: ' Back-off '
        involvedObject: {kind: Pod, name: web-1, fieldPath: 'spec.containers{web}'}
        source: {component: kubelet, host: n1}
        firstTimestamp: 2026-01-10T11:00:00Z
        lastTimestamp: 2026-01-10T11:59:50Z
        count: 7";
    assert_eq!(
        cells("", "Event", event),
        json!([
            "10s",
            "Warning",
            "BackOff",
            "pod/web-1",
            "spec.containers{web}",
            "kubelet, n1",
            "Back-off",
            "60m",
            7,
            "web"
        ])
    );
    let event = "
        type: Normal
        reason: Scheduled
        note: Assigned
        regarding: {kind: Pod, name: web-1}
        reportingController: default-scheduler
        eventTime: 2026-01-10T11:59:00.000000Z";
    let expected = json!([
        "60s",
        "Normal",
        "Scheduled",
        "pod/web-1",
        "",
        "default-scheduler",
        "Assigned",
        "60s",
        1,
        "web"
    ]);
    assert_eq!(cells("events.k8s.io", "Event", event), expected);
    let event = "
        firstTimestamp: null
        eventTime: 2026-01-10T11:00:00Z
        series: {count: 3, lastObservedTime: 2026-01-10T11:59:59.5Z}";
    let cells = cells("", "Event", event);
    assert_eq!(
        (&cells[0], &cells[7], &cells[8]),
        (&json!("1s"), &json!("60m"), &json!(3))
    );
}

#[test]
fn autoscalers_compare_what_is_with_what_should_be() {
    let targets = |metrics: &str, current: &str| {
        let autoscaler = format!(
            "spec: {{scaleTargetRef: {{kind: Deployment, name: api}}, maxReplicas: 5, metrics: [{metrics}]}}
             \nstatus: {{currentReplicas: 2, currentMetrics: [{current}]}}"
        );
        cells("autoscaling", "HorizontalPodAutoscaler", &autoscaler)[2].clone()
    };
    let cpu = "{type: Resource, resource: {name: cpu, target: {averageUtilization: 80}}}";
    let memory =
        "{type: ContainerResource, containerResource: {name: memory, target: {averageValue: 1Gi}}}";
    let queue = "{type: External, external: {target: {averageValue: 30}}}";
    let hits = "{type: Object, object: {target: {value: 2k}}}";
    let pods = "{type: Pods, pods: {target: {averageValue: 10m}}}";
    assert_eq!(targets(cpu, ""), "cpu: <unknown>/80%");
    assert_eq!(
        targets(
            cpu,
            "{type: Resource, resource: {current: {averageUtilization: 12}}}"
        ),
        "cpu: 12%/80%"
    );
    assert_eq!(
        targets(
            memory,
            "{containerResource: {current: {averageValue: 5Mi}}}"
        ),
        "memory: 5Mi/1Gi"
    );
    assert_eq!(targets(queue, ""), "<unknown>/30 (avg)");
    assert_eq!(
        targets(hits, "{object: {current: {value: 100m}}}"),
        "100m/2k"
    );
    assert_eq!(
        targets(&format!("{pods}, {cpu}, {cpu}"), ""),
        "<unknown>/10m, cpu: <unknown>/80% + 1 more..."
    );
    assert_eq!(targets("", ""), "<none>");
    let first_version = "
        spec: {scaleTargetRef: {kind: Deployment, name: api}, minReplicas: 1, maxReplicas: 5,
               targetCPUUtilizationPercentage: 80}
        status: {currentReplicas: 2, currentCPUUtilizationPercentage: 7}";
    assert_eq!(
        cells("autoscaling", "HorizontalPodAutoscaler", first_version),
        json!(["web", "Deployment/api", "cpu: 7%/80%", "1", 5, 2, "5m"])
    );
}

#[test]
fn disruption_budgets() {
    let budget = "{spec: {minAvailable: 50%}, status: {disruptionsAllowed: 1}}";
    assert_eq!(
        cells("policy", "PodDisruptionBudget", budget),
        json!(["web", "50%", "N/A", 1, "5m"])
    );
    assert_eq!(
        cells("policy", "PodDisruptionBudget", "spec: {maxUnavailable: 0}"),
        json!(["web", "N/A", "0", 0, "5m"])
    );
}

#[test]
fn roles_and_bindings() {
    let group = "rbac.authorization.k8s.io";
    let binding = "
        roleRef: {kind: ClusterRole, name: view}
        subjects:
        - {kind: User, name: ann}
        - {kind: ServiceAccount, namespace: default, name: web}
        - {kind: User, name: bob}
        - {kind: Group, name: ops}";
    let expected = json!([
        "web",
        "ClusterRole/view",
        "5m",
        "ann, bob",
        "ops",
        "default/web"
    ]);
    assert_eq!(cells(group, "RoleBinding", binding), expected);
    assert_eq!(cells(group, "ClusterRoleBinding", binding), expected);
    assert_eq!(
        cells(group, "ClusterRole", "{}"),
        json!(["web", "2026-01-10T11:55:00Z"])
    );
}

#[test]
fn certificates() {
    let request = "
        spec: {signerName: s, username: ann, expirationSeconds: 86400}
        status: {conditions: [{type: Approved}], certificate: YQ==}";
    assert_eq!(
        cells("certificates.k8s.io", "CertificateSigningRequest", request),
        json!(["web", "5m", "s", "ann", "24h", "Approved,Issued"])
    );
    let request = "status: {conditions: [{type: Approved}, {type: Denied}, {type: Failed}]}";
    assert_eq!(
        cells("certificates.k8s.io", "CertificateSigningRequest", request),
        json!(["web", "5m", "<none>", "", "<none>", "Denied,Failed"])
    );
    let request = "
        spec: {podName: p, serviceAccountName: a, nodeName: n1, signerName: s}
        status: {conditions: [{type: Issued, status: 'True'}]}";
    assert_eq!(
        cells("certificates.k8s.io", "PodCertificateRequest", request),
        json!(["web", "p", "a", "n1", "s", "Issued", "<none>"])
    );
}

#[test]
fn how_the_cluster_is_run() {
    assert_eq!(
        cells("coordination.k8s.io", "Lease", "spec: {holderIdentity: n1}"),
        json!(["web", "n1", "5m"])
    );
    assert_eq!(
        cells(
            "scheduling.k8s.io",
            "PriorityClass",
            "{value: 1000, preemptionPolicy: Never}"
        ),
        json!(["web", 1000, false, "5m", "Never"])
    );
    assert_eq!(
        cells("node.k8s.io", "RuntimeClass", "handler: gvisor"),
        json!(["web", "gvisor", "5m"])
    );
    let schema = "
        spec: {priorityLevelConfiguration: {name: exempt}, matchingPrecedence: 1, distinguisherMethod: {type: ByUser}}
        status: {conditions: [{type: Dangling, status: 'False'}]}";
    assert_eq!(
        cells("flowcontrol.apiserver.k8s.io", "FlowSchema", schema),
        json!(["web", "exempt", 1, "ByUser", "5m", "False"])
    );
    let level = "
        spec:
          type: Limited
          limited:
            nominalConcurrencyShares: 30
            limitResponse: {queuing: {queues: 64, handSize: 6, queueLengthLimit: 50}}";
    assert_eq!(
        cells(
            "flowcontrol.apiserver.k8s.io",
            "PriorityLevelConfiguration",
            level
        ),
        json!(["web", "Limited", 30, 64, 6, 50, "5m"])
    );
    assert_eq!(
        cells(
            "flowcontrol.apiserver.k8s.io",
            "PriorityLevelConfiguration",
            "spec: {type: Exempt}"
        ),
        json!([
            "web", "Exempt", "<none>", "<none>", "<none>", "<none>", "5m"
        ])
    );
    let migration = "
        spec: {resource: {group: apps, resource: deployments}}
        status: {conditions: [{type: Running, status: 'False'}, {type: Succeeded, status: 'True'}]}";
    assert_eq!(
        cells(
            "storagemigration.k8s.io",
            "StorageVersionMigration",
            migration
        ),
        json!(["web", "deployments.apps", "Succeeded"])
    );
}

#[test]
fn devices() {
    let claim = "status: {allocation: {}, reservedFor: [{name: p}]}";
    assert_eq!(
        cells("resource.k8s.io", "ResourceClaim", claim),
        json!(["web", "allocated,reserved", "5m"])
    );
    assert_eq!(
        cells("resource.k8s.io", "ResourceClaim", "{}")[1],
        "pending"
    );
    assert_eq!(
        cells(
            "resource.k8s.io",
            "ResourceSlice",
            "spec: {driver: d, pool: {name: p}}"
        ),
        json!(["web", "", "d", "p", "5m"])
    );
}

#[test]
fn admission() {
    let group = "admissionregistration.k8s.io";
    assert_eq!(
        cells(
            group,
            "ValidatingWebhookConfiguration",
            "webhooks: [{}, {}]"
        ),
        json!(["web", 2, "5m"])
    );
    assert_eq!(
        cells(
            group,
            "ValidatingAdmissionPolicy",
            "spec: {validations: [{}], paramKind: {apiVersion: v1, kind: ConfigMap}}"
        ),
        json!(["web", 1, "v1/ConfigMap", "5m"])
    );
    let binding = |reference: &str| {
        let binding = format!("spec: {{policyName: p, paramRef: {reference}}}");
        cells(group, "ValidatingAdmissionPolicyBinding", &binding)[2].clone()
    };
    assert_eq!(binding("null"), "<unset>");
    assert_eq!(binding("{name: x}"), "*/x");
    assert_eq!(binding("{name: x, namespace: ns}"), "ns/x");
    assert_eq!(
        binding(
            "{selector: {matchLabels: {a: b}, matchExpressions: [{key: k, operator: In, values: [x, z]}]}}"
        ),
        "&LabelSelector{MatchLabels:map[string]string{a: b,},\
         MatchExpressions:[]LabelSelectorRequirement{LabelSelectorRequirement{Key:k,Operator:In,Values:[x z],},},}"
    );
}

#[test]
fn how_the_api_grows() {
    let definition = "
        spec:
          scope: Namespaced
          group: example.com
          names: {kind: Widget, shortNames: [w, wi]}
          versions:
          - {name: v1beta1, served: true}
          - {name: v1, served: true, storage: true}
          - {name: v1alpha1, served: false}
        status: {conditions: [{type: Established, status: 'True'}]}";
    assert_eq!(
        cells(
            "apiextensions.k8s.io",
            "CustomResourceDefinition",
            definition
        ),
        json!([
            "web",
            "Namespaced",
            "v1(storage),v1beta1",
            "2026-01-10T11:55:00Z",
            "example.com",
            "Widget",
            "w,wi",
            true
        ])
    );
    assert_eq!(
        cells(
            "apiregistration.k8s.io",
            "APIService",
            "status: {conditions: [{type: Available, status: 'True', reason: Local}]}"
        ),
        json!(["web", "Local", "True", "5m"])
    );
    let service = "
        spec: {service: {namespace: kube-system, name: metrics}}
        status: {conditions: [{type: Available, status: 'False', reason: MissingEndpoints}]}";
    assert_eq!(
        cells("apiregistration.k8s.io", "APIService", service),
        json!([
            "web",
            "kube-system/metrics",
            "False (MissingEndpoints)",
            "5m"
        ])
    );
}

#[test]
fn a_scale_is_a_row_of_its_own() {
    let scale = json!({
        "metadata": { "name": "web", "creationTimestamp": "2026-01-02T03:04:05Z" },
        "spec": { "replicas": 3 },
        "status": { "replicas": 2 },
    });
    let table = table_of_scale(&scale, Include::None, true, json!({}), 1_767_323_045 + 60);
    let columns = table["columnDefinitions"].as_array().unwrap();
    let names: Vec<_> = columns.iter().map(|column| &column["name"]).collect();
    assert_eq!(names, ["Name", "Desired", "Available", "Age"]);
    assert_eq!(table["rows"], json!([{ "cells": ["web", 3, 2, "60s"] }]));
}

#[test]
fn a_component_says_how_it_is() {
    let component = json!({
        "metadata": { "name": "etcd-0" },
        "conditions": [{ "type": "Healthy", "status": "True", "message": "ok" }],
    });
    let kind = crate::kind::Kinds::builtin()
        .at("", "v1", "componentstatuses")
        .unwrap();
    let table = table_of_one(kind, &component, Include::None, true, json!({}), 0);
    assert_eq!(
        table["rows"],
        json!([{ "cells": ["etcd-0", "Healthy", "ok", ""] }])
    );
}
