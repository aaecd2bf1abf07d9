"""Rank 0 towards the others: tells them what to do, and asks them once a second how they are.

Its calls are the learning thread's, or those of a start: the others do one thing after another.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from teacherd.consumers.buffer_standing import BufferStanding
from teacherd.consumers.buffered_task import BufferedTask, Cause
from teacherd.consumers.task_buffer import LostRange, TaskBuffer
from teacherd.daemon.draining import Draining
from teacherd.daemon.errors import TemporaryError, UnavailableError
from teacherd.daemon.rank_channel import RankChannel
from teacherd.daemon.rank_message import RankMessage
from teacherd.daemon.rank_report import RankReport
from teacherd.daemon.stop_rule import StopRule, TakenIn
from teacherd.daemon.task_message import unpack_task
from teacherd.models.ranks import Ranks

TOLD_ELSEWHERE = (
    "another rank was told to end; all have, in order, and this one goes on when it is there again"
)
"""torchrun takes the exit code 0 for the end of all learning, and would wait for nobody."""
FAILED_ELSEWHERE = "rank 0 has failed, and ended in order; this one goes on when it is there again"
_TICK_SECONDS = 1.0
_NOTHING = BufferStanding(
    instances=0,
    records=0,
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
        stop_rule: Holds for what all ranks have taken in.
        taken_in: What this one has.
        on_reports: Shown what the others say, at each tick.
        monotonic: Seconds.
    """

    def __init__(
        self,
        ranks: Ranks,
        *,
        draining: Draining,
        stop: threading.Event,
        stop_rule: StopRule,
        taken_in: TakenIn,
        on_reports: Callable[[Sequence[RankReport]], None],
        monotonic: Callable[[], float],
    ) -> None:
        self.ranks = ranks
        self.reports: Sequence[RankReport] = [RankReport(standing=_NOTHING)] * (ranks.size - 1)
        """The newest of each other rank."""
        self._channel = RankChannel(ranks)
        self._draining = draining
        self._stop = stop
        self._stop_rule = stop_rule
        self._taken_in = taken_in
        self._num_taken = (0, 0)
        self._broken_rule: UnavailableError | None = None
        self._standing: Callable[[], BufferStanding] = lambda: _NOTHING
        self._count_elsewhere: Callable[[int, int], None] = lambda *_: None
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

    def take_over(self, buffer: TaskBuffer) -> None:
        """Let this rank's buffer share its bounds with those of the others."""
        self._standing, self._count_elsewhere = buffer.standing, buffer.count_elsewhere

    def require_good_records(self) -> None:
        """See that not too many of the records that all ranks took in lately were rejected.

        Raises:
            UnavailableError: They were.
        """
        if self._broken_rule is not None:
            raise self._broken_rule

    def tick(self) -> None:
        """Ask the others how they are, if a second has passed."""
        if not self._is_together and self._monotonic() >= self._next_tick:
            self.ask()

    def ask(self) -> None:
        """Ask the others how they are."""
        standings = [self._standing(), *(report.standing for report in self.reports)]
        waiting = [(each.waiting_records, each.waiting_bytes) for each in standings]
        facts = {"is_draining": self._draining.is_asked, "waiting": waiting}
        self._channel.tell(RankMessage("tick", facts))
        self.reports = [RankReport.from_message(each) for each in self._channel.collect()]
        self._next_tick = self._monotonic() + _TICK_SECONDS
        for report in self.reports:
            self._skips += report.skips
            if report.wants_stop:
                self._is_told_elsewhere = True
                self._stop.set()
        if all(report.is_at_end for report in self.reports):
            self._draining.reach_end_elsewhere()
        others = [report.standing for report in self.reports]
        self._count_elsewhere(
            sum(each.waiting_records for each in others), sum(each.waiting_bytes for each in others)
        )
        self._apply_stop_rule()
        self._on_reports(self.reports)

    def collect_parts(self, cause: Cause) -> list[BufferedTask]:
        """Have every other rank cut its oldest task; return what they give."""
        self._channel.tell(RankMessage("cut", {"cause": cause}))
        answers = self._channel.collect()
        self.ask()
        return [unpack_task(answer) for answer in answers if answer.word == "part"]

    def dismiss(self, *, is_told: bool, has_failed: bool) -> None:
        """Let all ranks end.

        Args:
            is_told: Whether this process was told to end.
            has_failed: Whether something of it has; it will be started again.

        Raises:
            TemporaryError: Another one was told, and not this one.
        """
        is_elsewhere = self._is_told_elsewhere
        reason = FAILED_ELSEWHERE if has_failed else TOLD_ELSEWHERE
        goes_on = has_failed or is_told or is_elsewhere
        self._channel.tell(RankMessage("stop", {"goes_on": reason if goes_on else None}))
        if is_elsewhere and not is_told:
            raise TemporaryError(TOLD_ELSEWHERE)

    def _apply_stop_rule(self) -> None:
        """Look at what came since the last time, of all ranks at once: it has no order."""
        taken = [self._taken_in.counts, *(report.taken_in for report in self.reports)]
        (records, rejected), before = map(sum, zip(*taken, strict=True)), self._num_taken
        self._num_taken = (records, rejected)
        if records > before[0]:
            try:
                self._stop_rule.observe(records - before[0], rejected - before[1])
            except UnavailableError as error:
                # Raised between two tasks: what is being learned was planned before.
                self._broken_rule = error

    def take_skips(self) -> list[LostRange]:
        """Hand over what others have found to be gone."""
        skips, self._skips = self._skips, []
        return skips
