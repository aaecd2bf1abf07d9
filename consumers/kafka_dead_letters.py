"""Dead letters in a topic beside the input's: at least once, each with its origin."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

from kafka.errors import MessageSizeTooLargeError, RecordListTooLargeError

from teacherd.consumers.dead_letter_headers import (
    Origin,
    letter_headers,
    read_letter,
    requeued_headers,
    requeued_origin,
)
from teacherd.consumers.dead_letters import DeadLetter, KeptLetter
from teacherd.consumers.headers import readable_headers
from teacherd.consumers.kafka_batches import theirs
from teacherd.consumers.kafka_config import KafkaConfig
from teacherd.consumers.kafka_errors import opening_errors, source_errors
from teacherd.consumers.kafka_producing import ensure_topic, open_producer
from teacherd.consumers.kafka_reader import open_consumer, read_ranges
from teacherd.consumers.record import OffsetRange, Partition, Record

_SEND_SECONDS = 45.0
_REQUEUED_AT_ONCE = 256
"""Letters in one transaction."""
_FIRST_NUMBER = 1
"""Of the letter at offset 0."""
_SETTINGS = {"cleanup.policy": "delete", "retention.ms": "-1"}
"""Letters stay until somebody decides what to do with them."""


class KafkaDeadLetters:
    """The dead letters' contract on partition 0 of the topic `<input>.dlq`.

    `make_topic` makes it where it is not there. A letter's number is one more than its offset. To
    requeue leaves a mark in the same transaction that puts the record back, so that each goes back
    exactly once.

    Args:
        keep_large: Keeps, durably, a letter that the topic refuses for its size; None lets `add`
            fail.

    """

    def __init__(
        self, config: KafkaConfig, *, keep_large: Callable[[DeadLetter], None] | None = None
    ) -> None:
        self._config = config
        self._keep_large = keep_large
        self._partition = Partition(config.dead_letter_topic, 0)
        self._producer: Any = None

    def make_topic(self) -> None:
        """Make the topic if it is not there, so that a start finds out whether it can be had.

        Raises:
            SourceRefusedError: It cannot be made, or the settings do not let us in.
            SourceError: No broker answers.
        """
        with opening_errors(self._config.bootstrap_servers):
            ensure_topic(self._config, self._config.dead_letter_topic, _SETTINGS)

    def add(self, letters: Sequence[DeadLetter]) -> None:
        """Keep them durably; a letter may come twice if that fails in the middle."""
        with source_errors("writing dead letters"):
            if self._producer is None:
                # One batch for each: where a batch is too large for the topic, only that letter is.
                self._producer = open_producer(self._config, batch_size=0)
            sent = [(letter, self._send(letter)) for letter in letters]
            for letter, future in sent:
                try:
                    future.get(_SEND_SECONDS)
                except (MessageSizeTooLargeError, RecordListTooLargeError):
                    if self._keep_large is None:
                        raise
                    self._keep_large(letter)

    def list(self, limit: int, *, after: int = 0) -> Sequence[KeptLetter]:
        """Return those that wait, in order of their numbers, which are above `after`."""
        waiting = (kept for kept in self._waiting() if kept.number > after)
        return [kept for kept, _ in zip(waiting, range(limit), strict=False)]

    def count(self) -> int:
        """Return how many wait."""
        return sum(1 for _ in self._waiting())

    def requeue(self, numbers: Sequence[int] | None = None) -> int:
        """Append those that wait to their partitions again, each exactly once; return how many.

        Where a partition is none of the input's any more, the key says where it goes.
        """
        wanted = None if numbers is None else set(numbers)
        name = f"teacherd-requeue-{self._config.dead_letter_topic}"
        with source_errors("requeueing dead letters"):
            producer = open_producer(self._config, transactional_id=name, enable_idempotence=True)
        # Whoever requeues besides us is fenced off by the producer's initialisation, before we look
        # what waits: its transaction is in what we read, or will never be.
        with closing(producer), source_errors("requeueing dead letters"):
            producer.init_transactions()
            waiting = [kept.number for kept in self._waiting()]
            chosen = [number for number in waiting if wanted is None or number in wanted]
            for start in range(0, len(chosen), _REQUEUED_AT_ONCE):
                self._requeue(producer, set(chosen[start : start + _REQUEUED_AT_ONCE]))
        return len(chosen)

    def close(self) -> None:
        """Close the connections."""
        if self._producer is not None:
            self._producer.close(timeout=1.0)

    def _send(self, letter: DeadLetter) -> Any:  # noqa: ANN401 (kafka-python has no types)
        topic, number = self._partition
        return self._producer.send(
            topic,
            value=letter.value,
            key=letter.key,
            headers=list(letter_headers(letter)),
            partition=number,
        )

    def _requeue(self, producer: Any, numbers: set[int]) -> None:  # noqa: ANN401 (as above)
        """Put letters back and mark them: either all of it happens or nothing."""
        topic = self._config.topic
        known = {Partition(topic, number) for number in producer.partitions_for(topic)}
        producer.begin_transaction()
        try:
            for kept in self._waiting():
                if kept.number not in numbers:
                    continue
                letter = kept.letter
                producer.send(
                    topic,
                    value=letter.value,
                    key=letter.key,
                    headers=list(readable_headers(letter.headers)),
                    partition=letter.origin.number if letter.origin in known else None,
                )
                producer.send(
                    self._partition.topic,
                    value=b"",
                    headers=list(requeued_headers((letter.origin, letter.offset))),
                    partition=self._partition.number,
                )
            producer.commit_transaction()
        except BaseException:
            producer.abort_transaction()
            raise

    def _waiting(self) -> Iterator[KeptLetter]:
        """Yield letters that were not requeued, the first of each origin, in order."""
        requeued = {origin for record in self._records() if (origin := _mark(record)) is not None}
        seen: set[Origin] = set()
        for record in self._records():
            letter = read_letter(record)
            if letter is None:
                continue
            origin = (letter.origin, letter.offset)
            if origin not in requeued and origin not in seen:
                seen.add(origin)
                yield KeptLetter(number=record.offset + _FIRST_NUMBER, letter=letter)

    def _records(self) -> Iterator[Record]:
        with source_errors("reading dead letters"):
            consumer = open_consumer(self._config)
            try:
                if not consumer.partitions_for_topic(self._partition.topic):
                    return
                (partition,) = theirs([self._partition])
                start = consumer.beginning_offsets([partition])[partition]
                end = consumer.end_offsets([partition])[partition]
            finally:
                consumer.close(autocommit=False, timeout_ms=1000)
        for batch in read_ranges(self._config, [OffsetRange(self._partition, start, end)]):
            yield from batch


def _mark(record: Record) -> Origin | None:
    return requeued_origin(record.headers)
