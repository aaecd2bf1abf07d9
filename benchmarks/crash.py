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
import sys
import tempfile
from pathlib import Path

import structlog
import torch
from report import ROOT, Report, parse_arguments

sys.path.insert(0, str(ROOT / "tests" / "support"))

from crash_disk import cut_power, damage_files, fail_syncs
from crash_overhead import checkpoint_overhead
from crash_rig import (
    GATED,
    CrashRig,
    Findings,
    Kill,
    StreamLogStream,
    crash_records,
    crash_settings,
)
from crash_setting import (
    NUM_GATED_OUTCOMES,
    NUM_TASKS,
    Setting,
    fresh_directory,
    gated_stream,
    judge,
    prepare,
    rig_in,
)
from kafka_service import kafka_service
from kafka_stream import make_kafka_rig
from power_cut import copy_stream

BY_THE_CLOCK = {"instances": 10_000, "min_instances": 1, "max_age_seconds": 0.2}
"""Tasks end where the process happens to be: their lineages have only their own log."""


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


if __name__ == "__main__":
    main()
