"""Killed anywhere around a deferral, the daemon ends with the same classes and versions.

Every record is trained, held out, rejected, deferred, or dropped with a dead letter, and in one of
these only.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from base_models import digits
from crash_rig import (
    CrashRig,
    Findings,
    Kill,
    StreamLogStream,
    crash_settings,
    make_rig,
    uninterrupted,
)
from stream_writing import append_records

from teacherd.consumers.producing import NPY, build_record, encode_npy
from teacherd.consumers.record import NewRecord
from teacherd.daemon.entries import Plan

NUM_TASKS = 4
NUM_RECORDS = 33 * NUM_TASKS + 5
SETTINGS: dict[str, dict[str, Any]] = {
    "classes": {
        "unknown": "grow",
        "min_instances": 8,
        "max_deferred_bytes": 7000,
        "max_deferred_tasks": 2,
    },
    "gate": {
        "holdout_share": 0.2,
        "allowance": 0.99,
        "forgetting": 0.99,
        "class_allowance": 0.99,
        "new_class_accuracy": 0.01,
        "probation_allowance": 0.99,
    },
    "checkpoints": {"interval_steps": 3},
}
FAILPOINTS = [
    "deferred.before",
    "000001.jsonl.written",
    "000001.jsonl.synced",
    "000001.jsonl.renamed",
    "deferred.durable",
    "plan.torn",
    "plan.appended",
    "outcome.appended",
    "dead_letters.dropped",
    "deferred.before:2",
    "plan.before:2",
    "plan.appended:2",
    "version.renamed:3",
    "outcome.torn:2",
    "outcome.appended:2",
    "deferred.removed",
    "plan.appended:3",
    "checkpoint.written:5",
    "outcome.appended:3",
    "plan.before:4",
]


def records() -> list[NewRecord]:
    """Return digits whose nines are of a new class, and a few with labels out of thin air."""
    data = digits()

    def label(place: int) -> str:
        if place % 13 == 0:
            return f"odd-{place}"
        return "nine" if data.labels[place] == 9 else str(data.labels[place])

    return [
        build_record(
            b"no array" if place % 17 == 16 else encode_npy(data.inputs[place]),
            content_type=NPY,
            label=label(place),
        )
        for place in range(NUM_RECORDS)
    ]


@dataclass(frozen=True, slots=True)
class Sorted:
    """What a lineage came to: its versions, and what its plans say of labels."""

    decided: list[tuple[int, str, int | None, str | None]]
    plans: list[tuple[Any, ...]]

    @classmethod
    def of(cls, rig: CrashRig, findings: Findings) -> "Sorted":
        """Return what a rig found."""
        plans = [each for each in rig.daemon.entries() if isinstance(each, Plan)][:NUM_TASKS]
        said = [
            (each.new_classes, each.ranges[0].deferred, each.taken, each.dropped) for each in plans
        ]
        return cls(findings.decided, said)


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a stream log that is enough for NUM_TASKS tasks."""
    path = tmp_path_factory.mktemp("stream") / "stream.db"
    append_records(path, records())
    return path


@pytest.fixture(scope="module")
def undisturbed(
    stream: Path, digits_base_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Sorted, int]:
    """Give what every other run must come to, and how many failpoints it passes."""
    directory = tmp_path_factory.mktemp("undisturbed")
    rig = make_rig(directory, digits_base_model, stream, num_tasks=NUM_TASKS, **SETTINGS)
    findings, failpoints, _ = uninterrupted(
        directory,
        {**crash_settings(directory, digits_base_model), **SETTINGS},
        StreamLogStream(directory / "stream.db"),
        num_tasks=NUM_TASKS,
    )
    found = Sorted.of(rig, findings)

    assert [] == findings.wrong
    assert ["nine"] == [name for new, *_ in found.plans for name in new]
    assert any(taken for _, _, taken, _ in found.plans)
    assert any(dropped for *_, dropped in found.plans)
    assert {"trained", "held_out", "rejected", "deferred", "dropped"} == set(
        findings.accounts.fates
    )
    assert "equal" == rig.replay()
    return found, len(failpoints)


@pytest.fixture
def rig(stream: Path, digits_base_model: Path, tmp_path: Path) -> Iterator[CrashRig]:
    """Give a lineage to be killed."""
    rig = make_rig(tmp_path, digits_base_model, stream, num_tasks=NUM_TASKS, **SETTINGS)
    yield rig
    rig.close()


def require_same(rig: CrashRig, expected: Sorted) -> None:
    """Nothing lost, nothing twice, nothing left behind, the same classes and versions."""
    findings = rig.finish()

    assert [] == findings.wrong
    assert ([], []) == (findings.accounts.lost, findings.accounts.twice)
    assert expected == Sorted.of(rig, findings)


@pytest.mark.parametrize("failpoint", FAILPOINTS)
def test_a_crash_changes_nothing(
    rig: CrashRig, undisturbed: tuple[Sorted, int], failpoint: str
) -> None:
    """The same records wait, become classes, are dropped; the weights are the same."""
    assert rig.kill_once(Kill(failpoint))
    require_same(rig, undisturbed[0])


def test_many_crashes_in_a_row_change_nothing(
    rig: CrashRig, undisturbed: tuple[Sorted, int]
) -> None:
    """At points that nobody chose, recovery's own among them."""
    rng = random.Random(11)
    for _ in range(6):
        rig.kill_once(Kill(f"*:{rng.randrange(1, undisturbed[1] // 2)}"))
    require_same(rig, undisturbed[0])
