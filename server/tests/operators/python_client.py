"""Has the official Python client do the work of an operator: python_client.py WORK

KUBECONFIG, in the environment, is a path. WORK is a function below whose name does not begin with an underscore.
Exits with 0, or explains what was not as expected.
"""

import logging
import os
import sys
import tempfile
import threading

from kubernetes import client, dynamic, informer, utils, watch
from kubernetes.leaderelection import electionconfig
from kubernetes.leaderelection import leaderelection as election
from kubernetes.leaderelection.resourcelock import configmaplock, leaselock

from checks import PATIENCE_SECONDS, connect, equal, eventually, holds, namespace, refused

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"


def _config_map(name, data=None, **metadata):
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, **metadata), data=data)


def objects():
    """Create, read, replace, conflict, delete."""
    core, space = client.CoreV1Api(), namespace("objects")
    made = core.create_namespaced_config_map(space, _config_map("one", {"a": "1"}, labels={"app": "x"}))
    holds("a new object has uid, creationTimestamp, resourceVersion", made.metadata.uid
          and made.metadata.creation_timestamp and made.metadata.resource_version)
    equal("namespace", made.metadata.namespace, space)
    status = refused("the same name again", 409, "AlreadyExists",
                     core.create_namespaced_config_map, space, _config_map("one"))
    equal("message", status["message"], 'configmaps "one" already exists')
    equal("details", status["details"], {"name": "one", "kind": "configmaps"})

    read = core.read_namespaced_config_map("one", space)
    equal("as read", read.to_dict(), made.to_dict())
    read.data = {"a": "2"}
    replaced = core.replace_namespaced_config_map("one", space, read)
    equal("data", replaced.data, {"a": "2"})
    holds("a replaced object has another resourceVersion",
          replaced.metadata.resource_version != made.metadata.resource_version)
    equal("uid", replaced.metadata.uid, made.metadata.uid)
    same = core.replace_namespaced_config_map("one", space, replaced)
    equal("resourceVersion after no change", same.metadata.resource_version, replaced.metadata.resource_version)
    status = refused("replace what has changed since", 409, "Conflict",
                     core.replace_namespaced_config_map, "one", space, read)
    equal("message", status["message"], 'Operation cannot be fulfilled on configmaps "one": the object has been '
          "modified; please apply your changes to the latest version and try again")
    read.metadata.resource_version = None
    read.data = {"a": "3"}
    equal("data", core.replace_namespaced_config_map("one", space, read).data, {"a": "3"})
    wrong = _config_map("one", uid="0f0f0f0f-0000-4000-8000-000000000000")
    refused("replace one with another uid", 409, "Conflict", core.replace_namespaced_config_map, "one", space, wrong)
    refused("replace under another name", 400, "BadRequest",
            core.replace_namespaced_config_map, "two", space, _config_map("one"))
    refused("replace what is not there", 404, "NotFound",
            core.replace_namespaced_config_map, "two", space, _config_map("two"))
    refused("a bad name", 422, "Invalid", core.create_namespaced_config_map, space, _config_map("No"))
    refused("a bad namespace", 404, "NotFound", core.create_namespaced_config_map, "nowhere", _config_map("one"))

    tried = core.create_namespaced_config_map(space, _config_map(None, generate_name="try-"), dry_run="All")
    holds("a dry run makes a name", tried.metadata.name.startswith("try-"))
    refused("read what was only tried", 404, "NotFound", core.read_namespaced_config_map, tried.metadata.name, space)
    # The client's types refuse unknown fields themselves; a patch has no type.
    status = refused("an unknown field", 422, "Invalid", core.patch_namespaced_config_map, "one", space,
                     {"dat": {}}, field_validation="Strict", _content_type=MERGE_PATCH)
    holds(f"{status['message']!r} names the field", 'unknown field "dat"' in status["message"])

    wrong = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid="another"))
    refused("delete with another uid", 409, "Conflict", core.delete_namespaced_config_map, "one", space, body=wrong)
    deleted = core.delete_namespaced_config_map("one", space)
    equal("answer to delete", (deleted["status"], deleted["details"]["uid"]), ("Success", made.metadata.uid))
    refused("read what is deleted", 404, "NotFound", core.read_namespaced_config_map, "one", space)
    for number in range(3):
        core.create_namespaced_config_map(space, _config_map(f"m{number}", labels={"many": "yes"}))
    core.delete_collection_namespaced_config_map(space, label_selector="many=yes")
    left = core.list_namespaced_config_map(space).items
    equal("names left", [one.metadata.name for one in left if one.metadata.name.startswith("m")], [])

    secret = core.create_namespaced_secret(space, {"metadata": {"name": "s"}, "stringData": {"key": "value"}})
    equal("secret", (secret.data, secret.type, secret.string_data), ({"key": "dmFsdWU="}, "Opaque", None))
    core.delete_namespace(space)
    eventually("the namespace is gone",
               lambda: space not in [one.metadata.name for one in core.list_namespace().items])


def finalizers():
    """An object with finalizers stays until the last one is taken off."""
    core, space = client.CoreV1Api(), namespace("finalizers")
    core.create_namespaced_config_map(space, _config_map("one", finalizers=["example.com/a", "example.com/b"]))
    core.delete_namespaced_config_map("one", space)
    read = core.read_namespaced_config_map("one", space)
    holds("it has a deletionTimestamp", read.metadata.deletion_timestamp)
    equal("grace period", read.metadata.deletion_grace_period_seconds, 0)

    def patched(body, content_type):
        return core.patch_namespaced_config_map("one", space, body, _content_type=content_type)
    added = {"metadata": {"finalizers": ["example.com/a", "example.com/b", "example.com/c"]}}
    refused("a new finalizer", 422, "Invalid", patched, added, MERGE_PATCH)
    left = patched([{"op": "remove", "path": "/metadata/finalizers/0"}], JSON_PATCH)
    equal("finalizers", left.metadata.finalizers, ["example.com/b"])
    last = patched({"metadata": {"$deleteFromPrimitiveList/finalizers": ["example.com/b"]}}, STRATEGIC_PATCH)
    equal("finalizers", last.metadata.finalizers, None)
    refused("read what is gone", 404, "NotFound", core.read_namespaced_config_map, "one", space)


def owners():
    """What an owner owns goes with it, or after it, or stays."""
    core, space = client.CoreV1Api(), namespace("owners")
    for policy in ["Background", "Foreground", "Orphan"]:
        owner = core.create_namespaced_config_map(space, _config_map("owner"))
        reference = client.V1OwnerReference(api_version="v1", kind="ConfigMap", name="owner", uid=owner.metadata.uid,
                                            controller=True, block_owner_deletion=True)
        core.create_namespaced_config_map(space, _config_map("owned", owner_references=[reference]))
        core.delete_namespaced_config_map("owner", space, propagation_policy=policy)

        def names():
            return {one.metadata.name for one in core.list_namespaced_config_map(space).items}
        eventually(f"{policy}: the owner is gone", lambda: "owner" not in names())
        if policy == "Orphan":
            owned = eventually("the owner's reference is taken off", lambda: next(iter(
                [one for one in [core.read_namespaced_config_map("owned", space)]
                 if not one.metadata.owner_references]), None))
            equal("uid stays", bool(owned.metadata.uid), True)
        else:
            eventually(f"{policy}: what it owned is gone", lambda: "owned" not in names())


def patches():
    """JSON, merge and strategic merge patch."""
    core, apps, space = client.CoreV1Api(), client.AppsV1Api(), namespace("patches")
    core.create_namespaced_config_map(space, _config_map("one", {"a": "1", "b": "2"}))

    def patched(body, content_type, **named):
        return core.patch_namespaced_config_map("one", space, body, _content_type=content_type, **named)

    steps = [{"op": "test", "path": "/data/a", "value": "1"}, {"op": "replace", "path": "/data/a", "value": "3"},
             {"op": "copy", "from": "/data/a", "path": "/data/d.e"}, {"op": "remove", "path": "/data/b"}]
    equal("after a JSON patch", patched(steps, JSON_PATCH).data, {"a": "3", "d.e": "3"})
    refused("a JSON patch whose test fails", 422, "Invalid", patched, steps, JSON_PATCH)
    equal("an object as patch", patched({"data": {"a": "3"}}, None).data, {"a": "3", "d.e": "3"})
    merged = patched({"data": {"a": None, "f": "5"}}, MERGE_PATCH)
    equal("after a merge patch", merged.data, {"d.e": "3", "f": "5"})
    again = patched({"data": {"f": "5"}}, MERGE_PATCH)
    equal("resourceVersion after no change", again.metadata.resource_version, merged.metadata.resource_version)
    refused("a patch of an older resourceVersion", 409, "Conflict", patched,
            {"metadata": {"resourceVersion": "1"}, "data": {"g": "6"}}, MERGE_PATCH)
    refused("a type of patch that there is not", 415, "UnsupportedMediaType", patched, {}, "application/json")
    tried = patched({"data": {"h": "7"}}, STRATEGIC_PATCH, dry_run="All")
    equal("data in a dry run", tried.data, {"d.e": "3", "f": "5", "h": "7"})
    equal("data after it", core.read_namespaced_config_map("one", space).data, merged.data)

    apps.create_namespaced_deployment(space, _deployment("web"))
    image = {"spec": {"template": {"spec": {"containers": [{"name": "sidecar", "image": "sidecar:2"}]}}}}
    web = apps.patch_namespaced_deployment("web", space, image, _content_type=STRATEGIC_PATCH)
    equal("images", {one.name: one.image for one in web.spec.template.spec.containers},
          {"main": "main:1", "sidecar": "sidecar:2"})
    equal("generation", web.metadata.generation, 2)
    gone = {"spec": {"template": {"spec": {"containers": [{"$patch": "delete", "name": "sidecar"}]}}}}
    web = apps.patch_namespaced_deployment("web", space, gone, _content_type=STRATEGIC_PATCH)
    equal("containers", [one.name for one in web.spec.template.spec.containers], ["main"])
    image = {"spec": {"template": {"spec": {"containers": [{"name": "other", "image": "other:1"}]}}}}
    web = apps.patch_namespaced_deployment("web", space, image, _content_type=MERGE_PATCH)
    equal("containers after a merge patch", [one.name for one in web.spec.template.spec.containers], ["other"])

    status = apps.patch_namespaced_deployment_status(
        "web", space, {"status": {"replicas": 2, "observedGeneration": 4}, "spec": {"replicas": 9}},
        _content_type=MERGE_PATCH)
    equal("replicas in spec and status", (status.spec.replicas, status.status.replicas), (2, 2))
    scale = apps.read_namespaced_deployment_scale("web", space)
    equal("scale", (scale.spec.replicas, scale.status.replicas, scale.status.selector), (2, 2, "app=web"))
    scale.spec.replicas = 5
    apps.replace_namespaced_deployment_scale("web", space, scale)
    apps.patch_namespaced_deployment_scale("web", space, {"spec": {"replicas": 6}}, _content_type=MERGE_PATCH)
    equal("replicas", apps.read_namespaced_deployment("web", space).spec.replicas, 6)


def lists():
    """Pages on one revision, selectors, and watches that go on from a list."""
    core, space = client.CoreV1Api(), namespace("lists")
    for number in range(7):
        labels = {"parity": "odd" if number % 2 else "even", "number": str(number)}
        core.create_namespaced_config_map(space, _config_map(f"m{number}", {"n": str(number)}, labels=labels))

    def names(**named):
        return [one.metadata.name for one in core.list_namespaced_config_map(space, **named).items
                if one.metadata.name.startswith("m")]
    equal("odd", names(label_selector="parity=odd"), ["m1", "m3", "m5"])
    equal("set", names(label_selector="number in (1,2),parity!=odd"), ["m2"])
    equal("without a label", names(label_selector="!parity"), [])
    equal("by name", names(field_selector="metadata.name=m4"), ["m4"])
    refused("a field that cannot be selected by", 400, "BadRequest", names, field_selector="data.n=1")
    refused("a bad selector", 400, "BadRequest", names, label_selector="a in b")

    first = core.list_namespaced_config_map(space, limit=3, label_selector="parity")
    core.create_namespaced_config_map(space, _config_map("m55", labels={"parity": "odd"}))
    page, pages = first, [[one.metadata.name for one in first.items]]
    while page.metadata._continue:
        page = core.list_namespaced_config_map(space, limit=3, label_selector="parity",
                                               _continue=page.metadata._continue)
        equal("resourceVersion of a page", page.metadata.resource_version, first.metadata.resource_version)
        pages.append([one.metadata.name for one in page.items])
    equal("pages", pages, [["m0", "m1", "m2"], ["m3", "m4", "m5"], ["m6"]])
    refused("a bad token", 400, "BadRequest", core.list_namespaced_config_map, space, limit=3, _continue="x")
    then = core.list_namespaced_config_map(space, resource_version=first.metadata.resource_version,
                                           resource_version_match="Exact")
    equal("m55 in the list at an older revision", "m55" in [one.metadata.name for one in then.items], False)

    # What a watch tells from there on.
    def act():
        core.patch_namespaced_config_map("m1", space, {"data": {"n": "x"}}, _content_type=MERGE_PATCH)
        core.patch_namespaced_config_map("m3", space, {"metadata": {"labels": {"parity": "none"}}},
                                         _content_type=MERGE_PATCH)
        core.patch_namespaced_config_map("m0", space, {"metadata": {"labels": {"parity": "odd"}}},
                                         _content_type=MERGE_PATCH)
        core.delete_namespaced_config_map("m5", space)
    act()
    stream = watch.Watch().stream(core.list_namespaced_config_map, space, label_selector="parity=odd",
                                  resource_version=first.metadata.resource_version, timeout_seconds=2)
    events = [(event["type"], event["object"].metadata.name) for event in stream]
    equal("events of a selector", events,
          [("ADDED", "m55"), ("MODIFIED", "m1"), ("DELETED", "m3"), ("ADDED", "m0"), ("DELETED", "m5")])
    stream = watch.Watch().stream(core.list_namespaced_config_map, space, label_selector="parity=odd",
                                  resource_version="0", timeout_seconds=1)
    equal("events from 0", {(event["type"], event["object"].metadata.name) for event in stream},
          {("ADDED", "m0"), ("ADDED", "m1"), ("ADDED", "m55")})

    # The current state in the watch itself.
    stream = watch.Watch().stream(
        core.list_namespaced_config_map, space, label_selector="parity=odd", send_initial_events=True,
        resource_version_match="NotOlderThan", allow_watch_bookmarks=True, timeout_seconds=PATIENCE_SECONDS)
    seen, bookmark = [], None
    for event in stream:
        if event["type"] == "BOOKMARK":
            bookmark = event["raw_object"]
            break
        seen.append((event["type"], event["object"].metadata.name))
    equal("first events", seen, [("ADDED", "m0"), ("ADDED", "m1"), ("ADDED", "m55")])
    equal("annotations of the bookmark", bookmark["metadata"]["annotations"], {"k8s.io/initial-events-end": "true"})
    equal("kind of the bookmark", (bookmark["kind"], bookmark["apiVersion"]), ("ConfigMap", "v1"))
    everywhere = core.list_config_map_for_all_namespaces(label_selector="parity=even")
    equal("in all namespaces", [one.metadata.name for one in everywhere.items], ["m2", "m4", "m6"])


def shared_informer():
    """The client's own cache follows the server."""
    core, space = client.CoreV1Api(), namespace("informer")
    core.create_namespaced_config_map(space, _config_map("before", labels={"app": "x"}))
    seen = []
    cache = informer.SharedInformer(core.list_namespaced_config_map, namespace=space, label_selector="app=x")
    for kind in ["ADDED", "MODIFIED", "DELETED"]:
        cache.add_event_handler(kind, lambda one, kind=kind: seen.append((kind, one.metadata.name)))
    cache.start()
    try:
        eventually("it has what was there", lambda: seen == [("ADDED", "before")])
        core.create_namespaced_config_map(space, _config_map("after", labels={"app": "x"}))
        core.create_namespaced_config_map(space, _config_map("other", labels={"app": "y"}))
        core.patch_namespaced_config_map("before", space, {"data": {"k": "v"}}, _content_type=MERGE_PATCH)
        core.delete_namespaced_config_map("after", space)
        expected = [("ADDED", "before"), ("ADDED", "after"), ("MODIFIED", "before"), ("DELETED", "after")]
        eventually(f"it has seen {expected}", lambda: seen == expected)
        equal("cache", [(one.metadata.name, one.data) for one in cache.cache.list()], [("before", {"k": "v"})])
    finally:
        cache.stop()


def dynamic_client():
    """Kinds found by discovery, without types."""
    core, space = client.CoreV1Api(), namespace("dynamic")
    for discoverer in [dynamic.EagerDiscoverer, dynamic.LazyDiscoverer]:
        with tempfile.TemporaryDirectory() as folder:
            api = dynamic.DynamicClient(client.ApiClient(), cache_file=f"{folder}/cache", discoverer=discoverer)
            _use_dynamic_client(api, space)
    core.delete_namespace(space)


def _use_dynamic_client(api, space):
    equal("minor version", api.version["kubernetes"]["minor"], "37")
    config_maps = api.resources.get(api_version="v1", kind="ConfigMap")
    deployments = api.resources.get(kind="Deployment")
    equal("group of Deployment", (deployments.group, deployments.api_version, deployments.name),
          ("apps", "v1", "deployments"))
    leases = api.resources.search(singular_name="lease") or api.resources.search(kind="Lease")
    holds("Lease is in coordination.k8s.io", "coordination.k8s.io" in [one.group for one in leases])
    equal("short names", api.resources.get(api_version="v1", kind="Pod").short_names, ["po"])
    holds("Deployment has a subresource scale", "scale" in deployments.subresources)

    made = config_maps.create(namespace=space, body={"kind": "ConfigMap", "apiVersion": "v1",
                                                     "metadata": {"name": "one"}, "data": {"a": "1"}})
    since = made.metadata.resourceVersion
    config_maps.patch(namespace=space, name="one", body={"data": {"b": "2"}})
    config_maps.patch(namespace=space, name="one", body=[{"op": "remove", "path": "/data/a"}],
                      content_type=JSON_PATCH)
    read = config_maps.get(namespace=space, name="one")
    equal("data", read.data.to_dict(), {"b": "2"})
    changed = read.to_dict()
    changed["data"]["c"] = "3"
    config_maps.replace(namespace=space, body=changed)
    listed = config_maps.get(namespace=space, field_selector="metadata.name=one")
    equal("kind of a list", listed.kind, "ConfigMapList")
    equal("items", [(one.kind, one.data.to_dict()) for one in listed.items], [("ConfigMap", {"b": "2", "c": "3"})])
    config_maps.delete(namespace=space, name="one")
    events = [event["type"] for event in
              config_maps.watch(namespace=space, name="one", resource_version=since, timeout=1)]
    equal("events", events, ["MODIFIED", "MODIFIED", "MODIFIED", "DELETED"])
    try:
        config_maps.get(namespace=space, name="one")
        raise AssertionError("what was deleted is still there")
    except dynamic.exceptions.NotFoundError as error:
        equal("summary", error.summary(), 'configmaps "one" not found')

    deployments.create(namespace=space, body=_deployment("web"))
    scaled = deployments.scale.patch(namespace=space, name="web", body={"spec": {"replicas": 3}},
                                     content_type=MERGE_PATCH)
    equal("scale", (scaled.kind, scaled.spec.replicas), ("Scale", 3))
    equal("status", deployments.status.get(namespace=space, name="web").spec.replicas, 3)
    deployments.delete(namespace=space, name="web")


def manifests():
    """utils.create_from_dict makes kinds of several groups."""
    space = namespace("manifests")
    made = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a"}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"},
         "spec": {"selector": {"app": "a"}, "ports": [{"port": 80}]}},
        _deployment("a"),
        {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "a"},
         "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": {"spec": {
             "restartPolicy": "Never", "containers": [{"name": "a", "image": "a"}]}}}}}},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "a"},
         "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]},
        {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "a"},
         "spec": {"podSelector": {}}},
    ]
    utils.create_from_dict(client.ApiClient(), {"apiVersion": "v1", "kind": "List", "items": made}, namespace=space)
    service = client.CoreV1Api().read_namespaced_service("a", space)
    holds("a Service has an address", service.spec.cluster_ip.count(".") == 3)
    equal("Service", (service.spec.type, service.spec.ports[0].protocol, service.spec.ports[0].target_port),
          ("ClusterIP", "TCP", 80))
    deployment = client.AppsV1Api().read_namespaced_deployment("a", space)
    equal("strategy", (deployment.spec.strategy.type, deployment.spec.strategy.rolling_update.max_surge),
          ("RollingUpdate", "25%"))
    job = client.BatchV1Api().read_namespaced_cron_job("a", space)
    equal("CronJob", (job.spec.concurrency_policy, job.spec.successful_jobs_history_limit), ("Allow", 3))
    policy = client.NetworkingV1Api().read_namespaced_network_policy("a", space)
    equal("policy types", policy.spec.policy_types, ["Ingress"])


def custom_resource_definitions():
    """Definitions are kept and listed like any kind."""
    api = client.ApiextensionsV1Api()
    body = {"metadata": {"name": "toys.example.com"},
            "spec": {"group": "example.com", "scope": "Namespaced",
                     "names": {"plural": "toys", "singular": "toy", "kind": "Toy", "listKind": "ToyList"},
                     "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {
                         "type": "object", "x-kubernetes-preserve-unknown-fields": True}}}]}}
    api.create_custom_resource_definition(body)
    listed = api.list_custom_resource_definition()
    equal("names", [one.metadata.name for one in listed.items], ["toys.example.com"])
    schema = listed.items[0].spec.versions[0].schema.open_apiv3_schema
    equal("schema", schema.x_kubernetes_preserve_unknown_fields, True)
    holds("the conditions say whether it has an effect", listed.items[0].status.conditions)
    api.delete_custom_resource_definition("toys.example.com")


def events():
    """Both forms of Event are one object."""
    core, api, space = client.CoreV1Api(), client.EventsV1Api(), namespace("events")
    one = core.create_namespaced_config_map(space, _config_map("one"))
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "one", "namespace": space, "uid": one.metadata.uid}
    core.create_namespaced_event(space, {
        "metadata": {"name": "old"}, "involvedObject": reference, "reason": "Seen", "message": "by the core form",
        "type": "Normal", "source": {"component": "test"}, "count": 2,
        "firstTimestamp": "2026-01-02T03:04:05Z", "lastTimestamp": "2026-01-02T03:04:06Z"})
    api.create_namespaced_event(space, {
        "metadata": {"name": "new"}, "regarding": reference, "reason": "Seen", "note": "by the newer form",
        "type": "Warning", "action": "Test", "reportingController": "example.com/test", "reportingInstance": "test-1",
        "eventTime": "2026-01-02T03:04:05.678901Z"})
    # The client's type for the newer form does not take an event without eventTime, which the older one has.
    old = client.CustomObjectsApi().get_namespaced_custom_object("events.k8s.io", "v1", space, "events", "old")
    equal("the older one", (old["note"], old["regarding"]["name"], old["deprecatedCount"], old["deprecatedSource"]),
          ("by the core form", "one", 2, {"component": "test"}))
    new = core.read_namespaced_event("new", space)
    equal("the newer one", (new.message, new.involved_object.uid, new.reporting_component, new.event_time.microsecond),
          ("by the newer form", one.metadata.uid, "example.com/test", 678901))
    found = core.list_namespaced_event(space, field_selector=f"involvedObject.uid={one.metadata.uid},type=Warning")
    equal("by fields", [event.metadata.name for event in found.items], ["new"])


def lease_election():
    """Two candidates for a Lease."""
    _election(leaselock.LeaseLock, "election-lease")


def config_map_election():
    """Two candidates for the annotation of a ConfigMap."""
    _election(configmaplock.ConfigMapLock, "election-map")


def _election(lock, name):
    space = namespace(name)
    order, first_leads, first_may_end = [], threading.Event(), threading.Event()

    def lead_first():
        order.append("first")
        first_leads.set()
        # A leader that ends its work by an error no longer renews.
        first_may_end.wait(PATIENCE_SECONDS)
        raise RuntimeError("the work ends")

    def candidate(identity, started):
        settings = electionconfig.Config(
            lock("elected", space, identity), lease_duration=3, renew_deadline=2, retry_period=1,
            onstarted_leading=started, onstopped_leading=lambda: order.append(f"{identity} stopped"))
        thread = threading.Thread(target=election.LeaderElection(settings).run, daemon=True)
        thread.start()
        return thread

    first = candidate("first", lead_first)
    holds("the first candidate leads", first_leads.wait(PATIENCE_SECONDS))
    candidate("second", lambda: order.append("second"))
    # Longer than a lease lasts: the leader renews it.
    first.join(4)
    equal("leaders while the first renews", order, ["first"])
    first_may_end.set()
    eventually("the second leads after the first", lambda: order == ["first", "first stopped", "second"])


def _deployment(name):
    containers = [{"name": "main", "image": "main:1"}, {"name": "sidecar", "image": "sidecar:1"}]
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": name}},
                     "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": containers}}}}


def _main():
    logging.disable(logging.ERROR)
    [work] = sys.argv[1:]
    connect()
    if work.startswith("_"):
        sys.exit(f"no such work: {work}")
    globals()[work]()
    # Candidates go on in threads that print, which the interpreter does not survive while it ends.
    os._exit(0)


if __name__ == "__main__":
    _main()
