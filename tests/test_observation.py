"""What is shown of the teacher is of the one that is served, whichever the newest is."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from assemblies import Bench, feature_records, make_bench

from teacherd.daemon.assembly import Assembly
from teacherd.daemon.commands import Command, Verb

SWIFT = {
    "epochs": 5,
    "consolidation": {"kind": "none"},
    "optimizer": {"kind": "sgd", "decay": "none", "learning_rate": 0.3},
}


def make_measured_bench(directory: Path, **sections: dict[str, Any]) -> Bench:
    """Return a bench whose teachers differ from task to task, measured on a set of noise."""
    rng = np.random.default_rng(5)
    inputs = rng.normal(size=(300, 4)).astype(np.float32)
    np.savez(directory / "noise.npz", inputs=inputs, labels=rng.integers(0, 3, 300))
    sets = {"sets": {"noise": str(directory / "noise.npz")}, "worst_classes": 1}
    bench = make_bench(directory, evaluation=sets, learning=SWIFT, **sections)
    bench.append(feature_records(30))
    return bench


@contextmanager
def learned(bench: Bench, num_tasks: int) -> Iterator[Assembly]:
    """Give an assembly that has learned so many tasks."""
    with closing(bench.assemble()) as assembly:
        assembly.intake.tick()
        while len(bench.outcomes()) < num_tasks:
            assembly.learning.tick()
        yield assembly


def ask(assembly: Assembly, verb: Verb, number: int) -> None:
    """Have a command carried out."""
    answer = assembly.commands.ask(Command(verb, number))
    assembly.learning.tick()
    answer.result(timeout=0)


def shown(bench: Bench, model: str = "teacher") -> float | None:
    """Return the accuracy that metrics show, which is that of the status."""
    value = bench.value("accuracy_ratio", split="noise", model=model)
    assert bench.board.snapshot()["learning"][f"{model}_accuracy"]["noise"] == value
    return value


def measured(bench: Bench, task: int) -> float:
    """Return the accuracy of the version that a task made, as its outcome has it."""
    return bench.outcomes()[task - 1].figures["accuracy.noise"]


def test_after_a_rollback_the_figures_are_those_of_what_is_served_again(tmp_path: Path) -> None:
    """Else the page would go on to accuse a teacher that nobody uses any more."""
    bench = make_measured_bench(tmp_path)
    with learned(bench, 3) as assembly:
        calibration = bench.value("calibration_error_ratio", split="noise")

        assert measured(bench, 3) == shown(bench)

        ask(assembly, "rollback", 1)

        assert measured(bench, 1) != measured(bench, 3)
        assert measured(bench, 1) == shown(bench) == shown(bench, "head")
        assert calibration != bench.value("calibration_error_ratio", split="noise")
        lost = bench.board.snapshot()["learning"]["base_accuracy"]["noise"] - measured(bench, 1)
        assert pytest.approx(lost) == bench.value("forgetting_ratio", holdout="noise")


def test_after_a_rollback_to_the_base_nothing_learned_is_served(tmp_path: Path) -> None:
    """The freshness of what was served before would be promised of weights that learned nothing."""
    bench = make_measured_bench(tmp_path)
    with learned(bench, 1) as assembly:
        assert (bench.value("freshness_seconds") or 0) > 0

        ask(assembly, "rollback", 0)

        assert 0 == bench.value("freshness_seconds")
        assert bench.board.snapshot()["teacher"]["newest_event_ms"] is None


def test_a_version_that_waits_for_approval_is_shown_as_head_only(tmp_path: Path) -> None:
    """The served teacher is version 0 still; also after a restart, and until it is promoted."""
    bench = make_measured_bench(tmp_path, publication={"mode": "approval"})
    with learned(bench, 2):
        base = bench.value("accuracy_ratio", split="noise", model="base")

        assert (base, measured(bench, 2)) == (shown(bench), shown(bench, "head"))
        assert base != measured(bench, 2)

    again = Bench(tmp_path, bench.settings)
    with closing(again.assemble()) as assembly:
        assert (base, measured(bench, 2)) == (shown(again), shown(again, "head"))

        ask(assembly, "promote", 1)

        assert (measured(bench, 1), measured(bench, 2)) == (shown(again), shown(again, "head"))


def test_what_earlier_tasks_held_out_is_shown_after_a_restart(tmp_path: Path) -> None:
    """Backward transfer and mean forgetting follow from the log, not from the process."""
    gate = {"holdout_share": 0.4, "allowance": 0.99, "forgetting": 0.99, "class_allowance": 0.99}
    bench = make_measured_bench(tmp_path, gate=gate)
    with learned(bench, 3):
        before = (
            bench.value("backward_transfer_ratio"),
            bench.value("forgetting_ratio", holdout="holdout_tasks"),
        )
        learning = bench.board.snapshot()["learning"]
    again = Bench(tmp_path, bench.settings)
    again.assemble().close()

    assert {"1", "2"} == set(learning["task_forgetting"])
    assert before == (
        again.value("backward_transfer_ratio"),
        again.value("forgetting_ratio", holdout="holdout_tasks"),
    )
    assert pytest.approx(learning["backward_transfer"]) == before[0]
    assert before[0] != 0
