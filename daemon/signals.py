"""Signals while a process runs: they only set flags, and what handled them before comes back."""

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

Handler = Callable[..., Any] | int | None
"""As `signal.signal` takes and returns them."""


@contextmanager
def handled(handlers: Mapping[signal.Signals, Handler]) -> Iterator[None]:
    """Handle signals so; the main thread's."""
    previous = {number: signal.signal(number, new) for number, new in handlers.items()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def ending(
    *,
    stop: threading.Event,
    force: threading.Event,
    hang_up: Handler,
    on_end: Callable[[], None] = lambda: None,
) -> Mapping[signal.Signals, Handler]:
    """Return handlers under which a process ends in order, and at once when it is asked again.

    Args:
        stop: Set by the first SIGTERM or SIGINT.
        force: Set by the second.
        hang_up: Of SIGHUP.
        on_end: Called at each of them.
    """

    def end(*_: object) -> None:
        if stop.is_set():
            force.set()
        stop.set()
        on_end()

    return {signal.SIGTERM: end, signal.SIGINT: end, signal.SIGHUP: hang_up}
