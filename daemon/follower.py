"""The process of every rank but the first: reads its partitions, follows rank 0, ends with it."""

import functools
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import structlog

from teacherd.consumers.dead_letters import DeadLetter
from teacherd.consumers.record import Partition
from teacherd.consumers.task_buffer import LostRange, TaskBuffer
from teacherd.daemon.config import Config
from teacherd.daemon.device import prepare_device
from teacherd.daemon.draining import Draining
from teacherd.daemon.errors import ExitCode
from teacherd.daemon.following import Following
from teacherd.daemon.guarded_threads import GuardedThreads
from teacherd.daemon.intake import Intake
from teacherd.daemon.joining import device_of_rank, rank_problems
from teacherd.daemon.large_letters import LargeLetters
from teacherd.daemon.lineage_decoding import build_decoder
from teacherd.daemon.load import Load
from teacherd.daemon.metrics import Metrics
from teacherd.daemon.niceness import give_way
from teacherd.daemon.places import seek_to_places
from teacherd.daemon.rank_message import RankMessage
from teacherd.daemon.rank_start import require_same_settings
from teacherd.daemon.signals import ending, handled
from teacherd.daemon.source_opening import open_dead_letters, open_source, source_problems
from teacherd.daemon.status_board import StatusBoard
from teacherd.daemon.stop_rule import TakenIn
from teacherd.models.ranks import Ranks

_TICK_SECONDS = 0.1
_FAILED_SECONDS = 2.0
"""For the other thread to end, after one has failed."""


class Follower:
    """Two threads, as rank 0 has them: intake and, in the place of learning, following.

    Args:
        ranks: All of them, and which one this is.
        environment: Of the process.
    """

    def __init__(self, config: Config, ranks: Ranks, environment: Mapping[str, str]) -> None:
        self._config = config
        self._ranks = ranks
        self._environment = environment
        self._deadline: float | None = None
        """Of the end, on the monotonic clock, once it was asked for."""
        self._wants_stop = threading.Event()
        self._force = threading.Event()
        self._stop = threading.Event()
        """Of the intake."""
        self._metrics = Metrics()
        self._board = StatusBoard(monotonic=time.monotonic)
        self._draining = Draining()
        self._taken_in = TakenIn()
        self._buffer = TaskBuffer(config.tasks, now=time.monotonic)
        self._threads = GuardedThreads(self._stop)
        self._log = structlog.get_logger()

    def run(self) -> NoReturn:
        """Follow until rank 0 says that all end, or cannot; then end the process."""
        process = self._config.process
        device = prepare_device(
            device_of_rank(process.device, self._environment), process.num_threads
        )
        following = Following(
            self._ranks,
            device=device,
            buffer=self._buffer,
            begin_reading=self._begin_reading,
            draining=self._draining,
            wants_stop=self._wants_stop.is_set,
            taken_in=self._taken_in,
            board=self._board,
            metrics=self._metrics,
        )
        handlers = ending(
            stop=self._wants_stop,
            force=self._force,
            # Rank 0 re-reads the settings that may change, and tells what follows.
            hang_up=signal.SIG_IGN,
            on_end=self._set_deadline,
        )
        with handled(handlers):
            self._threads.start("following", functools.partial(self._follow, following))
            while not self._stop.wait(_TICK_SECONDS) and not self._is_late():
                pass
            self._stop.set()
            self._join()
        exit_code = self._threads.exit_code
        self._log.info("stopped", exit_code=int(exit_code))
        # As in Service.run: an interpreter that ends in order would wait for threads, and torch's
        # compiler would complain of what it still holds. All that is durable is rank 0's.
        logging.shutdown()
        os._exit(exit_code)

    def _follow(self, following: Following) -> None:
        give_way(self._config.process.learning_niceness)
        with rank_problems():
            following.run()
        self._stop.set()

    def _begin_reading(self, message: RankMessage) -> None:
        """Open the source at the places that rank 0 knows, and let intake run."""
        config, facts = self._config, message.facts
        require_same_settings(config, facts["settings"])
        if config.source == "stream_log":
            # It has one partition, which is rank 0's.
            self._draining.reach_end()
            return
        source = open_source(config, lineage=facts["lineage"], ranks=self._ranks)
        skips: list[LostRange] = []
        with source_problems():
            places = seek_to_places(
                source,
                known={Partition(*each): place for *each, place in facts["places"]},
                topic_ids={Partition(*each): name for *each, name in facts["topic_ids"]},
                on_lost=config.on_lost_records,
                metrics=self._metrics,
                on_skip=skips.append,
            )
            source.release(places, needed_from={})
        starts = places | {lost.offsets.partition: lost.offsets.start for lost in skips}
        self._buffer.start_at(starts, topic_id=source.topic_id())
        for lost in skips:
            self._buffer.skip(lost.offsets, lost.reason, topic_id=lost.topic_id)
        intake = Intake(
            config.intake,
            source=source,
            decoder=build_decoder(
                config.decoding,
                tuple(facts["input_shape"]),
                tuple(facts["classes"]),
                facts["has_open_labels"],
            ),
            dead_letters=open_dead_letters(config, keep_large=self._keep_large),
            on_lost=config.on_lost_records,
            buffer=self._buffer,
            stop_rule=self._taken_in,
            metrics=self._metrics,
            board=self._board,
            load=Load(
                metrics=self._metrics, board=self._board, now=time.time, monotonic=time.monotonic
            ),
            draining=self._draining,
            now=time.time,
            monotonic=time.monotonic,
            stop=self._stop,
        )
        self._threads.start("intake", intake.run)
        self._log.info("following", partitions=len(places))

    def _keep_large(self, letter: DeadLetter) -> None:
        LargeLetters(Path(self._config.process.state_directory)).keep(letter)
        self._metrics.large_dead_letters.inc()

    def _set_deadline(self) -> None:
        self._deadline = time.monotonic() + self._config.process.shutdown_seconds

    def _is_late(self) -> bool:
        """Whether the end was asked for so long ago that rank 0 will not come to it any more."""
        return self._force.is_set() or (
            self._deadline is not None and time.monotonic() >= self._deadline
        )

    def _join(self) -> None:
        """Let the threads end by themselves; where something failed others wait for the restart."""
        is_in_order = self._threads.exit_code is ExitCode.OK
        seconds = self._config.process.shutdown_seconds if is_in_order else _FAILED_SECONDS
        deadline = min(time.monotonic() + seconds, self._deadline or math.inf)

        def may_wait() -> bool:
            return time.monotonic() < deadline and not self._force.is_set()

        for _ in self._threads.join(may_wait=may_wait):
            pass
