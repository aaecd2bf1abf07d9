"""Bounds how many requests a second are answered, so that asking cannot take the time of learning.

An ASGI middleware; liveness, readiness and metrics are always answered.
"""

from collections.abc import Callable
from http import HTTPStatus

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

EXEMPT = ("/livez", "/readyz", "/metrics")
"""Whoever supervises must not be locked out by whoever asks too much."""


class RateLimit:
    """A token bucket that holds one second's requests.

    Args:
        per_second: At most, over all clients.
        monotonic: Seconds on a clock that never goes back.
    """

    def __init__(self, app: ASGIApp, *, per_second: float, monotonic: Callable[[], float]) -> None:
        self._app = app
        self._per_second = per_second
        self._most = max(per_second, 1.0)
        self._monotonic = monotonic
        self._left = self._most
        self._counted_at = monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 429."""
        if scope["type"] != "http" or scope["path"] in EXEMPT or self._take():
            await self._app(scope, receive, send)
            return
        message = (
            f"more than endpoints.max_requests_per_second, {self._per_second:g}; ask less often"
        )
        answer = JSONResponse(
            {"errors": [{"key": "request", "message": message}]},
            status_code=HTTPStatus.TOO_MANY_REQUESTS,
            headers={"Retry-After": "1"},
        )
        await answer(scope, receive, send)

    def _take(self) -> bool:
        """Take one request out of the bucket; return whether there was one."""
        now = self._monotonic()
        self._left = min(self._most, self._left + (now - self._counted_at) * self._per_second)
        self._counted_at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
