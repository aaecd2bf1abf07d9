"""Appending to a topic: durable, in order, by key or into one partition."""

from collections.abc import Callable, Iterator

import pytest
from kafka_service import KafkaService

from teacherd.consumers.kafka_appender import KafkaAppender
from teacherd.consumers.kafka_archive import KafkaArchive
from teacherd.consumers.kafka_config import KafkaConfig
from teacherd.consumers.record import NewRecord, OffsetRange, Partition

OpenAppender = Callable[..., KafkaAppender]


@pytest.fixture
def open_appender(kafka: KafkaService) -> Iterator[OpenAppender]:
    """Give `open_appender(topic, partition=None)`; all are closed in the end."""
    opened: list[KafkaAppender] = []

    def open_one(topic: str, partition: int | None = None) -> KafkaAppender:
        config = KafkaConfig(bootstrap_servers=kafka.bootstrap, topic=topic)
        opened.append(KafkaAppender(config, partition=partition))
        return opened[-1]

    yield open_one
    for appender in opened:
        appender.close()


def test_records_arrive_as_they_were_handed_over(
    kafka: KafkaService, open_appender: OpenAppender
) -> None:
    """In one partition in their order, and the last offset is told."""
    topic = kafka.create_topic(partitions=2)
    records = [NewRecord(b"%d" % n, (("label", b"cat"),), b"key") for n in range(5)]
    partition = Partition(topic, 1)
    appender = open_appender(topic, 1)

    assert {partition: 1} == appender.append(records[:2])
    assert {partition: 4} == appender.append(records[2:])

    archive = KafkaArchive(KafkaConfig(bootstrap_servers=kafka.bootstrap, topic=topic))
    (batch,) = archive.read([OffsetRange(partition, 0, 5)])
    archive.close()
    found = [NewRecord(each.value, each.headers, each.key) for each in batch]
    assert records == found


def test_keys_choose_the_partition(kafka: KafkaService, open_appender: OpenAppender) -> None:
    """The same key always the same one."""
    topic = kafka.create_topic(partitions=4)
    appender = open_appender(topic)
    appender.append([NewRecord(b"value", (), b"%d" % (n % 3)) for n in range(30)])

    assert {0, 10, 20, 30} >= set(kafka.ends(topic).values())
    assert 30 == sum(kafka.ends(topic).values())


def test_a_record_that_is_too_large_for_the_topic_is_told(
    kafka: KafkaService, open_appender: OpenAppender
) -> None:
    """It will never be taken; the appender goes on."""
    topic = kafka.create_topic(configs={"max.message.bytes": "2000"})
    appender = open_appender(topic)

    with pytest.raises(ValueError, match=r"larger than .* takes"):
        appender.append([NewRecord(b"small"), NewRecord(b"x" * 3000), NewRecord(b"small")])

    appender.append([NewRecord(b"small")])
    with pytest.raises(ValueError, match="at least one"):
        appender.append([])
