"""Opens the configured source for reading only, beside whoever else uses it."""

from teacherd.consumers.record_archive import RecordArchive
from teacherd.consumers.source import SourceError
from teacherd.consumers.stream_log import StreamLog
from teacherd.consumers.stream_log_file import StreamLogError
from teacherd.daemon.config import Config
from teacherd.daemon.errors import UnavailableError


def open_archive(config: Config) -> RecordArchive:
    """Open the records of the configured source; nothing is made or changed.

    Raises:
        UnavailableError: They are not there, or do not answer for now.
    """
    try:
        return StreamLog(config.stream_log, is_read_only=True)
    except (StreamLogError, SourceError) as error:
        raise UnavailableError(str(error)) from error
