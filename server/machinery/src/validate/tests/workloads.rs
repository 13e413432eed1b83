//! Rules of what makes pods: sets, deployments, jobs.

use serde_json::json;

use super::*;

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
