//! Rules of nodes, roles, scaling and the small kinds.

use serde_json::json;

use super::*;

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
