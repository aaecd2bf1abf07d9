"""HTTP connections that no client can hold or fill for ever: slow, endless or deaf as it may be.

What a body may be, and how long it may take, is the business of whoever reads it.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

HEAD_BYTES = 64 << 10
"""Of request line and headers: what h11 allows, and httptools does not ask."""
HEAD_SECONDS = 10.0
"""From connecting, or from the first byte of another request, to the end of the headers."""
STALL_SECONDS = 30.0
"""A client that takes nothing of its answer for so long has gone, whatever its connection says."""


class _Guard(asyncio.Protocol):
    """Laid over uvicorn's protocols; ends connections, and leaves everything else to them."""

    most_bytes: int
    """Of a request with its body, however that is cut into pieces."""
    head_seconds = HEAD_SECONDS
    stall_seconds = STALL_SECONDS

    client: tuple[str, int] | None
    connections: set[Any]
    """uvicorn's: all that the server holds."""
    limit_concurrency: int | None
    cycle: Any
    """uvicorn's: the request that came last, None before the first."""
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport

    _head_deadline: asyncio.TimerHandle | None = None
    _stall_deadline: asyncio.TimerHandle | None = None
    _num_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._is_one_too_many():
            self.transport.abort()
        else:
            self._expect_head()

    def data_received(self, data: bytes) -> None:
        if self._is_answered and self._head_deadline is None:
            self._num_bytes = 0
            self._expect_head()
        self._num_bytes += len(data)
        super().data_received(data)
        if not self._is_answered:
            self._forget_head()
        # What is left of a body that was refused is let pass, so that the answer can be read.
        is_head = self._is_answered and not (self.cycle and self.cycle.more_body)
        if self._num_bytes > (HEAD_BYTES if is_head else self.most_bytes):
            self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_progress()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall_deadline is not None:
            self._stall_deadline.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_head()
        super().connection_lost(exc)
        if self._stall_deadline is not None:
            self._stall_deadline.cancel()

    def _is_one_too_many(self) -> bool:
        """Whether no place is left; one address may have half of them, the rest is for others.

        uvicorn itself counts when a request has come: silent connections would take all the files
        that the process may have open, and learning needs some.
        """
        most = self.limit_concurrency
        if most is None:
            return False
        address = self.client and self.client[0]
        num_same = sum(bool(each.client) and each.client[0] == address for each in self.connections)
        return len(self.connections) > most or num_same > max(most // 2, 1)

    @property
    def _is_answered(self) -> bool:
        """Whether what comes belongs to no request that is being worked on."""
        return self.cycle is None or bool(self.cycle.response_complete)

    def _expect_head(self) -> None:
        self._head_deadline = self.loop.call_later(self.head_seconds, self.transport.abort)

    def _expect_progress(self) -> None:
        """Look again after a while: an answer that gets shorter is taken, however slowly."""
        size = self.transport.get_write_buffer_size()

        def look() -> None:
            if self.transport.get_write_buffer_size() >= size:
                self.transport.abort()
            else:
                self._expect_progress()

        self._stall_deadline = self.loop.call_later(self.stall_seconds, look)

    def _forget_head(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None


def guarded_protocol(*, max_request_bytes: int) -> type[asyncio.Protocol]:
    """Return the protocol for a server that takes bodies of so many bytes.

    Twice as many may come, because a client may send its body in small pieces with a length each.
    """
    most_bytes = HEAD_BYTES + 2 * max_request_bytes
    return type("GuardedProtocol", (_Guard, AutoHTTPProtocol), {"most_bytes": most_bytes})
