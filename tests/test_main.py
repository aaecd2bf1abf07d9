"""The entry point: errors become one message and an exit code."""

import subprocess
import sys
from pathlib import Path

import pytest

from teacherd.daemon import __main__ as entry
from teacherd.daemon.errors import (
    ConfigurationError,
    ExitCode,
    Problem,
    StateError,
    TeacherdError,
    TemporaryError,
    UnavailableError,
    UsageError,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TeacherdError("no"), ExitCode.GENERIC),
        (UsageError("no"), ExitCode.USAGE),
        (UnavailableError("no"), ExitCode.UNAVAILABLE),
        (TemporaryError("no"), ExitCode.TEMPORARY),
        (StateError(Path("file"), "no"), ExitCode.STATE),
        (ConfigurationError([Problem("key", "no")]), ExitCode.CONFIGURATION),
    ],
)
def test_each_error_ends_with_its_message_and_code(
    error: TeacherdError,
    code: ExitCode,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What is wrong stands on stderr, without a traceback; supervisors read the code."""

    def fail(_arguments: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr(entry, "app", fail)
    with pytest.raises(SystemExit) as ended:
        entry.main([])

    assert code == ended.value.code
    assert ("", f"teacherd: {error}\n") == tuple(capsys.readouterr())


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody could mend it without."""

    def fail(_arguments: object, **_options: object) -> None:
        raise KeyError("ours")

    monkeypatch.setattr(entry, "app", fail)

    with pytest.raises(KeyError, match="ours"):
        entry.main([])


@pytest.mark.parametrize(
    "command",
    [[str(Path(sys.executable).with_name("teacherd"))], [sys.executable, "-m", "teacherd.daemon"]],
)
def test_the_command_and_the_module_are_the_same(command: list[str]) -> None:
    """Installed as `teacherd`, or run as a module where it is not on the path."""
    done = subprocess.run([*command, "version"], check=True, capture_output=True, text=True)

    assert "teacherd " in done.stdout
