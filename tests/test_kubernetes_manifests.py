"""The plain manifests: what a cluster would accept, and what teacherd makes of its configuration.

They are what the chart renders (tests/test_chart.py), so this needs neither helm nor a cluster.
"""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from manifests import KUBERNETES, Object, of_kind, only, pods, read_objects
from pod_security import violations

from teacherd.daemon.config import Config
from teacherd.daemon.config_parsing import overlay_environment, parse

DEPLOY = KUBERNETES.parent
MANIFESTS = sorted((KUBERNETES / "manifests").glob("*.yaml"))
VERSIONS = ("1.25", "1.34")
"""The oldest that the chart takes, and the one that it was tried on."""
OPERATORS_KINDS = {"ServiceMonitor", "PrometheusRule"}
"""Of the Prometheus operator: no part of Kubernetes' own schemas."""


@pytest.fixture(params=MANIFESTS, ids=lambda path: path.stem)
def objects(request: pytest.FixtureRequest) -> list[Object]:
    """Return the objects of a file, one file after the other."""
    path: Path = request.param
    return read_objects(path.read_text(encoding="utf-8"))


def named(name: str) -> list[Object]:
    """Return the objects of the manifest that belongs to an example."""
    return read_objects((KUBERNETES / "manifests" / f"{name}.yaml").read_text(encoding="utf-8"))


def config_of(objects: list[Object], name: str) -> Config:
    """Return the settings of the daemon (teacherd) or of the inference pods (teacherd-serve).

    Read as the process does: its file, and over it the environment that its pod gives it.
    """
    maps = {each["metadata"]["name"]: each for each in of_kind(objects, "ConfigMap")}
    raw = yaml.safe_load(maps[name]["data"]["config.yaml"])
    overlay_environment(raw, environment_of(objects, name))
    return parse(Config, raw, origin=name)


def environment_of(objects: list[Object], name: str) -> dict[str, str]:
    """Return the variables that a pod sets, out of Secrets of the chart's too."""
    templates = {each.partition("/")[2]: template for each, template in pods(objects)}
    container = templates[name]["spec"]["containers"][0]
    secrets = {each["metadata"]["name"]: each["stringData"] for each in of_kind(objects, "Secret")}
    found = {each["name"]: each["value"] for each in container.get("env", [])}
    for source in container.get("envFrom", []):
        found |= secrets.get(source["secretRef"]["name"], {})
    return found


def test_there_is_a_manifest_for_each_example() -> None:
    """Run deploy/kubernetes/render.sh after a new one."""
    examples = {path.name for path in (KUBERNETES / "examples").glob("*.yaml")}

    assert examples == {path.name for path in MANIFESTS}
    assert examples


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_knows_every_field(objects: list[Object], version: str) -> None:
    """By the schemas of that version, unknown keys refused."""
    for each in objects:
        if each["kind"] not in OPERATORS_KINDS:
            kubernetes_validate.validate(each, version, strict=True)


def test_the_schemas_are_not_blind(objects: list[Object]) -> None:
    """A mistyped field is refused, so that the test above says something."""
    broken = only(objects, "StatefulSet")
    broken["spec"]["template"]["spec"]["terminationGracePeriod"] = 1

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSIONS[-1], strict=True)


def test_pods_are_what_a_restricted_namespace_lets_in(objects: list[Object]) -> None:
    """Every container of every pod, with its root read-only besides, and no key to the cluster."""
    for name, template in pods(objects):
        pod = template["spec"]
        containers = [*pod.get("initContainers", []), *pod["containers"]]

        assert [] == violations(pod), name
        assert all(each["securityContext"]["readOnlyRootFilesystem"] for each in containers), name
        assert pod["automountServiceAccountToken"] is False, name


def test_no_service_becomes_a_setting(objects: list[Object]) -> None:
    """Kubernetes makes variables such as TEACHERD_PORT of a Service's name, unless told not to."""
    assert all(template["spec"]["enableServiceLinks"] is False for _, template in pods(objects))


def test_the_configuration_is_one_that_teacherd_takes(objects: list[Object]) -> None:
    """Not one unknown key; the daemon's holds nothing of the inference pods and the reverse."""
    daemon = config_of(objects, "teacherd")
    serve = config_of(objects, "teacherd-serve")

    assert "0.0.0.0" == daemon.endpoints.host == serve.serving.host  # noqa: S104 (in a pod)
    assert Config().serving == daemon.serving
    assert Config().process == serve.process


def test_what_the_inference_pods_load_is_what_the_daemon_publishes(objects: list[Object]) -> None:
    """Over HTTP from its Service, or from its volume, where it writes."""
    daemon = config_of(objects, "teacherd")
    root = config_of(objects, "teacherd-serve").serving.root
    services = {each["metadata"]["name"]: each for each in of_kind(objects, "Service")}
    port = services["teacherd"]["spec"]["ports"][0]["port"]
    over_http = f"{daemon.endpoints.scheme}://teacherd:{port}/public"
    in_the_volume = f"/daemon/{daemon.process.state_directory}/public"

    assert root == (over_http if daemon.endpoints.serve_versions else in_the_volume)


def test_whoever_may_post_has_to_show_a_token() -> None:
    """It comes out of a Secret, and is in no ConfigMap."""
    objects = named("stream-log")
    config = config_of(objects, "teacherd")
    texts = [text for each in of_kind(objects, "ConfigMap") for text in each["data"].values()]

    assert config.endpoints.accept_instances
    assert config.endpoints.token
    assert [] == [text for text in texts if config.endpoints.token in text]


def test_a_lineage_has_one_writer_with_a_claim_and_time_to_stop(objects: list[Object]) -> None:
    """One pod, a volume that outlives it, and a grace period above the deadline of a stop."""
    daemon = only(objects, "StatefulSet")["spec"]
    pod = daemon["template"]["spec"]
    claims = {each["metadata"]["name"] for each in daemon.get("volumeClaimTemplates", [])} | {
        each["name"] for each in pod["volumes"] if "persistentVolumeClaim" in each
    }
    shutdown = config_of(objects, "teacherd").process.shutdown_seconds

    assert 1 == daemon["replicas"]
    assert {"state": "/var/lib/teacherd"}.items() <= mounts(pod).items()
    assert "state" in claims
    assert pod["terminationGracePeriodSeconds"] > shutdown


def test_inference_pods_answer_what_they_were_asked(objects: list[Object]) -> None:
    """They stay until nobody is sent to them, and then have their own deadline."""
    pod = only(objects, "Deployment")["spec"]["template"]["spec"]
    before = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    shutdown = config_of(objects, "teacherd-serve").serving.shutdown_seconds

    assert pod["terminationGracePeriodSeconds"] > before + shutdown


def mounts(pod: Object) -> dict[str, str]:
    """Return where each volume lies in the first container."""
    return {each["name"]: each["mountPath"] for each in pod["containers"][0]["volumeMounts"]}


def test_all_that_is_mounted_is_there(objects: list[Object]) -> None:
    """Every mount has its volume or claim, every volume of the chart's its ConfigMap."""
    maps = {each["metadata"]["name"] for each in of_kind(objects, "ConfigMap")}
    for _, template in pods(objects):
        pod = template["spec"]
        volumes = {each["name"] for each in pod["volumes"]}
        ours = {each["configMap"]["name"] for each in pod["volumes"] if each["name"] == "config"}

        assert set(mounts(pod)) - {"state"} <= volumes
        assert ours <= maps


def test_kubelet_asks_where_the_process_answers(objects: list[Object]) -> None:
    """Three probes each, of endpoints that exist, by the scheme and at the port configured."""
    scheme = config_of(objects, "teacherd").endpoints.scheme.upper()
    for name, template in pods(objects):
        container = template["spec"]["containers"][0]
        probes = {
            kind: container[f"{kind}Probe"]["httpGet"]
            for kind in ("startup", "liveness", "readiness")
        }
        paths = {kind: probe["path"] for kind, probe in probes.items()}

        assert {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"} == paths, name
        assert {scheme} == {probe["scheme"] for probe in probes.values()}, name
        assert {"http"} == {probe["port"] for probe in probes.values()}, name
        assert ["http"] == [port["name"] for port in container["ports"]], name


def test_selectors_find_their_own_pods_and_no_others(objects: list[Object]) -> None:
    """Services, policies, budgets and monitors alike."""
    labels = {
        template["metadata"]["labels"]["app.kubernetes.io/component"]: template["metadata"][
            "labels"
        ]
        for _, template in pods(objects)
    }
    for each in objects:
        selector = selector_of(each)
        if selector is None:
            continue
        found = [name for name, of_pod in labels.items() if selector.items() <= of_pod.items()]

        assert [each["metadata"]["labels"]["app.kubernetes.io/component"]] == found


def selector_of(each: Object) -> dict[str, str] | None:
    """Return the labels that an object chooses pods (or their Service) by."""
    spec: Any = each.get("spec", {})
    if each["kind"] == "Service":
        return dict(spec["selector"])
    selector = spec.get("podSelector") or spec.get("selector")
    return dict(selector["matchLabels"]) if selector else None


def test_prometheus_gets_the_rules_and_the_names_that_they_go_by() -> None:
    """Alerts ask for job=teacherd, the dashboard for teacherd-loader as well."""
    objects = named("kafka")
    groups = [
        group
        for name in ("teacherd.rules.yml", "teacherd.alerts.yml")
        for group in yaml.safe_load((DEPLOY / "prometheus" / name).read_text())["groups"]
    ]
    jobs = [
        relabeling["replacement"]
        for monitor in of_kind(objects, "ServiceMonitor")
        for relabeling in monitor["spec"]["endpoints"][0]["relabelings"]
        if relabeling["targetLabel"] == "job"
    ]

    assert groups == only(objects, "PrometheusRule")["spec"]["groups"]
    assert ["teacherd", "teacherd-loader"] == jobs


def test_grafanas_sidecar_gets_the_dashboard() -> None:
    """As it lies in deploy/grafana, under the label that the sidecar looks for."""
    maps = {each["metadata"]["name"]: each for each in of_kind(named("kafka"), "ConfigMap")}
    dashboard = maps["teacherd-dashboard"]
    committed = (DEPLOY / "grafana" / "dashboards" / "teacherd.json").read_text(encoding="utf-8")

    assert committed == dashboard["data"]["teacherd.json"]
    assert "1" == dashboard["metadata"]["labels"]["grafana_dashboard"]


def test_only_those_who_are_named_reach_the_daemon(objects: list[Object]) -> None:
    """Its policy names peers, none of them everybody, and the inference pods first."""
    policies = {each["metadata"]["name"]: each for each in of_kind(objects, "NetworkPolicy")}
    peers = policies["teacherd"]["spec"]["ingress"][0]["from"]
    first = peers[0]["podSelector"]["matchLabels"]

    assert "serve" == first["app.kubernetes.io/component"]
    assert all(any(selector.get("matchLabels") for selector in peer.values()) for peer in peers)


def test_every_pod_says_what_it_needs_and_where_it_ends(objects: list[Object]) -> None:
    """Requests, so that it is scheduled where there is room, and a bound on its memory."""
    for name, template in pods(objects):
        for container in template["spec"]["containers"]:
            resources = container["resources"]

            assert {"cpu", "memory"} <= set(resources["requests"]), name
            assert "memory" in resources["limits"], name
