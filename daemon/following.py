"""The thread of every rank but the first: does what rank 0 tells, and answers what it asks."""

import contextlib
from collections.abc import Callable, Mapping

import torch

from teacherd.consumers.task_buffer import TaskBuffer
from teacherd.daemon.config_parsing import parse
from teacherd.daemon.draining import Draining
from teacherd.daemon.errors import TemporaryError
from teacherd.daemon.leading_learner import unpack_beginning
from teacherd.daemon.metrics import Metrics
from teacherd.daemon.rank_channel import RankChannel
from teacherd.daemon.rank_message import RankMessage, Word
from teacherd.daemon.rank_observation import figures_of
from teacherd.daemon.rank_report import RankReport
from teacherd.daemon.status_board import StatusBoard
from teacherd.daemon.stop_rule import TakenIn
from teacherd.daemon.task_message import pack_task
from teacherd.models.artifact import Manifest
from teacherd.models.backbone import build_backbone
from teacherd.models.learner import Learner
from teacherd.models.learner_config import LearnerConfig
from teacherd.models.module_tensors import load_module_tensors, with_prefix
from teacherd.models.non_finite import NonFiniteError
from teacherd.models.ranks import Ranks


class Following:
    """Owns this rank's learner; decides nothing.

    Args:
        ranks: All of them, and which one this is.
        device: Where to compute.
        buffer: What this rank reads.
        begin_reading: Called once, with what rank 0 knows about the stream.
        draining: Asked for when rank 0 asks.
        wants_stop: Whether this process was told to end; it is rank 0 that ends all.
        taken_in: Is reported.
        board: Holds what else is.
        metrics: So do they.
    """

    def __init__(
        self,
        ranks: Ranks,
        *,
        device: torch.device,
        buffer: TaskBuffer,
        begin_reading: Callable[[RankMessage], None],
        draining: Draining,
        wants_stop: Callable[[], bool],
        taken_in: TakenIn,
        board: StatusBoard,
        metrics: Metrics,
    ) -> None:
        self._ranks = ranks
        self._device = device
        self._buffer = buffer
        self._begin_reading = begin_reading
        self._draining = draining
        self._wants_stop = wants_stop
        self._taken_in = taken_in
        self._board = board
        self._metrics = metrics
        self._channel = RankChannel(ranks)
        self._learner: Learner | None = None
        self._handlers: Mapping[Word, Callable[[RankMessage], object]] = {
            "start": begin_reading,
            "head": self._take_head,
            "begin": self._begin,
            "restore": lambda message: self._current.load_state_dict(message.tensors),
            "step": self._step,
            "finish": self._finish,
            "compare": lambda _: self._current.require_same_student(),
            "move": lambda message: self._current.move_candidate(message.facts["point"]),
            "accept": lambda _: self._current.accept(),
            "discard": lambda _: self._current.discard(),
            "threads": lambda message: torch.set_num_threads(message.facts["number"]),
            "tick": self._report,
            "cut": self._give_part,
        }

    def run(self) -> None:
        """Follow until rank 0 says that all end.

        Raises:
            RankLostError: Another rank is gone, or hangs.
            TemporaryError: Learning goes on later: another one was told to end and not this one, or
                rank 0 has failed.
        """
        while (message := self._channel.hear()).word != "stop":
            self._handlers[message.word](message)
        reason = message.facts["goes_on"]
        if reason is not None and not self._wants_stop():
            raise TemporaryError(reason)

    def _take_head(self, message: RankMessage) -> None:
        """Begin anew from the network that rank 0 begins from."""
        facts = message.facts
        manifest = Manifest.from_json(facts["manifest"].encode())
        network = build_backbone(manifest.architecture, num_classes=sum(facts["increments"]))
        load_module_tensors(network, with_prefix(message.tensors, "head"))
        self._learner = Learner(
            parse(LearnerConfig, facts["config"], origin="rank 0"),
            teacher=network,
            preprocessing=manifest.preprocessing,
            sigma=facts["sigma"],
            device=self._device,
            ranks=self._ranks,
            architecture=manifest.architecture,
            increments=facts["increments"],
        )

    def _begin(self, message: RankMessage) -> None:
        self._current.memory.load_state_dict(message.tensors)
        self._current.begin(*unpack_beginning(message))

    def _step(self, _: RankMessage) -> None:
        # So it is on every rank; rank 0 says what becomes of the task.
        with contextlib.suppress(NonFiniteError):
            self._current.step()

    def _finish(self, _: RankMessage) -> None:
        with contextlib.suppress(NonFiniteError):
            self._current.finish()

    def _report(self, message: RankMessage) -> None:
        if message.facts["is_draining"]:
            self._draining.ask()
        waiting = [*message.facts["waiting"]]
        del waiting[self._ranks.rank]
        self._buffer.count_elsewhere(*map(sum, zip(*waiting, strict=True)))
        self._channel.answer(self._state().to_message())

    def _give_part(self, message: RankMessage) -> None:
        """Give the oldest task, unless something gone must be noted before it."""
        if self._buffer.can_be_cut:
            self._channel.answer(pack_task(self._buffer.cut(message.facts["cause"])))
        else:
            self._channel.answer(self._state(takes_skips=False).to_message())

    def _state(self, *, takes_skips: bool = True) -> RankReport:
        return RankReport(
            # Before the standing: what was read last is then in it.
            is_at_end=self._draining.is_at_end,
            # So are these: what it counts may then be cut.
            skips=tuple(self._buffer.take_skips()) if takes_skips else (),
            standing=self._buffer.standing(),
            wants_stop=self._wants_stop(),
            # After the standing: of what waits there, nothing is missing here.
            taken_in=self._taken_in.counts,
            intake=self._board.snapshot().get("intake", {}),
            figures=figures_of(self._metrics),
        )

    @property
    def _current(self) -> Learner:
        assert self._learner is not None, "rank 0 begins with the head"
        return self._learner
