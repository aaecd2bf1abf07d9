"""The events of whole streams, in order: each once, with the fields that docs/events.md names.

The whole sequence is compared, so that none is told twice or besides.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import yaml
from assemblies import feature_records
from base_models import CLASSES, NUM_FEATURES, untrained_base
from daemon_process import DaemonProcess
from events_document import require_sequence
from kafka_broker import KafkaCluster
from kafka_daemon import feature_values, kafka_settings
from kafka_service import KafkaService
from stream_writing import append_records

from teacherd.consumers.producing import NPY, build_record, encode_npy
from teacherd.consumers.record import NewRecord
from teacherd.daemon.commands import Command
from teacherd.daemon.control_socket import ask_daemon
from teacherd.daemon.durable import FAILPOINT_VARIABLE
from teacherd.daemon.entries import Config
from teacherd.daemon.lineage_log import read_lineage_log
from teacherd.daemon.publisher import HELD_BY_ROLLBACK

Judge = Callable[..., DaemonProcess]
GATE: dict[str, Any] = {"holdout_share": 0.3, "grid": [1.0], "probation_tasks": 0}
TASK_INSTANCES = 20
JUDGED_INSTANCES = 120
"""Of a task of which enough is held out for the gate to hold nonsense back."""


def small_daemon(
    directory: Path, environment: dict[str, str] | None = None, **sections: dict[str, Any]
) -> DaemonProcess:
    """Return a daemon with tasks of twenty instances, or other sections, that is not started."""
    settings: dict[str, dict[str, Any]] = {
        "model": {"base": str(untrained_base(directory))},
        "process": {"state_directory": str(directory / "state"), "num_threads": 1},
        "stream_log": {"path": str(directory / "stream.db")},
        "tasks": {"instances": TASK_INSTANCES, "min_instances": 1, "max_age_seconds": 3600},
        "learning": {"epochs": 2, "consolidation": {"freezing_epochs": 1}},
        # None inside a task, however long a busy machine is at it.
        "checkpoints": {"interval_seconds": 3600.0},
        "gate": {"holdout_share": 0},
        "endpoints": {"port": 0},
        "logging": {"format": "json", "level": "debug"},
    }
    return DaemonProcess(directory, settings | sections, environment)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    """Give a daemon that tells all; leave none behind."""
    with closing(small_daemon(tmp_path)) as process:
        yield process


def test_a_stream_is_told_event_by_event(daemon: DaemonProcess, tmp_path: Path) -> None:
    """Each event once and in order, with the fields that its row names; nothing per record."""
    junk = build_record(b"junk", content_type=NPY, label="cat")
    records = [*feature_records(TASK_INSTANCES), junk, *feature_records(TASK_INSTANCES, seed=1)]
    append_records(tmp_path / "stream.db", records)
    daemon.start()
    daemon.wait_for_tasks(2)
    daemon.stop()
    *events, before, last, stopped = daemon.events()
    # The end is told by one thread, its checkpoint written by another.
    ending = sorted((before, last), key=lambda each: str(each["event"]), reverse=True)

    def task(number: int) -> list[dict[str, Any]]:
        told = ("task_planned", "checkpoint_written", "version_published", "task_closed")
        return [{"event": name} for name in told[:3]] + [{"event": told[3], "task": number}]

    expected = [
        {"event": "listening"},
        {"event": "lineage_opened"},
        {"event": "version_published"},
        {"event": "started"},
        *task(1),
        *task(2),
        {"event": "stopping"},
        {"event": "checkpoint_written"},
        {"event": "stopped"},
    ]
    require_sequence(expected, [*events, *ending, stopped])


@pytest.fixture
def judge(tmp_path: Path) -> Iterator[Judge]:
    """Give `judge(**sections)`: a daemon that learns boldly, with a gate; leave none behind."""
    with ExitStack() as opened:

        def judge_one(**sections: dict[str, Any]) -> DaemonProcess:
            process = small_daemon(
                tmp_path,
                tasks={
                    "instances": JUDGED_INSTANCES,
                    "min_instances": 1,
                    "max_age_seconds": 3600,
                },
                learning={
                    "epochs": 10,
                    "batch_size": 16,
                    "optimizer": {"kind": "sgd", "decay": "none", "learning_rate": 0.1},
                    "distillation": {"label_share": 1.0, "dust_weight": 0.0},
                    "consolidation": {"freezing_epochs": 1, "interval_epochs": 1, "retain": 0.1},
                },
                logging={"format": "json"},
                **sections,
            )
            opened.enter_context(closing(process))
            return process

        yield judge_one


def append_task(daemon: DaemonProcess, seed: int, *, shift: int = 0) -> None:
    """Append one task, whose class is the largest of three features, or a wrong one by a shift."""
    inputs = np.random.default_rng(seed).normal(size=(JUDGED_INSTANCES, NUM_FEATURES))
    labels = (inputs[:, :3].argmax(1) + shift) % len(CLASSES)
    records = (record_of(*each) for each in zip(inputs, labels, strict=True))
    append_records(daemon.directory / "stream.db", records)


def record_of(values: npt.NDArray[np.float64], label: int) -> NewRecord:
    """Return one labelled vector as a producer sends it."""
    value = encode_npy(values.astype(np.float32))
    return build_record(value, content_type=NPY, label=CLASSES[label])


def test_decisions_are_told_event_by_event(judge: Judge, tmp_path: Path) -> None:
    """Held by the gate, reloaded, rolled back amid a task, retried, stopped: each once."""
    inputs = np.random.default_rng(9).normal(size=(200, NUM_FEATURES)).astype(np.float32)
    np.savez(tmp_path / "holdout.npz", inputs=inputs, labels=inputs[:, :3].argmax(1))
    judged = judge(
        gate={
            **GATE,
            "base_holdout": str(tmp_path / "holdout.npz"),
            "allowance": 0.3,
            "forgetting": 0.3,
        }
    )
    judged.start()
    append_task(judged, 1)
    judged.wait_for_tasks(1)
    append_task(judged, 2, shift=1)
    judged.wait_for_tasks(2)
    reload_with(judged, epochs=1_000_000)
    append_task(judged, 3)
    judged.wait_until(lambda: judged.status()["task"]["number"] == 3)
    ask_daemon(judged.state, Command("rollback", 0))
    ask_daemon(judged.state, Command("retry", 2))
    judged.wait_until(lambda: len(judged.events("task_closed")) == 4)
    assert 0 == judged.stop()

    expected: list[dict[str, Any]] = [
        {"event": "listening", "port": judged.port},
        {"event": "lineage_opened", "classes": len(CLASSES)},
        {"event": "version_published", "version": 0},
        {"event": "started", "version": 0},
        {"event": "task_planned", "task": 1, "head": 0, "epochs": 10},
        {"event": "version_published", "version": 1},
        {"event": "task_closed", "task": 1, "outcome": "accepted", "version": 1},
        {"event": "task_planned", "task": 2, "head": 1, "epochs": 10},
        {"event": "drift_suspected", "task": 2},
        {"event": "task_closed", "task": 2, "outcome": "held", "gate": "failed"},
        {"event": "reloaded", "changed": ["learning.epochs"]},
        {"event": "task_planned", "task": 3, "head": 1, "epochs": 1_000_000},
        {"event": "task_closed", "task": 3, "outcome": "held", "reasons": [HELD_BY_ROLLBACK]},
        {"event": "version_published", "version": 2},
        {"event": "rolled_back", "version": 2, "to": 0, "cause": "request"},
        {"event": "task_retried", "task": 2, "attempt": 2},
        {"event": "task_closed", "task": 2, "outcome": "held", "gate": "failed"},
        {"event": "stopping"},
        {"event": "stopped", "exit_code": 0},
    ]
    require_sequence(expected, judged.events())


def test_a_drift_is_told_event_by_event(judge: Judge) -> None:
    """Seen by a detector, confirmed by the gate, learned: once, before the task's end."""
    daemon = judge(
        gate={**GATE, "allowance": 0.3, "forgetting": 0.1, "class_allowance": 0.99},
        drift={"min_instances": JUDGED_INSTANCES, "watch_inputs": False, "watch_labels": False},
    )
    daemon.start()
    for number, shift in ((1, 0), (2, 0), (3, 0), (4, 1)):
        append_task(daemon, number, shift=shift)
        daemon.wait_for_tasks(number)
    assert 0 == daemon.stop()

    def accepted(number: int, *between: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            {"event": "task_planned", "task": number},
            {"event": "version_published", "version": number},
            *between,
            {"event": "task_closed", "task": number, "outcome": "accepted", "gate": "passed"},
        ]

    expected = [
        {"event": "listening"},
        {"event": "lineage_opened"},
        {"event": "version_published", "version": 0},
        {"event": "started"},
        *accepted(1),
        *accepted(2),
        *accepted(3),
        *accepted(
            4,
            {"event": "drift_confirmed", "task": 4, "retired": [1, 2, 3], "base": False},
            {"event": "drift_detected", "task": 4, "detector": "error"},
        ),
        {"event": "stopping"},
        {"event": "stopped", "exit_code": 0},
    ]
    require_sequence(expected, daemon.events())


def test_a_killed_task_is_told_as_resumed(tmp_path: Path) -> None:
    """The next start says at which step it goes on, and tells no version twice."""
    sections = {
        "learning": {"epochs": 40, "consolidation": {"freezing_epochs": 1}},
        "checkpoints": {"interval_steps": 5},
    }
    append_records(tmp_path / "stream.db", feature_records(TASK_INSTANCES))
    third_checkpoint = {FAILPOINT_VARIABLE: "checkpoint.made:3"}
    with closing(small_daemon(tmp_path, environment=third_checkpoint, **sections)) as killed:
        killed.spawn()

        assert -signal.SIGKILL == killed.wait()
        (step, *_) = [each["step"] for each in killed.events("checkpoint_written")]
    with closing(small_daemon(tmp_path, **sections)) as daemon:
        daemon.start()
        daemon.wait_for_tasks(1)
        daemon.stop()
    events = [each for each in daemon.events() if each["event"] != "checkpoint_written"]

    expected = [
        {"event": "listening"},
        {"event": "version_published", "version": 0},
        {"event": "task_resumed", "task": 1},
        {"event": "started", "version": 0},
        {"event": "version_published", "version": 1},
        {"event": "task_closed", "task": 1, "outcome": "accepted"},
        {"event": "stopping"},
        {"event": "stopped", "exit_code": 0},
    ]
    require_sequence(expected, events)

    (resumed,) = daemon.events("task_resumed")
    assert step <= resumed["step"]


def reload_with(daemon: DaemonProcess, *, epochs: int) -> None:
    """Change learning.epochs, and wait until the daemon has told so and learning has taken it."""
    settings = yaml.safe_load(daemon.config_path.read_text(encoding="utf-8"))
    settings["learning"]["epochs"] = epochs
    daemon.config_path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_until(lambda: bool(daemon.events("reloaded")))
    daemon.wait_until(lambda: epochs_in_force(daemon) == epochs)


def epochs_in_force(daemon: DaemonProcess) -> int:
    """Return learning.epochs of the newest settings in the lineage log."""
    entries = [logged.entry for logged in read_lineage_log(daemon.state / "lineage.log")]
    settings = [entry.settings for entry in entries if isinstance(entry, Config)]
    epochs: int = settings[-1]["learning"]["epochs"]
    return epochs


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[KafkaCluster]:
    """Give a broker that may be mistreated."""
    directory = tmp_path / "broker"
    directory.mkdir()
    with closing(KafkaCluster(directory)) as opened:
        yield opened.start()


def test_what_a_broker_does_is_told_event_by_event(cluster: KafkaCluster, tmp_path: Path) -> None:
    """It goes away, comes back, and has deleted records: each once, the broker being real."""
    service = KafkaService(cluster.bootstrap, cluster)
    topic = service.create_topic()
    settings = kafka_settings(
        tmp_path,
        cluster.bootstrap,
        topic,
        kafka={"on_lost_records": "continue"},
        gate={"holdout_share": 0},
    )
    with closing(DaemonProcess(tmp_path, settings)) as daemon:
        daemon.start()
        service.produce(topic, feature_values(10))
        daemon.wait_for_tasks(1)
        cluster.kill()
        daemon.wait_until(lambda: bool(daemon.events("source_unavailable")))
        cluster.start()
        daemon.wait_until(lambda: bool(daemon.events("source_recovered")))
        daemon.stop()
        first = daemon.events()
        service.produce(topic, feature_values(10, seed=1))
        service.delete_records(topic, 0, below=15)
        service.produce(topic, feature_values(5, seed=2))
        daemon.start()
        daemon.wait_for_tasks(2)
        daemon.stop()

    lost = {"topic": topic, "partition": 0, "start": 10, "end": 15}
    ending = [{"event": "stopping"}, {"event": "stopped", "exit_code": 0}]
    expected = [
        {"event": "listening"},
        {"event": "lineage_opened"},
        {"event": "version_published", "version": 0},
        {"event": "started", "version": 0},
        {"event": "task_planned", "task": 1, "cause": "count", "records": 10},
        {"event": "version_published", "version": 1},
        {"event": "task_closed", "task": 1, "outcome": "accepted"},
        {"event": "source_unavailable", "failures": 1},
        {"event": "source_recovered"},
        *ending,
    ]
    # The commit that the broker's death may hit is tried again as long as it is away.
    require_sequence(expected, [each for each in first if each["event"] != "release_failed"])
    expected = [
        {"event": "listening"},
        {"event": "records_skipped", **lost},
        {"event": "version_published", "version": 1},
        {"event": "started", "version": 1},
        {"event": "task_planned", "task": 2, "cause": "count", "records": 10},
        {"event": "version_published", "version": 2},
        {"event": "task_closed", "task": 2, "outcome": "accepted"},
        *ending,
    ]
    require_sequence(expected, daemon.events())
