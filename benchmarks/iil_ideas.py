"""What was tried to do better than the paper without old data, and did not win: docs/learning.md.

What won is an option of the Learner itself. These stay here, as small changes of it, so that
anyone can try them again: `benchmarks/iil.py --methods ours,idea_sharpness,...`.

Legend: B batch, K classes, F features.
"""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from iil_trainers import LearnerTrainer, Setup, split_off, to_task
from torch import Tensor, nn

from teacherd.daemon.dataset import Dataset
from teacherd.models.batches import Batch
from teacherd.models.consolidation import consolidate, point_between
from teacherd.models.learner import Learner
from teacherd.models.module_tensors import load_module_tensors, module_tensors
from teacherd.models.task_in_progress import TaskInProgress


class SharpnessAwareLearner(Learner):
    """Sharpness-aware steps: Foret et al., arXiv 2010.01412.

    The gradient is taken where the loss rises most within `radius`; twice the work.
    """

    radius = 0.02

    def _update_student(self, run: TaskInProgress, batch: Batch) -> dict[str, Tensor]:
        parameters = list(run.student.network.parameters())
        run.student.prepare(len(batch.labels), step=run.step, num_steps=run.num_steps)
        loss = self._terms(run, batch)["total"]
        gradients = torch.autograd.grad(loss, parameters)
        norm = torch.stack([each.norm() for each in gradients]).norm() + 1e-12
        steps = [self.radius / norm * each for each in gradients]
        with torch.no_grad():
            torch._foreach_add_(parameters, steps)
        terms = self._terms(run, batch)
        run.student.backward(terms["total"])
        with torch.no_grad():
            torch._foreach_sub_(parameters, steps)
        run.student.clip()
        run.student.step()
        return terms


class FeatureLearner(Learner):
    """Feature distillation: Romero et al., arXiv 1412.6550, on the features before the head.

    The mean square of their difference to the teacher's, relative to the teacher's, is added.
    """

    weight = 1.0

    def _terms(self, run: TaskInProgress, batch: Batch) -> dict[str, Tensor]:
        terms = super()._terms(run, batch)
        student: Any = run.student.network
        teacher: Any = run.candidate
        with torch.no_grad():
            wanted_BF = teacher.features(batch.inputs).float()
        found_BF = student.features(batch.inputs).float()
        distance = F.mse_loss(found_BF, wanted_BF) / wanted_BF.square().mean()
        return {**terms, "total": terms["total"] + self.weight * distance}


class MixedLabelsLearner(Learner):
    """Mixed pairs whose labels are mixed too (mixup: Zhang et al., arXiv 1710.09412), then fused.

    The target of a mixed input is `label_share` of its mixed labels and for the rest the teacher's
    answer to it, where mixed dust asks the teacher alone.
    """

    label_share = 0.5

    def _terms(self, run: TaskInProgress, batch: Batch) -> dict[str, Tensor]:
        distillation, device = self._config.distillation, self._placement.device
        generator = run.draws.generator("dust", run.step, device)
        num_instances = len(batch.labels)
        partners = torch.randperm(num_instances, generator=generator, device=device)
        shares_B = torch.rand(num_instances, generator=generator, device=device)
        shares = shares_B.view(-1, *[1] * (batch.inputs.ndim - 1))
        mixed = torch.lerp(batch.inputs, batch.inputs[partners], shares)
        logits_BK = run.student.network(torch.cat([batch.inputs, mixed])).float()
        with torch.no_grad():
            answers_BK = run.candidate(torch.cat([batch.inputs, mixed])).float()
        labels_BK = F.one_hot(batch.labels, logits_BK.shape[1]).float()
        mixed_BK = torch.lerp(labels_BK, labels_BK[partners], shares_B.unsqueeze(1))
        known_BK = torch.cat([distillation.label_share * labels_BK, self.label_share * mixed_BK])
        listened = torch.cat(
            [
                torch.full_like(shares_B, 1 - distillation.label_share),
                torch.full_like(shares_B, 1 - self.label_share),
            ]
        ).unsqueeze(1)
        targets_BK = known_BK + listened * answers_BK.softmax(dim=1)
        losses_B = -(targets_BK * logits_BK.log_softmax(dim=1)).sum(dim=1)
        fused, dust = losses_B[:num_instances].mean(), losses_B[num_instances:].mean()
        return {"total": fused + distillation.dust_weight * dust, "fused": fused, "dust": dust}


class LogitAdjustedLearner(Learner):
    """Logit adjustment for classes in unequal shares: Menon et al., arXiv 2007.07314, section 5.2.

    Where a label is asked for, the student's logits are raised by the logarithm of the classes'
    shares in the task, each counted once more than it came, so that rare ones are not unlearned.
    """

    strength = 1.0

    def _terms(self, run: TaskInProgress, batch: Batch) -> dict[str, Tensor]:
        terms = super()._terms(run, batch)
        logits_BK = run.student.network(batch.inputs).float()
        counts_K = np.bincount(run.task.labels, minlength=logits_BK.shape[1]) + 1.0
        shares_K = torch.from_numpy(counts_K / counts_K.sum()).to(logits_BK)
        raised = F.cross_entropy(logits_BK + self.strength * shares_K.log(), batch.labels)
        change = raised - F.cross_entropy(logits_BK, batch.labels)
        change = self._config.distillation.label_share * change
        return {**terms, "total": terms["total"] + change}


class BatchNormTrainer(LearnerTrainer):
    """Re-estimates BatchNorm's statistics on each task, by the task's share of all instances."""

    def __init__(self, setup: Setup, learner: Learner, config: Any) -> None:  # noqa: ANN401
        super().__init__(setup, learner, config)
        self._num_seen = len(setup.course.base)

    def learn(self, number: int, dataset: Dataset) -> Mapping[str, float]:
        """Learn it, then move the statistics towards those of the task."""
        self.learner.learn(to_task(number, dataset), self._schedule)
        candidate = self.learner.candidate
        fresh = copy.deepcopy(candidate)
        _estimate_statistics(fresh, self._setup, dataset)
        self._num_seen += len(dataset)
        share = len(dataset) / self._num_seen
        mixed = point_between(candidate, fresh, share)
        load_module_tensors(candidate, module_tensors(mixed))
        self.learner.accept()
        return {"share": share}

    def load_state_dict(self, state: Mapping[str, Tensor], done: tuple[Dataset, ...]) -> None:
        """Put the learner where it was, and count what it has seen."""
        super().load_state_dict(state, done)
        self._num_seen += sum(map(len, done))


class SeveralStudentsTrainer(LearnerTrainer):
    """Averages students that differ in their draws, as model soups do: arXiv 2203.05482."""

    num_students = 2

    def learn(self, number: int, dataset: Dataset) -> Mapping[str, float]:
        """Learn it several times from the same teacher; the mean candidate is the teacher."""
        mean: nn.Module | None = None
        for student in range(self.num_students):
            schedule = replace(self._schedule, seed=self._schedule.seed + 1_000_003 * student)
            self.learner.learn(to_task(number, dataset), schedule)
            if mean is None:
                mean = copy.deepcopy(self.learner.candidate)
            else:
                consolidate(mean, self.learner.candidate, momentum=student / (student + 1))
            if student + 1 < self.num_students:
                self.learner.discard()
        assert mean is not None, "there is at least one student"
        load_module_tensors(self.learner.candidate, module_tensors(mean))
        self.learner.accept()
        return {}


class LineSearchTrainer(LearnerTrainer):
    """Goes as far along the segment from the old teacher as a holdout's loss falls.

    The segment runs to the student itself; a tenth of every task so far is held out.
    """

    share = 0.1
    grid = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)

    def __init__(self, setup: Setup, learner: Learner, config: Any) -> None:  # noqa: ANN401
        super().__init__(setup, learner, config)
        self._held_out: list[Dataset] = []

    def learn(self, number: int, dataset: Dataset) -> Mapping[str, float]:
        """Learn what is not held out, then search."""
        learned, held_out = split_off(dataset, self.share, seed=self._setup.order)
        self._held_out.append(held_out)
        learner = self.learner
        learner.learn(to_task(number, learned), self._schedule)
        points = [point_between(learner.teacher, learner.student, point) for point in self.grid]
        losses = [
            sum(self._setup.measure(point, each).loss for each in self._held_out)
            for point in points
        ]
        best = int(np.argmin(losses))
        load_module_tensors(learner.candidate, module_tensors(points[best]))
        learner.accept()
        return {"point": self.grid[best]}

    def load_state_dict(self, state: Mapping[str, Tensor], done: tuple[Dataset, ...]) -> None:
        """Put the learner where it was, and hold the same out again."""
        super().load_state_dict(state, done)
        self._held_out = [split_off(each, self.share, seed=self._setup.order)[1] for each in done]


def _estimate_statistics(network: nn.Module, setup: Setup, dataset: Dataset) -> None:
    """Let BatchNorm average the statistics of a data set, and of nothing else."""
    norms = [each for each in network.modules() if isinstance(each, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
    network.train()
    with torch.no_grad():
        for raw in torch.from_numpy(dataset.inputs).split(256):
            network(setup.preprocessing.apply(raw.to(setup.device)))
    network.eval()
