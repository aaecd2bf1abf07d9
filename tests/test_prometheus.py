"""The real Prometheus on real daemons: values, every query of the dashboard, and alerts."""

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from base_models import digits
from daemon_process import DaemonProcess
from kafka_broker import KafkaCluster
from kafka_daemon import feature_values, kafka_settings
from kafka_service import KafkaService
from programs import find_program
from prometheus_server import HASTE, PrometheusServer, hasten
from serving_process import ServingProcess
from stalling_proxy import StallingProxy
from stream_writing import append_digits

INSTALL = "apt-get install -y --no-install-recommends prometheus"
DASHBOARD = Path(__file__).parents[1] / "deploy" / "grafana" / "dashboards" / "teacherd.json"
TASK_INSTANCES = 40
NUM_TASKS = 3
LENIENT = {
    "holdout_share": 0.25,
    "allowance": 0.99,
    "forgetting": 0.99,
    "class_allowance": 0.99,
    "probation_tasks": 0,
}
"""A gate that holds out, and lets whatever is finite pass on so few instances."""
NEVER_FOR_A_DAEMON_THAT_IS_WELL = {
    "TeacherdDown",
    "TeacherdForgetting",
    "TeacherdTaskHeld",
    "TeacherdTaskQuarantined",
    "TeacherdNonFiniteLoss",
    "TeacherdRetentionMargin",
    "TeacherdDeadLetters",
    "TeacherdReloadRefused",
}
"""Those about time may fire when it is shortened two hundred times on a busy machine."""
ABOUT_SOURCES = {"TeacherdPartitionStalled", "TeacherdSourceUnavailable", "TeacherdDown"}
DRIFT_ALARMS = "sum(teacherd_drift_detected_total)"


def start_daemon(directory: Path, base: Path, **sections: dict[str, Any]) -> DaemonProcess:
    """Start a small daemon on digits."""
    directory.mkdir()
    data = digits()
    np.savez(directory / "plain.npz", inputs=data.inputs[-200:], labels=data.labels[-200:])
    settings: dict[str, dict[str, Any]] = {
        "model": {"base": str(base)},
        "process": {"state_directory": str(directory / "state"), "num_threads": 1},
        "stream_log": {"path": str(directory / "stream.db")},
        "tasks": {"instances": TASK_INSTANCES, "min_instances": 1, "max_age_seconds": 3600},
        "learning": {"epochs": 4, "consolidation": {"freezing_epochs": 1, "interval_epochs": 1}},
        "evaluation": {"sets": {"plain": str(directory / "plain.npz")}},
        "gate": {"holdout_share": 0},  # whatever is finite passes, also what forgets
        "endpoints": {"port": 0},
        "logging": {"format": "json"},
    }
    return DaemonProcess(directory, settings | sections).start()


def append(daemon: DaemonProcess, start: int, end: int, *, shift: int = 0) -> None:
    """Append digits start to end, whose labels are wrong by a shift."""
    append_digits(daemon.directory / "stream.db", start, end, shift=shift)


@dataclass(frozen=True, slots=True)
class Watched:
    """A daemon that has learned and is well, and the Prometheus that watches it."""

    daemon: DaemonProcess
    prometheus: PrometheusServer
    serving: ServingProcess
    """An inference server that follows the daemon."""

    @property
    def instance(self) -> str:
        """Its name in Prometheus."""
        return f"127.0.0.1:{self.daemon.port}"


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, digits_base_model: Path) -> Iterator[Watched]:
    """Watch a daemon from its start until some tasks are learned."""
    import os  # noqa: PLC0415 (beside its one use)

    program = find_program("prometheus", INSTALL, environment=os.environ)
    directory = tmp_path_factory.mktemp("watched")
    daemon = start_daemon(
        directory / "daemon",
        digits_base_model,
        drift={"min_instances": TASK_INSTANCES // 2},
        gate=LENIENT,
        publication={"mirrors": {"copy": {"url": (directory / "copy").as_uri()}}},
    )
    with closing(daemon), ServingProcess(directory, daemon.state / "public") as serving:
        targets = [f"127.0.0.1:{daemon.port}"]
        server = PrometheusServer(
            program, directory / "prometheus", targets, loaders=[serving.address]
        )
        with closing(server) as prometheus:
            prometheus.wait_until(prometheus.is_ready)
            prometheus.wait_until(lambda: prometheus.value("teacherd_teacher_version") == 0)
            append(daemon, 0, NUM_TASKS * TASK_INSTANCES)
            daemon.wait_for_tasks(NUM_TASKS)
            learned = "teacherd_teacher_version"
            prometheus.wait_until(lambda: prometheus.value(learned) == NUM_TASKS)
            loaded = "teacherd_loader_version"
            prometheus.wait_until(lambda: prometheus.value(loaded) == NUM_TASKS)
            yield Watched(daemon, prometheus, serving)


def test_prometheus_has_the_values_of_the_daemon(watched: Watched) -> None:
    """What /status says and what Prometheus answers are the same figures."""
    status, prometheus = watched.daemon.status(), watched.prometheus
    learned = {"topic": "instances", "partition": "0"}

    assert status["lineage"]["current"] == prometheus.value("teacherd_teacher_version")
    assert NUM_TASKS == prometheus.value('teacherd_tasks_total{outcome="accepted"}')
    assert 0 == prometheus.value('teacherd_tasks_total{outcome="held"}')
    (consumed,) = prometheus.query("teacherd_records_consumed_total")
    assert learned.items() <= consumed["metric"].items()
    assert NUM_TASKS * TASK_INSTANCES == float(consumed["value"][1])
    accuracy = prometheus.value('teacherd_accuracy_ratio{split="plain", model="teacher"}')
    assert pytest.approx(status["learning"]["teacher_accuracy"]["plain"]) == accuracy
    forgetting = pytest.approx(status["learning"]["forgetting"]["plain"])
    recorded = "instance:teacherd_forgetting_ratio:max"  # an evaluation behind what is scraped
    prometheus.wait_until(lambda: prometheus.value(recorded) == forgetting)


def test_every_query_of_the_dashboard_has_an_answer(watched: Watched) -> None:
    """No panel is empty once the daemon has learned and its teacher has been asked.

    Variables are filled in as Grafana would.
    """
    queries = [query for each in queries_by_panel().values() for query in each]

    def empty() -> list[str]:
        return [query for query in queries if not has_numbers(watched.prometheus, filled(query))]

    ask_the_teacher(watched.serving)
    watched.prometheus.wait_until(lambda: not empty(), otherwise=empty)

    assert len(queries) > 50


def queries_by_panel() -> dict[str, list[str]]:
    """Return the queries of each panel of the dashboard, by its title."""
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return {
        panel["title"]: [target["expr"] for target in panel.get("targets", ())] for panel in panels
    }


def has_numbers(prometheus: PrometheusServer, query: str) -> bool:
    """Tell whether a panel would draw anything."""
    return any(each["value"][1] != "NaN" for each in prometheus.query(query))


def ask_the_teacher(serving: ServingProcess) -> None:
    """Send some inference requests."""
    inputs = digits().inputs[:2]
    tensor = {
        "name": "inputs",
        "shape": list(inputs.shape),
        "datatype": "UINT8",
        "data": inputs.flatten().tolist(),
    }
    for _ in range(5):
        code, answer = serving.get(
            "/v2/models/teacher/infer", json.dumps({"inputs": [tensor]}).encode()
        )
        assert 200 == code, answer


def filled(query: str) -> str:
    """Return a query of the dashboard as Grafana sends it."""
    return query.replace("$instance", ".*").replace("$__rate_interval", "5m")


def test_no_alert_fires_for_a_daemon_that_is_well(watched: Watched) -> None:
    """It has learned, and waits for more.

    Only for a moment, where a busy machine is late with a scrape, it may seem to be down.
    """

    def wrongly() -> set[str]:
        return watched.prometheus.firing(watched.instance) & NEVER_FOR_A_DAEMON_THAT_IS_WELL

    watched.prometheus.wait_until(lambda: "TeacherdDown" not in wrongly())

    assert set() == wrongly() - {"TeacherdDown"}


def test_faults_fire_their_alerts(
    tmp_path: Path, digits_base_model: Path, requires_program: Callable[[str, str], Path]
) -> None:
    """Drift that is followed into forgetting, a task without a checkpoint, a crash.

    The rules are the shipped ones; only their spans of time are divided.
    """
    program = requires_program("prometheus", INSTALL)
    learning = {
        "epochs": 10,
        "consolidation": {"kind": "none"},
        "optimizer": {"kind": "sgd", "decay": "none", "learning_rate": 0.02},
        "distillation": {"label_share": 1.0, "dust_weight": 0.0},
    }
    daemon = start_daemon(
        tmp_path / "ill",
        digits_base_model,
        learning=learning,
        drift={"min_instances": 100},
        checkpoints={"interval_seconds": 3600.0},
    )
    instance = f"127.0.0.1:{daemon.port}"
    prometheus = PrometheusServer(program, tmp_path / "prometheus", [instance])

    def fires(name: str) -> Callable[[], bool]:
        # Hastened two hundred times, an alert may be over before a busy machine looks.
        return lambda: name in prometheus.fired(instance)

    with closing(daemon), closing(prometheus):
        prometheus.wait_until(prometheus.is_ready)
        append(daemon, 0, 4 * TASK_INSTANCES)
        daemon.wait_for_tasks(4)
        # An increase is one over what was scraped before it.
        prometheus.wait_until(lambda: prometheus.value(DRIFT_ALARMS) == 0)
        append(daemon, 0, 3 * TASK_INSTANCES, shift=1)
        prometheus.wait_until(fires("TeacherdDrift"))
        prometheus.wait_until(fires("TeacherdForgetting"))

        assert "forgetting" in [each["about"] for each in daemon.status()["problems"]]

        learn_for_ever(daemon)
        # Learning may wait for a task already, and takes new settings over between two.
        append(daemon, 0, 2 * TASK_INSTANCES)
        prometheus.wait_until(fires("TeacherdCheckpointOld"))
        prometheus.wait_until(fires("TeacherdLagGrowing"))
        daemon.kill()
        prometheus.wait_until(fires("TeacherdDown"))


def learn_for_ever(daemon: DaemonProcess) -> None:
    """Give the next task more epochs than the test has time for."""
    settings = yaml.safe_load(daemon.config_path.read_text(encoding="utf-8"))
    settings["learning"]["epochs"] = 1_000_000
    daemon.config_path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_until(lambda: bool(daemon.events("reloaded")))


@pytest.fixture
def stallable(tmp_path: Path) -> Iterator[tuple[StallingProxy, KafkaService]]:
    """Give a real broker of which fetches can be made to find nothing."""
    directory = tmp_path / "brokers"
    directory.mkdir()
    with (
        closing(StallingProxy()) as proxy,
        closing(KafkaCluster(directory, advertised_port=proxy.port)) as cluster,
    ):
        proxy.target_port = cluster.nodes[0].port
        cluster.start()
        yield proxy, KafkaService(f"127.0.0.1:{proxy.port}", cluster)


def test_a_partition_that_gives_nothing_fires_its_alert(
    tmp_path: Path,
    stallable: tuple[StallingProxy, KafkaService],
    requires_program: Callable[[str, str], Path],
) -> None:
    """It is the partition's alert and not the broker's, which answers; it ends with the stall."""
    program = requires_program("prometheus", INSTALL)
    proxy, kafka = stallable
    topic = kafka.create_topic()
    directory = tmp_path / "stalled"
    directory.mkdir()
    stalls_soon = {"stall_seconds": 2.0}
    settings = kafka_settings(directory, kafka.bootstrap, topic, kafka=stalls_soon)
    with closing(DaemonProcess(directory, settings)) as daemon:
        instance = f"127.0.0.1:{daemon.start().port}"
        with closing(PrometheusServer(program, tmp_path / "prometheus", [instance])) as prometheus:
            prometheus.wait_until(prometheus.is_ready)
            kafka.produce(topic, feature_values(10))
            daemon.wait_for_tasks(1)
            stalled = f'teacherd_partition_stalled{{topic="{topic}", partition="0"}}'
            # On a busy machine fetches may find nothing for two seconds by themselves.
            prometheus.wait_until(lambda: prometheus.value(stalled) == 0)
            prometheus.wait_until(lambda: not prometheus.firing(instance) & ABOUT_SOURCES)

            proxy.stall()
            kafka.produce(topic, feature_values(10, seed=1))
            prometheus.wait_until(
                lambda: {"TeacherdPartitionStalled"} == prometheus.firing(instance) & ABOUT_SOURCES
            )

            alert = 'alertname="TeacherdPartitionStalled", alertstate="firing"'
            firing = f'ALERTS{{{alert}, topic="{topic}", partition="0"}}'
            prometheus.wait_until(lambda: prometheus.value(firing) == 1)
            assert "stalled" in [each["about"] for each in daemon.status()["problems"]]
            (query,) = queries_by_panel()["Stalled partitions"]
            assert 1 == prometheus.value(filled(query))

            proxy.flow()
            daemon.wait_for_tasks(2)
            prometheus.wait_until(
                lambda: "TeacherdPartitionStalled" not in prometheus.firing(instance)
            )


def test_only_spans_of_time_are_hastened() -> None:
    """Shares, counts and what compares with 0 stay as they are shipped."""
    assert f"x[9000ms] > {3600 / HASTE}" == hasten("x[30m] > 3600")
    assert "x[3000ms] < 3.0" == hasten("x[1m] < 120")
    assert "max by (a) (x) > 0.05 and y == 0" == hasten("max by (a) (x) > 0.05 and y == 0")
