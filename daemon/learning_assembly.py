"""Builds the learning thread's parts."""

import functools
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from teacherd.consumers.task_buffer import TaskBuffer
from teacherd.daemon.base_holdout import BaseHoldout
from teacherd.daemon.checkpointing import Checkpointing
from teacherd.daemon.classes_observation import ClassesObservation
from teacherd.daemon.closing import Closing
from teacherd.daemon.commands import Commands
from teacherd.daemon.config import Config, DecidingConfig
from teacherd.daemon.deciding_core import DecidingCore
from teacherd.daemon.deferral import Deferral
from teacherd.daemon.deferring import Deferring
from teacherd.daemon.draining import Draining
from teacherd.daemon.evaluation_sets import load_evaluation_sets
from teacherd.daemon.intake import Intake
from teacherd.daemon.leadership import Leadership
from teacherd.daemon.learning import Learning
from teacherd.daemon.lineage_decoding import OpenDecoder, decoders_for
from teacherd.daemon.load import Load
from teacherd.daemon.measurement import Measurement
from teacherd.daemon.metrics import Metrics
from teacherd.daemon.observation import Observation
from teacherd.daemon.opening import load_version
from teacherd.daemon.planning import Planning
from teacherd.daemon.publisher import Publisher
from teacherd.daemon.quality_observation import QualityObservation
from teacherd.daemon.quarantining import Quarantining
from teacherd.daemon.recovery import rebuild
from teacherd.daemon.retrying import Retrying
from teacherd.daemon.state_directory import RETRIES, StateDirectory
from teacherd.daemon.status_board import StatusBoard
from teacherd.models.artifact import LoadedTeacher
from teacherd.models.evaluation import Evaluation
from teacherd.models.memory import Memory


class LearningAssembly:
    """Knows what the parts have in common; they are built in the order of the methods.

    Args:
        state: Everything durable.
        head: The version that the next task starts from.
        device: Where to compute.
        leadership: Of the other ranks.
        metrics: Show how it goes.
        board: So does it.
        now: Wall clock, seconds since the epoch.
        on_progress: Called now and then in what may take longer than a step.
    """

    def __init__(
        self,
        config: Config,
        *,
        state: StateDirectory,
        head: LoadedTeacher,
        device: torch.device,
        leadership: Leadership,
        metrics: Metrics,
        board: StatusBoard,
        now: Callable[[], float],
        on_progress: Callable[[], None],
    ) -> None:
        self._config = config
        self._state = state
        self._lineage = state.journal.lineage
        self._head = head
        self._device = device
        self._leadership = leadership
        self._metrics = metrics
        self._board = board
        self._now = now
        self._on_progress = on_progress
        self._memory = Memory()

    @property
    def has_open_labels(self) -> bool:
        """Whether a task may have classes that the head does not know."""
        return self._config.classes.unknown == "grow" or self._lineage.has_grown

    def build_measurement(self) -> Measurement:
        """Build what measures with the evaluation sets, version 0 first."""
        config, manifest = self._config.evaluation, self._head.manifest
        sets = load_evaluation_sets(
            config,
            input_shape=manifest.architecture.input_shape,
            classes=self._lineage.first_classes,
            may_grow=self.has_open_labels,
        )
        first = self._lineage.versions[0]
        base = self._state.versions.load(
            0, first.sha256, first.manifest_sha256, device=str(self._device)
        )
        return Measurement(
            sets,
            base=base.network,
            classes=base.manifest.classes,
            preprocessing=manifest.preprocessing,
            device=self._device,
            batch_size=config.batch_size,
        )

    def build_observation(self, measurement: Measurement) -> Observation:
        """Build what shows how it goes, and show how it stands."""
        observation = Observation(
            metrics=self._metrics,
            board=self._board,
            base_accuracy=measurement.base,
            quality=QualityObservation(
                self._metrics,
                num_classes=self._config.evaluation.worst_classes,
            ),
            classes=ClassesObservation(self._metrics, self._state.deferred, self._memory),
            now=self._now,
        )
        current = self._lineage.versions[self._lineage.current or 0]
        served = self._state.versions.load(
            current.version, current.sha256, current.manifest_sha256, device=str(self._device)
        )
        observation.published(served.manifest, self._lineage)
        measured = self._measure(measurement, self._head)
        observation.head_measured(measured)
        if current.version != self._lineage.head:
            measured = self._measure(measurement, served)
        observation.teacher_measured(measured)
        observation.standing(self._lineage)
        return observation

    def build_core(
        self, settings: DecidingConfig, measurement: Measurement, base: BaseHoldout | None
    ) -> DecidingCore:
        """Build what decides, with the holdouts of the newest checkpoint.

        Args:
            settings: In force for the next task.
            measurement: Of the evaluation sets.
            base: As configured.
        """
        core = DecidingCore(
            settings,
            head=self._head,
            device=self._device,
            measurement=measurement,
            lineage=self._lineage,
            load_version=functools.partial(load_version, self._state, device=self._device),
            base=base,
            memory=self._memory,
            build_learner=self._leadership.choose_learner(self._head.manifest),
            on_progress=self._on_progress,
        )
        newest = self._state.newest
        for task, holdout in (newest.holdouts if newest else {}).items():
            if task in self._lineage.standing.holdouts:
                core.holdouts.put(holdout)
        return core

    def build_learning(
        self,
        core: DecidingCore,
        observation: Observation,
        *,
        intake: Intake,
        buffer: TaskBuffer,
        load: Load,
        draining: Draining,
        commands: Commands,
        monotonic: Callable[[], float],
        stop: threading.Event,
    ) -> Learning:
        """Build the thread's own part.

        Args:
            core: What decides.
            observation: Shows how it goes.
            intake: Reads records once more, keeps dead letters, and is told what is released.
            buffer: What tasks are cut from.
            load: Says how many epochs there is time for.
            draining: Asked for by a command.
            commands: What a person asks for.
            monotonic: Seconds.
            stop: Set when the process is to end.
        """
        config, state, lineage = self._config, self._state, self._lineage
        decoders = decoders_for(config.decoding, self._head.manifest, lineage)
        mode = config.publication.mode
        assert lineage.opening is not None, "it was opened before its head was loaded"
        planning = Planning(
            core.settings.learning.schedule(lineage.opening.seed),
            lineage=lineage,
            core=core,
            buffer=buffer,
            load=load,
            has_open_labels=self.has_open_labels,
        )
        checkpointing = Checkpointing(
            config.checkpoints,
            store=state.checkpoints,
            journal=state.journal,
            core=core,
            observation=observation,
            monotonic=monotonic,
        )
        quarantining = Quarantining(state.quarantine, intake.requests.ask)
        deferring = self._build_deferring(decoders, intake)
        retrying = self._build_retrying(decoders, intake)
        closing = Closing(
            mode,
            core=core,
            journal=state.journal,
            checkpoints=state.checkpoints,
            checkpointing=checkpointing,
            versions=state.versions,
            quarantining=quarantining,
            deferring=deferring,
            retrying=retrying,
            load=load,
            observation=observation,
            release=intake.release,
            monotonic=monotonic,
        )
        return Learning(
            core=core,
            journal=state.journal,
            planning=planning,
            checkpointing=checkpointing,
            closing=closing,
            publisher=Publisher(
                state.journal, state.versions, mode=mode, now=observation.timestamp
            ),
            versions=state.versions,
            quarantining=quarantining,
            deferring=deferring,
            retrying=retrying,
            commands=commands,
            buffer=buffer,
            draining=draining,
            observation=observation,
            monotonic=monotonic,
            stop=stop,
            on_turn=self._leadership.tick,
        )

    def _build_deferring(self, decoders: OpenDecoder, intake: Intake) -> Deferring:
        deferral = Deferral(
            self._state.deferred,
            lineage=self._lineage,
            build_decoder=lambda: decoders(True),  # noqa: FBT003 (what is deferred has such)
            now=self._now,
        )
        return Deferring(deferral, self._state.deferred, intake.letters.ask)

    def _build_retrying(self, decoders: OpenDecoder, intake: Intake) -> Retrying:
        lineage = self._lineage
        retrying = Retrying(
            Path(self._config.process.state_directory) / RETRIES,
            lineage,
            requests=intake.requests,
            quarantine=self._state.quarantine,
            rebuild=functools.partial(rebuild, decoders, self._state.deferred),
        )
        if lineage.due_retry is not None:
            retrying.add(lineage.due_retry, lineage)
        return retrying

    def _measure(
        self, measurement: Measurement, version: LoadedTeacher
    ) -> Mapping[str, Evaluation]:
        return measurement.measure(
            version.network, version.manifest.classes, on_batch=self._on_progress
        )
