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

from teacherd.consumers.buffered_task import BufferedTask
from teacherd.consumers.dead_letters import DeadLetter
from teacherd.consumers.decoding import Decoder, DecodingConfig
from teacherd.consumers.record_archive import RecordArchive
from teacherd.consumers.source import Source
from teacherd.consumers.task_buffer import TaskBuffer
from teacherd.daemon.announcer import Announcer, open_announcer
from teacherd.daemon.base_holdout import BaseHoldout, load_base_holdout
from teacherd.daemon.classes_observation import ClassesObservation
from teacherd.daemon.commands import Commands
from teacherd.daemon.config import Config, DecidingConfig
from teacherd.daemon.control_socket import ControlSocket
from teacherd.daemon.deciding_core import DecidingCore
from teacherd.daemon.deferral import Deferral
from teacherd.daemon.deferring import Deferring
from teacherd.daemon.device import prepare_device
from teacherd.daemon.draining import Draining
from teacherd.daemon.entries import Plan
from teacherd.daemon.errors import ConfigurationError, Problem
from teacherd.daemon.evaluation_sets import load_evaluation_sets
from teacherd.daemon.history import History
from teacherd.daemon.intake import Intake
from teacherd.daemon.interruption import InterruptibleArchive, Interruption
from teacherd.daemon.joining import OPEN_LABELS, device_of_rank
from teacherd.daemon.large_letters import LargeLetters
from teacherd.daemon.leader import Leader
from teacherd.daemon.leading_buffer import LeadingBuffer
from teacherd.daemon.leading_learner import LeadingLearner
from teacherd.daemon.learning import Learning
from teacherd.daemon.load import Load
from teacherd.daemon.measurement import Measurement
from teacherd.daemon.metrics import Metrics
from teacherd.daemon.mirror import Mirror
from teacherd.daemon.mirroring import Mirroring
from teacherd.daemon.observation import Observation
from teacherd.daemon.opening import load_head, load_version, open_lineage
from teacherd.daemon.quality_observation import QualityObservation
from teacherd.daemon.quarantining import Quarantining
from teacherd.daemon.rank_message import RankMessage
from teacherd.daemon.rank_observation import RankObservation
from teacherd.daemon.rank_start import pack_start
from teacherd.daemon.recovery import (
    OpenDecoder,
    RecordsChangedError,
    build_decoder,
    gather_holdouts,
    rebuild,
    record_skip,
    recover_deferred,
    reread,
    seek_to_places,
    settings_of_next_task,
)
from teacherd.daemon.remembering import recall
from teacherd.daemon.retrying import Retrying
from teacherd.daemon.runtime_facts import runtime_facts
from teacherd.daemon.source_opening import open_dead_letters, open_source, source_problems
from teacherd.daemon.state_directory import RETRIES, StateDirectory
from teacherd.daemon.state_lock import StateLock
from teacherd.daemon.status_board import StatusBoard
from teacherd.models.artifact import LoadedTeacher, Manifest
from teacherd.models.learner import Learner
from teacherd.models.memory import Memory
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
        self._metrics = metrics
        self._board = board
        self._history = history or History()
        self._stop = stop
        self._now = now
        self._monotonic = monotonic
        self._draining = Draining(has_others=not ranks.is_alone)
        self._elsewhere = RankObservation(metrics, board)
        self._leader = None if ranks.is_alone else self._build_leader(ranks)
        self._load = Load(
            metrics=metrics,
            board=board,
            now=now,
            monotonic=monotonic,
            elsewhere=self._elsewhere.stream,
        )
        self._state: StateDirectory | None = None
        self._buffer: TaskBuffer | None = None
        self._interruption = Interruption(stop, on_progress=self._speak_to_all(on_progress))
        self._observation: Observation
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
        if self._leader is not None:
            self._leader.tell(pack_start(config, state.journal.lineage, head.manifest))
        source = open_source(config, lineage=state.journal.lineage.id, ranks=self._ranks)
        with source_problems():
            self._take_up(state, head, source, device)
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

    def dismiss_ranks(self) -> None:
        """Let the other ranks end, after the last thing that was learned; the learning thread's."""
        if self._leader is not None:
            self._leader.tell(RankMessage("stop"))

    def close(self) -> None:
        """Close buffer and state directory, after the threads; the source was its thread's."""
        if self._control is not None:
            self._control.close()
        if self._buffer is not None:
            self._buffer.close()
        if self._state is not None:
            self._state.close()

    def _take_up(
        self, state: StateDirectory, head: LoadedTeacher, source: Source, device: torch.device
    ) -> None:
        """Make intake and learning go on where the lineage log ends."""
        config = self._config
        buffer = self._buffer = self._build_buffer()
        base = load_base_holdout(
            config.gate,
            input_shape=head.manifest.architecture.input_shape,
            classes=state.journal.lineage.first_classes,
        )
        configured = replace(config.deciding, base_holdout_sha256=base.sha256 if base else None)
        settings = settings_of_next_task(state.journal, configured)
        places = seek_to_places(
            source,
            known=state.journal.lineage.places,
            topic_ids=state.journal.lineage.topic_ids,
            on_lost=config.on_lost_records,
            metrics=self._metrics,
            on_skip=functools.partial(record_skip, state.journal),
        )
        # Before the first poll: where this lineage begins is known to whoever comes after it.
        source.release(places, needed_from={})
        buffer.start_at(places, topic_id=source.topic_id())
        lineage = state.journal.lineage
        has_open_labels = config.classes.unknown == "grow" or lineage.has_grown
        if has_open_labels and not self._ranks.is_alone:
            rule = f"the lineage has had new classes; {OPEN_LABELS}"
            raise ConfigurationError([Problem("classes.unknown", rule)])
        decoder = self._decoders(state, head, config.decoding)(has_open_labels)
        # Before the learning: a planned task without instances is closed, and released, at once.
        self.intake = self._build_intake(source, decoder, buffer)
        core = self._build_core(state, head, device, settings, base)
        archive = InterruptibleArchive(source, self._interruption)
        planned_decoders = self._decoders(state, head, settings.decoding)
        self._make_good_deferred(state, archive, planned_decoders)
        self.learning = self._build_learning(
            state,
            core,
            buffer,
            self._decoders(state, head, config.decoding),
            has_open_labels=has_open_labels,
        )
        gather_holdouts(core, lineage, archive, planned_decoders)
        self._recall(state, head, core, archive)
        state.deferred.keep(lineage)
        self._resume_unfinished(state, archive, planned_decoders)

    def _recall(
        self,
        state: StateDirectory,
        head: LoadedTeacher,
        core: DecidingCore,
        archive: RecordArchive,
    ) -> None:
        """Fill the rehearsal memory, if there ever was one."""

        def read(plan: Plan, settings: DecidingConfig) -> BufferedTask:
            decoders = self._decoders(state, head, settings.decoding)
            return reread(plan, archive, decoders, state.quarantine, state.deferred)

        core.recall(
            functools.partial(
                recall, state=state, reread=read, configured=self._config.learning.memory
            )
        )
        # It was empty when the start was shown.
        self._observation.standing(state.journal.lineage)

    def _decoders(
        self, state: StateDirectory, head: LoadedTeacher, config: DecodingConfig
    ) -> OpenDecoder:
        shape = head.manifest.architecture.input_shape
        classes = state.journal.lineage.first_classes
        return functools.partial(build_decoder, config, shape, classes)

    def _make_good_deferred(
        self, state: StateDirectory, archive: RecordArchive, open_decoder: OpenDecoder
    ) -> None:
        """Read deferred records that are damaged once more; end where they are gone."""
        if state.missing:
            restored = recover_deferred(state, archive, open_decoder)
            if not restored and self._config.on_lost_records == "stop":
                first = state.missing[0]
                raise RecordsChangedError(
                    f"{len(state.missing)} records that task {first.task} and others have "
                    "deferred are damaged in the state directory and gone from the stream; restore "
                    "a backup, or set on_lost_records: continue in the source's section to do "
                    "without them"
                )

    def _build_leader(self, ranks: Ranks) -> Leader:
        return Leader(
            ranks,
            draining=self._draining,
            stop=self._stop,
            on_reports=self._elsewhere.show,
            monotonic=self._monotonic,
        )

    def _speak_to_all(self, on_progress: Callable[[], None]) -> Callable[[], None]:
        """Return what shows progress to whoever watches, other ranks included."""
        if self._leader is None:
            return on_progress
        leader = self._leader

        def speak() -> None:
            on_progress()
            leader.tick()

        return speak

    def _build_buffer(self) -> TaskBuffer:
        if self._leader is None:
            return TaskBuffer(self._config.tasks, now=self._monotonic)
        return LeadingBuffer(self._config.tasks, leader=self._leader, now=self._monotonic)

    def _build_intake(self, source: Source, decoder: Decoder, buffer: TaskBuffer) -> Intake:
        return Intake(
            self._config.intake,
            source=source,
            decoder=decoder,
            dead_letters=open_dead_letters(self._config, keep_large=self._keep_large),
            on_lost=self._config.on_lost_records,
            buffer=buffer,
            metrics=self._metrics,
            board=self._board,
            load=self._load,
            draining=self._draining,
            now=self._now,
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

    def _build_core(
        self,
        state: StateDirectory,
        head: LoadedTeacher,
        device: torch.device,
        settings: DecidingConfig,
        base: BaseHoldout | None,
    ) -> DecidingCore:
        """Build what decides, with the holdouts of the newest checkpoint."""
        measurement, memory = self._build_measurement(state, head.manifest, device), Memory()
        self._observation = self._build_observation(state, measurement, head, memory, device)
        lineage = state.journal.lineage
        core = DecidingCore(
            settings,
            head=head,
            device=device,
            measurement=measurement,
            lineage=lineage,
            load_version=lambda version: load_version(state, version, device=device),
            base=base,
            memory=memory,
            build_learner=self._choose_learner(head.manifest),
            on_progress=self._go_on,
        )
        for task, holdout in (state.newest.holdouts if state.newest else {}).items():
            if task in lineage.standing.holdouts:
                core.holdouts.put(holdout)
        return core

    def _choose_learner(self, manifest: Manifest) -> Callable[..., Learner]:
        if self._leader is None:
            return Learner
        return functools.partial(LeadingLearner, leader=self._leader, manifest=manifest)

    def _build_learning(
        self,
        state: StateDirectory,
        core: DecidingCore,
        buffer: TaskBuffer,
        open_decoder: OpenDecoder,
        *,
        has_open_labels: bool,
    ) -> Learning:
        config = self._config
        opening = state.journal.lineage.opening
        assert opening is not None, "the lineage was opened above"
        return Learning(
            config.checkpoints,
            core=core,
            schedule=core.settings.learning.schedule(opening.seed),
            mode=config.publication.mode,
            journal=state.journal,
            checkpoints=state.checkpoints,
            versions=state.versions,
            quarantining=Quarantining(state.quarantine, self.intake.requests.ask),
            deferring=self._build_deferring(state, open_decoder),
            has_open_labels=has_open_labels,
            retrying=self._build_retrying(state, open_decoder),
            commands=self.commands,
            buffer=buffer,
            load=self._load,
            draining=self._draining,
            observation=self._observation,
            release=self.intake.release,
            monotonic=self._monotonic,
            stop=self._stop,
            on_turn=self._leader.tick if self._leader else lambda: None,
        )

    def _build_deferring(self, state: StateDirectory, open_decoder: OpenDecoder) -> Deferring:
        deferral = Deferral(
            state.deferred,
            lineage=state.journal.lineage,
            build_decoder=lambda: open_decoder(True),  # noqa: FBT003 (what is deferred has such)
            now=self._now,
        )
        return Deferring(deferral, state.deferred, self.intake.letters.ask)

    def _build_retrying(self, state: StateDirectory, open_decoder: OpenDecoder) -> Retrying:
        lineage = state.journal.lineage
        retrying = Retrying(
            Path(self._config.process.state_directory) / RETRIES,
            lineage,
            requests=self.intake.requests,
            quarantine=state.quarantine,
            rebuild=functools.partial(rebuild, open_decoder, state.deferred),
        )
        if lineage.due_retry is not None:
            retrying.add(lineage.due_retry, lineage)
        return retrying

    def _build_measurement(
        self, state: StateDirectory, manifest: Manifest, device: torch.device
    ) -> Measurement:
        config = self._config.evaluation
        sets = load_evaluation_sets(
            config,
            input_shape=manifest.architecture.input_shape,
            classes=state.journal.lineage.first_classes,
            may_grow=self._config.classes.unknown == "grow" or state.journal.lineage.has_grown,
        )
        first = state.journal.lineage.versions[0]
        base = state.versions.load(0, first.sha256, first.manifest_sha256, device=str(device))
        return Measurement(
            sets,
            base=base.network,
            classes=base.manifest.classes,
            preprocessing=manifest.preprocessing,
            device=device,
            batch_size=config.batch_size,
        )

    def _build_observation(
        self,
        state: StateDirectory,
        measurement: Measurement,
        head: LoadedTeacher,
        memory: Memory,
        device: torch.device,
    ) -> Observation:
        observation = Observation(
            metrics=self._metrics,
            board=self._board,
            base_accuracy=measurement.base,
            quality=QualityObservation(
                self._metrics,
                num_classes=self._config.evaluation.worst_classes,
            ),
            classes=ClassesObservation(self._metrics, state.deferred, memory),
            now=self._now,
        )
        lineage = state.journal.lineage
        current = lineage.versions[lineage.current or 0]
        served = state.versions.load(
            current.version, current.sha256, current.manifest_sha256, device=str(device)
        )
        observation.published(served.manifest, lineage)
        measured = measurement.measure(head.network, head.manifest.classes, on_batch=self._go_on)
        observation.head_measured(measured)
        if current.version != lineage.head:
            measured = measurement.measure(
                served.network, served.manifest.classes, on_batch=self._go_on
            )
        observation.teacher_measured(measured)
        observation.standing(lineage)
        return observation

    def _go_on(self) -> None:
        """Show life, and end a start that is not wanted any more."""
        self._board.beat_again("learning")
        self._interruption.check()
        if self._leader is not None:
            self._leader.tick()

    def _resume_unfinished(
        self, state: StateDirectory, archive: RecordArchive, open_decoder: OpenDecoder
    ) -> None:
        plan = state.journal.lineage.unfinished
        if plan is None:
            return
        try:
            task = reread(plan, archive, open_decoder, state.quarantine, state.deferred)
        except RecordsChangedError as error:
            if self._config.on_lost_records == "stop":
                raise
            self.learning.lose(plan, str(error.__cause__))
        else:
            self._resume(state, plan, task)
        self.learning.reconfigure(self._config.deciding, self._config.checkpoints)

    def _resume(self, state: StateDirectory, plan: Plan, task: BufferedTask) -> None:
        newest = state.newest
        is_inside = (
            newest is not None
            and newest.checkpoint.task == plan.task
            and newest.checkpoint.pin == state.journal.pin
        )
        self.learning.resume(plan, task, newest.learner_state if newest and is_inside else None)

    def _timestamp(self) -> str:
        return datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="milliseconds")
