"""Every metric that the daemon exports, declared once, and the small pieces that set them.

Base units, no ids in labels; docs/metrics.md says what each means to an operator.
"""

import contextlib
from collections.abc import Iterable
from importlib.metadata import version
from typing import get_args, get_type_hints

import torch
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from teacherd.consumers.instance import REASONS
from teacherd.consumers.record import OffsetRange
from teacherd.consumers.source import LossKind
from teacherd.daemon.drift_history import DETECTORS
from teacherd.daemon.entries import Outcome, Rollback
from teacherd.daemon.notifications import RECEIVERS

PARTITION = ("topic", "partition")
_TASK_BUCKETS = (1, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000)
_STEP_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3)
_DURATION_BUCKETS = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3600)


class Metrics:
    """The daemon's metrics on a registry of their own, so that two daemons can live in a test."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._declare_intake()
        self._declare_tasks()
        self._declare_learning()
        self._declare_quality()
        self._declare_classes()
        self._declare_drift()
        self._declare_publishing()
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """Export what has few and fixed labels from the start.

        Prometheus sees no increase in a series that begins with its first event: an alert on it
        would miss just the first one.
        """
        for reason in REASONS:
            self.records_rejected.labels(reason)
            self.dead_letters.labels(reason)
        for kind in get_args(LossKind):
            self.records_lost.labels(kind)
        for cause in get_args(get_type_hints(Rollback)["cause"]):
            self.rollbacks.labels(cause)
        for outcome in get_args(get_type_hints(Outcome)["result"]):
            self.tasks.labels(outcome)
        for detector in DETECTORS:
            self.drift_detected.labels(detector)
        for receiver in RECEIVERS:
            for result in ("delivered", "retried", "failed", "dropped"):
                self.notifications.labels(receiver, result)

    def count_lost(self, reason: str, lost: OffsetRange) -> None:
        """Count the offsets of a range that is gone; one of a log that was cut back runs back."""
        self.records_lost.labels(reason).inc(abs(lost.end - lost.start))

    def forget_partition(self, topic: str, number: int) -> None:
        """Take away the series of a partition that is not read any more."""
        for metric in (self.records_consumed, self.lag_records, self.partition_stalled):
            # It may never have had one of them.
            with contextlib.suppress(KeyError):
                metric.remove(topic, str(number))

    def exposition(self) -> bytes:
        """Return all of it in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, labels: Iterable[str] = ()) -> Counter:
        return Counter(f"teacherd_{name}", text, tuple(labels), registry=self.registry)

    def _gauge(self, name: str, text: str, labels: Iterable[str] = ()) -> Gauge:
        return Gauge(f"teacherd_{name}", text, tuple(labels), registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Iterable[float]) -> Histogram:
        return Histogram(f"teacherd_{name}", text, buckets=tuple(buckets), registry=self.registry)

    def _declare_intake(self) -> None:
        counter, gauge = self._counter, self._gauge
        self.records_consumed = counter(
            "records_consumed_total", "Records read from the source.", PARTITION
        )
        self.record_bytes = counter("record_bytes_total", "Bytes of the values of records read.")
        self.records_rejected = counter(
            "records_rejected_total", "Records that were no instance.", ["reason"]
        )
        self.dead_letters = counter(
            "dead_letters_total", "Records written to the dead letters.", ["reason"]
        )
        self.large_dead_letters = counter(
            "dead_letters_too_large_total",
            "Dead letters that their topic refused for their size, kept in the state directory.",
        )
        self.lag_records = gauge(
            "consumer_lag_records", "Records of the partition not read yet.", PARTITION
        )
        self.lag_seconds = gauge(
            "consumer_lag_seconds", "Age of the oldest record not decided yet; 0 when all are."
        )
        self.retention_margin = gauge(
            "retention_margin_seconds",
            "Until the oldest record not decided yet is deleted; infinite where that never is.",
        )
        self.intake_paused = gauge(
            "intake_paused", "1 while the buffer is full and nothing is read."
        )
        self.instances_posted = counter(
            "posted_instances_total", "Instances appended to the stream by POST /v1/instances."
        )
        self.post_requests = counter(
            "post_requests_total", "Requests of POST /v1/instances by status code.", ["code"]
        )
        self.source_failures = counter(
            "source_failures_total", "Polls of the source that failed and were tried again."
        )
        self.partition_stalled = gauge(
            "partition_stalled",
            "1 if the partition has records and is asked for them, but has given none for long.",
            PARTITION,
        )
        self.records_lost = counter(
            "records_lost_total", "Records that were gone before they were learned.", ["reason"]
        )
        self.commit_failures = counter(
            "commit_failures_total",
            "Times that the source did not note how far records are decided; tried again.",
            ["error"],
        )
        self.last_poll = gauge(
            "last_poll_timestamp_seconds", "When the source last answered a poll."
        )

    def _declare_tasks(self) -> None:
        counter, gauge = self._counter, self._gauge
        self.buffer_records = gauge("buffer_records", "Records in the task buffer.")
        self.buffer_capacity = gauge("buffer_capacity_records", "Records that the buffer can hold.")
        self.buffer_bytes = gauge("buffer_bytes", "Bytes of the decoded instances in the buffer.")
        self.ranks = gauge("ranks", "Processes that learn together; 1 is one by itself.")
        self.ranks.set(1)
        self.rank_buffer_records = gauge(
            "rank_buffer_records", "Records in the task buffer of a rank from 1 on.", ["rank"]
        )
        self.task_records = self._histogram("task_records", "Records per task.", _TASK_BUCKETS)
        self.tasks = counter("tasks_total", "Tasks by what became of them.", ["outcome"])
        self.retries = counter("task_retries_total", "Tasks that were tried again.", ["cause"])
        self.quarantined = gauge(
            "quarantined_tasks", "Tasks whose records wait in quarantine for somebody to look."
        )
        self.task_trigger = counter("task_trigger_total", "Tasks by why they were cut.", ["cause"])

    def _declare_learning(self) -> None:
        counter, gauge = self._counter, self._gauge
        self.step_duration = self._histogram(
            "train_step_duration_seconds", "Duration of one optimizer step.", _STEP_BUCKETS
        )
        self.task_duration = self._histogram(
            "task_duration_seconds", "From plan to decided outcome.", _DURATION_BUCKETS
        )
        self.task_epochs = gauge("task_epochs", "Passes over the task planned last.")
        self.learning_headroom = gauge(
            "learning_headroom_ratio",
            "Rate at which records are learned / rate at which they arrive; infinite if unknown.",
        )
        self.task_progress = gauge(
            "task_progress_ratio", "Share of the running task's steps that are done; 0 between."
        )
        self.instances_learned = counter(
            "instances_learned_total", "Instances of accepted tasks, in the life of the process."
        )
        self.loss = gauge("loss", "Mean over the last epoch of the last task.", ["component"])
        self.nonfinite_losses = counter(
            "nonfinite_losses_total", "Steps that were not taken because of NaN or infinity."
        )
        self.gpu_memory = gauge("gpu_memory_bytes", "Memory allocated on the device; 0 on a CPU.")
        self.consolidations = counter("consolidations_total", "Times the teacher was consolidated.")
        self.teacher_retain = gauge(
            "teacher_retain_ratio", "Share of the old teacher left after the last task."
        )

    def _declare_quality(self) -> None:
        gauge = self._gauge
        self.accuracy = gauge(
            "accuracy_ratio", "Accuracy on an evaluation set.", ["split", "model"]
        )
        self.forgetting = gauge(
            "forgetting_ratio",
            "Accuracy of version 0 on the evaluation set less that of the teacher.",
            ["holdout"],
        )
        self.calibration_error = gauge(
            "calibration_error_ratio",
            "Mean distance of the teacher's confidence from its accuracy.",
            ["split"],
        )
        self.class_accuracy = gauge(
            "class_accuracy_ratio",
            "Accuracy of the teacher on the classes where it is worst.",
            ["split", "class"],
        )
        self.promotion = gauge(
            "performance_promotion_ratio",
            "Accuracy of the teacher less that of version 0 on the evaluation set.",
            ["holdout"],
        )
        self.backward_transfer = gauge(
            "backward_transfer_ratio",
            "Mean change of the accuracy on what earlier tasks held out since each was learned.",
        )
        self.outer = gauge(
            "outer_ratio", "Share of the last task that the teacher got wrong before learning it."
        )

    def _declare_classes(self) -> None:
        gauge = self._gauge
        self.teacher_classes = gauge(
            "teacher_classes",
            "Classes of the served teacher: version 0's, and later ones.",
            ["group"],
        )
        self.class_group_accuracy = gauge(
            "class_group_accuracy_ratio",
            "Mean accuracy of the teacher over version 0's classes, and over later ones.",
            ["split", "group"],
        )
        self.classes_added = self._counter(
            "classes_added_total", "Classes that accepted tasks have brought."
        )
        self.records_deferred = self._counter(
            "records_deferred_total",
            "Records that plans have deferred: their label is no class yet.",
        )
        self.deferred_records = gauge(
            "deferred_records", "Records that wait for their label to become a class."
        )
        self.deferred_bytes = gauge("deferred_bytes", "What they take on the disk.")
        self.deferred_labels = gauge("deferred_labels", "Different labels that they have.")
        self.memory_instances = gauge(
            "rehearsal_memory_instances",
            "Instances of version 0's classes, and of later ones, that are learned again.",
            ["group"],
        )
        self.memory_bytes = gauge("rehearsal_memory_bytes", "What their inputs take.")

    def _declare_drift(self) -> None:
        gauge, detector = self._gauge, ["detector"]
        self.drift_score = gauge("drift_score", "The detector's statistic.", detector)
        self.drift_threshold = gauge("drift_threshold", "Above it there is an alarm.", detector)
        self.drift_detected = self._counter(
            "drift_detected_total", "Tasks that alarmed the detector.", detector
        )
        self.drift_last_alarm = gauge(
            "drift_last_alarm_timestamp_seconds",
            "Event time of the newest instance of the last task that alarmed the detector.",
            detector,
        )

    def _declare_publishing(self) -> None:
        counter, gauge = self._counter, self._gauge
        self.teacher_version = gauge("teacher_version", "The version that is served.")
        self.teacher_info = gauge(
            "teacher_info", "1 for the served version.", ["version", "sha256", "architecture"]
        )
        self.teacher_age = gauge("teacher_age_seconds", "Since the served version was published.")
        self.freshness = gauge(
            "freshness_seconds",
            "From the event time of the newest instance that the served teacher learned, to now.",
        )
        self.promotions = counter(
            "promotions_total", "Candidates: published, accepted without that, or held.", ["result"]
        )
        self.gate_checks = counter(
            "gate_checks_total", "Checks of the gate by what they found.", ["gate", "result"]
        )
        self.rollbacks = counter("rollbacks_total", "Rollbacks by who wanted them.", ["cause"])
        self.gate_drifts = counter(
            "gate_drifts_total", "Drifts of the concept that retired holdouts."
        )
        self.checkpoint_duration = gauge(
            "checkpoint_duration_seconds", "How long the last checkpoint took."
        )
        self.checkpoint_size = gauge("checkpoint_size_bytes", "Size of the last checkpoint.")
        self.checkpoint_success = gauge(
            "checkpoint_last_success_timestamp_seconds", "When the last checkpoint was durable."
        )
        self.checkpoint_failures = counter(
            "checkpoint_failures_total", "Checkpoints that could not be written."
        )
        self.mirror_version = gauge(
            "mirror_version", "The version that a mirror serves.", ["mirror"]
        )
        self.mirror_failures = counter(
            "mirror_failures_total",
            "Attempts to update a mirror that failed.",
            ["mirror", "reason"],
        )
        self.notifications = counter(
            "notifications_total",
            "Attempts to tell a receiver of a decision, and decisions that it was not told of.",
            ["receiver", "result"],
        )
        self.mirror_success = gauge(
            "mirror_last_success_timestamp_seconds",
            "When a mirror last held all that it should.",
            ["mirror"],
        )
        build_info = gauge("build_info", "1.", ["version", "torch", "cuda"])
        build_info.labels(version("teacherd"), torch.__version__, torch.version.cuda or "").set(1)
        self.build_info = build_info
        self.reload_successful = gauge(
            "config_last_reload_successful", "1 if the last configuration read was taken over."
        )
