"""Opens the configured source for reading only, beside whoever else uses it."""

from teacherd.consumers.record_archive import RecordArchive
from teacherd.consumers.stream_log import StreamLog
from teacherd.daemon.config import Config
from teacherd.daemon.source_opening import source_problems


def open_archive(config: Config) -> RecordArchive:
    """Open the records of the configured source; nothing is made or changed.

    Raises:
        ConfigurationError: They cannot be read as it is configured.
        UnavailableError: They are not there, or do not answer for now.
    """
    with source_problems():
        if config.source == "stream_log":
            return StreamLog(config.stream_log, is_read_only=True)
        # Takes a third of a second to import, and the stream log needs none of it.
        from teacherd.consumers.kafka_archive import KafkaArchive  # noqa: PLC0415

        return KafkaArchive(config.kafka)
