"""Drift in a running daemon: seen, told, and by configuration answered."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from assemblies import CLASSES, NUM_FEATURES, Bench, make_bench

from teacherd.consumers.producing import NPY, build_record, encode_npy
from teacherd.consumers.record import NewRecord
from teacherd.daemon.assembly import Assembly
from teacherd.daemon.drift_history import DriftHistory
from teacherd.daemon.lineage import Lineage
from teacherd.daemon.lineage_log import read_lineage_log

WATCHED = {"min_instances": 60, "watch_inputs": True}
LEARNED = {
    "epochs": 12,
    "optimizer": {"kind": "sgd", "decay": "none", "learning_rate": 0.1},
    "distillation": {"form": "fused", "temperature": 1.0},
    "consolidation": {"freezing_epochs": 1, "interval_epochs": 1, "retain": 0.1},
}


def records(count: int, *, seed: int, turned: bool = False) -> list[NewRecord]:
    """Return instances whose class is the largest of three features; turned: the next one's."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        inputs = (3 * rng.normal(size=NUM_FEATURES)).astype(np.float32)
        label = (int(inputs[:3].argmax()) + turned) % 3
        made.append(build_record(encode_npy(inputs), content_type=NPY, label=CLASSES[label]))
    return made


def bench_of(directory: Path, **drift: Any) -> Bench:  # noqa: ANN401 (settings)
    """Make a bench with tasks of 60 that learns fast."""
    return make_bench(
        directory,
        tasks={"instances": 60, "min_instances": 20, "max_age_seconds": 600},
        learning=LEARNED,
        drift={**WATCHED, **drift},
        # Probation would roll back at the same drift, and begin the task once more.
        gate={"holdout_share": 0, "probation_tasks": 0},
    )


def learn(assembly: Assembly, num_tasks: int = 1) -> None:
    """Take in what there is, and learn so many tasks."""
    for _ in range(num_tasks):
        assembly.intake.tick()
        assembly.learning.tick()
        while assembly.learning.is_busy:
            assembly.learning.tick()


def state(history: DriftHistory) -> object:
    """Return everything that a history holds, comparable."""
    return (
        history.last_task,
        history.errors_begin,
        [each.tolist() for each in history.errors],
        list(history.ratios),
        history.open_errors.tolist(),
        history.scale,
        history.last_alarm_ms,
        history.last_alarm_task,
        history.alarms_of_last_task,
        history.last_scores,
    )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Return a bench on which four tasks have been appended."""
    bench = bench_of(tmp_path)
    bench.append(records(240, seed=1))
    return bench


def test_a_turned_concept_alarms_the_detector_of_the_error(bench: Bench) -> None:
    """Outcome, metrics and status say so; what was learned before is no yardstick any more."""
    assembly = bench.assemble()
    learn(assembly, 4)
    bench.append(records(60, seed=2, turned=True))
    learn(assembly)
    before, alarmed = bench.outcomes()[-2:]
    status = bench.board.snapshot()["drift"]
    assembly.close()

    assert () == before.alarms
    assert ("error",) == alarmed.alarms
    assert alarmed.figures["drift.error"] > alarmed.figures["drift.error.threshold"]
    assert 1 == bench.value("drift_detected_total", detector="error")
    assert alarmed.figures["drift.error"] == bench.value("drift_score", detector="error")
    threshold = bench.value("drift_threshold", detector="error")
    assert alarmed.figures["drift.error.threshold"] == threshold
    at = bench.value("drift_last_alarm_timestamp_seconds", detector="error")
    assert alarmed.figures["newest_event_ms"] / 1000 == at
    assert 5 == status["error"]["last_alarm_task"]
    assert alarmed.figures["drift.error"] == status["error"]["score"]
    assert status["error"]["alarmed"]
    assert not status["labels"]["alarmed"]
    assert status["labels"]["last_alarm_task"] is None


def test_a_restart_goes_on_with_the_same_history(bench: Bench) -> None:
    """It follows from the lineage log alone: a crash changes no alarm, and no time of one."""
    assembly = bench.assemble()
    learn(assembly, 4)
    bench.append(records(60, seed=2, turned=True))
    learn(assembly)
    lived = assembly.learning._journal.lineage.drift
    assembly.close()
    read = Lineage()
    for logged in read_lineage_log(bench.directory / "state" / "lineage.log"):
        read.apply(logged.entry)

    assert state(lived) == state(read.drift)

    (alarmed,) = bench.outcomes()[-1:]
    for metric in (bench.metrics.drift_last_alarm, bench.metrics.drift_score):
        metric.clear()
    again = bench.assemble()
    status = bench.board.snapshot()["drift"]

    assert bench.value("drift_last_alarm_timestamp_seconds", detector="error")
    assert alarmed.figures["drift.error"] == bench.value("drift_score", detector="error")
    assert alarmed.figures["drift.error"] == status["error"]["score"]

    again.close()


def test_drift_in_what_waits_cuts_the_task_and_raises_the_learning_rate(tmp_path: Path) -> None:
    """Asked for; the plan records both, so that a replay needs neither clock nor look."""
    bench = bench_of(tmp_path, cut_early=True, learning_rate_factor=2.0)
    bench.append(records(240, seed=1))
    assembly = bench.assemble()
    learn(assembly, 4)
    bench.append(records(56, seed=2, turned=True))
    learn(assembly)
    bench.append(records(120, seed=3, turned=True))
    learn(assembly, 2)
    usual, early, after, *_ = bench.plans()[3:]
    assembly.close()

    assert ("count", 60, 0.1) == (usual.cause, usual.num_instances, usual.learning_rate)
    assert ("drift", 56, 0.2) == (early.cause, early.num_instances, early.learning_rate)
    assert ("count", 60, 0.2) == (after.cause, after.num_instances, after.learning_rate)


def test_nothing_is_cut_early_unless_asked_for(bench: Bench) -> None:
    """The default learns the same whatever the detectors say."""
    assembly = bench.assemble()
    learn(assembly, 4)
    bench.append(records(56, seed=2, turned=True))
    learn(assembly)

    assert 4 == len(bench.plans())

    assembly.close()


def test_too_few_instances_are_not_cut_early(tmp_path: Path) -> None:
    """A handful would be learned by heart: the cut waits for tasks.min_instances."""
    bench = bench_of(tmp_path, cut_early=True)
    bench.settings["tasks"]["min_instances"] = 59
    bench.append(records(240, seed=1))
    assembly = bench.assemble()
    learn(assembly, 4)
    bench.append(records(58, seed=2, turned=True))
    learn(assembly)

    assert assembly.learning._look._has_found
    assert 4 == len(bench.plans())

    bench.append(records(1, seed=3, turned=True))
    learn(assembly)

    assert ("drift", 59) == (bench.plans()[-1].cause, bench.plans()[-1].num_instances)

    assembly.close()
