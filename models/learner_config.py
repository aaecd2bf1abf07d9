"""How tasks are learned: the settings of the learner and of all that it is made of."""

from dataclasses import dataclass, field

from teacherd.models.augmentation import AugmentationConfig
from teacherd.models.consolidation import ConsolidationConfig
from teacherd.models.losses import DistillationConfig
from teacherd.models.memory import MemoryConfig
from teacherd.models.old_classes import NewClassesConfig
from teacherd.models.optimizer import OptimizerConfig
from teacherd.models.placement import Precision
from teacherd.models.student import BatchNormMode
from teacherd.models.task import Schedule


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnerConfig:
    """How a task is learned.

    Plain fine-tuning is `label_share: 1` and `dust_weight: 0` with the consolidation `none`.
    """

    epochs: int = 40
    """Passes over each task, as far as its plan does not say otherwise; method.md 2.4."""
    min_epochs: int | None = None
    """Fewest passes over a task, when records arrive faster than they are learned and tasks have
    grown as large as they may; null never takes fewer than `epochs`."""
    batch_size: int = 64
    """Largest number of instances of a step; an epoch is cut evenly."""
    batch_norm: BatchNormMode = "frozen"
    """Whether the student's BatchNorm keeps the teacher's statistics or updates them; training
    them on a task without old data wrecked the network in the probe of method.md 2.4. A batch of
    one instance never trains them."""
    precision: Precision = "auto"
    """Of forward passes; auto: bfloat16 on CUDA devices that do so natively, else float32."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """The student's optimizer."""
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    """What the student listens to."""
    new_classes: NewClassesConfig = field(default_factory=NewClassesConfig)
    """How old classes are kept while new ones are learned, and where they came one by one."""
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    """What is kept of the stream to be learned again; nothing by default."""
    consolidation: ConsolidationConfig = field(default_factory=ConsolidationConfig)
    """How the student becomes part of the teacher."""
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    """What is changed about images before they are learned."""

    def __post_init__(self) -> None:
        for name, usual in (("epochs", 40), ("batch_size", 64)):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)}: must be at least 1; take {usual}")
        if self.min_epochs is not None and not 1 <= self.min_epochs <= self.epochs:
            raise ValueError(
                f"min_epochs: {self.min_epochs}: must be from 1 to epochs, {self.epochs}; "
                "lower it, or take null"
            )

    def schedule(self, seed: int) -> Schedule:
        """Return what a plan decides when nothing else is to be considered."""
        return Schedule(seed=seed, epochs=self.epochs, learning_rate=self.optimizer.learning_rate)
