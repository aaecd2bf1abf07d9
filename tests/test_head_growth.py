"""Growing a head: old classes are answered as before, new ones get rows of their own."""

import pytest
import torch
from torch import Tensor, nn

from teacherd.models.backbone import BackboneConfig, build_backbone
from teacherd.models.head_growth import grow_head

NETWORKS = [
    BackboneConfig(name="mlp", input_shape=(6,)),
    BackboneConfig(name="small_cnn", input_shape=(3, 16, 16), arguments={"width": 4}),
    BackboneConfig(name="resnet18", input_shape=(3, 32, 32)),
    BackboneConfig(name="torchvision.models:mobilenet_v3_small", input_shape=(3, 32, 32)),
]


def built(config: BackboneConfig) -> nn.Module:
    """Return a network of four classes, in eval mode, its BatchNorm not as it was made."""
    torch.manual_seed(0)
    network = build_backbone(config, num_classes=4)
    network(torch.randn(8, *config.input_shape))
    return network.eval()


@pytest.mark.parametrize("config", NETWORKS, ids=lambda each: each.name)
def test_old_classes_are_answered_as_before(config: BackboneConfig) -> None:
    """To the last digits of another shape of the same product; new logits are finite."""
    network = built(config)
    inputs = torch.randn(5, *config.input_shape)
    grown = grow_head(network, config, num_classes=4, num_new=3, seed=1)

    assert (5, 7) == grown(inputs).shape
    torch.testing.assert_close(network(inputs), grown(inputs)[:, :4])
    assert torch.isfinite(grown(inputs)).all()
    assert not grown.training


def test_new_rows_follow_from_the_seed_alone() -> None:
    """So every restart and every rank grows the same head; nobody else's draws are disturbed."""
    config = NETWORKS[0]
    network = built(config)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, again, other = (
        grow_head(network, config, num_classes=4, num_new=2, seed=seed) for seed in (1, 1, 2)
    )

    def rows(grown: nn.Module) -> Tensor:
        return grown(torch.ones(1, 6))

    assert torch.equal(expected, torch.rand(3))
    assert torch.equal(rows(first), rows(again))
    assert not torch.equal(rows(first), rows(other))


class TiedHead(nn.Module):
    """Keeps its classes along the second axis."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, num_classes))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits."""
        return inputs @ self.weight


def test_a_network_without_rows_per_class_is_refused() -> None:
    """What cannot be taken over whole is not taken over in part."""
    config = BackboneConfig(name="somebody:else", input_shape=(6,))
    network = TiedHead(4)

    with pytest.raises(ValueError, match=r"somebody:else: weight is \(6, 4\) and \(6, 6\)"):
        grow_head(network, config, num_classes=4, num_new=2, seed=0, factory=TiedHead)


def test_nothing_to_grow_is_refused() -> None:
    """A caller without new classes keeps the network that it has."""
    with pytest.raises(ValueError, match="num_new: 0: must be at least 1"):
        grow_head(built(NETWORKS[0]), NETWORKS[0], num_classes=4, num_new=0, seed=0)
