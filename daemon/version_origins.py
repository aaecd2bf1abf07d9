"""How each version of a lineage came about, as its log tells it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from teacherd.daemon.entries import Open, Outcome, Plan, Rollback
from teacherd.daemon.lineage import Lineage, VersionRecord
from teacherd.daemon.lineage_log import LoggedEntry


@dataclass(frozen=True, slots=True)
class Origin:
    """What made a version, and under which settings."""

    record: VersionRecord
    logged: LoggedEntry
    """The lineage's beginning, an accepted outcome, or a rollback."""
    plan: Plan | None
    """Of the task that it learned, as it was last tried; None where no task made it."""
    settings: dict[str, Any]
    """That decided its weights; empty where none did."""
    runtime: dict[str, str]
    """What its bits depended on besides."""

    @property
    def outcome(self) -> Outcome | None:
        """Of its task."""
        return self.logged.entry if isinstance(self.logged.entry, Outcome) else None


def find_origins(entries: Iterable[LoggedEntry]) -> dict[int, Origin]:
    """Return the origin of every version, by number, oldest first.

    A version that a rollback made has settings and runtime of the one whose weights it has.
    """
    lineage, found = Lineage(), dict[int, Origin]()
    for logged in entries:
        entry, plan = logged.entry, lineage.unfinished
        lineage.apply(entry)
        if isinstance(entry, Open):
            found[0] = Origin(lineage.versions[0], logged, None, {}, {})
        elif isinstance(entry, Rollback):
            old, record = found[entry.to], lineage.versions[entry.version]
            found[entry.version] = Origin(record, logged, None, old.settings, old.runtime)
        elif isinstance(entry, Outcome) and entry.version is not None:
            settings = lineage.settings.settings if lineage.settings else {}
            facts = lineage.runtime.facts if lineage.runtime else {}
            record = lineage.versions[entry.version]
            found[entry.version] = Origin(record, logged, plan, settings, facts)
    return found
