"""Quality beyond accuracy: calibration, and a bounded number of classes."""

import numpy as np
import pytest

from teacherd.daemon.metrics import Metrics
from teacherd.daemon.quality_observation import QualityObservation
from teacherd.models.evaluation import Evaluation


def evaluation(*per_class: float | None) -> Evaluation:
    """Return one that is always sure, and right three times in four."""
    correct = np.array([True, True, True, False])
    return Evaluation(
        num_instances=4,
        accuracy=0.75,
        loss=1.0,
        per_class_accuracy=per_class,
        correct=correct,
        confidence=np.ones(4, dtype=np.float32),
    )


def test_the_worst_classes_are_exported_and_no_more() -> None:
    """However many there are; one that was among them before is gone."""
    metrics = Metrics()
    classes = [f"c{number}" for number in range(1000)]
    quality = QualityObservation(metrics, classes=classes, num_classes=2)
    quality.measured({"test": evaluation(0.1, 0.2, None, *[0.9] * 997)})
    status = quality.measured({"test": evaluation(0.8, 0.2, 0.0, *[0.9] * 997)})
    (family,) = metrics.class_accuracy.collect()
    found = {sample.labels["class"]: sample.value for sample in family.samples}

    assert {"c2": 0.0, "c1": 0.2} == found == status["worst_classes"]["test"]


def test_the_calibration_error_is_told() -> None:
    """Sure, and wrong in one of four."""
    metrics = Metrics()
    quality = QualityObservation(metrics, classes=["a"], num_classes=0)
    status = quality.measured({"test": evaluation(0.75)})
    value = metrics.registry.get_sample_value("teacherd_calibration_error_ratio", {"split": "test"})

    assert pytest.approx(0.25) == value == status["calibration_error"]["test"]
    assert {} == status["worst_classes"]["test"]
