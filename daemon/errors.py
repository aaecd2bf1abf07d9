"""What can go wrong in the process, and the exit code that each kind of failure ends it with."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path


class ExitCode(IntEnum):
    """The codes a supervisor may act on; sysexits.h where it has a word for the case."""

    OK = 0
    GENERIC = 1
    USAGE = 2
    OTHER_RUNTIME = 3
    """A replay under another runtime gave other bits, as it may."""
    UNAVAILABLE = 69
    """Something outside that is needed is not there: the source, records that were promised."""
    INTERNAL = 70
    """A thread died of what we got wrong."""
    STATE = 74
    """The state directory cannot be written, or what it holds cannot be trusted."""
    TEMPORARY = 75
    """Will go away by itself: another process holds the lock or the port."""
    CONFIGURATION = 78
    """Restarting will not help: supervisors must not."""


class TeacherdError(Exception):
    """A failure that is told in one message, without a traceback, and has an exit code."""

    exit_code = ExitCode.GENERIC
    is_refusal = False
    """Whether nothing was done, so that a process that was asked goes on."""


class UsageError(TeacherdError):
    """The command line asks for something that cannot be."""

    exit_code = ExitCode.USAGE
    is_refusal = True


class UnavailableError(TeacherdError):
    """A dependency is away, or records that were promised are gone."""

    exit_code = ExitCode.UNAVAILABLE


class TemporaryError(TeacherdError):
    """Another process is in the way; trying again later may work."""

    exit_code = ExitCode.TEMPORARY


class StateError(TeacherdError):
    """A file of the state directory cannot be written, read or trusted."""

    exit_code = ExitCode.STATE

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the configuration."""

    key: str
    """Dotted key, such as `learning.optimizer.learning_rate`."""
    message: str
    """Value, rule and fix."""

    def __str__(self) -> str:
        return f"{self.key}: {self.message}"


class ConfigurationError(TeacherdError):
    """The configuration cannot be used; carries every problem found, not only the first."""

    exit_code = ExitCode.CONFIGURATION

    def __init__(self, problems: Sequence[Problem], *, origin: str = "configuration") -> None:
        lines = "".join(f"\n  {problem}" for problem in problems)
        noun = "problem" if len(problems) == 1 else "problems"
        super().__init__(f"{origin}: {len(problems)} {noun}{lines}")
        self.problems = tuple(problems)
