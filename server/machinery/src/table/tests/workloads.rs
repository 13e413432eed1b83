//! Rows of what makes pods.

use super::*;

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
