"""The digest of a range of records, by which a plan and a replay know them again."""

import hashlib
import io
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from itertools import chain

import numpy as np

from teacherd.consumers.record_batch import RecordBatch

_NO_KEY = -1
_BYTES_AT_ONCE = 1 << 20


def digest_of(batch: RecordBatch) -> str:
    """Return the digest of a range that is these records."""
    digest = RangeDigest()
    digest.update(batch)
    return digest.hexdigest()


class RangeDigest:
    """The sha256 of what records are: offset, key, headers and value of each.

    Two hashes run side by side: one over the frames (offset and length of key, packed headers and
    value, -1 for no key, each 8 bytes big-endian), one over the parts themselves; the digest is the
    sha256 of both. Since the lengths are hashed, no two different ranges have the same bytes. The
    records go in once, in offset order, in batches of any size.

    Args:
        executor: Hashes the parts there, while records come in; it must have one thread.
    """

    def __init__(self, executor: Executor | None = None) -> None:
        self._executor = executor
        self._frames = hashlib.sha256()
        self._parts = hashlib.sha256()
        # Two buffers, one filled while the other is hashed, kept because new memory costs more
        # than the copy: the system gives it page by page.
        self._filling, self._hashed = io.BytesIO(), io.BytesIO()
        self._running: Future[None] | None = None

    def update(self, batch: RecordBatch) -> None:
        """Take in the next records of the range."""
        parts: list[Sequence[bytes]] = [batch.headers, batch.values]
        key_lengths = [_NO_KEY] * len(batch)
        if batch.keys.count(None) < len(batch):
            parts.insert(0, [key or b"" for key in batch.keys])
            key_lengths = [_NO_KEY if key is None else len(key) for key in batch.keys]
        header_lengths, value_lengths = map(len, batch.headers), map(len, batch.values)
        columns = [batch.offsets, key_lengths, [*header_lengths], [*value_lengths]]
        self._frames.update(np.array(columns, dtype=">i8").T.tobytes())
        self._filling.writelines(chain.from_iterable(zip(*parts, strict=True)))
        if self._filling.tell() >= _BYTES_AT_ONCE:
            self._hash_filled()

    def settle(self) -> None:
        """Hash all that went in and give the buffers' memory back; more may go in."""
        if self._filling.tell():
            self._hash_filled()
        self._wait()
        self._filling, self._hashed = io.BytesIO(), io.BytesIO()

    def hexdigest(self) -> str:
        """Return the digest of what went in so far."""
        self.settle()
        return hashlib.sha256(self._frames.digest() + self._parts.digest()).hexdigest()

    def _hash_filled(self) -> None:
        self._wait()
        self._filling, self._hashed = self._hashed, self._filling
        if self._executor is None:
            self._hash()
        else:
            self._running = self._executor.submit(self._hash)

    def _hash(self) -> None:
        with self._hashed.getbuffer() as written:
            self._parts.update(written[: self._hashed.tell()])
        self._hashed.seek(0)

    def _wait(self) -> None:
        if self._running is None:
            return
        if self._running.cancel():
            # The other thread has not come to it: waiting for a busy machine would take longer.
            self._hash()
        else:
            self._running.result()
        self._running = None
