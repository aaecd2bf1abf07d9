"""What is shown of the rehearsal memory is what it holds: by group, over growth and restarts."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
from assemblies import CLASSES, Bench, make_bench
from base_models import NUM_FEATURES
from structlog.testing import capture_logs

from teacherd.consumers.producing import NPY, build_record, encode_npy
from teacherd.daemon.assembly import Assembly
from teacherd.daemon.commands import Command

INSTANCE_BYTES = NUM_FEATURES * 4


def make_growing_bench(directory: Path, num_per_class: int = 2, **memory: int) -> Bench:
    """Return a daemon with a memory, and records for two tasks; foxes come in the second."""
    learning = {
        "epochs": 2,
        "consolidation": {"freezing_epochs": 1, "interval_epochs": 1},
        "memory": {"instances_per_class": num_per_class, **memory},
    }
    classes = {"unknown": "grow", "min_instances": 4}
    bench = make_bench(directory, learning=learning, classes=classes)
    rng = np.random.default_rng(3)
    known = [CLASSES[place % 3] for place in range(10)]
    bench.append(
        [
            build_record(
                encode_npy(rng.normal(size=NUM_FEATURES).astype(np.float32)),
                content_type=NPY,
                label=label,
            )
            for label in (*known, *known[:6], *["fox"] * 4)
        ]
    )
    return bench


def turn(assembly: Assembly, is_done: Callable[[], bool]) -> None:
    """Learn until something is so."""
    for _ in range(2000):
        if is_done() and not assembly.learning.is_busy:
            return
        assembly.learning.tick()
    raise AssertionError("no end")


def shown(bench: Bench) -> tuple[float | None, ...]:
    """Return what the metrics show, first and later instances and bytes, as the status does."""
    groups = ("first", "later")
    found = (
        *(bench.value("rehearsal_memory_instances", group=each) for each in groups),
        bench.value("rehearsal_memory_bytes"),
    )
    status = bench.board.snapshot()["classes"]
    assert found == (*map(status["memory_instances"].get, groups), status["memory_bytes"])
    return found


def test_the_memory_is_shown_by_group_as_classes_come_and_go(tmp_path: Path) -> None:
    """Empty, of the first classes, of a later one, after a restart, after a rollback."""
    bench = make_growing_bench(tmp_path)
    with closing(bench.assemble()) as assembly:
        assembly.intake.tick()

        assert (0, 0, 0) == shown(bench)

        turn(assembly, lambda: len(bench.outcomes()) == 1)

        assert (6, 0, 6 * INSTANCE_BYTES) == shown(bench)

        turn(assembly, lambda: len(bench.outcomes()) == 2)

        assert (6, 2, 8 * INSTANCE_BYTES) == shown(bench)
    again = Bench(bench.directory, bench.settings)
    with closing(again.assemble()) as assembly:
        assert (6, 2, 8 * INSTANCE_BYTES) == shown(again)

        answer = assembly.commands.ask(Command("rollback", 1))
        assembly.learning.tick()
        answer.result(timeout=0)

        assert (6, 0, 6 * INSTANCE_BYTES) == shown(again)


def test_a_memory_that_has_no_room_for_one_class_more_is_told(tmp_path: Path) -> None:
    """It had an instance of each class; with another class it keeps none of any."""
    bench = make_growing_bench(tmp_path, max_bytes=len(CLASSES) * INSTANCE_BYTES)
    with closing(bench.assemble()) as assembly, capture_logs() as logs:
        assembly.intake.tick()
        turn(assembly, lambda: len(bench.outcomes()) == 1)

        assert (3, 0, 3 * INSTANCE_BYTES) == shown(bench)

        turn(assembly, lambda: len(bench.outcomes()) == 2)

        assert (0, 0, 0) == shown(bench)
    told = [each for each in logs if each["event"] == "rehearsal_memory_emptied"]
    assert [("warning", 3)] == [(each["log_level"], each["instances"]) for each in told]


def test_without_a_memory_there_is_nothing_in_it(tmp_path: Path) -> None:
    """Zeros, not nothing: a panel that is empty says less."""
    bench = make_growing_bench(tmp_path, num_per_class=0)
    with closing(bench.assemble()) as assembly:
        assembly.intake.tick()
        turn(assembly, lambda: len(bench.outcomes()) == 1)

        assert (0, 0, 0) == shown(bench)
