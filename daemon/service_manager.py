"""Tells systemd how the daemon is, by the datagrams of sd_notify(3); silent without systemd.

What is told, and when, is the service's to decide.
"""

import os
import socket
from collections import deque
from collections.abc import Callable, Mapping

from teacherd.daemon.errors import TemporaryError

_MARGIN = 3.0
"""What is due within a time is sent so many times in it: one that comes late is no death."""
_MOST_OWED = 8
"""Messages that wait for a manager that does not listen."""


class ServiceManager:
    """The service manager that started this process, if one wants to be told.

    Args:
        address: Of its datagram socket, a path or `@abstract`; None tells nobody.
        watchdog_seconds: It kills a process it has not heard from for so long; None never does.
        monotonic: Seconds on the clock that CLOCK_MONOTONIC is.

    Raises:
        TemporaryError: There is an address, and nothing there to listen.
    """

    def __init__(
        self,
        address: str | None,
        *,
        watchdog_seconds: float | None,
        monotonic: Callable[[], float],
    ) -> None:
        self._monotonic = monotonic
        self._watchdog_seconds = watchdog_seconds
        self._next_sign_of_life = 0.0
        self._next_extension = 0.0
        self._has_started = False
        self._status = ""
        self._owed: deque[str] = deque(maxlen=_MOST_OWED)
        """What the manager was not told yet, and must be: it goes by it, and we say it once."""
        self._socket = None if address is None else _connect(address)

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str], *, monotonic: Callable[[], float]
    ) -> "ServiceManager":
        """Read NOTIFY_SOCKET, and WATCHDOG_USEC where it is meant for this process."""
        watched = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        interval = environment.get("WATCHDOG_USEC") if watched else None
        return cls(
            environment.get("NOTIFY_SOCKET") or None,
            watchdog_seconds=int(interval) / 1e6 if interval else None,
            monotonic=monotonic,
        )

    def ready(self) -> None:
        """The start, or the reload, is over."""
        self._has_started = True
        self._report("READY=1")

    def reloading(self) -> None:
        """The configuration is read again, until `ready`."""
        self._report("RELOADING=1", f"MONOTONIC_USEC={int(self._monotonic() * 1e6)}")

    def stopping(self) -> None:
        """The end has begun, whoever asked for it."""
        self._report("STOPPING=1")

    def tell(self, status: str) -> None:
        """Show a line for people, in `systemctl status`; the same line is not sent twice."""
        self._make_up()
        if status != self._status:
            self._status = status
            self._send(f"STATUS={status}")

    def extend_start(self, seconds: float) -> None:
        """A start that goes on may take so much longer; may be called as often as one likes."""
        now = self._monotonic()
        if not self._has_started and now >= self._next_extension:
            self._next_extension = now + seconds / _MARGIN
            self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def give_sign_of_life(self) -> None:
        """Keep the watchdog quiet; may be called as often as one likes.

        Nothing is sent before `ready`: the first sign is what would set the watchdog off, and the
        imports of a start are silent for longer than a training step.
        """
        self._make_up()
        now = self._monotonic()
        if self._watchdog_seconds is None or not self._has_started:
            return
        if now >= self._next_sign_of_life:
            self._next_sign_of_life = now + self._watchdog_seconds / _MARGIN
            self._send("WATCHDOG=1")

    def close(self) -> None:
        """Give the socket back."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _report(self, *assignments: str) -> None:
        """Tell what the manager must know, again later if it does not listen now."""
        self._owed.append("\n".join(assignments))
        self._make_up()

    def _make_up(self) -> None:
        while self._owed and self._send(self._owed[0]):
            self._owed.popleft()

    def _send(self, message: str) -> bool:
        """Send a datagram; return whether there is nobody, or it has arrived."""
        if self._socket is None:
            return True
        try:
            self._socket.send(message.encode())
        except OSError:
            # A manager that is being replaced, or whose queue is full, is told the next time; what
            # it misses is no reason to stop learning. A sign of life is due again at once.
            self._next_sign_of_life = 0.0
            self._status = ""
            return False
        return True


def _connect(address: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    connection.setblocking(False)  # noqa: FBT003 (positional only)
    try:
        connection.connect("\0" + address[1:] if address.startswith("@") else address)
    except OSError as error:
        connection.close()
        message = (
            f"NOTIFY_SOCKET={address}: {error.strerror}; unset it where no service manager listens"
        )
        raise TemporaryError(message) from error
    return connection
