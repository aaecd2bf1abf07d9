"""Is anything lost or learned twice, whatever happens to the process, the power or the disk?

The daemon is killed (SIGKILL) at the n-th of all failpoints - at every write, fsync, rename and
append, and between any two events of a task's order - and by the clock, also while it recovers;
then it runs to the end of the data and is looked at. With one partition and cuts by count its
outcomes and weights are compared with those of a run that nothing happened to: two lineages of
five without a gate, one with holdouts, verdicts, failed probations and rollbacks. In one of five
tasks are cut by the clock instead, and a replay of the run's own log must give the same. One of
five learns from a real Kafka, in turn by count from one partition, which must come to the very
versions of the stream log, and by the clock from three. Kafka is found as tests find it: Java and
Maven, an engine for containers, or TEACHERD_TEST_KAFKA.

    kills                  processes killed
    kills_on_kafka, kills_with_gate
                           of them
    lost, twice            records without a place that the guarantee names, and with more than one
    lineages_unequal       lineages that ended with other outcomes or weights, with leftovers, or
                           with a decided version made again
    power_cut_states       states of the disk after a power cut, unsynced writes and names lost
    power_cut_unequal      of them: something promised was gone, or recovery ended otherwise
    faults_injected        regions of files flipped or truncated, fsyncs that failed
    faults_trained_on      of them: neither refused nor done without, other weights came out
    checkpoint_overhead_ratio
                           time for checkpoints / training time, ResNet-18 at the default settings
"""

import argparse
import contextlib
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import structlog
import torch
from report import ROOT, Report, parse_arguments, progress

sys.path.insert(0, str(ROOT / "tests" / "support"))

from assemblies import Bench, feature_records, make_bench
from base_models import digits_base
from crash_rig import (
    GATED,
    TURNED,
    CrashRig,
    Findings,
    Kill,
    StreamLogStream,
    crash_records,
    crash_settings,
    uninterrupted,
)
from disk_faults import FailSync, damages
from kafka_service import KafkaService, kafka_service
from kafka_stream import make_kafka_rig
from power_cut import PowerCut, RecordSyncs, broken_promises, copy_stream

from teacherd.consumers.record import NewRecord
from teacherd.consumers.stream_log import StreamLog, StreamLogConfig
from teacherd.daemon.checkpoint import Checkpoint, CheckpointConfig, CheckpointStore
from teacherd.daemon.checkpoint_schedule import CheckpointSchedule
from teacherd.daemon.errors import StateError
from teacherd.daemon.lineage_log import Pin
from teacherd.models.learner import Learner, LearnerConfig
from teacherd.models.preprocessing import Preprocessing
from teacherd.models.task import Schedule, Task
from teacherd.models.torchvision_networks import build_torchvision_network

NUM_TASKS = 5
NUM_GATED_OUTCOMES = 7
"""Of as many tasks, two of which are put off by a failed probation and begun again."""
STATES_PER_CUT = 20
BY_THE_CLOCK = {"instances": 10_000, "min_instances": 1, "max_age_seconds": 0.2}
"""Tasks end where the process happens to be: their lineages have only their own log."""


@dataclass(kw_only=True)
class Setting:
    """What every lineage starts from, and must come to."""

    directory: Path
    base: Path
    stream: Path
    expected: Findings
    num_failpoints: int
    seconds: float
    gated: Findings
    """What lineages with a gate must come to."""
    kafka: KafkaService
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, name: str, number: int = 1) -> None:
        """Add to one of the figures."""
        self.counts[name] = self.counts.get(name, 0) + number


def main() -> None:
    """Run all of it and report."""
    arguments = parse_arguments(__doc__, add_arguments)
    torch.set_num_threads(1)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    report = Report("crash", arguments)
    num_kills = 8 if arguments.quick else arguments.kills
    with (
        tempfile.TemporaryDirectory() as name,
        kafka_service(Path(name), os.environ) as kafka,
    ):
        setting = prepare(Path(name), kafka)
        kill(setting, num_kills)
        cut_power(setting, max(2, num_kills // 10))
        damage_files(setting, every=10 if arguments.quick else 1)
        fail_syncs(setting, max(2, num_kills // 10))
        for figure in (
            "kills",
            "kills_on_kafka",
            "kills_with_gate",
            "lost",
            "twice",
            "lineages_unequal",
            "power_cut_states",
            "power_cut_unequal",
            "faults_injected",
            "faults_trained_on",
        ):
            report.add(figure, [setting.counts.get(figure, 0)])
        seconds = 40.0 if arguments.quick else 200.0
        ratio = checkpoint_overhead(Path(name) / "checkpoints", arguments.device, seconds)
        report.add("checkpoint_overhead_ratio", [ratio])
    report.close()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the number of kills."""
    parser.add_argument("--kills", type=int, default=200, help="processes to kill")


def prepare(directory: Path, kafka: KafkaService) -> Setting:
    """Make base model and streams, and run daemons that nothing happens to."""
    base = digits_base(directory)
    stream = directory / "stream.db"
    append(stream, crash_records(NUM_TASKS))
    append(gated_stream(stream), crash_records(NUM_TASKS, turned=TURNED))
    # The first start imports torch for all of them: the second one's duration is that of the rest.
    gated, _, _ = undisturbed(gated_stream(stream), base, NUM_GATED_OUTCOMES, GATED)
    expected, num_failpoints, seconds = undisturbed(stream, base, NUM_TASKS, {})
    return Setting(
        directory=directory,
        base=base,
        stream=stream,
        expected=expected,
        num_failpoints=num_failpoints,
        seconds=seconds,
        gated=gated,
        kafka=kafka,
    )


def append(path: Path, records: list[NewRecord]) -> None:
    """Append records to a stream log."""
    log = StreamLog(StreamLogConfig(path=str(path)))
    log.append(records)
    log.close()


def gated_stream(stream: Path) -> Path:
    """Return where the stream with wrong labels lies."""
    return stream.with_name("gated.db")


def undisturbed(
    stream: Path, base: Path, num_tasks: int, sections: Mapping[str, Any]
) -> tuple[Findings, int, float]:
    """Run a daemon that nothing happens to; return what it came to, its failpoints, its seconds."""
    directory = stream.with_name(f"{stream.stem}-undisturbed")
    directory.mkdir()
    copy_stream(stream, directory / "stream.db")
    settings = {**crash_settings(directory, base), **sections}
    findings, failpoints, seconds = uninterrupted(
        directory, settings, StreamLogStream(directory / "stream.db"), num_tasks=num_tasks
    )
    progress(f"undisturbed: {len(failpoints)} failpoints in {seconds:.1f} s")
    return findings, len(failpoints), seconds


@contextlib.contextmanager
def fresh_directory(setting: Setting) -> Iterator[Path]:
    """Give a directory with a copy of the stream, and clear it up."""
    with tempfile.TemporaryDirectory(dir=setting.directory) as name:
        copy_stream(setting.stream, Path(name) / "stream.db")
        yield Path(name)


def rig_in(
    directory: Path, setting: Setting, *, state: str = "state", tasks: dict[str, Any] | None = None
) -> CrashRig:
    """Return a rig on the stream of a directory; with `tasks` it runs to the end of the data."""
    settings = crash_settings(directory, setting.base)
    settings["process"]["state_directory"] = str(directory / state)
    settings["tasks"] = tasks or settings["tasks"]
    stream = StreamLogStream(directory / "stream.db")
    return CrashRig(directory, settings, stream, num_tasks=NUM_TASKS if tasks is None else None)


def kill(setting: Setting, num_kills: int) -> None:
    """Kill one lineage after the other, each up to four times in a row."""
    rng = random.Random(0)
    number = 0
    while setting.counts.get("kills", 0) < num_kills:
        number += 1
        with fresh_directory(setting) as directory:
            rig, expected, kind = lineage(directory, setting, number)
            with contextlib.closing(rig):
                kills = [draw_kill(setting, rng) for _ in range(rng.choice([1, 1, 2, 4]))]
                for each in kills:
                    rig.kill_once(each)
                findings = rig.finish()
                if expected is not None:
                    is_same = findings.decided == expected.decided
                else:
                    is_same = rig.replay() == "equal"
        judge(setting, findings, same=is_same, what=f"lineage {number}{kind}: {kills}")
        setting.count("kills", findings.kills)
        setting.count(f"kills{kind}", findings.kills)


def lineage(
    directory: Path, setting: Setting, number: int
) -> tuple[CrashRig, Findings | None, str]:
    """Return a lineage to be killed, what it must come to, and its kind.

    None says that a replay of its own log tells.
    """
    kind = number % 5
    if kind == 0:
        is_counted = number % 10 == 0
        rig = make_kafka_rig(
            directory,
            setting.base,
            setting.kafka,
            crash_records(NUM_TASKS),
            num_tasks=NUM_TASKS if is_counted else None,
            tasks=None if is_counted else BY_THE_CLOCK,
        )
        return rig, setting.expected if is_counted else None, "_on_kafka"
    if kind == 1:
        copy_stream(gated_stream(setting.stream), directory / "stream.db")
        return gated_rig(directory, setting), setting.gated, "_with_gate"
    if kind == 2:
        return rig_in(directory, setting, tasks=BY_THE_CLOCK), None, "_by_the_clock"
    return rig_in(directory, setting), setting.expected, "_by_count"


def gated_rig(directory: Path, setting: Setting) -> CrashRig:
    """Return a rig with a gate on the stream of a directory."""
    settings = {**crash_settings(directory, setting.base), **GATED}
    stream = StreamLogStream(directory / "stream.db")
    return CrashRig(directory, settings, stream, num_tasks=NUM_GATED_OUTCOMES)


def draw_kill(setting: Setting, rng: random.Random) -> Kill:
    """Return a failpoint of all that a run passes, or a moment of its life."""
    if rng.random() < 0.7:
        return Kill(f"*:{rng.randint(1, setting.num_failpoints)}")
    return Kill(seconds=rng.uniform(0.0, setting.seconds))


def judge(setting: Setting, findings: Findings, *, same: bool, what: str) -> None:
    """Count what is wrong with a lineage, and say so."""
    accounts = findings.accounts
    setting.count("lost", len(accounts.lost))
    setting.count("twice", len(accounts.twice))
    if not same or findings.wrong:
        setting.count("lineages_unequal")
    is_well = same and not (findings.wrong or accounts.lost or accounts.twice)
    progress(f"{what}: {'as it must be' if is_well else f'WRONG {findings}'}")


def cut_power(setting: Setting, num_cuts: int) -> None:
    """Cut the power at moments by chance; look at states of the disk, and recover from some."""
    rng = random.Random(1)
    for number in range(num_cuts):
        with fresh_directory(setting) as directory:
            disk = directory / "disk"
            disk.mkdir()
            recorded = RecordSyncs(
                root=str(disk),
                store=str(directory / "store"),
                log=str(disk / "state" / "lineage.log"),
            )
            point = rng.randint(1, setting.num_failpoints)
            with contextlib.closing(rig_in(directory, setting, state="disk/state")) as rig:
                rig.kill_once(Kill(f"*:{point}"), recorded)
            cut = PowerCut(recorded)
            states = list(cut.states(directory / "states", at_most=STATES_PER_CUT, seed=number))
            wrong = sum(bool(broken_promises(state, cut.promised_log)) for state in states)
            for state in {states[0], rng.choice(states)}:
                wrong += not recovers(setting, directory, state)
        setting.count("power_cut_states", len(states))
        setting.count("power_cut_unequal", wrong)
        progress(f"power cut {number} at point {point}: {len(states)} states, {wrong} wrong")


def recovers(setting: Setting, directory: Path, disk: Path) -> bool:
    """Start a daemon on a state of the disk; tell whether it ends as it must."""
    again = directory / f"recovered-{disk.name}"
    again.mkdir()
    copy_stream(directory / "stream.db", again / "stream.db")
    disk.rename(again / "disk")
    with contextlib.closing(rig_in(again, setting, state="disk/state")) as rig:
        findings = rig.finish()
    return findings.decided == setting.expected.decided and not findings.wrong


def damage_files(setting: Setting, *, every: int) -> None:
    """Flip and truncate each region of each file of a daemon that was killed inside a task."""
    directory = setting.directory / "interrupted"
    directory.mkdir()
    bench = make_bench(directory, checkpoints={"interval_steps": 1})
    bench.append(feature_records(10 * NUM_TASKS))
    run_bench(bench, 2, into_the_next=True)
    whole = copy_bench(bench, setting.directory / "whole")
    run_bench(whole, NUM_TASKS)
    expected = [outcome.sha256 for outcome in whole.outcomes()]
    for number, damage in enumerate(list(damages(directory / "state"))[::every]):
        damaged = copy_bench(bench, setting.directory / f"damaged-{number}")
        damage.apply(damaged.directory / "state")
        setting.count("faults_injected")
        # Refused is well, as long as it is by its name: any other error ends the benchmark.
        with contextlib.suppress(StateError):
            run_bench(damaged, NUM_TASKS)
            if expected != [outcome.sha256 for outcome in damaged.outcomes()]:
                setting.count("faults_trained_on")
                progress(f"{damage}: WRONG")
        shutil.rmtree(damaged.directory)
    progress(f"{setting.counts['faults_injected']} damages tried")


def run_bench(bench: Bench, num_tasks: int, *, into_the_next: bool = False) -> None:
    """Run the daemon's loops until so many tasks are closed, or a bit further."""
    assembly = bench.assemble()
    try:
        while len(bench.outcomes()) < num_tasks or (
            into_the_next and not list(bench.directory.glob("state/checkpoints/*/learner.*"))
        ):
            assembly.intake.tick()
            assembly.learning.tick()
    finally:
        assembly.close()


def copy_bench(bench: Bench, directory: Path) -> Bench:
    """Return the same daemon elsewhere."""
    shutil.copytree(bench.directory, directory)
    settings = {
        **bench.settings,
        "process": {"state_directory": str(directory / "state"), "num_threads": 1},
        "stream_log": {"path": str(directory / "stream.db")},
    }
    return Bench(directory, settings)


def fail_syncs(setting: Setting, number: int) -> None:
    """Let one fsync fail, then another in another lineage."""
    rng = random.Random(2)
    for at in sorted(rng.sample(range(1, setting.num_failpoints // 3), number)):
        with (
            fresh_directory(setting) as directory,
            contextlib.closing(rig_in(directory, setting)) as rig,
        ):
            rig.run_under(FailSync(str(directory / "state"), at))
            findings = rig.finish()
        is_same = findings.decided == setting.expected.decided
        setting.count("faults_injected")
        setting.count("faults_trained_on", not is_same)
        judge(setting, findings, same=is_same, what=f"fsync {at} fails")


def checkpoint_overhead(directory: Path, device: str, seconds: float) -> float:
    """Train a ResNet-18 and write checkpoints as the daemon does by default; return the ratio."""
    rng = np.random.default_rng(0)
    count = 512
    learner = Learner(
        LearnerConfig(),
        teacher=build_torchvision_network("resnet18", input_shape=(3, 32, 32), num_classes=10),
        preprocessing=Preprocessing(mean=(0.5,) * 3, std=(0.25,) * 3, scale=1 / 255),
        sigma=0.25,
        device=torch.device(device),
    )
    inputs = rng.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
    task = Task(number=1, inputs=inputs, labels=rng.integers(0, 10, count))
    store, schedule = CheckpointStore(directory, keep=3), CheckpointSchedule(CheckpointConfig())
    learner.begin(task, Schedule(seed=0, epochs=1000, learning_rate=0.001))
    started = time.monotonic()
    schedule.begin(started, step=0)
    spent, written = 0.0, 0
    while (now := time.monotonic()) - started < seconds or written == 0:
        learner.step()
        if schedule.is_due(now, learner.num_steps_done):
            before = time.monotonic()
            pinned = Checkpoint(lineage="a", pin=Pin(1, "c"), head=0, task=1)
            size = store.save(pinned, learner.state_dict())
            after = time.monotonic()
            schedule.tried(before, after, learner.num_steps_done)
            spent, written = spent + after - before, written + 1
            progress(f"a checkpoint of {size / 1e6:.0f} MB took {after - before:.2f} s")
    return spent / (time.monotonic() - started - spent)


if __name__ == "__main__":
    main()
