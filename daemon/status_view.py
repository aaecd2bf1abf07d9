"""What /status answers: the board's sections and what follows from them at that moment."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from teacherd.daemon.ages import ages
from teacherd.daemon.answers import answer
from teacherd.daemon.diagnosis import diagnose, headline
from teacherd.daemon.rank_observation import whole
from teacherd.daemon.status_board import StatusBoard


class StatusView:
    """Composes one answer from the board, the process's state and the clock.

    Args:
        readiness: Says where the process stands.
        liveness_seconds: A loop that has not turned for so long counts as dead.
        now: Wall clock, seconds since the epoch.
    """

    def __init__(
        self,
        *,
        board: StatusBoard,
        readiness: Callable[[], str],
        liveness_seconds: float,
        now: Callable[[], float],
    ) -> None:
        self._board = board
        self._readiness = readiness
        self._liveness_seconds = liveness_seconds
        self._now = now

    def take(self) -> dict[str, Any]:
        """Return state, sections, ages, and in words what is wrong; JSON values only."""
        now = self._now()
        sections = whole(self._board.snapshot())
        status = {
            "state": self._readiness(),
            "at_ms": int(now * 1000),
            **sections,
            "ages": ages(sections, now),
            "loops": {
                "seconds_since_beat": self._board.seconds_since_beat(),
                "limit_seconds": self._liveness_seconds,
            },
        }
        problems = diagnose(status)
        answers = answer(status, {each.about for each in problems})
        taken: dict[str, Any] = _finite(
            {
                **status,
                "headline": headline(status),
                "answers": [each.to_json() for each in answers],
                "problems": [each.to_json() for each in problems],
            }
        )
        return taken


def _finite(value: Any) -> Any:  # noqa: ANN401 (a tree of JSON values)
    """Replace what JSON cannot say, infinity and NaN, by null."""
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
