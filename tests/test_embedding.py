"""Embeddings: what the last layer reads, whatever the network; the network stays as it is."""

import numpy as np
import torch
from torch import Tensor, nn

from teacherd.models.embedding import Embedder
from teacherd.models.preprocessing import Preprocessing
from teacherd.models.small_networks import Mlp, SmallCnn

CPU = torch.device("cpu")


def embedder(network: nn.Module, num_channels: int) -> Embedder:
    """Return one without normalisation, in batches of four."""
    preprocessing = Preprocessing(mean=(0.0,) * num_channels, std=(1.0,) * num_channels, scale=1)
    return Embedder(network, preprocessing=preprocessing, device=CPU, batch_size=4)


def test_it_is_what_the_last_layer_reads() -> None:
    """The head of it gives the logits."""
    network = Mlp(input_shape=(3,), num_classes=5, width=7, depth=2).eval()
    inputs = np.random.default_rng(0).standard_normal((10, 3)).astype(np.float32)
    embedding = embedder(network, 3).embed(inputs)

    assert (10, 7) == embedding.shape
    with torch.no_grad():
        torch.testing.assert_close(network(torch.from_numpy(inputs)), network.head(embedding))


def test_a_network_that_ends_in_no_linear_layer_is_embedded_by_its_logits() -> None:
    """Also one whose linear layer makes something else on the way."""

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(3, 6)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.first(inputs)[:, :2] * 2

    inputs = np.ones((3, 3), dtype=np.float32)
    network = Odd()

    with torch.no_grad():
        expected = network(torch.from_numpy(inputs))
    torch.testing.assert_close(expected, embedder(network, 3).embed(inputs))


def test_the_network_stays_as_it_is() -> None:
    """No hook stays, no mode and no statistic changes; each batch is told."""
    network = SmallCnn(input_shape=(1, 8, 8), num_classes=3, width=2)
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    batches: list[None] = []
    images = np.random.default_rng(0).integers(0, 256, (9, 1, 8, 8), dtype=np.uint8)
    embedding = embedder(network, 1).embed(images, on_batch=lambda: batches.append(None))

    assert (9, 8) == embedding.shape
    assert 3 == len(batches)
    assert all(module.training for module in network.modules())
    assert all(not module._forward_hooks for module in network.modules())
    for name, value in network.state_dict().items():
        torch.testing.assert_close(before[name], value)
