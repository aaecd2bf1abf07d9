"""Holdouts in the running daemon: never learned, measured with, and there again after anything."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from assemblies import Bench, make_bench
from base_models import NUM_FEATURES

from teacherd.consumers.producing import NPY, build_record, encode_npy
from teacherd.consumers.record import NewRecord, Partition
from teacherd.daemon.assembly import Assembly
from teacherd.daemon.holdouts import Holdouts

PARTITION = Partition("instances", 0)
TASK_INSTANCES = 60
GATE = {"holdout_share": 0.3, "holdout_tasks": 3}
CLASSES = ("cat", "dog", "owl")

Start = Callable[..., tuple[Bench, Assembly]]


def easy_records(count: int, *, seed: int = 0, turned: int = 0) -> list[NewRecord]:
    """Return records whose class is the largest of their first three features, or the next one."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, NUM_FEATURES)).astype(np.float32)
    return [
        build_record(
            encode_npy(row), content_type=NPY, label=CLASSES[(int(row[:3].argmax()) + turned) % 3]
        )
        for row in features
    ]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Give a maker of assembled daemons with a gate; close them all."""
    made: list[Assembly] = []

    def begin(num_records: int = 0, **sections: dict[str, Any]) -> tuple[Bench, Assembly]:
        defaults: dict[str, Any] = {
            "gate": GATE,
            "tasks": {"instances": TASK_INSTANCES, "min_instances": 1, "max_age_seconds": 60},
            "learning": {
                "epochs": 12,
                "optimizer": {"kind": "sgd", "decay": "none", "learning_rate": 0.1},
                "consolidation": {"freezing_epochs": 1, "interval_epochs": 3, "retain": 0.2},
            },
        }
        bench = make_bench(tmp_path, **{**defaults, **sections})
        if num_records:
            bench.append(easy_records(num_records))
        made.append(bench.assemble())
        return bench, made[-1]

    yield begin
    for assembly in made:
        assembly.close()


def learn_tasks(assembly: Assembly, number: int = 1) -> None:
    """Turn the loops until so many more tasks are closed."""
    for _ in range(number):
        while not assembly.learning.is_busy:
            assembly.intake.tick()
            assembly.learning.tick()
        while assembly.learning.is_busy:
            assembly.learning.tick()


def holdouts(assembly: Assembly) -> Holdouts:
    """Return the holdouts of an assembly."""
    return assembly.learning._core.holdouts


def payload(assembly: Assembly) -> dict[int, bytes]:
    """Return what the holdouts hold."""
    of_tasks = holdouts(assembly).of_tasks
    return {task: each.inputs.tobytes() + each.labels.tobytes() for task, each in of_tasks.items()}


def test_what_is_held_out_is_named_and_never_learned(start: Start) -> None:
    """A task's instances are those of the count; the plan says which of them are not learned."""
    bench, assembly = start(TASK_INSTANCES)
    learn_tasks(assembly)
    (plan,) = bench.plans()
    (closed,) = plan.ranges
    (outcome,) = bench.outcomes()

    assert closed.held_out
    assert TASK_INSTANCES == plan.num_instances + len(closed.held_out)
    assert plan.num_instances == assembly.learning._journal.lineage.num_learned
    assert outcome.arrivals is not None
    assert plan.num_instances == outcome.arrivals.num
    assert len(closed.held_out) == outcome.checks[0].num


def test_a_sure_gain_is_served_and_its_checks_are_in_the_log(start: Start) -> None:
    """The untrained base model learns something at once; the verdict says so in figures."""
    bench, assembly = start(3 * TASK_INSTANCES)
    learn_tasks(assembly, 3)
    outcomes = bench.outcomes()

    assert "passed" in [outcome.gate for outcome in outcomes]
    published = [outcome.version for outcome in outcomes if outcome.should_publish]
    assert published
    assert published[-1] == assembly.learning._journal.lineage.current
    for outcome in outcomes:
        assert outcome.gate == "passed" or not outcome.should_publish
        assert {"newest"} <= {check.holdout for check in outcome.checks}
        assert f"holdout.{outcome.task}" in outcome.figures


def test_holdouts_expire_by_number_of_tasks(start: Start) -> None:
    """A plan names those it measures with; of older ones nothing is kept."""
    bench, assembly = start(5 * TASK_INSTANCES)
    learn_tasks(assembly, 5)

    assert [(), (1,), (1, 2), (1, 2, 3), (2, 3, 4)] == [plan.holdouts for plan in bench.plans()]
    assert [2, 3, 4, 5] == sorted(payload(assembly))


def test_a_restart_finds_them_in_the_checkpoint(start: Start) -> None:
    """Nothing is read from the stream again."""
    _, assembly = start(3 * TASK_INSTANCES)
    learn_tasks(assembly, 3)
    before = payload(assembly)
    assembly.close()
    _, again = start()

    assert before == payload(again)


@pytest.mark.parametrize("damage", ["newest checkpoint", "one holdout", "all holdouts"])
def test_what_no_checkpoint_holds_is_gathered_from_the_records(start: Start, damage: str) -> None:
    """The same instances, and the lineage goes on as if nothing had been damaged."""
    bench, assembly = start(3 * TASK_INSTANCES)
    learn_tasks(assembly, 3)
    before = payload(assembly)
    assembly.close()
    checkpoints = sorted((bench.directory / "state" / "checkpoints").iterdir())
    if damage == "newest checkpoint":
        (checkpoints[-1] / "checkpoint.json").write_text("{")
    else:
        files = sorted(checkpoints[-1].glob("holdout-*"))
        for path in files if damage == "all holdouts" else files[:1]:
            path.write_bytes(b"junk" + path.read_bytes())
    _, again = start()

    assert before == payload(again)


def test_one_that_is_gone_for_good_is_done_without(start: Start, tmp_path: Path) -> None:
    """The gate has less to measure with, which the next plan says; the daemon goes on."""
    bench, assembly = start(4 * TASK_INSTANCES)
    learn_tasks(assembly, 2)
    assembly.close()
    newest = max((bench.directory / "state" / "checkpoints").iterdir())
    (newest / "holdout-000001.safetensors").unlink()
    with closing(sqlite3.connect(tmp_path / "stream.db")) as log, log:
        log.execute("DELETE FROM records WHERE offset < 5")
        log.execute("UPDATE log SET deleted_below = 5")
    _, again = start()

    assert [2] == sorted(payload(again))

    learn_tasks(again)

    assert (2,) == bench.plans()[-1].holdouts


def test_records_are_needed_from_where_the_oldest_checkpoint_stands(start: Start) -> None:
    """Retention passes nothing that a holdout might have to be gathered from."""
    bench, assembly = start(6 * TASK_INSTANCES, checkpoints={"keep": 2})
    for _ in range(4):
        learn_tasks(assembly)
    plans = bench.plans()

    assert {
        PARTITION: plans[2].ranges[0].end
    } == assembly.learning._closing._checkpoints.needed_from()


def test_checkpoints_share_the_files_of_holdouts(start: Start) -> None:
    """A holdout is written once; the next checkpoint links it."""
    bench, assembly = start(3 * TASK_INSTANCES)
    learn_tasks(assembly, 3)
    newest, before = sorted((bench.directory / "state" / "checkpoints").iterdir())[:-3:-1]
    name = "holdout-000001.safetensors"

    assert (newest / name).samefile(before / name)

    shutil.rmtree(before)

    assert (newest / name).read_bytes()
