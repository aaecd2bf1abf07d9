"""The power fails anywhere: what was promised is there, the next start makes up for the rest."""

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from crash_rig import (
    CrashRig,
    Findings,
    Kill,
    StreamLogStream,
    crash_records,
    crash_settings,
    make_rig,
)
from power_cut import PowerCut, RecordSyncs, broken_promises, copy_stream

from teacherd.consumers.stream_log import StreamLog, StreamLogConfig

NUM_TASKS = 2
FAILPOINTS = [
    "open.before",
    "open.appended",
    "plan.appended",
    "checkpoint.renamed:2",
    "removal.renamed",
    "version.renamed:2",
    "outcome.written",
    "outcome.appended",
    "current.durable:2",
]
STATES_AT_MOST = int(os.environ.get("TEACHERD_TEST_POWER_CUT_STATES", "30"))
"""States of the disk that are looked at for each cut; where there are fewer, all."""


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a stream log that is enough for NUM_TASKS tasks."""
    path = tmp_path_factory.mktemp("stream") / "stream.db"
    log = StreamLog(StreamLogConfig(path=str(path)))
    log.append(crash_records(NUM_TASKS))
    log.close()
    return path


CutAt = Callable[..., PowerCut]
Recover = Callable[[Path], Findings]


@pytest.fixture
def cut_at(stream: Path, digits_base_model: Path, tmp_path: Path) -> CutAt:
    """Give a maker of power cuts at a failpoint, in `tmp_path/disk`."""

    def cut(failpoint: str, forget: str | None = None) -> PowerCut:
        (tmp_path / "disk").mkdir()
        process = {"state_directory": str(tmp_path / "disk" / "state"), "num_threads": 1}
        rig = make_rig(tmp_path, digits_base_model, stream, num_tasks=NUM_TASKS, process=process)
        recorded = RecordSyncs(
            root=str(tmp_path / "disk"),
            store=str(tmp_path / "store"),
            log=str(tmp_path / "disk" / "state" / "lineage.log"),
            forget=forget,
        )
        try:
            assert rig.kill_once(Kill(failpoint), recorded)
        finally:
            rig.close()
        return PowerCut(recorded)

    return cut


@pytest.fixture
def recover(digits_base_model: Path, tmp_path: Path) -> Recover:
    """Give what starts a daemon on a state of the disk and runs it to the end of the data."""

    def run(disk: Path) -> Findings:
        directory = tmp_path / f"recovered-{disk.name}"
        directory.mkdir()
        copy_stream(tmp_path / "stream.db", directory / "stream.db")
        settings = crash_settings(directory, digits_base_model)
        settings["process"]["state_directory"] = str(disk / "state")
        stream = StreamLogStream(directory / "stream.db")
        rig = CrashRig(directory, settings, stream, num_tasks=NUM_TASKS)
        try:
            return rig.finish()
        finally:
            rig.close()

    return run


@pytest.fixture(scope="module")
def expected(
    stream: Path, digits_base_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Findings:
    """Give the findings of a run that nothing happened to."""
    directory = tmp_path_factory.mktemp("undisturbed")
    rig = make_rig(directory, digits_base_model, stream, num_tasks=NUM_TASKS)
    try:
        return rig.finish()
    finally:
        rig.close()


@pytest.mark.parametrize("failpoint", FAILPOINTS)
def test_a_power_cut_takes_nothing_that_was_promised(
    cut_at: CutAt, recover: Recover, tmp_path: Path, expected: Findings, failpoint: str
) -> None:
    """In every state all that is read is whole; the worst and one by chance are recovered from."""
    cut = cut_at(failpoint)
    states = list(cut.states(tmp_path / "states", at_most=STATES_AT_MOST, seed=1))
    by_chance = random.Random(failpoint).choice(states)

    assert [] == [each for state in states for each in broken_promises(state, cut.promised_log)]
    for state in {states[0], by_chance}:
        findings = recover(state)
        assert [] == findings.wrong
        assert ([], []) == (findings.accounts.lost, findings.accounts.twice)
        assert expected.decided == findings.decided


@pytest.mark.parametrize(
    ("forgotten", "failpoint"),
    [
        ("lineage.log", "plan.appended"),
        (".tmp-current", "current.durable"),
        ("public/versions", "outcome.appended"),
        ("teacher.safetensors", "outcome.appended"),
        ("manifest.json", "outcome.appended"),
        ("checkpoint.json", "checkpoint.renamed"),
        ("checkpoints", "removal.done"),
        ("disk/state", "open.appended"),
    ],
)
def test_a_sync_that_is_left_out_is_found(
    cut_at: CutAt, tmp_path: Path, forgotten: str, failpoint: str
) -> None:
    """Without each of them a power cut takes what was promised, or leaves halves to be read."""
    cut = cut_at(failpoint, forgotten)
    states = cut.states(tmp_path / "states", at_most=STATES_AT_MOST, seed=1)

    assert [] != [each for state in states for each in broken_promises(state, cut.promised_log)]
