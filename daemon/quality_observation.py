"""Tells people how well the teacher does beyond its accuracy: confidence, and its worst classes."""

from collections.abc import Mapping, Sequence
from typing import Any

from teacherd.daemon.metrics import Metrics
from teacherd.daemon.task_matrix import TaskMatrix
from teacherd.models.calibration_error import expected_calibration_error
from teacherd.models.evaluation import Evaluation


class QualityObservation:
    """Bounded: of each set the calibration error and at most so many classes, the worst ones.

    Args:
        classes: Names, in the order of the labels.
        num_classes: How many of them are shown.
    """

    def __init__(self, metrics: Metrics, *, classes: Sequence[str], num_classes: int) -> None:
        self._metrics = metrics
        self._classes = classes
        self._num_classes = num_classes

    def measured(self, evaluations: Mapping[str, Evaluation]) -> dict[str, Any]:
        """Set the metrics to what was measured; return the same for the status."""
        self._metrics.class_accuracy.clear()
        errors, worst = {}, {}
        for name, evaluation in evaluations.items():
            errors[name] = expected_calibration_error(evaluation.confidence, evaluation.correct)
            self._metrics.calibration_error.labels(name).set(errors[name])
            worst[name] = self._worst(evaluation)
            for class_name, accuracy in worst[name].items():
                self._metrics.class_accuracy.labels(name, class_name).set(accuracy)
        return {"calibration_error": errors, "worst_classes": worst}

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

    def _worst(self, evaluation: Evaluation) -> dict[str, float]:
        known = [
            (accuracy, place)
            for place, accuracy in enumerate(evaluation.per_class_accuracy)
            if accuracy is not None
        ]
        return {
            self._classes[place]: accuracy for accuracy, place in sorted(known)[: self._num_classes]
        }
