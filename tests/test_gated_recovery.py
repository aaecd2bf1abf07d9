"""Killed anywhere while a gate decides, the daemon ends with the same verdicts and versions.

Holdouts in checkpoints, verdicts, failed probations, rollbacks and tasks begun again after them.
"""

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from crash_rig import (
    GATED,
    TURNED,
    CrashRig,
    Findings,
    Kill,
    StreamLogStream,
    crash_records,
    crash_settings,
    make_rig,
    uninterrupted,
)
from stream_writing import append_records

from teacherd.daemon.entries import Outcome, Plan, Retry, Rollback

NUM_OUTCOMES = 5
"""Of three tasks; two of them have two."""
FAILPOINTS = [
    "plan.appended:2",
    "checkpoint.written:3",
    "outcome.appended:2",
    "version.renamed:3",
    "rollback.torn",
    "rollback.appended",
    "retry.before",
    "retry.torn",
    "retry.appended",
    "outcome.appended:4",
    "publish.torn:2",
]


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a stream log whose second task has wrong labels."""
    path = tmp_path_factory.mktemp("stream") / "stream.db"
    append_records(path, crash_records(3, turned=TURNED))
    return path


@pytest.fixture(scope="module")
def undisturbed(
    stream: Path, digits_base_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Findings, int]:
    """Give what every other run must come to, and how many failpoints it passes."""
    directory = tmp_path_factory.mktemp("undisturbed")
    rig = make_rig(directory, digits_base_model, stream, num_tasks=NUM_OUTCOMES, **GATED)
    findings, failpoints, _ = uninterrupted(
        directory,
        {**crash_settings(directory, digits_base_model), **GATED},
        StreamLogStream(directory / "stream.db"),
        num_tasks=NUM_OUTCOMES,
    )
    entries = rig.daemon.entries()

    assert [] == findings.wrong
    assert [1, 2, 2, 3, 3] == [task for task, *_ in findings.decided]
    assert ["probation"] * 2 == [each.cause for each in entries if isinstance(each, Rollback)]
    assert all(
        {*range(1, each.task)} == {*each.holdouts} for each in entries if isinstance(each, Plan)
    )
    passed = Counter(each.gate for each in entries if isinstance(each, Outcome))
    assert {"passed": 3, "ungated": 2} == passed
    return findings, len(failpoints)


@pytest.fixture
def rig(stream: Path, digits_base_model: Path, tmp_path: Path) -> Iterator[CrashRig]:
    """Give a lineage to be killed."""
    rig = make_rig(tmp_path, digits_base_model, stream, num_tasks=NUM_OUTCOMES, **GATED)
    yield rig
    rig.close()


def require_same(rig: CrashRig, undisturbed: tuple[Findings, int]) -> None:
    """Run to the end: nothing lost, twice or left behind, the same verdicts, versions, retries."""
    findings = rig.finish()
    retries = [each for each in rig.daemon.entries() if isinstance(each, Retry)]

    assert [] == findings.wrong
    assert ([], []) == (findings.accounts.lost, findings.accounts.twice)
    assert undisturbed[0].accounts.fates == findings.accounts.fates
    assert undisturbed[0].decided == findings.decided
    assert [(2, "probation", 0.1), (3, "probation", 0.1)] == [
        (each.task, each.cause, each.learning_rate) for each in retries
    ]


@pytest.mark.parametrize("failpoint", FAILPOINTS)
def test_a_crash_while_a_gate_decides_changes_nothing(
    rig: CrashRig, undisturbed: tuple[Findings, int], failpoint: str
) -> None:
    """The same verdicts from the same holdouts; what is due after a rollback is not forgotten."""
    assert rig.kill_once(Kill(failpoint))
    require_same(rig, undisturbed)


def test_many_crashes_in_a_row_change_no_verdict(
    rig: CrashRig, undisturbed: tuple[Findings, int]
) -> None:
    """At points that nobody chose; a replay of what they left says the same."""
    rng = random.Random(3)
    for _ in range(6):
        rig.kill_once(Kill(f"*:{rng.randrange(1, undisturbed[1] // 3)}"))
    require_same(rig, undisturbed)

    assert "equal" == rig.replay()
