"""Holdouts in memory, and how versions answer them; each version answers each holdout once."""

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from teacherd.daemon.gate import Evidence, Exam
from teacherd.daemon.holdout_split import Holdout
from teacherd.daemon.lineage import Lineage
from teacherd.daemon.paired_test import Answers
from teacherd.models.evaluation import Evaluation, evaluate
from teacherd.models.preprocessing import Preprocessing

BASE = 0
"""Task number of the base holdout."""


class Holdouts:
    """Owns the payloads of the holdouts in use, and the answers to them.

    Args:
        network_of: Gives a version's network, on the device.
        classes_of: Gives a version's classes.
        device: Where to compute.
        on_progress: Called after each forward pass.
    """

    def __init__(
        self,
        *,
        network_of: Callable[[int], nn.Module],
        classes_of: Callable[[int], Sequence[str]],
        preprocessing: Preprocessing,
        device: torch.device,
        on_progress: Callable[[], None],
    ) -> None:
        self._network_of = network_of
        self._classes_of = classes_of
        self._preprocessing = preprocessing
        self._device = device
        self._on_progress = on_progress
        self._holdouts: dict[int, Holdout] = {}
        self._answers: dict[tuple[int, int], Answers] = {}

    @property
    def of_tasks(self) -> Mapping[int, Holdout]:
        """The holdouts of tasks, by number."""
        return {task: each for task, each in self._holdouts.items() if task != BASE}

    def put(self, holdout: Holdout) -> None:
        """Take in a holdout, unless it is empty."""
        if len(holdout.labels):
            self._holdouts[holdout.task] = holdout

    def put_base(self, holdout: Holdout | None) -> None:
        """Take in what the base model must not unlearn, or that there is no such set."""
        self._holdouts.pop(BASE, None)
        if holdout is not None:
            self._holdouts[BASE] = holdout

    def keep(self, tasks: Collection[int], versions: Collection[int]) -> None:
        """Forget the holdouts of all other tasks, and what all other versions answered."""
        wanted = {BASE, *tasks}
        self._holdouts = {task: each for task, each in self._holdouts.items() if task in wanted}
        self._answers = {
            (version, task): answers
            for (version, task), answers in self._answers.items()
            if version in versions and task in self._holdouts
        }

    def answer(
        self, network: nn.Module, classes: Sequence[str], tasks: Collection[int]
    ) -> dict[int, Answers]:
        """Have a network answer holdouts; return by task whether it is right, [N] each.

        Args:
            network: Lies on the device.
            classes: Its own; it is wrong about all others.
            tasks: Whose holdouts.
        """
        return {task: self._ask(network, classes, self._holdouts[task]) for task in tasks}

    def evaluate(self, network: nn.Module, classes: Sequence[str]) -> dict[str, Evaluation]:
        """Return how a network does on the holdouts of all tasks together; it decides nothing.

        Args:
            network: Lies on the device.
            classes: Its own; instances of others are left out.
        """
        known = [
            (each.inputs[is_known], labels[is_known])
            for each in self.of_tasks.values()
            for labels in [each.labels_for(classes)]
            if (is_known := labels >= 0).any()
        ]
        if not known:
            return {}
        evaluation = evaluate(
            network,
            np.concatenate([inputs for inputs, _ in known]),
            np.concatenate([labels for _, labels in known]),
            preprocessing=self._preprocessing,
            device=self._device,
            on_batch=self._on_progress,
        )
        return {"holdouts": evaluation}

    def remember(self, version: int, answers: Mapping[int, Answers]) -> None:
        """Note what a version answers, which need not be asked again."""
        self._answers |= {(version, task): each for task, each in answers.items()}

    def rename(self, version: int, *, like: int) -> None:
        """Let a version that has another's weights answer as that one does."""
        known = {task: each for (who, task), each in self._answers.items() if who == like}
        self.remember(version, known)

    def tasks_in_use(self, lineage: Lineage, task: int) -> tuple[int, ...]:
        """Return what a task's candidate is measured with: newest first, the base holdout last."""
        tasks = {task, *lineage.standing.holdouts} & set(self._holdouts)
        has_base = BASE in self._holdouts and not lineage.standing.is_base_retired
        return (*sorted(tasks, reverse=True), *((BASE,) if has_base else ()))

    def evidence(
        self,
        lineage: Lineage,
        task: int,
        candidate: Mapping[int, Answers],
        classes: Sequence[str],
    ) -> Evidence:
        """Put a candidate's answers beside those of the served and of the best version.

        Args:
            lineage: Says which those are.
            task: The one that the candidate has just learned.
            candidate: Its answers, by task, the newest first.
            classes: Its own.
        """
        exams = {
            each: self._exam(lineage, each, answers, classes) for each, answers in candidate.items()
        }
        return Evidence(
            newest=exams.get(task),
            earlier=tuple(exam for each, exam in exams.items() if each not in {task, BASE}),
            base=exams.get(BASE),
        )

    def _exam(
        self, lineage: Lineage, task: int, candidate: Answers, classes: Sequence[str]
    ) -> Exam:
        current, best = lineage.current or 0, lineage.standing.best
        labels = self._holdouts[task].labels_for(classes)
        return Exam(
            task=task,
            labels=labels,
            candidate=candidate,
            current=self._of_version(current, task),
            best=None if best == current else self._of_version(best, task),
            known_to_current=self._known_to(current, task, labels),
            known_to_best=self._known_to(best, task, labels),
        )

    def _known_to(
        self, version: int, task: int, labels: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_] | None:
        """Tell of which instances version and candidate know the class; None: of all of them."""
        known: npt.NDArray[np.bool_] = labels >= 0
        known &= self._holdouts[task].labels_for(self._classes_of(version)) >= 0
        return None if known.all() else known

    def _of_version(self, version: int, task: int) -> Answers:
        known = self._answers.get((version, task))
        if known is None:
            network, classes = self._network_of(version), self._classes_of(version)
            known = self._ask(network, classes, self._holdouts[task])
            self._answers[version, task] = known
        return known

    def _ask(self, network: nn.Module, classes: Sequence[str], holdout: Holdout) -> Answers:
        labels = holdout.labels_for(classes)
        known = labels >= 0
        answers: Answers = np.zeros(len(labels), dtype=np.bool_)
        if known.any():
            # Holdout by holdout, so that a batch is always the same: bits depend on it.
            answers[known] = evaluate(
                network,
                holdout.inputs[known],
                labels[known],
                preprocessing=self._preprocessing,
                device=self._device,
                on_batch=self._on_progress,
            ).correct
        return answers
