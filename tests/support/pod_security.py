"""What the Pod Security Standard `restricted` forbids, held against the specification of a pod.

https://kubernetes.io/docs/concepts/security/pod-security-standards/ for pods of Linux; a cluster
that enforces it in a namespace refuses a pod with any of these.
"""

from collections.abc import Iterator, Mapping
from typing import Any

_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
_SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_syncookies",
}
_SELINUX_TYPES = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
_PROFILES = {"RuntimeDefault", "Localhost"}


def violations(pod: Mapping[str, Any]) -> list[str]:
    """Return what `restricted` forbids in a PodSpec, each as its place and what is wrong there."""
    found = [*_of_pod(pod), *_of_context(pod.get("securityContext") or {}, "pod")]
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in pod.get(kind) or []:
            found += _of_container(container, pod.get("securityContext") or {})
    return found


def _of_pod(pod: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"pod: {key}" for key in ("hostNetwork", "hostPID", "hostIPC") if pod.get(key))
    for volume in pod.get("volumes") or []:
        kinds = set(volume) - {"name"}
        if not kinds <= _VOLUMES:
            yield f"volume {volume['name']}: {', '.join(sorted(kinds - _VOLUMES))}"
    for sysctl in (pod.get("securityContext") or {}).get("sysctls") or []:
        if sysctl["name"] not in _SYSCTLS:
            yield f"pod: sysctl {sysctl['name']}"


def _of_container(container: Mapping[str, Any], pod_context: Mapping[str, Any]) -> Iterator[str]:
    name = f"container {container['name']}"
    context = container.get("securityContext") or {}
    yield from _of_context(context, name)
    if context.get("privileged"):
        yield f"{name}: privileged"
    if context.get("allowPrivilegeEscalation") is not False:
        yield f"{name}: allowPrivilegeEscalation is not false"
    if context.get("procMount", "Default") != "Default":
        yield f"{name}: procMount"
    yield from (
        f"{name}: hostPort" for port in container.get("ports") or [] if port.get("hostPort")
    )
    yield from _of_capabilities(context.get("capabilities") or {}, name)
    if (context.get("runAsNonRoot", pod_context.get("runAsNonRoot"))) is not True:
        yield f"{name}: runAsNonRoot is not true"
    profile = context.get("seccompProfile") or pod_context.get("seccompProfile") or {}
    if profile.get("type") not in _PROFILES:
        yield f"{name}: no seccompProfile"


def _of_capabilities(capabilities: Mapping[str, Any], name: str) -> Iterator[str]:
    if "ALL" not in (capabilities.get("drop") or []):
        yield f"{name}: capabilities are not all dropped"
    added = set(capabilities.get("add") or []) - {"NET_BIND_SERVICE"}
    if added:
        yield f"{name}: capabilities {', '.join(sorted(added))}"


def _of_context(context: Mapping[str, Any], place: str) -> Iterator[str]:
    if context.get("runAsUser") == 0:
        yield f"{place}: runAsUser is 0"
    if (context.get("seccompProfile") or {}).get("type", "RuntimeDefault") not in _PROFILES:
        yield f"{place}: seccompProfile"
    if (context.get("appArmorProfile") or {}).get("type", "RuntimeDefault") not in _PROFILES:
        yield f"{place}: appArmorProfile"
    selinux = context.get("seLinuxOptions") or {}
    if selinux.get("type", "") not in _SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        yield f"{place}: seLinuxOptions"
    if (context.get("windowsOptions") or {}).get("hostProcess"):
        yield f"{place}: hostProcess"
