"""What the Python programs here have in common: the way to the server, and complaints that explain themselves."""

import json
import os
import time

from kubernetes import client, config

# How long a program waits for what must come.
PATIENCE_SECONDS = 20


def connect():
    """Makes every client object after this one speak to the server of KUBECONFIG."""
    config.load_kube_config(config_file=os.environ["KUBECONFIG"])


def namespace(name):
    """A namespace of its own for one program."""
    core = client.CoreV1Api()
    made = core.create_namespace({"metadata": {"generateName": f"{name}-"}})
    equal("phase of a new namespace", made.status.phase, "Active")
    return made.metadata.name


def equal(what, found, expected):
    """Complains if something is not as expected."""
    if found != expected:
        raise AssertionError(f"{what}: {found!r}, should be {expected!r}")


def holds(what, statement):
    """Complains if a statement is false."""
    if not statement:
        raise AssertionError(f"this does not hold: {what}")


def refused(what, code, reason, call, *arguments, **named):
    """Complains unless a call is answered by a Status with that code and reason; gives the Status."""
    try:
        call(*arguments, **named)
    except client.ApiException as error:
        status = json.loads(error.body)
        equal(f"{what}: kind", status["kind"], "Status")
        equal(f"{what}: code of HTTP", error.status, code)
        equal(f"{what}: code in {status}", status["code"], code)
        equal(f"{what}: reason in {status}", status.get("reason"), reason)
        return status
    raise AssertionError(f"{what}: was done, should be refused with {code} {reason}")


def eventually(what, statement):
    """Waits until a statement is true; gives what it came to."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        found = statement()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"did not come true in {PATIENCE_SECONDS} s: {what}")
