"""Tells people what the learning thread does: metrics, log events and its section of the status."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import structlog
import torch

from teacherd.daemon.ages import lag_seconds
from teacherd.daemon.checkpoint import Checkpoint
from teacherd.daemon.classes_observation import ClassesObservation
from teacherd.daemon.drift_observation import DriftObservation
from teacherd.daemon.entries import Outcome, Plan, Retry, Rollback
from teacherd.daemon.errors import StateError
from teacherd.daemon.lineage import Lineage
from teacherd.daemon.metrics import Metrics
from teacherd.daemon.quality_observation import QualityObservation
from teacherd.daemon.quarantine import quarantined
from teacherd.daemon.rank_observation import whole
from teacherd.daemon.status_board import StatusBoard
from teacherd.daemon.verdict import holdout_accuracy, holdout_forgetting, verdict_of
from teacherd.models.artifact import Manifest
from teacherd.models.evaluation import Evaluation
from teacherd.models.task_report import TaskReport


class Observation:
    """One method per event of the learning thread; returns nothing and decides nothing.

    Args:
        base_accuracy: Of version 0, by evaluation set.
        now: Wall clock, seconds since the epoch.
    """

    def __init__(
        self,
        *,
        metrics: Metrics,
        board: StatusBoard,
        base_accuracy: Mapping[str, float],
        quality: QualityObservation,
        classes: ClassesObservation,
        now: Callable[[], float],
    ) -> None:
        self._metrics = metrics
        self._board = board
        self._now = now
        self._base_accuracy = base_accuracy
        self._served: Manifest | None = None
        self._drift = DriftObservation(metrics)
        self._quality = quality
        self._classes = classes
        self._learning: dict[str, Any] = {}
        self._newest: tuple[int, Mapping[str, Evaluation]] | None = None
        """The last accepted version, and how it did."""
        self._log = structlog.get_logger()
        for name, value in base_accuracy.items():
            metrics.accuracy.labels(name, "base").set(value)
        metrics.lag_seconds.set_function(lambda: lag_seconds(whole(board.snapshot()), now()))

    def timestamp(self) -> str:
        """Return the wall clock as ISO 8601 in UTC."""
        return datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="milliseconds")

    def beat(self, loop: str) -> None:
        """A loop has turned."""
        self._board.beat(loop)

    def task_begun(self, plan: Plan, age_seconds: float) -> None:
        """A task is learned from now on, whose first record came so long ago."""
        arrived_ms = int((self._now() - age_seconds) * 1000)
        self._board.update("task", number=plan.task, oldest_timestamp_ms=arrived_ms)

    def task_planned(self, plan: Plan) -> None:
        """A plan is durable."""
        num_records = sum(closed.count for closed in plan.ranges)
        self._metrics.task_records.observe(num_records)
        self._metrics.task_trigger.labels(plan.cause).inc()
        self._log.info(
            "task_planned",
            task=plan.task,
            cause=plan.cause,
            epochs=plan.epochs,
            head=plan.head,
            records=num_records,
            instances=plan.num_instances,
        )
        self._classes.task_planned(plan)

    def step_made(self, seconds: float, done: int, total: int) -> None:
        """An optimizer step has been made."""
        self._metrics.step_duration.observe(seconds)
        self._metrics.task_progress.set(done / total)
        self._board.update("task", steps_done=done, steps=total)

    def nonfinite_loss(self) -> None:
        """A step was not taken, because of NaN or infinity."""
        self._metrics.nonfinite_losses.inc()

    def task_retried(self, retry: Retry) -> None:
        """A task is learned once more, in smaller steps."""
        self._metrics.retries.labels(retry.cause).inc()
        self._log.warning(
            "task_retried",
            task=retry.task,
            attempt=retry.attempt,
            learning_rate=retry.learning_rate,
            reason=retry.reason,
        )

    def learned(
        self,
        version: int,
        report: TaskReport,
        evaluations: Mapping[str, Evaluation],
        student_accuracy: Mapping[str, float],
    ) -> None:
        """A task's candidate was accepted, as this version; it need not be served."""
        metrics = self._metrics
        metrics.instances_learned.inc(report.num_instances)
        metrics.consolidations.inc(report.num_consolidations)
        metrics.teacher_retain.set(report.retain)
        metrics.outer.set(report.outer_share)
        for component, value in report.losses.items():
            metrics.loss.labels(component).set(value)
        for name, value in student_accuracy.items():
            metrics.accuracy.labels(name, "student").set(value)
        if torch.cuda.is_available():
            metrics.gpu_memory.set(torch.cuda.memory_allocated())
        self._newest = version, evaluations
        self.head_measured(evaluations)
        self._learning |= {
            "student_accuracy": dict(student_accuracy),
            "outer_ratio": report.outer_share,
        }

    def head_measured(self, evaluations: Mapping[str, Evaluation]) -> None:
        """What the next task starts from has been measured."""
        accuracy = {name: evaluations[name].accuracy for name in self._base_accuracy}
        for name, value in accuracy.items():
            self._metrics.accuracy.labels(name, "head").set(value)
        self._learning["head_accuracy"] = accuracy

    def teacher_measured(self, evaluations: Mapping[str, Evaluation]) -> None:
        """What is served has been measured; the status shows it with the next `standing`."""
        metrics = self._metrics
        accuracy = {name: evaluations[name].accuracy for name in self._base_accuracy}
        assert self._served is not None, "it was published before it was measured"
        self._learning |= self._quality.measured(evaluations, self._served.design)
        for name, value in accuracy.items():
            promotion = value - self._base_accuracy[name]
            metrics.accuracy.labels(name, "teacher").set(value)
            metrics.promotion.labels(name).set(promotion)
            metrics.forgetting.labels(name).set(-promotion)
        self._learning |= {
            "teacher_accuracy": dict(accuracy),
            "base_accuracy": dict(self._base_accuracy),
            "forgetting": {name: self._base_accuracy[name] - accuracy[name] for name in accuracy},
        }

    def task_closed(self, plan: Plan, outcome: Outcome, seconds: float, lineage: Lineage) -> None:
        """An outcome and everything that follows from it are durable."""
        self._metrics.tasks.labels(outcome.result).inc()
        self._judged(outcome, lineage)
        self._metrics.task_duration.observe(seconds)
        self._drift.task_closed(outcome)
        self._classes.task_closed(plan, outcome)
        self._metrics.task_progress.set(0)
        verdict = {
            "task": plan.task,
            **verdict_of(outcome),
            "version": outcome.version,
            "figures": dict(outcome.figures),
            "at": self.timestamp(),
        }
        self._board.update_sections({**self._standing(lineage), "verdict": verdict})
        level = self._log.info if outcome.result in ("accepted", "empty") else self._log.warning
        level(
            "task_closed",
            task=plan.task,
            outcome=outcome.result,
            version=outcome.version,
            gate=outcome.gate,
            point=outcome.point,
            reasons=list(outcome.reasons),
            duration_seconds=round(seconds, 3),
            **{name: round(value, 4) for name, value in outcome.figures.items()},
        )

    def _judged(self, outcome: Outcome, lineage: Lineage) -> None:
        """Count what the gate found, and show how the candidate did on what was held out."""
        metrics = self._metrics
        if outcome.result in ("accepted", "held"):
            is_served = outcome.version is not None and outcome.version == lineage.current
            metrics.promotions.labels("published" if is_served else outcome.result).inc()
        for check in outcome.checks:
            name = "class" if check.holdout.startswith("class ") else check.holdout
            metrics.gate_checks.labels(f"{name}_{check.against}", check.result).inc()
        for holdout, value in holdout_forgetting(outcome).items():
            metrics.forgetting.labels(f"holdout_{holdout}").set(value)
        for holdout, accuracy in holdout_accuracy(outcome).items():
            metrics.accuracy.labels(f"holdout_{holdout}", "candidate").set(accuracy)
        if outcome.drift == "confirmed":
            metrics.gate_drifts.inc()
            self._log.warning(
                "drift_confirmed",
                task=outcome.task,
                retired=list(outcome.retired),
                base=outcome.is_base_retired,
            )
        elif outcome.drift == "suspected":
            self._log.warning("drift_suspected", task=outcome.task)

    def standing(self, lineage: Lineage) -> None:
        """Where the lineage stands when the process starts."""
        self._board.update_sections(self._standing(lineage))

    def _standing(self, lineage: Lineage) -> dict[str, dict[str, Any]]:
        self._metrics.quarantined.set(len(quarantined(lineage)))
        probation = lineage.standing.probation
        self._learning |= self._quality.of_tasks(lineage.matrix)
        return {
            "lineage": {
                "id": lineage.id,
                "head": lineage.head,
                "current": lineage.current,
                "best": lineage.standing.best,
                "held_in_a_row": lineage.standing.held_in_a_row,
                "probation": probation.version if probation else None,
                "holdouts": list(lineage.standing.holdouts),
                "tasks": lineage.num_tasks,
                "outcomes": dict(lineage.outcomes),
                "instances_learned": lineage.num_learned,
                "places": {f"{t}/{number}": at for (t, number), at in lineage.places.items()},
            },
            "learning": dict(self._learning),
            "classes": self._classes.status(lineage),
            "drift": self._drift.status(lineage.drift),
            "task": {"number": None, "steps_done": 0, "steps": 0, "oldest_timestamp_ms": None},
        }

    def published(self, manifest: Manifest, lineage: Lineage) -> None:
        """A version is served from now on."""
        metrics = self._metrics
        if self._served is not None:
            metrics.teacher_info.clear()
        metrics.teacher_info.labels(
            manifest.version, manifest.weights_sha256, manifest.architecture.name
        ).set(1)
        metrics.teacher_version.set(manifest.version)
        metrics.teacher_age.set_function(lambda: self._age(manifest))
        # A base that was a version of another lineage has learned, too.
        newest = (
            max(
                manifest.metrics.get("newest_event_ms", 0.0),
                lineage.versions[manifest.version].newest_event_ms,
            )
            / 1000
        )
        # Also where nothing was learned: the function of what was served before would stay.
        metrics.freshness.set_function(lambda: max(0.0, self._now() - newest) if newest else 0.0)
        self._board.update(
            "teacher",
            version=manifest.version,
            sha256=manifest.weights_sha256,
            created_at=manifest.created_at,
            newest_event_ms=int(newest * 1000) or None,
        )
        self._served = manifest
        if self._newest is not None and self._newest[0] == manifest.version:
            self.teacher_measured(self._newest[1])
        self._log.info("version_published", version=manifest.version)

    def rolled_back(self, rollback: Rollback, lineage: Lineage) -> None:
        """A new version with the weights of an old one is served."""
        self._metrics.rollbacks.labels(rollback.cause).inc()
        self._board.update_sections(self._standing(lineage))
        self._log.warning(
            "rolled_back",
            version=rollback.version,
            to=rollback.to,
            cause=rollback.cause,
            reason=rollback.reason,
        )

    def checkpointed(self, checkpoint: Checkpoint, size_bytes: int, seconds: float) -> None:
        """A checkpoint is durable."""
        metrics = self._metrics
        metrics.checkpoint_duration.set(seconds)
        metrics.checkpoint_size.set(size_bytes)
        metrics.checkpoint_success.set(self._now())
        self._board.update(
            "checkpoint",
            at=self.timestamp(),
            task=checkpoint.task,
            step=checkpoint.step,
            error=None,
        )
        self._log.debug("checkpoint_written", task=checkpoint.task, step=checkpoint.step)

    def checkpoint_failed(self, error: StateError) -> None:
        """A checkpoint inside a task could not be written; the task goes on."""
        self._metrics.checkpoint_failures.inc()
        self._board.update("checkpoint", error=error.reason)
        self._log.error("checkpoint_failed", path=str(error.path), error=error.reason)

    def _age(self, manifest: Manifest) -> float:
        return max(0.0, self._now() - datetime.fromisoformat(manifest.created_at).timestamp())
