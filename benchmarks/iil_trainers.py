"""How a method goes through the tasks of benchmarks/iil.py, and what it keeps between them.

Whatever learns does so in the daemon's own Learner; a trainer says what happens around a task.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from course_trainers import CourseSetup
from torch import Tensor, nn

from teacherd.daemon.dataset import Dataset
from teacherd.daemon.deliberation import Deliberation
from teacherd.daemon.entries import Arrivals
from teacherd.daemon.gate import Evidence, Exam, GateConfig
from teacherd.daemon.standing import Standing
from teacherd.models.learner import Learner
from teacherd.models.learner_config import LearnerConfig
from teacherd.models.module_tensors import (
    load_module_tensors,
    module_tensors,
    snapshot,
    with_prefix,
)
from teacherd.models.task import Task


@dataclass(frozen=True, kw_only=True)
class Setup(CourseSetup):
    """What every method starts from."""

    def learner(
        self,
        config: LearnerConfig,
        kind: Callable[..., Learner] = Learner,
        **options: Any,  # noqa: ANN401 - a rival's own
    ) -> Learner:
        """Return a learner that starts from the base model."""
        return kind(
            config,
            teacher=self.base,
            preprocessing=self.preprocessing,
            sigma=None,
            device=self.device,
            **options,
        )


class LearnerTrainer:
    """Learns each task with a learner, and accepts whatever comes of it."""

    def __init__(self, setup: Setup, learner: Learner, config: LearnerConfig) -> None:
        self._setup = setup
        self.learner = learner
        self._schedule = config.schedule(setup.order)

    @property
    def network(self) -> nn.Module:
        """The teacher."""
        return self.learner.teacher

    def learn(self, number: int, dataset: Dataset) -> Mapping[str, float]:
        """Learn it whole."""
        report = self.learner.learn(to_task(number, dataset), self._schedule)
        self.learner.accept()
        return {"outer_share": report.outer_share, "retain": report.retain, **report.losses}

    def state_dict(self) -> dict[str, Tensor]:
        """Return the teacher, the dust's strength and what a rival remembers."""
        state = snapshot(module_tensors(self.learner.teacher), prefix="teacher")
        if self.learner.sigma is not None:
            state["sigma"] = torch.tensor(self.learner.sigma, dtype=torch.float64)
        if hasattr(self.learner, "memory_tensors"):
            state |= self.learner.memory_tensors()
        return state

    def load_state_dict(self, state: Mapping[str, Tensor], done: tuple[Dataset, ...]) -> None:
        """Put the learner where it was; a memory of instances is filled again as it was."""
        load_module_tensors(self.learner.teacher, with_prefix(state, "teacher"))
        if "sigma" in state:
            self.learner.sigma = float(state["sigma"])
        if hasattr(self.learner, "load_memory_tensors"):
            self.learner.load_memory_tensors(state)
        if hasattr(self.learner, "remember"):
            for dataset in done:
                self.learner.remember(dataset.inputs, dataset.labels)


class EarlyStoppingTrainer(LearnerTrainer):
    """Holds a tenth of each task out, and takes the student of the epoch that did best on it."""

    share = 0.1
    patience = 5

    def learn(self, number: int, dataset: Dataset) -> Mapping[str, float]:
        """Learn until so many epochs brought no better loss on what is held out."""
        learned, held_out = split_off(dataset, self.share, seed=self._setup.order)
        learner = self.learner
        learner.begin(to_task(number, learned), self._schedule)
        num_per_epoch = learner.num_steps // self._schedule.epochs
        best = copy.deepcopy(learner.teacher)
        lowest, best_epoch = self._setup.measure(best, held_out).loss, 0
        goes_on = True
        while goes_on:
            goes_on = learner.step()
            epoch, place = divmod(learner.num_steps_done, num_per_epoch)
            if place:
                continue
            loss = self._setup.measure(learner.student, held_out).loss
            if loss < lowest:
                lowest, best_epoch, best = loss, epoch, copy.deepcopy(learner.student)
            elif epoch - best_epoch >= self.patience:
                break
        load_module_tensors(learner.candidate, module_tensors(best))
        learner.accept()
        return {"epochs": best_epoch}


class GuardedTrainer(LearnerTrainer):
    """Holds a share of each task out and lets the daemon's gate find the point (method.md, 3)."""

    def __init__(
        self, setup: Setup, learner: Learner, config: LearnerConfig, gate: GateConfig
    ) -> None:
        super().__init__(setup, learner, config)
        self._gate = gate
        self._holdouts: list[Dataset] = []

    def learn(self, number: int, dataset: Dataset) -> Mapping[str, float]:
        """Learn what is not held out; go as far as the gate allows, else not at all."""
        learned, held_out = split_off(dataset, self._gate.holdout_share, seed=self._setup.order)
        self._holdouts = [held_out, *self._holdouts][: self._gate.holdout_tasks]
        learner = self.learner
        report = learner.learn(to_task(number, learned), self._schedule)
        ruling = Deliberation(self._gate, dataset.classes).rule(
            Standing(),
            task=number,
            arrivals=Arrivals(num=len(learned), wrong=round(report.outer_share * len(learned))),
            is_head_current=True,
            evidence_at=lambda point: self._evidence(number, learner.candidate_at(point)),
        )
        if ruling.verdict.result == "failed":
            learner.discard()
            return {"point": 0.0}
        learner.move_candidate(ruling.point)
        learner.accept()
        return {"point": ruling.point, "passed": float(ruling.verdict.result == "passed")}

    def load_state_dict(self, state: Mapping[str, Tensor], done: tuple[Dataset, ...]) -> None:
        """Put the learner where it was, and hold the same out again."""
        super().load_state_dict(state, done)
        parts = [
            split_off(each, self._gate.holdout_share, seed=self._setup.order)[1] for each in done
        ]
        self._holdouts = parts[::-1][: self._gate.holdout_tasks]

    def _evidence(self, number: int, candidate: nn.Module) -> Evidence:
        exams = tuple(
            Exam(
                task=number - age,
                labels=each.labels,
                candidate=self._setup.measure(candidate, each).correct,
                current=self._setup.measure(self.learner.teacher, each).correct,
                best=None,
            )
            for age, each in enumerate(self._holdouts)
        )
        return Evidence(newest=exams[0], earlier=exams[1:])


def to_task(number: int, dataset: Dataset) -> Task:
    """Return a data set as a numbered task."""
    return Task(number=number, inputs=dataset.inputs, labels=dataset.labels)


def split_off(dataset: Dataset, share: float, *, seed: int) -> tuple[Dataset, Dataset]:
    """Return what is learned and what is held out, at random."""
    places = np.random.default_rng(seed).permutation(len(dataset))
    num_held_out = max(1, round(share * len(dataset)))
    return dataset.take(np.sort(places[num_held_out:])), dataset.take(places[:num_held_out])
