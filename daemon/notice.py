"""What a receiver is told of an entry of the lineage log: JSON values, and a sentence."""

from dataclasses import dataclass
from typing import Any

from teacherd.daemon.entries import Open, Outcome, Publish, Restore, Rollback
from teacherd.daemon.lineage_log import LoggedEntry
from teacherd.daemon.notifications import EventKind


@dataclass(frozen=True, slots=True)
class Notice:
    """One event; its id is the same however often it is told."""

    sequence: int
    """Of its entry in the lineage log."""
    event: EventKind
    content: dict[str, Any]

    @property
    def id(self) -> str:
        """Lineage, epoch and place in the log."""
        return str(self.content["id"])

    @property
    def is_of_serving(self) -> bool:
        """Whether it says what is served, so that it is true only once `current` has moved."""
        return self.event in {"promoted", "rolled_back"}


class NoticeReader:
    """A fold over the entries: what a notice says of them needs those before."""

    def __init__(self) -> None:
        self._lineage = ""
        self._epoch = 1
        self._current = 0
        self._newest: Outcome | None = None

    def read(self, logged: LoggedEntry) -> Notice | None:
        """Take one more entry into account; return its notice, None where nobody is told."""
        told: tuple[EventKind, dict[str, Any]] | None = None
        match logged.entry:
            case Open(lineage=lineage):
                self._lineage = lineage
            case Restore(epoch=epoch):
                self._epoch = epoch
            case Outcome() as outcome:
                self._newest = outcome
                told = _set_aside(outcome)
            # Version 0 is what the lineage begins with: nobody decided anything.
            case Publish() as publish if publish.version > 0:
                told = ("promoted", self._promoted(publish))
                self._current = publish.version
            case Rollback() as rollback:
                told = ("rolled_back", self._rolled_back(rollback))
                self._current = rollback.version
            case _:
                pass
        return None if told is None else self._notice(logged, *told)

    def _notice(self, logged: LoggedEntry, event: EventKind, facts: dict[str, Any]) -> Notice:
        content = {
            "id": f"{self._lineage}/{self._epoch}/{logged.sequence}",
            "event": event,
            "text": f"teacherd: {facts.pop('text')}",
            "at": logged.written_at,
            "lineage": self._lineage,
            "epoch": self._epoch,
            "sequence": logged.sequence,
            **facts,
        }
        return Notice(logged.sequence, event, content)

    def _promoted(self, publish: Publish) -> dict[str, Any]:
        version, newest = publish.version, self._newest
        learned = newest if newest is not None and newest.version == version else None
        why = "promoted by hand"
        if publish.cause == "gate":
            is_judged = learned is not None and learned.gate != "ungated"
            why = "it passed the gate" if is_judged else "there is no gate"
        facts: dict[str, Any] = {
            "text": f"version {version} is served: {why}.",
            "version": version,
            "previous": self._current,
            "cause": publish.cause,
        }
        return facts if learned is None else {**facts, **_verdict(learned)}

    def _rolled_back(self, rollback: Rollback) -> dict[str, Any]:
        why = f"{rollback.cause}: {rollback.reason}" if rollback.reason else rollback.cause
        return {
            "text": f"version {rollback.version} is served, with the weights of version "
            f"{rollback.to} ({why}).",
            "version": rollback.version,
            "to": rollback.to,
            "previous": self._current,
            "cause": rollback.cause,
            "reason": rollback.reason,
        }


def _set_aside(outcome: Outcome) -> tuple[EventKind, dict[str, Any]] | None:
    if outcome.result not in {"held", "quarantined"}:
        return None
    event: EventKind = "held" if outcome.result == "held" else "quarantined"
    reasons = "; ".join(outcome.reasons) or "no reason is given"
    verb = "was held" if event == "held" else "was put into quarantine"
    text = f"task {outcome.task} {verb}: {reasons}."
    return event, {"text": text, **_verdict(outcome), "is_cut_short": outcome.is_cut_short}


def _verdict(outcome: Outcome) -> dict[str, Any]:
    return {
        "task": outcome.task,
        "gate": outcome.gate,
        "point": outcome.point,
        "reasons": list(outcome.reasons),
        "figures": dict(outcome.figures),
    }
