"""docs/events.md: every event of the code and no other, and a stream's events in their order."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from assemblies import feature_records
from base_models import untrained_base
from daemon_process import DaemonProcess

from teacherd.consumers.producing import NPY, build_record
from teacherd.consumers.stream_log import StreamLog, StreamLogConfig

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `([a-z_]+)` \| ([a-z, ]+) \| ([^|]*)\|", re.MULTILINE)
LEVELS = ("debug", "info", "warning", "error", "exception", "critical")
LOGGERS = ("log", "logger", "get_logger")
OPEN_END = "..."
ALWAYS = {"event", "level", "timestamp"}
NEVER_A_FIELD = {"exc_info"}
TASK_INSTANCES = 20


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


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    """Give a daemon with tasks of twenty instances that tells all; leave none behind."""
    process = DaemonProcess(
        tmp_path,
        {
            "model": {"base": str(untrained_base(tmp_path))},
            "process": {"state_directory": str(tmp_path / "state"), "num_threads": 1},
            "stream_log": {"path": str(tmp_path / "stream.db")},
            "tasks": {"instances": TASK_INSTANCES, "min_instances": 1, "max_age_seconds": 3600},
            "learning": {"epochs": 2, "consolidation": {"freezing_epochs": 1}},
            "gate": {"holdout_share": 0},
            "endpoints": {"port": 0},
            "logging": {"format": "json", "level": "debug"},
        },
    )
    yield process
    process.close()


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


def _require_documented_fields(event: dict[str, Any]) -> None:
    row = documented()[event["event"]]
    fields = set(event) - ALWAYS
    known = row.fields - {OPEN_END}

    assert known <= fields
    assert fields == known or OPEN_END in row.fields
    assert event["level"] in row.levels
