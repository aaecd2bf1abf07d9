"""What does the gate cost? The duration of a task with the gate, beside one without.

Two daemons' parts in this process learn the same stream of handwritten digits in turn, a task of
2,000 instances each, with the default 40 epochs: one with the default gate and a base holdout of
2,000 instances, one with `holdout_share: 0` and no base holdout. First each goes through as many
quick tasks as holdouts are kept (20), so that the gate measures with all that it may. Since what
is held out is not learned, durations are taken per learned instance.

    gate_overhead_ratio          seconds per learned instance, with the gate / without
    gated_task_seconds           of a task, with the gate
    ungated_task_seconds         without
    gate_points_tried            points of `gate.grid` tried per task, at most: where the candidate
                                 was taken
"""

import logging
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import structlog
import torch
from report import ROOT, Report, alternate, parse_arguments, progress

sys.path.insert(0, str(ROOT / "tests" / "support"))

from base_models import digits, digits_base
from stream_writing import append_digits

from teacherd.daemon.assembly import Assembly
from teacherd.daemon.config import Config
from teacherd.daemon.config_parsing import parse
from teacherd.daemon.entries import Outcome, Plan
from teacherd.daemon.lineage_log import read_lineage_log
from teacherd.daemon.metrics import Metrics
from teacherd.daemon.status_board import StatusBoard

BASE_INSTANCES = 2000
HASTE = {"epochs": 1, "consolidation": {"freezing_epochs": 0, "interval_epochs": 1}}


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    instances: int
    warm_up_tasks: int
    repetitions: int
    learning: dict[str, Any]


FULL = Size(2000, 20, 5, {})
QUICK = Size(300, 3, 1, {"epochs": 6, "consolidation": {"freezing_epochs": 2}})


def main() -> None:
    """Measure and report."""
    arguments = parse_arguments(__doc__)
    torch.set_num_threads(1)
    silent = structlog.make_filtering_bound_logger(logging.ERROR)
    structlog.configure(wrapper_class=silent)
    report = Report("gate", arguments)
    size = QUICK if arguments.quick else FULL
    with tempfile.TemporaryDirectory() as name, ExitStack() as opened:
        directory = Path(name)
        digits_base(directory)
        # What it must not unlearn.
        known = digits().take(np.arange(BASE_INSTANCES) % len(digits()))
        np.savez(directory / "holdout.npz", inputs=known.inputs, labels=known.labels)
        gated, ungated = (
            opened.enter_context(Learner(directory, size, arguments.device, gate=gate))
            for gate in (
                {"base_holdout": str(directory / "holdout.npz")},
                {"holdout_share": 0},
            )
        )
        for learner in (gated, ungated):
            learner.warm_up()
        with_gate, without = alternate(
            gated.learn_task, ungated.learn_task, repetitions=size.repetitions
        )
        report.add_ratio("gate_overhead_ratio", with_gate, without)
        report.add("gated_task_seconds", gated.seconds[1:])
        report.add("ungated_task_seconds", ungated.seconds[1:])
        report.add("gate_points_tried", gated.points_tried(size.repetitions))
    report.close()


class Learner:
    """The parts of one daemon, turned by hand; closed as a context."""

    def __init__(self, directory: Path, size: Size, device: str, *, gate: dict[str, Any]) -> None:
        """Write the stream and assemble the parts, which learn in haste at first."""
        home = directory / ("gated" if "base_holdout" in gate else "ungated")
        home.mkdir()
        self._size = size
        self._log = home / "state" / "lineage.log"
        self._settings: dict[str, Any] = {
            "model": {"base": str(directory / "base")},
            "process": {
                "state_directory": str(home / "state"),
                "device": device,
                "num_threads": 1,
            },
            "stream_log": {"path": str(home / "stream.db")},
            "tasks": {"instances": size.instances, "min_instances": 1},
            "gate": gate,
            "learning": HASTE,
        }
        num_tasks = size.warm_up_tasks + size.repetitions + 1
        append_digits(home / "stream.db", 0, num_tasks * size.instances)
        self.seconds: list[float] = []
        self._parts = Assembly(
            self._config(),
            metrics=Metrics(),
            board=StatusBoard(monotonic=time.monotonic),
            stop=threading.Event(),
        )

    def __enter__(self) -> Self:
        self._parts.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._parts.close()

    def warm_up(self) -> None:
        """Learn in haste until there are as many holdouts as are kept; then as configured."""
        for task in range(self._size.warm_up_tasks):
            self._turn_to_the_end()
            progress(f"warm-up: {task + 1} of {self._size.warm_up_tasks}")
        self._settings["learning"] = self._size.learning
        config = self._config()
        self._parts.learning.reconfigure(config.deciding, config.checkpoints)

    def learn_task(self) -> float:
        """Learn a task; return the seconds per learned instance."""
        self.seconds.append(self._turn_to_the_end())
        plans = [each for each in self._entries() if isinstance(each, Plan)]
        progress(f"a task took {self.seconds[-1]:.1f} s")
        return self.seconds[-1] / plans[-1].num_instances

    def points_tried(self, number: int) -> list[float]:
        """Return how many points the last outcomes' candidates took: 1 is the first of the grid."""
        grid = self._config().gate.grid
        outcomes = [each for each in self._entries() if isinstance(each, Outcome)][-number:]
        return [
            float(grid.index(each.point) + 1 if each.gate == "passed" else len(grid))
            for each in outcomes
        ]

    def _turn_to_the_end(self) -> float:
        """Take up a task and learn it; return the seconds from its plan to what follows from it."""
        learning = self._parts.learning
        while not learning.is_busy:
            self._parts.intake.tick()
            learning.tick()
        started = time.perf_counter()
        while learning.is_busy:
            learning.tick()
        return time.perf_counter() - started

    def _entries(self) -> list[Any]:
        return [logged.entry for logged in read_lineage_log(self._log)]

    def _config(self) -> Config:
        return parse(Config, self._settings, origin="benchmark")


if __name__ == "__main__":
    main()
