"""A network that takes its time."""

import time

from torch import Tensor
from versions import Paired


class Slow(Paired):
    """Answers single instances after a second."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits."""
        if len(inputs) == 1:
            time.sleep(1)
        return super().forward(inputs)
