//! Good objects of each kind with rules, what makes each of them a bad one, and what upstream says then.

use serde_json::{Value, json};

use super::*;
use crate::status::FieldError;

/// One good object of each kind, as it is after defaults are filled in.
const GOOD: &str = r#"
- {apiVersion: v1, kind: Namespace, metadata: {name: a}, spec: {finalizers: [kubernetes]}}
- {apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: n}, data: {k: v}, binaryData: {b: AAEC}}
- {apiVersion: v1, kind: Secret, metadata: {name: a, namespace: n}, type: Opaque, data: {k: dg==}}
- {apiVersion: v1, kind: ServiceAccount, metadata: {name: a, namespace: n}}
- apiVersion: v1
  kind: Pod
  metadata: {name: a, namespace: n, labels: {app: web}}
  spec: &pod
    restartPolicy: Always
    dnsPolicy: ClusterFirst
    terminationGracePeriodSeconds: 30
    schedulerName: default-scheduler
    nodeSelector: {disk: ssd}
    tolerations: [{key: a, operator: Exists, effect: NoExecute, tolerationSeconds: 300}]
    volumes:
    - {name: config, configMap: {name: c, defaultMode: 420}}
    - {name: data, persistentVolumeClaim: {claimName: d}}
    initContainers:
    - {name: init, image: i, imagePullPolicy: Always, terminationMessagePolicy: File}
    containers:
    - name: web
      image: nginx
      imagePullPolicy: Always
      terminationMessagePolicy: File
      ports: [{name: http, containerPort: 80, protocol: TCP}]
      env:
      - {name: A, value: b}
      - {name: B, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: "metadata.labels['app']"}}}
      - {name: C, valueFrom: {secretKeyRef: {name: s, key: k}}}
      envFrom: [{configMapRef: {name: c}}]
      volumeMounts: [{name: config, mountPath: /etc}]
      livenessProbe: {httpGet: {path: /, port: http, scheme: HTTP}, periodSeconds: 10, successThreshold: 1}
      lifecycle: {preStop: {sleep: {seconds: 5}}}
      resources: {requests: {cpu: 100m}, limits: {cpu: "1"}}
    affinity:
      nodeAffinity:
        requiredDuringSchedulingIgnoredDuringExecution:
          nodeSelectorTerms: [{matchExpressions: [{key: a, operator: In, values: [b]}]}]
      podAntiAffinity:
        preferredDuringSchedulingIgnoredDuringExecution:
        - {weight: 1, podAffinityTerm: {topologyKey: zone, labelSelector: {matchLabels: {app: web}}}}
    topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]
- {apiVersion: v1, kind: PodTemplate, metadata: {name: a, namespace: n}, template: {spec: *pod}}
- apiVersion: v1
  kind: ReplicationController
  metadata: {name: a, namespace: n}
  spec: {replicas: 1, selector: {app: web}, template: {metadata: {labels: {app: web}}, spec: *pod}}
- apiVersion: apps/v1
  kind: Deployment
  metadata: {name: a, namespace: n}
  spec:
    replicas: 1
    progressDeadlineSeconds: 600
    strategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 25%, maxSurge: 25%}}
    selector: {matchLabels: {app: web}}
    template: {metadata: {labels: {app: web}}, spec: *pod}
- apiVersion: apps/v1
  kind: ReplicaSet
  metadata: {name: a, namespace: n}
  spec: {replicas: 1, selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: *pod}}
- apiVersion: apps/v1
  kind: DaemonSet
  metadata: {name: a, namespace: n}
  spec:
    updateStrategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 1, maxSurge: 0}}
    selector: {matchLabels: {app: web}}
    template: {metadata: {labels: {app: web}}, spec: *pod}
- apiVersion: apps/v1
  kind: StatefulSet
  metadata: {name: a, namespace: n}
  spec:
    replicas: 1
    serviceName: s
    podManagementPolicy: OrderedReady
    updateStrategy: {type: RollingUpdate, rollingUpdate: {partition: 0}}
    selector: {matchLabels: {app: web}}
    template: {metadata: {labels: {app: web}}, spec: *pod}
- {apiVersion: apps/v1, kind: ControllerRevision, metadata: {name: a, namespace: n}, revision: 1, data: {a: 1}}
- apiVersion: batch/v1
  kind: Job
  metadata: {name: a, namespace: n}
  spec: &job
    parallelism: 1
    completions: 1
    completionMode: NonIndexed
    template:
      spec:
        restartPolicy: Never
        containers: [{name: a, image: a, imagePullPolicy: Always, terminationMessagePolicy: File}]
- apiVersion: batch/v1
  kind: CronJob
  metadata: {name: a, namespace: n}
  spec: {schedule: "*/5 * * * *", timeZone: Europe/Paris, concurrencyPolicy: Allow, jobTemplate: {spec: *job}}
- apiVersion: v1
  kind: Service
  metadata: {name: a, namespace: n}
  spec:
    type: ClusterIP
    clusterIP: 10.0.0.1
    clusterIPs: [10.0.0.1]
    sessionAffinity: None
    selector: {app: web}
    ports: [{name: http, port: 80, targetPort: http, protocol: TCP}, {name: dns, port: 53, targetPort: 53, protocol: UDP}]
- apiVersion: v1
  kind: Endpoints
  metadata: {name: a, namespace: n}
  subsets: [{addresses: [{ip: 10.1.0.1}], ports: [{port: 80, protocol: TCP}]}]
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: a, namespace: n}
  addressType: IPv4
  endpoints: [{addresses: [10.1.0.1]}]
  ports: [{name: "", port: 80, protocol: TCP}]
- apiVersion: networking.k8s.io/v1
  kind: Ingress
  metadata: {name: a, namespace: n}
  spec:
    tls: [{hosts: ["*.example.com"], secretName: s}]
    rules:
    - host: a.example.com
      http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: s, port: {number: 80}}}}]}
- {apiVersion: networking.k8s.io/v1, kind: IngressClass, metadata: {name: a}, spec: {controller: example.com/c}}
- apiVersion: networking.k8s.io/v1
  kind: NetworkPolicy
  metadata: {name: a, namespace: n}
  spec:
    podSelector: {}
    policyTypes: [Ingress]
    ingress:
    - ports: [{port: 80, endPort: 90, protocol: TCP}]
      from: [{podSelector: {}}, {ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}]
- apiVersion: v1
  kind: Node
  metadata: {name: a}
  spec: {podCIDR: 10.0.0.0/24, podCIDRs: [10.0.0.0/24], providerID: p, taints: [{key: a, effect: NoSchedule}]}
  status: {capacity: {cpu: "4"}}
- apiVersion: v1
  kind: PersistentVolume
  metadata: {name: a}
  spec:
    accessModes: [ReadWriteOnce]
    capacity: {storage: 1Gi}
    hostPath: {path: /data}
    persistentVolumeReclaimPolicy: Retain
    volumeMode: Filesystem
- apiVersion: v1
  kind: PersistentVolumeClaim
  metadata: {name: a, namespace: n}
  spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 2Gi}}, volumeMode: Filesystem, volumeName: v}
  status: {phase: Bound, capacity: {storage: 1Gi}}
- apiVersion: storage.k8s.io/v1
  kind: StorageClass
  metadata: {name: a}
  provisioner: example.com/p
  parameters: {a: b}
  reclaimPolicy: Delete
  volumeBindingMode: Immediate
- apiVersion: rbac.authorization.k8s.io/v1
  kind: Role
  metadata: {name: "a:b", namespace: n}
  rules: [{apiGroups: [""], resources: [pods], verbs: [get]}]
- apiVersion: rbac.authorization.k8s.io/v1
  kind: ClusterRole
  metadata: {name: "a:b"}
  rules: [{nonResourceURLs: [/healthz], verbs: [get]}]
- apiVersion: rbac.authorization.k8s.io/v1
  kind: RoleBinding
  metadata: {name: a, namespace: n}
  roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: r}
  subjects: [{kind: User, name: u, apiGroup: rbac.authorization.k8s.io}]
- apiVersion: rbac.authorization.k8s.io/v1
  kind: ClusterRoleBinding
  metadata: {name: a}
  roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: r}
  subjects: [{kind: ServiceAccount, name: s, namespace: n}]
- {apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: a, namespace: n}, spec: {leaseDurationSeconds: 15}}
- {apiVersion: v1, kind: Event, metadata: {name: a, namespace: n}, involvedObject: {namespace: n}}
- apiVersion: events.k8s.io/v1
  kind: Event
  metadata: {name: a, namespace: team}
  eventTime: "2025-01-01T00:00:00.000000Z"
  regarding: {namespace: team}
  reportingController: example.com/c
  reportingInstance: i
  action: Act
  reason: Because
  type: Normal
- apiVersion: autoscaling/v2
  kind: HorizontalPodAutoscaler
  metadata: {name: a, namespace: n}
  spec:
    minReplicas: 1
    maxReplicas: 3
    scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
    metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 80}}}]
- apiVersion: policy/v1
  kind: PodDisruptionBudget
  metadata: {name: a, namespace: n}
  spec: {minAvailable: 50%, selector: {matchLabels: {app: web}}}
- {apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {name: a}, value: 10, preemptionPolicy: Never}
- {apiVersion: v1, kind: ResourceQuota, metadata: {name: a, namespace: n}, spec: {hard: {pods: "10", count/jobs.batch: "5"}, scopes: [BestEffort]}}
- apiVersion: v1
  kind: LimitRange
  metadata: {name: a, namespace: n}
  spec:
    limits: [{type: Container, min: {cpu: 100m}, max: {cpu: "2"}, default: {cpu: "1"}, defaultRequest: {cpu: 500m}}]
- {apiVersion: node.k8s.io/v1, kind: RuntimeClass, metadata: {name: a}, handler: runc}
- apiVersion: apiextensions.k8s.io/v1
  kind: CustomResourceDefinition
  metadata: {name: things.example.com}
  spec:
    group: example.com
    scope: Namespaced
    names: {plural: things, singular: thing, kind: Thing, listKind: ThingList}
    versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]
  status: {conditions: [{type: Established, status: "True"}]}
- apiVersion: apiregistration.k8s.io/v1
  kind: APIService
  metadata: {name: v1.example.com}
  spec: {group: example.com, version: v1, groupPriorityMinimum: 100, versionPriority: 10}
- apiVersion: admissionregistration.k8s.io/v1
  kind: ValidatingWebhookConfiguration
  metadata: {name: a}
  webhooks: &webhooks
  - name: a.example.com
    sideEffects: None
    admissionReviewVersions: [v1]
    clientConfig: {url: "https://localhost/a"}
    rules: [{operations: [CREATE], apiGroups: [""], apiVersions: [v1], resources: [pods]}]
- {apiVersion: admissionregistration.k8s.io/v1, kind: MutatingWebhookConfiguration, metadata: {name: a}, webhooks: *webhooks}
- apiVersion: flowcontrol.apiserver.k8s.io/v1
  kind: FlowSchema
  metadata: {name: a}
  spec: {matchingPrecedence: 100, priorityLevelConfiguration: {name: p}}
"#;

fn good_objects() -> Vec<Value> {
    serde_saphyr::from_str(GOOD).unwrap()
}

fn good(kind: &str) -> Value {
    let found = good_objects()
        .into_iter()
        .find(|object| object["kind"] == kind);
    found.unwrap_or_else(|| panic!("there is a good {kind}"))
}

/// The kind of an object, whether the table of kinds has it or not.
fn kind_of(object: &Value) -> Kind {
    let version = object["apiVersion"].as_str().unwrap();
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let names = match object["kind"].as_str().unwrap() {
        "Service" => "serviceLabel",
        "Namespace" | "StatefulSet" => "label",
        _ if group.starts_with("rbac.") => "path",
        _ => "subdomain",
    };
    let row = json!({
        "group": group, "version": version, "kind": object["kind"], "plural": "x", "names": names,
        "namespaced": object["metadata"]["namespace"].is_string(),
    });
    serde_json::from_value(row).unwrap()
}

fn lines(errors: &[FieldError]) -> Vec<String> {
    errors
        .iter()
        .map(|error| format!("{}: {}", error.field, error.body()))
        .collect()
}

/// Puts values at places, such as `/spec/replicas`; null takes away.
fn edited(kind: &str, edits: &[(&str, Value)]) -> Value {
    let mut object = good(kind);
    for (pointer, value) in edits {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = object
            .pointer_mut(parent)
            .unwrap_or_else(|| panic!("{kind} has {pointer}"));
        match parent {
            Value::Object(fields) if value.is_null() => drop(fields.remove(name)),
            Value::Object(fields) => drop(fields.insert(name.to_owned(), value.clone())),
            Value::Array(items) if name == "-" => items.push(value.clone()),
            Value::Array(items) => items[name.parse::<usize>().unwrap()] = value.clone(),
            _ => panic!("{kind} has {pointer}"),
        }
    }
    object
}

/// A good object with edits is refused for just these reasons.
#[track_caller]
fn refuses(kind: &str, edits: &[(&str, Value)], wanted: &[&str]) {
    let object = edited(kind, edits);
    assert_eq!(
        lines(&created(&kind_of(&object), &object)),
        wanted,
        "{kind}"
    );
}

/// A good object may not become another by edits, for just these reasons.
#[track_caller]
fn refuses_change(kind: &str, edits: &[(&str, Value)], wanted: &[&str]) {
    let (new, old) = (edited(kind, edits), good(kind));
    assert_eq!(
        lines(&updated(&kind_of(&old), &new, &old, "")),
        wanted,
        "{kind}"
    );
}

#[test]
fn good_objects_are_taken_and_may_stay_as_they_are() {
    for object in good_objects() {
        let kind = kind_of(&object);
        assert_eq!(
            lines(&created(&kind, &object)),
            Vec::<String>::new(),
            "{}",
            kind.kind
        );
        assert_eq!(
            lines(&updated(&kind, &object, &object, "")),
            Vec::<String>::new(),
            "{}",
            kind.kind
        );
        assert_eq!(
            lines(&updated(&kind, &object, &object, "status")),
            Vec::<String>::new(),
            "{}",
            kind.kind
        );
    }
}

#[test]
fn good_objects_fit_their_schemas() {
    // Else rules may look at fields that there are not.
    fn check(
        schemas: &crate::schema::Schemas,
        schema: &crate::schema::Schema,
        value: &Value,
        path: &str,
    ) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let is_known = !matches!(schemas.shape(schema), crate::schema::Shape::Any);
                    let Some(field) = schemas.field(schema, name) else {
                        assert!(!is_known, "{path}.{name}");
                        continue;
                    };
                    check(schemas, field, value, &format!("{path}.{name}"));
                }
            }
            Value::Array(items) => {
                for item in items {
                    check(schemas, schemas.items(schema).unwrap(), item, path);
                }
            }
            _ => {}
        }
    }
    let schemas = crate::schema::Schemas::builtin();
    for object in good_objects() {
        let kind = kind_of(&object);
        // Some groups are not among the definitions that ship.
        if let Some(definition) = schemas.of_kind(&kind.group, &kind.version, &kind.kind) {
            check(schemas, schemas.get(definition), &object, &kind.kind);
        }
    }
}

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

#[test]
fn a_selector_finds_what_the_template_makes() {
    for kind in ["Deployment", "ReplicaSet", "DaemonSet", "StatefulSet"] {
        refuses(
            kind,
            &[("/spec/template/metadata/labels", json!({ "app": "db" }))],
            &[
                "spec.template.metadata.labels: Invalid value: {\"app\":\"db\"}: `selector` does not match template \
               `labels`",
            ],
        );
        // Nothing selects nothing. The two errors come in one order or the other.
        let object = edited(kind, &[("/spec/selector", Value::Null)]);
        let mut found = lines(&created(&kind_of(&object), &object));
        found.sort();
        assert_eq!(
            found,
            [
                "spec.selector: Required value",
                "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template \
                 `labels`",
            ]
        );
        refuses(
            kind,
            &[("/spec/template/spec/restartPolicy", json!("Never"))],
            &[
                "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
            ],
        );
    }
    refuses(
        "Deployment",
        &[("/spec/selector", json!({}))],
        &["spec.selector: Invalid value: {}: empty selector is invalid for deployment"],
    );
}

#[test]
fn errors_of_a_deployment_come_in_order() {
    refuses(
        "Deployment",
        &[
            ("/spec/replicas", json!(-1)),
            ("/spec/selector/matchLabels/app", json!("x")),
            ("/spec/template/spec/containers/0/image", json!("")),
            (
                "/spec/strategy/rollingUpdate",
                json!({ "maxUnavailable": 0, "maxSurge": "0%" }),
            ),
            ("/spec/minReadySeconds", json!(700)),
        ],
        &[
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template \
             `labels`",
            "spec.template.spec.containers[0].image: Required value",
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
            "spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds",
        ],
    );
    refuses(
        "Deployment",
        &[("/spec/strategy/type", json!("Recreate"))],
        &[
            "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
        ],
    );
}

#[test]
fn selectors_stay() {
    let edits = [
        ("/spec/selector/matchLabels", json!({ "app": "db" })),
        ("/spec/template/metadata/labels", json!({ "app": "db" })),
    ];
    for kind in ["Deployment", "ReplicaSet", "DaemonSet"] {
        let wanted =
            "spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"db\"}}: field is immutable";
        refuses_change(kind, &edits, &[wanted]);
    }
    refuses_change(
        "StatefulSet",
        &[
            ("/spec/serviceName", json!("t")),
            ("/spec/replicas", json!(2)),
        ],
        &[
            "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
           'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are \
           forbidden",
        ],
    );
}

#[test]
fn strategies_of_sets_are_checked() {
    refuses(
        "DaemonSet",
        &[("/spec/updateStrategy/rollingUpdate/maxSurge", json!(1))],
        &[
            "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero",
        ],
    );
    refuses(
        "StatefulSet",
        &[
            ("/spec/podManagementPolicy", json!("Wild")),
            ("/spec/updateStrategy/rollingUpdate/partition", json!(-1)),
        ],
        &[
            "spec.podManagementPolicy: Invalid value: \"Wild\": must be 'OrderedReady' or 'Parallel'",
            "spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: must be greater than or equal to 0",
        ],
    );
    refuses(
        "ControllerRevision",
        &[("/data", Value::Null)],
        &["data: Required value: data is mandatory"],
    );
}

#[test]
fn a_status_counts_no_more_than_there_are() {
    let old = good("Deployment");
    let new = edited(
        "Deployment",
        &[(
            "/status",
            json!({ "replicas": 1, "readyReplicas": 2, "updatedReplicas": -1 }),
        )],
    );
    assert_eq!(
        lines(&updated(&kind_of(&old), &new, &old, "status")),
        [
            "status.updatedReplicas: Invalid value: -1: must be greater than or equal to 0",
            "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas",
        ]
    );
}

#[test]
fn a_job_ends_and_its_template_stays() {
    refuses(
        "Job",
        &[
            ("/spec/template/spec/restartPolicy", json!("Always")),
            ("/spec/parallelism", json!(-1)),
        ],
        &[
            "spec.parallelism: Invalid value: -1: must be greater than or equal to 0",
            "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
        ],
    );
    refuses(
        "Job",
        &[
            ("/spec/completionMode", json!("Indexed")),
            ("/spec/completions", Value::Null),
        ],
        &["spec.completions: Required value: when completion mode is Indexed"],
    );
    let new = edited(
        "Job",
        &[("/spec/template/spec/containers/0/image", json!("b"))],
    );
    let old = good("Job");
    let found = lines(&updated(&kind_of(&old), &new, &old, ""));
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with("spec.template: Invalid value: {")
            && found[0].ends_with(": field is immutable")
    );
    refuses_change(
        "Job",
        &[("/spec/completions", json!(2))],
        &["spec.completions: Invalid value: 2: field is immutable"],
    );
    let waiting = edited("Job", &[("/spec/suspend", json!(true))]);
    let new = edited(
        "Job",
        &[("/spec/template/spec/nodeSelector", json!({ "a": "b" }))],
    );
    assert!(updated(&kind_of(&old), &new, &waiting, "").is_empty());
}

#[test]
fn a_cron_job_has_a_schedule_and_a_short_name() {
    refuses(
        "CronJob",
        &[
            ("/spec/schedule", json!("* * *")),
            ("/spec/concurrencyPolicy", json!("Maybe")),
        ],
        &[
            "spec.concurrencyPolicy: Unsupported value: \"Maybe\": supported values: \"Allow\", \"Forbid\", \"Replace\"",
            "spec.schedule: Invalid value: \"* * *\": expected exactly 5 fields, found 3: [* * *]",
        ],
    );
    refuses(
        "CronJob",
        &[
            ("/spec/schedule", json!("TZ=UTC * * * * *")),
            ("/metadata/name", json!("a".repeat(53))),
        ],
        &[
            "spec.schedule: Invalid value: \"TZ=UTC * * * * *\": cannot use both timeZone field and TZ or CRON_TZ in \
             schedule",
            &format!(
                "metadata.name: Invalid value: \"{}\": must be no more than 52 characters",
                "a".repeat(53)
            ),
        ],
    );
    refuses(
        "CronJob",
        &[("/spec/timeZone", json!("Local"))],
        &[
            "spec.timeZone: Invalid value: \"Local\": timeZone must be an explicit time zone as defined in \
           https://www.iana.org/time-zones",
        ],
    );
}

#[test]
fn a_service_has_ports_of_its_own() {
    refuses(
        "Service",
        &[("/spec/ports", json!([]))],
        &["spec.ports: Required value"],
    );
    refuses(
        "Service",
        &[(
            "/spec/ports",
            json!([
                { "port": 80, "protocol": "TCP", "nodePort": 30080 },
                { "name": "b", "port": 80, "protocol": "TCP", "targetPort": "x--y" },
                { "name": "b", "port": 0, "protocol": "TCP" },
            ]),
        )],
        &[
            "spec.ports[0].name: Required value",
            "spec.ports[1].targetPort: Invalid value: \"x--y\": must not contain consecutive hyphens",
            "spec.ports[2].name: Duplicate value: \"b\"",
            "spec.ports[2].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
            "spec.ports[1]: Duplicate value: {\"port\":80,\"protocol\":\"TCP\"}",
        ],
    );
    refuses(
        "Service",
        &[
            ("/spec/type", json!("NodePort")),
            ("/spec/ports/0/nodePort", json!(80)),
        ],
        &[
            "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports \
           is 30000-32767",
        ],
    );
    refuses(
        "Service",
        &[
            ("/spec/clusterIP", json!("None")),
            ("/spec/clusterIPs", json!(["None"])),
            ("/spec/ports", Value::Null),
        ],
        &[],
    );
}

#[test]
fn a_service_is_of_a_type_and_keeps_its_address() {
    refuses(
        "Service",
        &[
            ("/spec/type", json!("Best")),
            ("/spec/sessionAffinity", json!("Some")),
        ],
        &[
            "spec.sessionAffinity: Unsupported value: \"Some\": supported values: \"ClientIP\", \"None\"",
            "spec.type: Unsupported value: \"Best\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \
             \"NodePort\"",
        ],
    );
    refuses(
        "Service",
        &[
            ("/spec/type", json!("ExternalName")),
            ("/spec/clusterIPs", Value::Null),
        ],
        &["spec.externalName: Required value"],
    );
    refuses(
        "Service",
        &[
            ("/spec/clusterIP", json!("x")),
            ("/spec/clusterIPs", json!(["x"])),
        ],
        &[
            "spec.clusterIPs[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ],
    );
    refuses_change(
        "Service",
        &[
            ("/spec/clusterIP", json!("10.0.0.2")),
            ("/spec/clusterIPs", json!(["10.0.0.2"])),
        ],
        &["spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set"],
    );
    refuses(
        "Service",
        &[("/spec/clusterIP", json!("10.0.0.2"))],
        &["spec.clusterIPs: Invalid value: [\"10.0.0.1\"]: first value must match `clusterIP`"],
    );
    refuses_change(
        "Service",
        &[
            ("/spec/clusterIP", Value::Null),
            ("/spec/clusterIPs", Value::Null),
        ],
        &[],
    );
    refuses(
        "Service",
        &[("/metadata/name", json!("1a"))],
        &[
            "metadata.name: Invalid value: \"1a\": a DNS-1035 label must consist of lower case alphanumeric characters or \
           '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', \
           regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
        ],
    );
}

#[test]
fn endpoints_have_addresses_of_their_type() {
    refuses(
        "EndpointSlice",
        &[("/endpoints/0/addresses", json!(["::1", "127.0.0.1"]))],
        &[
            "endpoints[0].addresses[0]: Invalid value: \"::1\": must be a valid IPv4 address",
            "endpoints[0].addresses[1]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, \
             ::1/128)",
        ],
    );
    refuses_change(
        "EndpointSlice",
        &[("/addressType", json!("IPv6")), ("/endpoints", json!([]))],
        &["addressType: Invalid value: \"IPv6\": field is immutable"],
    );
    refuses(
        "Endpoints",
        &[("/subsets/0/addresses", Value::Null)],
        &["subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"],
    );
}

#[test]
fn ways_in_and_out_lead_somewhere() {
    refuses(
        "Ingress",
        &[("/spec/rules", json!([]))],
        &["spec: Invalid value: []: either `defaultBackend` or `rules` must be specified"],
    );
    refuses(
        "Ingress",
        &[
            ("/spec/rules/0/host", json!("10.0.0.1")),
            ("/spec/rules/0/http/paths/0/path", json!("a//b")),
            ("/spec/rules/0/http/paths/0/backend", json!({})),
            (
                "/spec/rules/0/http/paths/-",
                json!({ "backend": { "service": { "name": "s" } } }),
            ),
        ],
        &[
            "spec.rules[0].host: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address",
            "spec.rules[0].http.paths[0].path: Invalid value: \"a//b\": must be an absolute path",
            "spec.rules[0].http.paths[0].path: Invalid value: \"a//b\": must not contain '//'",
            "spec.rules[0].http.paths[0].backend: Required value: resource or service backend is required",
            "spec.rules[0].http.paths[1].pathType: Required value: pathType must be specified",
            "spec.rules[0].http.paths[1].backend: Required value: port name or number is required",
        ],
    );
    refuses_change(
        "IngressClass",
        &[("/spec/controller", json!("example.com/d"))],
        &["spec.controller: Invalid value: \"example.com/d\": field is immutable"],
    );
    refuses(
        "NetworkPolicy",
        &[
            ("/spec/ingress/0/ports/0/endPort", json!(70)),
            (
                "/spec/ingress/0/from",
                json!([{}, { "ipBlock": { "cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"] } }]),
            ),
            ("/spec/policyTypes", json!(["Both"])),
        ],
        &[
            "spec.ingress[0].ports[0].endPort: Invalid value: 70: must be greater than or equal to `port`",
            "spec.ingress[0].from[0]: Required value: must specify a peer",
            "spec.ingress[0].from[1].ipBlock.except[0]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`",
            "spec.policyTypes[0]: Unsupported value: \"Both\": supported values: \"Ingress\", \"Egress\"",
        ],
    );
}

#[test]
fn config_has_good_keys_and_is_not_too_large() {
    refuses(
        "ConfigMap",
        &[("/data", json!({ "b": "x", "..": "y" }))],
        &[
            "data[..]: Invalid value: \"..\": must not be '..'",
            "data[b]: Invalid value: \"b\": duplicate of key present in binaryData",
        ],
    );
    refuses(
        "ConfigMap",
        &[("/data", json!({ "k": "x".repeat(1 << 20) }))],
        &["[]: Too long: may not be more than 1048576 bytes"],
    );
    let old = edited("ConfigMap", &[("/immutable", json!(true))]);
    let new = edited("ConfigMap", &[("/data/k", json!("w"))]);
    assert_eq!(
        lines(&updated(&kind_of(&old), &new, &old, "")),
        [
            "immutable: Forbidden: field is immutable when `immutable` is set",
            "data: Forbidden: field is immutable when `immutable` is set",
        ]
    );
}

#[test]
fn secrets_have_what_their_type_needs() {
    let typed = |kind: &str, wanted: &[&str]| refuses("Secret", &[("/type", json!(kind))], wanted);
    typed(
        "kubernetes.io/tls",
        &[
            "data[tls.crt]: Required value",
            "data[tls.key]: Required value",
        ],
    );
    typed(
        "kubernetes.io/basic-auth",
        &[
            "data[username]: Required value",
            "data[password]: Required value",
        ],
    );
    typed(
        "kubernetes.io/ssh-auth",
        &["data[ssh-privatekey]: Required value"],
    );
    typed(
        "kubernetes.io/dockerconfigjson",
        &["data[.dockerconfigjson]: Required value"],
    );
    typed(
        "kubernetes.io/service-account-token",
        &["metadata.annotations[kubernetes.io/service-account.name]: Required value"],
    );
    refuses(
        "Secret",
        &[
            ("/type", json!("kubernetes.io/dockercfg")),
            ("/data/.dockercfg", json!("WzFd")),
        ],
        &[
            "data[.dockercfg]: Invalid value: \"<secret contents redacted>\": json: cannot unmarshal array into Go value of \
           type map[string]interface {}",
        ],
    );
    refuses_change(
        "Secret",
        &[("/type", json!("mine"))],
        &["type: Invalid value: \"mine\": field is immutable"],
    );
}

#[test]
fn nodes_keep_what_they_were_given() {
    refuses(
        "Node",
        &[(
            "/spec/taints/-",
            json!({ "key": "a", "effect": "NoSchedule", "value": "b" }),
        )],
        &[
            "metadata.taints[1]: Duplicate value: {\"effect\":\"NoSchedule\",\"key\":\"a\",\"value\":\"b\"}: taints must be \
           unique by key and effect pair",
        ],
    );
    refuses_change(
        "Node",
        &[
            ("/spec/podCIDRs", json!(["10.0.1.0/24"])),
            ("/spec/providerID", json!("q")),
        ],
        &[
            "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid",
            "spec.providerID: Forbidden: node updates may not change providerID except from \"\" to valid",
        ],
    );
    let old = good("Node");
    let new = edited("Node", &[("/status/capacity/cpu", json!("-4"))]);
    assert_eq!(
        lines(&updated(&kind_of(&old), &new, &old, "status")),
        ["status.capacity.cpu: Invalid value: \"-4\": must be greater than or equal to 0"]
    );
}

#[test]
fn volumes_are_of_one_kind_and_keep_it() {
    refuses(
        "PersistentVolume",
        &[
            ("/spec/accessModes", json!([])),
            ("/spec/capacity", json!({})),
            ("/spec/hostPath", Value::Null),
        ],
        &[
            "spec.accessModes: Required value",
            "spec.capacity: Required value",
            "spec.capacity: Unsupported value: {}: supported values: \"storage\"",
            "spec: Required value: must specify a volume type",
        ],
    );
    refuses_change(
        "PersistentVolume",
        &[("/spec/hostPath/path", json!("/other"))],
        &[
            "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation\n\
           - spec.hostPath: {\"path\":\"/data\"}\n+ spec.hostPath: {\"path\":\"/other\"}\n",
        ],
    );
}

#[test]
fn claims_only_grow() {
    refuses(
        "PersistentVolumeClaim",
        &[
            ("/spec/accessModes", json!(["Sometimes"])),
            ("/spec/resources", json!({})),
        ],
        &[
            "spec.accessModes: Unsupported value: \"Sometimes\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \
             \"ReadWriteOnce\", \"ReadWriteOncePod\"",
            "spec.resources[storage]: Required value",
        ],
    );
    refuses_change(
        "PersistentVolumeClaim",
        &[("/spec/resources/requests/storage", json!("3Gi"))],
        &[],
    );
    refuses_change(
        "PersistentVolumeClaim",
        &[("/spec/resources/requests/storage", json!("1Gi"))],
        &["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"],
    );
    refuses_change(
        "PersistentVolumeClaim",
        &[("/spec/accessModes", json!(["ReadOnlyMany"]))],
        &[
            "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for \
           bound claims\n- accessModes: [\"ReadWriteOnce\"]\n+ accessModes: [\"ReadOnlyMany\"]\n",
        ],
    );
    refuses_change(
        "StorageClass",
        &[
            ("/parameters/a", json!("c")),
            ("/provisioner", json!("example.com/q")),
        ],
        &[
            "provisioner: Forbidden: updates to provisioner are forbidden.",
            "parameters: Forbidden: updates to parameters are forbidden.",
        ],
    );
    refuses(
        "StorageClass",
        &[("/provisioner", Value::Null)],
        &["provisioner: Required value"],
    );
}

#[test]
fn roles_say_what_may_be_done_and_bindings_by_whom() {
    refuses(
        "Role",
        &[(
            "/rules",
            json!([{ "nonResourceURLs": ["/"], "verbs": ["get"] }, {}]),
        )],
        &[
            "rules[0].nonResourceURLs: Invalid value: [\"/\"]: namespaced rules cannot apply to non-resource URLs",
            "rules[1].verbs: Required value: verbs must contain at least one value",
            "rules[1].apiGroups: Required value: resource rules must supply at least one api group",
            "rules[1].resources: Required value: resource rules must supply at least one resource",
        ],
    );
    refuses(
        "ClusterRoleBinding",
        &[
            ("/roleRef/kind", json!("Role")),
            ("/subjects/0/namespace", Value::Null),
            ("/subjects/-", json!({ "kind": "Dog", "name": "d" })),
        ],
        &[
            "roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\"",
            "subjects[0].namespace: Required value",
            "subjects[1].kind: Unsupported value: \"Dog\": supported values: \"ServiceAccount\", \"User\", \"Group\"",
        ],
    );
    let reference = "{\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":\"Role\",\"name\":\"x\"}";
    refuses_change(
        "RoleBinding",
        &[("/roleRef/name", json!("x"))],
        &[&format!(
            "roleRef: Invalid value: {reference}: cannot change roleRef"
        )],
    );
}

#[test]
fn an_event_is_where_what_it_is_about_is() {
    refuses(
        "Event",
        &[("/involvedObject/namespace", json!("m"))],
        &["involvedObject.namespace: Invalid value: \"m\": does not match event.namespace"],
    );
    refuses(
        "Event",
        &[
            ("/involvedObject", json!({})),
            ("/metadata/namespace", json!("default")),
        ],
        &[],
    );
}

#[test]
fn events_of_their_own_group_are_strict_on_creation_and_later_change_their_series_only() {
    let group = "events.k8s.io";
    let good = good_objects()
        .into_iter()
        .find(|object| object["apiVersion"].as_str().unwrap().starts_with(group))
        .unwrap();
    let kind = kind_of(&good);
    let with = |edits: &[(&str, Value)]| {
        let mut object = good.clone();
        for (name, value) in edits {
            object[*name] = value.clone();
        }
        object
    };
    let long = "x".repeat(129);
    let bad = with(&[
        ("reportingController", json!("")),
        ("reportingInstance", json!(long)),
        ("reason", json!("")),
        ("note", json!("x".repeat(1025))),
        ("type", json!("Odd")),
        ("deprecatedCount", json!(1)),
        ("deprecatedSource", json!({ "host": "h" })),
        ("deprecatedFirstTimestamp", json!("2025-01-01T00:00:00Z")),
        ("series", json!({ "count": 1 })),
    ]);
    let found = lines(&created(&kind, &bad));
    for wanted in [
        "reportingController: Required value",
        "reportingInstance: Invalid value: \"\": can have at most 128 characters",
        "reason: Required value",
        "message: Invalid value: \"\": can have at most 1024 characters",
        "type: Invalid value: \"\": has invalid value: Odd",
        "count: Invalid value: \"\": needs to be unset",
        "source: Invalid value: \"\": needs to be unset",
        "firstTimestamp: Invalid value: \"\": needs to be unset",
        "series.count: Invalid value: \"\": should be at least 2",
        "series.lastObservedTime: Required value",
    ] {
        assert!(
            found.iter().any(|line| line == wanted),
            "{wanted}: {found:?}"
        );
    }

    let changed = with(&[("note", json!("other")), ("action", json!("Other"))]);
    assert_eq!(
        lines(&updated(&kind, &changed, &good, "")),
        [
            "message: Invalid value: \"other\": field is immutable",
            "action: Invalid value: \"Other\": field is immutable",
        ]
    );
    let without = with(&[("note", Value::Null)]);
    let told = with(&[("note", json!("told"))]);
    assert_eq!(
        lines(&updated(&kind, &without, &told, "")),
        ["message: Invalid value: \"\": field is immutable"]
    );
    let empty = with(&[("series", json!({}))]);
    assert_eq!(
        lines(&updated(&kind, &empty, &good, "")),
        [
            "series.count: Invalid value: \"\": should be at least 2",
            "series.lastObservedTime: Required value",
        ]
    );
    let again = json!({ "count": 2, "lastObservedTime": "2025-01-01T00:00:09.000000Z" });
    let repeated = with(&[("series", again)]);
    assert_eq!(
        lines(&updated(&kind, &repeated, &good, "")),
        Vec::<String>::new()
    );
}

#[test]
fn scaling_and_disruption_have_bounds() {
    refuses(
        "HorizontalPodAutoscaler",
        &[
            ("/spec/minReplicas", json!(5)),
            ("/spec/scaleTargetRef/name", json!("")),
            ("/spec/metrics", json!([{ "type": "Pods", "resource": {} }])),
        ],
        &[
            "spec.scaleTargetRef.name: Required value",
            "spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`",
            "spec.metrics[0].pods: Required value: must populate information for the given metric source",
            "spec.metrics[0].resource: Forbidden: must populate the given metric source only",
        ],
    );
    refuses(
        "PodDisruptionBudget",
        &[("/spec/minAvailable", json!("150%"))],
        &["spec.minAvailable: Invalid value: \"150%\": must not be greater than 100%"],
    );
    let object = edited("PodDisruptionBudget", &[("/spec/maxUnavailable", json!(1))]);
    let found = lines(&created(&kind_of(&object), &object));
    assert!(found[0].ends_with("minAvailable and maxUnavailable cannot be both set"));
}

#[test]
fn small_kinds_have_their_rules() {
    refuses(
        "Lease",
        &[
            ("/spec/leaseDurationSeconds", json!(0)),
            ("/spec/leaseTransitions", json!(-1)),
        ],
        &[
            "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
            "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
        ],
    );
    refuses(
        "RuntimeClass",
        &[("/handler", json!(""))],
        &["handler: Required value"],
    );
    refuses_change(
        "RuntimeClass",
        &[("/handler", json!("kata"))],
        &["handler: Invalid value: \"kata\": field is immutable"],
    );
    refuses(
        "PriorityClass",
        &[("/value", json!(2_000_000_000))],
        &["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"],
    );
    refuses_change(
        "PriorityClass",
        &[("/value", json!(11))],
        &["value: Forbidden: may not be changed in an update."],
    );
    refuses(
        "PriorityClass",
        &[("/metadata/name", json!("system-x"))],
        &[
            "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: \
           system-x is not a known system priority class",
        ],
    );
    refuses(
        "ResourceQuota",
        &[("/spec/hard", json!({ "pods": "1.5", "x": "1" }))],
        &[
            "spec.hard[pods]: Invalid value: \"1.5\": must be an integer",
            "spec.hard[x]: Invalid value: \"x\": must be a standard resource type or fully qualified",
        ],
    );
    refuses_change(
        "ResourceQuota",
        &[("/spec/scopes", json!(["NotBestEffort"]))],
        &["spec.scopes: Invalid value: [\"NotBestEffort\"]: field is immutable"],
    );
    refuses(
        "ResourceQuota",
        &[
            (
                "/spec/hard",
                json!({ "configmaps": "1", "count/pods": "1" }),
            ),
            ("/spec/scopes", json!(["NotBestEffort"])),
        ],
        &["spec.scopes: Invalid value: [\"NotBestEffort\"]: unsupported scope applied to resource"],
    );
    refuses(
        "ResourceQuota",
        &[(
            "/spec/scopes",
            json!(["BestEffort", "NotBestEffort", "Some"]),
        )],
        &[
            "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\",\"Some\"]: unsupported scope",
            "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\",\"Some\"]: conflicting scopes",
        ],
    );
    let selecting = |scope: &str, operator: &str, values: Value| {
        let expression = json!({ "scopeName": scope, "operator": operator, "values": values });
        [(
            "/spec/scopeSelector",
            json!({ "matchExpressions": [expression] }),
        )]
    };
    let at = "spec.scopeSelector.matchExpressions";
    for (edits, error) in [
        (
            selecting("Terminating", "In", json!(["a"])),
            format!(
                "{at}.operator: Invalid value: \"In\": must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, \
                 ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or \
                 ResourceQuotaScopeCrossNamespacePodAffinity"
            ),
        ),
        (
            selecting("PriorityClass", "In", json!([])),
            format!(
                "{at}.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
            ),
        ),
        (
            selecting("PriorityClass", "Exists", json!(["a"])),
            format!(
                "{at}.values: Invalid value: [\"a\"]: must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
            ),
        ),
        (
            selecting("PriorityClass", "Is", json!([])),
            format!("{at}.operator: Invalid value: \"Is\": not a valid selector operator"),
        ),
        (
            selecting("Some", "Exists", json!([])),
            format!("{at}.scopeName: Invalid value: \"Some\": unsupported scope"),
        ),
    ] {
        refuses("ResourceQuota", &edits, &[&error]);
    }
    refuses(
        "LimitRange",
        &[("/spec/limits/0/min/cpu", json!("3"))],
        &[
            "spec.limits[0].min[cpu]: Invalid value: \"3\": min value 3 is greater than max value 2",
            "spec.limits[0].defaultRequest[cpu]: Invalid value: \"500m\": min value 3 is greater than default request \
             value 500m",
            "spec.limits[0].default[cpu]: Invalid value: \"1\": min value 3 is greater than default value 1",
        ],
    );
    refuses(
        "FlowSchema",
        &[
            ("/spec/matchingPrecedence", json!(0)),
            ("/spec/priorityLevelConfiguration", Value::Null),
        ],
        &[
            "spec.matchingPrecedence: Invalid value: 0: must be a positive value",
            "spec.priorityLevelConfiguration.name: Required value: must reference a priority level",
        ],
    );
}

#[test]
fn extensions_are_named_after_their_parts() {
    refuses(
        "CustomResourceDefinition",
        &[
            ("/metadata/name", json!("things.org")),
            ("/spec/versions/0/storage", json!(false)),
            ("/spec/versions/0/schema", Value::Null),
            ("/spec/scope", json!("Here")),
        ],
        &[
            "metadata.name: Invalid value: \"things.org\": must be spec.names.plural+\".\"+spec.group",
            "spec.scope: Unsupported value: \"Here\": supported values: \"Cluster\", \"Namespaced\"",
            "spec.versions: Invalid value: [{\"name\":\"v1\",\"served\":true,\"storage\":false}]: must have exactly one \
             version marked as storage version",
            "spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required",
        ],
    );
    refuses_change(
        "CustomResourceDefinition",
        &[("/spec/scope", json!("Cluster"))],
        &["spec.scope: Invalid value: \"Cluster\": field is immutable"],
    );
    refuses(
        "APIService",
        &[("/spec/version", json!("v2"))],
        &[
            "metadata.name: Invalid value: \"v1.example.com\": must be `spec.version+\".\"+spec.group`: \
           \"v2.example.com\"",
        ],
    );
}

#[test]
fn webhooks_say_how_they_are_asked() {
    for kind in [
        "ValidatingWebhookConfiguration",
        "MutatingWebhookConfiguration",
    ] {
        refuses(
            kind,
            &[
                ("/webhooks/0/name", json!("a.b")),
                ("/webhooks/0/sideEffects", Value::Null),
                ("/webhooks/0/clientConfig", json!({})),
                ("/webhooks/0/admissionReviewVersions", Value::Null),
                ("/webhooks/0/rules/0/operations", json!(["READ"])),
            ],
            &[
                "webhooks[0].name: Invalid value: \"a.b\": should be a domain with at least three segments separated by \
                 dots",
                "webhooks[0].rules[0].operations[0]: Unsupported value: \"READ\": supported values: \"*\", \"CONNECT\", \
                 \"CREATE\", \"DELETE\", \"UPDATE\"",
                "webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun",
                "webhooks[0].clientConfig: Required value: exactly one of url or service is required",
                "webhooks[0].admissionReviewVersions: Required value: must specify one of v1, v1beta1",
            ],
        );
    }
}

/// Numbers that look random, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % most.max(1) as u64).unwrap()
    }

    fn value(&mut self) -> Value {
        let texts = [
            "",
            "a",
            "ä\u{0}",
            "-",
            "..",
            "1Gi",
            "-1",
            "9e999999999",
            "*",
            "10.0.0.0/8",
            "50%",
            "@every ",
            "/",
            "None",
        ];
        match self.below(8) {
            0 => Value::Null,
            1 => json!(self.below(2) == 0),
            2 => json!([i64::MIN, -1, 0, 1, 70_000, i64::MAX][self.below(6)]),
            3 => json!([0.5, -1e300, 1e300][self.below(3)]),
            4 => json!([texts[self.below(texts.len())], {}]),
            5 => json!({ texts[self.below(texts.len())]: texts[self.below(texts.len())] }),
            6 => json!("x".repeat(300)),
            _ => json!(texts[self.below(texts.len())]),
        }
    }

    /// Changes something somewhere in a tree.
    fn mutate(&mut self, value: &mut Value) {
        let replacement = self.value();
        match value {
            Value::Object(fields) if !fields.is_empty() && self.below(10) > 0 => {
                let place = self.below(fields.len());
                if self.below(20) == 0 {
                    let name = fields.keys().nth(place).unwrap().clone();
                    fields.remove(&name);
                } else {
                    self.mutate(fields.values_mut().nth(place).unwrap());
                }
            }
            Value::Array(items) if !items.is_empty() && self.below(10) > 0 => {
                let place = self.below(items.len());
                match self.below(10) {
                    0 => drop(items.remove(place)),
                    1 => items.push(items[place].clone()),
                    _ => self.mutate(&mut items[place]),
                }
            }
            other => *other = replacement,
        }
    }
}

#[test]
fn no_object_makes_the_rules_panic() {
    for seed in 1..=8 {
        eprintln!("seed {seed}");
        let mut dice = Dice(seed);
        for object in good_objects() {
            let kind = kind_of(&object);
            let mut new = object.clone();
            for _ in 0..60 {
                dice.mutate(&mut new);
                created(&kind, &new);
                for part in ["", "status", "binding"] {
                    updated(&kind, &new, &object, part);
                    updated(&kind, &object, &new, part);
                }
                if !new.is_object() {
                    new = object.clone();
                }
            }
        }
    }
}
