"""What the other ranks mean for the parts of the first one: nothing, where it is alone."""

import functools
import threading
from collections.abc import Callable, Mapping

from teacherd.consumers.record import Partition
from teacherd.consumers.task_buffer import TaskBuffer, TaskBufferConfig
from teacherd.daemon.draining import Draining
from teacherd.daemon.leader import Leader
from teacherd.daemon.leading_buffer import LeadingBuffer
from teacherd.daemon.leading_learner import LeadingLearner
from teacherd.daemon.metrics import Metrics
from teacherd.daemon.rank_message import RankMessage
from teacherd.daemon.rank_observation import RankObservation
from teacherd.daemon.status_board import StatusBoard
from teacherd.daemon.stop_rule import Observer, StopRule, TakenIn
from teacherd.models.artifact import Manifest
from teacherd.models.learner import Learner
from teacherd.models.ranks import Ranks


class Leadership:
    """Owns the leader, if there is anyone to lead.

    Args:
        ranks: This one is the first.
        draining: Asked for here; the others are told.
        stop: Set when another rank was told to end.
        stop_rule: Holds for what is taken in.
        metrics: Show what the others report.
        board: So does it.
        monotonic: Seconds.
    """

    def __init__(
        self,
        ranks: Ranks,
        *,
        draining: Draining,
        stop: threading.Event,
        stop_rule: StopRule,
        metrics: Metrics,
        board: StatusBoard,
        monotonic: Callable[[], float],
    ) -> None:
        self._monotonic = monotonic
        self._observation = RankObservation(metrics, board)
        self._leader: Leader | None = None
        self.stop_rule: Observer = stop_rule
        """For this rank's intake."""
        if not ranks.is_alone:
            self.stop_rule = taken_in = TakenIn()
            self._leader = Leader(
                ranks,
                draining=draining,
                stop=stop,
                stop_rule=stop_rule,
                taken_in=taken_in,
                on_reports=self._observation.show,
                monotonic=monotonic,
            )

    @property
    def num_ranks(self) -> int:
        """How many there are, this one included."""
        return 1 if self._leader is None else self._leader.ranks.size

    @property
    def elsewhere(self) -> Callable[[], Mapping[Partition, tuple[int, int]]]:
        """Gives position and lag of the partitions that other ranks read."""
        return self._observation.stream

    def tick(self) -> None:
        """Ask the others how they are, if a second has passed."""
        if self._leader is not None:
            self._leader.tick()

    def tell(self, message: RankMessage) -> None:
        """Tell all other ranks to do something."""
        if self._leader is not None:
            self._leader.tell(message)

    def dismiss(self, *, is_told: bool, has_failed: bool) -> None:
        """Let all ranks end.

        Args:
            is_told: Whether this process was told to end.
            has_failed: Whether something of it has.

        Raises:
            TemporaryError: Another one was told, and not this one.
        """
        if self._leader is not None:
            self._leader.dismiss(is_told=is_told, has_failed=has_failed)

    def build_buffer(self, config: TaskBufferConfig) -> TaskBuffer:
        """Build what tasks are cut from: with the others' records, if they read any."""
        if self._leader is None:
            return TaskBuffer(config, now=self._monotonic)
        return LeadingBuffer(config, leader=self._leader, now=self._monotonic)

    def choose_learner(self, manifest: Manifest) -> Callable[..., Learner]:
        """Return what makes a learner: one that leads the others', if there are any.

        Args:
            manifest: Of the head.
        """
        if self._leader is None:
            return Learner
        return functools.partial(LeadingLearner, leader=self._leader, manifest=manifest)
