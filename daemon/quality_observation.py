"""Tells people how well the teacher does beyond its accuracy: confidence, and its worst classes."""

from collections.abc import Mapping, Sequence
from typing import Any

from teacherd.daemon.metrics import Metrics
from teacherd.daemon.task_matrix import TaskMatrix
from teacherd.models.calibration_error import expected_calibration_error
from teacherd.models.design import Design
from teacherd.models.evaluation import Evaluation


class QualityObservation:
    """Bounded: of each set the calibration error and at most so many classes, the worst ones.

    Args:
        num_classes: How many of them are shown.
    """

    def __init__(self, metrics: Metrics, *, num_classes: int) -> None:
        self._metrics = metrics
        self._num_classes = num_classes

    def measured(self, evaluations: Mapping[str, Evaluation], design: Design) -> dict[str, Any]:
        """Set the metrics to what was measured; return the same for the status.

        Args:
            evaluations: Of the served version, by evaluation set.
            design: Its own.
        """
        self._metrics.class_accuracy.clear()
        self._metrics.class_group_accuracy.clear()
        num_first = design.increments[0] if design.increments else len(design.classes)
        self._metrics.teacher_classes.labels("first").set(num_first)
        self._metrics.teacher_classes.labels("later").set(len(design.classes) - num_first)
        errors, worst, groups = {}, {}, {}
        for name, evaluation in evaluations.items():
            errors[name] = expected_calibration_error(evaluation.confidence, evaluation.correct)
            self._metrics.calibration_error.labels(name).set(errors[name])
            worst[name] = self._worst(evaluation, design.classes)
            accuracies = evaluation.per_class_accuracy[: len(design.classes)]
            groups[name] = _by_group(accuracies, num_first)
            for group, accuracy in groups[name].items():
                self._metrics.class_group_accuracy.labels(name, group).set(accuracy)
            for class_name, accuracy in worst[name].items():
                self._metrics.class_accuracy.labels(name, class_name).set(accuracy)
        return {"calibration_error": errors, "worst_classes": worst, "class_groups": groups}

    def of_tasks(self, matrix: TaskMatrix) -> dict[str, Any]:
        """Set the metrics to what became of earlier tasks; return the same for the status."""
        forgetting, transfer = matrix.mean_forgetting, matrix.backward_transfer
        if forgetting is not None:
            self._metrics.forgetting.labels("holdout_tasks").set(forgetting)
        if transfer is not None:
            self._metrics.backward_transfer.set(transfer)
        return {
            "backward_transfer": transfer,
            "task_forgetting": {str(task): lost for task, lost in matrix.forgetting.items()},
        }

    def _worst(self, evaluation: Evaluation, classes: Sequence[str]) -> dict[str, float]:
        known = [
            (accuracy, place)
            for place, accuracy in enumerate(evaluation.per_class_accuracy[: len(classes)])
            if accuracy is not None
        ]
        return {classes[place]: accuracy for accuracy, place in sorted(known)[: self._num_classes]}


def _by_group(accuracies: Sequence[float | None], num_first: int) -> dict[str, float]:
    """Return the mean accuracy of version 0's classes and of those that came later, where known."""
    groups = {"first": accuracies[:num_first], "later": accuracies[num_first:]}
    known = {group: [each for each in its if each is not None] for group, its in groups.items()}
    return {group: sum(its) / len(its) for group, its in known.items() if its}
