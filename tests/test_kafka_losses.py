"""Records of a real topic that are gone are told by range and kind."""

import time

import pytest
from kafka_reading import WAIT_SECONDS, KafkaSources, start, take, values
from kafka_service import KafkaService

from teacherd.consumers.record import OffsetRange, Partition
from teacherd.consumers.source import RecordsLostError


def test_deleted_records_are_told_when_seeking(
    kafka: KafkaService, open_source: KafkaSources
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
    kafka: KafkaService, open_source: KafkaSources
) -> None:
    """The client never resets on its own; behind the gap reading goes on."""
    topic = kafka.create_topic()
    partition = Partition(topic, 0)
    kafka.produce(topic, values(4))
    source = open_source(topic)
    start(source)
    take(source, 4)
    kafka.produce_with_a_gap(topic, values(10), below=9)

    with pytest.raises(RecordsLostError) as caught:
        take(source, 1)

    assert OffsetRange(partition, 4, 9) == caught.value.lost

    source.seek({partition: 9})

    assert 9 == take(source, 1)[0].offsets[0]


def test_a_topic_that_ends_before_the_place_is_told(
    kafka: KafkaService, open_source: KafkaSources
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
    kafka: KafkaService, open_source: KafkaSources
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
    kafka: KafkaService, open_source: KafkaSources
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
