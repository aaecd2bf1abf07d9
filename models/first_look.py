"""A teacher's first look at a task, before anything of it is learned: by forward passes only."""

import functools
from collections.abc import Callable

from torch import nn

from teacherd.models.batches import Batches
from teacherd.models.calibration import calibrate_dust
from teacherd.models.draws import Draws
from teacherd.models.evaluation import Evaluation, evaluate
from teacherd.models.placement import Placement
from teacherd.models.preprocessing import Preprocessing
from teacherd.models.ranks import Ranks
from teacherd.models.task import Task

_NUM_CALIBRATION_INSTANCES = 1024


class FirstLook:
    """Says how right a teacher is about a task, and how strong dust must be to mislead it there.

    Args:
        preprocessing: Of raw inputs.
        placement: Where and how to compute.
        flip_share: Of instances, whose class the dust is to change.
        ranks: Each measures; rank 0 calibrates for all.
        on_batch: Called after each forward pass.
    """

    def __init__(
        self,
        preprocessing: Preprocessing,
        *,
        placement: Placement,
        flip_share: float,
        ranks: Ranks,
        on_batch: Callable[[], None],
    ) -> None:
        self._preprocessing = preprocessing
        self._placement = placement
        self._flip_share = flip_share
        self._ranks = ranks
        self._on_batch = on_batch

    def measure(self, teacher: nn.Module, task: Task) -> Evaluation:
        """Return how right it is; instances of new classes it gets wrong."""

        def on_batch() -> None:
            self._on_batch()
            self._ranks.keep_abreast()

        return evaluate(
            teacher,
            task.inputs,
            task.labels,
            preprocessing=self._preprocessing,
            device=self._placement.device,
            num_new_classes=task.num_new_classes,
            on_batch=on_batch,
        )

    def calibrate(self, teacher: nn.Module, batches: Batches, draws: Draws) -> float:
        """Return the standard deviation of the dust (method.md 2.3).

        Rank 0's: on another kind of processor it could be a hair's breadth different.
        """

        def compute(on_wait: Callable[[], object]) -> float:
            def on_batch() -> None:
                self._on_batch()
                on_wait()

            with self._placement.autocast():
                return calibrate_dust(
                    teacher,
                    batches.sample(_NUM_CALIBRATION_INSTANCES),
                    flip_share=self._flip_share,
                    build_generator=functools.partial(
                        draws.generator, "calibration", 1, self._placement.device
                    ),
                    on_batch=on_batch,
                ).sigma

        return self._ranks.from_first(compute)
