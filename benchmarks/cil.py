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

The last line on stdout is JSON: `methods.NAME.{last,average,forgetting,seconds}.{mean,ci95}` in
percentage points (seconds: a course's learning, the processor's on the CPU, the clock's on CUDA).

Settings are chosen with `--split validation`, on instances of the training set that nobody learns
from, and on other orders of the classes (`--first-order 100`); `--set` tries one.
"""

import argparse
import importlib.util
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from cil_data import deal_classes
from cil_methods import ALL_METHODS, METHODS, OPTIONAL, ClassSetup
from cil_report import figures_of, summarise, write_report
from cil_scale import SCALES, ClassScale
from iil_data import Corpus, load_corpus
from iil_runs import Runs, write_whole
from report import progress
from torch import nn

from teacherd.daemon.pretraining import pretrain
from teacherd.models.module_tensors import load_module_tensors, module_tensors
from teacherd.models.placement import Placement, enable_determinism
from teacherd.models.preprocessing import Preprocessing


class OutOfTime(Exception):  # noqa: N818 - no error: the next call goes on
    """The minutes are over, between two increments."""


class Benchmark:
    """Runs methods on orders of the classes, as far as they are not done."""

    def __init__(self, arguments: argparse.Namespace, scale: ClassScale, corpus: Corpus) -> None:
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
        setup = self._setup(order)
        for method in todo:
            self._run_method(method, names[method], setup)

    def _name(self, method: str) -> str:
        assigned = [] if method == "joint" else self._arguments.set
        return "@".join([method, *assigned]).replace("/", "_")

    def _setup(self, order: int) -> ClassSetup:
        course = deal_classes(
            self._corpus,
            order=order,
            split=self._arguments.split,
            increments=self._scale.increments,
            per_class=self._scale.per_class,
        )
        base = course.parts[0]
        preprocessing = Preprocessing.fit(base.inputs)
        network = self._scale.build_fresh(base.input_shape, course.increments[0], order)
        network = Placement(device=self._device).place(network)
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
            )
            tensors = {
                name: tensor.detach().to("cpu", copy=True).contiguous()
                for name, tensor in module_tensors(network).items()
            }
            write_whole(path, safetensors.torch.save(tensors))
        return ClassSetup(
            scale=self._scale,
            course=course,
            base=network.eval(),
            preprocessing=preprocessing,
            order=order,
            device=self._device,
        )

    def _run_method(self, method: str, name: str, setup: ClassSetup) -> None:
        trainer = ALL_METHODS[method].build(setup)
        sizes = [len(setup.course.test_of(each)) for each in range(len(setup.course.increments))]
        facts: dict[str, Any] = {
            "method": method,
            "test_sizes": sizes,
            "accuracies": [accuracies(setup, setup.base, 0)],
            "noted": [],
            "seconds": 0.0,
        }
        partial = self.runs.load_partial(setup.order, name)
        if partial is not None:
            state, facts = partial
            trainer.load_state_dict(state, len(facts["noted"]))
        for number in range(len(facts["noted"]) + 1, len(setup.course.parts)):
            self._check_time()
            started = self._seconds()
            facts["noted"].append(dict(trainer.learn(number)))
            facts["seconds"] += self._seconds() - started
            if method != "joint" or number + 1 == len(setup.course.parts):
                facts["accuracies"].append(accuracies(setup, trainer.network, number))
            self.runs.save_partial(setup.order, name, trainer.state_dict(), facts)
        run = {
            "settings": asdict(setup.scale.learning),
            "set": [] if method == "joint" else self._arguments.set,
            "device": self._arguments.device,
            **facts,
        }
        self.runs.save(setup.order, name, run)
        figures = {key: round(value, 2) for key, value in figures_of(run).items()}
        progress(f"order {setup.order}, {name}: {figures}")

    def _seconds(self) -> float:
        """Return a clock: the processor's where a busy machine would blur the wall's."""
        if self._device.type == "cuda":
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()

    def _check_time(self) -> None:
        if time.monotonic() > self._ends:
            raise OutOfTime


def accuracies(setup: ClassSetup, network: nn.Module, number: int) -> list[float]:
    """Return the accuracy on each increment's test instances so far, among all classes so far."""
    return [
        setup.measure(network, setup.course.test_of(each)).accuracy for each in range(number + 1)
    ]


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the arguments, checked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--scale", choices=sorted(SCALES), default="cpu")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--orders", type=int, default=5, help="how many orders of the classes")
    parser.add_argument("--first-order", type=int, default=0, help="seed of the first one")
    parser.add_argument(
        "--methods", default=",".join(METHODS), help=f"by comma, of {', '.join(ALL_METHODS)}"
    )
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    parser.add_argument("--set", action="append", default=[], help="new_classes.weight=2")
    parser.add_argument("--minutes", type=float, default=1e6, help="stop after so many")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--runs", type=Path, default=Path("build/cil"), help="folder of the runs")
    parser.add_argument("--report", type=Path, help="folder to write a report into")
    arguments = parser.parse_args(argv)
    arguments.methods = [name for name in arguments.methods.split(",") if name]
    unknown = sorted(set(arguments.methods) - set(ALL_METHODS))
    if unknown:
        parser.error(f"--methods: {unknown[0]}: no such method; take of {', '.join(ALL_METHODS)}")
    theirs = [name for name in arguments.methods if name in OPTIONAL]
    if theirs and importlib.util.find_spec("avalanche") is None:
        parser.error(
            f"--methods: {theirs[0]}: needs avalanche-lib, which is not installed; "
            "pip install avalanche-lib, best in an environment of its own, or leave it out"
        )
    return arguments


def main() -> None:
    """Run what is not done, then report all that is."""
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    enable_determinism(torch.device(arguments.device))
    scale = SCALES[arguments.scale].with_settings(tuple(arguments.set))
    benchmark = Benchmark(arguments, scale, load_corpus(scale.dataset, arguments.data))
    is_complete = True
    try:
        for order in range(arguments.first_order, arguments.first_order + arguments.orders):
            benchmark.run(order, arguments.methods)
    except OutOfTime:
        is_complete = False
        progress("the minutes are over; the same command goes on")
    summary = {
        "benchmark": "cil",
        "command": " ".join(["python", "benchmarks/cil.py", *sys.argv[1:]]),
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
