"""What do more ranks bring? Two processes of one thread each against one, and a model up to 64.

Parent and child learn the same task, the parent alone and both together in turn, joined by gloo
over loopback. From measured parts a model says what more ranks would come to, each with a core of
its own: a step takes compute(N), measured on one rank of N that adds nothing up, and an all-reduce
in ring form, whose latency and rate are measured between the two, or assumed for 10 Gbit/s.

    two_rank_speedup             seconds alone / seconds of two ranks, pair by pair
    two_rank_limit               the same of two that add nothing up: what the machine's two cores,
                                 which share caches, memory and perhaps a core's units, let through
    exchange_efficiency          two_rank_speedup / two_rank_limit, pair by pair
    all_reduce_share             of the time of two ranks: adding up, and waiting for the other
    outside_compute_share        that, and cut, plan, broadcast and checkpoint, of a whole task
    cut_ms, plan_ms, broadcast_ms, checkpoint_ms    each, once for a task of 2,000 instances
    compute_ms_N                 a step's compute on one rank of N
    all_reduce_ms, all_reduce_latency_us            of the network's gradients, of one number
    speedup_N, speedup_ethernet_N                   what the model says
"""

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import ClassVar

import numpy as np
import safetensors.torch
import torch
from learner import METHOD, build_task, preprocessing_of
from report import Report, parse_arguments, progress
from torch import Tensor, distributed, nn

from teacherd.consumers.buffered_task import BufferedTask, PlannedRange
from teacherd.consumers.record import Partition
from teacherd.consumers.task_merging import merge_tasks
from teacherd.daemon.durable import write_file
from teacherd.daemon.entries import Config
from teacherd.daemon.leading_learner import pack_beginning
from teacherd.daemon.lineage_log import LineageLog
from teacherd.daemon.rank_channel import RankChannel
from teacherd.daemon.rank_message import RankMessage
from teacherd.daemon.task_message import pack_task, unpack_task
from teacherd.models.learner import Learner
from teacherd.models.memory import Memory
from teacherd.models.ranks import Ranks
from teacherd.models.small_networks import SmallCnn
from teacherd.models.task import Schedule, Task
from teacherd.models.torchvision_networks import build_torchvision_network

SIZES = (1, 2, 4, 8, 16, 32, 64)
BATCH_SIZE = 64
NUM_CLASSES = 10
TASK_INSTANCES, TASK_EPOCHS = 2000, 40
"""The daemon's defaults: what comes once a task is held against so many steps."""
ETHERNET_LATENCY, ETHERNET_RATE = 50e-6, 1.1e9
"""Seconds between two hosts, and bytes a second, of 10 Gbit/s."""
NUM_PARTS = 5
"""Repetitions of what is over soon."""


class TimedRanks(Ranks):
    """Notes how long adding up takes."""

    seconds: ClassVar[list[float]] = []

    def sum_(self, tensor: Tensor) -> Tensor:
        """Add up."""
        started = time.perf_counter()
        super().sum_(tensor)
        self.seconds.append(time.perf_counter() - started)
        return tensor


class LonelyRanks(Ranks):
    """The first of several ranks, of which the others do not exist: computes, and adds nothing."""

    def sum_(self, tensor: Tensor) -> Tensor:
        """Leave it as it is."""
        return tensor

    def from_first(self, value: float) -> float:
        """Leave it as it is."""
        return value

    def require_same(self, network: nn.Module, *, task: int) -> None:
        """Nobody else has one."""


class Bench:
    """One network and a task for it, the same in both processes."""

    def __init__(self, name: str, *, quick: bool) -> None:
        torch.manual_seed(0)
        torch.set_num_threads(1)
        self.prefix = "" if name == "small_cnn" else f"{name}_"
        shape = (1, 28, 28) if name == "small_cnn" else (3, 32, 32)
        if name == "small_cnn":
            self.network: nn.Module = SmallCnn(input_shape=shape, num_classes=NUM_CLASSES)
        else:
            self.network = build_torchvision_network(
                name, input_shape=shape, num_classes=NUM_CLASSES
            )
        self.task = build_task(shape, BATCH_SIZE)
        is_small = name == "small_cnn"
        self.repetitions = 2 if quick else 9 if is_small else 5
        self.epochs = 2 if quick else 10 if is_small else 1

    def learn(
        self, ranks: Ranks, *, epochs: int | None = None, starts_together: bool = False
    ) -> float:
        """Learn the task; return the seconds of its steps."""
        learner = Learner(
            replace(METHOD, batch_size=BATCH_SIZE),
            teacher=self.network,
            preprocessing=preprocessing_of(self.task),
            sigma=0.25,
            device=torch.device("cpu"),
            ranks=ranks,
        )
        schedule = Schedule(seed=0, epochs=epochs or self.epochs, learning_rate=0.001)
        learner.begin(self.task, schedule)
        if starts_together:
            distributed.barrier()
        started = time.perf_counter()
        while learner.step():
            pass
        return time.perf_counter() - started

    @property
    def num_steps(self) -> int:
        """Of a task of the bench."""
        return self.epochs * (len(self.task.labels) // BATCH_SIZE)

    @property
    def gradient_bytes(self) -> int:
        """What is added up in a step."""
        return 4 * sum(each.numel() for each in self.network.parameters())


def main() -> None:
    """Measure every network with a child process as the second rank, and report."""
    arguments = parse_arguments(__doc__, add_arguments)
    report = Report("scale", arguments)
    with tempfile.TemporaryDirectory() as name:
        child = multiprocessing.get_context("spawn").Process(
            target=follow, args=(arguments.networks, arguments.quick, name)
        )
        child.start()
        join(0, name)
        for network in arguments.networks:
            progress(network)
            measure(report, Bench(network, quick=arguments.quick), Path(name))
        child.join()
    distributed.destroy_process_group()
    report.close()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what one may want to change."""
    parser.add_argument("--networks", nargs="+", default=["small_cnn", "resnet18"])


def join(rank: int, directory: str) -> None:
    """Join the two processes."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{directory}/store", rank=rank, world_size=2
    )


def follow(networks: list[str], quick: bool, directory: str) -> None:  # noqa: FBT001 (a process's argument)
    """Be the second rank: do what `measure` does with both."""
    join(1, directory)
    for name in networks:
        bench = Bench(name, quick=quick)
        for _ in range(1 + bench.repetitions):
            bench.learn(TimedRanks(1, 2), starts_together=True)
            bench.learn(LonelyRanks(1, 2), starts_together=True)
        time_all_reduce(bench)
        channel = RankChannel(Ranks(1, 2))
        for _ in range(NUM_PARTS):
            channel.hear()
        distributed.barrier()
    distributed.destroy_process_group()


def measure(report: Report, bench: Bench, directory: Path) -> None:
    """Measure one network in both processes, then its parts, and say what the model makes of it."""
    ratios, limits, shares, joined = [], [], [], []
    for number in range(1 + bench.repetitions):
        alone = bench.learn(Ranks())
        TimedRanks.seconds.clear()
        together = bench.learn(TimedRanks(0, 2), starts_together=True)
        apart = bench.learn(LonelyRanks(0, 2), starts_together=True)
        if number:  # the first one warms up
            ratios.append(alone / together)
            limits.append(alone / apart)
            shares.append(sum(TimedRanks.seconds) / together)
            joined.append(together / bench.num_steps)
    report.add(f"{bench.prefix}two_rank_speedup", ratios)
    report.add(f"{bench.prefix}two_rank_limit", limits)
    report.add(
        f"{bench.prefix}exchange_efficiency",
        [ratio / limit for ratio, limit in zip(ratios, limits, strict=True)],
    )
    report.add(f"{bench.prefix}all_reduce_share", shares)
    reduce_seconds, latency = time_all_reduce(bench)
    report.add(f"{bench.prefix}all_reduce_ms", [1000 * reduce_seconds])
    report.add(f"{bench.prefix}all_reduce_latency_us", [1e6 * latency])
    once = add_parts(report, bench, directory)
    steps = TASK_EPOCHS * -(-TASK_INSTANCES // BATCH_SIZE)
    task_seconds = steps * median(joined) + once
    outside = (steps * median(joined) * median(shares) + once) / task_seconds
    report.add(f"{bench.prefix}outside_compute_share", [outside])
    add_model(report, bench, once=once, latency=latency / 2, reduce_seconds=reduce_seconds)
    distributed.barrier()


def time_all_reduce(bench: Bench) -> tuple[float, float]:
    """Return seconds to add up the gradients, and one number, between two ranks."""
    ranks = Ranks(1, 2)  # only that it is not alone matters here
    seconds = []
    for num in (bench.gradient_bytes // 4, 1):
        tensor = torch.zeros(num)
        samples = []
        for _ in range(4 * NUM_PARTS):
            distributed.barrier()
            started = time.perf_counter()
            ranks.sum_(tensor)
            samples.append(time.perf_counter() - started)
        seconds.append(median(samples))
    return seconds[0], seconds[1]


def add_parts(report: Report, bench: Bench, directory: Path) -> float:
    """Report what comes once a task, in the daemon's own code; return the seconds of it all."""
    task = _large(bench.task)
    halves = [_part(task, number) for number in (0, 1)]
    log = LineageLog(directory / f"{bench.prefix}lineage.log", now=lambda: "")
    schedule = Schedule(seed=0, epochs=TASK_EPOCHS, learning_rate=0.001)
    channel = RankChannel(Ranks(0, 2))
    weights = {name: each.detach() for name, each in bench.network.state_dict().items()}
    state = {f"{copy}.{name}": each.clone() for copy in range(4) for name, each in weights.items()}

    def cut() -> None:
        sent = RankMessage.from_bytes(pack_task(halves[1]).to_bytes())
        merge_tasks([halves[0], unpack_task(sent)], cause="count")

    parts: dict[str, Callable[[], object]] = {
        "cut": cut,
        "plan": lambda: log.append(Config(settings={"ranges": ["x" * 1000]})),
        "broadcast": lambda: channel.tell(pack_beginning(task, schedule, Memory())),
        # Student, candidate and two moments of the optimizer.
        "checkpoint": lambda: write_file(directory / "checkpoint", safetensors.torch.save(state)),
    }
    total = 0.0
    for name, part in parts.items():
        samples = [_seconds(part) for _ in range(NUM_PARTS)]
        report.add(f"{bench.prefix}{name}_ms", [1000 * each for each in samples])
        total += median(samples)
    log.close()
    return total


def add_model(
    report: Report, bench: Bench, *, once: float, latency: float, reduce_seconds: float
) -> None:
    """Report what a step computes on one rank of N, and the speed that follows from it."""
    rate = bench.gradient_bytes / max(reduce_seconds - 2 * latency, 1e-9)
    epochs = max(1, bench.epochs // 2)
    num_steps = epochs * (len(bench.task.labels) // BATCH_SIZE)
    compute = {}
    for size in SIZES:
        ranks = Ranks() if size == 1 else LonelyRanks(0, size)
        samples = [bench.learn(ranks, epochs=epochs) / num_steps for _ in range(2)]
        compute[size] = min(samples)
        report.add(f"{bench.prefix}compute_ms_{size}", [1000 * each for each in samples])
    for name, alpha, beta in (
        ("speedup", latency, rate),
        ("speedup_ethernet", ETHERNET_LATENCY, ETHERNET_RATE),
    ):
        for size in SIZES[1:]:
            ring = 2 * (size - 1) * alpha + 2 * (size - 1) / size * bench.gradient_bytes / beta
            steps = TASK_EPOCHS * -(-TASK_INSTANCES // BATCH_SIZE)
            alone, together = steps * compute[1], steps * (compute[size] + ring) + once
            report.add(f"{bench.prefix}{name}_{size}", [alone / together])


def _seconds(part: Callable[[], object]) -> float:
    started = time.perf_counter()
    part()
    return time.perf_counter() - started


def _large(task: Task) -> Task:
    """Return a task as large as the daemon's are by default."""
    places = np.arange(TASK_INSTANCES) % len(task.labels)
    return Task(number=1, inputs=task.inputs[places], labels=task.labels[places])


def _part(task: Task, number: int) -> BufferedTask:
    """Return half of a task, as a rank has it."""
    rows = slice(number, None, 2)
    labels = task.labels[rows].copy()
    ends = len(labels)
    planned = PlannedRange(
        partition=Partition("instances", number),
        start=0,
        end=ends,
        count=ends,
        digest="0" * 64,
        rejected=(),
    )
    return BufferedTask(
        cause="count",
        ranges=(planned,),
        inputs=task.inputs[rows].copy(),
        labels=labels,
        partitions=np.zeros(ends, dtype=np.int64),
        offsets=np.arange(ends),
        ids=(None,) * ends,
        event_times_ms=np.zeros(ends, dtype=np.int64),
    )


if __name__ == "__main__":
    main()
