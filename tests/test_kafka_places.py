"""Where reading of a real topic begins, and what its group is told."""

from collections.abc import Sequence

import pytest
from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka_reading import LINEAGE, KafkaSources, start, take, values
from kafka_service import KafkaService

from teacherd.consumers.record import Partition
from teacherd.consumers.source import SourceRefusedError


def committed(kafka: KafkaService, topic: str, number: int = 0) -> OffsetAndMetadata:
    """Return what the group has for a partition."""
    consumer = KafkaConsumer(bootstrap_servers=kafka.bootstrap, group_id=f"{topic}-group")
    try:
        return consumer.committed(TopicPartition(topic, number), metadata=True)
    finally:
        consumer.close()


def test_the_places_are_committed_with_the_lineage(
    kafka: KafkaService, open_source: KafkaSources
) -> None:
    """At the first start already, and then after each release."""
    topic = kafka.create_topic()
    kafka.produce(topic, values(5))
    source = open_source(topic)
    start(source)

    assert (0, f"lineage:{LINEAGE}") == committed(kafka, topic)[:2]

    source.release({Partition(topic, 0): 4, Partition("another", 0): 9}, needed_from={})

    assert (4, f"lineage:{LINEAGE}") == committed(kafka, topic)[:2]


def test_a_release_asks_the_group_once_for_all_partitions(
    kafka: KafkaService, open_source: KafkaSources, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question for each would hold up reading after every task, for as long as they are many."""
    topic = kafka.create_topic(partitions=20)
    source = open_source(topic)
    places = start(source)
    coordinator = source._group._consumer._coordinator
    fetch, asked = coordinator.fetch_committed_offsets, []

    def count(partitions: Sequence[TopicPartition], **options: int) -> object:
        asked.append(len(partitions))
        return fetch(partitions, **options)

    monkeypatch.setattr(coordinator, "fetch_committed_offsets", count)
    source.release(places, needed_from={})

    assert [20] == asked
    assert (0, f"lineage:{LINEAGE}") == committed(kafka, topic, 19)[:2]


@pytest.mark.parametrize(("start_at", "place"), [("earliest", 0), ("latest", 5)])
def test_a_new_lineage_begins_where_it_is_told(
    kafka: KafkaService, open_source: KafkaSources, start_at: str, place: int
) -> None:
    """At either end."""
    topic = kafka.create_topic()
    kafka.produce(topic, values(5))

    assert {Partition(topic, 0): place} == start(open_source(topic, start_at=start_at))


def test_a_new_lineage_begins_at_a_time(kafka: KafkaService, open_source: KafkaSources) -> None:
    """With the first record that is not older; at the end if all are."""
    topic = kafka.create_topic(partitions=2)
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap)
    for number in range(4):
        moment = 1_600_000_000_000 + number * 1000
        producer.send(topic, b"value", partition=0, timestamp_ms=moment).get(300)
    producer.close()
    places = start(open_source(topic, start_at="2020-09-13T12:26:42Z"))

    assert {Partition(topic, 0): 2, Partition(topic, 1): 0} == places


def test_the_group_goes_before_start_at(kafka: KafkaService, open_source: KafkaSources) -> None:
    """Also what an operator has set by hand; later places are the lineage's alone."""
    topic = kafka.create_topic()
    kafka.produce(topic, values(5))
    consumer = KafkaConsumer(bootstrap_servers=kafka.bootstrap, group_id=f"{topic}-group")
    consumer.commit({TopicPartition(topic, 0): OffsetAndMetadata(3, "", -1)})
    consumer.close()

    assert {Partition(topic, 0): 3} == start(open_source(topic, start_at="latest"))


def test_another_lineage_in_the_group_is_refused(
    kafka: KafkaService, open_source: KafkaSources
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


def test_whoever_is_told_to_takes_over(kafka: KafkaService, open_source: KafkaSources) -> None:
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
    kafka: KafkaService, open_source: KafkaSources
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
