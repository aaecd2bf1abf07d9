"""The student: a network in training with its optimizer, and one guarded step of it."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from teacherd.models.module_tensors import (
    load_module_tensors,
    module_tensors,
    snapshot,
    with_prefix,
)
from teacherd.models.optimizer import (
    OptimizerConfig,
    build_optimizer,
    load_optimizer_tensors,
    optimizer_tensors,
)

BatchNormMode = Literal["frozen", "train"]


class Student:
    """Trains a network; a step goes `prepare`, forward, `backward`, `clip`, `step` or `undo`.

    Args:
        config: Of the optimizer.
        network: Taken over; all its parameters are trained, unless only a part is.
        batch_norm: frozen keeps BatchNorm's statistics and trains scale and shift only.
        learning_rate: Of the task's first step.
        trained: The part of the network that is trained, the rest stays in eval mode; None: all.
    """

    def __init__(
        self,
        config: OptimizerConfig,
        *,
        network: nn.Module,
        batch_norm: BatchNormMode,
        learning_rate: float,
        trained: nn.Module | None = None,
    ) -> None:
        self.network = network.requires_grad_(requires_grad=trained is None)
        self._is_part = trained is not None
        trained = (trained or network).requires_grad_(requires_grad=True)
        self._config = config
        self._learning_rate = learning_rate
        self._optimizer = build_optimizer(
            config, parameters=trained.parameters(), learning_rate=learning_rate
        )
        self._batch_norms = [
            module
            for module in network.modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm)  # noqa: SLF001 - base of all kinds
        ]
        self._statistics = [
            buffer
            for module in self._batch_norms
            for buffer in module.buffers()
            if buffer.is_floating_point()
        ]
        self._trains_statistics = (
            batch_norm == "train" and bool(self._statistics) and not self._is_part
        )
        self._buffers_before: list[Tensor] = []
        self._set_mode(trains_statistics=self._trains_statistics)

    def prepare(self, num_instances: int, *, step: int = 0, num_steps: int = 1) -> None:
        """Get ready for the forward pass of a batch.

        One instance has no statistics, so BatchNorm is frozen for it in any case (ours).

        Args:
            num_instances: In the batch.
            step: Number of the task's steps made before it; the step size is a function of it and
                of num_steps alone.
            num_steps: Of the task.
        """
        self._optimizer.zero_grad()
        for group in self._optimizer.param_groups:
            group["lr"] = self._learning_rate * self._config.factor(step, num_steps)
        if self._trains_statistics:
            self._set_mode(trains_statistics=num_instances > 1)
            self._buffers_before = [buffer.clone() for buffer in self.network.buffers()]

    def backward(self, loss: Tensor) -> None:
        """Compute the gradient."""
        loss.backward()  # type: ignore[no-untyped-call] # torch does not annotate it

    def clip(self) -> dict[str, Tensor]:
        """Clip the gradient; return what must be finite before `step`.

        Returns:
            `gradient`, its norm before clipping, and, where BatchNorm's statistics are trained,
            `statistics`, their largest magnitude.
        """
        parameters = self.network.parameters()
        norms = {"gradient": nn.utils.clip_grad_norm_(parameters, self._config.gradient_clip)}
        if self._trains_statistics:
            # A batch that overflows can leave the loss finite and its variance infinite.
            norms["statistics"] = torch.stack(
                [buffer.abs().max() for buffer in self._statistics]
            ).max()
        return norms

    def step(self) -> None:
        """Move the parameters along the clipped gradient."""
        self._optimizer.step()

    def undo(self) -> None:
        """Forget the forward and backward pass since `prepare`."""
        self._optimizer.zero_grad()
        if self._trains_statistics:
            for buffer, before in zip(self.network.buffers(), self._buffers_before, strict=True):
                buffer.copy_(before)

    def state_dict(self) -> dict[str, Tensor]:
        """Return network and optimizer as flat tensors on the CPU."""
        return {
            **snapshot(module_tensors(self.network), prefix="student"),
            **snapshot(optimizer_tensors(self._optimizer), prefix="optimizer"),
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on where `state_dict` was taken; other entries of the state are left alone.

        Raises:
            ValueError: The state is another network's.
        """
        load_module_tensors(self.network, with_prefix(state, "student"))
        load_optimizer_tensors(self._optimizer, with_prefix(state, "optimizer"))

    def _set_mode(self, *, trains_statistics: bool) -> None:
        self.network.train(not self._is_part)
        for module in self._batch_norms:
            module.train(trains_statistics)
