"""Labels of a real topic that the model has never seen: deferred, committed, killed, learned."""

import contextlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crash_rig import CrashRig, Kill
from kafka import KafkaConsumer, TopicPartition
from kafka_daemon import CLASSES, feature_values, kafka_settings
from kafka_service import KafkaService
from kafka_stream import KafkaStream

from teacherd.consumers.record import NewRecord
from teacherd.daemon.entries import Plan
from teacherd.daemon.errors import ExitCode
from teacherd.models.hot_teacher import HotTeacher

NUM_TASKS = 4
GROW: dict[str, dict[str, Any]] = {
    "classes": {"unknown": "grow", "min_instances": 5, "max_deferred_tasks": 2},
    "gate": {"holdout_share": 0},
}
KILLS = [
    Kill(failpoint)
    for failpoint in (
        "deferred.before",
        "deferred.durable",
        "plan.appended",
        "plan.appended",
        "plan.appended",
        "outcome.appended",
        "dead_letters.dropped",
        "plan.appended",
        "release.before",
    )
]
"""In the first two tasks, which defer, the third, which takes in, and the fourth, which drops."""


def with_unseen(count: int, *, seed: int = 0) -> list[NewRecord]:
    """Return feature vectors, every fifth a fox, which no head knows, and one with a typing error.

    Three tasks of ten are needed for five foxes; the error is dropped after two.
    """
    records = feature_values(count, seed=seed)
    for place in range(0, count, 5):
        records[place] = _relabelled(records[place], "fox")
    return [*records[:2], _relabelled(records[2], "dgo"), *records[3:]]


def _relabelled(record: NewRecord, label: str) -> NewRecord:
    kept = [(name, value) for name, value in record.headers if name != "label"]
    assert len(kept) < len(record.headers), "the label is a header"
    return record._replace(headers=(*kept, ("label", label.encode())))


def make_rig(directory: Path, kafka: KafkaService, topic: str, offsets: Sequence[int]) -> CrashRig:
    """Return a lineage of its own, with a group of its own, on a topic."""
    directory.mkdir()
    settings = kafka_settings(directory, kafka.bootstrap, topic, **GROW)
    settings["kafka"]["group"] = f"{topic}-{directory.name}"
    stream = KafkaStream(settings, {0: offsets})
    return CrashRig(directory, settings, stream, num_tasks=NUM_TASKS)


def committed(kafka: KafkaService, topic: str, group: str) -> int | None:
    """Return the place of the group in the topic's only partition."""
    consumer = KafkaConsumer(bootstrap_servers=kafka.bootstrap, group_id=group)
    try:
        place: int | None = consumer.committed(TopicPartition(topic, 0))
        return place
    finally:
        consumer.close()


def deferred(plans: Sequence[Plan]) -> set[int]:
    """Return the offsets that plans have deferred and none has taken in or dropped."""
    came = Counter(at for plan in plans for closed in plan.ranges for at in closed.deferred)
    came.subtract(
        at for plan in plans for each in (*plan.taken, *plan.dropped) for at in each.offsets
    )
    assert set(came.values()) <= {0, 1}
    return {at for at, count in came.items() if count}


def test_crashes_around_deferred_records_change_nothing(
    kafka: KafkaService, tmp_path: Path
) -> None:
    """The same records wait, become a class, are dropped; the versions are those of a whole run."""
    topic = kafka.create_topic()
    offsets = kafka.produce(topic, with_unseen(10 * NUM_TASKS + 5))
    # The killed one first: a dead letter that the other has written would hide a missing one.
    with contextlib.closing(make_rig(tmp_path / "killed", kafka, topic, offsets)) as rig:
        assert [True] * len(KILLS) == [rig.kill_once(kill) for kill in KILLS]
        killed, plans = rig.finish(), rig.daemon.plans()[:NUM_TASKS]

        assert "equal" == rig.replay()
    with contextlib.closing(make_rig(tmp_path / "whole", kafka, topic, offsets)) as rig:
        whole = rig.finish()

    assert [] == killed.wrong
    assert ([], []) == (killed.accounts.lost, killed.accounts.twice)
    assert whole.decided == killed.decided
    assert ["fox"] == [name for plan in plans for name in plan.new_classes]
    assert 1 == killed.accounts.fates["dropped"]


def test_what_waits_outlives_a_kill_and_the_topic(kafka: KafkaService, tmp_path: Path) -> None:
    """Once offsets are committed the topic may forget the records, which become a class."""
    topic = kafka.create_topic()
    offsets = kafka.produce(topic, with_unseen(20))
    with contextlib.closing(make_rig(tmp_path / "lineage", kafka, topic, offsets)) as rig:
        daemon = rig.daemon
        daemon.start()
        daemon.wait_until(lambda: len(daemon.outcomes()) == 2)
        daemon.wait_until(lambda: committed(kafka, topic, f"{topic}-lineage") == 20)
        waiting = deferred(daemon.plans())
        daemon.kill()
        kafka.delete_records(topic, 0, below=20)
        offsets += kafka.produce(topic, with_unseen(20, seed=1))

        assert {0, 2, 5, 10, 15} == waiting
        assert ExitCode.OK == daemon.run_until_tasks(4)
        third = daemon.plans()[2]
        accounts = rig.accounts()
    assert ("fox",) == third.new_classes
    assert {0, 5, 10, 15} == {at for each in third.taken for at in each.offsets}
    assert ([], []) == (accounts.lost, accounts.twice)
    with HotTeacher(tmp_path / "lineage" / "state" / "public") as teacher:
        assert (*CLASSES, "fox") == teacher.classes
