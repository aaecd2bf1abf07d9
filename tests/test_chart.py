"""The Helm chart by helm itself: what it renders, refuses and says."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helm_program import find_helm
from manifests import KUBERNETES, of_kind, only, read_objects

CHART = KUBERNETES / "chart"
EXAMPLES = sorted((KUBERNETES / "examples").glob("*.yaml"))
TO_BUILD_HELM = pytest.mark.timeout(1200)

sys.path.insert(0, str(KUBERNETES))  # as it is for a script

import values_schema  # noqa: E402 (found by the line above)

pytestmark = TO_BUILD_HELM


@pytest.fixture(scope="module")
def helm() -> Path:
    """Return the program; it may have to be built first."""
    return find_helm(os.environ)


def run(helm: Path, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """Run helm, which needs no cluster for this."""
    command = [str(each) for each in (helm, *arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def template(helm: Path, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """Render the chart as release `teacherd`."""
    return run(helm, "template", "teacherd", CHART, "--kube-version", "1.34", *arguments)


def rendered(helm: Path, *arguments: str) -> list[dict[str, object]]:
    """Return the objects of the chart with these values."""
    sets = [part for argument in arguments for part in ("--set-json", argument)]
    answer = template(helm, *sets)
    assert 0 == answer.returncode, answer.stderr
    return read_objects(answer.stdout)


def test_the_manifests_are_what_the_chart_renders(helm: Path, tmp_path: Path) -> None:
    """Run deploy/kubernetes/render.sh after each change of the chart."""
    script = tmp_path / "kubernetes" / "render.sh"
    shutil.copytree(KUBERNETES, script.parent)
    subprocess.run([str(script), str(helm)], check=True, capture_output=True)
    for committed in (KUBERNETES / "manifests").glob("*.yaml"):
        made = script.parent / "manifests" / committed.name

        assert committed.read_text(encoding="utf-8") == made.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "values", [None, *EXAMPLES], ids=lambda each: each.stem if each else "none"
)
def test_helm_has_nothing_to_complain_about(helm: Path, values: Path | None) -> None:
    """Also not a warning, with the defaults and with each example."""
    chosen = [] if values is None else ["--values", values]
    answer = run(helm, "lint", "--strict", "--kube-version", "1.34", CHART, *chosen)

    assert 0 == answer.returncode, answer.stdout + answer.stderr


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ("daemon: {resorces: {}}", "resorces"),
        ("serv: {replicas: 1}", "serv"),
        ("serve: {source: nfs}", "source"),
        ("config: {tasks: {instance: 5}}", "instance"),
        ("config: {source: redis}", "source"),
        ("config: {learning: {optimizer: {learning_rate: fast}}}", "learning_rate"),
        ("config: {publication: {mirrors: {share: {urll: x}}}}", "urll"),
        ("secret: {environment: {TEACHERD_ENDPOINTS_TOKEN: x}}", "TEACHERD_ENDPOINTS_TOKEN"),
        ("persistence: {size: plenty}", "size"),
    ],
)
def test_a_mistake_in_the_values_is_refused(
    helm: Path, tmp_path: Path, values: str, named: str
) -> None:
    """Before anything reaches the cluster, by name; in teacherd's own settings too."""
    path = tmp_path / "values.yaml"
    path.write_text(values)
    answer = template(helm, "--values", path)

    assert 0 != answer.returncode
    assert "schema" in answer.stderr
    assert named in answer.stderr


def test_the_schema_knows_the_configuration_of_today() -> None:
    """Run deploy/kubernetes/values_schema.py after each change of a setting."""
    assert values_schema.SCHEMA.read_text(encoding="utf-8") == values_schema.render()


def test_numbers_arrive_as_they_were_written(helm: Path) -> None:
    """Helm holds them as floats; a large one must not come out as 1e+06."""
    config = '{"tasks": {"max_records": 1000000}, "kafka": {"extra": {"receive": 16777216}}}'
    maps = of_kind(rendered(helm, f"config={config}"), "ConfigMap")
    text = maps[0]["data"]["config.yaml"]
    settings = yaml.safe_load(text)

    assert 1_000_000 == settings["tasks"]["max_records"]
    assert 16_777_216 == settings["kafka"]["extra"]["receive"]


def test_a_changed_setting_starts_only_those_pods_that_read_it(helm: Path) -> None:
    """The daemon's and the inference pods' are told apart."""
    plain, learning, serving = (
        rendered(helm, *changes)
        for changes in (
            [],
            ['config={"learning": {"epochs": 3}}'],
            ['config={"serving": {"max_batch": 8}}'],
        )
    )
    daemons = [only(each, "StatefulSet")["spec"]["template"] for each in (plain, learning, serving)]
    serves = [only(each, "Deployment")["spec"]["template"] for each in (plain, learning, serving)]

    assert daemons[0] != daemons[1]
    assert daemons[0] == daemons[2]
    assert serves[0] == serves[1]
    assert serves[0] != serves[2]


def test_ports_and_names_follow_the_settings(helm: Path) -> None:
    """Of daemon and inference pods, in Service, pod and the address that is loaded from."""
    objects = rendered(
        helm,
        'config={"endpoints": {"port": 9000}, "serving": {"port": 9001}}',
        'fullnameOverride="learner"',
    )
    ports = {
        each["metadata"]["name"]: each["spec"]["ports"][0]["port"]
        for each in of_kind(objects, "Service")
    }
    serve = next(
        each
        for each in of_kind(objects, "ConfigMap")
        if each["metadata"]["name"] == "learner-serve"
    )

    assert {"learner": 9000, "learner-serve": 9001} == ports
    assert "http://learner:9000/public" in serve["data"]["config.yaml"]


def test_without_inference_pods_nothing_is_left_of_them(helm: Path) -> None:
    """No Service, no policy, no budget, and nothing served to them."""
    objects = rendered(helm, 'serve={"enabled": false}')

    assert {"teacherd"} == {each["metadata"]["name"] for each in objects}
    assert "serve_versions" not in only(objects, "ConfigMap")["data"]["config.yaml"]
    assert [] == only(objects, "NetworkPolicy")["spec"]["ingress"]


def test_several_ranks_are_started_by_torchrun(helm: Path) -> None:
    """In the one pod that there is; a single one is the plain daemon."""
    arguments = ["run", "--config", "/etc/teacherd/config.yaml"]
    found = []
    for ranks in (1, 4):
        (daemon,) = of_kind(rendered(helm, f"daemon.ranks={ranks}"), "StatefulSet")
        (container,) = daemon["spec"]["template"]["spec"]["containers"]
        assert (1, arguments) == (daemon["spec"]["replicas"], container["args"])
        found.append(container.get("command"))

    assert [None, ["torchrun", "--nproc-per-node", "4", "-m", "teacherd.daemon"]] == found
    assert 0 != template(helm, "--set-json", "daemon.ranks=0").returncode


def test_several_pods_are_ranks_that_find_each_other_by_a_headless_service(helm: Path) -> None:
    """The first one, by whose name they meet, has the lineage and answers alone; no probes."""
    objects = rendered(helm, "daemon.pods=3", "daemon.ranks=2", 'config={"source": "kafka"}')
    daemon = only(objects, "StatefulSet")
    pod = daemon["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    services = {each["metadata"]["name"]: each["spec"] for each in of_kind(objects, "Service")}

    assert (3, "teacherd-ranks") == (daemon["spec"]["replicas"], daemon["spec"]["serviceName"])
    assert {"--nnodes=3", "--nproc-per-node=2"} < set(container["command"])
    assert "--rdzv-endpoint=teacherd-0.teacherd-ranks:29400" in container["command"]
    assert ["validate"] == [each["name"] for each in pod["initContainers"]]
    assert not any(name.endswith("Probe") for name in container)
    assert "None" == services["teacherd-ranks"]["clusterIP"]
    answering = services["teacherd"]["selector"]["statefulset.kubernetes.io/pod-name"]
    assert "teacherd-0" == answering
    refused = template(helm, "--set-json", "daemon.pods=2")
    assert "daemon.pods: above 1 needs config.source: kafka" in refused.stderr


def test_what_watches_is_off_until_it_is_asked_for(helm: Path) -> None:
    """A cluster without the Prometheus operator would refuse its kinds."""
    kinds = {each["kind"] for each in rendered(helm)}

    assert {"ServiceMonitor", "PrometheusRule", "Secret"} & kinds == set()


def test_the_packed_chart_has_all_that_it_renders(helm: Path, tmp_path: Path) -> None:
    """Its files are links into the checkout, which the archive must not have."""
    packed = run(helm, "package", CHART, "--destination", tmp_path)
    (archive,) = tmp_path.glob("*.tgz")
    values = KUBERNETES / "examples" / "kafka.yaml"
    answer = run(
        helm, "template", "teacherd", archive, "--kube-version", "1.34", "--values", values
    )

    assert 0 == packed.returncode
    assert template(helm, "--values", values).stdout == answer.stdout
