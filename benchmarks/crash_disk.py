"""The disk's part of benchmarks/crash.py: power cuts, damaged files, fsyncs that fail."""

import contextlib
import random
import shutil
import sys
from pathlib import Path

from report import ROOT, progress

sys.path.insert(0, str(ROOT / "tests" / "support"))

from assemblies import Bench, feature_records, make_bench
from crash_rig import Kill
from crash_setting import NUM_TASKS, Setting, fresh_directory, judge, rig_in
from disk_faults import FailSync, damages
from power_cut import PowerCut, RecordSyncs, broken_promises, copy_stream

from teacherd.daemon.errors import StateError

STATES_PER_CUT = 20


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
    whole = bench.copy_to(setting.directory / "whole")
    run_bench(whole, NUM_TASKS)
    expected = [outcome.sha256 for outcome in whole.outcomes()]
    for number, damage in enumerate(list(damages(directory / "state"))[::every]):
        damaged = bench.copy_to(setting.directory / f"damaged-{number}")
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
