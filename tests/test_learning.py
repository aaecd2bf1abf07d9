"""The learning thread: one task at a time, each decided once, in the order of the guarantee."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from assemblies import NUM_FEATURES, Bench, bad_record, feature_records, make_bench

from teacherd.consumers.buffered_task import Cause
from teacherd.consumers.record import Partition
from teacherd.daemon.assembly import Assembly
from teacherd.daemon.checkpoint import CheckpointConfig
from teacherd.daemon.config import Config
from teacherd.daemon.config_parsing import parse
from teacherd.daemon.deferral import Sorted
from teacherd.daemon.deferring import ReadyTask
from teacherd.daemon.entries import Retry
from teacherd.daemon.learning import Learning
from teacherd.daemon.status_board import StatusBoard
from teacherd.models.artifact import read_manifest, version_folder
from teacherd.models.current_pointer import read_current

PARTITION = Partition("instances", 0)
Start = Callable[..., tuple[Bench, Assembly]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Give a maker of assembled daemons; close them all."""
    made: list[Assembly] = []

    def begin(num_records: int, **sections: dict[str, Any]) -> tuple[Bench, Assembly]:
        bench = make_bench(tmp_path, **sections)
        if num_records:
            bench.append(feature_records(num_records))
        made.append(bench.assemble())
        return bench, made[-1]

    yield begin
    for assembly in made:
        assembly.close()


def learn_task(assembly: Assembly) -> None:
    """Turn the loop from a cut to the task's end."""
    assembly.learning.tick()
    while assembly.learning.is_busy:
        assembly.learning.tick()
        assembly.intake.requests.serve(assembly.intake._source)


def test_a_task_becomes_a_version_that_is_served(start: Start) -> None:
    """Plan, outcome and pointer agree, and the manifest says which task it was."""
    bench, assembly = start(10)
    assembly.intake.tick()
    learn_task(assembly)
    (outcome,) = bench.outcomes()
    root = bench.directory / "state" / "public"
    manifest = read_manifest(version_folder(root, 1))

    assert ("accepted", 1, True) == (outcome.result, outcome.version, outcome.should_publish)
    assert outcome.sha256 == manifest.weights_sha256
    assert (1, 0, (1,)) == (manifest.version, manifest.parent, manifest.tasks)
    assert 1 == read_current(root).version
    assert 1.0 == bench.value("teacher_version")
    assert 1.0 == bench.value("tasks_total", outcome="accepted")


def test_the_next_task_starts_from_the_last_version(start: Start) -> None:
    """Each version's parent is the one before it."""
    bench, assembly = start(30)
    assembly.intake.tick()
    for _ in range(3):
        learn_task(assembly)

    assert [0, 1, 2] == [plan.head for plan in bench.plans()]
    assert [1, 2, 3] == [outcome.version for outcome in bench.outcomes()]


def test_nothing_is_cut_before_it_is_due(start: Start) -> None:
    """Nine instances of ten wait, until the oldest has waited long enough."""
    bench, assembly = start(9)
    assembly.intake.tick()
    assembly.learning.tick()

    assert [] == bench.plans()

    bench.clock.seconds += 3601
    learn_task(assembly)

    assert ["age"] == [plan.cause for plan in bench.plans()]
    assert [9] == [plan.num_instances for plan in bench.plans()]


def test_a_loss_that_is_not_finite_costs_the_task_and_nothing_else(start: Start) -> None:
    """Quarantined after a second attempt: the head stays, the records are kept for people."""
    wild = {
        "epochs": 3,
        "optimizer": {"kind": "sgd", "decay": "none", "learning_rate": 1e38, "gradient_clip": 1e38},
    }
    bench, assembly = start(20, learning=wild)
    assembly.intake.tick()
    learn_task(assembly)

    assert ["quarantined"] == [outcome.result for outcome in bench.outcomes()]
    assert "is nan" in bench.outcomes()[0].reasons[0]
    assert 2.0 == bench.value("nonfinite_losses_total")
    assert 1.0 == bench.value("task_retries_total", cause="nonfinite")
    assert 1.0 == bench.value("quarantined_tasks")
    folder = bench.directory / "state" / "quarantine" / "000001"
    assert 10 == len((folder / "records.jsonl").read_text().splitlines())
    assert 0 == read_current(bench.directory / "state" / "public").version

    calm = parse(Config, {**bench.settings, "learning": {"epochs": 2}}, origin="test")
    assembly.learning.reconfigure(calm.deciding, CheckpointConfig())
    learn_task(assembly)

    assert ["quarantined", "accepted"] == [outcome.result for outcome in bench.outcomes()]
    assert [0, 0] == [plan.head for plan in bench.plans()]


def test_settings_that_come_while_a_task_is_waited_for_are_its_own(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever was told that the configuration is reloaded sees it in the very next plan."""
    bench, assembly = start(10)
    assembly.intake.tick()
    changed = parse(Config, {**bench.settings, "learning": {"epochs": 2}}, origin="test")
    wait = assembly.learning._buffer.wait_for_cut

    def reload_meanwhile(timeout_seconds: float) -> Cause | None:
        assembly.learning.reconfigure(changed.deciding, CheckpointConfig())
        return wait(timeout_seconds)

    monkeypatch.setattr(assembly.learning._buffer, "wait_for_cut", reload_meanwhile)
    learn_task(assembly)

    assert [2] == [plan.epochs for plan in bench.plans()]


def test_a_task_that_was_too_fast_is_learned_more_slowly(start: Start) -> None:
    """An entry says so, under the same number; what is learned is what any plan would be."""
    fast = {
        "epochs": 2,
        "optimizer": {
            "kind": "sgd",
            "decay": "none",
            "learning_rate": 1e14,
            "momentum": 0.0,
            "weight_decay": 0.0,
        },
        "distillation": {"label_share": 1.0, "dust_weight": 0.0},
        "consolidation": {"freezing_epochs": 1, "interval_epochs": 1},
    }
    bench, assembly = start(10, learning=fast)
    assembly.intake.tick()
    learn_task(assembly)
    (retry,) = [each for each in bench.entries() if isinstance(each, Retry)]

    assert (1, 2, 0, "nonfinite") == (retry.task, retry.attempt, retry.head, retry.cause)
    assert 1e13 == pytest.approx(retry.learning_rate)
    assert "gradient" in retry.reason
    assert ["accepted"] == [outcome.result for outcome in bench.outcomes()]
    assert 0.0 == bench.value("quarantined_tasks")
    assert not (bench.directory / "state" / "quarantine").exists()


def test_a_stop_between_two_attempts_goes_on_with_the_second(start: Start) -> None:
    """The entry alone says what is to be done; a task in quarantine is not tried a third time."""
    wild = {
        "epochs": 3,
        "optimizer": {"kind": "sgd", "decay": "none", "learning_rate": 1e38, "gradient_clip": 1e38},
    }
    bench, assembly = start(10, learning=wild)
    assembly.intake.tick()
    while not any(isinstance(each, Retry) for each in bench.entries()):
        assembly.learning.tick()
    assembly.close()
    _, again = start(0, learning=wild)
    while again.learning.is_busy:
        again.learning.tick()
        again.intake.tick()

    assert [2] == [each.attempt for each in bench.entries() if isinstance(each, Retry)]
    assert ["quarantined"] == [outcome.result for outcome in bench.outcomes()]


def test_a_task_of_rejected_records_only_is_closed_as_empty(start: Start) -> None:
    """Its place moves on; there is nothing to learn and no version comes of it."""
    tasks = {"instances": 5, "min_instances": 1, "max_records": 5}
    bench, assembly = start(0, tasks=tasks)
    bench.append([bad_record() for _ in range(5)])
    assembly.intake.tick()
    learn_task(assembly)

    assert [("empty", None)] == [(each.result, each.version) for each in bench.outcomes()]
    assert [(1, 6)] == [(each.start, each.end) for each in bench.plans()[0].ranges]
    assert [(1, 2, 3, 4, 5)] == [each.rejected for each in bench.plans()[0].ranges]


def test_an_empty_task_that_a_crash_left_open_is_closed_by_the_next_start(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its plan alone is durable: the start gives it its outcome, and the stream may forget it."""
    bench, assembly = start(0, tasks={"instances": 5, "min_instances": 1, "max_records": 5})
    bench.append([bad_record() for _ in range(5)])
    assembly.intake.tick()
    with monkeypatch.context() as crash:
        crash.setattr(Learning, "_close", lambda *_: None)
        assembly.learning.tick()
    assembly.close()

    assert [0] == [plan.num_instances for plan in bench.plans()]
    assert [] == bench.outcomes()

    _, again = start(0)

    assert ["empty"] == [outcome.result for outcome in bench.outcomes()]
    assert not again.learning.is_busy
    assert {PARTITION: 6} == again.intake._releases.get_nowait().places


def test_checkpoints_inside_a_task_come_by_the_clock(start: Start) -> None:
    """Due after `interval_seconds`, not at every step."""
    bench, assembly = start(10, checkpoints={"interval_seconds": 10})
    assembly.intake.tick()
    checkpoints = bench.directory / "state" / "checkpoints"
    assembly.learning.tick()
    assembly.learning.tick()

    assert [] == list(checkpoints.glob("*/learner.safetensors"))

    bench.clock.seconds += 11
    assembly.learning.tick()

    assert 1 == len(list(checkpoints.glob("*/learner.safetensors")))


def test_checkpoints_inside_a_task_come_by_the_step(start: Start) -> None:
    """Due after `interval_steps`, whatever the clock says."""
    checkpoints = {"interval_seconds": 1000, "interval_steps": 2}
    bench, assembly = start(10, checkpoints=checkpoints)
    assembly.intake.tick()
    folder = bench.directory / "state" / "checkpoints"
    assembly.learning.tick()
    assembly.learning.tick()

    assert 0 == len(list(folder.glob("*/learner.safetensors")))
    assembly.learning.tick()
    assert 1 == len(list(folder.glob("*/learner.safetensors")))


def test_a_checkpoint_inside_a_task_that_fails_costs_only_itself(start: Start) -> None:
    """It is counted, and the task goes on: its plan is in the log."""
    bench, assembly = start(10, checkpoints={"interval_seconds": 10})
    assembly.intake.tick()
    assembly.learning.tick()
    checkpoints = bench.directory / "state" / "checkpoints"
    for path in checkpoints.iterdir():
        path.rename(bench.directory / path.name)
    checkpoints.rmdir()
    checkpoints.write_text("in the way")
    bench.clock.seconds += 11
    assembly.learning.tick()

    assert 1.0 == bench.value("checkpoint_failures_total")

    checkpoints.unlink()
    checkpoints.mkdir()
    while assembly.learning.is_busy:
        assembly.learning.tick()

    assert ["accepted"] == [outcome.result for outcome in bench.outcomes()]


@pytest.mark.parametrize("state", [{}, {"progress": torch.tensor([9, 9, 9])}])
def test_a_state_that_does_not_fit_is_not_needed(
    start: Start, state: dict[str, torch.Tensor]
) -> None:
    """The plan is begun again from its first step, as if there had been no checkpoint inside it."""
    bench, assembly = start(10)
    assembly.intake.tick()
    assert assembly._buffer is not None
    task = assembly._buffer.cut("count")
    plan = assembly.learning._plan(ReadyTask(task, Sorted(), 0.0))
    assembly.learning.resume(plan, task, state)
    while assembly.learning.is_busy:
        assembly.learning.tick()

    assert ["accepted"] == [outcome.result for outcome in bench.outcomes()]


def test_old_versions_go_but_not_the_first_and_the_served(start: Start) -> None:
    """Disk use is bounded by `keep_versions`."""
    bench, assembly = start(50, publication={"keep_versions": 2})
    assembly.intake.tick()
    for _ in range(5):
        learn_task(assembly)
    versions = bench.directory / "state" / "public" / "versions"

    assert ["000000", "000004", "000005"] == sorted(path.name for path in versions.iterdir())


class _BeatCounter(StatusBoard):
    """Counts what shows that a loop is alive."""

    num_beats = 0

    def beat(self, loop: str) -> None:
        """Count it."""
        self.num_beats += 1
        super().beat(loop)

    def beat_again(self, loop: str) -> None:
        """Count it."""
        self.num_beats += 1
        super().beat_again(loop)


def test_measuring_shows_life_at_every_batch(tmp_path: Path) -> None:
    """However large the evaluation sets and the task are, no supervisor takes it for hung."""
    path = tmp_path / "digits.npz"
    inputs = np.zeros((30, NUM_FEATURES), np.float32)
    np.savez(path, inputs=inputs, labels=np.zeros(30, np.int64))
    evaluation = {"sets": {"digits": str(path)}, "batch_size": 1}
    bench = make_bench(tmp_path, evaluation=evaluation)
    bench.board = board = _BeatCounter(monotonic=lambda: 0.0)
    bench.append(feature_records(10))
    with closing(bench.assemble()) as assembly:
        assembly.intake.tick()
        assembly.learning.tick()
        in_begin = board.num_beats
        in_ticks = []
        while assembly.learning.is_busy:
            before = board.num_beats
            assembly.learning.tick()
            in_ticks.append(board.num_beats - before)

    assert in_begin > 0
    assert 2 * 30 <= max(in_ticks)


def test_epochs_shrink_when_records_come_faster_than_they_are_learned(start: Start) -> None:
    """Down to the floor, in the plan, and back when there is time: what was planned is learned."""
    tasks = {"instances": 10, "max_instances": 20, "min_instances": 1, "max_age_seconds": 60}
    bench, assembly = start(10, tasks=tasks, learning={"epochs": 9, "min_epochs": 2})
    assembly.intake.tick()
    assembly.learning.tick()
    bench.clock.seconds += 30
    while assembly.learning.is_busy:
        assembly.learning.tick()
    bench.append(feature_records(90))
    for _ in range(2):
        bench.clock.seconds += 2
        assembly.intake.tick()
    while bench.value("buffer_records"):
        learn_task(assembly)
        bench.clock.seconds += 2
        assembly.intake.tick()

    plans = bench.plans()
    assert [10, 10, 10, 20, 20, 20, 10] == [plan.num_instances for plan in plans]
    assert ["count"] * 3 + ["load"] * 4 == [plan.cause for plan in plans]
    assert [9, 9, 9] == [plan.epochs for plan in plans[:3]]
    assert 2 == plans[3].epochs
    assert 9 == plans[-1].epochs
    assert all(outcome.result == "accepted" for outcome in bench.outcomes())
