"""The source contract on a real topic: reading, positions, gaps, pauses."""

import time
from itertools import pairwise
from typing import Any

import pytest
from kafka import KafkaProducer
from kafka_reading import WAIT_SECONDS, KafkaSources, settle, start, take, values
from kafka_service import KafkaService

from teacherd.consumers.kafka_source import KafkaSource
from teacherd.consumers.record import OffsetRange, Partition
from teacherd.consumers.source import Retention, SourceError, SourceRefusedError


def test_records_come_whole_and_in_order(kafka: KafkaService, open_source: KafkaSources) -> None:
    """Key, headers, value, offset; the position moves behind what was handed out."""
    topic = kafka.create_topic()
    kafka.produce(topic, values(5))
    source = open_source(topic)
    partition = Partition(topic, 0)

    assert {partition: 0} == start(source)

    (batch,) = take(source, 3, max_records=3)

    assert [0, 1, 2] == list(batch.offsets)
    record = batch.record(1)
    assert (b"key", (("label", b"cat"),), b"1") == (record.key, record.headers, record.value)
    assert abs(time.time() * 1000 - record.timestamp_ms) < 600_000
    assert {partition: 3} == source.positions()
    assert [3, 4] == [offset for each in take(source, 2) for offset in each.offsets]


def test_a_null_value_becomes_empty(kafka: KafkaService, open_source: KafkaSources) -> None:
    """A tombstone is a record like any other, though no instance."""
    topic = kafka.create_topic()
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap)
    producer.send(topic, key=b"key", value=None).get(300)
    producer.close()
    source = open_source(topic)
    start(source)
    (batch,) = take(source, 1)

    assert [b""] == list(batch.values)


def test_all_partitions_are_read(kafka: KafkaService, open_source: KafkaSources) -> None:
    """Each batch is of one; whatever is not handed out does not move its position."""
    topic = kafka.create_topic(partitions=3)
    for number in range(3):
        kafka.produce(topic, values(10 * (number + 1)), partition=number)
    source = open_source(topic)
    start(source)
    batches = take(source, 60, max_records=7)

    for number in range(3):
        offsets = [o for each in batches if each.partition.number == number for o in each.offsets]
        assert list(range(10 * (number + 1))) == offsets


def test_partitions_take_turns(kafka: KafkaService, open_source: KafkaSources) -> None:
    """Else a task were of one partition: the client has thousands of its records at once."""
    topic = kafka.create_topic(partitions=3)
    for number in range(3):
        kafka.produce(topic, values(400), partition=number)
    source = open_source(topic)
    start(source)
    take(source, 1)
    deadline = time.monotonic() + WAIT_SECONDS
    while len(at_hand(source)) < 3:
        assert time.monotonic() < deadline, at_hand(source)
        time.sleep(0.01)
    batches = take(source, 1100)

    numbers = [batch.partition.number for batch in batches[:8]]
    assert {0, 1, 2} == set(numbers[:5]), numbers
    assert all(one != other for one, other in pairwise(numbers)), numbers


def at_hand(source: KafkaSource) -> set[Any]:
    """Return the partitions of which the client has records that it has not handed out."""
    fetcher = source._consumer._fetcher
    fetched = {each.topic_partition for each in fetcher._completed_fetches.copy()}
    in_hand = fetcher._next_partition_records
    return fetched | ({in_hand.topic_partition} if in_hand else set())


def test_seek_goes_back_and_forgets_what_was_fetched(
    kafka: KafkaService, open_source: KafkaSources
) -> None:
    """After a failure intake reads again what it had not kept."""
    topic = kafka.create_topic(partitions=2)
    for number in range(2):
        kafka.produce(topic, values(5), partition=number)
    source = open_source(topic)
    start(source)
    first = take(source, 1, max_records=100)
    source.seek({Partition(topic, 0): 2, Partition(topic, 1): 4})
    batches = take(source, 4)

    assert first
    assert {0: [2, 3, 4], 1: [4]} == {each.partition.number: list(each.offsets) for each in batches}


def test_nothing_comes_while_paused(kafka: KafkaService, open_source: KafkaSources) -> None:
    """Also not what is fetched already."""
    topic = kafka.create_topic()
    kafka.produce(topic, values(10))
    source = open_source(topic)
    start(source)
    take(source, 1, max_records=1)
    source.pause()

    assert source.poll(10, 0.01) is None

    source.resume()

    assert [1, 2] == list(take(source, 2, max_records=2)[0].offsets)


def test_aborted_records_and_markers_are_passed_without_lag(
    kafka: KafkaService, open_source: KafkaSources
) -> None:
    """Gaps between offsets are no loss: the position is the client's."""
    topic = kafka.create_topic()
    partition = Partition(topic, 0)
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=f"{topic}-1")
    producer.init_transactions()
    for is_kept in (True, False, True, False):
        producer.begin_transaction()
        for record in values(3):
            producer.send(topic, record.value, partition=0)
        producer.flush()
        producer.commit_transaction() if is_kept else producer.abort_transaction()
    producer.close()
    source = open_source(topic)
    start(source)
    offsets = [offset for each in take(source, 6) for offset in each.offsets]

    assert [0, 1, 2, 8, 9, 10] == offsets

    settle(source, {partition: 16})
    assert 0 == source.lag()[partition].records
    read = source.read([OffsetRange(partition, 1, 12)])
    assert [1, 2, 8, 9, 10] == [offset for each in read for offset in each.offsets]


def test_a_range_is_read_again_without_moving(
    kafka: KafkaService, open_source: KafkaSources
) -> None:
    """On a client of its own, up to exactly the end; what is gone is not yielded."""
    topic = kafka.create_topic()
    partition = Partition(topic, 0)
    kafka.produce(topic, values(20))
    source = open_source(topic)
    start(source)
    take(source, 5, max_records=5)

    def read(low: int, high: int) -> list[int]:
        return [
            o for each in source.read([OffsetRange(partition, low, high)]) for o in each.offsets
        ]

    assert list(range(3, 17)) == read(3, 17)
    assert {partition: 5} == source.positions()

    kafka.delete_records(topic, 0, below=10)

    assert list(range(10, 12)) == read(3, 12)
    assert [] == read(3, 9)


def test_of_a_topic_that_is_no_more_nothing_is_read(
    kafka: KafkaService, open_source: KafkaSources
) -> None:
    """Who asks has moved to another: it would be waited for in vain, and intake with it."""
    topic = kafka.create_topic()
    source = open_source(topic)
    start(source)
    gone = [Partition("nothing-of-that-name", 0), Partition(topic, 7)]

    assert [] == list(source.read([OffsetRange(each, 0, 5) for each in gone]))


def test_a_topic_that_is_not_there_is_named(open_source: KafkaSources) -> None:
    """It may come: a supervisor tries again."""
    with pytest.raises(SourceError, match="no topic nothing-of-that-name"):
        open_source("nothing-of-that-name")


def test_a_broker_that_is_not_there_is_named(open_source: KafkaSources) -> None:
    """With its address, and what the last attempt ended with."""
    away = {"bootstrap_servers": "127.0.0.1:1", "extra": {"bootstrap_timeout_ms": 5000}}

    with pytest.raises(SourceError, match=r"Kafka at 127\.0\.0\.1:1 does not answer: .*REFUSED"):
        open_source("topic", **away)


def test_an_option_that_the_client_lacks_is_named(
    kafka: KafkaService, open_source: KafkaSources
) -> None:
    """A typing error is not passed over."""
    topic = kafka.create_topic()

    with pytest.raises(SourceRefusedError, match="fetch_max_byte"):
        open_source(topic, extra={"fetch_max_byte": 1})


def test_the_topics_retention_is_told(kafka: KafkaService, open_source: KafkaSources) -> None:
    """By time and by size, as the topic has it; -1 is without bound."""
    configs = {"retention.ms": "90000", "retention.bytes": "-1"}
    topic = kafka.create_topic(configs=configs)

    assert Retention(seconds=90.0, num_bytes=None) == open_source(topic).retention()
