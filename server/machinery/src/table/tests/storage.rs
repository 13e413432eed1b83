//! Rows of what holds data.

use super::*;

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
