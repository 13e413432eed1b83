//! Objects as people meet them, and the cells that kube-apiserver 1.37 makes of them.

use super::layout::LAYOUTS;
use super::*;

/// The time of all tests: 2026-01-10T12:00:00Z.
const NOW: i64 = 1_768_046_400;

fn kind(group: &str, name: &str) -> Kind {
    serde_saphyr::from_str(&format!(
        "{{group: {group:?}, kind: {name}, plural: {}s}}",
        name.to_lowercase()
    ))
    .unwrap()
}

/// The cells of an object; it gets a name and an age of five minutes.
fn cells(group: &str, name: &str, object: &str) -> Value {
    let mut object: Value = serde_saphyr::from_str(object).unwrap();
    let metadata = &mut object["metadata"];
    if metadata["name"].is_null() {
        metadata["name"] = "web".into();
    }
    metadata["creationTimestamp"] = "2026-01-10T11:55:00Z".into();
    let table = table_of_one(
        &kind(group, name),
        &object,
        Include::None,
        true,
        json!({}),
        NOW,
    );
    let cells = table["rows"][0]["cells"].as_array().unwrap();
    let columns = table["columnDefinitions"].as_array().unwrap();
    assert_eq!(cells.len(), columns.len());
    cells.iter().cloned().collect()
}

fn names(group: &str, name: &str) -> Vec<&'static str> {
    let columns = columns(&kind(group, name));
    columns.iter().map(|column| column.name.as_str()).collect()
}

#[test]
fn every_column_can_be_read_and_says_what_it_is() {
    // As upstream, whose documents have nothing on these.
    let silent = ["Handler", "BinaryVersion", "EmulationVersion"];
    for layout in &LAYOUTS.of_kinds {
        for column in &layout.columns {
            let is_described = !column.description.is_empty();
            let name = column.name.as_str();
            assert_eq!(
                is_described,
                !silent.contains(&name),
                "{} {name}",
                layout.kind
            );
        }
    }
}

#[test]
fn no_kind_has_two_layouts() {
    let mut all: Vec<_> = LAYOUTS
        .of_kinds
        .iter()
        .map(|one| (&one.group, &one.kind))
        .collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), LAYOUTS.of_kinds.len());
}

#[test]
fn an_object_with_nothing_in_it_has_cells_all_the_same() {
    for layout in &LAYOUTS.of_kinds {
        for object in [
            json!({}),
            json!(null),
            json!([]),
            json!({"spec": 1, "status": "x"}),
        ] {
            let kind = kind(&layout.group, &layout.kind);
            let table = table_of_one(&kind, &object, Include::Object, false, json!({}), NOW);
            let cells = table["rows"][0]["cells"].as_array().unwrap();
            assert_eq!(cells.len(), layout.columns.len(), "{}", layout.kind);
        }
    }
}

#[test]
fn a_table_has_columns_only_if_asked_for() {
    let objects = [json!({"metadata": {"name": "a", "uid": "1"}, "spec": {}})];
    let metadata = json!({"resourceVersion": "7", "continue": "x"});
    let kind = kind("", "ConfigMap");
    let with = table(
        &kind,
        &objects,
        Include::Metadata,
        true,
        metadata.clone(),
        NOW,
    );
    assert_eq!(
        with["columnDefinitions"][0],
        json!({
            "name": "Name", "type": "string", "format": "name", "priority": 0,
            "description": columns(&kind)[0].description,
        })
    );
    assert!(
        columns(&kind)[0]
            .description
            .starts_with("Name must be unique within a namespace.")
    );
    let without = table(&kind, &objects, Include::Metadata, false, metadata, NOW);
    assert_eq!(
        without,
        json!({
            "kind": "Table", "apiVersion": "meta.k8s.io/v1",
            "metadata": {"resourceVersion": "7", "continue": "x"},
            "rows": [{
                "cells": ["a", 0, "<unknown>"],
                "object": {
                    "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                    "metadata": {"name": "a", "uid": "1"},
                },
            }],
        })
    );
}

#[test]
fn rows_include_what_is_asked_for() {
    let objects = [json!({"kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": "y"}})];
    let row = |include| {
        let kind = kind("", "ConfigMap");
        table(&kind, &objects, include, false, json!({}), NOW)["rows"][0].clone()
    };
    assert_eq!(row(Include::Object)["object"], objects[0]);
    assert_eq!(row(Include::None), json!({"cells": ["a", 1, "<unknown>"]}));
}

#[test]
fn a_list_can_be_reduced_to_metadata() {
    let objects = [json!({"kind": "Pod", "metadata": {"name": "a"}, "spec": {}})];
    assert_eq!(
        partial_list(&objects, json!({"resourceVersion": "7"})),
        json!({
            "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
            "metadata": {"resourceVersion": "7"},
            "items": [{
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                "metadata": {"name": "a"},
            }],
        })
    );
}

#[test]
fn kinds_without_a_layout_have_name_and_age() {
    assert_eq!(names("example.com", "Widget"), ["Name", "Age"]);
    assert_eq!(cells("example.com", "Widget", "{}"), json!(["web", "5m"]));
}

#[test]
fn a_running_pod() {
    let pod = "
        spec:
          nodeName: n1
          containers: [{name: web, image: nginx}, {name: log, image: log}]
          readinessGates: [{conditionType: a}, {conditionType: b}]
        status:
          phase: Running
          podIPs: [{ip: 10.0.0.7}, {ip: 'fd00::7'}]
          conditions: [{type: a, status: 'True'}, {type: b, status: 'False'}]
          containerStatuses:
          - name: web
            ready: true
            restartCount: 3
            state: {running: {startedAt: 2026-01-10T11:59:00Z}}
            lastState: {terminated: {exitCode: 1, finishedAt: 2026-01-10T11:58:55Z}}
          - {name: log, ready: false, restartCount: 0, state: {running: {}}}";
    assert_eq!(
        cells("", "Pod", pod),
        json!([
            "web",
            "1/2",
            "Running",
            "3 (65s ago)",
            "5m",
            "10.0.0.7",
            "n1",
            "<none>",
            "1/2"
        ])
    );
}

#[test]
fn what_a_pod_waits_for_is_its_status() {
    let status = |pod: &str| cells("", "Pod", pod)[2].clone();
    let container = |state: &str| format!("containerStatuses: [{{name: a, state: {state}}}]");
    let with = |state: &str| status(&format!("status: {{phase: Running, {}}}", container(state)));
    assert_eq!(status("status: {phase: Pending}"), "Pending");
    assert_eq!(
        status("status: {phase: Failed, reason: Evicted}"),
        "Evicted"
    );
    assert_eq!(
        with("{waiting: {reason: CrashLoopBackOff}}"),
        "CrashLoopBackOff"
    );
    assert_eq!(with("{terminated: {reason: Error, exitCode: 1}}"), "Error");
    assert_eq!(with("{terminated: {signal: 9, exitCode: 137}}"), "Signal:9");
    assert_eq!(with("{terminated: {exitCode: 3}}"), "ExitCode:3");
    assert_eq!(
        status(
            "status: {phase: Pending, conditions: [{type: PodScheduled, reason: SchedulingGated}]}"
        ),
        "SchedulingGated"
    );
    let deleted = "metadata: {deletionTimestamp: 2026-01-10T11:59:00Z}";
    assert_eq!(
        status(&format!("{deleted}\nstatus: {{phase: Running}}")),
        "Terminating"
    );
    assert_eq!(
        status(&format!("{deleted}\nstatus: {{phase: Succeeded}}")),
        "Succeeded"
    );
    assert_eq!(
        status(&format!(
            "{deleted}\nstatus: {{phase: Running, reason: NodeLost}}"
        )),
        "Unknown"
    );
}

#[test]
fn init_containers_come_first() {
    let pod = |first: &str, second: &str| {
        let pod = format!(
            "
            spec:
              containers: [{{name: web}}]
              initContainers: [{{name: a}}, {{name: b, restartPolicy: Always}}]
            status:
              phase: Pending
              initContainerStatuses:
              - {{name: a, restartCount: 2, state: {first}}}
              - {{name: b, restartCount: 1, {second}}}
              containerStatuses: [{{name: web, state: {{waiting: {{reason: PodInitializing}}}}}}]"
        );
        cells("", "Pod", &pod).as_array().unwrap()[1..4].to_vec()
    };
    let (done, waits) = ("{terminated: {exitCode: 0}}", "state: {waiting: {}}");
    assert_eq!(pod("{running: {}}", waits), ["0/2", "Init:0/2", "2"]);
    assert_eq!(pod(done, waits), ["0/2", "Init:1/2", "3"]);
    assert_eq!(
        pod("{terminated: {exitCode: 1}}", waits),
        ["0/2", "Init:ExitCode:1", "2"]
    );
    assert_eq!(
        pod("{waiting: {reason: ErrImagePull}}", waits),
        ["0/2", "Init:ErrImagePull", "2"]
    );
    // One that goes on beside the containers counts as ready, and its restarts go on counting.
    let goes_on = "started: true, ready: true, state: {running: {}}";
    assert_eq!(pod(done, goes_on), ["1/2", "PodInitializing", "1"]);
}

#[test]
fn one_container_that_is_done_does_not_make_a_pod_that_is_done() {
    let status = |other: &str, ready: &str| {
        let pod = format!(
            "status:
              phase: Running
              conditions: [{{type: Ready, status: '{ready}'}}]
              containerStatuses:
              - {{name: a, state: {{terminated: {{reason: Completed, exitCode: 0}}}}}}
              - {other}"
        );
        cells("", "Pod", &pod)[2].clone()
    };
    let running = "{name: b, ready: true, state: {running: {}}}";
    assert_eq!(status(running, "True"), "Running");
    assert_eq!(status(running, "False"), "NotReady");
    let failed = "{name: b, state: {terminated: {reason: OOMKilled, exitCode: 137}}}";
    assert_eq!(status(failed, "False"), "OOMKilled");
}

#[test]
fn rows_of_pods_that_are_over_say_so() {
    let row = |phase: &str| {
        let pod = json!({"status": {"phase": phase}});
        table_of_one(&kind("", "Pod"), &pod, Include::None, false, json!({}), NOW)["rows"][0]
            .clone()
    };
    assert_eq!(
        row("Succeeded")["conditions"],
        json!([{
            "type": "Completed", "status": "True", "reason": "Succeeded",
            "message": "The pod has completed successfully.",
        }])
    );
    assert_eq!(row("Failed")["conditions"][0]["reason"], "Failed");
    assert_eq!(row("Running").get("conditions"), None);
}

#[test]
fn a_deployment() {
    let deployment = "
        spec:
          replicas: 3
          selector:
            matchLabels: {app: web}
            matchExpressions: [{key: tier, operator: In, values: [b, a]}, {key: old, operator: DoesNotExist}]
          template: {spec: {containers: [{name: web, image: 'nginx:1'}, {name: log, image: log}]}}
        status: {readyReplicas: 2, updatedReplicas: 3}";
    assert_eq!(
        cells("apps", "Deployment", deployment),
        json!([
            "web",
            "2/3",
            3,
            0,
            "5m",
            "web,log",
            "nginx:1,log",
            "app=web,!old,tier in (a,b)"
        ])
    );
    assert_eq!(
        names("apps", "Deployment"),
        [
            "Name",
            "Ready",
            "Up-to-date",
            "Available",
            "Age",
            "Containers",
            "Images",
            "Selector"
        ]
    );
}

#[test]
fn the_other_workloads() {
    let spec = "
        spec:
          replicas: 3
          selector: {matchLabels: {app: web}}
          template: {spec: {nodeSelector: {disk: ssd}, containers: [{name: web, image: nginx}]}}";
    let with = |status: &str| format!("{spec}\n        status: {status}");
    assert_eq!(
        cells(
            "apps",
            "ReplicaSet",
            &with("{replicas: 2, readyReplicas: 1}")
        ),
        json!(["web", 3, 2, 1, "5m", "web", "nginx", "app=web"])
    );
    assert_eq!(
        cells("apps", "StatefulSet", &with("{readyReplicas: 1}")),
        json!(["web", "1/3", "5m", "web", "nginx"])
    );
    assert_eq!(
        cells(
            "apps",
            "DaemonSet",
            &with("{desiredNumberScheduled: 3, numberReady: 2}")
        ),
        json!([
            "web", 3, 0, 2, 0, 0, "disk=ssd", "5m", "web", "nginx", "app=web"
        ])
    );
    let controller = "
        spec:
          replicas: 1
          selector: {app: web}
          template: {spec: {containers: [{name: web, image: nginx}]}}";
    assert_eq!(
        cells("", "ReplicationController", controller),
        json!(["web", 1, 0, 0, "5m", "web", "nginx", "app=web"])
    );
    let revision = "
        metadata:
          ownerReferences: [{apiVersion: apps/v1, kind: StatefulSet, name: db, controller: true}]
        revision: 4";
    assert_eq!(
        cells("apps", "ControllerRevision", revision),
        json!(["web", "statefulset.apps/db", 4, "5m"])
    );
}

#[test]
fn a_job() {
    let job = |spec: &str, status: &str| {
        let job = format!("spec: {{{spec}}}\nstatus: {{{status}}}");
        cells("batch", "Job", &job).as_array().unwrap()[1..4].to_vec()
    };
    let ran = "startTime: 2026-01-10T11:57:00Z, completionTime: 2026-01-10T11:59:30Z";
    let complete = format!("{ran}, succeeded: 3, conditions: [{{type: Complete, status: 'True'}}]");
    assert_eq!(
        job("completions: 3", &complete),
        ["Complete", "3/3", "2m30s"]
    );
    let runs = "startTime: 2026-01-10T11:59:00Z";
    assert_eq!(job("completions: 3", runs), ["Running", "0/3", "60s"]);
    assert_eq!(job("parallelism: 4", ""), ["Running", "0/1 of 4", ""]);
    let suspended = "conditions: [{type: Suspended, status: 'True'}]";
    assert_eq!(job("parallelism: 1", suspended), ["Suspended", "0/1", ""]);
}

#[test]
fn a_cron_job() {
    let job = "
        spec:
          schedule: '*/5 * * * *'
          suspend: false
          jobTemplate: {spec: {template: {spec: {containers: [{name: a, image: b}]}}}}
        status: {active: [{name: x}], lastScheduleTime: 2026-01-10T11:58:00Z}";
    assert_eq!(
        cells("batch", "CronJob", job),
        json!([
            "web",
            "*/5 * * * *",
            "<none>",
            "False",
            1,
            "2m",
            "5m",
            "a",
            "b",
            "<none>"
        ])
    );
}

#[test]
fn a_service() {
    let service = |spec: &str, status: &str| {
        let service = format!("spec: {{{spec}}}\nstatus: {{{status}}}");
        cells("", "Service", &service)
    };
    assert_eq!(
        service(
            "type: NodePort, clusterIP: 10.0.0.1, clusterIPs: [10.0.0.1], selector: {app: web, a: b},
             ports: [{port: 80, protocol: TCP}, {port: 443, nodePort: 30443, protocol: TCP}]",
            ""
        ),
        json!(["web", "NodePort", "10.0.0.1", "<none>", "80/TCP,443:30443/TCP", "5m", "a=b,app=web"])
    );
    let balanced = "loadBalancer: {ingress: [{hostname: b.example.com}, {ip: 1.2.3.4}]}";
    assert_eq!(
        service("type: LoadBalancer, externalIPs: [5.6.7.8]", balanced)[3],
        "1.2.3.4,b.example.com,5.6.7.8"
    );
    assert_eq!(service("type: LoadBalancer", "")[3], "<pending>");
    assert_eq!(
        service("type: ExternalName, externalName: example.com", ""),
        json!([
            "web",
            "ExternalName",
            "<none>",
            "example.com",
            "<none>",
            "5m",
            "<none>"
        ])
    );
}

#[test]
fn endpoints_and_slices_show_three() {
    let subsets = "
        subsets:
        - addresses: [{ip: 10.0.0.1}, {ip: 10.0.0.2}]
          ports: [{name: a, port: 80}, {name: b, port: 443}]
        - {addresses: [{ip: 'fd00::1'}], ports: [{port: 80}]}";
    assert_eq!(
        cells("", "Endpoints", subsets),
        json!([
            "web",
            "10.0.0.1:80,10.0.0.2:80,10.0.0.1:443 + 2 more...",
            "5m"
        ])
    );
    assert_eq!(cells("", "Endpoints", "{}"), json!(["web", "<none>", "5m"]));
    let slice = "
        addressType: IPv4
        ports: [{port: 80}, {name: any}, {}]
        endpoints: [{addresses: [10.0.0.1, 10.0.0.2]}, {addresses: [10.0.0.3, 10.0.0.4]}]";
    assert_eq!(
        cells("discovery.k8s.io", "EndpointSlice", slice),
        json!([
            "web",
            "IPv4",
            "80,any,*",
            "10.0.0.1,10.0.0.2,10.0.0.3 + 1 more...",
            "5m"
        ])
    );
    assert_eq!(
        cells("discovery.k8s.io", "EndpointSlice", "addressType: IPv4"),
        json!(["web", "IPv4", "<unset>", "<unset>", "5m"])
    );
}

#[test]
fn an_ingress() {
    let ingress = "
        spec:
          ingressClassName: nginx
          tls: [{hosts: [a]}]
          rules: [{host: a}, {}, {host: b}, {host: c}, {host: d}]
        status: {loadBalancer: {ingress: [{ip: 1.2.3.4}]}}";
    assert_eq!(
        cells("networking.k8s.io", "Ingress", ingress),
        json!([
            "web",
            "nginx",
            "a,b,c + 2 more...",
            "1.2.3.4",
            "80, 443",
            "5m"
        ])
    );
    assert_eq!(
        cells("networking.k8s.io", "Ingress", "spec: {rules: [{}]}"),
        json!(["web", "<none>", "*", "", "80", "5m"])
    );
    let class = "spec: {controller: example.com/c, parameters: {apiGroup: k.example.com, kind: P, name: p}}";
    assert_eq!(
        cells("networking.k8s.io", "IngressClass", class),
        json!(["web", "example.com/c", "P.k.example.com/p", "5m"])
    );
}

#[test]
fn policies_and_addresses_of_networks() {
    assert_eq!(
        cells(
            "networking.k8s.io",
            "NetworkPolicy",
            "spec: {podSelector: {matchLabels: {a: b}}}"
        ),
        json!(["web", "a=b", "5m"])
    );
    assert_eq!(
        cells(
            "networking.k8s.io",
            "NetworkPolicy",
            "spec: {podSelector: {}}"
        ),
        json!(["web", "<none>", "5m"])
    );
    let parent = "spec: {parentRef: {resource: services, namespace: default, name: kubernetes}}";
    assert_eq!(
        cells("networking.k8s.io", "IPAddress", parent),
        json!(["web", "services/default/kubernetes"])
    );
    assert_eq!(
        cells(
            "networking.k8s.io",
            "ServiceCIDR",
            "spec: {cidrs: [10.0.0.0/16, 'fd00::/64']}"
        ),
        json!(["web", "10.0.0.0/16,fd00::/64", "5m"])
    );
}

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
fn what_holds_data() {
    assert_eq!(
        cells("", "ConfigMap", "{data: {a: b, c: d}, binaryData: {e: ''}}"),
        json!(["web", 3, "5m"])
    );
    assert_eq!(
        cells("", "Secret", "{type: Opaque, data: {a: ''}}"),
        json!(["web", "Opaque", 1, "5m"])
    );
    assert_eq!(
        cells("", "Namespace", "status: {phase: Active}"),
        json!(["web", "Active", "5m"])
    );
    assert_eq!(
        cells("", "ServiceAccount", "secrets: [{name: a}]"),
        json!(["web", "5m"])
    );
    let quota = "
        status:
          hard: {pods: '10', limits.cpu: '4', requests.cpu: '2'}
          used: {pods: '3', requests.cpu: 500m}";
    assert_eq!(
        cells("", "ResourceQuota", quota),
        json!([
            "web",
            "pods: 3/10, requests.cpu: 500m/2",
            "limits.cpu: 0/4",
            "5m"
        ])
    );
    assert_eq!(
        cells("", "LimitRange", "{}"),
        json!(["web", "2026-01-10T11:55:00Z"])
    );
    let template =
        "template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}";
    assert_eq!(
        cells("", "PodTemplate", template),
        json!(["web", "c", "i", "a=b"])
    );
}

#[test]
fn volumes_and_claims() {
    let volume = "
        spec:
          capacity: {storage: 10Gi}
          accessModes: [ReadWriteMany, ReadWriteOnce]
          persistentVolumeReclaimPolicy: Retain
          claimRef: {namespace: default, name: data}
          storageClassName: fast
          volumeMode: Filesystem
        status: {phase: Bound}";
    assert_eq!(
        cells("", "PersistentVolume", volume),
        json!([
            "web",
            "10Gi",
            "RWO,RWX",
            "Retain",
            "Bound",
            "default/data",
            "fast",
            "<unset>",
            "",
            "5m",
            "Filesystem"
        ])
    );
    let claim = "
        spec: {volumeName: pv1, storageClassName: fast, volumeMode: Block}
        status: {phase: Bound, capacity: {storage: 10Gi}, accessModes: [ReadWriteOncePod]}";
    assert_eq!(
        cells("", "PersistentVolumeClaim", claim),
        json!([
            "web", "Bound", "pv1", "10Gi", "RWOP", "fast", "<unset>", "5m", "Block"
        ])
    );
    let claim = "
        metadata: {deletionTimestamp: 2026-01-10T11:59:00Z}
        spec: {accessModes: [ReadWriteOnce]}
        status: {phase: Pending}";
    assert_eq!(
        cells("", "PersistentVolumeClaim", claim),
        json!([
            "web",
            "Terminating",
            "",
            "",
            "",
            "",
            "<unset>",
            "5m",
            "<unset>"
        ])
    );
}

#[test]
fn only_in_lists_is_the_storage_class_marked_that_is_the_default() {
    let class = |name: &str, created: &str, is_default: &str| {
        json!({
            "metadata": {
                "name": name,
                "creationTimestamp": created,
                "annotations": {"storageclass.kubernetes.io/is-default-class": is_default},
            },
            "provisioner": "example.com/p",
        })
    };
    let objects = [
        class("b", "2026-01-10T11:00:00Z", "true"),
        class("a", "2026-01-10T11:00:00Z", "true"),
        class("c", "2026-01-10T10:00:00Z", "true"),
        class("d", "2026-01-10T11:30:00Z", "false"),
    ];
    let kind = kind("storage.k8s.io", "StorageClass");
    let list = table(&kind, &objects, Include::None, false, json!({}), NOW);
    let names: Value = list["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["cells"][0].clone())
        .collect();
    assert_eq!(names, json!(["b", "a (default)", "c", "d"]));
    let one = table_of_one(&kind, &objects[1], Include::None, false, json!({}), NOW);
    assert_eq!(
        one["rows"][0]["cells"],
        json!(["a", "example.com/p", "Delete", "Immediate", false, "60m"])
    );
}

#[test]
fn the_rest_of_storage() {
    let group = "storage.k8s.io";
    assert_eq!(
        cells(
            group,
            "CSIDriver",
            "spec: {podInfoOnMount: true, volumeLifecycleModes: [Persistent, Ephemeral]}"
        ),
        json!([
            "web",
            true,
            true,
            false,
            "<unset>",
            false,
            "Persistent,Ephemeral",
            "5m"
        ])
    );
    assert_eq!(
        cells(group, "CSINode", "spec: {drivers: [{}, {}]}"),
        json!(["web", 2, "5m"])
    );
    let attachment = "
        spec: {attacher: a, nodeName: n1, source: {persistentVolumeName: pv1}}
        status: {attached: true}";
    assert_eq!(
        cells(group, "VolumeAttachment", attachment),
        json!(["web", "a", "pv1", "n1", true, "5m"])
    );
    assert_eq!(
        cells(group, "VolumeAttributesClass", "driverName: d"),
        json!(["web", "d", "5m"])
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
fn custom_kinds_bring_their_columns() {
    let columns = custom_columns(&json!([
        {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"},
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size", "description": "How many.", "priority": 1},
        {"name": "Load", "type": "number", "jsonPath": ".status.load"},
        {"name": "On", "type": "boolean", "jsonPath": ".spec.on"},
        {"name": "Since", "type": "date", "jsonPath": ".status.since"},
        {"name": "Spec", "type": "string", "jsonPath": ".spec"},
    ]))
    .unwrap();
    let objects = [
        json!({
            "metadata": {"name": "a"},
            "spec": {"on": true, "size": 2.5},
            "status": {
                "conditions": [{"type": "Ready", "status": "True"}],
                "load": 1,
                "since": "2026-01-10T11:00:00Z",
            },
        }),
        json!({"metadata": {"name": "b"}, "spec": {"on": "yes", "size": "x"}, "status": {"since": "x"}}),
    ];
    let table = custom_table(&columns, &objects, Include::None, true, json!({}), NOW);
    assert_eq!(
        table["rows"],
        json!([
            {"cells": ["a", "True", 2, 1, true, "60m", r#"{"on":true,"size":2.5}"#]},
            {"cells": ["b", null, null, null, null, "<invalid>", r#"{"on":"yes","size":"x"}"#]},
        ])
    );
    assert_eq!(
        table["columnDefinitions"][2],
        json!({"name": "Size", "type": "integer", "format": "", "description": "How many.", "priority": 1})
    );
    assert_eq!(
        table["columnDefinitions"][4]["description"],
        "Custom resource definition column (in JSONPath format): .spec.on"
    );
}

#[test]
fn custom_kinds_without_columns_have_an_age() {
    let columns = custom_columns(&Value::Null).unwrap();
    let objects = [json!({"metadata": {"name": "a", "creationTimestamp": "2026-01-10T11:00:00Z"}})];
    let table = custom_table(&columns, &objects, Include::None, true, json!({}), NOW);
    assert_eq!(table["rows"], json!([{"cells": ["a", "60m"]}]));
    assert_eq!(table["columnDefinitions"][1]["type"], "date");
    assert!(
        custom_columns(&json!([{"name": "a", "type": "string", "jsonPath": "spec["}])).is_err()
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
