"""docs/events.md: every event of the code and no other, and a stream's events in their order."""

import ast
import re
import signal
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import yaml
from assemblies import feature_records
from base_models import CLASSES, NUM_FEATURES, untrained_base
from daemon_process import DaemonProcess

from teacherd.consumers.producing import NPY, build_record, encode_npy
from teacherd.consumers.record import NewRecord
from teacherd.consumers.stream_log import StreamLog, StreamLogConfig
from teacherd.daemon.commands import Command
from teacherd.daemon.control_socket import ask_daemon
from teacherd.daemon.entries import Config
from teacherd.daemon.lineage_log import read_lineage_log
from teacherd.daemon.publisher import HELD_BY_ROLLBACK

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `([a-z_]+)` \| ([a-z, ]+) \| ([^|]*)\|", re.MULTILINE)
LEVELS = ("debug", "info", "warning", "error", "exception", "critical")
LOGGERS = ("log", "logger", "get_logger")
OPEN_END = "..."
ALWAYS = {"event", "level", "timestamp"}
NEVER_A_FIELD = {"exc_info"}
TASK_INSTANCES = 20
JUDGED_INSTANCES = 120
"""Of a task of which enough is held out for the gate to hold nonsense back."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event by name, with the levels and fields that it may have."""

    name: str
    levels: frozenset[str]
    fields: frozenset[str]


def logged_events(tree: ast.Module) -> Iterator[Event]:
    """Yield an event for each place that logs; a level chosen at run time is in a `level = ...`."""
    chosen = {
        level
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "level"
        for level in re.findall(r"_log\.(\w+)", ast.unparse(node.value))
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        levels = _levels(node.func, chosen)
        if levels:
            yield _event(
                node, frozenset("error" if each == "exception" else each for each in levels)
            )


def _levels(function: ast.expr, chosen: set[str]) -> set[str]:
    if isinstance(function, ast.Name) and function.id == "level":
        return chosen
    if isinstance(function, ast.Attribute) and function.attr in LEVELS:
        owner = re.sub(r"\(.*\)$", "", ast.unparse(function.value))
        return {function.attr} if owner.split(".")[-1].lstrip("_") in LOGGERS else set()
    return set()


def _event(call: ast.Call, levels: frozenset[str]) -> Event:
    message = call.args[0]
    assert isinstance(message, ast.Constant), f"line {call.lineno}: an event's name is a literal"
    name, *rest = str(message.value).split()
    fields = {OPEN_END if each.arg is None else each.arg for each in call.keywords}
    in_text = {field.partition("=")[0] for field in rest}
    return Event(name, levels, frozenset((fields | in_text) - NEVER_A_FIELD))


def logged() -> dict[str, Event]:
    """Return every event of the three rooms; the demo's and the verbs' output is none."""
    found: dict[str, Event] = {}
    for room in ("daemon", "consumers", "models"):
        for path in sorted((ROOT / room).glob("*.py")):
            for event in logged_events(ast.parse(path.read_text(encoding="utf-8"))):
                before = found.get(event.name, event)
                found[event.name] = Event(
                    event.name, before.levels | event.levels, before.fields | event.fields
                )
    return found


def documented() -> dict[str, Event]:
    """Return every event that docs/events.md describes."""
    return {
        name: Event(
            name,
            frozenset(levels.split(", ")),
            frozenset(re.findall(r"`(\w+)`", fields))
            | (frozenset({OPEN_END}) if OPEN_END in fields else frozenset()),
        )
        for name, levels, fields in ROW.findall(DOCUMENT)
    }


def test_every_event_is_documented_with_its_level_and_fields() -> None:
    """Whatever can be logged under a name, and nothing that cannot."""
    assert logged() == documented()


def test_each_event_is_described_once() -> None:
    """Two rows for one event would come to contradict each other."""
    names = [name for name, _, _ in ROW.findall(DOCUMENT)]

    assert sorted(set(names)) == sorted(names)


def test_every_way_of_logging_is_seen() -> None:
    """The check would else pass by looking past a place that logs."""
    tree = ast.parse(
        "self._log.info('a', task=1)\n"
        "structlog.get_logger().warning('b')\n"
        "logger.error('c reason=%s', 1)\n"
        "level = self._log.info if x else self._log.warning\n"
        "level('d', **figures)\n"
        "log.append('no event')\n"
    )

    expected = [
        Event("a", frozenset({"info"}), frozenset({"task"})),
        Event("b", frozenset({"warning"}), frozenset()),
        Event("c", frozenset({"error"}), frozenset({"reason"})),
        Event("d", frozenset({"info", "warning"}), frozenset({OPEN_END})),
    ]
    assert expected == list(logged_events(tree))


def small_daemon(directory: Path, **sections: dict[str, Any]) -> DaemonProcess:
    """Return a daemon with tasks of twenty instances, or other sections, that is not started."""
    settings: dict[str, dict[str, Any]] = {
        "model": {"base": str(untrained_base(directory))},
        "process": {"state_directory": str(directory / "state"), "num_threads": 1},
        "stream_log": {"path": str(directory / "stream.db")},
        "tasks": {"instances": TASK_INSTANCES, "min_instances": 1, "max_age_seconds": 3600},
        "learning": {"epochs": 2, "consolidation": {"freezing_epochs": 1}},
        "gate": {"holdout_share": 0},
        "endpoints": {"port": 0},
        "logging": {"format": "json", "level": "debug"},
    }
    return DaemonProcess(directory, settings | sections)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    """Give a daemon that tells all; leave none behind."""
    with closing(small_daemon(tmp_path)) as process:
        yield process


def test_a_stream_is_told_event_by_event(daemon: DaemonProcess, tmp_path: Path) -> None:
    """Each event once and in order, with the fields that its row names; nothing per record."""
    log = StreamLog(StreamLogConfig(path=str(tmp_path / "stream.db")))
    log.append(feature_records(TASK_INSTANCES))
    log.append([build_record(b"junk", content_type=NPY, label="cat")])
    log.append(feature_records(TASK_INSTANCES, seed=1))
    log.close()
    daemon.start()
    daemon.wait_for_tasks(2)
    daemon.stop()
    events = [each for each in daemon.events() if each.get("event") in documented()]

    task = ["task_planned", "checkpoint_written", "version_published", "task_closed"]
    assert [
        "listening",
        "lineage_opened",
        "version_published",
        "started",
        *task,
        *task,
        "stopping",
        "checkpoint_written",
        "stopped",
    ] == [each["event"] for each in events]
    for event in events:
        _require_documented_fields(event)


@pytest.fixture
def judged(tmp_path: Path) -> Iterator[DaemonProcess]:
    """Give a daemon that learns boldly, with a gate that has an opinion; leave none behind."""
    inputs = np.random.default_rng(9).normal(size=(200, NUM_FEATURES)).astype(np.float32)
    np.savez(tmp_path / "holdout.npz", inputs=inputs, labels=inputs[:, :3].argmax(1))
    process = small_daemon(
        tmp_path,
        tasks={"instances": JUDGED_INSTANCES, "min_instances": 1, "max_age_seconds": 3600},
        learning={
            "epochs": 10,
            "batch_size": 16,
            "optimizer": {"learning_rate": 0.1},
            "distillation": {"label_share": 1.0, "dust_weight": 0.0},
            "consolidation": {"freezing_epochs": 1, "interval_epochs": 1, "retain": 0.1},
        },
        gate={
            "holdout_share": 0.3,
            "base_holdout": str(tmp_path / "holdout.npz"),
            "allowance": 0.3,
            "forgetting": 0.3,
            "grid": [1.0],
            "probation_tasks": 0,
        },
        logging={"format": "json"},
    )
    with closing(process):
        yield process


def append_task(daemon: DaemonProcess, seed: int, *, shift: int = 0) -> None:
    """Append one task, whose class is the largest of three features, or a wrong one by a shift."""
    inputs = np.random.default_rng(seed).normal(size=(JUDGED_INSTANCES, NUM_FEATURES))
    labels = (inputs[:, :3].argmax(1) + shift) % len(CLASSES)
    log = StreamLog(StreamLogConfig(path=str(daemon.directory / "stream.db")))
    log.append(record_of(*each) for each in zip(inputs, labels, strict=True))
    log.close()


def record_of(values: npt.NDArray[np.float64], label: int) -> NewRecord:
    """Return one labelled vector as a producer sends it."""
    value = encode_npy(values.astype(np.float32))
    return build_record(value, content_type=NPY, label=CLASSES[label])


def test_decisions_are_told_event_by_event(judged: DaemonProcess) -> None:
    """Held by the gate, reloaded, rolled back amid a task, retried, stopped: each once, in order.

    The whole sequence is compared, so that none is told twice or besides.
    """
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
    events = [each for each in judged.events() if each.get("event") in documented()]

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
    assert [each["event"] for each in expected] == [each["event"] for each in events]
    for fields, event in zip(expected, events, strict=True):
        assert fields == {name: event[name] for name in fields}
        _require_documented_fields(event)


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


def _require_documented_fields(event: dict[str, Any]) -> None:
    row = documented()[event["event"]]
    fields = set(event) - ALWAYS
    known = row.fields - {OPEN_END}

    assert known <= fields
    assert fields == known or OPEN_END in row.fields
    assert event["level"] in row.levels
