"""Runs methods on orders of a course: what benchmarks/iil.py and cil.py have in common.

Each run is a file; what is there is not run again, and a run that is cut off goes on after its last
finished task.
"""

import argparse
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import safetensors.torch
import torch
from course_data import Corpus, Course
from course_runs import Runs, write_whole
from course_scale import CourseScale
from course_trainers import CourseSetup, Trainer
from report import progress
from torch import nn

from teacherd.daemon.pretraining import pretrain
from teacherd.models.module_tensors import load_module_tensors, module_tensors
from teacherd.models.placement import Placement
from teacherd.models.preprocessing import Preprocessing


class OutOfTime(Exception):  # noqa: N818 - no error: the next call goes on
    """The minutes are over, between two tasks."""


class CourseBenchmark(ABC):
    """Runs methods on orders, as far as they are not done.

    Args:
        arguments: As `course_command.py` has them.
        scale: The size.
        corpus: What is dealt out.
    """

    noted: str
    """Key of the list in a run that has one entry for each task done."""

    def __init__(self, arguments: argparse.Namespace, scale: CourseScale, corpus: Corpus) -> None:
        self._arguments = arguments
        self._scale = scale
        self._corpus = corpus
        self._device = torch.device(arguments.device)
        root = arguments.runs / arguments.split
        self.runs = Runs(root / scale.key)
        self._bases = Runs(root / scale.base_key)
        self._ends = time.monotonic() + 60 * arguments.minutes

    @abstractmethod
    def deal(self, order: int) -> Course:
        """Return the course of an order."""

    @abstractmethod
    def build_setup(self, **facts: Any) -> CourseSetup:  # noqa: ANN401 - the fields of a CourseSetup
        """Return what all methods start from."""

    @abstractmethod
    def build_trainer(self, method: str, setup: CourseSetup) -> Trainer:
        """Return a method, before the first task."""

    @abstractmethod
    def begin(self, method: str, setup: CourseSetup) -> dict[str, Any]:
        """Return what a run says of itself before the first task, the empty list included."""

    @abstractmethod
    def note(
        self,
        facts: dict[str, Any],
        noted: Mapping[str, float],
        *,
        setup: CourseSetup,
        network: nn.Module,
        number: int,
    ) -> None:
        """Add to a run what came of a task: what the trainer noted, and what is measured."""

    @abstractmethod
    def describe(self, run: Mapping[str, Any]) -> str:
        """Return in short what a run came to."""

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
        return "@".join([method, *self._assigned(method)]).replace("/", "_")

    def _assigned(self, method: str) -> list[str]:
        """Return what `--set` changes: nothing of the limit, which does not learn as others do."""
        return [] if method == "joint" else self._arguments.set

    def _setup(self, order: int) -> CourseSetup:
        """Train the order's base model, or load it."""
        course = self.deal(order)
        base = course.base
        preprocessing = Preprocessing.fit(base.inputs)
        network = self._scale.build_fresh(base.input_shape, course.num_base_classes, order)
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
                on_epoch=lambda epoch: progress(
                    f"order {order}, base: epoch {epoch.number} of {epoch.num_epochs}, "
                    f"loss {epoch.loss:.3f}"
                ),
            )
            tensors = {
                name: tensor.detach().to("cpu", copy=True).contiguous()
                for name, tensor in module_tensors(network).items()
            }
            write_whole(path, safetensors.torch.save(tensors))
        return self.build_setup(
            scale=self._scale,
            course=course,
            base=network.eval(),
            preprocessing=preprocessing,
            order=order,
            device=self._device,
        )

    def _run_method(self, method: str, name: str, setup: CourseSetup) -> None:
        trainer, tasks = self.build_trainer(method, setup), setup.course.tasks
        facts = {"seconds": 0.0, **self.begin(method, setup)}
        partial = self.runs.load_partial(setup.order, name)
        if partial is not None:
            state, facts = partial
            trainer.load_state_dict(state, tasks[: len(facts[self.noted])])
        for number in range(len(facts[self.noted]) + 1, len(tasks) + 1):
            self._check_time()
            started = self._seconds()
            noted = trainer.learn(number, tasks[number - 1])
            facts["seconds"] += self._seconds() - started
            self.note(facts, noted, setup=setup, network=trainer.network, number=number)
            self.runs.save_partial(setup.order, name, trainer.state_dict(), facts)
        run = {
            "method": method,
            "settings": asdict(setup.scale.learning),
            "set": self._assigned(method),
            "device": self._arguments.device,
            "instances": sum(map(len, tasks)),
            **facts,
        }
        self.runs.save(setup.order, name, run)
        progress(f"order {setup.order}, {name}: {self.describe(run)}")

    def _seconds(self) -> float:
        """Return a clock: the processor's where a busy machine would blur the wall's."""
        if self._device.type == "cuda":
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()

    def _check_time(self) -> None:
        if time.monotonic() > self._ends:
            raise OutOfTime
