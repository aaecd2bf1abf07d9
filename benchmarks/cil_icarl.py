"""ICaRL as avalanche-lib has it, on the courses of benchmarks/cil.py.

Rebuffi et al., arXiv 1611.07725: replay of exemplars that are chosen by herding, distillation, and
classes told by the nearest mean of their exemplars. From the same base weights, with the same
increments, augmentation, optimizer along the same cosine, clipping, number of epochs and size of
memory, and BatchNorm as frozen. Not installed with the project: `pip install avalanche-lib` 0.6.0,
best in an environment of its own.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from avalanche.benchmarks import nc_benchmark
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import ICaRL
from cil_methods import ClassSetup
from iil_avalanche import FrozenBatchNorm, Pairs, Recipe
from torch import Tensor, nn

from teacherd.daemon.dataset import Dataset
from teacherd.models.optimizer import build_optimizer
from teacherd.models.preprocessing import Preprocessing


class IcarlTrainer:
    """Goes through a course with iCaRL; the base is its first experience, learned already."""

    def __init__(self, setup: ClassSetup) -> None:
        self._setup = setup
        self._epochs = setup.scale.learning.epochs
        num_base, num_all = setup.course.increments[0], setup.course.num_classes
        features = copy.deepcopy(setup.base).requires_grad_(requires_grad=True)
        head: nn.Linear = features.head
        features.head = nn.Identity()
        classifier = nn.Linear(head.in_features, num_all)
        with torch.no_grad():
            classifier.weight[:num_base] = head.weight
            classifier.bias[:num_base] = head.bias
        extractor = FrozenBatchNorm(features, setup.preprocessing)
        self._strategy = self._build_strategy(extractor, classifier.to(setup.device))
        # What the first forward pass would tell it, which the base's epochs do without.
        plugin = next(each for each in self._strategy.plugins if hasattr(each, "embedding_size"))
        plugin.embedding_size, plugin.output_size = head.in_features, num_all
        plugin.input_size = torch.Size(setup.course.test.input_shape)
        stream = nc_benchmark(
            Pairs(setup, setup.course.seen),  # type: ignore[arg-type] # duck-typed by both
            Pairs(setup, setup.course.test),  # type: ignore[arg-type] # the same
            n_experiences=len(setup.course.increments),
            task_labels=False,
            per_exp_classes=dict(enumerate(setup.course.increments)),
            fixed_class_order=list(range(num_all)),
        )
        self._experiences = list(stream.train_stream)
        self._go(0, epochs=0)
        self._num_seen = num_base

    @property
    def network(self) -> nn.Module:
        """The model, which answers by the nearest mean; classes to come are never an answer."""
        return Known(self._strategy.model, self._setup.preprocessing, self._num_seen).eval()

    def learn(self, number: int, dataset: Dataset) -> Mapping[str, float]:
        """Learn an increment's experience; the data set is the course's own."""
        assert len(dataset) == len(self._experiences[number].dataset), "it is the course's"
        self._go(number, epochs=self._epochs)
        self._num_seen += self._setup.course.increments[number]
        return {}

    def state_dict(self) -> dict[str, Tensor]:
        """Nothing: a strategy cannot be kept between two increments."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor], done: tuple[Dataset, ...]) -> None:
        """Learn again what was done: the draws are the same."""
        assert not state, "nothing was kept"
        for number, dataset in enumerate(done, start=1):
            self.learn(number, dataset)

    def _go(self, number: int, *, epochs: int) -> None:
        self._strategy.train_epochs = epochs
        with torch.random.fork_rng():
            torch.manual_seed(1_000 * self._setup.order + number)
            self._strategy.train(
                self._experiences[number], eval_streams=[], reset_optimizer_state=True
            )

    def _build_strategy(self, extractor: nn.Module, classifier: nn.Module) -> Any:  # noqa: ANN401 - avalanche's
        setup, learning = self._setup, self._setup.scale.learning
        memory, num_all = setup.scale.memory, setup.course.num_classes
        image_bytes = setup.course.test.inputs[0].nbytes
        per_class = memory.capacity(num_classes=num_all, instance_bytes=image_bytes)
        parameters = [*extractor.parameters(), *classifier.parameters()]
        return ICaRL(
            feature_extractor=extractor,
            classifier=classifier,
            optimizer=build_optimizer(
                learning.optimizer,
                parameters=parameters,
                learning_rate=learning.optimizer.learning_rate,
            ),
            memory_size=per_class,
            buffer_transform=None,
            fixed_memory=False,
            train_mb_size=learning.batch_size,
            eval_mb_size=256,
            device=setup.device,
            plugins=[Recipe(learning)],  # type: ignore[arg-type] # asks for what both have
            evaluator=EvaluationPlugin(loggers=[]),
        )


class Known(nn.Module):
    """A model that takes raw inputs, asked about normalised ones, among the classes seen so far."""

    def __init__(self, model: nn.Module, preprocessing: Preprocessing, num_classes: int) -> None:
        super().__init__()
        self._model = model
        self._num_classes = num_classes
        self._mean, self._std = (
            torch.tensor(each)[:, None, None] for each in (preprocessing.mean, preprocessing.std)
        )
        self._scale = preprocessing.scale

    def forward(self, inputs: Tensor) -> Tensor:
        """Return what stands for logits."""
        mean, std = (each.to(inputs.device) for each in (self._mean, self._std))
        raw = (inputs * std + mean) / self._scale
        logits: Tensor = self._model(raw)[:, : self._num_classes]
        return logits
