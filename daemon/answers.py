"""Answers the three questions that a person comes with: is the served teacher fresh, better, whole?

From /status alone, like daemon/diagnosis.py, whose tolerances and findings it takes.
"""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from teacherd.daemon.diagnosis import FORGETTING
from teacherd.daemon.wording import points, span

_NOT_FRESH = {"loop", "source", "stalled", "lag", "headroom", "promotion"}
"""What is wrong where the teacher falls behind the stream."""
_NUM_SETS = 3
_ASKS = {"fresh": "Fresh", "better": "Better than before", "remembers": "Not forgetting"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """To one question."""

    about: Literal["fresh", "better", "remembers"]
    is_so: bool | None
    """None while there is nothing to go by."""
    says: str

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values, with the question (`asks`) as people read it."""
        return {"asks": _ASKS[self.about], **asdict(self)}


def answer(status: Mapping[str, Any], problems: Collection[str]) -> list[Answer]:
    """Return the answers in the order in which a person asks.

    Args:
        status: What /status answers.
        problems: What is wrong, as `Symptom.about`.
    """
    return [_fresh(status, problems), _better(status), _remembers(status)]


def _fresh(status: Mapping[str, Any], problems: Collection[str]) -> Answer:
    ages = status.get("ages", {})
    fresh, lag = ages.get("freshness_seconds"), ages.get("lag_seconds") or 0
    waits = f"the oldest record that waits, {span(lag)}" if lag else "no record waits"
    is_behind = not _NOT_FRESH.isdisjoint(problems)
    if fresh is None:
        says = f"Nothing that was learned is served yet; {waits}."
        return Answer(about="fresh", is_so=False if is_behind else None, says=says)
    says = f"The newest instance that it learned is {span(fresh)} old; {waits}."
    return Answer(about="fresh", is_so=not is_behind, says=says)


def _better(status: Mapping[str, Any]) -> Answer:
    learning = status.get("learning", {})
    gains = {name: -lost for name, lost in learning.get("forgetting", {}).items()}
    if status.get("teacher", {}).get("version") == 0:
        return Answer(about="better", is_so=None, says="The base model is served.")
    if not gains:
        return _better_than_the_one_before(status)
    ordered = sorted(gains.items(), key=lambda each: -each[1])[:_NUM_SETS]
    words = ", ".join(f"{_signed(gain)} on {name}" for name, gain in ordered)
    return Answer(about="better", is_so=ordered[0][1] > 0, says=f"{words}, against the base model.")


def _better_than_the_one_before(status: Mapping[str, Any]) -> Answer:
    verdict, version = status.get("verdict", {}), status.get("teacher", {}).get("version")
    for check in verdict.get("checks", ()) if verdict.get("version") == version else ():
        if (check["holdout"], check["against"]) == ("newest", "current") and check["num"]:
            gain = (check["won"] - check["lost"]) / check["num"]
            says = f"{_signed(gain)} on what was held out, against the version before."
            return Answer(about="better", is_so=gain >= 0, says=says)
    return Answer(about="better", is_so=None, says="No evaluation.sets are configured.")


def _remembers(status: Mapping[str, Any]) -> Answer:
    learning = status.get("learning", {})
    lost, transfer = learning.get("forgetting", {}), learning.get("backward_transfer")
    parts = []
    worst = max(lost, key=lost.__getitem__, default=None)
    if worst is not None:
        parts.append(
            f"At worst {points(lost[worst])} below the base model, on {worst}"
            if lost[worst] > 0
            else "On no set below the base model"
        )
    if transfer is not None:
        parts.append(f"{_signed(transfer)} on earlier tasks since each was learned")
    if not parts:
        says = "No evaluation.sets are configured, and nothing is held out."
        return Answer(about="remembers", is_so=None, says=says)
    most = max([*lost.values(), *([-transfer] if transfer is not None else [])])
    return Answer(about="remembers", is_so=most <= FORGETTING, says="; ".join(parts) + ".")


def _signed(gain: float) -> str:
    return f"{'+' if round(100 * gain, 1) > 0 else ''}{points(gain)}"
