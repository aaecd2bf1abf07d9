"""Torchvision's own networks beside ours of the same name: told apart before it is too late."""

import pytest
import torch

from teacherd.daemon.plain_twin import build_plain_twin
from teacherd.models.backbone import BackboneConfig, build_backbone

SMALL = (3, 32, 32)
LARGE = (3, 224, 224)


def test_weights_of_the_plain_network_are_recognised() -> None:
    """By all names and shapes: with another class less they are not."""
    twin = build_plain_twin(BackboneConfig(name="squeezenet1_1", input_shape=LARGE), num_classes=3)
    assert twin is not None
    state = dict(twin.network.state_dict())

    assert "torchvision.models:squeezenet1_1" == twin.name
    assert twin.takes(state)
    assert not twin.takes({**state, "classifier.1.bias": torch.zeros(2)})
    assert not twin.takes({**state, "more": torch.zeros(2)})
    assert not twin.takes({name: each for name, each in state.items() if name[-4:] != "bias"})


@pytest.mark.parametrize(("shape", "is_adapted"), [(SMALL, True), (LARGE, False)])
def test_the_same_weights_in_another_network_are_noted(
    shape: tuple[int, ...], is_adapted: bool
) -> None:
    """On small images only strides differ, and nothing else would tell."""
    config = BackboneConfig(name="mobilenet_v3_small", input_shape=shape)
    twin = build_plain_twin(config, num_classes=3)
    assert twin is not None

    note = twin.compare(build_backbone(config, num_classes=3))

    assert is_adapted == (note is not None and "torchvision.models:mobilenet_v3_small" in note)


def test_weights_that_do_not_fit_the_plain_network_need_no_note() -> None:
    """The stem of a small resnet is of another shape: those who have such weights know."""
    config = BackboneConfig(name="resnet18", input_shape=SMALL)
    twin = build_plain_twin(config, num_classes=3)
    assert twin is not None

    assert twin.compare(build_backbone(config, num_classes=3)) is None


@pytest.mark.parametrize("name", ["small_cnn", "mlp", "torchvision.models:resnet18", "my.nets:net"])
def test_other_networks_have_no_twin(name: str) -> None:
    """Only torchvision's are adapted, and only under their bare names."""
    assert build_plain_twin(BackboneConfig(name=name, input_shape=SMALL), num_classes=3) is None


def test_there_is_no_twin_where_torchvision_has_no_such_network() -> None:
    """Of one channel: nobody has trained torchvision's own on that."""
    config = BackboneConfig(name="squeezenet1_1", input_shape=(1, 32, 32))

    assert build_plain_twin(config, num_classes=3) is None
