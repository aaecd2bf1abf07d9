"""What the dead-letters verbs do to a stream log, and to what is none."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from kafka_service import KafkaService
from records import INSTANCES

from teacherd.consumers.dead_letters import DeadLetter
from teacherd.consumers.headers import pack_headers
from teacherd.consumers.kafka_archive import KafkaArchive
from teacherd.consumers.kafka_config import KafkaConfig
from teacherd.consumers.kafka_dead_letters import KafkaDeadLetters
from teacherd.consumers.record import OffsetRange, Partition
from teacherd.consumers.stream_log import StreamLog, StreamLogConfig
from teacherd.consumers.stream_log_dead_letters import StreamLogDeadLetters
from teacherd.daemon.config import Config, ProcessConfig
from teacherd.daemon.dead_letter_listing import list_letters, requeue_letters
from teacherd.daemon.errors import UnavailableError, UsageError
from teacherd.daemon.large_letters import LargeLetters


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Return a stream log with the letters 1 to 4, at offsets 11 to 14."""
    config = StreamLogConfig(path=str(tmp_path / "stream.db"))
    with closing(StreamLogDeadLetters(config)) as letters:
        letters.add(
            [
                DeadLetter(
                    origin=INSTANCES,
                    offset=10 + number,
                    key=b"key",
                    headers=pack_headers((("label", b"?"),)),
                    value=bytes(number),
                    stage="decoding",
                    reason="malformed",
                    message="is none",
                    timestamp_ms=1_000 * number,
                )
                for number in range(1, 5)
            ]
        )
    return Config(stream_log=config)


def offsets(config: Config, *, limit: int = 100, after: int = 0) -> list[int]:
    """Return the offsets of the letters that are listed."""
    return [row["offset"] for row in list_letters(config, limit=limit, after=after)]


def test_letters_are_listed_in_parts(config: Config) -> None:
    """At most so many, after the last number seen."""
    assert [11, 12, 13, 14] == offsets(config)
    assert [11, 12] == offsets(config, limit=2)
    assert [13] == offsets(config, limit=1, after=2)
    assert [] == offsets(config, after=4)


def test_a_letter_is_listed_without_its_payload(config: Config) -> None:
    """Where it came from, why it was refused, when, and how large it is."""
    assert {
        "number": 3,
        "topic": "instances",
        "partition": 0,
        "offset": 13,
        "reason": "malformed",
        "message": "is none",
        "bytes": 3,
        "at": "1970-01-01T00:00:03.000+00:00",
    } == list_letters(config, limit=1, after=2)[0]


def test_requeued_letters_are_records_again(config: Config) -> None:
    """Untouched, at the end of the stream, and no more listed."""
    assert 2 == requeue_letters(config, [2, 4, 4, 99])
    with closing(StreamLog(config.stream_log)) as log:
        batch = log.poll(10, 0.0)

    assert [11, 13] == offsets(config)
    assert [bytes(2), bytes(4)] == [record.value for record in batch or ()]
    assert 2 == requeue_letters(config, None)
    assert [] == offsets(config)


def test_a_file_that_is_no_stream_log_is_named(tmp_path: Path) -> None:
    """And left as it is."""
    path = tmp_path / "notes.txt"
    path.write_text("of something else " * 100)
    with pytest.raises(UsageError, match=r"notes\.txt"):
        list_letters(Config(stream_log=StreamLogConfig(path=str(path))), limit=1, after=0)

    assert "of something else " * 100 == path.read_text()


def test_a_missing_file_is_not_made(tmp_path: Path) -> None:
    """Whoever mistypes a path gets no empty list."""
    config = StreamLogConfig(path=str(tmp_path / "stream.db"))
    with pytest.raises(UsageError, match="is not there"):
        requeue_letters(Config(stream_log=config), None)

    assert not Path(config.path).exists()


def test_a_log_that_fails_for_now_may_be_tried_again(config: Config) -> None:
    """A lost table stands for any trouble that SQLite has while it reads."""
    with closing(sqlite3.connect(config.stream_log.path)) as connection:
        connection.execute("ALTER TABLE dead_letters RENAME TO elsewhere")
        connection.commit()
    with pytest.raises((UnavailableError, UsageError), match=r"stream\.db"):
        list_letters(config, limit=1, after=0)


def test_letters_of_a_topic_go_back_once(kafka: KafkaService) -> None:
    """By number or all, with key, headers and value untouched; copies count once."""
    topic = kafka.create_topic(partitions=2)
    settings = KafkaConfig(bootstrap_servers=kafka.bootstrap, topic=topic)
    config = Config(source="kafka", kafka=settings)
    assert [] == list_letters(config, limit=10, after=0)
    letters = KafkaDeadLetters(settings)
    letters.make_topic()
    each = [
        DeadLetter(
            origin=Partition(topic, number % 2),
            offset=number,
            key=b"key",
            headers=pack_headers((("label", b"cat"),)),
            value=b"%d" % number,
            stage="decoding",
            reason="malformed",
            message="is none",
            timestamp_ms=1000,
        )
        for number in range(4)
    ]
    letters.add([*each, each[0]])
    letters.close()

    assert [(1, 0), (2, 1), (3, 2), (4, 3)] == [
        (row["number"], row["offset"]) for row in list_letters(config, limit=10, after=0)
    ]
    assert [3] == [row["number"] for row in list_letters(config, limit=1, after=2)]
    assert 1 == requeue_letters(config, [2, 99])
    assert 3 == requeue_letters(config, None)
    assert 0 == requeue_letters(config, None)
    assert [] == list_letters(config, limit=10, after=0)

    archive = KafkaArchive(settings)
    ranges = [OffsetRange(Partition(topic, number), 0, 10) for number in range(2)]
    found = [record for batch in archive.read(ranges) for record in batch]
    archive.close()
    assert {b"0", b"1", b"2", b"3"} == {record.value for record in found}
    assert {(b"key", (("label", b"cat"),))} == {(each.key, each.headers) for each in found}
    assert {0} == {int(each.value) % 2 for each in found if each.partition.number == 0}


def test_letters_of_partitions_that_are_not_there_go_back_too(kafka: KafkaService) -> None:
    """The topic was made anew with fewer, or the daemon has moved to it: it reads no other."""
    topic = kafka.create_topic(partitions=2)
    settings = KafkaConfig(bootstrap_servers=kafka.bootstrap, topic=topic)
    config = Config(source="kafka", kafka=settings)
    letters = KafkaDeadLetters(settings)
    letters.make_topic()
    gone = replace(letter_of(topic, 3, b"gone"), origin=Partition(topic, 7))
    letters.add([gone, letter_of("before", 3, b"before")])
    letters.close()

    assert 2 == requeue_letters(config, None)

    archive = KafkaArchive(settings)
    ranges = [OffsetRange(Partition(topic, number), 0, 10) for number in range(2)]
    found = [record.value for batch in archive.read(ranges) for record in batch]
    archive.close()
    assert {b"gone", b"before"} == set(found)


def test_letters_that_were_too_large_for_their_topic_go_back_too(
    kafka: KafkaService, tmp_path: Path
) -> None:
    """They lie in files beside the others; the input takes them as it did before."""
    topic = kafka.create_topic(partitions=2)
    kafka.create_named(f"{topic}.dlq", configs={"max.message.bytes": "3000"})
    settings = KafkaConfig(bootstrap_servers=kafka.bootstrap, topic=topic)
    process = ProcessConfig(state_directory=str(tmp_path / "state"))
    config = Config(source="kafka", kafka=settings, process=process)
    kept = LargeLetters(tmp_path / "state")
    letters = KafkaDeadLetters(settings, keep_large=kept.keep)
    letters.add([letter_of(topic, 0, b"small"), letter_of(topic, 1, b"x" * 5000)])
    letters.close()
    rows = list_letters(config, limit=10, after=0)

    assert [(0, 5), (1, 5000)] == [(row["offset"], row["bytes"]) for row in rows]
    assert rows[:1] == list_letters(config, limit=1, after=0)
    assert rows[1:] == list_letters(config, limit=10, after=rows[0]["number"])

    assert 1 == requeue_letters(config, [rows[1]["number"]])
    assert rows[:1] == list_letters(config, limit=10, after=0)
    assert 1 == requeue_letters(config, None)

    archive = KafkaArchive(settings)
    found = [
        record
        for batch in archive.read([OffsetRange(Partition(topic, 1), 0, 10)])
        for record in batch
    ]
    archive.close()
    assert [b"x" * 5000, b"small"] == [record.value for record in found]
    assert {(b"key", (("label", b"cat"),))} == {(each.key, each.headers) for each in found}


def letter_of(topic: str, offset: int, value: bytes) -> DeadLetter:
    """Return a letter from partition 1."""
    return DeadLetter(
        origin=Partition(topic, 1),
        offset=offset,
        key=b"key",
        headers=pack_headers((("label", b"cat"),)),
        value=value,
        stage="decoding",
        reason="malformed",
        message="is none",
        timestamp_ms=1000,
    )
