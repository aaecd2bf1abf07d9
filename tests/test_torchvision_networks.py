"""Every torchvision classifier on small images, built without computing anything (meta device)."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.models import regnet

from teacherd.models.backbone import BackboneConfig, build_backbone
from teacherd.models.torchvision_networks import build_torchvision_network, torchvision_names

ONE_PER_FAMILY = {
    "alexnet",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "efficientnet_v2_s",
    "googlenet",
    "inception_v3",
    "maxvit_t",
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "regnet_x_400mf",
    "regnet_y_400mf",
    "resnet18",
    "resnet50",
    "resnext50_32x4d",
    "shufflenet_v2_x0_5",
    "squeezenet1_0",
    "squeezenet1_1",
    "swin_t",
    "swin_v2_t",
    "vgg11",
    "vgg11_bn",
    "vit_b_16",
    "vit_h_14",
    "wide_resnet50_2",
}
NAMES = [
    pytest.param(name, marks=() if name in ONE_PER_FAMILY else pytest.mark.slow)
    for name in torchvision_names()
]


def build(name: str, input_shape: tuple[int, ...]) -> nn.Module:
    """Build as the daemon does; `build_backbone` itself checks logits of [2, 7]."""
    return build_backbone(BackboneConfig(name=name, input_shape=input_shape), num_classes=7)


@pytest.fixture(autouse=True)
def _regnet_counts_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """RegNet works out its widths with tensors and needs their values: not on the meta device."""
    on_default_device: Callable[..., object] = regnet.BlockParams.from_init_params

    def on_cpu(**arguments: object) -> object:
        with torch.device("cpu"):
            return on_default_device(**arguments)

    monkeypatch.setattr(regnet.BlockParams, "from_init_params", on_cpu)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("input_shape", [(1, 32, 32), (3, 64, 64)])
def test_every_classifier_takes_small_and_one_channel_images(
    name: str, input_shape: tuple[int, ...]
) -> None:
    """Each name builds and gives seven logits, on tiny grey images and on small colour ones."""
    with torch.device("meta"):
        network = build(name, input_shape)
        logits = network.eval()(torch.empty(2, *input_shape))

    assert (2, 7) == logits.shape


def test_the_list_of_families_is_not_out_of_date() -> None:
    """A family named here that torchvision no longer has would silently test nothing."""
    assert set() == ONE_PER_FAMILY - set(torchvision_names())


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "regnet_x_400mf", "swin_t"])
def test_halvings_are_undone_so_that_a_small_image_keeps_a_last_map_of_four(name: str) -> None:
    """On 32x32 the last feature map is 4x4, as with the CIFAR stem; as built it would be 1x1."""
    sides: list[int] = []
    with torch.device("meta"):
        network = build_torchvision_network(name, input_shape=(3, 32, 32), num_classes=7).eval()
        for layer in network.modules():
            if isinstance(layer, nn.AdaptiveAvgPool2d) and layer.output_size in (1, (1, 1)):
                layer.register_forward_pre_hook(lambda _, args: sides.append(args[0].shape[-1]))
        network(torch.empty(2, 3, 32, 32))

    assert 4 == sides[-1]


def test_a_resnet_on_small_images_gets_the_cifar_stem() -> None:
    """3x3 without stride and no max-pooling."""
    with torch.device("meta"):
        network = build_torchvision_network("resnet18", input_shape=(1, 28, 28), num_classes=7)

    assert (1, 64, (3, 3), (1, 1)) == (
        network.conv1.in_channels,
        network.conv1.out_channels,
        network.conv1.kernel_size,
        network.conv1.stride,
    )
    assert isinstance(network.maxpool, nn.Identity)


def test_on_large_colour_images_a_network_is_exactly_torchvisions() -> None:
    """224x224 with three channels needs no adaptation: same layers, same shapes."""
    with torch.device("meta"):
        adapted = build_torchvision_network("resnet18", input_shape=(3, 224, 224), num_classes=7)
        original = models.resnet18(num_classes=7)

    assert str(original) == str(adapted)


@pytest.mark.parametrize(
    ("name", "input_shape", "reason"),
    [
        ("vit_b_16", (3, 40, 56), "square"),
        ("maxvit_t", (3, 28, 28), "2 to 7 times 16"),
        ("maxvit_t", (3, 176, 176), "2 to 7 times 32"),
        ("inception_v3", (3, 16, 16), "fails on such inputs"),
        ("alexnet", (1, 8, 8), "fails on such inputs"),
    ],
)
def test_images_that_a_network_cannot_take_are_refused_with_the_reason(
    name: str, input_shape: tuple[int, ...], reason: str
) -> None:
    """The message says why and names the key."""
    with torch.device("meta"), pytest.raises(ValueError, match=reason) as raised:
        build(name, input_shape)

    assert "input_shape" in str(raised.value)
    assert name in str(raised.value)
