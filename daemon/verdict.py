"""A verdict in words and figures, as manifest, status and listings show it."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from teacherd.daemon.entries import Outcome


def verdict_of(outcome: Outcome) -> dict[str, Any]:
    """Return what the gate said about a task, as plain values."""
    return {
        "result": outcome.result,
        "gate": outcome.gate,
        "point": outcome.point,
        "checks": [asdict(check) for check in outcome.checks],
        "reasons": list(outcome.reasons),
        "drift": outcome.drift,
        "retired": list(outcome.retired),
        "is_base_retired": outcome.is_base_retired,
        "is_best": outcome.is_best,
        "head_returns": outcome.head_returns,
    }


def holdout_forgetting(outcome: Outcome) -> Mapping[str, float]:
    """Return what the candidate lost against the better of served and best, by check.

    `worst` is the largest of them. Below 0 it has gained.
    """
    lost: dict[str, float] = {}
    for check in outcome.checks:
        if check.holdout in {"newest", "earlier", "base"} and check.num:
            loss = (check.lost - check.won) / check.num
            lost[check.holdout] = max(loss, lost.get(check.holdout, loss))
    return {**lost, "worst": max(lost.values())} if lost else {}


def holdout_accuracy(outcome: Outcome) -> Mapping[str, float]:
    """Return the candidate's accuracy on the newest and on the base holdout."""
    names = {f"holdout.{outcome.task}": "newest", "holdout.base": "base"}
    return {
        name: outcome.figures[figure] for figure, name in names.items() if figure in outcome.figures
    }
