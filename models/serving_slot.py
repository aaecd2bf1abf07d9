"""The place of the served network, and how another one takes it."""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Literal

import torch

from teacherd.models.shared_lock import SharedLock
from teacherd.models.version_loading import ServedVersion

Mode = Literal["double", "in_place"]


class ServingSlot:
    """Holds the served version; one thread swaps, any number predict.

    Args:
        mode: `double` has old and new network on the device for a moment, and nobody waits;
            `in_place` copies the new weights over the old ones while predictions wait.
        device: Where predictions are computed.
        monotonic: Seconds.
    """

    def __init__(self, mode: Mode, *, device: torch.device, monotonic: Callable[[], float]) -> None:
        self._mode = mode
        self._device = device
        self._monotonic = monotonic
        self._lock = SharedLock()
        self.served: ServedVersion | None = None
        """What predictions are made with, on the device."""
        self.staged: ServedVersion | None = None
        """The same where it was verified: in mode `in_place` in host memory."""

    @property
    def loading_device(self) -> torch.device:
        """Where a version is to be built before it is swapped in."""
        return self._device if self._mode == "double" else torch.device("cpu")

    def undisturbed(self) -> AbstractContextManager[None]:
        """Return what a prediction holds while it uses the network."""
        return nullcontext() if self._mode == "double" else self._lock.shared()

    def swap(self, candidate: ServedVersion) -> float:
        """Serve a version; return for how many seconds predictions had to wait for it."""
        if self._mode == "double":
            self.served = self.staged = candidate
            return 0.0
        started = self._monotonic()
        with self._lock.exclusive():
            self.served = self._copy_over(candidate)
        self.staged = candidate
        return self._monotonic() - started

    def clear(self) -> None:
        """Let go of the networks."""
        self.served = self.staged = None

    def _copy_over(self, candidate: ServedVersion) -> ServedVersion:
        """Return the candidate on the device, in the served network's memory where it fits."""
        served = self.served
        if served is None or not served.can_hold(candidate.manifest):
            return replace(candidate, network=copy.deepcopy(candidate.network).to(self._device))
        fresh = candidate.network.state_dict()
        with torch.no_grad():
            for name, tensor in served.network.state_dict().items():
                tensor.copy_(fresh[name])
        if self._device.type == "cuda":
            # Predictions may run on streams that know nothing of this one.
            torch.cuda.synchronize(self._device)
        return replace(candidate, network=served.network)
