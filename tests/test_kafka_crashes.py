"""Killed anywhere while it learns from a real topic, the daemon ends as it must."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from crash_rig import CrashRig, Kill
from kafka_daemon import feature_values, kafka_settings
from kafka_service import KafkaService
from kafka_stream import KafkaStream

from teacherd.consumers.producing import NPY, build_record
from teacherd.consumers.record import NewRecord

NUM_TASKS = 4
KILLS = [Kill("dead_letters.added"), Kill("*:25"), Kill("outcome.appended"), Kill("release.before")]


def values(count: int, *, seed: int = 0) -> list[NewRecord]:
    """Return feature vectors, with one record in between that is none."""
    junk = build_record(b"junk", content_type=NPY, label="cat")
    records = feature_values(count, seed=seed)
    return [*records[:4], junk, *records[4:]]


def make_rig(
    directory: Path,
    kafka: KafkaService,
    topic: str,
    offsets: Mapping[int, Sequence[int]],
    *,
    num_tasks: int | None,
) -> CrashRig:
    """Return a lineage of its own, with a group of its own, on a topic."""
    directory.mkdir()
    tasks = {} if num_tasks else {"max_age_seconds": 0.5}
    settings = kafka_settings(directory, kafka.bootstrap, topic, tasks=tasks)
    settings["kafka"]["group"] = f"{topic}-{directory.name}"
    return CrashRig(directory, settings, KafkaStream(settings, offsets), num_tasks=num_tasks)


def test_crashes_on_a_topic_change_nothing(kafka: KafkaService, tmp_path: Path) -> None:
    """One partition, cuts by count: the very versions of a run that was not killed."""
    topic = kafka.create_topic()
    offsets = {0: kafka.produce(topic, values(10 * NUM_TASKS + 5))}
    # The killed one first: a dead letter that the other has written would hide a missing one.
    with contextlib.closing(
        make_rig(tmp_path / "killed", kafka, topic, offsets, num_tasks=NUM_TASKS)
    ) as rig:
        assert [True] * len(KILLS) == [rig.kill_once(kill) for kill in KILLS]
        killed = rig.finish()
    with contextlib.closing(
        make_rig(tmp_path / "whole", kafka, topic, offsets, num_tasks=NUM_TASKS)
    ) as rig:
        whole = rig.finish()

    assert [] == killed.wrong
    assert ([], []) == (killed.accounts.lost, killed.accounts.twice)
    assert whole.decided == killed.decided
    assert NUM_TASKS == len(killed.decided)


def test_crashes_on_several_partitions_end_as_the_own_log_says(
    kafka: KafkaService, tmp_path: Path
) -> None:
    """Cuts by the clock over partitions: a replay of the log gives the same; nothing is lost."""
    topic = kafka.create_topic(partitions=3)
    offsets = {
        number: kafka.produce(topic, values(5 + 9 * number, seed=number), partition=number)
        for number in range(3)
    }
    with contextlib.closing(
        make_rig(tmp_path / "killed", kafka, topic, offsets, num_tasks=None)
    ) as rig:
        for kill in KILLS:
            rig.kill_once(kill)
        findings = rig.finish()

        assert "equal" == rig.replay()
    assert [] == findings.wrong
    assert ([], []) == (findings.accounts.lost, findings.accounts.twice)
