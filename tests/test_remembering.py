"""The rehearsal memory over restarts, damage, growth and replays: always that of the log."""

import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from assemblies import CLASSES, Bench, make_bench
from base_models import NUM_FEATURES

from teacherd.consumers.producing import NPY, build_record, encode_npy
from teacherd.consumers.record import NewRecord
from teacherd.daemon.assembly import Assembly
from teacherd.daemon.config import Config
from teacherd.daemon.config_parsing import parse
from teacherd.daemon.memory_file import MEMORY
from teacherd.daemon.remembering import MemoryLostError
from teacherd.daemon.replaying import replay_versions

LEARNING = {
    "epochs": 2,
    "consolidation": {"freezing_epochs": 1, "interval_epochs": 1},
    "memory": {"instances_per_class": 2},
}
GROW = {"unknown": "grow", "min_instances": 4}
NUM_TASKS = 3


def records(labels: list[str], *, seed: int = 0) -> list[NewRecord]:
    """Return records of four features with these labels."""
    rng = np.random.default_rng(seed)
    return [
        build_record(
            encode_npy(rng.normal(size=NUM_FEATURES).astype(np.float32)),
            content_type=NPY,
            label=label,
        )
        for label in labels
    ]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Give a daemon with a memory, and records for three tasks; foxes come in the second."""
    bench = make_bench(tmp_path / "one", learning=LEARNING, classes=GROW)
    known = [CLASSES[place % 3] for place in range(10)]
    bench.append(records([*known, *known[:6], *["fox"] * 4, *known]))
    return bench


@pytest.fixture
def assemblies() -> Iterator[list[Assembly]]:
    """Close every assembly that a test has put here."""
    made: list[Assembly] = []
    yield made
    for assembly in made:
        assembly.close()


def learn(bench: Bench, num_tasks: int, made: list[Assembly]) -> Assembly:
    """Start a daemon that learns up to so many tasks, and end it."""
    assembly = bench.assemble()
    made.append(assembly)
    assembly.intake.tick()
    for _ in range(2000):
        lineage = assembly.learning._journal.lineage
        if lineage.num_tasks >= num_tasks and lineage.unfinished is None:
            break
        assembly.learning.tick()
    assembly.close()
    made.remove(assembly)
    return assembly


def kept(assembly: Assembly) -> tuple[list[list[float]], list[int]]:
    """Return what the memory holds."""
    found = assembly.learning._core.memory.instances()
    return ([], []) if found is None else (found[0].tolist(), found[1].tolist())


def weights(bench: Bench) -> list[str | None]:
    """Return the sha256 of every version."""
    return [outcome.sha256 for outcome in bench.outcomes()]


def newest_memory(bench: Bench) -> Path:
    """Return the file of the newest checkpoint."""
    return max((bench.directory / "state" / "checkpoints").glob(f"*/{MEMORY}"))


def replay(bench: Bench, **changes: Any) -> str:  # noqa: ANN401 (any option)
    """Replay the log and return what it comes to."""
    options: dict[str, Any] = {"target": None, "start": None, "out": None, **changes}
    config = parse(Config, bench.settings, origin="test")
    return replay_versions(config, on_task=lambda _done, _total: None, **options).result


def test_a_restart_after_every_task_changes_nothing(
    bench: Bench, tmp_path: Path, assemblies: list[Assembly]
) -> None:
    """Memory and weights are those of a daemon that ran through, new classes included."""
    twin = bench.copy_to(tmp_path / "two")
    straight = kept(learn(bench, NUM_TASKS, assemblies))
    for number in range(1, NUM_TASKS + 1):
        last = kept(learn(twin, number, assemblies))

    assert {0: 2, 1: 2, 2: 2, 3: 2} == Counter(straight[1])
    assert straight == last
    assert weights(bench) == weights(twin)
    assert (*CLASSES, "fox") == assemblies_classes(twin)


def assemblies_classes(bench: Bench) -> tuple[str, ...]:
    """Return the classes that the log has come to."""
    (plan,) = [each for each in bench.plans() if each.new_classes]
    return (*CLASSES, *plan.new_classes)


def test_a_memory_is_learned_from(bench: Bench, tmp_path: Path, assemblies: list[Assembly]) -> None:
    """Without one the second task comes to other weights, the first to the same."""
    twin = bench.copy_to(tmp_path / "two")
    twin.settings["learning"] = {**LEARNING, "memory": {"instances_per_class": 0}}
    learn(bench, NUM_TASKS, assemblies)
    learn(twin, NUM_TASKS, assemblies)

    assert weights(bench)[0] == weights(twin)[0]
    assert weights(bench)[1] != weights(twin)[1]
    assert not list((twin.directory / "state" / "checkpoints").glob(f"*/{MEMORY}"))


@pytest.mark.parametrize("damage", ["one", "all", "no_checkpoint"])
def test_a_damaged_memory_is_filled_again_from_an_earlier_one_or_the_records(
    bench: Bench, tmp_path: Path, assemblies: list[Assembly], damage: str
) -> None:
    """Whatever is left: it is the same memory."""
    learn(bench, 2, assemblies)
    twin = bench.copy_to(tmp_path / "two")
    checkpoints = twin.directory / "state" / "checkpoints"
    if damage == "no_checkpoint":
        shutil.rmtree(checkpoints)
    for path in [newest_memory(twin)] if damage == "one" else checkpoints.glob(f"*/{MEMORY}"):
        path.unlink()  # may be a link to that of another
        path.write_bytes(b"damaged")
    straight = kept(learn(bench, NUM_TASKS, assemblies))

    assert straight == kept(learn(twin, NUM_TASKS, assemblies))
    assert weights(bench) == weights(twin)


def test_a_memory_whose_records_are_gone_ends_the_start(
    bench: Bench, assemblies: list[Assembly]
) -> None:
    """The error says what to do; who wants no memory any more goes on without."""
    learn(bench, 2, assemblies)
    shutil.rmtree(bench.directory / "state" / "checkpoints")
    with closing(sqlite3.connect(bench.directory / "stream.db")) as stream, stream:
        stream.execute("DELETE FROM records WHERE offset <= 20")
    with pytest.raises(MemoryLostError, match=r"records of task 1 again: .*instances_per_class: 0"):
        bench.assemble()
    bench.settings["learning"] = {**LEARNING, "memory": {"instances_per_class": 0}}

    assert ([], []) == kept(learn(bench, NUM_TASKS, assemblies))


def test_a_replay_fills_the_memory_as_it_was(bench: Bench, assemblies: list[Assembly]) -> None:
    """From the beginning, and from a version in the middle: the same weights."""
    learn(bench, NUM_TASKS, assemblies)

    assert "equal" == replay(bench)
    assert "equal" == replay(bench, start=2)


def test_a_memory_that_was_switched_on_later_begins_there(
    bench: Bench, tmp_path: Path, assemblies: list[Assembly]
) -> None:
    """And one that was off for a task begins anew; after restarts and in a replay, too."""
    bench.settings["learning"] = {**LEARNING, "memory": {"instances_per_class": 0}}
    learn(bench, 1, assemblies)
    bench.settings["learning"] = LEARNING
    grown = learn(bench, 2, assemblies)
    twin = bench.copy_to(tmp_path / "two")
    shutil.rmtree(twin.directory / "state" / "checkpoints")

    assert {0: 2, 1: 2, 2: 2, 3: 2} == Counter(kept(grown)[1])
    assert kept(learn(bench, NUM_TASKS, assemblies)) == kept(learn(twin, NUM_TASKS, assemblies))
    assert "equal" == replay(bench)


def test_a_memory_that_has_not_changed_is_written_once(
    bench: Bench, assemblies: list[Assembly]
) -> None:
    """Checkpoints inside a task link the file of the one before."""
    bench.settings["checkpoints"] = {"interval_steps": 1, "keep": 10}
    learn(bench, NUM_TASKS, assemblies)
    files = sorted((bench.directory / "state" / "checkpoints").glob(f"*/{MEMORY}"))

    assert len(files) > len({path.stat().st_ino for path in files}) > 1
