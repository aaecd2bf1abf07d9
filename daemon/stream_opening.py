"""Opens the stream log, and words its refusal as a problem of the configuration."""

from teacherd.consumers.source import SourceError
from teacherd.consumers.stream_log import StreamLog, StreamLogConfig
from teacherd.consumers.stream_log_file import StreamLogError
from teacherd.daemon.errors import ConfigurationError, Problem, UnavailableError


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
