//! Directives one by one, patches that kubectl and controllers send, and differences of random objects.

use serde_json::json;

use super::*;

/// Applies a patch to an object of a kind.
#[track_caller]
fn try_patch(group: &str, kind: &str, object: &Value, patch: &Value) -> Result<Value, Status> {
    let schemas = Schemas::builtin();
    let definition = schemas.of_kind(group, "v1", kind).unwrap();
    apply(object, patch, schemas, schemas.get(definition))
}

#[track_caller]
fn patched(group: &str, kind: &str, object: Value, patch: Value, expected: Value) {
    let result = try_patch(group, kind, &object, &patch).unwrap();
    assert_eq!(result, expected, "\n{result:#}\n{expected:#}");
}

#[track_caller]
fn pod_spec(object: Value, patch: Value, expected: Value) {
    patched(
        "",
        "Pod",
        json!({ "spec": object }),
        json!({ "spec": patch }),
        json!({ "spec": expected }),
    );
}

#[track_caller]
fn refused(spec: Value, patch: Value, code: u16, message: &str) {
    let status = try_patch(
        "",
        "Pod",
        &json!({ "spec": spec }),
        &json!({ "spec": patch }),
    )
    .unwrap_err();
    assert_eq!(
        (status.reason.code(), status.message.as_str()),
        (code, message)
    );
}

fn named(names: &[&str]) -> Value {
    names.iter().map(|name| json!({ "name": name })).collect()
}

#[test]
fn maps_merge_and_null_removes() {
    patched(
        "",
        "Pod",
        json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"nodeName": "n"}}),
        json!({"metadata": {"labels": {"b": null, "c": "3"}, "annotations": {"d": "4", "e": null}}}),
        json!({
            "metadata": {"labels": {"a": "1", "c": "3"}, "annotations": {"d": "4"}},
            "spec": {"nodeName": "n"},
        }),
    );
    pod_spec(
        json!({"securityContext": {"runAsUser": 1}}),
        json!({"securityContext": null, "affinity": null}),
        json!({}),
    );
}

#[test]
fn fields_that_the_schema_does_not_know_merge_as_in_a_merge_patch() {
    pod_spec(
        json!({"unknown": {"a": 1, "b": [{"name": "x"}]}}),
        json!({"unknown": {"a": null, "b": [{"name": "y"}], "c": {"d": 1}}}),
        json!({"unknown": {"b": [{"name": "y"}], "c": {"d": 1}}}),
    );
}

#[test]
fn a_directive_replaces_or_deletes_a_map() {
    let context = json!({"securityContext": {"runAsUser": 1, "fsGroup": 2}});
    pod_spec(
        context.clone(),
        json!({"securityContext": {"$patch": "replace", "fsGroup": 3, "runAsGroup": null}}),
        json!({"securityContext": {"fsGroup": 3}}),
    );
    pod_spec(
        context.clone(),
        json!({"securityContext": {"$patch": "delete"}}),
        json!({"securityContext": {}}),
    );
    pod_spec(
        context.clone(),
        json!({"securityContext": {"$patch": "merge", "fsGroup": 3}}),
        json!({"securityContext": {"runAsUser": 1, "fsGroup": 3}}),
    );
    pod_spec(
        json!({}),
        json!({"securityContext": {"$patch": "delete"}}),
        json!({}),
    );
    refused(
        context,
        json!({"securityContext": {"$patch": "mend", "fsGroup": 3}}),
        400,
        "unknown patch type: mend in map: map[$patch:mend fsGroup:3]",
    );
}

#[test]
fn a_map_whose_strategy_is_replace_is_replaced() {
    patched(
        "policy",
        "PodDisruptionBudget",
        json!({"spec": {"selector": {"matchLabels": {"a": "1"}}, "minAvailable": 1}}),
        json!({"spec": {"selector": {"matchLabels": {"b": "2"}}}}),
        json!({"spec": {"selector": {"matchLabels": {"b": "2"}}, "minAvailable": 1}}),
    );
}

#[test]
fn lists_merge_by_key_and_new_items_come_first() {
    pod_spec(
        json!({"containers": [{"name": "a", "image": "x:1", "tty": true}, {"name": "b"}]}),
        json!({"containers": [{"name": "c", "image": "z"}, {"name": "b", "image": "y"}]}),
        json!({"containers": [
            {"name": "c", "image": "z"},
            {"name": "a", "image": "x:1", "tty": true},
            {"name": "b", "image": "y"},
        ]}),
    );
    // As in upstream's tutorial of `kubectl patch`.
    pod_spec(
        json!({"containers": [{"name": "patch-demo-ctr", "image": "nginx"}]}),
        json!({"containers": [{"name": "patch-demo-ctr-2", "image": "redis"}]}),
        json!({"containers": [
            {"name": "patch-demo-ctr-2", "image": "redis"},
            {"name": "patch-demo-ctr", "image": "nginx"},
        ]}),
    );
}

#[test]
fn items_of_a_patch_with_one_key_are_one_item() {
    pod_spec(
        json!({"containers": [{"name": "a"}]}),
        json!({"containers": [{"name": "b", "image": "x"}, {"name": "b", "tty": true}]}),
        json!({"containers": [{"name": "b", "image": "x", "tty": true}, {"name": "a"}]}),
    );
}

#[test]
fn items_are_deleted_by_key() {
    pod_spec(
        json!({"containers": [{"name": "a", "image": "x"}, {"name": "b"}, {"name": "c"}]}),
        json!({"containers": [{"name": "b", "$patch": "delete"}, {"name": "none", "$patch": "delete"}]}),
        json!({"containers": [{"name": "a", "image": "x"}, {"name": "c"}]}),
    );
    pod_spec(
        json!({}),
        json!({"containers": [{"name": "b", "$patch": "delete"}, {"name": "a", "tty": null}]}),
        json!({"containers": [{"name": "a"}]}),
    );
}

#[test]
fn all_items_are_replaced() {
    pod_spec(
        json!({"containers": [{"name": "a"}, {"name": "b"}, {"name": "c", "image": "x"}]}),
        json!({"containers": [{"name": "c"}, {"$patch": "replace"}, {"name": "a", "image": "y"}]}),
        json!({"containers": [{"name": "c"}, {"name": "a", "image": "y"}]}),
    );
    pod_spec(
        json!({"containers": [{"name": "a"}]}),
        json!({"containers": [{"$patch": "replace"}]}),
        json!({"containers": []}),
    );
}

#[test]
fn lists_without_a_strategy_are_replaced() {
    pod_spec(
        json!({"tolerations": [{"key": "a"}], "containers": [{"name": "a", "args": ["1", "2"]}]}),
        json!({"tolerations": [{"key": "b", "value": null}], "containers": [{"name": "a", "args": ["3"]}]}),
        json!({"tolerations": [{"key": "b"}], "containers": [{"name": "a", "args": ["3"]}]}),
    );
}

#[test]
fn retain_keys_removes_all_other_fields() {
    pod_spec(
        json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
        json!({"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/"}}]}),
        json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}),
    );
    for retained in [json!(["name"]), json!("name")] {
        refused(
            json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
            json!({"volumes": [{"name": "v", "$retainKeys": retained, "hostPath": {"path": "/"}}]}),
            400,
            "invalid patch format of retainKeys",
        );
    }
}

#[test]
fn lists_of_plain_values_merge_and_delete() {
    let metadata = |fields: Value| json!({ "metadata": fields });
    let check = |live: Value, patch: Value, expected: Value| {
        patched(
            "",
            "Pod",
            metadata(live),
            metadata(patch),
            metadata(expected),
        );
    };
    check(
        json!({"finalizers": ["a", "b"]}),
        json!({"finalizers": ["b", "c"]}),
        json!({"finalizers": ["a", "b", "c"]}),
    );
    check(
        json!({"finalizers": ["a", "b", "c"]}),
        json!({"$deleteFromPrimitiveList/finalizers": ["b", "x"]}),
        json!({"finalizers": ["a", "c"]}),
    );
    check(
        json!({"finalizers": ["a", "b"]}),
        json!({
            "$deleteFromPrimitiveList/finalizers": ["a"],
            "$setElementOrder/finalizers": ["c", "b"],
            "finalizers": ["c"],
        }),
        json!({"finalizers": ["c", "b"]}),
    );
    check(
        json!({}),
        json!({"$deleteFromPrimitiveList/finalizers": ["a"]}),
        json!({}),
    );
    for bad in [
        json!({"$deleteFromPrimitiveList/finalizers": "a"}),
        json!({"$deleteFromPrimitiveList": ["a"]}),
    ] {
        let status = try_patch("", "Pod", &json!({}), &bad).unwrap_err();
        assert_eq!(status.message, "invalid patch format of primitive list");
        assert_eq!(status.reason.code(), 400);
    }
}

#[test]
fn an_order_sorts_what_it_names_and_leaves_the_rest_beside_its_neighbours() {
    pod_spec(
        json!({"containers": named(&["a", "x", "b", "y"])}),
        json!({"$setElementOrder/containers": named(&["b", "a"])}),
        json!({"containers": named(&["x", "b", "a", "y"])}),
    );
    pod_spec(
        json!({"containers": named(&["a", "x", "b"])}),
        json!({
            "$setElementOrder/containers": named(&["a", "new", "b"]),
            "containers": [{"name": "new", "image": "z"}],
        }),
        json!({"containers": [{"name": "a"}, {"name": "new", "image": "z"}, {"name": "x"}, {"name": "b"}]}),
    );
    pod_spec(
        json!({}),
        json!({"$setElementOrder/containers": named(&["b", "a"]), "containers": named(&["b", "a"])}),
        json!({"containers": named(&["b", "a"])}),
    );
    pod_spec(
        json!({}),
        json!({"$setElementOrder/containers": named(&["a"])}),
        json!({}),
    );
}

#[test]
fn an_order_must_agree_with_the_patch() {
    for order in [&["b", "a"][..], &["a"]] {
        refused(
            json!({"containers": named(&["a"])}),
            json!({"$setElementOrder/containers": named(order), "containers": named(&["a", "b"])}),
            400,
            &format!(
                "The order in patch list:\n[map[name:a] map[name:b]]\n doesn't match $setElementOrder list:\n{}\n",
                go_text(&named(order))
            ),
        );
    }
    refused(
        json!({}),
        json!({"$setElementOrder/containers": "a"}),
        400,
        "expected a []interface {}, but received a string",
    );
}

#[test]
fn items_need_their_merge_key() {
    let live = json!({"containers": [{"name": "a"}]});
    refused(
        live.clone(),
        json!({"containers": [{"image": "x", "ports": [{"containerPort": 80}], "tty": null}]}),
        400,
        "map: map[image:x ports:[map[containerPort:80]] tty:<nil>] does not contain declared merge key: name",
    );
    refused(
        live.clone(),
        json!({"containers": [{"$patch": "delete"}]}),
        400,
        "map: map[$patch:delete] does not contain declared merge key: name",
    );
    refused(
        live,
        json!({"containers": ["a"]}),
        400,
        "list element types are not identical: [[map[name:a]] [a]]",
    );
    refused(
        json!({"containers": [[]]}),
        json!({"containers": [[]]}),
        422,
        "the server rejected our request due to an error in our request",
    );
}

#[test]
fn a_patch_that_is_no_map_is_refused() {
    let object = json!({"spec": {}});
    assert_eq!(
        try_patch("", "Pod", &object, &json!(null)),
        Ok(object.clone())
    );
    let status = try_patch("", "Pod", &object, &json!([])).unwrap_err();
    assert_eq!(status.reason.code(), 400);
    assert_eq!(
        status.message,
        "json: cannot unmarshal array into Go value of type map[string]interface {}"
    );
}

#[test]
fn set_image_changes_one_container() {
    patched(
        "apps",
        "Deployment",
        json!({"spec": {"template": {"spec": {"containers": [
            {"name": "web", "image": "web:1", "ports": [{"containerPort": 80, "protocol": "TCP"}]},
            {"name": "log", "image": "log:1"},
        ]}}}}),
        json!({"spec": {"template": {"spec": {
            "$setElementOrder/containers": [{"name": "web"}, {"name": "log"}],
            "containers": [{"image": "web:2", "name": "web"}],
        }}}}),
        json!({"spec": {"template": {"spec": {"containers": [
            {"name": "web", "image": "web:2", "ports": [{"containerPort": 80, "protocol": "TCP"}]},
            {"name": "log", "image": "log:1"},
        ]}}}}),
    );
}

#[test]
fn taints_are_replaced_and_cordon_sets_a_field() {
    patched(
        "",
        "Node",
        json!({"spec": {"podCIDR": "10.0.0.0/24", "taints": [{"key": "a", "effect": "NoSchedule"}]}}),
        json!({"spec": {"taints": [
            {"effect": "NoExecute", "key": "b", "value": "1"},
            {"key": "a", "effect": "NoSchedule"},
        ]}}),
        json!({"spec": {"podCIDR": "10.0.0.0/24", "taints": [
            {"effect": "NoExecute", "key": "b", "value": "1"},
            {"key": "a", "effect": "NoSchedule"},
        ]}}),
    );
    let free = json!({"spec": {"podCIDR": "10.0.0.0/24"}});
    let cordoned = json!({"spec": {"podCIDR": "10.0.0.0/24", "unschedulable": true}});
    patched(
        "",
        "Node",
        free.clone(),
        json!({"spec": {"unschedulable": true}}),
        cordoned.clone(),
    );
    patched(
        "",
        "Node",
        cordoned,
        json!({"spec": {"unschedulable": null}}),
        free,
    );
}

#[test]
fn rollout_restart_sets_an_annotation_of_the_template() {
    let restart = json!({"spec": {"template": {"metadata": {"annotations": {
        "kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z",
    }}}}});
    patched(
        "apps",
        "Deployment",
        json!({"spec": {"replicas": 2, "template": {"metadata": {"labels": {"app": "web"}}}}}),
        restart,
        json!({"spec": {"replicas": 2, "template": {"metadata": {
            "labels": {"app": "web"},
            "annotations": {"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"},
        }}}}),
    );
}

#[test]
fn apply_changes_env_ports_and_volumes_and_removes_a_container() {
    patched(
        "apps",
        "Deployment",
        json!({
            "metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "old"}},
            "spec": {"template": {"spec": {
                "containers": [
                    {
                        "name": "web",
                        "image": "web:1",
                        "imagePullPolicy": "Always",
                        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                        "ports": [{"containerPort": 80, "protocol": "TCP"}],
                        "volumeMounts": [{"mountPath": "/data", "name": "data"}],
                    },
                    {"name": "old", "image": "old:1"},
                    {"name": "injected", "image": "proxy:1"},
                ],
                "volumes": [{"name": "data", "emptyDir": {}}],
            }}},
        }),
        json!({
            "metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "new"}},
            "spec": {"template": {"spec": {
                "$setElementOrder/containers": [{"name": "web"}, {"name": "new"}],
                "containers": [
                    {
                        "$setElementOrder/env": [{"name": "B"}, {"name": "C"}],
                        "$setElementOrder/ports": [{"containerPort": 80}, {"containerPort": 443}],
                        "name": "web",
                        "env": [
                            {"name": "B", "value": null, "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                            {"name": "C", "value": "3"},
                            {"$patch": "delete", "name": "A"},
                        ],
                        "ports": [{"containerPort": 443, "name": "https"}],
                    },
                    {"name": "new", "image": "new:1"},
                    {"$patch": "delete", "name": "old"},
                ],
                "$setElementOrder/volumes": [{"name": "data"}],
                "volumes": [
                    {
                        "$retainKeys": ["name", "configMap"],
                        "name": "data",
                        "configMap": {"name": "c"},
                        "emptyDir": null,
                    },
                ],
            }}},
        }),
        json!({
            "metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "new"}},
            "spec": {"template": {"spec": {
                "containers": [
                    {
                        "name": "web",
                        "image": "web:1",
                        "imagePullPolicy": "Always",
                        "env": [
                            {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                            {"name": "C", "value": "3"},
                        ],
                        "ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 443, "name": "https"}],
                        "volumeMounts": [{"mountPath": "/data", "name": "data"}],
                    },
                    {"name": "new", "image": "new:1"},
                    {"name": "injected", "image": "proxy:1"},
                ],
                "volumes": [{"name": "data", "configMap": {"name": "c"}}],
            }}},
        }),
    );
}

#[test]
fn a_change_of_the_rollout_strategy_drops_the_fields_of_the_other() {
    patched(
        "apps",
        "Deployment",
        json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}),
        json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}),
        json!({"spec": {"strategy": {"type": "Recreate"}}}),
    );
}

#[test]
fn ports_of_a_service_go_by_their_number_alone() {
    patched(
        "",
        "Service",
        json!({"spec": {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}}),
        json!({"spec": {"ports": [{"port": 53, "nodePort": 30053}]}}),
        json!({"spec": {"ports": [
            {"port": 53, "protocol": "UDP", "nodePort": 30053},
            {"port": 53, "protocol": "TCP"},
        ]}}),
    );
}

#[test]
fn the_garbage_collector_deletes_owners_by_uid() {
    patched(
        "",
        "Pod",
        json!({"metadata": {"uid": "p", "ownerReferences": [{"uid": "1", "name": "a"}, {"uid": "2", "name": "b"}]}}),
        json!({"metadata": {"uid": "p", "ownerReferences": [{"$patch": "delete", "uid": "1"}]}}),
        json!({"metadata": {"uid": "p", "ownerReferences": [{"uid": "2", "name": "b"}]}}),
    );
}

#[test]
fn conditions_of_a_status_merge_by_type() {
    patched(
        "",
        "Pod",
        json!({"status": {"conditions": [
            {"type": "Ready", "status": "False", "reason": "r"},
            {"type": "Initialized", "status": "True"},
        ]}}),
        json!({"status": {
            "$setElementOrder/conditions": [{"type": "Ready"}, {"type": "Initialized"}],
            "conditions": [{"reason": null, "status": "True", "type": "Ready"}],
        }}),
        json!({"status": {"conditions": [
            {"type": "Ready", "status": "True"},
            {"type": "Initialized", "status": "True"},
        ]}}),
    );
}

/// Differences of random objects of a small schema, made as `kubectl edit` makes them.
mod difference {
    use super::*;

    /// Every kind of field there is: plain, map, object, and lists merged by key, merged by value and replaced.
    fn schemas() -> Schemas {
        let node = json!({ "$ref": "#/components/schemas/Node" });
        let documents = json!({ "Node": { "type": "object", "properties": {
            "name": { "type": "string" },
            "number": { "type": "integer" },
            "labels": { "type": "object", "additionalProperties": { "type": "string" } },
            "child": { "allOf": [node] },
            "union": { "allOf": [node], "x-kubernetes-patch-strategy": "retainKeys" },
            "nodes": {
                "type": "array",
                "items": node,
                "x-kubernetes-patch-strategy": "merge",
                "x-kubernetes-patch-merge-key": "name",
            },
            "unions": {
                "type": "array",
                "items": node,
                "x-kubernetes-patch-strategy": "merge,retainKeys",
                "x-kubernetes-patch-merge-key": "name",
            },
            "set": { "type": "array", "items": { "type": "string" }, "x-kubernetes-patch-strategy": "merge" },
            "args": { "type": "array", "items": { "type": "string" } },
        }}});
        Schemas::read(documents.as_object().unwrap())
    }

    /// A linear congruential generator: small, and the same everywhere.
    struct Random(u64);

    impl Random {
        fn below(&mut self, end: u64) -> u64 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % end
        }

        fn text(&mut self) -> Value {
            json!(["a", "b", "c", "d", "e"][usize::try_from(self.below(5)).unwrap()])
        }

        /// Different ones in any order.
        fn texts(&mut self) -> Vec<Value> {
            let mut texts: Vec<Value> = Vec::new();
            for _ in 0..self.below(5) {
                let text = self.text();
                if !texts.contains(&text) {
                    texts.push(text);
                }
            }
            texts
        }

        fn node(&mut self, levels: u64) -> Value {
            let mut node = json!({});
            if self.below(2) == 0 {
                node["number"] = json!(self.below(3));
            }
            if self.below(2) == 0 {
                let labels = self.texts().into_iter().filter_map(|name| {
                    let name = name.as_str()?.to_owned();
                    Some((name, self.text()))
                });
                node["labels"] = Value::Object(labels.collect());
            }
            for field in ["set", "args"] {
                if self.below(2) == 0 {
                    node[field] = json!(self.texts());
                }
            }
            if levels > 0 {
                for field in ["child", "union"] {
                    if self.below(3) > 0 {
                        node[field] = self.node(levels - 1);
                    }
                }
                for field in ["nodes", "unions"] {
                    if self.below(3) > 0 {
                        let named = self.texts().into_iter().map(|name| {
                            let mut node = self.node(levels - 1);
                            node["name"] = name;
                            node
                        });
                        node[field] = named.collect();
                    }
                }
            }
            node
        }
    }

    fn maps(known: Known<'_>, from: &Value, to: &Value, retains_keys: bool) -> Map<String, Value> {
        let (from, to) = (from.as_object().unwrap(), to.as_object().unwrap());
        let mut patch = Map::new();
        for name in from.keys().filter(|name| !to.contains_key(*name)) {
            patch.insert(name.clone(), Value::Null);
        }
        for (name, new) in to {
            let field = known.field(name);
            let rules = &field.schema.unwrap().patch;
            match (from.get(name), new) {
                (Some(old), _) if old == new => {}
                (Some(old @ Value::Object(_)), Value::Object(_)) => {
                    let inner = maps(field, old, new, rules.retains_keys);
                    patch.insert(name.clone(), Value::Object(inner));
                }
                (Some(Value::Array(old)), Value::Array(new)) if rules.is_merged => {
                    lists(field, name, old, new, &mut patch);
                }
                _ => {
                    patch.insert(name.clone(), new.clone());
                }
            }
        }
        if retains_keys && !patch.is_empty() {
            patch.insert(RETAIN_KEYS.into(), to.keys().map(String::as_str).collect());
        }
        patch
    }

    fn lists(
        known: Known<'_>,
        name: &str,
        old: &[Value],
        new: &[Value],
        patch: &mut Map<String, Value>,
    ) {
        let rules = &known.schema.unwrap().patch;
        let Some(key) = rules.merge_key.as_deref() else {
            let missing = |of: &[Value], from: &[Value]| -> Vec<Value> {
                of.iter()
                    .filter(|value| !from.contains(value))
                    .cloned()
                    .collect()
            };
            patch.insert(format!("{SET_ORDER}/{name}"), json!(new));
            patch.insert(
                format!("{DELETE_FROM_LIST}/{name}"),
                json!(missing(old, new)),
            );
            patch.insert(name.to_owned(), json!(missing(new, old)));
            return;
        };
        let find = |list: &[Value], wanted: &Value| {
            list.iter().find(|item| item[key] == wanted[key]).cloned()
        };
        let mut items = Vec::new();
        for item in new {
            match find(old, item) {
                None => items.push(item.clone()),
                Some(before) if before == *item => {}
                Some(before) => {
                    let mut change = maps(known.items(), &before, item, rules.retains_keys);
                    change.insert(key.to_owned(), item[key].clone());
                    items.push(Value::Object(change));
                }
            }
        }
        for item in old.iter().filter(|item| find(new, item).is_none()) {
            items.push(json!({ key: item[key], PATCH: "delete" }));
        }
        let order: Vec<Value> = new.iter().map(|item| json!({ key: item[key] })).collect();
        patch.insert(format!("{SET_ORDER}/{name}"), json!(order));
        patch.insert(name.to_owned(), json!(items));
    }

    #[test]
    fn a_difference_makes_one_object_of_another_and_changes_nothing_twice() {
        let schemas = schemas();
        let schema = schemas.get(schemas.named("Node").unwrap());
        let known = Known {
            schemas: &schemas,
            schema: Some(schema),
        };
        for seed in 0..500 {
            let mut random = Random(seed);
            let (from, to) = (random.node(3), random.node(3));
            let patch = Value::Object(maps(known, &from, &to, false));
            let told = || format!("seed {seed}\nfrom {from}\nto {to}\npatch {patch}");
            let once = apply(&from, &patch, &schemas, schema).unwrap();
            assert_eq!(once, to, "{}", told());
            let twice = apply(&once, &patch, &schemas, schema).unwrap();
            assert_eq!(twice, to, "{}", told());
        }
    }

    #[test]
    fn what_only_the_live_object_has_stays() {
        let schemas = schemas();
        let schema = schemas.get(schemas.named("Node").unwrap());
        let known = Known {
            schemas: &schemas,
            schema: Some(schema),
        };
        for seed in 0..500 {
            let mut random = Random(seed);
            let (from, to) = (random.node(2), random.node(2));
            let patch = Value::Object(maps(known, &from, &to, false));
            // Somebody else has added to the object in the meantime.
            let mut live = from.clone();
            live["labels"]["theirs"] = json!("x");
            if let Some(nodes) = live.get_mut("nodes").and_then(Value::as_array_mut) {
                let place = usize::try_from(random.below(nodes.len() as u64 + 1)).unwrap();
                nodes.insert(place, json!({ "name": "theirs", "number": 7 }));
            }
            let result = apply(&live, &patch, &schemas, schema).unwrap();
            if to.get("nodes").is_some() && from.get("nodes").is_some() {
                let nodes = result["nodes"].as_array().unwrap();
                assert!(
                    nodes.iter().any(|node| node["name"] == "theirs"),
                    "seed {seed}"
                );
                let ours: Vec<&Value> = nodes
                    .iter()
                    .filter(|node| node["name"] != "theirs")
                    .collect();
                let wanted: Vec<&Value> = to["nodes"].as_array().unwrap().iter().collect();
                assert_eq!(ours, wanted, "seed {seed}");
            }
            if to.get("labels").is_some() && from.get("labels").is_some() {
                assert_eq!(result["labels"]["theirs"], "x", "seed {seed}");
            }
        }
    }
}
