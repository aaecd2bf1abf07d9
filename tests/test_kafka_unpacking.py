"""Our unpacking gives what kafka-python's own gives, of every kind of batch that brokers send."""

from typing import Any

import kafka as client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import CorruptRecordError
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from kafka_service import KafkaService

from teacherd.consumers.kafka_unpacking import (
    CHECKED_VERSIONS,
    FetchedRecord,
    unpack_batch,
    unpack_leanly,
)

BYTES = st.none() | st.binary(max_size=300)
HEADERS = st.lists(st.tuples(st.text(max_size=5), BYTES), max_size=4)
CODECS = {"none": 0, "gzip": 1, "lz4": 3, "zstd": 4}


def built(records: list[tuple[Any, ...]], codec: int) -> bytearray:
    """Return a batch of records: key, value, headers, timestamp."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=codec,
        is_transactional=False,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1 << 20,
    )
    for offset, (key, value, headers, timestamp) in enumerate(records):
        builder.append(offset, timestamp, key, value, headers)
    batch: bytearray = builder.build()
    return batch


def plain(records: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401 (either kind)
    """Return what is asked about records."""
    return [
        (each.offset, each.key, tuple(each.headers), each.value, each.timestamp) for each in records
    ]


def test_the_installed_client_was_checked() -> None:
    """Another version is read by its own means until somebody has looked and put it on the list."""
    assert client.__version__ in CHECKED_VERSIONS


@given(
    st.lists(st.tuples(BYTES, BYTES, HEADERS, st.integers(0, 2**41)), min_size=1, max_size=8),
    st.sampled_from(sorted(CODECS.values())),
)
def test_batches_are_read_as_the_client_reads_them(
    records: list[tuple[Any, ...]], codec: int
) -> None:
    """Nulls, empty ones, repeated and odd headers, times before the first."""
    batch = built(records, codec)

    assert plain(DefaultRecordBatch(batch)) == plain(unpack_batch(DefaultRecordBatch(batch)))


@given(st.data())
def test_damage_behind_the_checksum_is_one_error(data: st.DataObject) -> None:
    """As with the client: no other exception, and no endless loop.

    Only a header's name that is no UTF-8 is an error to the client and none to us.
    """
    batch = built([(b"key", b"value", [("name", b"x")], 1000)] * 3, 0)
    at = data.draw(st.integers(61, len(batch) - 1))
    batch[at] ^= data.draw(st.integers(1, 255))
    try:
        theirs = plain(DefaultRecordBatch(batch))
    except CorruptRecordError:
        theirs = None
    try:
        ours = plain(unpack_batch(DefaultRecordBatch(batch)))
    except CorruptRecordError:
        ours = None

    assert theirs == ours or (theirs is None and "\\x" in str(ours))


def test_a_header_name_that_is_no_utf8_is_read_with_its_bytes_escaped() -> None:
    """Brokers take any bytes for a name; the record is no reason for its partition to stop."""
    batch = built([(b"key", b"value", [("name", b"x"), ("zz", None)], 1000)], 0)
    at = batch.index(b"zz")
    batch[at : at + 2] = b"\xff\xfe"
    (record,) = unpack_batch(DefaultRecordBatch(batch))

    assert (("name", b"x"), ("\\xff\\xfe", None)) == record.headers
    assert b"value" == record.value


def read(bootstrap: str, topic: str, start: int, *, is_lean: bool) -> tuple[list[Any], int]:
    """Return all records from an offset on, and the position afterwards."""
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap, isolation_level="read_committed", group_id=None
    )
    if is_lean:
        unpack_leanly(consumer)
    partition = TopicPartition(topic, 0)
    consumer.assign([partition])
    consumer.seek(partition, start)
    (end,) = consumer.end_offsets([partition]).values()
    records: list[Any] = []
    while consumer.position(partition) < end:
        for some in consumer.poll(500, max_records=7).values():
            records += some
    assert all(isinstance(each, FetchedRecord) == is_lean for each in records)
    position = consumer.position(partition)
    consumer.close()
    return plain(records), position


def send(bootstrap: str, topic: str, **options: object) -> None:
    """Produce records with and without keys, values and headers."""
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=50, **options)
    for number in range(30):
        producer.send(
            topic,
            key=b"k%d" % number if number % 2 else None,
            value=None if number % 6 == 5 else bytes(number),
            headers=[("label", b"1"), ("empty", b"")][: number % 3],
            partition=0,
        )
    producer.close()


@pytest.mark.parametrize("start", [0, 17])
def test_a_topic_is_read_as_the_client_reads_it(kafka: KafkaService, start: int) -> None:
    """Compressed or not, committed and aborted, also from the middle of a batch on."""
    topic = kafka.create_topic()
    for codec in (None, "gzip", "lz4", "zstd"):
        send(kafka.bootstrap, topic, compression_type=codec)
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=topic)
    producer.init_transactions()
    for is_kept in (True, False, True, False):
        producer.begin_transaction()
        producer.send(topic, value=b"kept" if is_kept else b"aborted", partition=0)
        producer.flush()
        producer.commit_transaction() if is_kept else producer.abort_transaction()
    producer.close()
    theirs = read(kafka.bootstrap, topic, start, is_lean=False)
    ours = read(kafka.bootstrap, topic, start, is_lean=True)

    assert 120 - start + 2 == len(ours[0])
    assert theirs == ours


def test_the_brokers_time_counts_where_a_topic_wants_it(kafka: KafkaService) -> None:
    """LogAppendTime: one time for the whole batch."""
    topic = kafka.create_topic(configs={"message.timestamp.type": "LogAppendTime"})
    send(kafka.bootstrap, topic)

    assert read(kafka.bootstrap, topic, 0, is_lean=False) == read(
        kafka.bootstrap, topic, 0, is_lean=True
    )


def test_a_version_that_nobody_has_checked_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is slower, and right."""
    monkeypatch.setattr(client, "__version__", "99.0")

    class Untouched:
        @property
        def _fetcher(self) -> object:
            raise AssertionError("it was touched")

    unpack_leanly(Untouched())
