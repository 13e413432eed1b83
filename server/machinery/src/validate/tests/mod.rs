//! Good objects of each kind with rules, what makes each of them a bad one, and what upstream says then.

mod cluster;
mod events;
mod extensions;
mod mutated;
mod networks;
mod pods;
mod storage;
mod workloads;

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
