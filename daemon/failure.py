"""The exit code that an error ends the process with, and whether it explains itself."""

from teacherd.consumers.source import RecordsLostError, SourceRefusedError
from teacherd.consumers.stream_log_file import StreamLogError
from teacherd.daemon.errors import ExitCode, TeacherdError


def exit_code_of(error: BaseException) -> ExitCode:
    """Return the code of the first error of a thread."""
    if isinstance(error, TeacherdError):
        return error.exit_code
    if isinstance(error, SourceRefusedError):
        return ExitCode.CONFIGURATION
    if isinstance(error, RecordsLostError | StreamLogError):
        return ExitCode.UNAVAILABLE
    return ExitCode.INTERNAL


def is_known(error: BaseException) -> bool:
    """Tell whether its message says all: for anything else a traceback is needed."""
    known = (TeacherdError, SourceRefusedError, RecordsLostError, StreamLogError)
    return isinstance(error, known)
