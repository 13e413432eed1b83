//! Rows of pods.

use super::*;

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
