"""Does the method learn new classes better than its rivals, and forget fewer of the old?

Class-incremental learning (docs/method.md, 5): a base model knows the first classes, the others
come in increments, each of which may be learned only while it is the newest. Every method starts
from the same base weights and sees the same increments with the same augmentation for the same
number of epochs, in the Learner that the daemon runs. Methods with a memory say so.

    python benchmarks/cil.py --data FOLDER --scale cpu --orders 5     # Fashion-MNIST, 4 + 3 x 2
    python benchmarks/cil.py --data FOLDER --scale gpu --device cuda  # CIFAR-100, 50 + 10 x 5
    python benchmarks/cil.py --data FOLDER --report report/           # Markdown and JSON

Other scales: gpu-50x20, gpu-0x10, gpu-0x20 (10 and 20 increments from 50 or no base classes), tiny.
Each run is a file below `--runs`; what is there is not run again, and a run that is cut off goes
on after its last finished increment. `--minutes` stops in time for a machine that is lent.

The last line on stdout is JSON: `methods.NAME.{last,behind,average,forgetting,seconds}`, each
`.{mean,ci95}`, in percentage points (seconds: a course's learning, the processor's on the CPU, the
clock's on CUDA).

Settings are chosen with `--split validation`, on instances of the training set that nobody learns
from, and on other orders of the classes (`--first-order 100`); `--set` tries one.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cil_data import ClassCourse, deal_classes
from cil_methods import ALL_METHODS, METHODS, OPTIONAL, ClassSetup
from cil_report import figures_of, summarise, write_report
from cil_scale import SCALES
from course_benchmark import CourseBenchmark
from course_command import parse_methods, parser_of, run_and_report
from course_data import load_corpus
from course_trainers import Trainer
from torch import nn


class Benchmark(CourseBenchmark):
    """Runs methods on orders of the classes."""

    noted = "noted"

    def deal(self, order: int) -> ClassCourse:
        """See CourseBenchmark."""
        scale: Any = self._scale
        return deal_classes(
            self._corpus,
            order=order,
            split=self._arguments.split,
            increments=scale.increments,
            per_class=scale.per_class,
        )

    def build_setup(self, **facts: Any) -> ClassSetup:  # noqa: ANN401 - passed on
        """See CourseBenchmark."""
        return ClassSetup(**facts)

    def build_trainer(self, method: str, setup: ClassSetup) -> Trainer:
        """See CourseBenchmark."""
        return ALL_METHODS[method].build(setup)

    def begin(self, method: str, setup: ClassSetup) -> dict[str, Any]:
        """Measure the base."""
        sizes = [len(setup.course.test_of(each)) for each in range(len(setup.course.increments))]
        return {
            "method": method,
            "test_sizes": sizes,
            "accuracies": [accuracies(setup, setup.base, 0)],
            "noted": [],
        }

    def note(
        self,
        facts: dict[str, Any],
        noted: Mapping[str, float],
        *,
        setup: ClassSetup,
        network: nn.Module,
        number: int,
    ) -> None:
        """Measure on all increments so far; the limit knows none before the last."""
        facts["noted"].append(dict(noted))
        if facts["method"] != "joint" or number == len(setup.course.tasks):
            facts["accuracies"].append(accuracies(setup, network, number))

    def describe(self, run: Mapping[str, Any]) -> str:
        """Return its figures."""
        return str({key: round(value, 2) for key, value in figures_of(run).items()})


def accuracies(setup: ClassSetup, network: nn.Module, number: int) -> list[float]:
    """Return the accuracy on each increment's test instances so far, among all classes so far."""
    return [
        setup.measure(network, setup.course.test_of(each)).accuracy for each in range(number + 1)
    ]


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the arguments, checked."""
    parser = parser_of(
        __doc__,
        scales=SCALES,
        methods=METHODS,
        all_methods=ALL_METHODS,
        runs=Path("build/cil"),
    )
    return parse_methods(parser, argv, all_methods=ALL_METHODS, of_avalanche=OPTIONAL)


def main() -> None:
    """Run what is not done, then report all that is."""
    arguments = parse()
    scale = SCALES[arguments.scale].with_settings(tuple(arguments.set))
    run_and_report(
        "cil",
        lambda: Benchmark(arguments, scale, load_corpus(scale.dataset, arguments.data)),
        arguments,
        scale,
        summarise=summarise,
        write_report=write_report,
    )


if __name__ == "__main__":
    main()
