"""The sizes in which benchmarks/cil.py runs: data, increments, network, base recipe, learning."""

from dataclasses import dataclass, replace

from cil_network import ResNet32
from course_scale import USUAL_28, USUAL_32, CourseScale
from iil_network import StridedCnn

from teacherd.daemon.pretraining import PretrainConfig
from teacherd.models.learner_config import LearnerConfig
from teacherd.models.memory import MemoryConfig

_IMAGE_BYTES = 3 * 32 * 32


@dataclass(frozen=True, kw_only=True)
class ClassScale(CourseScale):
    """A size of the benchmark."""

    increments: tuple[int, ...]
    """Classes of each, base first."""
    per_class: int | None
    """Instances of each class to learn from; None: all."""
    memory: MemoryConfig
    """Of the methods that have one."""

    @property
    def base_key(self) -> str:
        """Name what base weights depend on, but for order and split."""
        return f"{self.dataset}-{self.increments[0]}x{self.per_class or 'all'}"

    @property
    def key(self) -> str:
        """Name the course, but for order and split."""
        return f"{self.base_key}-{'-'.join(map(str, self.increments[1:]))}"


_CIFAR = ClassScale(
    name="gpu",
    dataset="cifar100",
    increments=(50, *(5,) * 10),
    per_class=None,
    build=ResNet32,
    pretraining=PretrainConfig(
        epochs=100, batch_size=128, learning_rate=0.002, augmentation=USUAL_32
    ),
    # 2,000 images, whatever the number of classes among which they are shared.
    memory=MemoryConfig(instances_per_class=500, max_bytes=2_000 * _IMAGE_BYTES),
    learning=LearnerConfig(epochs=60, batch_size=128, augmentation=USUAL_32),
)

SCALES = {
    "cpu": ClassScale(
        name="cpu",
        dataset="fashion_mnist",
        increments=(4, 2, 2, 2),
        per_class=300,
        build=StridedCnn,
        pretraining=PretrainConfig(epochs=20, augmentation=USUAL_28),
        memory=MemoryConfig(instances_per_class=20),
        learning=LearnerConfig(augmentation=USUAL_28),
    ),
    "gpu": _CIFAR,
    "gpu-50x20": replace(_CIFAR, name="gpu-50x20", increments=(50, *[2, 3] * 10)),
    "gpu-0x10": replace(_CIFAR, name="gpu-0x10", increments=(10,) * 10),
    "gpu-0x20": replace(_CIFAR, name="gpu-0x20", increments=(5,) * 20),
    # The large scale at a size that a CPU can bear: does all of it run?
    "tiny": replace(
        _CIFAR,
        name="tiny",
        increments=(4, 2, 2),
        per_class=12,
        pretraining=replace(_CIFAR.pretraining, epochs=1),
        memory=MemoryConfig(instances_per_class=4),
        learning=replace(_CIFAR.learning, epochs=2, batch_size=16),
    ),
}
