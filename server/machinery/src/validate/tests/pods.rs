//! Rules of pods and their containers.

use serde_json::json;

use super::*;

#[test]
fn a_pod_needs_containers_with_a_name_and_an_image() {
    refuses(
        "Pod",
        &[("/spec/containers", json!([]))],
        &["spec.containers: Required value"],
    );
    refuses(
        "Pod",
        &[
            ("/spec/containers/0/name", json!("Web")),
            ("/spec/containers/0/image", Value::Null),
        ],
        &[
            "spec.containers[0].name: Invalid value: \"Web\": a lowercase RFC 1123 label must consist of lower case \
             alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or \
             '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            "spec.containers[0].image: Required value",
        ],
    );
    refuses(
        "Pod",
        &[("/spec/initContainers/0/name", json!("web"))],
        &["spec.initContainers[0].name: Duplicate value: \"web\""],
    );
    refuses(
        "Pod",
        &[("/spec/containers/0/image", json!(" a"))],
        &[
            "spec.containers[0].image: Invalid value: \" a\": must not have leading or trailing whitespace",
        ],
    );
}

#[test]
fn what_containers_name_is_there() {
    refuses(
        "Pod",
        &[("/spec/containers/0/volumeMounts/0/name", json!("none"))],
        &["spec.containers[0].volumeMounts[0].name: Not found: \"none\""],
    );
    refuses(
        "Pod",
        &[(
            "/spec/containers/0/volumeMounts/-",
            json!({ "name": "data", "mountPath": "/etc" }),
        )],
        &["spec.containers[0].volumeMounts[1].mountPath: Invalid value: \"/etc\": must be unique"],
    );
    refuses(
        "Pod",
        &[("/spec/volumes/1/name", json!("config"))],
        &["spec.volumes[1].name: Duplicate value: \"config\""],
    );
    refuses(
        "Pod",
        &[(
            "/spec/containers/0/volumeDevices",
            json!([{ "name": "config", "devicePath": "/dev/a" }]),
        )],
        &[
            "spec.containers[0].volumeDevices[0].name: Invalid value: \"config\": can only use volume source type of \
           PersistentVolumeClaim or Ephemeral for block mode",
        ],
    );
    refuses(
        "Pod",
        &[(
            "/spec/containers/0/resources/claims",
            json!([{ "name": "gpu" }]),
        )],
        &[
            "spec.containers[0].resources.claims[0]: Not found: \"gpu\": must be one of the names in \
           pod.spec.resourceClaims which is empty",
        ],
    );
}

#[test]
fn fields_of_containers_have_their_ranges_and_choices() {
    refuses(
        "Pod",
        &[
            (
                "/spec/containers/0/ports",
                json!([
                    { "name": "80", "containerPort": 0, "protocol": "TCP" },
                    { "containerPort": 70000, "protocol": "ICMP", "hostPort": 5 },
                    { "containerPort": 1, "protocol": "ICMP", "hostPort": 5 },
                ]),
            ),
            ("/spec/containers/0/livenessProbe", Value::Null),
        ],
        &[
            "spec.containers[0].ports[0].name: Invalid value: \"80\": must contain at least one letter (a-z)",
            "spec.containers[0].ports[0].containerPort: Required value",
            "spec.containers[0].ports[1].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            "spec.containers[0].ports[1].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \
             \"UDP\"",
            "spec.containers[0].ports[2].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \
             \"UDP\"",
            "spec.containers[0].ports[2].hostPort: Duplicate value: \"ICMP//5\"",
        ],
    );
    refuses(
        "Pod",
        &[(
            "/spec/containers/0/env",
            json!([
                { "name": "A=B" },
                { "value": "x" },
                { "name": "C", "value": "x", "valueFrom": { "fieldRef": { "fieldPath": "spec.x" } } },
                { "name": "D", "valueFrom": {} },
            ]),
        )],
        &[
            "spec.containers[0].env[0].name: Invalid value: \"A=B\": a valid environment variable name must consist only \
             of printable ASCII characters other than '='",
            "spec.containers[0].env[1].name: Required value",
            "spec.containers[0].env[2].valueFrom.fieldRef.fieldPath: Unsupported value: \"spec.x\": supported values: \
             \"metadata.name\", \"metadata.namespace\", \"metadata.uid\", \"spec.nodeName\", \
             \"spec.serviceAccountName\", \"status.hostIP\", \"status.hostIPs\", \"status.podIP\", \"status.podIPs\"",
            "spec.containers[0].env[2].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
            "spec.containers[0].env[3].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, \
             `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
        ],
    );
    refuses(
        "Pod",
        &[
            ("/spec/containers/0/imagePullPolicy", json!("Sometimes")),
            (
                "/spec/containers/0/livenessProbe",
                json!({ "periodSeconds": -1, "successThreshold": 2 }),
            ),
            (
                "/spec/containers/0/lifecycle/preStop/sleep/seconds",
                json!(31),
            ),
        ],
        &[
            "spec.containers[0].imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \
             \"IfNotPresent\", \"Never\"",
            "spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than \
             terminationGracePeriodSeconds (30)",
            "spec.containers[0].livenessProbe: Required value: must specify a handler type",
            "spec.containers[0].livenessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0",
            "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ],
    );
    refuses(
        "Pod",
        &[(
            "/spec/initContainers/0/livenessProbe",
            json!({ "exec": { "command": ["a"] } }),
        )],
        &[
            "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without \
           restartPolicy=Always",
        ],
    );
}

#[test]
fn fields_of_pods_have_their_ranges_and_choices() {
    refuses(
        "Pod",
        &[
            ("/spec/restartPolicy", json!("Often")),
            ("/spec/dnsPolicy", json!("None")),
            ("/spec/nodeSelector", json!({ "a b": "c" })),
            ("/spec/activeDeadlineSeconds", json!(0)),
            ("/spec/hostname", json!("a.b")),
        ],
        &[
            "spec.restartPolicy: Unsupported value: \"Often\": supported values: \"Always\", \"OnFailure\", \"Never\"",
            "spec.nodeSelector: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or \
             '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', \
             regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
            "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
            "spec.hostname: Invalid value: \"a.b\": must not contain dots",
        ],
    );
    refuses(
        "Pod",
        &[(
            "/spec/tolerations",
            json!([{ "operator": "Equal" }, { "key": "a", "operator": "Exists", "value": "b" }, { "key": "a", "effect": "No", "tolerationSeconds": 1 }]),
        )],
        &[
            "spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, which \
             means \"match all values and all keys\"",
            "spec.tolerations[1].operator: Invalid value: \"b\": value must be empty when `operator` is 'Exists'",
            "spec.tolerations[2].effect: Invalid value: \"No\": effect must be 'NoExecute' when `tolerationSeconds` is set",
            "spec.tolerations[2].effect: Unsupported value: \"No\": supported values: \"NoSchedule\", \
             \"PreferNoSchedule\", \"NoExecute\"",
        ],
    );
    refuses(
        "Pod",
        &[
            (
                "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms",
                json!([]),
            ),
            (
                "/spec/affinity/podAntiAffinity/preferredDuringSchedulingIgnoredDuringExecution/0/weight",
                json!(101),
            ),
            ("/spec/topologySpreadConstraints/0/maxSkew", json!(0)),
            (
                "/spec/topologySpreadConstraints/0/whenUnsatisfiable",
                json!("Cry"),
            ),
        ],
        &[
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: \
             must have at least one node selector term",
            "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 101: \
             must be in the range 1-100",
            "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
            "spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: \"Cry\": supported values: \
             \"DoNotSchedule\", \"ScheduleAnyway\"",
        ],
    );
    refuses(
        "Pod",
        &[(
            "/spec/ephemeralContainers",
            json!([{ "name": "e", "image": "e" }]),
        )],
        &["spec.ephemeralContainers: Forbidden: cannot be set on create"],
    );
}

#[test]
fn little_of_a_pod_may_change() {
    refuses_change(
        "Pod",
        &[("/spec/containers/0/image", json!("nginx:2"))],
        &[],
    );
    refuses_change("Pod", &[("/spec/activeDeadlineSeconds", json!(10))], &[]);
    refuses_change(
        "Pod",
        &[(
            "/spec/tolerations/-",
            json!({ "key": "b", "operator": "Exists" }),
        )],
        &[],
    );
    refuses_change(
        "Pod",
        &[("/spec/tolerations/0/tolerationSeconds", json!(5))],
        &[],
    );
    refuses_change(
        "Pod",
        &[("/spec/nodeName", json!("node"))],
        &[
            "spec: Forbidden: pod updates may not change fields other than \
           `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` \
           (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it \
           was previously negative)\n- nodeName: null\n+ nodeName: \"node\"\n",
        ],
    );
    refuses_change(
        "Pod",
        &[("/spec/containers/-", json!({ "name": "b", "image": "b" }))],
        &["spec.containers: Forbidden: pod updates may not add or remove containers"],
    );
    refuses_change(
        "Pod",
        &[("/spec/tolerations", Value::Null)],
        &[
            "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds",
        ],
    );
    refuses_change(
        "Pod",
        &[("/spec/schedulingGates", json!([{ "name": "g" }]))],
        &[
            "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'g'",
        ],
    );
    let (new, old) = (
        edited("Pod", &[("/spec/nodeName", json!("node"))]),
        good("Pod"),
    );
    assert!(updated(&kind_of(&old), &new, &old, "binding").is_empty());
    let held = edited(
        "Pod",
        &[("/spec/schedulingGates", json!([{ "name": "g" }]))],
    );
    assert!(updated(&kind_of(&old), &old, &held, "").is_empty());
}
