"""Runs an operator on the framework kopf and sees that it does its work: kopf_operator.py WORK

KUBECONFIG, in the environment, is a path. WORK is `config_maps` or `deployments`.
Exits with 0, or explains what was not as expected.
"""

import asyncio
import logging
import sys

import kopf
from kubernetes import client

from checks import connect, equal, eventually, holds, namespace, refused

FINALIZER = "kopf.zalando.org/KopfFinalizerMarker"
LAST_HANDLED = "kopf.zalando.org/last-handled-configuration"
MERGE_PATCH = "application/merge-patch+json"

# What the handlers were called with, in that order.
handled = []


@kopf.on.login()
def login(**named):
    """Reads the kubeconfig. By default the official client would, which looks for it before this program knows it."""
    return kopf.login_with_kubeconfig(**named)


@kopf.on.startup()
def configure(settings, **_):
    """Keeps progress in annotations alone: these kinds have no place in their status for it."""
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage()
    settings.posting.level = logging.INFO


@kopf.on.create("configmaps", labels={"copy": "yes"})
def copy(body, spec, name, namespace, patch, **_):
    """Makes a second object that belongs to the first."""
    handled.append(("create", name))
    child = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"{name}-copy"}, "data": dict(body["data"])}
    kopf.append_owner_reference(child, body)
    client.CoreV1Api().create_namespaced_config_map(namespace, child)
    patch.metadata.labels["copied"] = "yes"
    kopf.info(body, reason="Copied", message="made a copy")


@kopf.on.update("configmaps", labels={"copy": "yes"}, field="data")
def copy_again(name, namespace, old, new, retry, **_):
    """Fails once, to see that it is tried again."""
    handled.append(("update", name, old, new))
    if retry == 0:
        raise kopf.TemporaryError("once more", delay=0.2)
    client.CoreV1Api().patch_namespaced_config_map(f"{name}-copy", namespace, {"data": new}, _content_type=MERGE_PATCH)


@kopf.on.delete("configmaps", labels={"copy": "yes"})
def part(name, namespace, **_):
    """Leaves a trace of what is deleted."""
    handled.append(("delete", name))
    core = client.CoreV1Api()
    core.create_namespaced_config_map(namespace, {"metadata": {"name": f"{name}-was-here"}})


@kopf.on.event("configmaps", labels={"copy": "yes"})
def see(event, name, **_):
    """Takes note of each event."""
    handled.append(("event", event["type"], name))


@kopf.on.create("apps", "v1", "deployments")
@kopf.on.update("apps", "v1", "deployments", field="spec.replicas")
def announce(name, spec, patch, **_):
    """Does what no controller does here: says that all replicas are there."""
    handled.append(("deployment", name, spec["replicas"]))
    count = spec["replicas"]
    patch.status.update({"replicas": count, "readyReplicas": count, "availableReplicas": count})


def _calls(kind):
    return [one[1:] for one in handled if one[0] == kind]


def config_maps(space):
    """The life of one ConfigMap with handlers for all of it."""
    core = client.CoreV1Api()
    core.create_namespaced_config_map(space, {"metadata": {"name": "other"}, "data": {"a": "1"}})
    core.create_namespaced_config_map(
        space, {"metadata": {"name": "one", "labels": {"copy": "yes"}}, "data": {"a": "1"}})

    def read():
        return core.read_namespaced_config_map("one", space)
    one = eventually("the handler's label and kopf's annotation are there", lambda: next(
        (one for one in [read()] if (one.metadata.labels.get("copied") and LAST_HANDLED in one.metadata.annotations)), None))
    equal("finalizers", one.metadata.finalizers, [FINALIZER])
    equal("data", one.data, {"a": "1"})
    child = core.read_namespaced_config_map("one-copy", space)
    owner = child.metadata.owner_references[0]
    equal("owner of the copy", (owner.kind, owner.name, owner.uid), ("ConfigMap", "one", one.metadata.uid))

    core.patch_namespaced_config_map("one", space, {"data": {"a": "2", "b": "3"}}, _content_type=MERGE_PATCH)
    eventually("the copy has changed, too",
               lambda: core.read_namespaced_config_map("one-copy", space).data == {"a": "2", "b": "3"})
    equal("calls for an update that fails once", _calls("update"),
          [("one", {"a": "1"}, {"a": "2", "b": "3"})] * 2)
    eventually("no progress is left in annotations",
               lambda: list(read().metadata.annotations) == [LAST_HANDLED])
    eventually("an Event was posted", lambda: [
        event for event in core.list_namespaced_event(space, field_selector="reason=Copied").items
        if event.involved_object.uid == one.metadata.uid and event.message == "made a copy"])

    deleted = core.delete_namespaced_config_map("one", space)
    equal("uid in the answer to delete", deleted["metadata"]["uid"], one.metadata.uid)
    eventually("the object is gone",
               lambda: "one" not in [one.metadata.name for one in core.list_namespaced_config_map(space).items])
    equal("calls for the deletion", _calls("delete"), [("one",)])
    core.read_namespaced_config_map("one-was-here", space)
    eventually("the copy is gone, too",
               lambda: "one-copy" not in [one.metadata.name for one in core.list_namespaced_config_map(space).items])
    refused("read what is gone", 404, "NotFound", read)
    equal("calls for a creation", _calls("create"), [("one",)])
    seen = [kind for kind, _ in _calls("event")]
    holds(f"the last of {seen} is DELETED", seen[-1] == "DELETED")
    other = core.read_namespaced_config_map("other", space)
    equal("annotations of another object", other.metadata.annotations, None)


def deployments(space):
    """A handler that writes the status."""
    apps = client.AppsV1Api()
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}},
                     "template": {"metadata": {"labels": {"app": "web"}},
                                  "spec": {"containers": [{"name": "web", "image": "web:1"}]}}}}
    apps.create_namespaced_deployment(space, body)

    def available():
        return apps.read_namespaced_deployment("web", space).status.available_replicas
    eventually("2 are said to be available", lambda: available() == 2)
    apps.patch_namespaced_deployment_scale("web", space, {"spec": {"replicas": 5}}, _content_type=MERGE_PATCH)
    eventually("5 are said to be available", lambda: available() == 5)
    image = {"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "web:2"}]}}}}
    apps.patch_namespaced_deployment("web", space, image)
    web = eventually("kopf has seen all changes", lambda: next(
        (web for web in [apps.read_namespaced_deployment("web", space)]
         if "web:2" in web.metadata.annotations.get(LAST_HANDLED, "")), None))
    equal("calls", _calls("deployment"), [("web", 2), ("web", 5)])
    equal("status after it", web.status.available_replicas, 5)


async def _run(work, space):
    ready, stop = asyncio.Event(), asyncio.Event()
    operator = asyncio.create_task(
        kopf.operator(standalone=True, namespaces=[space], ready_flag=ready, stop_flag=stop))
    await asyncio.wait([operator, asyncio.create_task(ready.wait())], return_when=asyncio.FIRST_COMPLETED)
    try:
        await asyncio.to_thread(work, space)
    finally:
        stop.set()
        await operator


def _main():
    [work] = sys.argv[1:]
    works = {"config_maps": config_maps, "deployments": deployments}
    # kopf says what it does in its log, which counts only if something goes wrong.
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    connect()
    asyncio.run(_run(works[work], namespace(f"kopf-{work.replace('_', '-')}")))


if __name__ == "__main__":
    _main()
