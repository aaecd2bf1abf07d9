"""Several ranks whose model gets new classes: what has no class yet is kept by rank 0, for all."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accounting import account
from base_models import NUM_FEATURES, digits
from daemon_process import DaemonProcess
from kafka_daemon import CLASSES, kafka_settings
from kafka_service import KafkaService
from kafka_stream import KafkaStream
from ranked_daemon import RankedDaemons, largest_difference, stream_settings
from stream_writing import append_records

from teacherd.consumers.producing import NPY, build_record, encode_npy
from teacherd.consumers.record import NewRecord
from teacherd.daemon.commands import Command
from teacherd.daemon.control_socket import ask_daemon
from teacherd.daemon.entries import Outcome, Plan
from teacherd.daemon.lineage_log import read_lineage_log

pytestmark = pytest.mark.slow
TOLERANCE = 1e-4
"""Of any weight after three tasks, relative to the largest one."""
GROWING: dict[str, dict[str, Any]] = {
    "classes": {"unknown": "grow", "min_instances": 6, "max_deferred_tasks": 2},
    "gate": {
        "holdout_share": 0.2,
        "allowance": 0.99,
        "forgetting": 0.99,
        "class_allowance": 0.99,
        "new_class_accuracy": 0.01,
        "probation_allowance": 0.99,
    },
    "checkpoints": {"interval_steps": 1},
}
"""A gate that lets all pass: what it decides is not the matter here."""
MEMORY = {"memory": {"instances_per_class": 3}}


def growing_digits(start: int, end: int) -> list[NewRecord]:
    """Return digits whose nines are of a new class, and a few with labels out of thin air."""
    data = digits()

    def label(place: int) -> str:
        if place % 13 == 0:
            return f"odd-{place}"
        return "nine" if data.labels[place] == 9 else str(data.labels[place])

    return [
        build_record(encode_npy(data.inputs[place]), content_type=NPY, label=label(place))
        for place in range(start, end)
    ]


def growing_features(count: int, *, seed: int) -> list[NewRecord]:
    """Return feature vectors: every fifth a fox, every eleventh of a label of its own, one junk."""
    rng = np.random.default_rng(seed)

    def label(place: int) -> str:
        if place % 11 == 10:
            return f"odd-{seed}-{place}"
        return "fox" if place % 5 == 4 else CLASSES[place % len(CLASSES)]

    records = [
        build_record(
            encode_npy(rng.normal(size=NUM_FEATURES).astype(np.float32)),
            content_type=NPY,
            label=label(place),
        )
        for place in range(count)
    ]
    return [*records, build_record(b"junk", content_type=NPY, label="cat")]


def labels_said(plans: list[Plan]) -> list[tuple[Any, ...]]:
    """Return what plans say of labels and of what is held out."""
    return [
        (
            each.new_classes,
            each.named,
            each.taken,
            each.dropped,
            [(closed.deferred, closed.held_out) for closed in each.ranges],
        )
        for each in plans
    ]


def learning_of(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings of a daemon that grows and remembers."""
    return {**settings, **GROWING, "learning": {**settings["learning"], **MEMORY}}


def test_two_ranks_grow_on_a_stream_log_as_one_process_does(
    make_ranks: RankedDaemons, digits_base_model: Path, tmp_path: Path
) -> None:
    """The same labels wait, become a class and are dropped; the heads' weights are equal.

    Half way the ranks are killed inside a task and started again, so that what waits and what is
    rehearsed come from rank 0's disk.
    """
    joined, alone = tmp_path / "joined", tmp_path / "alone"
    for directory in (joined, alone):
        directory.mkdir()
        append_records(directory / "stream.db", growing_digits(800, 960))
    settings = learning_of(stream_settings(joined, digits_base_model))
    ranks = make_ranks(joined, settings, num_ranks=2)
    ranks.start()
    ranks.kill_inside_a_task(num_closed=1)
    ranks = make_ranks(joined, settings, num_ranks=2)
    ranks.start()
    ranks.wait_for_outcomes(4)
    ranks.stop()

    assert [(0, 0), (1, 0)] == sorted(
        (event["rank"], event["exit_code"]) for event in ranks.events("stopped")
    )

    daemon = DaemonProcess(alone, learning_of(stream_settings(alone, digits_base_model)))
    try:
        daemon.start()
        daemon.wait_for_tasks(4)
        assert 0 == daemon.stop()
    finally:
        daemon.close()

    entries = [each.entry for each in read_lineage_log(alone / "state" / "lineage.log")]
    said = labels_said([each for each in entries if isinstance(each, Plan)])
    assert said == labels_said(ranks.plans())
    assert ["nine"] == [name for new, *_ in said for name in new]
    assert any(taken for _, _, taken, *_ in said)
    assert any(dropped for _, _, _, dropped, _ in said)
    versions = [each.version for each in entries if isinstance(each, Outcome)]
    assert versions == [each.version for each in ranks.outcomes()]
    assert largest_difference(joined / "state", alone / "state", versions[-1] or 0) <= TOLERANCE


def test_what_ranks_defer_of_their_partitions_is_taken_in_by_another_number_of_them(
    kafka: KafkaService, make_ranks: RankedDaemons, tmp_path: Path
) -> None:
    """Two ranks are killed inside a task; three finish it, take in what waits, and drain.

    Each record has one fate; the heads of all ranks grow alike, which every task's sha256 says.
    """
    topic = kafka.create_topic(partitions=2)
    offsets = {
        number: list(kafka.produce(topic, growing_features(12, seed=number), partition=number))
        for number in range(2)
    }
    settings = learning_of(kafka_settings(tmp_path, kafka.bootstrap, topic))
    # As many as there are: so both ranks have their part when it is cut.
    settings["tasks"]["instances"] = 24
    settings["classes"] = {**settings["classes"], "max_deferred_tasks": 1}
    # There is one such moment only: it shall be long enough to be seen.
    long_task = {**settings, "learning": {**settings["learning"], "epochs": 40}}
    ranks = make_ranks(tmp_path, long_task, num_ranks=2)
    ranks.start()
    ranks.kill_inside_a_task()
    first = ranks.plans()[0]

    assert {0, 1} == {closed.partition for closed in first.ranges if closed.deferred}
    assert () == first.new_classes

    for number in offsets:
        more = growing_features(40, seed=2 + number)
        offsets[number] += kafka.produce(topic, more, partition=number)
    ranks = make_ranks(tmp_path, settings, num_ranks=3)
    ranks.start()
    ask_daemon(ranks.state, Command("drain", None))

    assert 0 == ranks.wait()
    assert {"accepted"} == {outcome.result for outcome in ranks.outcomes()}
    assert ["fox"] == [name for plan in ranks.plans() for name in plan.new_classes]
    taken = {(each.task, each.partition) for plan in ranks.plans() for each in plan.taken}
    assert {(first.task, 0), (first.task, 1)} <= taken
    stream = KafkaStream(settings, offsets)
    accounts = account(ranks.entries(), records=stream.records(), letters=stream.letters())
    assert ([], []) == (accounts.lost, accounts.twice)
    assert sum(map(len, offsets.values())) == accounts.fates.total()
    assert {"trained", "held_out", "rejected", "dropped"} <= set(accounts.fates)
