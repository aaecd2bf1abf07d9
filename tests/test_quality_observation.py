"""Quality beyond accuracy: calibration, and a bounded number of classes."""

import numpy as np
import pytest

from teacherd.daemon.metrics import Metrics
from teacherd.daemon.quality_observation import QualityObservation
from teacherd.models.backbone import BackboneConfig
from teacherd.models.design import Design
from teacherd.models.evaluation import Evaluation
from teacherd.models.preprocessing import Preprocessing


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


def design(*classes: str, increments: tuple[int, ...] | None = None) -> Design:
    """Return that of a teacher with these classes."""
    return Design(
        architecture=BackboneConfig(name="mlp", input_shape=(1,)),
        classes=classes,
        increments=increments,
        preprocessing=Preprocessing(mean=(0.0,), std=(1.0,), scale=1),
    )


def test_classes_that_came_later_are_a_group_of_their_own() -> None:
    """Two groups, however many classes there are; each class counts as much as another."""
    metrics = Metrics()
    quality = QualityObservation(metrics, num_classes=0)
    named = design("a", "b", "c", "d", increments=(2, 1, 1))
    status = quality.measured({"test": evaluation(0.8, None, 0.5, 0.1)}, named)

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(f"teacherd_{name}", labels)

    assert {"first": 0.8, "later": 0.3} == status["class_groups"]["test"]
    assert 0.3 == value("class_group_accuracy_ratio", split="test", group="later")
    assert 2.0 == value("teacher_classes", group="first") == value("teacher_classes", group="later")


def test_the_worst_classes_are_exported_and_no_more() -> None:
    """However many there are; one that was among them before is gone."""
    metrics = Metrics()
    named = design(*(f"c{number}" for number in range(1000)))
    quality = QualityObservation(metrics, num_classes=2)
    quality.measured({"test": evaluation(0.1, 0.2, None, *[0.9] * 997)}, named)
    status = quality.measured({"test": evaluation(0.8, 0.2, 0.0, *[0.9] * 997)}, named)
    (family,) = metrics.class_accuracy.collect()
    found = {sample.labels["class"]: sample.value for sample in family.samples}

    assert {"c2": 0.0, "c1": 0.2} == found == status["worst_classes"]["test"]


def test_the_calibration_error_is_told() -> None:
    """Sure, and wrong in one of four."""
    metrics = Metrics()
    quality = QualityObservation(metrics, num_classes=0)
    status = quality.measured({"test": evaluation(0.75)}, design("a"))
    value = metrics.registry.get_sample_value("teacherd_calibration_error_ratio", {"split": "test"})

    assert pytest.approx(0.25) == value == status["calibration_error"]["test"]
    assert {} == status["worst_classes"]["test"]
