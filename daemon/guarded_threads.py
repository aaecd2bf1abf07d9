"""The threads of a process, of which one that fails ends all: with the code of the first error."""

import threading
from collections.abc import Callable, Iterator

import structlog

from teacherd.daemon.errors import ExitCode
from teacherd.daemon.failure import exit_code_of, is_known

_JOIN_SECONDS = 0.05


class GuardedThreads:
    """Starts threads, notes why one has failed, waits for their end.

    Args:
        stop: Set when one has failed.
    """

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._threads: list[threading.Thread] = []
        self._log = structlog.get_logger()
        self.exit_code = ExitCode.OK
        """What the process should end with."""

    @property
    def alive(self) -> list[str]:
        """The names of those that run."""
        return [thread.name for thread in self._threads if thread.is_alive()]

    def start(self, name: str, target: Callable[[], None]) -> None:
        """Start one; any thread may."""

        def guarded() -> None:
            try:
                target()
            except BaseException as error:  # noqa: BLE001 (a thread's end is the process's)
                self.fail(name, error)

        # A daemon thread, so that a hung one cannot hold up the exit beyond the deadline.
        thread = threading.Thread(target=guarded, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def fail(self, thread: str, error: BaseException) -> None:
        """Note why a thread has ended, this process's first one included, and have all end."""
        self._log.error(
            "thread_failed",
            thread=thread,
            error=str(error),
            exc_info=None if is_known(error) else error,
        )
        if self.exit_code is ExitCode.OK:
            self.exit_code = exit_code_of(error)
        self._stop.set()

    def join(
        self, *, may_wait: Callable[[], bool], on_wait: Callable[[], None] = lambda: None
    ) -> Iterator[str]:
        """Wait for one after the other, and yield its name; who still runs then is `alive`.

        Args:
            may_wait: Asked again and again; once it says no, nobody is waited for.
            on_wait: Called meanwhile.
        """
        for thread in self._threads:
            while may_wait() and thread.is_alive():
                thread.join(_JOIN_SECONDS)
                on_wait()
            yield thread.name
