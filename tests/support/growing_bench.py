"""A bench whose classes may grow, and what its plans and files say of deferred records."""

from pathlib import Path
from typing import Any

import numpy as np
from accounting import Accounts, account
from assemblies import CLASSES, Bench, make_bench
from base_models import NUM_FEATURES

from teacherd.consumers.producing import NPY, build_record, encode_npy
from teacherd.consumers.record import NewRecord, Partition
from teacherd.consumers.stream_log import StreamLogConfig
from teacherd.consumers.stream_log_dead_letters import StreamLogDeadLetters
from teacherd.daemon.assembly import Assembly
from teacherd.daemon.config import Config
from teacherd.daemon.config_parsing import parse
from teacherd.daemon.entries import Plan
from teacherd.daemon.replaying import replay_versions

PARTITION = Partition("instances", 0)

GROW = {"unknown": "grow", "min_instances": 4}


class GrowingDaemons:
    """Assembled daemons over one directory, one after the other.

    Args:
        directory: Of all of them.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._made: list[Assembly] = []

    def __call__(
        self, labels: list[str], classes: dict[str, Any] | None = None, **sections: dict[str, Any]
    ) -> tuple[Bench, Assembly]:
        """Append records with these labels, and start a daemon whose classes may grow."""
        bench = make_bench(self._directory, classes={**GROW, **(classes or {})}, **sections)
        if labels:
            bench.append(records(labels, seed=len(self._made)))
        self._made.append(bench.assemble())
        return bench, self._made[-1]

    def close(self) -> None:
        """Close all of them."""
        for assembly in self._made:
            assembly.close()


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


def task_of(*others: str) -> list[str]:
    """Return the labels of a task of ten, these ones among known classes."""
    return [*others, *(CLASSES[place % 3] for place in range(10 - len(others)))]


def learn(assembly: Assembly, num_tasks: int = 1) -> None:
    """Take in what there is and learn so many tasks."""
    assembly.intake.tick()
    done = assembly.learning._journal.lineage.num_tasks + num_tasks
    for _ in range(2000):
        lineage = assembly.learning._journal.lineage
        if lineage.num_tasks >= done and lineage.unfinished is None:
            return
        assembly.learning.tick()
        assembly.intake._keep_letters()
    raise AssertionError("no end")


def deferred(plan: Plan) -> list[int]:
    """Return the offsets that a plan defers."""
    return [offset for closed in plan.ranges for offset in closed.deferred]


def dropped(plan: Plan) -> list[tuple[int, tuple[int, ...]]]:
    """Return what a plan drops, by the task that deferred it."""
    return [(each.task, each.offsets) for each in plan.dropped]


def letters(bench: Bench) -> dict[int, str]:
    """Return the reasons of the dead letters by offset."""
    kept = StreamLogDeadLetters(StreamLogConfig(path=str(bench.directory / "stream.db")))
    found = {each.letter.offset: each.letter.reason for each in kept.list(1000)}
    kept.close()
    return found


def accounts(bench: Bench, num_records: int) -> Accounts:
    """Account for every record."""
    return account(
        bench.entries(),
        records={PARTITION: range(1, num_records + 1)},
        letters=[(PARTITION, offset) for offset in letters(bench)],
    )


def files(bench: Bench) -> list[str]:
    """Return the names of the files of deferred records."""
    return sorted(path.name for path in (bench.directory / "state" / "deferred").glob("*"))


def replay(bench: Bench, *, start: int = 0) -> str:
    """Make every version since that one again; return what came of it."""
    return replay_versions(
        parse(Config, bench.settings, origin="test"),
        target=None,
        start=start,
        out=None,
        on_task=lambda _done, _all: None,
    ).result
