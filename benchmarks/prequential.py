"""How good are predictions on a stream that drifts, made before each task is learned?

Test-then-train (prequential): every instance is predicted by the teacher of the moment, then
learned with its task. Three streams:

- `electricity` (Elec2, in the order of time, real drift), in tasks of two days and the default
  number of epochs, and `electricity_half_day` and `electricity_four_hours`, the same in tasks of 24
  and of 8 instances and 10 epochs; against river's HoeffdingAdaptiveTree and against "same as the
  last label", which is hard to beat there since labels resemble their neighbours in time. Both
  learn after every single instance; `..._delayed` are the same where they, too, see labels a task
  at a time;
- `turning`: Fashion-MNIST that is turned by 3 degrees more with every task;
- `imbalanced`: Fashion-MNIST whose classes come in shares that fall from 1 to 1/50.

On the images the rivals are fine-tuning with and without KC-EMA, in the same Learner.

    python benchmarks/prequential.py --data FOLDER

Figures, as shares: `STREAM.METHOD.prequential`, accuracy over the whole stream; on the images also
`.after`, the teacher's at the end on the test set as the stream ended (turned; classes in equal
shares), and `.forgetting`, what it lost on the base's own training data. Median over the seeds.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from iil_ideas import LogitAdjustedLearner
from iil_network import StridedCnn
from report import Report, parse_arguments, progress
from streams import load_electricity, turned
from torch import nn

from teacherd.daemon.pretraining import PretrainConfig, pretrain
from teacherd.models.evaluation import evaluate
from teacherd.models.learner import Learner
from teacherd.models.learner_config import LearnerConfig
from teacherd.models.preprocessing import Preprocessing
from teacherd.models.small_networks import Mlp
from teacherd.models.task import Schedule, Task

CPU = torch.device("cpu")
ELECTRICITY_BASE = 2_000
TWO_DAYS, HALF_A_DAY, FOUR_HOURS = 96, 24, 8  # in half hours
IMAGE_BASE, IMAGE_TASK, NUM_IMAGE_TASKS = 6_000, 600, 12
RAREST = 1 / 50
STREAMS = (
    "electricity",
    "electricity_half_day",
    "electricity_four_hours",
    "turning",
    "imbalanced",
)


@dataclass(frozen=True, kw_only=True)
class Stream:
    """A base, what comes after it in tasks, and what the end is measured with."""

    name: str
    base: tuple[npt.NDArray[Any], npt.NDArray[np.int64]]
    inputs: npt.NDArray[Any]
    labels: npt.NDArray[np.int64]
    task_instances: int
    test: tuple[npt.NDArray[Any], npt.NDArray[np.int64]] | None
    build: Callable[[], nn.Module]
    learning: LearnerConfig = field(default_factory=LearnerConfig)
    """Ours; the rivals take optimizer and number of epochs from it."""


def build_methods(ours: LearnerConfig) -> dict[str, LearnerConfig]:
    """Return ours, the rivals and what was tried, of the same optimizer and number of epochs."""
    plain = replace(ours.distillation, label_share=1.0, dust_weight=0.0)
    # As `fine_tuning_ema` of benchmarks/iil.py.
    averaged = replace(
        ours,
        distillation=plain,
        consolidation=replace(ours.consolidation, retain=0.5, interval_epochs=5),
    )
    served = replace(averaged, consolidation=replace(ours.consolidation, kind="none"))
    # A drift is to be followed: the demo's settings.
    following = replace(
        ours,
        distillation=replace(ours.distillation, label_share=0.7, dust="noise"),
        consolidation=replace(ours.consolidation, retain=0.0),
    )
    return {
        "ours": ours,
        "ours_following": following,
        "fine_tuning": served,
        "fine_tuning_ema": averaged,
        "idea_logit_adjustment": ours,
    }


KINDS: Mapping[str, type[Learner]] = {"idea_logit_adjustment": LogitAdjustedLearner}
"""Methods whose loss is not the daemon's; the rest is its own Learner."""


def main() -> None:
    """Let every method go through every stream."""
    arguments = parse_arguments(__doc__, _add_arguments)
    torch.set_num_threads(1)
    report = Report("prequential", arguments)
    seeds = range(1 if arguments.quick else arguments.seeds)
    samples: dict[str, list[float]] = {}
    for seed in seeds:
        for stream in _streams(arguments.data, seed, is_quick=arguments.quick):
            if arguments.only not in (None, stream.name):
                continue
            for name, value in _figures(stream, seed):
                samples.setdefault(f"{stream.name}.{name}", []).append(value)
                progress(f"{stream.name}.{name} {value:.4f}")
    for name, values in samples.items():
        report.add(name, values)
    report.close()


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="folder of the two .npz files")
    parser.add_argument("--only", choices=STREAMS, help="one stream alone")
    parser.add_argument("--seeds", type=int, default=3, help="how often image streams are drawn")


def _figures(stream: Stream, seed: int) -> Iterator[tuple[str, float]]:
    network, preprocessing = _train_base(stream, seed)
    untouched = _accuracy(network, preprocessing, stream.inputs, stream.labels)
    yield "base_untouched.prequential", untouched
    for name, config in build_methods(stream.learning).items():
        learner = KINDS.get(name, Learner)(
            config, teacher=network, preprocessing=preprocessing, sigma=None, device=CPU
        )
        for figure, value in _follow(stream, learner, preprocessing, config.schedule(seed)):
            yield f"{name}.{figure}", value
    if stream.test is None:
        for suffix, delay in (("", 1), ("_delayed", stream.task_instances)):
            yield f"last_label{suffix}.prequential", _last_label(stream, delay)
            yield f"hoeffding_adaptive_tree{suffix}.prequential", _hoeffding(stream, seed, delay)


def _follow(
    stream: Stream, learner: Learner, preprocessing: Preprocessing, schedule: Schedule
) -> Iterator[tuple[str, float]]:
    """Predict each task, then learn it."""
    before = _accuracy(learner.teacher, preprocessing, *stream.base)
    size, num_right = stream.task_instances, 0
    for number, start in enumerate(range(0, len(stream.labels), size), start=1):
        places = slice(start, start + size)
        task = Task(number=number, inputs=stream.inputs[places], labels=stream.labels[places])
        learner.begin(task, schedule)
        num_right += int(learner.before.correct.sum())
        while learner.step():
            pass
        learner.finish()
        learner.accept()
    yield "prequential", num_right / len(stream.labels)
    if stream.test is not None:
        yield "after", _accuracy(learner.teacher, preprocessing, *stream.test)
        yield "forgetting", before - _accuracy(learner.teacher, preprocessing, *stream.base)


def _accuracy(
    network: nn.Module,
    preprocessing: Preprocessing,
    inputs: npt.NDArray[Any],
    labels: npt.NDArray[np.int64],
) -> float:
    return evaluate(network, inputs, labels, preprocessing=preprocessing, device=CPU).accuracy


def _last_label(stream: Stream, delay: int) -> float:
    """Predict the label last seen; labels are seen `delay` at a time."""
    seen = np.concatenate([stream.base[1][-1:], stream.labels])
    places = np.arange(len(stream.labels))
    return float((seen[places // delay * delay] == stream.labels).mean())


def _hoeffding(stream: Stream, seed: int, delay: int) -> float:
    """Let the tree learn the base, then predict and learn `delay` instances at a time."""
    from river.tree import HoeffdingAdaptiveTreeClassifier  # noqa: PLC0415 - slow to import

    tree = HoeffdingAdaptiveTreeClassifier(seed=seed)
    for inputs, label in zip(*stream.base, strict=True):
        tree.learn_one(dict(enumerate(inputs.tolist())), int(label))
    features = (dict(enumerate(inputs.tolist())) for inputs in stream.inputs)
    pairs_of_all = list(zip(features, stream.labels.tolist(), strict=True))
    num_right = 0
    for start in range(0, len(pairs_of_all), delay):
        pairs = pairs_of_all[start : start + delay]
        num_right += sum(tree.predict_one(each) == label for each, label in pairs)
        for each, label in pairs:
            tree.learn_one(each, label)
    return num_right / len(pairs_of_all)


def _train_base(stream: Stream, seed: int) -> tuple[nn.Module, Preprocessing]:
    inputs, labels = stream.base
    preprocessing = Preprocessing.fit(inputs)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = stream.build()
    pretrain(
        network,
        inputs,
        labels,
        config=PretrainConfig(epochs=15),
        preprocessing=preprocessing,
        seed=seed,
        device=CPU,
    )
    return network, preprocessing


def _streams(folder: Path, seed: int, *, is_quick: bool) -> Iterator[Stream]:
    if seed == 0:  # in time order it is always the same
        stream = _electricity(folder, is_quick=is_quick)
        yield stream
        shorter = replace(stream, learning=replace(stream.learning, epochs=10))
        yield replace(shorter, name="electricity_half_day", task_instances=HALF_A_DAY)
        yield replace(shorter, name="electricity_four_hours", task_instances=FOUR_HOURS)
    with np.load(folder / "fashion_mnist.npz") as file:
        train = file["train_images"].transpose(0, 3, 1, 2), file["train_labels"].astype(np.int64)
        test = file["test_images"].transpose(0, 3, 1, 2), file["test_labels"].astype(np.int64)
    order = np.random.default_rng(seed).permutation(len(train[1]))
    images, labels = train[0][order], train[1][order]
    base = (images[:IMAGE_BASE], labels[:IMAGE_BASE])
    images, labels = images[IMAGE_BASE:], labels[IMAGE_BASE:]
    num_tasks = 2 if is_quick else NUM_IMAGE_TASKS
    length = num_tasks * IMAGE_TASK
    angles = 3.0 * (1 + np.arange(length) // IMAGE_TASK)
    common = {
        "base": base,
        "task_instances": IMAGE_TASK,
        "build": lambda: StridedCnn(input_shape=(1, 28, 28), num_classes=10),
    }
    last = np.full(len(test[1]), angles[-1])
    yield Stream(
        name="turning",
        inputs=turned(images[:length], angles),
        labels=labels[:length],
        test=(turned(test[0], last), test[1]),
        **common,
    )
    shares = RAREST ** (np.arange(10) / 9)
    is_there = np.random.default_rng(seed).random(len(labels)) < shares[labels]
    places = np.flatnonzero(is_there)[:length]
    yield Stream(
        name="imbalanced", inputs=images[places], labels=labels[places], test=test, **common
    )


def _electricity(folder: Path, *, is_quick: bool) -> Stream:
    inputs, labels = load_electricity(folder)
    end = 6_000 if is_quick else len(labels)
    return Stream(
        name="electricity",
        base=(inputs[:ELECTRICITY_BASE], labels[:ELECTRICITY_BASE]),
        inputs=inputs[ELECTRICITY_BASE:end],
        labels=labels[ELECTRICITY_BASE:end],
        task_instances=TWO_DAYS,
        test=None,
        build=lambda: Mlp(input_shape=(inputs.shape[1],), num_classes=2, width=64),
    )


if __name__ == "__main__":
    main()
