"""Opens the configured source and its dead letters; words refusals as problems of the settings."""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import structlog

from teacherd.consumers.appender import Appender
from teacherd.consumers.dead_letters import DeadLetter, DeadLetters
from teacherd.consumers.kafka_config import KafkaConfig
from teacherd.consumers.source import Source, SourceError, SourceRefusedError
from teacherd.consumers.stream_log import StreamLog, StreamLogConfig
from teacherd.consumers.stream_log_dead_letters import StreamLogDeadLetters
from teacherd.consumers.stream_log_file import StreamLogError
from teacherd.daemon.config import Config
from teacherd.daemon.errors import ConfigurationError, Problem, UnavailableError
from teacherd.models.ranks import ALONE, Ranks


def open_source(config: Config, *, lineage: str, ranks: Ranks = ALONE) -> Source:
    """Open what this process reads: of several ranks each every so many-th partition.

    Raises:
        ConfigurationError: It cannot be used as it is configured.
        UnavailableError: It does not answer for now.
    """
    if config.source == "stream_log":
        return open_stream(config.stream_log)
    # Takes a third of a second to import, and the stream log needs none of it.
    from teacherd.consumers.kafka_source import KafkaSource  # noqa: PLC0415
    from teacherd.daemon.compaction import tell_compaction  # noqa: PLC0415 (as above)

    if not has_fast_checksums():
        structlog.get_logger().warning("checksums_slow", hint="pip install crc32c")
    with source_problems(), ExitStack() as on_failure:
        source = KafkaSource(
            config.kafka,
            lineage=lineage,
            takes=lambda number: number % ranks.size == ranks.rank,
        )
        on_failure.callback(source.close)
        tell_compaction(config.kafka)
        on_failure.pop_all()
    return source


def has_fast_checksums() -> bool:
    """Tell whether kafka-python finds a checksum in C: without it, it reads about 5 MB/s."""
    return importlib.util.find_spec("crc32c") is not None


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

        letters = KafkaDeadLetters(config.kafka, keep_large=keep_large)
        letters.make_topic()
        return letters


def open_appender(config: Config, *, partition: int | None = None) -> Appender:
    """Open the way in for producers.

    Args:
        config: The whole of it.
        partition: Of a topic, where all records go; None lets keys decide.

    Raises:
        ConfigurationError: It cannot be used as it is configured.
        UnavailableError: It does not answer for now.
    """
    if config.source == "stream_log":
        return open_stream(config.stream_log)
    from teacherd.consumers.kafka_appender import KafkaAppender  # noqa: PLC0415 (as above)

    with source_problems():
        return KafkaAppender(config.kafka, partition=partition)


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


def make_topic(config: KafkaConfig, *, num_partitions: int) -> bool:
    """Make the topic unless it is there; return whether it was made.

    Raises:
        ConfigurationError: It cannot be made as it is configured.
        UnavailableError: No broker answers.
    """
    from teacherd.consumers.kafka_errors import opening_errors  # noqa: PLC0415 (as above)
    from teacherd.consumers.kafka_producing import ensure_topic  # noqa: PLC0415 (as above)

    with source_problems(), opening_errors(config.bootstrap_servers):
        return ensure_topic(config, config.topic, {}, num_partitions=num_partitions)


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
