"""Rivals as avalanche-lib has them, on the courses of benchmarks/iil.py: are our own fair?

LwF, EWC and replay of avalanche-lib 0.6.0, an independent library (Carta et al., arXiv 2302.01766),
from the same base weights, with the same tasks, augmentation, optimizer along the same cosine,
clipping and number of epochs, and BatchNorm as frozen. Not installed with the project:
`pip install avalanche-lib`, best in an environment of its own, as it brings a hundred packages.
"""

import copy
from collections.abc import Mapping
from typing import Any, Literal

import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.utils import DataAttribute, TaskAwareSupervisedClassificationDataset
from avalanche.training.plugins import EvaluationPlugin, SupervisedPlugin
from avalanche.training.supervised import EWC, LwF, Replay
from iil_rivals import ReplayLearner
from iil_trainers import Setup
from torch import Tensor, nn

from teacherd.daemon.dataset import Dataset
from teacherd.models.augmentation import augment
from teacherd.models.learner_config import LearnerConfig
from teacherd.models.optimizer import build_optimizer
from teacherd.models.preprocessing import Preprocessing

AvalancheName = Literal["lwf", "ewc", "replay"]

LWF = {"alpha": 4.0, "temperature": 2.0}
"""Strength 1 of our rival: avalanche leaves out the factor temperature squared."""
EWC_LAMBDA = 1_000.0
"""Not ours: its Fisher information is of the gradients of batches, ours of instances."""


class AvalancheTrainer:
    """Goes through a course with a strategy of avalanche's; the base is its first experience."""

    def __init__(self, setup: Setup, name: AvalancheName, config: LearnerConfig) -> None:
        self._order = setup.order
        self._epochs = config.epochs
        model = FrozenBatchNorm(copy.deepcopy(setup.base), setup.preprocessing)
        self._strategy = build_strategy(name, model, Recipe(config), config, setup.device)
        parts = [setup.course.base, *setup.course.tasks]
        sets = [to_avalanche(setup, part) for part in parts]
        self._experiences = list(benchmark_from_datasets(train=sets).train_stream)
        self._go(0, epochs=0)

    @property
    def network(self) -> nn.Module:
        """The model, in eval mode."""
        model: FrozenBatchNorm = self._strategy.model
        return model.network.eval()

    def learn(self, number: int, dataset: Dataset) -> Mapping[str, float]:
        """Learn a task's experience; the data set is the course's own."""
        assert len(dataset) == len(self._experiences[number].dataset), "it is the course's"
        self._go(number, epochs=self._epochs)
        return {}

    def state_dict(self) -> dict[str, Tensor]:
        """Nothing: a strategy cannot be kept between two tasks."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor], done: tuple[Dataset, ...]) -> None:
        """Learn again what was done: the draws are the same."""
        assert not state, "nothing was kept"
        for number, dataset in enumerate(done, start=1):
            self.learn(number, dataset)

    def _go(self, number: int, *, epochs: int) -> None:
        self._strategy.train_epochs = epochs
        with torch.random.fork_rng():
            torch.manual_seed(1_000 * self._order + number)
            self._strategy.train(
                self._experiences[number], eval_streams=[], reset_optimizer_state=True
            )


class Recipe(SupervisedPlugin):
    """Does what our Learner does about a step: augmentation, learning rate, clipping."""

    def __init__(self, config: LearnerConfig) -> None:
        super().__init__()
        self._config = config

    def before_forward(self, strategy: Any, **_: Any) -> None:  # noqa: ANN401 - avalanche's
        """Set the step's learning rate and augment its inputs."""
        optimizer = self._config.optimizer
        num_steps = self._config.epochs * len(strategy.dataloader)
        step = strategy.clock.train_exp_iterations
        for group in strategy.optimizer.param_groups:
            group["lr"] = optimizer.learning_rate * optimizer.factor(step, num_steps)
        generator = torch.Generator(strategy.mb_x.device)
        generator.manual_seed(int(torch.randint(2**62, ())))
        strategy.mbatch[0] = augment(strategy.mb_x, self._config.augmentation, generator)

    def before_update(self, strategy: Any, **_: Any) -> None:  # noqa: ANN401 - the same
        """Clip the gradient."""
        nn.utils.clip_grad_norm_(strategy.model.parameters(), self._config.optimizer.gradient_clip)


class FrozenBatchNorm(nn.Module):
    """A network for raw inputs whose BatchNorm statistics stay as they are, whoever trains it."""

    def __init__(self, network: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        self._preprocessing = preprocessing

    def forward(self, raw: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.network(self._preprocessing.apply(raw))
        return logits

    def train(self, mode: bool = True) -> "FrozenBatchNorm":  # noqa: FBT001, FBT002 - torch's
        """Let all but BatchNorm train."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001 - base of all
                module.eval()
        return self


class Pairs(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Raw inputs and labels of a data set on the device, as avalanche asks for them."""

    def __init__(self, setup: Setup, dataset: Dataset) -> None:
        self._inputs = torch.from_numpy(dataset.inputs).to(setup.device)
        self.targets: list[int] = dataset.labels.tolist()

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        return self._inputs[place], self.targets[place]


def to_avalanche(setup: Setup, dataset: Dataset) -> Any:  # noqa: ANN401 - avalanche's
    """Return a data set of one task label: the stream is one task to it, in many experiences."""
    return TaskAwareSupervisedClassificationDataset(
        [Pairs(setup, dataset)],
        data_attributes=[
            DataAttribute(dataset.labels.tolist(), "targets"),
            DataAttribute([0] * len(dataset), "targets_task_labels", use_in_getitem=True),
        ],
    )


def build_strategy(
    name: AvalancheName,
    model: FrozenBatchNorm,
    recipe: Recipe,
    config: LearnerConfig,
    device: torch.device,
) -> Any:  # noqa: ANN401 - avalanche's, which has no types
    """Return a strategy with our optimizer, silent."""
    model.requires_grad_(requires_grad=True)
    common = {
        "model": model,
        "optimizer": build_optimizer(
            config.optimizer,
            parameters=model.parameters(),
            learning_rate=config.optimizer.learning_rate,
        ),
        "criterion": nn.CrossEntropyLoss(),
        "train_mb_size": config.batch_size,
        "device": device,
        "plugins": [recipe],
        "evaluator": EvaluationPlugin(loggers=[]),
    }
    if name == "lwf":
        return LwF(**LWF, **common)
    if name == "ewc":
        return EWC(ewc_lambda=EWC_LAMBDA, mode="online", decay_factor=1.0, **common)
    return Replay(mem_size=10 * ReplayLearner.instances_per_class, **common)
