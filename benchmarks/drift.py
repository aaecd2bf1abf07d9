"""How soon is a drift seen, and how often is one seen that is none?

Streams go through what the daemon itself does with a planned task: the head is measured on it,
the detectors read it, then it is learned and the teacher moves on. Electricity (Elec2, 45,312
instances in time order) drifts when it likes, and often; drifts of known place are made of
Fashion-MNIST: images turned by an angle, all at once or little by little, classes swapped, and
classes that come more often. False alarms are counted on Fashion-MNIST in random order, where
there is no drift at all.

    python benchmarks/drift.py --data FOLDER    (fashion_mnist.npz, stream_electricity.npz)

Figures: by detector, the delay in instances after the drift's begin (median over the seeds; a
drift that is missed counts as the whole length after it), the share of drifts seen, and false
alarms per 100,000 instances. `cost_ratio` is the time of a task's reading over that of learning it.
`teacher_embeds` are the defaults with inputs embedded by the teacher as each task finds it, instead
of by version 0; `highest_before` and `highest_after` are the largest statistic of `inputs` as a
share of its threshold, before the drift and after it (the median over the seeds).
"""

import argparse
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from report import Report, parse_arguments, progress
from streams import load_electricity, turned
from torch import nn

from teacherd.daemon.drift_config import DetectorKind, DriftConfig
from teacherd.daemon.drift_history import DETECTORS, DriftHistory, errors_of, pack_errors
from teacherd.daemon.drift_watch import DriftReading, DriftWatch
from teacherd.daemon.entries import Observed, Outcome
from teacherd.daemon.input_sketch import sketch
from teacherd.models.consolidation import ConsolidationConfig
from teacherd.models.embedding import Embedder
from teacherd.models.learner import Learner
from teacherd.models.learner_config import LearnerConfig
from teacherd.models.preprocessing import Preprocessing
from teacherd.models.small_networks import Mlp, SmallCnn
from teacherd.models.task import Task

TASK = 1000
BASE = 10_000
LEARNING = LearnerConfig(
    epochs=3,
    consolidation=ConsolidationConfig(freezing_epochs=1, interval_epochs=1),
)
"""Few epochs: a teacher that follows the stream, at a bearable cost."""
CPU = torch.device("cpu")
Inputs = npt.NDArray[Any]
Labels = npt.NDArray[np.int64]


class Stream(NamedTuple):
    """Instances in order, and where they drift."""

    name: str
    inputs: Inputs
    labels: Labels
    begin: int | None
    """None: no drift, or none that is known."""


@dataclass(frozen=True)
class Trace:
    """What the tasks of a stream showed to the detectors; whatever these are set to."""

    name: str
    begin: int | None
    observed: list[Observed] = field(default_factory=list)
    seen_by_teacher: list[Observed] = field(default_factory=list)
    """The same with inputs embedded by the teacher of the moment."""

    def by_teacher(self) -> "Trace":
        """Return the stream as the teacher of each task embeds it."""
        return replace(self, observed=self.seen_by_teacher)

    @property
    def length(self) -> int:
        """Instances in it."""
        return sum(each.num_instances for each in self.observed)


def main() -> None:
    """Record the streams, then let every setting of the detectors read the records."""
    arguments = parse_arguments(__doc__, _add_arguments)
    torch.set_num_threads(1)
    report = Report("drift", arguments)
    seeds = range(1 if arguments.quick else arguments.seeds)
    traces: list[Trace] = []
    for seed in seeds:
        for base, streams in (
            _fashion(arguments.data, seed, is_quick=arguments.quick),
            _electricity_mixed(arguments.data, seed, is_quick=arguments.quick),
            # In time order it is always the same.
            *([_electricity(arguments.data, is_quick=arguments.quick)] if seed == 0 else []),
        ):
            traces += [_record(stream, *base) for stream in streams]
    for name, config in _settings().items():
        _score(report, name, config, traces)
        _toss_coins(report, name, config, is_quick=arguments.quick)
    _compare_embedders(report, traces)
    _measure_cost(report, arguments)
    report.close()


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="folder of the two .npz files")
    parser.add_argument("--seeds", type=int, default=3, help="how often each stream is drawn")


def _settings() -> dict[str, DriftConfig]:
    """Return the defaults, and what they were chosen from."""
    usual = DriftConfig()

    def error(kind: DetectorKind, **values: float) -> DriftConfig:
        return replace(usual, error=replace(usual.error, kind=kind, **values))

    def outer(kind: DetectorKind, **values: float) -> DriftConfig:
        return replace(usual, outer=replace(usual.outer, kind=kind, **values))

    return {
        "default": usual,
        "adwin_0.05": error("adwin", adwin_delta=0.05),
        "adwin_0.0001": error("adwin", adwin_delta=0.0001),
        "page_hinkley_50": error("page_hinkley", page_hinkley_threshold=50.0),
        "page_hinkley_30": error("page_hinkley", page_hinkley_threshold=30.0),
        "kswin": error("kswin"),
        "outer_0.1": outer("page_hinkley", page_hinkley_threshold=0.1),
        "outer_0.025": outer("page_hinkley", page_hinkley_threshold=0.025),
        "shift_0.05": replace(usual, smallest_input_shift=0.05, smallest_label_shift=0.05),
        "shift_0.2": replace(usual, smallest_input_shift=0.2, smallest_label_shift=0.2),
    }


def _compare_embedders(report: Report, traces: list[Trace]) -> None:
    """Report what `inputs` sees through version 0, and through a teacher that moves."""
    config = DriftConfig()
    through_teacher = [trace.by_teacher() for trace in traces]
    _score(report, "teacher_embeds", config, through_teacher)
    for name, seen in (("default", traces), ("teacher_embeds", through_teacher)):
        for stream in dict.fromkeys(trace.name for trace in seen):
            highest = [_highest(config, trace) for trace in seen if trace.name == stream]
            key = f"{name}.inputs.{stream}"
            report.add(f"{key}.highest_before", [before for before, _ in highest])
            if any(trace.begin is not None for trace in seen if trace.name == stream):
                report.add(f"{key}.highest_after", [after for _, after in highest])


def _highest(config: DriftConfig, trace: Trace) -> tuple[float, float]:
    """Return how near `inputs` comes to its threshold, before the drift and after it began."""
    begin, start, shares = trace.begin or trace.length, 0, {True: [0.0], False: [0.0]}
    for observed, reading in _readings(config, trace):
        start += observed.num_instances
        if "inputs" in reading.findings:
            score = reading.findings["inputs"].score
            shares[start <= begin].append(score.statistic / score.threshold)
    return max(shares[True]), max(shares[False])


def _score(report: Report, name: str, config: DriftConfig, traces: list[Trace]) -> None:
    """Report what one setting makes of all traces."""
    alarms = [(trace, list(_alarms(config, trace))) for trace in traces]
    for detector in DETECTORS if name == "default" else _of_interest(name):
        for stream in dict.fromkeys(trace.name for trace in traces):
            mine = [
                (trace, [at for who, at in found if who == detector])
                for trace, found in alarms
                if trace.name == stream
            ]
            key = f"{name}.{detector}.{stream}"
            before = sum(at < (t.begin or t.length) for t, found in mine for at in found)
            length = sum(trace.begin or trace.length for trace, _ in mine)
            report.add(f"{key}.alarms_per_100k", [1e5 * before / length])
            if mine[0][0].begin is not None:
                report.add(f"{key}.delay", [_delay(trace, found) for trace, found in mine])
                seen = [float(any(at >= (t.begin or 0) for at in found)) for t, found in mine]
                report.add(f"{key}.seen", [statistics.mean(seen)])


def _toss_coins(report: Report, name: str, config: DriftConfig, *, is_quick: bool) -> None:
    """Report false alarms where every instance is wrong by chance alone, one of five."""
    rng, num_tasks = np.random.default_rng(0), 100 if is_quick else 2000
    trace = Trace("coins", None)
    for _ in range(num_tasks):
        labels = rng.integers(0, 10, TASK)
        trace.observed.append(_observed(rng.random(TASK) >= 0.2, labels, (), 0.0))
    found = [who for who, _ in _alarms(config, trace)]
    for detector in ("error", "outer", "labels") if name == "default" else _of_interest(name):
        if detector != "inputs":
            rate = 1e5 * found.count(detector) / trace.length
            report.add(f"{name}.{detector}.coins.alarms_per_100k", [rate])


def _of_interest(name: str) -> tuple[str, ...]:
    if name.startswith("outer"):
        return ("outer",)
    if name == "teacher_embeds":
        return ("inputs",)
    return ("inputs", "labels") if name.startswith("shift") else ("error",)


def _delay(trace: Trace, found: list[int]) -> float:
    """Return the instances from the drift's begin to the first alarm; all, if there is none."""
    begin = trace.begin or 0
    return min((at for at in found if at >= begin), default=trace.length) - begin


def _alarms(config: DriftConfig, trace: Trace) -> Iterator[tuple[str, int]]:
    """Yield detector and place of each alarm, as a daemon of these settings would raise it."""
    start = 0
    for observed, reading in _readings(config, trace):
        yield from ((name, start + _place(reading, name)) for name in reading.alarms)
        start += observed.num_instances


def _readings(config: DriftConfig, trace: Trace) -> Iterator[tuple[Observed, DriftReading]]:
    """Yield what a daemon of these settings would read, task by task."""
    history, watch = DriftHistory(), DriftWatch(config)
    for task, observed in enumerate(trace.observed, start=1):
        reading = watch.read(history, observed, task=task)
        yield observed, reading
        history.apply(
            Outcome(task=task, result="accepted", observed=observed, alarms=reading.alarms)
        )


def _place(reading: DriftReading, name: str) -> int:
    """Return where in its task an alarm comes; at its end, unless instance by instance."""
    place = reading.findings[name].place
    assert reading.observed is not None, "it was given"
    return reading.observed.num_instances if place is None else place + 1


def _record(stream: Stream, network: nn.Module, preprocessing: Preprocessing) -> Trace:
    """Let a teacher follow a stream, and keep what its tasks showed."""
    learner = Learner(
        LEARNING, teacher=network, preprocessing=preprocessing, sigma=0.25, device=CPU
    )
    scales: list[float | None] = [None, None]
    schedule = LEARNING.schedule(seed=0)
    trace = Trace(stream.name, stream.begin)
    for number, start in enumerate(range(0, len(stream.labels), TASK), start=1):
        inputs, labels = stream.inputs[start : start + TASK], stream.labels[start : start + TASK]
        learner.begin(Task(number=number, inputs=inputs, labels=labels), schedule)
        for place, (kept, embedding) in enumerate(
            [(trace.observed, network), (trace.seen_by_teacher, learner.teacher)]
        ):
            embedder = Embedder(embedding, preprocessing=preprocessing, device=CPU, batch_size=256)
            seen = sketch(embedder.embed(inputs), scale=scales[place])
            scales[place] = seen.scale
            kept.append(_observed(learner.before.correct, labels, seen.values, seen.scale))
        while learner.step():
            pass
        learner.finish()
        learner.accept()
    errors = [float(errors_of(each).mean()) for each in trace.observed]
    progress(f"{stream.name}: error by task {' '.join(f'{each:.2f}' for each in errors)}")
    return trace


def _observed(
    correct: npt.NDArray[np.bool_], labels: Labels, values: tuple[float, ...], scale: float
) -> Observed:
    return Observed(
        num_instances=len(labels),
        errors=pack_errors(correct),
        classes=tuple(np.bincount(labels).tolist()),
        sketch=values,
        scale=scale,
    )


Base = tuple[nn.Module, Preprocessing]


def _fashion(folder: Path, seed: int, *, is_quick: bool) -> tuple[Base, list[Stream]]:
    """Return a network that has learned BASE images, and streams of the others."""
    with np.load(folder / "fashion_mnist.npz") as file:
        images = file["train_images"].transpose(0, 3, 1, 2)
        labels = file["train_labels"].astype(np.int64)
    order = np.random.default_rng(seed).permutation(len(labels))
    images, labels = images[order], labels[order]
    network = SmallCnn(input_shape=(1, 28, 28), num_classes=10, width=8)
    preprocessing = Preprocessing(mean=(0.286,), std=(0.353,), scale=1 / 255)
    base = _trained(network, preprocessing, images[:BASE], labels[:BASE])
    images, labels = images[BASE:], labels[BASE:]
    begin, length = (8_000, 12_000) if is_quick else (12_000, 24_000)
    still = Stream("fashion_still", images[: 2 * length], labels[: 2 * length], None)
    images, labels = images[:length], labels[:length]
    after = np.arange(length) >= begin
    angles = np.where(after, 20.0, 0.0)
    slow = np.clip((np.arange(length) - begin) / TASK, 0, None) * 3
    swapped = labels.copy()
    swapped[after & (labels == 2)], swapped[after & (labels == 6)] = 6, 2
    rare = np.flatnonzero(~after | (labels < 5) | (np.arange(length) % 4 == 0))
    return base, [
        still,
        Stream("fashion_turned", turned(images, angles), labels, begin),
        Stream("fashion_turning", turned(images, slow), labels, begin),
        Stream("fashion_swapped", images, swapped, begin),
        Stream("fashion_shares", images[rare], labels[rare], begin),
    ]


def _electricity(folder: Path, *, is_quick: bool) -> tuple[Base, list[Stream]]:
    """Return a network that has learned the first of the stream, and all that came later.

    From instance 17,424 on Victoria's market is part of it: before, its three features stood still.
    """
    inputs, labels = load_electricity(folder)
    first = 5_000
    base = _trained_mlp(inputs[:first], labels[:first])
    end = 20_000 if is_quick else len(labels)
    stream = Stream("electricity", inputs[first:end], labels[first:end], 17_424 - first)
    return base, [stream]


def _electricity_mixed(folder: Path, seed: int, *, is_quick: bool) -> tuple[Base, list[Stream]]:
    """Return a network, and instances in random order: without drift, and with classes flipped."""
    inputs, labels = load_electricity(folder)
    order = np.random.default_rng(seed).permutation(len(labels))
    inputs, labels = inputs[order], labels[order]
    base = _trained_mlp(inputs[:BASE], labels[:BASE])
    end = 26_000 if is_quick else 42_000
    inputs, labels = inputs[BASE:end], labels[BASE:end]
    begin = len(labels) // 2
    flipped = labels.copy()
    flipped[begin:] = 1 - flipped[begin:]
    return base, [
        Stream("electricity_mixed", inputs, labels, None),
        Stream("electricity_flipped", inputs, flipped, begin),
    ]


def _trained_mlp(inputs: Inputs, labels: Labels) -> Base:
    network = Mlp(input_shape=(inputs.shape[1],), num_classes=2, width=64)
    mean, std = inputs.mean(axis=0), np.maximum(inputs.std(axis=0), 0.1)
    preprocessing = Preprocessing(mean=tuple(mean.tolist()), std=tuple(std.tolist()), scale=1)
    return _trained(network, preprocessing, inputs, labels)


def _trained(
    network: nn.Module, preprocessing: Preprocessing, inputs: Inputs, labels: Labels
) -> Base:
    """Train a network plainly for a few epochs."""
    torch.manual_seed(0)
    for module in network.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    targets = torch.from_numpy(labels)
    network.train()
    for _ in range(4):
        for places in torch.randperm(len(labels)).split(64):
            batch = preprocessing.apply(torch.from_numpy(inputs[places.numpy()]))
            loss = F.cross_entropy(network(batch), targets[places])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval(), preprocessing


def _measure_cost(report: Report, arguments: argparse.Namespace) -> None:
    """Report how long reading a task takes, in units of learning it with the default settings."""
    config = LearnerConfig(epochs=12) if arguments.quick else LearnerConfig()
    (network, preprocessing), streams = _fashion(arguments.data, 0, is_quick=True)
    inputs, labels = streams[0].inputs[: 2 * TASK], streams[0].labels[: 2 * TASK]
    embedder = Embedder(network, preprocessing=preprocessing, device=CPU, batch_size=256)
    learner = Learner(config, teacher=network, preprocessing=preprocessing, sigma=0.25, device=CPU)
    history, watch, task = DriftHistory(), DriftWatch(DriftConfig()), 0
    reading, learning = [], []
    for task in range(1, 3 if arguments.quick else 5):
        learner.begin(Task(number=task, inputs=inputs, labels=labels), config.schedule(0))
        correct = learner.before.correct
        started = time.perf_counter()
        seen = sketch(embedder.embed(inputs), scale=history.scale)
        observed = _observed(correct, labels, seen.values, seen.scale)
        watch.read(history, observed, task=task)
        reading.append(time.perf_counter() - started)
        history.apply(Outcome(task=task, result="accepted", observed=observed))
        started = time.perf_counter()
        while learner.step():
            pass
        learning.append(time.perf_counter() - started)
        learner.discard()
    # The first reading imports river.
    report.add_ratio("cost_ratio", reading[1:], learning[1:])


if __name__ == "__main__":
    main()
