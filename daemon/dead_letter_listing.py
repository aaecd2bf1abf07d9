"""What the dead-letters verbs show and do."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from teacherd.consumers.dead_letters import DeadLetters, KeptLetter
from teacherd.consumers.headers import readable_headers
from teacherd.consumers.record import NewRecord
from teacherd.consumers.source import SourceError
from teacherd.consumers.stream_log_dead_letters import StreamLogDeadLetters
from teacherd.consumers.stream_log_file import StreamLogError
from teacherd.daemon.config import Config
from teacherd.daemon.errors import UnavailableError, UsageError
from teacherd.daemon.large_letters import LargeLetters
from teacherd.daemon.source_opening import open_appender, source_problems


def list_letters(config: Config, *, limit: int, after: int) -> list[dict[str, Any]]:
    """Return the records that wait for a decision, oldest first, without their payloads.

    Raises:
        UsageError: There is no stream log.
        ConfigurationError: Kafka does not let us in.
        UnavailableError: It cannot be read.
    """
    with _open(config) as letters:
        waiting = [*letters.list(limit, after=after)]
        waiting += [kept for kept in _list_large(config) if kept.number > after]
        return [
            {
                "number": kept.number,
                "topic": kept.letter.origin.topic,
                "partition": kept.letter.origin.number,
                "offset": kept.letter.offset,
                "reason": kept.letter.reason,
                "message": kept.letter.message,
                "bytes": len(kept.letter.value),
                "at": _moment(kept.letter.timestamp_ms),
            }
            for kept in waiting[:limit]
        ]


def requeue_letters(config: Config, numbers: Sequence[int] | None) -> int:
    """Append refused records to the topic again; None means all that wait.

    Raises:
        UsageError: There is no stream log.
        ConfigurationError: Kafka does not let us in.
        UnavailableError: It cannot be written.
    """
    with _open(config) as letters:
        return letters.requeue(numbers) + _requeue_large(config, numbers)


def _requeue_large(config: Config, numbers: Sequence[int] | None) -> int:
    """Append letters that are kept as files to their topic; one goes when its record is there."""
    chosen = [
        kept.letter for kept in _list_large(config) if numbers is None or kept.number in numbers
    ]
    for letter in chosen:
        with closing(open_appender(config, partition=letter.origin.number)) as appender:
            record = NewRecord(letter.value, readable_headers(letter.headers), letter.key)
            try:
                appender.append([record])
            except ValueError as error:
                topic, number = letter.origin
                raise UsageError(
                    f"dead letter of {topic}/{number} at offset {letter.offset}: {error}"
                ) from error
        LargeLetters(Path(config.process.state_directory)).remove(letter)
    return len(chosen)


def _list_large(config: Config) -> Sequence[KeptLetter]:
    """Return what a topic refused for its size."""
    if config.source != "kafka":
        return ()
    return LargeLetters(Path(config.process.state_directory)).list()


def _moment(timestamp_ms: int) -> str:
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC).isoformat(timespec="milliseconds")


@contextmanager
def _open(config: Config) -> Iterator[DeadLetters]:
    if config.source == "kafka":
        # Takes a third of a second to import, and the stream log needs none of it.
        from teacherd.consumers.kafka_dead_letters import KafkaDeadLetters  # noqa: PLC0415

        with source_problems(), closing(KafkaDeadLetters(config.kafka)) as letters:
            yield letters
        return
    path = config.stream_log.path
    if not Path(path).exists():
        raise UsageError(f"stream_log.path: {path} is not there; name the daemon's")
    try:
        with closing(StreamLogDeadLetters(config.stream_log)) as kept:
            yield kept
    except StreamLogError as error:
        raise UsageError(str(error)) from error
    except SourceError as error:
        raise UnavailableError(str(error)) from error
