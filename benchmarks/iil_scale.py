"""The sizes in which benchmarks/iil.py runs: data, network, base recipe and learning."""

import functools
from dataclasses import dataclass, replace

from course_scale import USUAL_28, USUAL_32, CourseScale
from iil_network import StridedCnn

from teacherd.daemon.pretraining import PretrainConfig
from teacherd.models.learner_config import LearnerConfig
from teacherd.models.torchvision_networks import build_torchvision_network


@dataclass(frozen=True, kw_only=True)
class Scale(CourseScale):
    """A size of the benchmark."""

    num_base: int
    """Instances of the base."""
    num_tasks: int
    task_instances: int
    """Instances of each task."""
    num_test: int | None = None
    """Instances of the test set that are measured with; None: all."""

    @property
    def base_key(self) -> str:
        """Name what base weights depend on, but for order and split."""
        return f"{self.dataset}-{self.num_base}-{self.pretraining.epochs}"

    @property
    def key(self) -> str:
        """Name the course, but for order and split."""
        return f"{self.base_key}-{self.num_tasks}x{self.task_instances}"


_GPU = Scale(
    name="gpu",
    dataset="cifar100",
    num_base=25_000,
    num_tasks=10,
    task_instances=2_500,
    build=functools.partial(build_torchvision_network, "resnet18"),
    pretraining=PretrainConfig(
        epochs=60, batch_size=128, learning_rate=0.002, augmentation=USUAL_32
    ),
    learning=LearnerConfig(batch_size=128, augmentation=USUAL_32),
)

_CPU = Scale(
    name="cpu",
    dataset="fashion_mnist",
    num_base=6_000,
    num_tasks=10,
    task_instances=600,
    build=StridedCnn,
    pretraining=PretrainConfig(epochs=20, augmentation=USUAL_28),
    learning=LearnerConfig(augmentation=USUAL_28),
)

SCALES = {
    "cpu": _CPU,
    # The same from a base, and to a limit, that were trained for as long as it helped much: nothing
    # is left to be gained by training on what is known already, and there is more to forget.
    "cpu-converged": replace(
        _CPU, name="cpu-converged", pretraining=replace(_CPU.pretraining, epochs=60)
    ),
    # The data and the tasks of the large scale, with a network that a CPU can bear.
    "cpu-cifar100": replace(
        _CPU,
        name="cpu-cifar100",
        dataset=_GPU.dataset,
        num_base=_GPU.num_base,
        task_instances=_GPU.task_instances,
        pretraining=replace(_CPU.pretraining, epochs=_GPU.pretraining.epochs),
    ),
    "gpu": _GPU,
    # The large scale at a size that a CPU can bear: does all of it run?
    "tiny": replace(
        _GPU,
        name="tiny",
        num_base=400,
        num_tasks=2,
        task_instances=60,
        num_test=200,
        pretraining=replace(_GPU.pretraining, epochs=1),
        learning=replace(_GPU.learning, epochs=2),
    ),
}
