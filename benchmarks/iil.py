"""Does the method learn a stream better than its rivals, and forget less?

The protocol of [IIL] (Nie et al., arXiv 2406.03065; docs/method.md, 1 and 7): a base model learns
half of the data, the other half comes in ten tasks, each of which may be learned only while it is
the newest. Every method starts from the same base weights and sees the same tasks in the same
order with the same augmentation for the same number of epochs, in the Learner that the daemon
runs; only joint retraining, the limit, sees everything at once.

    python benchmarks/iil.py --data FOLDER --scale cpu --orders 5     # Fashion-MNIST, minutes
    python benchmarks/iil.py --data FOLDER --scale cpu-cifar100       # CIFAR-100, a small network
    python benchmarks/iil.py --data FOLDER --scale gpu --device cuda  # CIFAR-100, ResNet-18
    python benchmarks/iil.py --data FOLDER --report report/           # Markdown, plots, JSON

Each run is a file below `--runs`; what is there is not run again, and a run that is cut off goes
on after its last finished task. `--minutes` stops in time for a machine that is lent.

The last line on stdout is JSON: `methods.NAME.{pp,f,g,seconds}.{mean,ci95}` in percentage points
(g: a share; seconds: of a course's learning, the processor's on the CPU, the clock's on CUDA).

Settings are chosen with `--split validation`, on instances of the training set that nobody learns
from, and on other orders (`--first-order 100`); `--set` tries one: docs/learning.md.
"""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from course_benchmark import CourseBenchmark
from course_command import parse_methods, parser_of, run_and_report
from course_data import Course, load_corpus
from course_trainers import Trainer
from iil_data import deal
from iil_methods import ALL_METHODS, AVALANCHE, METHODS
from iil_report import summarise, write_report
from iil_scale import SCALES, Scale
from iil_trainers import Setup
from torch import nn


class Benchmark(CourseBenchmark):
    """Runs methods on orders of the data."""

    noted = "tasks"

    def deal(self, order: int) -> Course:
        """See CourseBenchmark; small scales measure with a part of the test set."""
        scale: Any = self._scale
        course = deal(
            self._corpus,
            order=order,
            split=self._arguments.split,
            num_base=scale.num_base,
            num_tasks=scale.num_tasks,
            task_instances=scale.task_instances,
        )
        if scale.num_test is None:
            return course
        return replace(course, test=course.test.take(np.arange(scale.num_test)))

    def build_setup(self, **facts: Any) -> Setup:  # noqa: ANN401 - passed on
        """See CourseBenchmark."""
        return Setup(**facts)

    def build_trainer(self, method: str, setup: Setup) -> Trainer:
        """See CourseBenchmark."""
        return ALL_METHODS[method].build(setup)

    def begin(self, method: str, setup: Setup) -> dict[str, Any]:  # noqa: ARG002 - all alike
        """Measure the base."""
        return {"tasks": [], "base": accuracies(setup, setup.base)}

    def note(
        self,
        facts: dict[str, Any],
        noted: Mapping[str, float],
        *,
        setup: Setup,
        network: nn.Module,
        number: int,
    ) -> None:
        """Measure now and then, and at the end."""
        is_last = number == len(setup.course.tasks)
        is_due = number % self._arguments.measure_every == 0 or is_last
        measured = accuracies(setup, network) if is_due else {}
        facts["tasks"].append({**measured, **noted})

    def describe(self, run: Mapping[str, Any]) -> str:
        """Return PP and F."""
        base, last = run["base"], run["tasks"][-1]
        return (
            f"PP {100 * (last['test'] - base['test']):+.2f} (from {100 * base['test']:.2f}), "
            f"F {100 * (base['base'] - last['base']):+.2f} (from {100 * base['base']:.2f}), "
            f"{run['seconds']:.0f} s"
        )


def accuracies(setup: Setup, network: nn.Module) -> dict[str, float]:
    """Return the accuracy on the test set and on the base's own training data, 0 to 1."""
    return {
        "test": setup.measure(network, setup.course.test).accuracy,
        "base": setup.measure(network, setup.course.base).accuracy,
    }


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the arguments, checked."""
    parser = parser_of(
        __doc__,
        scales=SCALES,
        methods=METHODS,
        all_methods=ALL_METHODS,
        runs=Path("build/iil"),
    )
    parser.add_argument("--dataset", choices=("fashion_mnist", "cifar100"), help="not the scale's")
    parser.add_argument("--num-base", type=int, help="not the scale's")
    parser.add_argument("--num-tasks", type=int, help="not the scale's")
    parser.add_argument("--task-instances", type=int, help="not the scale's")
    parser.add_argument("--measure-every", type=int, default=1, help="tasks; the last one always")
    return parse_methods(parser, argv, all_methods=ALL_METHODS, of_avalanche=AVALANCHE)


def scale_of(arguments: argparse.Namespace) -> Scale:
    """Return the scale with what the command line changes about it."""
    scale = SCALES[arguments.scale].with_settings(tuple(arguments.set))
    changes = {
        name: getattr(arguments, name)
        for name in ("dataset", "num_base", "num_tasks", "task_instances")
        if getattr(arguments, name) is not None
    }
    return replace(scale, **changes)


def main() -> None:
    """Run what is not done, then report all that is."""
    arguments = parse()
    scale = scale_of(arguments)
    run_and_report(
        "iil",
        lambda: Benchmark(arguments, scale, load_corpus(scale.dataset, arguments.data)),
        arguments,
        scale,
        summarise=summarise,
        write_report=write_report,
    )


if __name__ == "__main__":
    main()
