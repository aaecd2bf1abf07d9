"""Thousands of loaders of a daemon's versions, simulated in one process that benchmarks start.

Each is a host of its own, by its own loopback address, and asks what a HotTeacher's fetcher asks:
`current` under its entity tag at jittered intervals, and of a new version manifest, signature and
weights, whose sha256 it checks; what is refused is asked for again later and later. Nothing is
loaded into a network. When stdin ends, it prints one line of JSON.

    python benchmarks/loaders.py URL NUM POLL_SECONDS
"""

import asyncio
import hashlib
import json
import random
import sys
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

JITTER = 0.25
LONGEST_RETRY_SECONDS = 60.0
ANSWER_SECONDS = 30.0
FIRST_ADDRESS = (127 << 24) + (1 << 16)
NOT_MODIFIED, OK, NOT_FOUND = 304, 200, 404


@dataclass(slots=True)
class Tally:
    """What all loaders together have seen."""

    statuses: dict[int, int] = field(default_factory=dict)
    """Answers by status; 0 for none."""
    num_bytes: int = 0
    unchanged_seconds: list[float] = field(default_factory=list)
    """Of polls that found nothing new."""
    served_at: dict[int, list[float]] = field(default_factory=dict)
    """By version, when each loader had it, on the wall clock."""


class RefusedError(Exception):
    """An answer is none that helps."""


class Loader:
    """One host's fetcher.

    Args:
        number: Decides its address.
        tally: Shared by all.
    """

    def __init__(self, url: str, *, number: int, poll_seconds: float, tally: Tally) -> None:
        parts = urlsplit(url)
        self._host, self._port, self._path = parts.hostname or "", parts.port or 80, parts.path
        self._poll_seconds = poll_seconds
        self._tally = tally
        packed = FIRST_ADDRESS + number + 1
        self._address = ".".join(str(packed >> shift & 255) for shift in (24, 16, 8, 0))
        self._tag: str | None = None

    async def run(self) -> None:
        """Poll for ever."""
        await asyncio.sleep(random.uniform(0, self._poll_seconds))
        retry_seconds = self._poll_seconds
        while True:
            try:
                await self._poll()
                wait, retry_seconds = self._poll_seconds, self._poll_seconds
            except (RefusedError, OSError, TimeoutError, asyncio.IncompleteReadError):
                self._tag = None
                wait, retry_seconds = retry_seconds, min(2 * retry_seconds, LONGEST_RETRY_SECONDS)
            await asyncio.sleep(wait * random.uniform(1 - JITTER, 1 + JITTER))

    async def _poll(self) -> None:
        started = time.perf_counter()
        headers = {} if self._tag is None else {"If-None-Match": self._tag}
        status, answered, body = await self._get("current", headers)
        if status == NOT_MODIFIED:
            self._tally.unchanged_seconds.append(time.perf_counter() - started)
            return
        self._require(status)
        pointer = json.loads(body)
        folder = pointer["folder"]
        status, _, manifest = await self._get(f"{folder}/manifest.json", {})
        self._require(status)
        await self._get(f"{folder}/manifest.sig", {})
        status, _, weights = await self._get(f"{folder}/teacher.safetensors", {})
        self._require(status)
        if hashlib.sha256(weights).hexdigest() != json.loads(manifest)["weights_sha256"]:
            raise RefusedError
        self._tag = answered.get("etag")
        self._tally.served_at.setdefault(pointer["version"], []).append(time.time())

    def _require(self, status: int) -> None:
        if status != OK:
            raise RefusedError

    async def _get(self, name: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body; a connection for each, as urllib makes them."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                status, answered, body = await self._exchange(name, headers)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            self._count(0, 0)
            raise
        self._count(status, len(body))
        return status, answered, body

    def _count(self, status: int, num_bytes: int) -> None:
        self._tally.statuses[status] = self._tally.statuses.get(status, 0) + 1
        self._tally.num_bytes += num_bytes

    async def _exchange(
        self, name: str, headers: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        reader, writer = await asyncio.open_connection(
            self._host, self._port, local_addr=(self._address, 0)
        )
        try:
            lines = [
                f"GET {self._path}/{name} HTTP/1.1",
                f"Host: {self._host}:{self._port}",
                "Connection: close",
                *(f"{key}: {value}" for key, value in headers.items()),
            ]
            writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            status = int(head[0].split()[1])
            pairs = (line.partition(":") for line in head[1:] if line)
            answered = {key.lower(): value.strip() for key, _, value in pairs}
            length = 0 if status == NOT_MODIFIED else int(answered.get("content-length", 0))
            return status, answered, await reader.readexactly(length)
        finally:
            writer.close()


async def simulate(url: str, num: int, poll_seconds: float) -> dict[str, Any]:
    """Run so many loaders until stdin ends; return what they saw."""
    tally = Tally()
    loaders = [
        Loader(url, number=number, poll_seconds=poll_seconds, tally=tally) for number in range(num)
    ]
    tasks = [asyncio.create_task(loader.run()) for loader in loaders]
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()
    unchanged = sorted(tally.unchanged_seconds) or [0.0]
    return {
        "statuses": tally.statuses,
        "bytes": tally.num_bytes,
        "p50": unchanged[len(unchanged) // 2],
        "p99": unchanged[len(unchanged) * 99 // 100],
        "served_at": {
            version: [min(times), max(times), len(times)]
            for version, times in tally.served_at.items()
        },
    }


if __name__ == "__main__":
    arguments = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    print(json.dumps(asyncio.run(simulate(*arguments))))
