"""The rivals of method.md, 7, as learners: the daemon's own but for the loss of a batch.

Each lists the original work; strengths were tuned on the validation split, docs/learning.md.

Legend: B batch, K classes.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from teacherd.daemon.dataset import Dataset
from teacherd.models.augmentation import augment
from teacherd.models.batches import Batch
from teacherd.models.learner import Learner
from teacherd.models.task_in_progress import TaskInProgress


class LwfLearner(Learner):
    """Learning without forgetting: Li, Hoiem, arXiv 1606.09282.

    L = CE(y, z_S) + strength * T^2 * KL(softmax(z_T / T) || softmax(z_S / T)), T = 2, with z_T of
    the network before the task. Consolidation must be `none`.
    """

    strength = 1.0
    temperature = 2.0

    def _terms(self, run: TaskInProgress, batch: Batch) -> dict[str, Tensor]:
        answers_BK = run.answers.of(batch)
        if answers_BK is None:
            with torch.no_grad():
                answers_BK = self.teacher(batch.inputs).float()
        logits_BK = run.student.network(batch.inputs).float()
        fused = F.cross_entropy(logits_BK, batch.labels)
        distilled = F.kl_div(
            F.log_softmax(logits_BK / self.temperature, dim=1),
            F.log_softmax(answers_BK / self.temperature, dim=1),
            reduction="batchmean",
            log_target=True,
        )
        return {"total": fused + self.strength * self.temperature**2 * distilled, "fused": fused}


class EwcLearner(Learner):
    """Elastic weight consolidation, online.

    Kirkpatrick et al., arXiv 1612.00796; Schwarz et al., arXiv 1805.06370.

    L = CE(y, z_S) + strength / 2 * sum F (theta - theta*)^2, with theta* the network before the
    task and F the sum of the empirical Fisher informations of base and tasks so far.
    """

    strength = 100.0
    num_fisher_instances = 512

    def __init__(self, *arguments: Any, base: Dataset, **options: Any) -> None:  # noqa: ANN401
        super().__init__(*arguments, **options)
        self._fisher = self._fisher_of(base.inputs, base.labels)
        self._drop_anchor()

    def memory_tensors(self) -> dict[str, Tensor]:
        """Return what is carried from task to task beside the network."""
        return {f"fisher.{n}": each.cpu() for n, each in enumerate(self._fisher)}

    def load_memory_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on with what `memory_tensors` returned, and from the teacher as it is now."""
        self._fisher = [
            tensors[f"fisher.{n}"].to(each.device) for n, each in enumerate(self._fisher)
        ]
        self._drop_anchor()

    def _terms(self, run: TaskInProgress, batch: Batch) -> dict[str, Tensor]:
        fused = F.cross_entropy(run.student.network(batch.inputs).float(), batch.labels)
        penalty = torch.zeros((), device=fused.device)
        parameters = run.student.network.parameters()
        for mine, anchor, fisher in zip(parameters, self._anchor, self._fisher, strict=True):
            penalty = penalty + (fisher * (mine - anchor) ** 2).sum()
        return {"total": fused + self.strength / 2 * penalty, "fused": fused}

    def accept(self) -> None:
        """Close the task and take in what it says about the parameters."""
        task = self._current.task
        super().accept()
        added = self._fisher_of(task.inputs, task.labels)
        self._fisher = [old + new for old, new in zip(self._fisher, added, strict=True)]
        self._drop_anchor()

    def _drop_anchor(self) -> None:
        self._anchor = [parameter.detach().clone() for parameter in self.teacher.parameters()]

    def _fisher_of(self, inputs: np.ndarray, labels: np.ndarray) -> list[Tensor]:
        """Return the mean square of the gradient of log p(y|x), instance by instance."""
        network, device = self.teacher, self._placement.device
        parameters = list(network.parameters())
        fisher = [torch.zeros_like(parameter) for parameter in parameters]
        network.requires_grad_(requires_grad=True)
        places = np.random.default_rng(0).permutation(len(labels))[: self.num_fisher_instances]
        for place in places:
            raw = torch.from_numpy(inputs[place : place + 1]).to(device)
            loss = F.cross_entropy(
                network(self._placement.place_inputs(self._preprocessing.apply(raw))).float(),
                torch.from_numpy(labels[place : place + 1]).to(device),
            )
            for total, gradient in zip(fisher, torch.autograd.grad(loss, parameters), strict=True):
                total.add_(gradient**2, alpha=1 / len(places))
        network.requires_grad_(requires_grad=False)
        return fisher


class Reservoir:
    """A class-balanced reservoir of instances: algorithm R of Vitter (1985) for each class."""

    def __init__(self, instances_per_class: int, num_classes: int, seed: int) -> None:
        self._size = instances_per_class
        self._rng = np.random.default_rng(seed)
        self._seen = [0] * num_classes
        self._kept: list[list[np.ndarray]] = [[] for _ in range(num_classes)]

    def __len__(self) -> int:
        return sum(map(len, self._kept))

    def add(self, inputs: np.ndarray, labels: np.ndarray) -> None:
        """Offer instances, each of which stays with the same probability as all before it."""
        for each, label in zip(inputs, labels.tolist(), strict=True):
            kept = self._kept[label]
            self._seen[label] += 1
            if len(kept) < self._size:
                kept.append(each)
            elif (place := int(self._rng.integers(self._seen[label]))) < self._size:
                kept[place] = each

    def all(self) -> tuple[np.ndarray, np.ndarray]:
        """Return inputs and labels of all that is kept."""
        labels = np.repeat(np.arange(len(self._kept)), [len(each) for each in self._kept])
        return np.concatenate([np.stack(each) for each in self._kept if each]), labels


class ReplayLearner(Learner):
    """Experience replay (Chaudhry et al., arXiv 1902.10486): each batch with as many from memory.

    Keeps `instances_per_class` instances of the data seen so far; everything else here keeps none.
    """

    instances_per_class = 20

    def __init__(self, *arguments: Any, base: Dataset, **options: Any) -> None:  # noqa: ANN401
        super().__init__(*arguments, **options)
        self.reservoir = Reservoir(self.instances_per_class, len(base.classes), seed=0)
        self.remember(base.inputs, base.labels)

    def _terms(self, run: TaskInProgress, batch: Batch) -> dict[str, Tensor]:
        device = self._placement.device
        generator = run.draws.generator("dust", run.step, device)
        places = torch.randint(
            len(self._memory_labels), (len(batch.labels),), generator=generator, device=device
        )
        raw = augment(self._memory_raw[places], self._config.augmentation, generator)
        remembered = self._placement.place_inputs(self._preprocessing.apply(raw))
        inputs = torch.cat([batch.inputs, remembered])
        labels = torch.cat([batch.labels, self._memory_labels[places]])
        fused = F.cross_entropy(run.student.network(inputs).float(), labels)
        return {"total": fused, "fused": fused}

    def accept(self) -> None:
        """Close the task and offer its instances to the memory."""
        task = self._current.task
        super().accept()
        self.remember(task.inputs, task.labels)

    def remember(self, inputs: np.ndarray, labels: np.ndarray) -> None:
        """Offer instances to the memory."""
        self.reservoir.add(inputs, labels)
        self._place_memory()

    def _place_memory(self) -> None:
        inputs, labels = self.reservoir.all()
        device = self._placement.device
        self._memory_raw = torch.from_numpy(inputs).to(device)
        self._memory_labels = torch.from_numpy(labels).to(device)
