"""Opens the configured source and its dead letters; words refusals as problems of the settings."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from teacherd.consumers.dead_letters import DeadLetter, DeadLetters
from teacherd.consumers.source import Source, SourceError, SourceRefusedError
from teacherd.consumers.stream_log import StreamLog, StreamLogConfig
from teacherd.consumers.stream_log_dead_letters import StreamLogDeadLetters
from teacherd.consumers.stream_log_file import StreamLogError
from teacherd.daemon.config import Config
from teacherd.daemon.errors import ConfigurationError, Problem, UnavailableError


def open_source(config: Config, *, lineage: str) -> Source:
    """Open what the daemon reads.

    Raises:
        ConfigurationError: It cannot be used as it is configured.
        UnavailableError: It does not answer for now.
    """
    if config.source == "stream_log":
        return open_stream(config.stream_log)
    # Takes a third of a second to import, and the stream log needs none of it.
    from teacherd.consumers.kafka_source import KafkaSource  # noqa: PLC0415

    with source_problems():
        return KafkaSource(config.kafka, lineage=lineage)


def open_dead_letters(config: Config, *, keep_large: Callable[[DeadLetter], None]) -> DeadLetters:
    """Open where refused records go.

    Args:
        config: The whole of it.
        keep_large: Takes those that are too large for a topic.

    Raises:
        ConfigurationError: It cannot be used as it is configured.
        UnavailableError: It does not answer for now.
    """
    with source_problems():
        if config.source == "stream_log":
            return StreamLogDeadLetters(config.stream_log)
        from teacherd.consumers.kafka_dead_letters import KafkaDeadLetters  # noqa: PLC0415 (as above)

        return KafkaDeadLetters(config.kafka, keep_large=keep_large)


def open_stream(config: StreamLogConfig) -> StreamLog:
    """Open the stream log, making it if there is none.

    Raises:
        ConfigurationError: It cannot be made there, or the file is something else.
        UnavailableError: It does not answer for now.
    """
    try:
        return StreamLog(config)
    except StreamLogError as error:
        raise ConfigurationError([Problem("stream_log.path", str(error))]) from error
    except SourceError as error:
        raise UnavailableError(str(error)) from error


@contextmanager
def source_problems() -> Iterator[None]:
    """Give what a source raises while a start uses it its exit code.

    Raises:
        ConfigurationError: It refuses to be used as it is configured.
        UnavailableError: It does not answer, or cannot be read.
    """
    try:
        yield
    except SourceRefusedError as error:
        raise ConfigurationError([Problem(f"kafka.{error.key}", error.message)]) from error
    except (SourceError, StreamLogError) as error:
        raise UnavailableError(str(error)) from error
