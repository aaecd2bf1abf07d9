"""Does the method learn a stream better than its rivals, and forget less?

The protocol of [IIL] (Nie et al., arXiv 2406.03065; docs/method.md, 1 and 7): a base model learns
half of the data, the other half comes in ten tasks, each of which may be learned only while it is
the newest. Every method starts from the same base weights and sees the same tasks in the same
order with the same augmentation for the same number of epochs, in the Learner that the daemon
runs; only joint retraining, the limit, sees everything at once.

    python benchmarks/iil.py --data FOLDER --scale cpu --orders 5     # Fashion-MNIST, minutes
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
import importlib.util
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from iil_data import Corpus, Course, deal, load_corpus
from iil_methods import ALL_METHODS, AVALANCHE, METHODS
from iil_report import summarise, write_report
from iil_runs import Runs, write_whole
from iil_scale import SCALES, Scale
from iil_trainers import Setup, Trainer
from report import progress

from teacherd.daemon.pretraining import pretrain
from teacherd.models.module_tensors import load_module_tensors, module_tensors, snapshot
from teacherd.models.placement import Placement, enable_determinism
from teacherd.models.preprocessing import Preprocessing


class OutOfTime(Exception):  # noqa: N818 - no error: the next call goes on
    """The minutes are over, between two tasks."""


class Benchmark:
    """Runs methods on orders, as far as they are not done."""

    def __init__(self, arguments: argparse.Namespace, scale: Scale, corpus: Corpus) -> None:
        self._arguments = arguments
        self._scale = scale
        self._corpus = corpus
        self._device = torch.device(arguments.device)
        root = arguments.runs / arguments.split
        self.runs = Runs(root / scale.key)
        self._bases = Runs(root / scale.base_key)
        self._ends = time.monotonic() + 60 * arguments.minutes

    def run(self, order: int, methods: list[str]) -> None:
        """Run the methods that are not done for an order."""
        names = {method: self._name(method) for method in methods}
        todo = [method for method, name in names.items() if not self.runs.load(order, name)]
        if not todo:
            return
        course = deal(
            self._corpus,
            order=order,
            split=self._arguments.split,
            num_base=self._scale.num_base,
            num_tasks=self._scale.num_tasks,
            task_instances=self._scale.task_instances,
        )
        if self._scale.num_test is not None:
            measured = course.test.take(np.arange(self._scale.num_test))
            course = replace(course, test=measured)
        setup = self._setup(order, course)
        for method in todo:
            self._run_method(method, names[method], setup)

    def _name(self, method: str) -> str:
        assigned = [] if method == "joint" else self._arguments.set
        return "@".join([method, *assigned]).replace("/", "_")

    def _setup(self, order: int, course: Course) -> Setup:
        """Train the order's base model, or load it."""
        base = course.base
        network = self._scale.build_fresh(base.input_shape, len(base.classes), order)
        network = Placement(device=self._device).place(network)
        preprocessing = Preprocessing.fit(base.inputs)
        path = self._bases.path(order, "base", ".safetensors")
        if path.is_file():
            load_module_tensors(network, safetensors.torch.load_file(path))
        else:
            self._check_time()
            pretrain(
                network,
                base.inputs,
                base.labels,
                config=self._scale.pretraining,
                preprocessing=preprocessing,
                seed=order,
                device=self._device,
                on_epoch=lambda epoch: progress(
                    f"order {order}, base: epoch {epoch.number} of {epoch.num_epochs}, "
                    f"loss {epoch.loss:.3f}"
                ),
            )
            tensors = snapshot(module_tensors(network), prefix="")
            tensors = {name.removeprefix("."): tensor for name, tensor in tensors.items()}
            write_whole(path, safetensors.torch.save(tensors))
        return Setup(
            scale=self._scale,
            course=course,
            base=network.eval(),
            preprocessing=preprocessing,
            order=order,
            device=self._device,
        )

    def _run_method(self, method: str, name: str, setup: Setup) -> None:
        trainer = ALL_METHODS[method].build(setup)
        facts: dict[str, Any] = {"tasks": [], "seconds": 0.0, "base": accuracies(setup, setup.base)}
        partial = self.runs.load_partial(setup.order, name)
        if partial is not None:
            state, facts = partial
            trainer.load_state_dict(state, setup.course.tasks[: len(facts["tasks"])])
        for number in range(len(facts["tasks"]) + 1, len(setup.course.tasks) + 1):
            self._check_time()
            self._learn(trainer, number, setup, facts)
            self.runs.save_partial(setup.order, name, trainer.state_dict(), facts)
        self.runs.save(
            setup.order,
            name,
            {
                "method": method,
                "settings": asdict(setup.scale.learning),
                "set": [] if method == "joint" else self._arguments.set,
                "device": self._arguments.device,
                "instances": len(setup.course.tasks) * len(setup.course.tasks[0]),
                **facts,
            },
        )
        progress(f"order {setup.order}, {name}: {_describe(facts)}")

    def _learn(self, trainer: Trainer, number: int, setup: Setup, facts: dict[str, Any]) -> None:
        """Learn a task and measure what came of it."""
        tasks = setup.course.tasks
        started = self._seconds()
        noted = trainer.learn(number, tasks[number - 1])
        facts["seconds"] += self._seconds() - started
        is_due = number % self._arguments.measure_every == 0 or number == len(tasks)
        measured = accuracies(setup, trainer.network) if is_due else {}
        facts["tasks"].append({**measured, **noted})

    def _seconds(self) -> float:
        """Return a clock: the processor's where a busy machine would blur the wall's."""
        if self._device.type == "cuda":
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()

    def _check_time(self) -> None:
        if time.monotonic() > self._ends:
            raise OutOfTime


def accuracies(setup: Setup, network: torch.nn.Module) -> dict[str, float]:
    """Return the accuracy on the test set and on the base's own training data, 0 to 1."""
    return {
        "test": setup.measure(network, setup.course.test).accuracy,
        "base": setup.measure(network, setup.course.base).accuracy,
    }


def _describe(facts: Mapping[str, Any]) -> str:
    base, last = facts["base"], facts["tasks"][-1]
    return (
        f"PP {100 * (last['test'] - base['test']):+.2f} (from {100 * base['test']:.2f}), "
        f"F {100 * (base['base'] - last['base']):+.2f} (from {100 * base['base']:.2f}), "
        f"{facts['seconds']:.0f} s"
    )


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the arguments, checked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--scale", choices=sorted(SCALES), default="cpu")
    parser.add_argument("--dataset", choices=("fashion_mnist", "cifar100"), help="not the scale's")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--orders", type=int, default=5, help="how many orders of the data")
    parser.add_argument("--first-order", type=int, default=0, help="seed of the first one")
    parser.add_argument(
        "--methods", default=",".join(METHODS), help=f"by comma, of {', '.join(ALL_METHODS)}"
    )
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    parser.add_argument("--num-base", type=int, help="not the scale's")
    parser.add_argument("--num-tasks", type=int, help="not the scale's")
    parser.add_argument("--task-instances", type=int, help="not the scale's")
    parser.add_argument("--set", action="append", default=[], help="optimizer.learning_rate=0.02")
    parser.add_argument("--measure-every", type=int, default=1, help="tasks; the last one always")
    parser.add_argument("--minutes", type=float, default=1e6, help="stop after so many")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--runs", type=Path, default=Path("build/iil"), help="folder of the runs")
    parser.add_argument("--report", type=Path, help="folder to write report and plots into")
    arguments = parser.parse_args(argv)
    arguments.methods = [name for name in arguments.methods.split(",") if name]
    unknown = sorted(set(arguments.methods) - set(ALL_METHODS))
    if unknown:
        parser.error(f"--methods: {unknown[0]}: no such method; take of {', '.join(ALL_METHODS)}")
    theirs = sorted(set(arguments.methods) & set(AVALANCHE))
    if theirs and importlib.util.find_spec("avalanche") is None:
        parser.error(
            f"--methods: {theirs[0]}: needs avalanche-lib, which is not installed; "
            "pip install avalanche-lib, best in an environment of its own, or leave it out"
        )
    return arguments


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
    torch.set_num_threads(arguments.threads)
    enable_determinism(torch.device(arguments.device))
    scale = scale_of(arguments)
    benchmark = Benchmark(arguments, scale, load_corpus(scale.dataset, arguments.data))
    is_complete = True
    try:
        for order in range(arguments.first_order, arguments.first_order + arguments.orders):
            benchmark.run(order, arguments.methods)
    except OutOfTime:
        is_complete = False
        progress("the minutes are over; the same command goes on")
    summary = {
        "benchmark": "iil",
        "command": " ".join(["python", "benchmarks/iil.py", *sys.argv[1:]]),
        "scale": scale.name,
        "course": scale.key,
        "split": arguments.split,
        "is_complete": is_complete,
        **summarise(benchmark.runs),
    }
    if arguments.report is not None:
        write_report(summary, arguments.report)
    print(json.dumps(summary), flush=True)


if __name__ == "__main__":
    main()
