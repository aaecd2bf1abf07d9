"""Tests of evaluation against plain counting."""

import math

import numpy as np
import pytest
import torch
from tiny_networks import (
    FEATURE_PREPROCESSING,
    IMAGE_PREPROCESSING,
    build_tiny_cnn,
    build_tiny_linear,
    feature_task,
    image_task,
)
from torch import Tensor, nn

from teacherd.models.evaluation import Evaluation, evaluate
from teacherd.models.task import Task

CPU = torch.device("cpu")


def evaluate_tiny(network: nn.Module, task: Task, batch_size: int = 256) -> Evaluation:
    """Evaluate a network of images on a task."""
    return evaluate(
        network,
        task.inputs,
        task.labels,
        preprocessing=IMAGE_PREPROCESSING,
        device=CPU,
        batch_size=batch_size,
    )


@pytest.mark.parametrize("batch_size", [1, 7, 256])
def test_an_evaluation_is_what_counting_one_by_one_gives(batch_size: int) -> None:
    """Accuracy, loss and accuracy by class, whatever the batches; a class without instances."""
    network, task = build_tiny_cnn().eval(), image_task(30)
    task.labels[task.labels == 1] = 0
    hits: dict[int, list[bool]] = {0: [], 1: [], 2: []}
    losses = []
    for image, label in zip(task.inputs, task.labels.tolist(), strict=True):
        inputs = (torch.from_numpy(image[None]).float() / 255 - 0.5) / 0.3
        logits = network(inputs)[0].tolist()
        hits[label].append(logits.index(max(logits)) == label)
        losses.append(math.log(sum(map(math.exp, logits))) - logits[label])
    found = evaluate_tiny(network, task, batch_size)

    everyone = [hit for each in hits.values() for hit in each]
    assert 30 == found.num_instances
    assert sum(everyone) / 30 == pytest.approx(found.accuracy)
    assert sum(losses) / 30 == pytest.approx(found.loss, rel=1e-5)
    by_class = [sum(each) / len(each) if each else None for each in hits.values()]
    assert by_class == [share and pytest.approx(share) for share in found.per_class_accuracy]


def test_a_network_is_left_in_the_modes_it_was_in() -> None:
    """A student in training, its BatchNorm frozen, is the same afterwards: modes and statistics."""
    network = build_tiny_cnn(dropout=0.5).train()
    network.norm.eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    first = evaluate_tiny(network, image_task(20))
    second = evaluate_tiny(network, image_task(20))

    assert (first.accuracy, first.loss) == (second.accuracy, second.loss)
    assert first.correct.tolist() == second.correct.tolist()
    assert first.confidence.tolist() == second.confidence.tolist()
    assert (True, False, True) == (network.training, network.norm.training, network.head.training)
    assert all(torch.equal(before[name], now) for name, now in network.state_dict().items())


def test_what_a_network_caches_meanwhile_can_be_trained_on_later() -> None:
    """Evaluation uses no inference mode: its tensors may end up inside the network."""

    class Caching(nn.Linear):
        scale: Tensor | None = None

        def forward(self, inputs: Tensor) -> Tensor:
            if self.scale is None:
                self.scale = torch.ones(self.out_features)
            return super().forward(inputs) * self.scale

    network, task = Caching(4, 3), feature_task(5)
    evaluate(network, task.inputs, task.labels, preprocessing=FEATURE_PREPROCESSING, device=CPU)
    network(torch.from_numpy(task.inputs)).sum().backward()

    assert network.weight.grad is not None


def test_read_only_inputs_can_be_evaluated() -> None:
    """Arrays that came from a file or a message are often read-only; no warning, no copy back."""
    task = feature_task(5)
    task.inputs.flags.writeable = False
    found = evaluate(
        build_tiny_linear(),
        task.inputs,
        task.labels,
        preprocessing=FEATURE_PREPROCESSING,
        device=CPU,
    )

    assert 5 == found.num_instances


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_no_class_has_is_refused(label: int) -> None:
    """It is named, on every device, before the loss would read beside the logits."""
    task = image_task(3)
    task.labels[1] = label
    with pytest.raises(ValueError, match=f"labels: {label}: the network knows classes 0 to 2"):
        evaluate_tiny(build_tiny_cnn(), task)


def test_nothing_cannot_be_measured() -> None:
    """An empty set has no accuracy: an error rather than a NaN."""
    with pytest.raises(ValueError, match="inputs: no instance"):
        evaluate(
            build_tiny_linear(),
            np.zeros((0, 4), dtype=np.float32),
            np.zeros(0, dtype=np.int64),
            preprocessing=FEATURE_PREPROCESSING,
            device=CPU,
        )
