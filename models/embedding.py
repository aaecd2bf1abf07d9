"""What a network makes of an input before it decides: the vector that its last layer reads.

Legend: B batch, E embedding, K classes.
"""

from collections.abc import Callable
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, nn

from teacherd.models.evaluation import as_tensor, evaluation_mode
from teacherd.models.preprocessing import Preprocessing


class Embedder:
    """Embeds raw inputs with a network that stays as it is.

    The embedding is what the last linear layer to run reads, where that layer makes the logits; a
    network that ends otherwise is embedded by its logits.

    Args:
        network: Lies on the device; not copied.
        preprocessing: As the network was trained with.
        batch_size: Instances per forward pass.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        preprocessing: Preprocessing,
        device: torch.device,
        batch_size: int,
    ) -> None:
        self._network = network
        self._preprocessing = preprocessing
        self._device = device
        self._batch_size = batch_size
        self.head: nn.Linear | None = None
        """The layer that made the logits of the last batch, None where it is no linear one."""

    def embed(
        self, inputs: npt.NDArray[Any], *, on_batch: Callable[[], None] = lambda: None
    ) -> Tensor:
        """Return embeddings [N, E] in float32 on the CPU.

        Args:
            inputs: Raw inputs, at least one.
            on_batch: Called after each forward pass.
        """
        raw = as_tensor(inputs)
        parts = []
        with evaluation_mode(self._network):
            for start in range(0, len(raw), self._batch_size):
                batch = raw[start : start + self._batch_size].to(self._device)
                parts.append(self._embed(batch))
                on_batch()
        return torch.cat(parts)

    def _embed(self, batch: Tensor) -> Tensor:
        last: list[tuple[nn.Linear, Tensor, Tensor]] = []

        def note(layer: nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            last[:] = [(layer, inputs[0], output)]

        layers = [layer for layer in self._network.modules() if isinstance(layer, nn.Linear)]
        hooks = [layer.register_forward_hook(note) for layer in layers]
        try:
            logits_BK: Tensor = self._network(self._preprocessing.apply(batch))
        finally:
            for hook in hooks:
                hook.remove()
        makes_logits = bool(last) and last[0][2].shape == logits_BK.shape
        self.head = last[0][0] if makes_logits else None
        embedding = last[0][1] if makes_logits else logits_BK
        return embedding.flatten(start_dim=1).float().cpu()
