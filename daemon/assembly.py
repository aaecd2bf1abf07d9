"""Builds the process's parts from the configuration and recovers what a crash left."""

import functools
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from teacherd.consumers.dead_letters import DeadLetter
from teacherd.consumers.decoding import Decoder
from teacherd.consumers.source import Source
from teacherd.consumers.task_buffer import TaskBuffer
from teacherd.daemon.announcer import Announcer, open_announcer
from teacherd.daemon.base_holdout import load_base_holdout
from teacherd.daemon.commands import Commands
from teacherd.daemon.config import Config
from teacherd.daemon.control_socket import ControlSocket
from teacherd.daemon.device import prepare_device
from teacherd.daemon.draining import Draining
from teacherd.daemon.history import History
from teacherd.daemon.intake import Intake
from teacherd.daemon.interruption import InterruptibleArchive, Interruption
from teacherd.daemon.joining import device_of_rank
from teacherd.daemon.known_records import KnownRecords
from teacherd.daemon.large_letters import LargeLetters
from teacherd.daemon.leadership import Leadership
from teacherd.daemon.learning import Learning
from teacherd.daemon.learning_assembly import LearningAssembly
from teacherd.daemon.lineage_decoding import decoders_for
from teacherd.daemon.lineage_log import read_lineage_log
from teacherd.daemon.load import Load
from teacherd.daemon.metrics import Metrics
from teacherd.daemon.mirror import Mirror
from teacherd.daemon.mirroring import Mirroring
from teacherd.daemon.opening import load_head, open_lineage
from teacherd.daemon.places import record_skip, seek_to_places
from teacherd.daemon.rank_start import pack_start
from teacherd.daemon.recovery import settings_of_next_task
from teacherd.daemon.resumption import Resumption
from teacherd.daemon.runtime_facts import runtime_facts
from teacherd.daemon.source_opening import open_dead_letters, open_source, source_problems
from teacherd.daemon.state_directory import StateDirectory
from teacherd.daemon.state_lock import StateLock
from teacherd.daemon.status_board import StatusBoard
from teacherd.models.artifact import LoadedTeacher
from teacherd.models.ranks import ALONE, Ranks


class Assembly:
    """Owns the parts from `start` to `close`; the service owns the threads that run them."""

    def __init__(
        self,
        config: Config,
        *,
        metrics: Metrics,
        board: StatusBoard,
        stop: threading.Event,
        history: History | None = None,
        commands: Commands | None = None,
        on_progress: Callable[[], None] = lambda: None,
        ranks: Ranks = ALONE,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._ranks = ranks
        self._on_progress = on_progress
        self._metrics = metrics
        self._board = board
        self._history = history or History()
        self._stop = stop
        self._now = now
        self._monotonic = monotonic
        self._draining = Draining(has_others=not ranks.is_alone)
        self._leadership = Leadership(
            ranks,
            draining=self._draining,
            stop=stop,
            stop_rule=config.intake.build_stop_rule(),
            metrics=metrics,
            board=board,
            monotonic=monotonic,
        )
        self._load = Load(
            metrics=metrics,
            board=board,
            now=now,
            monotonic=monotonic,
            elsewhere=self._leadership.elsewhere,
        )
        self._state: StateDirectory | None = None
        self._buffer: TaskBuffer | None = None
        self._interruption = Interruption(stop, on_progress=self._show_progress)
        self.intake: Intake
        self.learning: Learning
        self.mirrors: list[Mirroring] = []
        self.announcer: Announcer
        self.commands = commands or Commands()
        self._control: ControlSocket | None = None

    def start(self, lock: StateLock | None = None) -> None:
        """Open the state, recover, and make intake and learning ready to run.

        Args:
            lock: Of the state directory, if the process holds it already.

        Raises:
            StopRequestedError: The process was told to end meanwhile.
        """
        config = self._config
        device = prepare_device(
            device_of_rank(config.process.device, os.environ), config.process.num_threads
        )
        state = self._state = StateDirectory(
            Path(config.process.state_directory),
            config.publication,
            keep_checkpoints=config.checkpoints.keep,
            now=self._timestamp,
            lock=lock,
        )
        self.mirrors = [self._build_mirroring(name, state) for name in config.publication.mirrors]
        open_lineage(config.model, state, seed=config.process.seed, now=self._timestamp())
        self._follow(state)
        state.journal.record_runtime(
            runtime_facts(device, decoder=config.decoding.decoder, num_ranks=self._ranks.size)
        )
        head = load_head(state, config.model, device=device)
        parts = self._learning_assembly(state, head, device)
        start = pack_start(
            config,
            state.journal.lineage,
            input_shape=head.manifest.architecture.input_shape,
            has_open_labels=parts.has_open_labels,
        )
        self._leadership.tell(start)
        source = open_source(config, lineage=state.journal.lineage.id, ranks=self._ranks)
        with source_problems():
            self._take_up(state, head, source, parts)
        self._interruption.end()

    def _follow(self, state: StateDirectory) -> None:
        """Show the log's history, and tell of it what a process before could not."""
        self.announcer = open_announcer(
            self._config.notifications,
            Path(self._config.process.state_directory),
            lineage=state.journal.lineage.id,
            end=state.journal.pin.num_entries - 1,
            metrics=self._metrics,
            board=self._board,
            monotonic=self._monotonic,
        )
        state.journal.follow(self._history.apply, self.announcer.apply)
        # The lineage was mended when it was opened: what the log says is served, is.
        self.announcer.release()
        state.versions.subscribe(self.announcer.release)

    def open_control(self) -> ControlSocket:
        """Let commands come in; whoever calls this runs what it returns."""
        directory = Path(self._config.process.state_directory)
        self._control = ControlSocket(directory, self.commands, stop=self._stop)
        return self._control

    def dismiss_ranks(self, *, is_told: bool, has_failed: bool) -> None:
        """Let the other ranks end, after the last thing that was learned; the learning thread's.

        Args:
            is_told: Whether this process was told to end.
            has_failed: Whether another of its threads has.

        Raises:
            TemporaryError: Another rank was told, and not this one.
        """
        self._leadership.dismiss(is_told=is_told, has_failed=has_failed)

    def close(self) -> None:
        """Close buffer and state directory, after the threads; the source was its thread's."""
        if self._control is not None:
            self._control.close()
        if self._buffer is not None:
            self._buffer.close()
        if self._state is not None:
            self._state.close()

    def _take_up(
        self, state: StateDirectory, head: LoadedTeacher, source: Source, parts: LearningAssembly
    ) -> None:
        """Make intake and learning go on where the lineage log ends."""
        config, lineage = self._config, state.journal.lineage
        buffer = self._buffer = self._leadership.build_buffer(config.tasks)
        base = load_base_holdout(
            config.gate,
            input_shape=head.manifest.architecture.input_shape,
            classes=lineage.first_classes,
        )
        configured = replace(config.deciding, base_holdout_sha256=base.sha256 if base else None)
        settings = settings_of_next_task(state.journal, configured)
        self._take_places(state, source, buffer)
        decoder = decoders_for(config.decoding, head.manifest, lineage)(parts.has_open_labels)
        # Before the learning: a planned task without instances is closed, and released, at once.
        self.intake = self._build_intake(source, decoder, buffer)
        measurement = parts.build_measurement()
        observation = parts.build_observation(measurement)
        core = parts.build_core(settings, measurement, base)
        archive = InterruptibleArchive(source, self._interruption)
        resumption = Resumption(config, state=state, head=head.manifest, archive=archive)
        resumption.make_good_deferred(settings)
        self.learning = parts.build_learning(
            core,
            observation,
            intake=self.intake,
            buffer=buffer,
            load=self._load,
            draining=self._draining,
            commands=self.commands,
            monotonic=self._monotonic,
            stop=self._stop,
        )
        resumption.fill(core)
        # The memory was empty when the start was shown.
        observation.standing(lineage)
        state.deferred.keep(lineage)
        resumption.finish(self.learning, settings)

    def _take_places(self, state: StateDirectory, source: Source, buffer: TaskBuffer) -> None:
        """Begin to read where the log ends."""
        journal = state.journal
        # A topic has an id and its records a leader's epoch; a file may have been an older copy.
        known = KnownRecords(
            journal.lineage.last_digests,
            lambda: (logged.entry for logged in read_lineage_log(state.log_path)),
        )
        places = seek_to_places(
            source,
            known=journal.lineage.places,
            topic_ids=journal.lineage.topic_ids,
            on_lost=self._config.on_lost_records,
            metrics=self._metrics,
            on_skip=functools.partial(record_skip, journal),
            records=known if self._config.source == "stream_log" else None,
        )
        # Before the first poll: where this lineage begins is known to whoever comes after it.
        source.release(places, needed_from={})
        buffer.start_at(places, topic_id=source.topic_id())

    def _learning_assembly(
        self, state: StateDirectory, head: LoadedTeacher, device: torch.device
    ) -> LearningAssembly:
        return LearningAssembly(
            self._config,
            state=state,
            head=head,
            device=device,
            leadership=self._leadership,
            metrics=self._metrics,
            board=self._board,
            now=self._now,
            on_progress=self._go_on,
        )

    def _build_intake(self, source: Source, decoder: Decoder, buffer: TaskBuffer) -> Intake:
        return Intake(
            self._config.intake,
            source=source,
            decoder=decoder,
            dead_letters=open_dead_letters(self._config, keep_large=self._keep_large),
            on_lost=self._config.on_lost_records,
            buffer=buffer,
            stop_rule=self._leadership.stop_rule,
            metrics=self._metrics,
            board=self._board,
            load=self._load,
            draining=self._draining,
            now=self._now,
            monotonic=self._monotonic,
            stop=self._stop,
        )

    def _build_mirroring(self, name: str, state: StateDirectory) -> Mirroring:
        config = self._config.publication.mirrors[name]
        mirroring = Mirroring(
            name,
            Mirror(name, config, state.versions.root),
            max_backoff_seconds=config.max_backoff_seconds,
            metrics=self._metrics,
            board=self._board,
            monotonic=self._monotonic,
            now=self._now,
            stop=self._stop,
        )
        state.versions.subscribe(mirroring.notify)
        return mirroring

    def _keep_large(self, letter: DeadLetter) -> None:
        LargeLetters(Path(self._config.process.state_directory)).keep(letter)
        self._metrics.large_dead_letters.inc()

    def _show_progress(self) -> None:
        """Show whoever watches, other ranks included, that a start goes on."""
        self._on_progress()
        self._leadership.tick()

    def _go_on(self) -> None:
        """Show life, and end a start that is not wanted any more."""
        self._board.beat_again("learning")
        self._interruption.check()
        self._leadership.tick()

    def _timestamp(self) -> str:
        return datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="milliseconds")
