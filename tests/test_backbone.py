"""Backbones: built by name, tried at once, and refused with a fix."""

import sys
import types

import pytest
import torch
from torch import Tensor, nn

from teacherd.models.backbone import BackboneConfig, build_backbone, is_own_code


class Doubled(nn.Module):
    """A user's network that gives two outputs."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(3, num_classes)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and something else."""
        return self.layer(inputs), inputs


@pytest.fixture
def own_module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Put a module of the user's own on the import path."""
    module = types.ModuleType("own_networks")
    module.linear = lambda num_classes, bias=True: nn.Linear(3, num_classes, bias=bias)
    module.doubled = Doubled
    module.too_many = lambda num_classes: nn.Linear(3, num_classes + 1)
    module.nothing = lambda num_classes: [num_classes]
    module.constant = 3
    monkeypatch.setitem(sys.modules, "own_networks", module)
    return module


@pytest.mark.parametrize("side", [8, 9, 16, 28, 32, 48, 64])
@pytest.mark.parametrize("num_channels", [1, 3])
def test_small_cnn_learns_from_images_of_every_small_size(side: int, num_channels: int) -> None:
    """Logits have the right shape and every parameter gets a gradient."""
    config = BackboneConfig(name="small_cnn", input_shape=(num_channels, side, side))

    network = build_backbone(config, num_classes=5)
    logits = network(torch.randn(4, num_channels, side, side))
    logits.logsumexp(1).sum().backward()

    assert (4, 5) == logits.shape
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_mlp_takes_vectors_and_flattens_images() -> None:
    """One network serves both shapes, also in a batch of one in training mode."""
    for input_shape in [(6,), (1, 2, 3)]:
        config = BackboneConfig(name="mlp", input_shape=input_shape, arguments={"depth": 1})

        logits = build_backbone(config, num_classes=2).train()(torch.randn(1, *input_shape))

        assert (1, 2) == logits.shape


@pytest.mark.usefixtures("own_module")
def test_an_own_callable_is_called_with_classes_and_arguments() -> None:
    """package.module:callable builds the user's network."""
    config = BackboneConfig(name="own_networks:linear", input_shape=(3,), arguments={"bias": False})

    network = build_backbone(config, num_classes=4)

    assert (4, None) == (network.out_features, network.bias)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("small_cnn", False),
        ("resnet18", False),
        ("torchvision.models:resnet18", False),
        ("torchvision.models:get_model", True),
        ("torchvision.models.resnet:resnet18", True),
        ("os:system", True),
    ],
)
def test_only_names_that_run_foreign_code_count_as_own_code(name: str, *, expected: bool) -> None:
    """What torchvision lists as a classifier is as safe by import path as by name."""
    assert expected == is_own_code(BackboneConfig(name=name, input_shape=(3, 64, 64)))


def test_torchvisions_own_layout_is_to_be_had_by_import_path() -> None:
    """Weights that somebody trained with the plain network fit it, small images or not."""
    plain = BackboneConfig(name="torchvision.models:resnet18", input_shape=(3, 64, 64))

    network = build_backbone(plain, num_classes=4)

    assert (64, 3, 7, 7) == network.conv1.weight.shape


def test_a_given_factory_takes_the_place_of_the_name() -> None:
    """A process that has the callable at hand needs no import by name."""
    config = BackboneConfig(name="not_installed_here:linear", input_shape=(3,))

    network = build_backbone(
        config, num_classes=4, factory=lambda num_classes: nn.Linear(3, num_classes)
    )

    assert isinstance(network, nn.Linear)


def test_trying_a_network_leaves_no_trace_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modes, BatchNorm statistics and the random generator are as construction leaves them."""
    module = types.ModuleType("own_modes")

    def factory(num_classes: int) -> nn.Module:
        network = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(), nn.Linear(3, num_classes))
        network[0].eval()
        return network

    module.factory = factory
    monkeypatch.setitem(sys.modules, "own_modes", module)
    config = BackboneConfig(name="own_modes:factory", input_shape=(3,))

    torch.manual_seed(0)
    network = build_backbone(config, num_classes=2)
    after_build = torch.rand(())
    torch.manual_seed(0)
    factory(2)
    after_factory = torch.rand(())

    assert [True, False, True, True] == [layer.training for layer in network.modules()]
    assert 0 == network[0].num_batches_tracked
    assert after_factory == after_build


@pytest.mark.parametrize(
    ("name", "input_shape", "message"),
    [
        ("resnet81", (3, 32, 32), r"^name: resnet81: .*did you mean resnet18"),
        ("smal_cnn", (3, 32, 32), r"^name: smal_cnn: .*did you mean small_cnn"),
        ("qqqqqqqq", (3, 32, 32), r"^name: qqqqqqqq: .*small_cnn, mlp"),
        ("small_cnn", (4,), r"^input_shape: \(4,\): .*mlp"),
        ("resnet18", (4,), r"^input_shape: \(4,\): .*mlp"),
        ("small_cnn", (1, 3, 3), r"^input_shape: \(1, 3, 3\): small_cnn fails"),
        ("no_such_package:network", (3,), r"^name: no_such_package:network: cannot be imported"),
        ("own_networks:missing", (3,), r"^name: own_networks:missing: cannot be imported"),
        ("own_networks:constant", (3,), r"^name: own_networks:constant: is a int"),
        (":linear", (3,), r"^name: :linear: cannot be imported"),
        ("own_networks:doubled", (3,), r"^name: own_networks:doubled: gives tuple .*\(2, 5\)"),
        ("own_networks:too_many", (3,), r"^name: own_networks:too_many: gives \(2, 6\)"),
        ("own_networks:nothing", (3,), r"^name: own_networks:nothing: made a list"),
        ("own_networks:linear", (4,), r"^input_shape: \(4,\): own_networks:linear fails"),
    ],
)
@pytest.mark.usefixtures("own_module")
def test_what_cannot_be_built_is_refused_by_key_value_and_fix(
    name: str, input_shape: tuple[int, ...], message: str
) -> None:
    """Each error begins with the key and the value that are wrong."""
    config = BackboneConfig(name=name, input_shape=input_shape)

    with pytest.raises(ValueError, match=message):
        build_backbone(config, num_classes=5)


def test_unknown_arguments_are_refused() -> None:
    """A misspelt argument is not ignored."""
    config = BackboneConfig(name="small_cnn", input_shape=(1, 8, 8), arguments={"widht": 3})

    with pytest.raises(ValueError, match="widht"):
        build_backbone(config, num_classes=5)


def test_a_network_without_classes_is_refused() -> None:
    """Zero classes is a mistake upstream, not an empty tensor."""
    config = BackboneConfig(name="small_cnn", input_shape=(1, 8, 8))

    with pytest.raises(ValueError, match=r"^num_classes: 0"):
        build_backbone(config, num_classes=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "", "input_shape": (3,)}, r"^name: "),
        ({"name": "mlp", "input_shape": ()}, r"^input_shape: \(\)"),
        ({"name": "mlp", "input_shape": (3, 4)}, r"^input_shape: \(3, 4\)"),
        ({"name": "mlp", "input_shape": (0,)}, r"^input_shape: \(0,\)"),
        (
            {"name": "mlp", "input_shape": (3,), "arguments": {"weights": "DEFAULT"}},
            r"^arguments: weights",
        ),
        (
            {"name": "mlp", "input_shape": (3,), "arguments": {"pretrained": True}},
            r"^arguments: pretrained",
        ),
        (
            {"name": "mlp", "input_shape": (3,), "arguments": {"num_classes": 3}},
            r"^arguments: num_classes",
        ),
    ],
)
def test_bad_settings_are_refused_by_name(arguments: dict[str, object], message: str) -> None:
    """The error names the field, its value and what to do."""
    with pytest.raises(ValueError, match=message):
        BackboneConfig(**arguments)
