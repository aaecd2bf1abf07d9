"""Opens the configured source for reading only, beside whoever else uses it."""

from teacherd.consumers.record_archive import RecordArchive
from teacherd.consumers.source import SourceError
from teacherd.consumers.stream_log import StreamLog
from teacherd.consumers.stream_log_file import StreamLogError
from teacherd.daemon.config import Config
from teacherd.daemon.errors import UnavailableError
from teacherd.daemon.source_opening import source_problems


def open_archive(config: Config) -> RecordArchive:
    """Open the records of the configured source; nothing is made or changed.

    Raises:
        ConfigurationError: Kafka does not let us in.
        UnavailableError: They are not there, or do not answer for now.
    """
    if config.source == "kafka":
        # Takes a third of a second to import, and the stream log needs none of it.
        from teacherd.consumers.kafka_archive import KafkaArchive  # noqa: PLC0415

        with source_problems():
            return KafkaArchive(config.kafka)
    try:
        return StreamLog(config.stream_log, is_read_only=True)
    except (StreamLogError, SourceError) as error:
        raise UnavailableError(str(error)) from error
