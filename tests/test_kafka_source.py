"""The source contract on a real topic: positions, gaps, seeds, the group, what is lost."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka_service import KafkaService

from teacherd.consumers.kafka_config import KafkaConfig
from teacherd.consumers.kafka_source import KafkaSource
from teacherd.consumers.record import NewRecord, OffsetRange, Partition
from teacherd.consumers.record_batch import RecordBatch
from teacherd.consumers.source import RecordsLostError, Retention, SourceError, SourceRefusedError

OpenSource = Callable[..., KafkaSource]
LINEAGE = "aaaaaaaaaaaaaaaa"
WAIT_SECONDS = 60.0


@pytest.fixture
def open_source(kafka: KafkaService) -> Iterator[OpenSource]:
    """Give `open_source(topic, lineage=..., **settings)`; all are closed in the end."""
    opened = []

    def open_one(topic: str, *, lineage: str = LINEAGE, **settings: object) -> KafkaSource:
        config = KafkaConfig(bootstrap_servers=kafka.bootstrap, topic=topic, group=f"{topic}-group")
        source = KafkaSource(replace(config, **settings), lineage=lineage)
        opened.append(source)
        return source

    yield open_one
    for source in opened:
        source.close()


def values(count: int, *, first: int = 0) -> list[NewRecord]:
    """Return records whose values are numbers."""
    return [
        NewRecord(b"%d" % number, (("label", b"cat"),), b"key")
        for number in range(first, first + count)
    ]


def start(source: KafkaSource) -> dict[Partition, int]:
    """Seek to the first places, as an assembly does, and return them."""
    places = dict(source.first_places(source.partitions()))
    source.seek(places)
    source.release(places, needed_from={})
    return places


def take(source: KafkaSource, count: int, max_records: int = 100) -> list[RecordBatch]:
    """Poll until so many records have come."""
    batches: list[RecordBatch] = []
    deadline = time.monotonic() + WAIT_SECONDS
    while sum(map(len, batches)) < count:
        assert time.monotonic() < deadline, f"only {batches}"
        batch = source.poll(max_records, 0.2)
        if batch is not None:
            batches.append(batch)
    return batches


def settle(source: KafkaSource, positions: dict[Partition, int]) -> None:
    """Poll until the positions are these."""
    deadline = time.monotonic() + WAIT_SECONDS
    while source.positions() != positions:
        assert time.monotonic() < deadline, source.positions()
        assert source.poll(100, 0.1) is None


def test_records_come_whole_and_in_order(kafka: KafkaService, open_source: OpenSource) -> None:
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


def test_a_null_value_becomes_empty(kafka: KafkaService, open_source: OpenSource) -> None:
    """A tombstone is a record like any other, though no instance."""
    topic = kafka.create_topic()
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap)
    producer.send(topic, key=b"key", value=None).get(30)
    producer.close()
    source = open_source(topic)
    start(source)
    (batch,) = take(source, 1)

    assert [b""] == list(batch.values)


def test_all_partitions_are_read(kafka: KafkaService, open_source: OpenSource) -> None:
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


def test_partitions_take_turns(kafka: KafkaService, open_source: OpenSource) -> None:
    """Else a task were of one partition: the client has thousands of its records at once."""
    topic = kafka.create_topic(partitions=3)
    for number in range(3):
        kafka.produce(topic, values(400), partition=number)
    source = open_source(topic)
    start(source)
    take(source, 1)
    time.sleep(1.0)  # what was asked for comes
    batches = take(source, 1100)

    numbers = [batch.partition.number for batch in batches[:8]]
    assert {0, 1, 2} == set(numbers[:5]), numbers
    assert all(one != other for one, other in pairwise(numbers)), numbers


def test_seek_goes_back_and_forgets_what_was_fetched(
    kafka: KafkaService, open_source: OpenSource
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


def test_nothing_comes_while_paused(kafka: KafkaService, open_source: OpenSource) -> None:
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
    kafka: KafkaService, open_source: OpenSource
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


def test_a_range_is_read_again_without_moving(kafka: KafkaService, open_source: OpenSource) -> None:
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
    kafka: KafkaService, open_source: OpenSource
) -> None:
    """Who asks has moved to another: it would be waited for in vain, and intake with it."""
    topic = kafka.create_topic()
    source = open_source(topic)
    start(source)
    gone = [Partition("nothing-of-that-name", 0), Partition(topic, 7)]

    assert [] == list(source.read([OffsetRange(each, 0, 5) for each in gone]))


def committed(kafka: KafkaService, topic: str, number: int = 0) -> OffsetAndMetadata:
    """Return what the group has for a partition."""
    consumer = KafkaConsumer(bootstrap_servers=kafka.bootstrap, group_id=f"{topic}-group")
    try:
        return consumer.committed(TopicPartition(topic, number), metadata=True)
    finally:
        consumer.close()


def test_the_places_are_committed_with_the_lineage(
    kafka: KafkaService, open_source: OpenSource
) -> None:
    """At the first start already, and then after each release."""
    topic = kafka.create_topic()
    kafka.produce(topic, values(5))
    source = open_source(topic)
    start(source)

    assert (0, f"lineage:{LINEAGE}") == committed(kafka, topic)[:2]

    source.release({Partition(topic, 0): 4, Partition("another", 0): 9}, needed_from={})

    assert (4, f"lineage:{LINEAGE}") == committed(kafka, topic)[:2]


@pytest.mark.parametrize(("start_at", "place"), [("earliest", 0), ("latest", 5)])
def test_a_new_lineage_begins_where_it_is_told(
    kafka: KafkaService, open_source: OpenSource, start_at: str, place: int
) -> None:
    """At either end."""
    topic = kafka.create_topic()
    kafka.produce(topic, values(5))

    assert {Partition(topic, 0): place} == start(open_source(topic, start_at=start_at))


def test_a_new_lineage_begins_at_a_time(kafka: KafkaService, open_source: OpenSource) -> None:
    """With the first record that is not older; at the end if all are."""
    topic = kafka.create_topic(partitions=2)
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap)
    for number in range(4):
        moment = 1_600_000_000_000 + number * 1000
        producer.send(topic, b"value", partition=0, timestamp_ms=moment).get(30)
    producer.close()
    places = start(open_source(topic, start_at="2020-09-13T12:26:42Z"))

    assert {Partition(topic, 0): 2, Partition(topic, 1): 0} == places


def test_the_group_goes_before_start_at(kafka: KafkaService, open_source: OpenSource) -> None:
    """Also what an operator has set by hand; later places are the lineage's alone."""
    topic = kafka.create_topic()
    kafka.produce(topic, values(5))
    consumer = KafkaConsumer(bootstrap_servers=kafka.bootstrap, group_id=f"{topic}-group")
    consumer.commit({TopicPartition(topic, 0): OffsetAndMetadata(3, "", -1)})
    consumer.close()

    assert {Partition(topic, 0): 3} == start(open_source(topic, start_at="latest"))


def test_another_lineage_in_the_group_is_refused(
    kafka: KafkaService, open_source: OpenSource
) -> None:
    """At the start; the one that was there goes on."""
    topic = kafka.create_topic()
    kafka.produce(topic, values(5))
    first = open_source(topic)
    start(first)
    second = open_source(topic, lineage="bbbbbbbbbbbbbbbb")

    with pytest.raises(SourceRefusedError, match=f"the lineage {LINEAGE} learns from {topic}/0"):
        start(second)
    with pytest.raises(SourceRefusedError, match="take_over"):
        second.release({Partition(topic, 0): 1}, needed_from={})

    first.release({Partition(topic, 0): 2}, needed_from={})

    assert (2, f"lineage:{LINEAGE}") == committed(kafka, topic)[:2]


def test_whoever_is_told_to_takes_over(kafka: KafkaService, open_source: OpenSource) -> None:
    """From where the other was; the other stops at its next commit."""
    topic = kafka.create_topic()
    kafka.produce(topic, values(5))
    first = open_source(topic)
    start(first)
    first.release({Partition(topic, 0): 2}, needed_from={})
    second = open_source(topic, lineage="bbbbbbbbbbbbbbbb", take_over=True)

    assert {Partition(topic, 0): 2} == start(second)
    with pytest.raises(SourceRefusedError, match="bbbbbbbbbbbbbbbb"):
        first.release({Partition(topic, 0): 3}, needed_from={})

    second.release({Partition(topic, 0): 4}, needed_from={})

    assert (4, "lineage:bbbbbbbbbbbbbbbb") == committed(kafka, topic)[:2]


def test_partitions_that_are_added_are_read_from_their_start(
    kafka: KafkaService, open_source: OpenSource
) -> None:
    """Also where new lineages begin at the end; the group knows them before they are read."""
    topic = kafka.create_topic()
    kafka.produce(topic, values(2))
    source = open_source(topic, start_at="latest", discovery_seconds=0.5)
    start(source)
    kafka.add_partitions(topic, 2)
    kafka.produce(topic, values(3), partition=1)
    batches = take(source, 3)

    assert [Partition(topic, 1)] * len(batches) == [each.partition for each in batches]
    assert (0, f"lineage:{LINEAGE}") == committed(kafka, topic, 1)[:2]
    assert {Partition(topic, 0): 2, Partition(topic, 1): 3} == source.positions()
    assert 2 == len(source.partitions())


def test_deleted_records_are_told_when_seeking(
    kafka: KafkaService, open_source: OpenSource
) -> None:
    """By range."""
    topic = kafka.create_topic()
    partition = Partition(topic, 0)
    kafka.produce(topic, values(10))
    kafka.delete_records(topic, 0, below=6)
    source = open_source(topic)

    with pytest.raises(RecordsLostError, match="retention") as caught:
        source.seek({partition: 2})

    assert OffsetRange(partition, 2, 6) == caught.value.lost
    assert {partition: 6} == source.earliest()


def test_deleted_records_are_told_while_reading(
    kafka: KafkaService, open_source: OpenSource
) -> None:
    """The client never resets on its own; behind the gap reading goes on."""
    topic = kafka.create_topic()
    partition = Partition(topic, 0)
    kafka.produce(topic, values(4))
    source = open_source(topic)
    start(source)
    take(source, 4)
    source.pause()
    kafka.produce(topic, values(10))
    kafka.delete_records(topic, 0, below=9)
    source.resume()

    with pytest.raises(RecordsLostError) as caught:
        take(source, 1)

    assert OffsetRange(partition, 4, 9) == caught.value.lost

    source.seek({partition: 9})

    assert 9 == take(source, 1)[0].offsets[0]


def test_a_topic_that_ends_before_the_place_is_told(
    kafka: KafkaService, open_source: OpenSource
) -> None:
    """It was truncated or made anew: the range runs back to where reading can go on."""
    topic = kafka.create_topic()
    partition = Partition(topic, 0)
    kafka.produce(topic, values(4))
    source = open_source(topic)

    with pytest.raises(RecordsLostError, match="ends before them") as caught:
        source.seek({partition: 9})

    assert OffsetRange(partition, 9, 4) == caught.value.lost
    assert "truncated" == caught.value.kind


def test_a_topic_made_anew_is_told_though_it_has_grown_beyond_the_place(
    kafka: KafkaService, open_source: OpenSource
) -> None:
    """Once for each partition, before any record of the new one; then reading goes on there."""
    topic = kafka.create_topic(partitions=2)
    partitions = [Partition(topic, 0), Partition(topic, 1)]
    kafka.produce(topic, values(4), partition=0)
    kafka.produce(topic, values(3), partition=1)
    source = open_source(topic, discovery_seconds=1)
    start(source)
    take(source, 7)
    before = source.topic_id()
    source.pause()
    kafka.replace_topic(topic, partitions=2)
    for number in (0, 1):
        kafka.produce(topic, values(9), partition=number)
    deadline = time.monotonic() + WAIT_SECONDS
    while source.topic_id() in (None, before):
        assert time.monotonic() < deadline, "the client never asks again"
        assert source.poll(1, 0.1) is None
    source.resume()
    places = {partitions[0]: 4, partitions[1]: 3}

    for partition in partitions:
        with pytest.raises(RecordsLostError, match="deleted and made anew") as caught:
            source.seek(places)

        assert OffsetRange(partition, places[partition], 0) == caught.value.lost
        assert ("replaced", source.topic_id()) == (caught.value.kind, caught.value.topic_id)
        places[partition] = 0

    source.seek(places)

    assert 18 == sum(len(batch) for batch in take(source, 18))


def test_a_shorter_topic_made_anew_is_told_as_such(
    kafka: KafkaService, open_source: OpenSource
) -> None:
    """The client's picture is from before: it is renewed before a truncation is believed."""
    topic = kafka.create_topic()
    kafka.produce(topic, values(4))
    source = open_source(topic, discovery_seconds=300)
    start(source)
    take(source, 4)
    kafka.replace_topic(topic)

    with pytest.raises(RecordsLostError) as caught:
        source.seek({Partition(topic, 0): 4})

    assert ("replaced", 4, 0) == (caught.value.kind, *caught.value.lost[1:])


def test_a_topic_that_is_not_there_is_named(open_source: OpenSource) -> None:
    """It may come: a supervisor tries again."""
    with pytest.raises(SourceError, match="no topic nothing-of-that-name"):
        open_source("nothing-of-that-name")


def test_a_broker_that_is_not_there_is_named(open_source: OpenSource) -> None:
    """With its address, and what the last attempt ended with."""
    away = {"bootstrap_servers": "127.0.0.1:1", "extra": {"bootstrap_timeout_ms": 500}}

    with pytest.raises(SourceError, match=r"Kafka at 127\.0\.0\.1:1 does not answer: .*REFUSED"):
        open_source("topic", **away)


def test_an_option_that_the_client_lacks_is_named(
    kafka: KafkaService, open_source: OpenSource
) -> None:
    """A typing error is not passed over."""
    topic = kafka.create_topic()

    with pytest.raises(SourceRefusedError, match="fetch_max_byte"):
        open_source(topic, extra={"fetch_max_byte": 1})


def test_the_topics_retention_is_told(kafka: KafkaService, open_source: OpenSource) -> None:
    """By time and by size, as the topic has it; -1 is without bound."""
    configs = {"retention.ms": "90000", "retention.bytes": "-1"}
    topic = kafka.create_topic(configs=configs)

    assert Retention(seconds=90.0, num_bytes=None) == open_source(topic).retention()
