"""A verdict in words and figures, as manifest, status and listings show it."""

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
