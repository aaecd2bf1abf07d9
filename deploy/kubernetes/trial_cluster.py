"""A namespace of a real cluster, by helm and kubectl, and what trials ask of it."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from trial_scripts import PATTERNS

PRODUCER = {"teacherd-producer": "yes"}
"""Label of the pod that may send instances."""
_SCRATCH = "/tmp"  # noqa: S108 (of the pod)


class Cluster:
    """Works in one namespace, which enforces the Pod Security Standard `restricted`.

    Args:
        image: Repository and tag; the client's pod runs it as well.
    """

    def __init__(self, namespace: str, image: str) -> None:
        self.namespace = namespace
        self.image = image

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        """Run kubectl and return what it wrote; its failure is the trial's."""
        return self._run("kubectl", *arguments, text=text)

    def helm(self, *arguments: str) -> str:
        """Run helm and return what it wrote; its failure is the trial's."""
        return self._run("helm", *arguments)

    def try_to(self, program: str, *arguments: str) -> tuple[int, str]:
        """Run helm or kubectl where a failure is no fault; return exit code and output."""
        done = subprocess.run(
            [program, "--namespace", self.namespace, *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def get(self, *what: str) -> dict[str, Any]:
        """Return an object, or a list of them."""
        found: dict[str, Any] = json.loads(self.kubectl("get", *what, "--output", "json"))
        return found

    def apply(self, thing: Mapping[str, Any]) -> None:
        """Make an object, or change it."""
        self.kubectl("apply", "--filename", "-", text=json.dumps(thing))

    @contextmanager
    def namespace_of_ours(self, *, is_kept: bool) -> Iterator[None]:
        """Make the namespace, and delete it afterwards with all that is in it."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        metadata = {"name": self.namespace, "labels": labels}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        try:
            yield
        finally:
            if not is_kept:
                self.try_to("kubectl", "delete", "namespace", self.namespace, "--timeout=180s")

    def start_client(self) -> None:
        """Start a pod that produces and asks, as confined as ours."""
        self.apply(_client(self.image))
        self.kubectl("wait", "pod/client", "--for=condition=Ready", "--timeout=180s")
        self.client(PATTERNS)

    def client(self, script: str, *arguments: str) -> str:
        """Run Python in the client's pod and return what it wrote."""
        return self.kubectl("exec", "-i", "client", "--", "python", "-", *arguments, text=script)

    @contextmanager
    def client_running(self, *command: str) -> Iterator["subprocess.Popen[str]"]:
        """Run a command in the client's pod meanwhile."""
        kubectl = ("kubectl", "--namespace", self.namespace, "exec", "client", "--")
        with subprocess.Popen([*kubectl, *command], stdout=subprocess.PIPE, text=True) as process:
            yield process

    def _run(self, program: str, *arguments: str, text: str | None = None) -> str:
        done = subprocess.run(
            [program, "--namespace", self.namespace, *arguments],
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            fail(f"{program} {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout.strip()


def _client(image: str) -> dict[str, Any]:
    container = {
        "name": "client",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "infinity"],
        "workingDir": _SCRATCH,
        "env": [{"name": "HOME", "value": _SCRATCH}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": _SCRATCH}],
    }
    spec = {
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": 1,
        "enableServiceLinks": False,
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    metadata = {"name": "client", "labels": PRODUCER}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def wait_until(is_so: Callable[[], bool], what: str, *, seconds: float = 300) -> float:
    """Wait, and return for how long; the trial ends if it does not come true."""
    began = time.monotonic()
    while not is_so():
        if time.monotonic() - began > seconds:
            fail(f"waited {seconds:g} s in vain for {what}")
        time.sleep(0.5)
    return round(time.monotonic() - began, 1)


def expect(is_so: bool, what: str) -> None:  # noqa: FBT001 (reads as a sentence)
    """End the trial unless something is so."""
    if not is_so:
        fail(f"expected: {what}")


def say(line: str) -> None:
    """Tell people, and leave stdout to the figures."""
    print(line, file=sys.stderr, flush=True)


def fail(reason: str) -> None:
    """End the trial."""
    raise SystemExit(f"FAILED: {reason}")
