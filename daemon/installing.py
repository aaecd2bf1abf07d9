"""Installs the daemon as a systemd service: writes its files, and says what is to be done then.

Files of ours are replaced; what the administrator writes (config.yaml, teacherd.env) is made once
and never touched again.
"""

import re
import shlex
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from teacherd.daemon.errors import StateError, UsageError

_OURS = {
    "teacherd.service": "etc/systemd/system/teacherd.service",
    "sysusers.conf": "etc/sysusers.d/teacherd.conf",
    "tmpfiles.conf": "etc/tmpfiles.d/teacherd.conf",
}
_THEIRS = {
    "config.yaml": "etc/teacherd/config.yaml",
    "teacherd.env": "etc/teacherd/teacherd.env",
}
_HIDDEN = (Path("/home"), Path("/root"), Path("/run/user"), Path("/tmp"), Path("/var/tmp"))  # noqa: S108 (named, not used)
"""ProtectHome and PrivateTmp of the unit show nothing below these."""
_SECRET_MODE = 0o640
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,30}")
"""What systemd takes as a name, in units and in sysusers alike."""
_PLAIN = re.compile(r"[A-Za-z0-9/._+@:,=-]+")
"""Paths that a unit may name without quotes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Installed:
    """What one file became."""

    path: Path
    state: str
    """written, unchanged or kept (it is the administrator's, and differs from ours)."""


def install_systemd(*, executable: Path, prefix: Path, user: str) -> list[Installed]:
    """Write unit, users, directories and, where there are none, configuration and environment.

    Args:
        executable: The `teacherd` that the unit starts.
        prefix: Root of the file system that is installed into; `/` is this machine.
        user: Whom the service runs as.

    Raises:
        UsageError: The unit could not start that executable, or not as that user.
        StateError: A file cannot be written.
    """
    _check_executable(executable)
    if not _USER.fullmatch(user):
        raise UsageError(
            f"--user: {user!r}: is no name of a user; take up to 31 of A-Z a-z 0-9 _ -, the first "
            "no digit, such as teacherd"
        )
    done = []
    for name, place in {**_OURS, **_THEIRS}.items():
        text = files("teacherd.deploy").joinpath("systemd", name).read_text(encoding="utf-8")
        text = text.replace("@executable@", _quoted(executable)).replace("@user@", user)
        done.append(_write(prefix / place, text, is_theirs=name in _THEIRS))
    return done


def next_commands(*, prefix: Path) -> list[str]:
    """Return what root runs to have the service, in order."""
    if prefix != Path("/"):
        # An image: systemd makes users and directories when it boots.
        return [f"systemctl --root={shlex.quote(str(prefix))} enable teacherd"]
    return [
        "systemd-sysusers",
        "systemd-tmpfiles --create",
        "systemctl daemon-reload",
        "systemctl enable --now teacherd",
    ]


def _check_executable(executable: Path) -> None:
    if not executable.is_absolute():
        raise UsageError(f"--executable: {executable}: must be an absolute path")
    if not str(executable).isprintable() or set("'\"\\") & set(str(executable)):
        raise UsageError(
            f"--executable: {str(executable)!r}: systemd takes no quotes, backslashes or control "
            "characters in it; install teacherd elsewhere: python3 -m venv /opt/teacherd"
        )
    for hidden in _HIDDEN:
        if executable.is_relative_to(hidden):
            raise UsageError(
                f"--executable: {executable}: the service sees nothing below {hidden}; install "
                "teacherd where every user can read it: python3 -m venv /opt/teacherd"
            )


def _quoted(path: Path) -> str:
    """Word a path as a unit's command line takes it; `%` would begin a specifier."""
    text = str(path).replace("%", "%%")
    return text if _PLAIN.fullmatch(text) else f'"{text}"'


def _write(path: Path, text: str, *, is_theirs: bool) -> Installed:
    try:
        if path.exists():
            if path.read_text(encoding="utf-8") == text:
                return Installed(path=path, state="unchanged")
            if is_theirs:
                return Installed(path=path, state="kept")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        if is_theirs:
            path.chmod(_SECRET_MODE)
    except OSError as error:
        raise StateError(path, f"cannot be written: {error.strerror}") from error
    return Installed(path=path, state="written")
