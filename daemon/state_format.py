"""The number of the state directory's format: what an older teacherd must not touch.

It is raised whenever something is written that the release before could not read: a kind of entry,
a field of a checkpoint, a file. Every format since 1 is read; it becomes the newest at the first
start, before anything else is written. Format 1 is that of release 0.1.0, which wrote no number.
"""

import json
from dataclasses import asdict, dataclass
from importlib.metadata import version as package_version
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from teacherd.daemon.durable import write_file
from teacherd.daemon.errors import ConfigurationError, Problem, StateError

STATE_FORMAT = 2
FORMAT_FILE = "format.json"
_WITHOUT_NUMBER = 1


@dataclass(frozen=True, slots=True)
class StateFormat:
    """The format of a state directory, and the teacherd that brought it there."""

    format: int
    teacherd: str


_ADAPTER: TypeAdapter[StateFormat] = TypeAdapter(StateFormat)


def require_known_format(directory: Path) -> int:
    """Return the format of what lies in a state directory, 1 where no number is written.

    Raises:
        ConfigurationError: It is newer than this teacherd knows.
        StateError: The number cannot be read.
    """
    path = directory / FORMAT_FILE
    try:
        found = _ADAPTER.validate_json(path.read_bytes())
    except FileNotFoundError:
        return _WITHOUT_NUMBER
    except (OSError, ValidationError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no format number"
        raise StateError(path, f"cannot be read: {reason}; restore it from a backup") from error
    if found.format > STATE_FORMAT:
        ours = package_version("teacherd")
        message = (
            f"{directory} has format {found.format}, written by teacherd {found.teacherd}; this is "
            f"teacherd {ours}, which knows formats up to {STATE_FORMAT}: start teacherd "
            f"{found.teacherd} or a newer one, or restore a backup that is older"
        )
        raise ConfigurationError([Problem("process.state_directory", message)])
    return found.format


def write_format(directory: Path) -> None:
    """Mark a state directory as of the newest format.

    Raises:
        StateError: The disk refused.
    """
    newest = StateFormat(STATE_FORMAT, package_version("teacherd"))
    write_file(directory / FORMAT_FILE, json.dumps(asdict(newest)).encode() + b"\n")
