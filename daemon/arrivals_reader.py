"""How the head, and who is on probation, answer to what nobody has learned yet."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from teacherd.consumers.instance import Array
from teacherd.daemon.entries import Arrivals, Plan
from teacherd.daemon.holdout_split import Instances, at_names, places_in
from teacherd.daemon.lineage import Lineage
from teacherd.daemon.paired_test import Answers, PairedCounts
from teacherd.daemon.version_networks import VersionNetworks
from teacherd.models.evaluation import evaluate
from teacherd.models.preprocessing import Preprocessing


class ArrivalsReader:
    """Measures on instances before they are learned.

    Args:
        lineage: Says who is on probation, and what the head's classes are.
        networks: Of its versions.
        preprocessing: Of all of them.
        device: Where to compute.
        on_progress: Called after each forward pass.
    """

    def __init__(
        self,
        lineage: Lineage,
        networks: VersionNetworks,
        *,
        preprocessing: Preprocessing,
        device: torch.device,
        on_progress: Callable[[], None],
    ) -> None:
        self._lineage = lineage
        self._networks = networks
        self._preprocessing = preprocessing
        self._device = device
        self._on_progress = on_progress

    def read(self, plan: Plan, known: Instances, correct: Answers) -> Arrivals:
        """Return how a task that begins was answered.

        Args:
            plan: Of the task.
            known: Its instances of the head's classes.
            correct: Which of them the head gets right.
        """
        arrivals = Arrivals(num=len(correct), wrong=int((~correct).sum()))
        probation = self._lineage.standing.probation
        if probation is None or plan.task != self._lineage.num_tasks:
            return arrivals
        versions = (probation.version, probation.predecessor)
        for version in versions:
            known = known.of_classes(self._lineage.versions[version].classes)
        watched, before = (self._answers_of(version, known) for version in versions)
        counts = PairedCounts.of(watched, before)
        return replace(arrivals, watched=probation.version, won=counts.won, lost=counts.lost)

    def judge(
        self, inputs: Array, labels: npt.NDArray[np.int64], names: Sequence[str]
    ) -> npt.NDArray[np.bool_]:
        """Return which instances of the head's classes it gets right.

        Args:
            inputs: As a task has them.
            labels: As a task has them: below 0 they stand for names.
            names: By which they stand.
        """
        first, classes = self._lineage.first_classes, self._lineage.classes
        labels = places_in(classes, at_names(labels, len(first)), (*first, *names))
        known = labels >= 0
        return self._answers(self._networks.of(self._lineage.head), inputs[known], labels[known])

    def _answers_of(self, version: int, known: Instances) -> Answers:
        labels = known.labels_for(self._lineage.versions[version].classes)
        return self._answers(self._networks.of(version), known.inputs, labels)

    def _answers(self, network: nn.Module, inputs: Array, labels: npt.NDArray[np.int64]) -> Answers:
        if not len(labels):
            return np.zeros(0, dtype=np.bool_)
        return evaluate(
            network,
            inputs,
            labels,
            preprocessing=self._preprocessing,
            device=self._device,
            on_batch=self._on_progress,
        ).correct
