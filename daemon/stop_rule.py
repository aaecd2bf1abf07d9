"""When so many records are bad that it is not they who are wrong: the end of reading on."""

from collections import deque
from typing import Protocol

from teacherd.daemon.errors import UnavailableError


class Observer(Protocol):
    """Told what was read, before it is passed on to be learned."""

    def observe(self, num_records: int, num_rejected: int) -> None:
        """Take the next records into account."""


class TakenIn:
    """Counts what one of several ranks has read; the rule is rank 0's, for all of them."""

    def __init__(self) -> None:
        self.counts = (0, 0)
        """Records, and how many of them were rejected; any thread may read it."""

    def observe(self, num_records: int, num_rejected: int) -> None:
        """Count the next records."""
        records, rejected = self.counts
        self.counts = (records + num_records, rejected + num_rejected)


class StopRule:
    """Counts what was rejected among the newest records.

    Args:
        max_share: Of rejected records; None never stops.
        window_records: How many of the newest are looked at; before so many came, nothing stops.
    """

    def __init__(self, *, max_share: float | None, window_records: int) -> None:
        self._max_share = max_share
        self._window_records = window_records
        self._batches: deque[tuple[int, int]] = deque()
        self._records = 0
        self._rejected = 0

    def observe(self, num_records: int, num_rejected: int) -> None:
        """Take the next records into account.

        Raises:
            UnavailableError: Too many of the newest were rejected.
        """
        self._batches.append((num_records, num_rejected))
        self._records += num_records
        self._rejected += num_rejected
        while self._records - self._batches[0][0] >= self._window_records:
            records, rejected = self._batches.popleft()
            self._records -= records
            self._rejected -= rejected
        if self._max_share is None or self._records < self._window_records:
            return
        if self._rejected > self._max_share * self._records:
            raise UnavailableError(
                f"{self._rejected} of the last {self._records} records were rejected, more than "
                f"intake.max_rejected_share: {self._max_share} allows; look at the dead letters, "
                "mend producers or `decoding`, and start again: the records are read once more"
            )
