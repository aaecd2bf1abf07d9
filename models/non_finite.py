"""The error of numbers that are not finite: they reach neither weights nor a version."""

from collections.abc import Mapping

from torch import Tensor


class NonFiniteError(Exception):
    """A loss, the gradient or the weights are not finite; the step was not made.

    Trying again gives the same, unless it is with another learning rate.

    Args:
        task: Number of the task.
        step: Number of the step, from 0.
        watched: The terms of the loss and the norms; at least one is not finite.
    """

    def __init__(self, task: int, step: int, watched: Mapping[str, Tensor]) -> None:
        broken = [name for name, value in watched.items() if not bool(value.isfinite())]
        # The total and the gradient inherit it from a term, where one is broken.
        self.term = min(broken, key=lambda name: (name == "gradient", name == "total"))
        """`fused`, `dust`, `total`, `gradient`, `statistics` or `weights`."""
        super().__init__(f"task {task}, step {step}: {self.term} is {float(watched[self.term])}")
