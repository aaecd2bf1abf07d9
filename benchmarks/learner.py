"""What does a step of the method cost, against a plain fine-tuning step?

Counted in forward passes of a batch, the method makes 7: six for the student's pass back and forth
over inputs and dusted inputs, one for the teacher's answers to the dusted ones; and one more each
fifth epoch, when a consolidation has changed its answers to the others. Plain fine-tuning makes 3.
A sample is those five epochs, consolidation included.

The reference is the loop that anyone would write in torch: gather, normalise, forward,
cross-entropy, backward, clip, AdamW; on the same network, batch and data, BatchNorm frozen in both.

Figures, for two networks: `step_ratio` (method / reference), `fine_tuning_ratio` (the learner,
configured as plain fine-tuning / reference: what keyed draws, checks and reports cost) and seconds.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from report import Report, alternate, parse_arguments, progress
from torch import nn

from teacherd.models.consolidation import ConsolidationConfig
from teacherd.models.learner import Learner
from teacherd.models.learner_config import LearnerConfig
from teacherd.models.losses import DistillationConfig
from teacherd.models.placement import Placement, enable_determinism
from teacherd.models.preprocessing import Preprocessing
from teacherd.models.small_networks import SmallCnn
from teacherd.models.task import Schedule, Task
from teacherd.models.torchvision_networks import build_torchvision_network

NUM_BATCHES = 4
NUM_STEPS = 5 * NUM_BATCHES
NUM_CLASSES = 10
METHOD = LearnerConfig(consolidation=ConsolidationConfig(freezing_epochs=0, interval_epochs=5))
FINE_TUNING = LearnerConfig(
    distillation=DistillationConfig(label_share=1, dust_weight=0),
    consolidation=ConsolidationConfig(kind="none"),
)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A network, data of its shape, and how often it is measured."""

    prefix: str
    network: nn.Module
    batch_size: int
    task: Task
    num_repetitions: int


def build_subjects(*, quick: bool) -> list[Subject]:
    """Return a small network and, unless it must be quick, a ResNet-18 for 32x32 images."""
    torch.manual_seed(0)
    small = Subject(
        prefix="",
        network=SmallCnn(input_shape=(1, 28, 28), num_classes=NUM_CLASSES),
        batch_size=64,
        task=build_task((1, 28, 28), 64),
        num_repetitions=2 if quick else 15,
    )
    if quick:
        return [small]
    resnet18 = Subject(
        prefix="resnet18_",
        network=build_torchvision_network(
            "resnet18", input_shape=(3, 32, 32), num_classes=NUM_CLASSES
        ),
        batch_size=16,
        task=build_task((3, 32, 32), 16),
        num_repetitions=5,
    )
    return [small, resnet18]


def build_task(shape: tuple[int, ...], batch_size: int) -> Task:
    """Return noise with labels: what it is costs nothing, only how much."""
    rng = np.random.default_rng(0)
    num_instances = batch_size * NUM_BATCHES
    inputs = rng.integers(0, 256, (num_instances, *shape), dtype=np.uint8)
    return Task(number=1, inputs=inputs, labels=rng.integers(0, NUM_CLASSES, num_instances))


def build_learner_step(
    config: LearnerConfig, subject: Subject, device: torch.device
) -> Callable[[], object]:
    """Return a function that makes one step of a task that practically never ends."""
    learner = Learner(
        replace(config, batch_size=subject.batch_size),
        teacher=subject.network,
        preprocessing=preprocessing_of(subject.task),
        sigma=0.25,
        device=device,
    )
    learner.begin(subject.task, Schedule(seed=0, epochs=10**6, learning_rate=0.001))
    return learner.step


def build_reference_step(subject: Subject, device: torch.device) -> Callable[[], object]:
    """Return a function that makes one plain step, as anyone would write it in torch."""
    placement = Placement(device=device)
    network = placement.place(subject.network).eval()  # BatchNorm frozen, as in the method
    preprocessing = preprocessing_of(subject.task)
    inputs = torch.from_numpy(subject.task.inputs).to(device)
    labels = torch.from_numpy(subject.task.labels).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.001, weight_decay=5e-4, fused=True)
    order = torch.randperm(len(labels), device=device).split(subject.batch_size)
    num_done = 0

    def step() -> None:
        nonlocal num_done
        chosen = order[num_done % len(order)]
        num_done += 1
        batch = placement.place_inputs(preprocessing.apply(inputs[chosen]))
        optimizer.zero_grad()
        with placement.autocast():
            loss = F.cross_entropy(network(batch), labels[chosen])
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()

    return step


def preprocessing_of(task: Task) -> Preprocessing:
    """Return a preprocessing for uint8 images."""
    num_channels = task.inputs.shape[1]
    return Preprocessing(mean=(0.5,) * num_channels, std=(0.25,) * num_channels, scale=1 / 255)


def timed(step: Callable[[], object], device: torch.device) -> Callable[[], float]:
    """Return a function that makes the steps of a sample and returns the seconds of one."""

    def run() -> float:
        wait_for(device)
        started = time.perf_counter()
        for _ in range(NUM_STEPS):
            step()
        wait_for(device)
        return (time.perf_counter() - started) / NUM_STEPS

    return run


def wait_for(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def measure(report: Report, subject: Subject, device: torch.device) -> None:
    """Measure one network: the method and fine-tuning, each in turn with the reference."""
    reference = timed(build_reference_step(subject, device), device)
    for name, config in (("step", METHOD), ("fine_tuning", FINE_TUNING)):
        progress(f"{subject.prefix}{name}: {subject.num_repetitions} repetitions")
        ours = timed(build_learner_step(config, subject, device), device)
        mine, theirs = alternate(ours, reference, repetitions=subject.num_repetitions)
        report.add_ratio(f"{subject.prefix}{name}_ratio", mine, theirs)
        report.add(f"{subject.prefix}{name}_seconds", mine)
        report.add(f"{subject.prefix}{name}_reference_seconds", theirs)


def main() -> None:
    """Measure all and report."""
    arguments = parse_arguments(__doc__, add_threads)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    enable_determinism(device)
    report = Report("learner", arguments)
    for subject in build_subjects(quick=arguments.quick):
        measure(report, subject, device)
    report.close()


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Let the number of threads be set, for machines that do other things meanwhile."""
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0 is its own choice")


if __name__ == "__main__":
    main()
