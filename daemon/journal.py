"""The lineage log together with what it says: entries go in, the state follows."""

from collections.abc import Callable, Mapping
from typing import Any

from teacherd.daemon.entries import Config, Entry, Runtime
from teacherd.daemon.errors import StateError
from teacherd.daemon.lineage import Lineage, LineageError
from teacherd.daemon.lineage_log import LineageLog, LoggedEntry, Pin, read_lineage_log


class Journal:
    """Owns the log; every entry is checked against those before it and durable on return.

    Raises:
        StateError: The log on disk contradicts itself.
    """

    def __init__(self, log: LineageLog) -> None:
        self._log = log
        self.lineage = Lineage()
        self._followers: list[Callable[[LoggedEntry], None]] = []
        for logged in log.take_entries():
            try:
                self.lineage.apply(logged.entry)
            except LineageError as error:
                raise StateError(log.path, f"entry {logged.sequence}: {error}") from error

    @property
    def is_new(self) -> bool:
        """Whether no lineage has been opened yet."""
        return self.lineage.opening is None

    @property
    def pin(self) -> Pin:
        """Where the log ends now."""
        return self._log.pin

    def contains(self, pin: Pin) -> bool:
        """Tell whether the log at the pin is the beginning of this one."""
        return self._log.contains(pin)

    def record(self, entry: Entry) -> None:
        """Append an entry.

        Raises:
            LineageError: It contradicts the log; nothing was written.
            StateError: The disk refused it; the process must end and start again from the log.
        """
        self.lineage.apply(entry)
        logged = self._log.append(entry)
        for follower in self._followers:
            follower(logged)

    def follow(self, *followers: Callable[[LoggedEntry], None]) -> None:
        """Have every entry told to those who decide nothing: those so far, then each new one."""
        for logged in read_lineage_log(self._log.path):
            for follower in followers:
                follower(logged)
        self._followers += followers

    def record_settings(self, settings: Mapping[str, Any]) -> bool:
        """Append the settings that decide weights if they differ from those in force."""
        in_force = self.lineage.settings
        if in_force is not None and in_force.settings == settings:
            return False
        self.record(Config(settings=dict(settings)))
        return True

    def record_runtime(self, facts: Mapping[str, str]) -> bool:
        """Append the facts that bits depend on if they differ from the last ones."""
        last = self.lineage.runtime
        if last is not None and last.facts == facts:
            return False
        self.record(Runtime(facts=dict(facts)))
        return True

    def close(self) -> None:
        """Close the log."""
        self._log.close()
