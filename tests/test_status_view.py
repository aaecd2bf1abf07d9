"""The answer of /status: sections, what follows from them, and nothing that JSON cannot say."""

import json
import math

from teacherd.daemon.status_board import StatusBoard
from teacherd.daemon.status_view import StatusView


def view(board: StatusBoard) -> StatusView:
    """Return a view at second 100 of a daemon that is ready."""
    return StatusView(
        board=board, readiness=lambda: "ready", liveness_seconds=60.0, now=lambda: 100.0
    )


def test_ages_and_sentences_are_of_the_same_moment() -> None:
    """What the sections say, how old it is, and what is wrong with it, in one answer."""
    board = StatusBoard(monotonic=lambda: 0.0)
    board.beat("intake")
    board.update("teacher", version=3, newest_event_ms=40_000, created_at="1970-01-01T00:01:00Z")
    board.update("learning", forgetting={"plain": 0.06})
    status = view(board).take()

    assert ("ready", 100_000) == (status["state"], status["at_ms"])
    assert 60.0 == status["ages"]["freshness_seconds"]
    assert {"intake": 0.0} == status["loops"]["seconds_since_beat"]
    assert (
        "Version 3 is served; the newest instance that it learned is 60 s old."
        == (status["headline"])
    )
    assert ["forgetting"] == [each["about"] for each in status["problems"]]


def test_infinity_is_null() -> None:
    """JSON has no infinity: a browser would refuse the whole answer."""
    board = StatusBoard(monotonic=lambda: 0.0)
    board.update("load", headroom_ratio=math.inf, rates=(1.0, math.nan), by_name={"a": -math.inf})
    status = view(board).take()

    assert {"headroom_ratio": None, "rates": [1.0, None], "by_name": {"a": None}} == status["load"]
    assert json.dumps(status, allow_nan=False)
