"""The daemon on a real topic, from its records to the versions, and what goes wrong meanwhile."""

import itertools
import random
import re
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from forked_daemon import ForkedDaemon
from kafka import KafkaProducer
from kafka_daemon import assert_each_once, feature_values, kafka_settings, num_instances
from kafka_service import KafkaService

from teacherd.consumers.producing import NPY, build_record
from teacherd.daemon.entries import Plan, Skip
from teacherd.daemon.errors import ExitCode

MakeDaemon = Callable[..., ForkedDaemon]


@pytest.fixture
def make_daemon(kafka: KafkaService) -> Iterator[MakeDaemon]:
    """Give `make_daemon(directory, topic, **sections)`; none is left behind."""
    made: list[ForkedDaemon] = []

    def make(directory: Path, topic: str, **sections: Any) -> ForkedDaemon:  # noqa: ANN401 (plain data)
        directory.mkdir(exist_ok=True)
        daemon = ForkedDaemon(
            kafka_settings(directory, kafka.bootstrap, topic, **sections), directory
        )
        made.append(daemon)
        return daemon

    yield make
    for daemon in made:
        daemon.close()


def test_a_topic_is_learned_and_taken_up_again(
    kafka: KafkaService, make_daemon: MakeDaemon, tmp_path: Path
) -> None:
    """Over a restart, with bad records between: every record in exactly one plan."""
    topic = kafka.create_topic()
    junk = build_record(b"junk", content_type=NPY, label="cat")
    offsets = kafka.produce(topic, [*feature_values(15), junk, *feature_values(10, seed=1)])
    daemon = make_daemon(tmp_path, topic)

    assert ExitCode.OK == daemon.run_until_tasks(2)

    offsets += kafka.produce(topic, feature_values(25, seed=2))

    assert ExitCode.OK == daemon.run_until_tasks(5)
    plans = daemon.plans()
    assert [10] * 5 == [num_instances(plan) for plan in plans]
    assert [15] == [at for plan in plans for closed in plan.ranges for at in closed.rejected]
    assert_each_once(plans, {0: offsets})


def test_another_state_directory_on_the_same_group_is_refused(
    kafka: KafkaService, make_daemon: MakeDaemon, tmp_path: Path
) -> None:
    """With the code that no supervisor restarts on; the first daemon goes on."""
    topic = kafka.create_topic()
    offsets = kafka.produce(topic, feature_values(10))
    first = make_daemon(tmp_path / "first", topic)
    first.start()
    first.wait_until(lambda: len(first.outcomes()) == 1)
    second = make_daemon(tmp_path / "second", topic)
    second.start()

    assert ExitCode.CONFIGURATION == second.wait()
    assert "kafka.group" in second.log_path.read_text()
    assert "take_over" in second.log_path.read_text()

    offsets += kafka.produce(topic, feature_values(10, seed=1))
    first.wait_until(lambda: len(first.outcomes()) == 2)

    assert ExitCode.OK == first.terminate()
    assert_each_once(first.plans(), {0: offsets})


@pytest.mark.parametrize("policy", ["compact", "compact,delete"])
def test_a_compacted_topic_is_refused(
    kafka: KafkaService, make_daemon: MakeDaemon, tmp_path: Path, policy: str
) -> None:
    """Its records vanish without a trace: topic, value, rule and fix are named."""
    topic = kafka.create_topic(configs={"cleanup.policy": policy})
    daemon = make_daemon(tmp_path, topic)
    daemon.start()

    assert ExitCode.CONFIGURATION == daemon.wait()
    told = daemon.log_path.read_text()
    assert f"kafka.on_lost_records: stop: the topic {topic} has cleanup.policy=" in told
    assert all(each in told for each in policy.split(","))
    assert "set cleanup.policy=delete on the topic, or kafka.on_lost_records: continue" in told


def test_a_compacted_topic_is_learned_with_a_warning_where_losses_are_allowed(
    kafka: KafkaService, make_daemon: MakeDaemon, tmp_path: Path
) -> None:
    """The warning names it; what is there is learned, each record once."""
    topic = kafka.create_topic(configs={"cleanup.policy": "compact"})
    offsets = kafka.produce(topic, feature_values(10))
    daemon = make_daemon(tmp_path, topic, kafka={"on_lost_records": "continue"})

    assert ExitCode.OK == daemon.run_until_tasks(1)
    (event,) = daemon.events("topic_compacted")
    assert ("warning", topic, "compact") == (event["level"], event["topic"], event["policy"])
    assert_each_once(daemon.plans(), {0: offsets})


def test_a_daemon_that_was_taken_over_from_stops(
    kafka: KafkaService, make_daemon: MakeDaemon, tmp_path: Path
) -> None:
    """At its next commit, with the code that no supervisor restarts on."""
    topic = kafka.create_topic()
    kafka.produce(topic, feature_values(10))
    first = make_daemon(tmp_path / "first", topic)
    first.start()
    first.wait_until(lambda: len(first.outcomes()) == 1)
    second = make_daemon(tmp_path / "second", topic, kafka={"take_over": True})
    second.start()
    second.wait_until_started()
    kafka.produce(topic, feature_values(10, seed=1))

    assert ExitCode.CONFIGURATION == first.wait()
    second.wait_until(lambda: len(second.outcomes()) >= 1)
    assert ExitCode.OK == second.terminate()


def test_a_standby_takes_over_after_a_kill(
    kafka: KafkaService, make_daemon: MakeDaemon, tmp_path: Path
) -> None:
    """It waits for the state directory, and goes on where the lineage log ends."""
    topic = kafka.create_topic()
    offsets = kafka.produce(topic, feature_values(15))
    first = make_daemon(tmp_path, topic)
    standby = make_daemon(tmp_path, topic)
    first.start()
    first.wait_until(lambda: len(first.outcomes()) == 1)
    standby.start(is_standby=True)
    standby.wait_until(lambda: bool(standby.events("standby")))
    first.kill()
    offsets += kafka.produce(topic, feature_values(15, seed=1))
    standby.wait_until(lambda: len(standby.outcomes()) == 3)

    assert ExitCode.OK == standby.terminate()
    assert_each_once(standby.plans(), {0: offsets})


def test_aborted_transactions_are_never_learned(
    kafka: KafkaService, make_daemon: MakeDaemon, tmp_path: Path
) -> None:
    """Committed ones are, each record once, and the gaps lie inside the ranges."""
    topic = kafka.create_topic()
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=topic)
    producer.init_transactions()
    kept: list[int] = []
    for number in range(8):
        producer.begin_transaction()
        sent = [
            producer.send(topic, record.value, headers=list(record.headers), partition=0)
            for record in feature_values(5, seed=number)
        ]
        producer.flush()
        if number % 2:
            producer.abort_transaction()
        else:
            producer.commit_transaction()
            kept += [each.get(300).offset for each in sent]
    producer.close()
    daemon = make_daemon(tmp_path, topic)

    assert ExitCode.OK == daemon.run_until_tasks(2)
    plans = daemon.plans()
    assert 20 == sum(map(num_instances, plans))
    assert_each_once(plans, {0: kept})


def test_no_kill_loses_or_repeats_a_record(
    kafka: KafkaService, make_daemon: MakeDaemon, tmp_path: Path
) -> None:
    """Twenty kills at random moments of learning, from three partitions."""
    topic = kafka.create_topic(partitions=3)
    produced = {number: list[int]() for number in range(3)}
    daemon = make_daemon(tmp_path, topic)
    rng = random.Random(7)
    for kill in range(20):
        number = kill % 3
        produced[number] += kafka.produce(topic, feature_values(9, seed=kill), partition=number)
        daemon.start()
        if kill % 4:
            daemon.wait_until_started()
        time.sleep(rng.uniform(0.0, 0.4))
        daemon.kill()

    assert ExitCode.OK == daemon.run_until_tasks(18)
    plans = daemon.plans()
    assert 18 == len(plans)
    assert_each_once(plans, produced)
    assert 18 == sum(outcome.result == "accepted" for outcome in daemon.outcomes())


def test_partitions_that_come_while_running_are_learned(
    kafka: KafkaService, make_daemon: MakeDaemon, tmp_path: Path
) -> None:
    """From their first record, also where new lineages begin at the end."""
    topic = kafka.create_topic()
    daemon = make_daemon(tmp_path, topic, kafka={"start_at": "latest"})
    daemon.start()
    daemon.wait_until_started()
    produced = {0: kafka.produce(topic, feature_values(10))}
    daemon.wait_until(lambda: len(daemon.outcomes()) == 1)
    kafka.add_partitions(topic, 3)
    for number in (1, 2):
        produced[number] = kafka.produce(topic, feature_values(10), partition=number)
    daemon.wait_until(lambda: len(daemon.outcomes()) == 3)

    assert ExitCode.OK == daemon.terminate()
    assert_each_once(daemon.plans(), produced)


def test_partitions_of_unequal_rates_are_all_learned(
    kafka: KafkaService, make_daemon: MakeDaemon, tmp_path: Path
) -> None:
    """Eight partitions, each with twice the records of the one before; event times in no order."""
    topic = kafka.create_topic(partitions=8)
    produced = {}
    for number in range(8):
        records = [
            record._replace(headers=(*record.headers, ("event-time", b"%d" % (1000 - at % 7))))
            for at, record in enumerate(feature_values(2**number, seed=number))
        ]
        kind = (None, "gzip", "lz4", "zstd")[number % 4]
        produced[number] = kafka.produce(topic, records, partition=number, compression_type=kind)
    daemon = make_daemon(tmp_path, topic, tasks={"instances": 51})

    assert ExitCode.OK == daemon.run_until_tasks(5)
    plans = daemon.plans()
    assert 255 == sum(map(num_instances, plans))
    assert_each_once(plans, produced)


def test_records_at_and_over_the_limits_go_where_they_belong(
    kafka: KafkaService, make_daemon: MakeDaemon, tmp_path: Path
) -> None:
    """At the limit it is learned, above it is a dead letter; what the topic refuses is kept."""
    topic = kafka.create_topic()
    kafka.create_named(f"{topic}.dlq", configs={"max.message.bytes": "3000"})
    records = feature_values(10)
    size = len(records[0].value)
    too_long = records[0]._replace(value=b"x" * (size + 1))
    far_too_long = records[0]._replace(value=b"y" * 5000)
    offsets = kafka.produce(topic, [too_long, far_too_long, *records])
    daemon = make_daemon(tmp_path, topic, decoding={"max_record_bytes": size})

    assert ExitCode.OK == daemon.run_until_tasks(1)
    (plan,) = daemon.plans()
    assert (10, (0, 1)) == (num_instances(plan), plan.ranges[0].rejected)
    assert_each_once([plan], {0: offsets})
    (kept,) = (tmp_path / "state" / "dead-letters").iterdir()
    assert kept.read_bytes().endswith(b"\n" + b"y" * 5000)
    assert f"{topic}-0-1.letter" == kept.name
    assert 1 == kafka.ends(f"{topic}.dlq")[0]


@pytest.mark.parametrize("on_lost", ["stop", "continue"])
def test_records_that_vanish_while_running_are_told(
    kafka: KafkaService, make_daemon: MakeDaemon, tmp_path: Path, on_lost: str
) -> None:
    """The task that fills ends before the gap, a skip entry names it, and learning goes on."""
    topic = kafka.create_topic()
    offsets = kafka.produce(topic, feature_values(14))
    tasks = {"instances": 10, "max_records": 14}
    daemon = make_daemon(tmp_path, topic, kafka={"on_lost_records": on_lost}, tasks=tasks)
    daemon.start()
    daemon.wait_until(lambda: len(daemon.outcomes()) == 1)
    # Four wait in the buffer; of what comes now, the first are gone before they can be read.
    daemon.wait_until(lambda: records_read(daemon) == 14)
    later = kafka.produce_with_a_gap(topic, feature_values(20, seed=1), below=20)
    if on_lost == "stop":
        assert ExitCode.UNAVAILABLE == daemon.wait()
        assert "offsets [14, 20) are gone: retention" in daemon.log_path.read_text()
        return
    daemon.wait_until(lambda: len(daemon.outcomes()) == 3)

    assert ExitCode.OK == daemon.terminate()
    assert [(14, 20)] == [(skip.start, skip.end) for skip in daemon.skips()]
    plans = daemon.plans()
    assert ["count", "gap", "count"] == [plan.cause for plan in plans]
    assert_each_once(plans, {0: [*offsets, *[at for at in later if 20 <= at < 30]]})


@pytest.mark.parametrize("is_running", [False, True], ids=["stopped", "running"])
def test_a_topic_made_anew_is_learned_from_its_first_record(
    kafka: KafkaService, make_daemon: MakeDaemon, tmp_path: Path, *, is_running: bool
) -> None:
    """Though it has grown beyond the place: its id is in the log, and a skip says what happened."""
    topic = kafka.create_topic()
    kafka.produce(topic, feature_values(14))
    daemon = make_daemon(tmp_path, topic, kafka={"on_lost_records": "continue"})
    daemon.start()
    daemon.wait_until(lambda: len(daemon.outcomes()) == 1)
    daemon.wait_until(lambda: records_read(daemon) == 14)
    if is_running:
        # Nothing is read from the new topic before the old one is known to be no more.
        daemon.send(signal.SIGSTOP)
    else:
        assert ExitCode.OK == daemon.terminate()
    kafka.replace_topic(topic)
    offsets = kafka.produce(topic, feature_values(30, seed=1))
    if is_running:
        time.sleep(1.5)  # beyond the age at which the client renews its picture of the cluster
        daemon.send(signal.SIGCONT)
        daemon.wait_until(lambda: len(daemon.skips()) == 1)
    else:
        daemon.start()
    daemon.wait_until(lambda: len(plans_behind_skip(daemon)) == 3)
    assert ExitCode.OK == daemon.terminate()

    (skip,) = daemon.skips()
    first, *rest = daemon.plans()
    plans = plans_behind_skip(daemon)
    assert (14 if is_running else 10, 0) == (skip.start, skip.end)
    assert "deleted and made anew" in skip.reason
    assert {skip.topic_id} == {each.topic_id for plan in plans for each in plan.ranges}
    assert first.ranges[0].topic_id not in (None, skip.topic_id)
    assert ["gap"] * is_running == [plan.cause for plan in rest if plan not in plans]
    assert_each_once(plans, {0: offsets})


def records_read(daemon: ForkedDaemon) -> int:
    """Return how many records of one partition a running daemon has taken from its source."""
    with urllib.request.urlopen(f"http://127.0.0.1:{daemon.port}/metrics", timeout=60) as answer:
        (number,) = re.findall(
            rb"^teacherd_records_consumed_total\{.*\} (.+)$", answer.read(), re.MULTILINE
        )
    return int(float(number))


def plans_behind_skip(daemon: ForkedDaemon) -> list[Plan]:
    """Return the plans that were made after the first skip."""
    behind = itertools.dropwhile(lambda entry: not isinstance(entry, Skip), daemon.entries())
    return [entry for entry in behind if isinstance(entry, Plan)]


def test_a_topic_made_anew_ends_the_daemon_where_nothing_may_be_lost(
    kafka: KafkaService, make_daemon: MakeDaemon, tmp_path: Path
) -> None:
    """It says what happened, and what would let it go on."""
    topic = kafka.create_topic()
    kafka.produce(topic, feature_values(10))
    daemon = make_daemon(tmp_path, topic)
    assert ExitCode.OK == daemon.run_until_tasks(1)
    kafka.replace_topic(topic)
    kafka.produce(topic, feature_values(30, seed=1))
    daemon.start()

    assert ExitCode.UNAVAILABLE == daemon.wait()
    told = daemon.log_path.read_text()
    assert f"{topic}/0 offsets [0, 10) are gone: the topic was deleted and made anew" in told
    assert "set on_lost_records: continue" in told
