"""The settings of notifications: who is told that a version was promoted, held or taken back."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import urlsplit

from teacherd.daemon.errors import ConfigurationError, Problem

EventKind = Literal["promoted", "held", "quarantined", "rolled_back"]
Receiver = Literal["webhook", "command"]
RECEIVERS: tuple[Receiver, ...] = get_args(Receiver)


@dataclass(frozen=True, kw_only=True, slots=True)
class NotificationsConfig:
    """Who is told of decisions; nobody by default."""

    webhook_url: str | None = None
    """Each event is posted there as JSON, by http or https; null posts none. What is secret in it
    better comes from TEACHERD_NOTIFICATIONS__WEBHOOK_URL."""
    webhook_token_file: str | None = None
    """File with the bearer token that is sent along; null sends none."""
    command: tuple[str, ...] | None = None
    """Program and arguments, started without a shell; the event's JSON is its standard input."""
    events: tuple[EventKind, ...] = ("promoted", "held", "quarantined", "rolled_back")
    """Those that are told."""
    timeout_seconds: float = 10.0
    """How long an attempt may take; the command is then killed with all that it has started."""
    max_backoff_seconds: float = 60.0
    """Longest pause between attempts while they fail."""
    give_up_seconds: float = 3600.0
    """An event is let go when it has been tried for so long."""
    max_waiting: int = 1000
    """Events that may wait for a receiver that is away; the oldest then goes."""

    def __post_init__(self) -> None:
        if self.webhook_url is not None and not _is_usable(self.webhook_url):
            raise ValueError(
                "webhook_url: must be http:// or https:// with a host, without spaces and without "
                "a user or password; put a token into webhook_token_file"
            )
        if self.command is not None and not (self.command and self.command[0]):
            raise ValueError("command: []: must name a program; take null for none")
        for name, default in (
            ("timeout_seconds", 10),
            ("max_backoff_seconds", 60),
            ("give_up_seconds", 3600),
        ):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: {getattr(self, name)}: must be above 0; take {default}")
        if self.max_waiting < 1:
            raise ValueError(f"max_waiting: {self.max_waiting}: must be at least 1; take 1000")

    @property
    def receivers(self) -> tuple[Receiver, ...]:
        """Those that are configured."""
        wanted: dict[Receiver, object] = {"webhook": self.webhook_url, "command": self.command}
        return tuple(name for name in RECEIVERS if wanted[name] is not None)


def mask_webhook(url: str, *, mask: str) -> str:
    """Return a webhook's URL without what lets somebody post there: path and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/{mask}"


def check_receivers(config: NotificationsConfig) -> str | None:
    """Return the webhook's bearer token, None for none, and see that the command is there.

    Raises:
        ConfigurationError: The file cannot be read or holds none, or there is no such command.
    """
    if config.command is not None and shutil.which(config.command[0]) is None:
        message = (
            f"{config.command[0]}: is no program that can be started; give its whole path, and "
            "make it executable"
        )
        raise ConfigurationError([Problem("notifications.command", message)])
    if config.webhook_token_file is None:
        return None
    path = config.webhook_token_file
    try:
        token = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        message = f"{path}: cannot be read: {error}; name a file with the token alone"
        raise ConfigurationError([Problem("notifications.webhook_token_file", message)]) from error
    if not token or not token.isascii() or not token.isprintable():
        message = f"{path}: must hold one line of printable ASCII, the token alone"
        raise ConfigurationError([Problem("notifications.webhook_token_file", message)])
    return token


def _is_usable(url: str) -> bool:
    try:
        parts = urlsplit(url)
        has_port = parts.port != 0
    except ValueError:
        return False
    is_plain = url.isascii() and url.isprintable() and " " not in url
    is_http = parts.scheme in {"http", "https"} and bool(parts.hostname)
    return is_plain and is_http and has_port and "@" not in parts.netloc
