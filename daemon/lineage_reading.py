"""A lineage as read from its log beside a running daemon, without its lock."""

from pathlib import Path

from teacherd.daemon.errors import StateError, UsageError
from teacherd.daemon.lineage import Lineage, LineageError
from teacherd.daemon.lineage_log import LoggedEntry, read_lineage_log
from teacherd.daemon.state_directory import LINEAGE_LOG
from teacherd.daemon.state_format import require_known_format


def read_lineage(directory: Path) -> tuple[list[LoggedEntry], Lineage]:
    """Return the entries of a state directory's log, and what they say.

    Raises:
        UsageError: There is none.
        StateError: The log is damaged or contradicts itself.
        ConfigurationError: It is of a newer teacherd.
    """
    path = directory / LINEAGE_LOG
    if not path.exists():
        raise UsageError(
            f"{directory} holds no lineage yet: start `teacherd run`, or name another "
            "process.state_directory"
        )
    require_known_format(directory)
    entries = read_lineage_log(path)
    lineage = Lineage()
    for logged in entries:
        try:
            lineage.apply(logged.entry)
        except LineageError as error:
            raise StateError(path, f"entry {logged.sequence}: {error}") from error
    return entries, lineage
