"""The rate limit: what is above it is told to come again, whoever supervises never is."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from teacherd.daemon.rate_limit import EXEMPT, RateLimit


class Asker:
    """Asks a limited application that answers 200."""

    def __init__(self, per_second: float) -> None:
        self.seconds = 0.0
        self._limited = RateLimit(
            self._answer, per_second=per_second, monotonic=lambda: self.seconds
        )

    async def _answer(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    def ask(self, path: str = "/status") -> int:
        """Return the status code of one request."""
        sent: list[MutableMapping[str, Any]] = []

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "http.request"}

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        scope = {"type": "http", "path": path, "method": "GET", "headers": []}
        asyncio.run(self._limited(scope, receive, send))
        status: int = sent[0]["status"]
        return status


def test_what_is_above_the_rate_is_refused_until_time_has_passed() -> None:
    """A second's requests at once, then as many as time gives."""
    asker = Asker(per_second=5)

    assert [200] * 5 + [429] * 2 == [asker.ask() for _ in range(7)]

    asker.seconds += 0.4

    assert [200, 200, 429] == [asker.ask() for _ in range(3)]

    asker.seconds += 1000

    assert [200] * 5 + [429] == [asker.ask() for _ in range(6)]


def test_less_than_one_a_second_is_one_now_and_then() -> None:
    """The first at once, the next after its time."""
    asker = Asker(per_second=0.5)

    assert [200, 429] == [asker.ask() for _ in range(2)]

    asker.seconds += 2

    assert [200, 429] == [asker.ask() for _ in range(2)]


@pytest.mark.parametrize("path", EXEMPT)
def test_supervisors_are_always_answered(path: str) -> None:
    """A flood must not make a probe fail, and its answer costs nothing of the bucket."""
    asker = Asker(per_second=1)

    assert [200] * 20 == [asker.ask(path) for _ in range(20)]
    assert [200, 429] == [asker.ask() for _ in range(2)]
