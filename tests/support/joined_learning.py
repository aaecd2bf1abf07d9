"""Learns a task in one or several processes that gloo joins, and gives back what each came to."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from fork_server import CONTEXT
from tiny_networks import (
    IMAGE_PREPROCESSING,
    IMAGE_SHAPE,
    NUM_CLASSES,
    build_tiny_cnn,
    image_task,
)
from torch import Tensor, distributed

from teacherd.models.backbone import BackboneConfig, build_backbone
from teacherd.models.consolidation import ConsolidationConfig
from teacherd.models.learner import Learner
from teacherd.models.learner_config import LearnerConfig
from teacherd.models.non_finite import NonFiniteError
from teacherd.models.ranks import ALONE, DivergedError, Ranks, RanksRefusedError
from teacherd.models.task import Schedule, Task
from teacherd.models.task_report import TaskReport

_SECONDS = 300.0

Result = TypeVar("Result")

SIX_EPOCHS = Schedule(seed=3, epochs=6, learning_rate=0.01)
SMALL_CNN = BackboneConfig(name="small_cnn", input_shape=IMAGE_SHAPE, arguments={"width": 4})
METHOD = LearnerConfig(
    batch_size=4,
    consolidation=ConsolidationConfig(retain=0.5, freezing_epochs=1, interval_epochs=2),
)


def learn_joined(
    learn: Callable[[Ranks], Result],
    *,
    num_ranks: int,
    directory: Path,
    timeout: timedelta = timedelta(minutes=30),
) -> list[Result]:
    """Call a function in as many processes as there are ranks; return what it returned, by rank.

    Args:
        learn: Must survive pickling, as must what it returns.
        num_ranks: 1 starts no process group.
        directory: Where the processes meet; empty.
        timeout: For how long a rank waits for another.
    """
    processes = [
        CONTEXT.Process(target=_run, args=(learn, rank, num_ranks, directory, timeout))
        for rank in range(num_ranks)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(_SECONDS)
        if process.is_alive():
            process.kill()
    assert [0] * num_ranks == [process.exitcode for process in processes]
    return [torch.load(directory / f"{rank}.pt", weights_only=False) for rank in range(num_ranks)]


def _run(
    learn: Callable[[Ranks], object],
    rank: int,
    num_ranks: int,
    directory: Path,
    timeout: timedelta,
) -> None:
    torch.set_num_threads(1)
    ranks = ALONE
    if num_ranks > 1:
        distributed.init_process_group(
            "gloo",
            init_method=f"file://{directory}/store",
            rank=rank,
            world_size=num_ranks,
            timeout=timeout,
        )
        ranks = Ranks.of_process()
    torch.save(learn(ranks), directory / f"{rank}.pt")
    if num_ranks > 1:
        distributed.destroy_process_group()


@dataclass(frozen=True, slots=True)
class Learned:
    """What a rank came to."""

    candidate: dict[str, Tensor]
    sigma: float | None
    report: TaskReport
    is_joined: bool


def learn(ranks: Ranks, config: LearnerConfig, num_instances: int) -> Learned:
    """Learn a task whose dust is calibrated on it."""
    learner = build_learner(config, ranks)
    report = learner.learn(image_task(num_instances), SIX_EPOCHS)
    candidate = {name: each.clone() for name, each in learner.candidate.state_dict().items()}
    return Learned(candidate, learner.sigma, report, torch.distributed.is_initialized())


@dataclass(frozen=True, slots=True)
class Grown:
    """What a rank came to that has learned new classes."""

    teacher: dict[str, Tensor]
    increments: tuple[int, ...]
    memory: tuple[npt.NDArray[Any], npt.NDArray[np.int64]] | tuple[()]
    """Inputs and labels; nothing where none is kept."""


def grow(ranks: Ranks, config: LearnerConfig, *, class_means: bool = False) -> Grown:
    """Learn three tasks: known classes, new ones among them, new ones alone."""
    architecture = replace(SMALL_CNN, class_means=class_means)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        teacher = build_backbone(architecture, num_classes=NUM_CLASSES)
    learner = Learner(
        config,
        teacher=teacher,
        preprocessing=IMAGE_PREPROCESSING,
        sigma=None,
        device=torch.device("cpu"),
        ranks=ranks,
        architecture=architecture,
    )
    for number, (classes, num_new) in enumerate([((0, 1, 2), 0), ((0, 3, 1, 4), 2), ((5,), 1)]):
        learner.begin(clouds(number + 1, classes, num_new), SIX_EPOCHS)
        while learner.step():
            pass
        learner.finish()
        learner.accept()
    kept = learner.memory.instances() or ()
    state = {
        name: each.clone()
        for name, each in learner.teacher.state_dict().items()
        if each.is_floating_point()
    }
    return Grown(state, learner.increments, kept)


def clouds(number: int, classes: tuple[int, ...], num_new: int) -> Task:
    """Return a task of eleven noisy images that are brighter the higher their class."""
    rng = np.random.default_rng(number)
    labels = np.resize(np.array(classes, dtype=np.int64), 11)
    noise = rng.integers(0, 60, (len(labels), *IMAGE_SHAPE))
    inputs = (noise + 35 * labels[:, None, None, None]).astype(np.uint8)
    return Task(number=number, inputs=inputs, labels=labels, num_new_classes=num_new)


def build_learner(config: LearnerConfig, ranks: Ranks, *, dropout: float = 0.0) -> Learner:
    """Return a learner of the tiny network."""
    return Learner(
        config,
        teacher=build_tiny_cnn(dropout=dropout),
        preprocessing=IMAGE_PREPROCESSING,
        sigma=None,
        device=torch.device("cpu"),
        ranks=ranks,
    )


def diverge(ranks: Ranks) -> tuple[int, ...]:
    """Let a bit of rank 1's student flip in the middle of a task; return who is named for it."""
    learner = build_learner(METHOD, ranks)
    learner.begin(image_task(8), SIX_EPOCHS)
    learner.step()
    if ranks.rank == 1:
        with torch.no_grad():
            next(learner.student.parameters()).view(-1)[0] += 1e-7
    while learner.step():
        pass
    try:
        learner.finish()
    except DivergedError as error:
        return error.ranks
    return ()


def overflow(ranks: Ranks) -> tuple[str, int, bool]:
    """Learn with an infinite weight in what rank 0 alone computes; return what is said of it."""
    learner = build_learner(METHOD, ranks)
    learner.begin(image_task(8), SIX_EPOCHS)
    learner.step()
    if ranks.rank == 0:
        with torch.no_grad():
            next(learner.student.parameters()).fill_(float("inf"))
    try:
        learner.step()
    except NonFiniteError as error:
        return (
            error.term,
            learner.num_steps_done,
            all(each.grad is None for each in learner.student.parameters()),
        )
    return "", 0, False


def draw(ranks: Ranks) -> str:
    """Learn a network with dropout; return why it is refused."""
    learner = build_learner(METHOD, ranks, dropout=0.5)
    try:
        learner.learn(image_task(8), SIX_EPOCHS)
    except RanksRefusedError as error:
        return str(error)
    return ""


@dataclass(frozen=True, slots=True)
class Waited:
    """How long a rank was at a task."""

    weights: Tensor
    seconds: float


def learn_slowly(ranks: Ranks) -> Waited:
    """Learn a task of twelve forward passes, each of which takes rank 1 two seconds longer."""
    learner = build_learner(replace(METHOD, batch_size=1024), ranks)
    slow = ranks.rank == 1
    learner.teacher.register_forward_hook(lambda *_: time.sleep(2.0 if slow else 0.0))
    began = time.monotonic()
    learner.begin(image_task(12 * 256), Schedule(seed=3, epochs=2, learning_rate=0.01))
    seconds = time.monotonic() - began
    while learner.step():
        pass
    learner.finish()
    weights = torch.cat([each.flatten() for each in learner.candidate.parameters()])
    return Waited(weights, seconds)
