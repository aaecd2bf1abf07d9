"""What the dead-letters verbs show and do."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from teacherd.consumers.source import SourceError
from teacherd.consumers.stream_log import StreamLogConfig
from teacherd.consumers.stream_log_dead_letters import StreamLogDeadLetters
from teacherd.consumers.stream_log_file import StreamLogError
from teacherd.daemon.errors import UnavailableError, UsageError


def list_letters(config: StreamLogConfig, *, limit: int, after: int) -> list[dict[str, Any]]:
    """Return the records that wait for a decision, oldest first, without their payloads.

    Raises:
        UsageError: There is no stream log.
        UnavailableError: It cannot be read.
    """
    with _open(config) as letters:
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
            for kept in letters.list(limit, after=after)
        ]


def requeue_letters(config: StreamLogConfig, numbers: Sequence[int] | None) -> int:
    """Append refused records to the topic again; None means all that wait.

    Raises:
        UsageError: There is no stream log.
        UnavailableError: It cannot be written.
    """
    with _open(config) as letters:
        return letters.requeue(numbers)


def _moment(timestamp_ms: int) -> str:
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC).isoformat(timespec="milliseconds")


@contextmanager
def _open(config: StreamLogConfig) -> Iterator[StreamLogDeadLetters]:
    if not Path(config.path).exists():
        raise UsageError(f"stream_log.path: {config.path} is not there; name the daemon's")
    try:
        with closing(StreamLogDeadLetters(config)) as letters:
            yield letters
    except StreamLogError as error:
        raise UsageError(str(error)) from error
    except SourceError as error:
        raise UnavailableError(str(error)) from error
