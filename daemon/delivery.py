"""Delivers one event, once: a POST to a webhook, or a command with the event on standard input."""

import os
import signal
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any, Protocol

_POLL_SECONDS = 0.05
_READ_BYTES = 65536
_TOLD_CHARACTERS = 300
"""Of what a failing command said."""


class DeliveryError(Exception):
    """The event did not arrive, as far as one knows; it may be tried again. Names no secret."""


class Sender(Protocol):
    """Delivers an event once."""

    def send(self, body: bytes, is_over: Callable[[], bool]) -> None:
        """Return once the event has arrived; `is_over` tells when to wait no longer.

        Raises:
            DeliveryError: It has not, as far as one knows.
        """


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Another host must not get the token, nor the event."""

    def redirect_request(self, *_: Any) -> None:  # noqa: ANN401 - the library's own types
        """Follow none."""


class Webhook:
    """Posts; any answer of 200 to 299 means that it arrived."""

    def __init__(self, url: str, token: str | None, *, timeout_seconds: float) -> None:
        self._url = url
        self._timeout_seconds = timeout_seconds
        self._headers = {"Content-Type": "application/json", "User-Agent": "teacherd"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._opener = urllib.request.build_opener(_NoRedirects)
        self._posting: threading.Thread | None = None

    def send(self, body: bytes, is_over: Callable[[], bool]) -> None:
        """Post in a thread of its own, which is left behind when the time is over.

        A server may answer a byte at a time, for as long as it likes. There is never more than one
        such thread.

        Raises:
            DeliveryError: It was refused, or not answered in time.
        """
        if self._posting is not None and self._posting.is_alive():
            raise DeliveryError("the attempt before is still being answered")
        errors: list[str] = []
        thread = threading.Thread(target=self._post, args=(body, errors), daemon=True)
        self._posting = thread
        thread.start()
        while thread.is_alive():
            if is_over():
                raise DeliveryError("no answer in time")
            thread.join(_POLL_SECONDS)
        if errors:
            raise DeliveryError(errors[0])

    def _post(self, body: bytes, errors: list[str]) -> None:
        request = urllib.request.Request(  # noqa: S310 - http or https, as the settings checked
            self._url, data=body, headers=self._headers, method="POST"
        )
        try:
            with self._opener.open(request, timeout=self._timeout_seconds):
                pass
        except urllib.error.HTTPError as error:
            errors.append(f"answered {error.code}")
            error.close()
        except urllib.error.URLError as error:
            errors.append(str(error.reason))
        except Exception as error:  # noqa: BLE001 - whatever a server's bytes lead to
            # Its words may hold the URL, which is secret.
            errors.append(type(error).__name__)


class Command:
    """Runs a program; its exit code 0 means that it has taken the event."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = list(words)

    def send(self, body: bytes, is_over: Callable[[], bool]) -> None:
        """Run it, and kill what is left of its process group when it has ended or the time is over.

        Raises:
            DeliveryError: It could not be started, failed, or took too long.
        """
        try:
            process = self._start(body)
        except OSError as error:
            # No such program, or no room for temporary files: that ends no daemon.
            raise DeliveryError(f"cannot be started: {error.strerror}") from error
        said, has_ended = _watch(process, is_over)
        # Not reaped yet, so that nobody else can have got its number.
        may_kill = _kill_group(process.pid)
        if not (has_ended or may_kill):
            raise DeliveryError(f"took too long, and is not ours to kill{said}")
        code = process.wait()
        if not has_ended:
            raise DeliveryError(f"took too long and was killed{said}")
        if code:
            raise DeliveryError(f"ended with {code}{said}")

    def _start(self, body: bytes) -> subprocess.Popen[bytes]:
        """Start it with the event on its standard input.

        Raises:
            OSError: It cannot be started, or the event cannot be written down for it.
        """
        with tempfile.TemporaryFile() as event:
            event.write(body)
            event.seek(0)
            return subprocess.Popen(  # noqa: S603 - the operator's own, without a shell
                self._words,
                stdin=event,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )


def _kill_group(leader: int) -> bool:
    """Kill what is left of a process group; return False where all of it is another user's.

    Such as what sudo has started.
    """
    try:
        os.killpg(leader, signal.SIGKILL)
    except PermissionError:
        return False
    return True


def _watch(process: subprocess.Popen[bytes], is_over: Callable[[], bool]) -> tuple[str, bool]:
    """Wait for the end; return the end of what it said on stderr, and whether it came."""
    assert process.stderr is not None, "it was asked for"
    said = b""
    with process.stderr as pipe:
        os.set_blocking(pipe.fileno(), False)
        while True:
            flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
            has_ended = os.waitid(os.P_PID, process.pid, flags) is not None
            is_late = is_over()
            said = (said + _read(pipe.fileno()))[-_TOLD_CHARACTERS:]
            if has_ended or is_late:
                words = " ".join(said.decode(errors="replace").split())
                return (f": {words}" if words else ""), has_ended
            time.sleep(_POLL_SECONDS)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _READ_BYTES)
    except BlockingIOError:
        return b""
