"""How far a receiver has been told, durable: what it was not told yet is told after a restart."""

import json
from pathlib import Path

import structlog

from teacherd.daemon.durable import write_file
from teacherd.daemon.errors import StateError


class NotifiedPlace:
    """Owns `notified-NAME.json` of a state directory; the notifying thread moves it on.

    Args:
        path: The file.
        lineage: Whose log it is about.
        end: The log's last sequence now: a receiver that is new begins after it.

    Raises:
        StateError: The disk refused.
    """

    def __init__(self, path: Path, *, lineage: str, end: int) -> None:
        self._path = path
        self._lineage = lineage
        known = _read(path)
        # After a restore the log may end before what was told, and is soon as long again.
        if known is not None and known[0] == lineage and known[1] <= end:
            self.last = known[1]
        else:
            self.move(end)

    def move(self, sequence: int) -> None:
        """Note that all up to an entry is told, or let go.

        Raises:
            StateError: The disk refused.
        """
        self.last = sequence
        content = {"lineage": self._lineage, "sequence": sequence}
        write_file(self._path, (json.dumps(content) + "\n").encode())


def forget_place(path: Path) -> None:
    """Remove the place of a receiver that is not configured: should it come back, it is new.

    Raises:
        StateError: The disk refused.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StateError(path, f"cannot be removed: {error.strerror}") from error


def _read(path: Path) -> tuple[str, int] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return str(content["lineage"]), int(content["sequence"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        log = structlog.get_logger()
        log.warning("notified_place_unreadable", path=str(path), error=repr(error))
        return None
