"""Rank 0 towards the others: tells them what to do, and asks them once a second how they are.

Its calls are the learning thread's, or those of a start: the others do one thing after another.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from teacherd.consumers.buffer_standing import BufferStanding
from teacherd.consumers.buffered_task import BufferedTask, Cause
from teacherd.consumers.task_buffer import LostRange
from teacherd.daemon.draining import Draining
from teacherd.daemon.errors import TemporaryError
from teacherd.daemon.rank_channel import RankChannel
from teacherd.daemon.rank_message import RankMessage
from teacherd.daemon.rank_report import RankReport
from teacherd.daemon.task_message import unpack_task
from teacherd.models.ranks import Ranks

TOLD_ELSEWHERE = (
    "another rank was told to end; all have, in order, and this one goes on when it is there again"
)
"""torchrun takes the exit code 0 for the end of all learning, and would wait for nobody."""
_TICK_SECONDS = 1.0
_NOTHING = BufferStanding(
    instances=0,
    cause=None,
    age_seconds=0.0,
    waiting_records=0,
    waiting_instances=0,
    waiting_bytes=0,
)


class Leader:
    """Owns rank 0's end of the channel.

    A tick is there so that no rank waits long while all is well: whoever waits longer than
    `process.rank_timeout_seconds` knows that something is wrong.

    Args:
        ranks: This one is the first.
        draining: Asked for here; the others are told.
        stop: Set when another rank was told to end.
        on_reports: Shown what the others say, at each tick.
        monotonic: Seconds.
    """

    def __init__(
        self,
        ranks: Ranks,
        *,
        draining: Draining,
        stop: threading.Event,
        on_reports: Callable[[Sequence[RankReport]], None],
        monotonic: Callable[[], float],
    ) -> None:
        self.ranks = ranks
        self.reports: Sequence[RankReport] = [RankReport(standing=_NOTHING)] * (ranks.size - 1)
        """The newest of each other rank."""
        self._channel = RankChannel(ranks)
        self._draining = draining
        self._stop = stop
        self._on_reports = on_reports
        self._monotonic = monotonic
        self._next_tick = 0.0
        self._is_together = False
        self._is_told_elsewhere = False
        """Whether another rank was told to end."""
        self._skips: list[LostRange] = []

    def tell(self, message: RankMessage) -> None:
        """Tell all other ranks to do something by themselves."""
        self._channel.tell(message)

    @contextmanager
    def together(self, message: RankMessage) -> Iterator[None]:
        """Tell all other ranks to do what is done within, at the same time; none is asked then."""
        self._channel.tell(message)
        self._is_together = True
        try:
            yield
        finally:
            self._is_together = False

    def tick(self) -> None:
        """Ask the others how they are, if a second has passed."""
        if not self._is_together and self._monotonic() >= self._next_tick:
            self.ask()

    def ask(self) -> None:
        """Ask the others how they are."""
        self._channel.tell(RankMessage("tick", {"is_draining": self._draining.is_asked}))
        self.reports = [RankReport.from_message(each) for each in self._channel.collect()]
        self._next_tick = self._monotonic() + _TICK_SECONDS
        for report in self.reports:
            self._skips += report.skips
            if report.wants_stop:
                self._is_told_elsewhere = True
                self._stop.set()
        if all(report.is_at_end for report in self.reports):
            self._draining.reach_end_elsewhere()
        self._on_reports(self.reports)

    def collect_parts(self, cause: Cause) -> list[BufferedTask]:
        """Have every other rank cut its oldest task; return what they give."""
        self._channel.tell(RankMessage("cut", {"cause": cause}))
        answers = self._channel.collect()
        self.ask()
        return [unpack_task(answer) for answer in answers if answer.word == "part"]

    def dismiss(self, *, is_told: bool) -> None:
        """Let all ranks end.

        Args:
            is_told: Whether this process was told to end.

        Raises:
            TemporaryError: Another one was, and not this one.
        """
        is_elsewhere = self._is_told_elsewhere
        self._channel.tell(RankMessage("stop", {"is_told": is_told or is_elsewhere}))
        if is_elsewhere and not is_told:
            raise TemporaryError(TOLD_ELSEWHERE)

    def take_skips(self) -> list[LostRange]:
        """Hand over what others have found to be gone."""
        skips, self._skips = self._skips, []
        return skips
