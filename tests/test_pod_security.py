"""The check of the Pod Security Standard `restricted`, which finds what a cluster would refuse."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from pod_security import violations

Pod = dict[str, Any]

CONFINED: Pod = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [
        {
            "name": "c",
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
            },
        }
    ],
    "volumes": [{"name": "tmp", "emptyDir": {}}],
}


def container_context(pod: Pod) -> dict[str, Any]:
    """Return what the only container asks for."""
    context: dict[str, Any] = pod["containers"][0]["securityContext"]
    return context


def test_a_confined_pod_breaks_nothing() -> None:
    """Also with the one capability that may be added."""
    assert [] == violations(CONFINED)


def test_a_plain_pod_breaks_what_it_does_not_mention() -> None:
    """What is not said is forbidden, as a cluster reads it."""
    found = violations({"containers": [{"name": "c"}]})

    assert [
        "container c: allowPrivilegeEscalation is not false",
        "container c: capabilities are not all dropped",
        "container c: runAsNonRoot is not true",
        "container c: no seccompProfile",
    ] == found


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda pod: pod.update(hostNetwork=True), "pod: hostNetwork"),
        (
            lambda pod: pod["volumes"].append({"name": "v", "hostPath": {"path": "/"}}),
            "volume v: hostPath",
        ),
        (lambda pod: pod["securityContext"].update(runAsUser=0), "pod: runAsUser is 0"),
        (
            lambda pod: pod["securityContext"].update(sysctls=[{"name": "kernel.msgmax"}]),
            "pod: sysctl kernel.msgmax",
        ),
        (lambda pod: container_context(pod).update(privileged=True), "container c: privileged"),
        (
            lambda pod: container_context(pod)["capabilities"].update(add=["SYS_ADMIN"]),
            "container c: capabilities SYS_ADMIN",
        ),
        (
            lambda pod: container_context(pod).update(runAsNonRoot=False),
            "container c: runAsNonRoot is not true",
        ),
        (
            lambda pod: container_context(pod).update(seLinuxOptions={"type": "spc_t"}),
            "container c: seLinuxOptions",
        ),
        (
            lambda pod: pod["containers"][0].update(ports=[{"containerPort": 1, "hostPort": 1}]),
            "container c: hostPort",
        ),
        (
            lambda pod: container_context(pod).update(appArmorProfile={"type": "Unconfined"}),
            "container c: appArmorProfile",
        ),
    ],
)
def test_each_loosening_is_found(change: Callable[[Pod], None], found: str) -> None:
    """One change of a confined pod, one violation."""
    pod = copy.deepcopy(CONFINED)
    change(pod)

    assert [found] == violations(pod)


def test_containers_that_come_before_are_looked_at_too() -> None:
    """Init containers run with the same rights on the same volumes."""
    pod = {**CONFINED, "initContainers": [{**CONFINED["containers"][0], "name": "first"}]}
    pod["initContainers"][0] = {"name": "first", "securityContext": {}}

    assert {"container first"} == {each.split(":")[0] for each in violations(pod)}
