"""Columns of what the client delivers, also of records that others made carelessly."""

from kafka.consumer.fetcher import ConsumerRecord

from teacherd.consumers.headers import UNREADABLE_HEADERS
from teacherd.consumers.kafka_batches import make_batch
from teacherd.consumers.record import Partition

PARTITION = Partition("topic", 3)


def consumer_record(offset: int, **fields: object) -> ConsumerRecord:
    """Return a record as the client makes it."""
    empty = dict.fromkeys(ConsumerRecord._fields)
    defaults = {"offset": offset, "timestamp": 7, "value": b"value", "headers": []}
    return ConsumerRecord(**{**empty, **defaults, **fields})


def test_columns_hold_what_the_records_held() -> None:
    """In their order."""
    headers = [("label", b"cat"), ("label", b"dog")]
    batch = make_batch(
        PARTITION, [consumer_record(4, key=b"key", headers=headers), consumer_record(9)]
    )

    assert [4, 9] == list(batch.offsets)
    assert [b"key", None] == list(batch.keys)
    assert [7, 7] == list(batch.timestamps_ms)
    assert tuple(headers) == batch.record(0).headers
    assert () == batch.record(1).headers


def test_nulls_become_empty() -> None:
    """Kafka knows values and header values that are null."""
    batch = make_batch(PARTITION, [consumer_record(0, value=None, headers=[("id", None)])])

    assert [b""] == list(batch.values)
    assert (("id", b""),) == batch.record(0).headers


def test_headers_that_cannot_be_packed_are_shown_as_damaged() -> None:
    """The record then goes to the dead letters; it must not stop the partition."""
    batch = make_batch(PARTITION, [consumer_record(0, headers=[("n" * 70_000, b"")])])
    ((name, value),) = batch.record(0).headers

    assert UNREADABLE_HEADERS == name
    assert b"nnnn" in value
