"""The served teacher inside an inference process: always the newest good version, no restart.

    with HotTeacher("state/public") as teacher:  # or https://host:9464/public, s3://bucket/teachers
        prediction = teacher.predict(images)

A version is verified, built and probed beside the served one, then takes its place at once. On
any failure the old one stays, the failure is counted, and watching goes on.

Legend: B batch, K classes.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from teacherd.models.artifact import ArtifactError, Manifest
from teacherd.models.backbone import NetworkFactory, import_factory
from teacherd.models.loader_metrics import LoaderMetrics, LoaderStats, Registry
from teacherd.models.prediction import Prediction
from teacherd.models.remote_root import RemoteRoot, is_remote, open_remote
from teacherd.models.serving_slot import Mode, ServingSlot
from teacherd.models.signature import TrustedKeys
from teacherd.models.version_loading import LoadingRules, ServedVersion, VersionLoader
from teacherd.models.version_watch import VersionWatch

logger = logging.getLogger(__name__)


class NoTeacherError(Exception):
    """There was no usable version in the time that was given."""


class HotTeacher:
    """Serves the current version below a root and follows it; callable from many threads.

    Of a remote root every version is first brought into a cache on this machine, so that a
    prediction never waits for a network, and a start without one serves what is there.

    Mode `double` keeps the old and the new network on the device for a moment and never lets a
    prediction wait. Mode `in_place` keeps one network on the device and a copy in host memory;
    predictions wait while the weights are copied over.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        mode: Mode = "double",
        device: torch.device | str = "cpu",
        poll_seconds: float = 1.0,
        probe: np.ndarray | None = None,
        network: NetworkFactory | str | None = None,
        public_key: Path | str | bytes | None = None,
        largest_bytes: int = 16 * 2**30,
        cache: Path | str | None = None,
        options: Mapping[str, Any] | None = None,
        on_swap: Callable[[Manifest], object] | None = None,
        on_reject: Callable[[str, Exception], object] | None = None,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Check and store; `start` loads.

        Args:
            root: Where `current` and `versions/` lie: a directory, or an http(s) or fsspec URL.
            mode: How a new version takes the old one's place.
            device: Where predictions are computed.
            poll_seconds: How often to look; a look opens one file or asks one question, remote
                ones at somewhat irregular moments.
            probe: A raw batch that a version must give finite logits for; made up if not given.
            network: Called as network(num_classes=..., **arguments) in place of what manifests
                name, or package.module:callable. Needed for networks of your own: a file never
                chooses what code runs.
            public_key: PEM file, or its content: only versions that one of its keys signed are
                served.
            largest_bytes: Weights larger than this are refused.
            cache: Where versions of a remote root are kept, by default below ~/.cache/teacherd.
            options: Of a remote root: `headers`, `ca_file`, `timeout_seconds` of http(s), or what
                fsspec takes for this kind of store.
            on_swap: Told of each version that replaced another, in the watching thread.
            on_reject: Told of each version refused, by reason and error.
            now: Wall clock, seconds since the epoch.
            monotonic: Clock for durations and retries.
        """
        if mode not in ("double", "in_place"):
            raise ValueError(f"mode: {mode!r}: must be double or in_place")
        if not poll_seconds > 0:
            raise ValueError(f"poll_seconds: {poll_seconds}: must be above 0; take 1")
        self._root = str(root)
        self._device = torch.device(device)
        self._slot = ServingSlot(mode, device=self._device, monotonic=monotonic)
        self._poll_seconds = poll_seconds
        self._on_swap = on_swap
        self._on_reject = on_reject
        self._now = now
        self._monotonic = monotonic
        self._stop = threading.Event()
        rules = LoadingRules(
            factory=import_factory(network) if isinstance(network, str) else network,
            trusted=None if public_key is None else _read_keys(public_key),
            probe=probe,
            largest_bytes=largest_bytes,
        )
        self._remote: RemoteRoot | None = None
        directory = Path(root)
        if is_remote(root):
            self._remote = open_remote(
                str(root),
                cache=None if cache is None else Path(cache),
                options=options or {},
                rules=rules,
                poll_seconds=poll_seconds,
                monotonic=monotonic,
                should_stop=self._stop.is_set,
            )
            directory = self._remote.cache
        self._watch = VersionWatch(
            directory,
            VersionLoader(directory, rules, device=self._slot.loading_device),
            poll_seconds=poll_seconds,
            monotonic=monotonic,
        )
        self._refreshing = threading.RLock()  # a callback may look at us
        self._thread: threading.Thread | None = None
        self._last_error: Exception | None = None
        self._stats = LoaderStats()

    def start(self, *, timeout_seconds: float = 30.0) -> None:
        """Load the current version, waiting for one if there is none, and begin to watch.

        Raises:
            NoTeacherError: None came in time that could be served.
        """
        if self._thread is not None:
            raise RuntimeError("this HotTeacher was started before; make a new one")
        deadline = self._monotonic() + timeout_seconds
        while not self.refresh() and self._slot.served is None:
            left = deadline - self._monotonic()
            if left <= 0 or self._stop.wait(min(self._poll_seconds, left)):
                raise NoTeacherError(
                    f"no version to serve in {self._root} within {timeout_seconds:g} seconds: "
                    f"{self._last_error}"
                ) from self._last_error
        self._thread = threading.Thread(target=self._run, name="teacherd-loader", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop watching and let go of the networks; predictions after this are errors."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        with self._refreshing:
            self._slot.clear()

    def __enter__(self) -> Self:
        if self._thread is None:
            self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        if self._thread is None:
            await asyncio.to_thread(self.start)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.close)

    def predict(self, inputs: np.ndarray | Tensor) -> Prediction:
        """Return what the served version says, all of it from that one version.

        Args:
            inputs: Raw [B, C, H, W] or [B, F], as they came in the stream: not normalised.
        """
        raw = _as_tensor(inputs)
        with self._slot.undisturbed():
            served = self._require_served()
            manifest = served.manifest
            expected = manifest.architecture.input_shape
            if tuple(raw.shape[1:]) != expected:
                raise ValueError(
                    f"inputs: shape {tuple(raw.shape)}: must be a batch of {expected}, "
                    f"{(len(raw) if raw.ndim else 1, *expected)}; add the batch dimension to a "
                    "single instance"
                )
            with torch.no_grad():
                logits_BK = served.network(manifest.preprocessing.apply(raw.to(self._device)))
                probabilities_BK = logits_BK.float().softmax(dim=1).cpu()
        return Prediction(
            version=manifest.version,
            epoch=manifest.epoch,
            classes=manifest.classes,
            probabilities=probabilities_BK,
            labels=tuple(manifest.classes[k] for k in probabilities_BK.argmax(dim=1).tolist()),
        )

    async def predict_async(self, inputs: np.ndarray | Tensor) -> Prediction:
        """Return what `predict` does, computed in another thread: the event loop goes on."""
        return await asyncio.to_thread(self.predict, inputs)

    def refresh(self) -> bool:
        """Look once, now; return whether another version is served than before."""
        with self._refreshing:
            if self._stop.is_set():
                return False
            self._update_cache()
            return self._watch.is_due() and self._look()

    def _look(self) -> bool:
        started = self._monotonic()
        before = self._slot.served
        try:
            candidate = self._watch.look(before, likeness=self._slot.staged)
            if candidate is None:
                return False
            pause_seconds = self._swap_or_put_off(candidate)
        except ArtifactError as error:
            self._reject(error.reason, error)
            if self._remote is not None:
                self._remote.note_refusal(error)
            return False
        except Exception as error:  # noqa: BLE001 - whatever it is, the served version stays
            self._reject("internal", error)
            return False
        self._note_swap(candidate.manifest, self._monotonic() - started, pause_seconds)
        if before is not None:
            _tell(self._on_swap, candidate.manifest)
        return True

    def _update_cache(self) -> None:
        if self._remote is None:
            return
        try:
            self._remote.update()
        except ArtifactError as error:
            self._reject(error.reason, error)
        except Exception as error:  # noqa: BLE001 - as above
            self._reject("internal", error)

    @property
    def version(self) -> int:
        """Number of the served version."""
        return self.manifest.version

    @property
    def manifest(self) -> Manifest:
        """Manifest of the served version."""
        return self._require_served().manifest

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the served version's classes."""
        return self.manifest.classes

    @property
    def stats(self) -> LoaderStats:
        """What was done so far, as of this moment."""
        served = self._slot.served
        if served is None:
            return self._stats
        written = datetime.fromisoformat(served.manifest.created_at).timestamp()
        return replace(self._stats, teacher_age_seconds=self._now() - written)

    def register_metrics(self, registry: Registry) -> None:
        """Show version, age, swaps and refusals in a prometheus_client registry."""
        registry.register(LoaderMetrics(lambda: self.stats))

    def _run(self) -> None:
        while not self._stop.wait(
            self._poll_seconds if self._remote is None else self._remote.next_wait()
        ):
            self.refresh()

    def _swap_or_put_off(self, candidate: ServedVersion) -> float:
        """Swap; what fails, as for want of memory on the device, is tried again without news."""
        try:
            return self._slot.swap(candidate)
        except Exception:
            self._watch.put_off()
            raise

    def _note_swap(self, manifest: Manifest, seconds: float, pause_seconds: float) -> None:
        stats = self._stats
        self._stats = replace(
            stats,
            version=manifest.version,
            swaps=stats.swaps + (stats.num_loads > 0),
            last_swap_seconds=seconds,
            last_pause_seconds=pause_seconds,
            total_load_seconds=stats.total_load_seconds + seconds,
            num_loads=stats.num_loads + 1,
            loaded_at=self._now(),
        )
        self._last_error = None
        logger.info(
            "teacher_loaded epoch=%d version=%d seconds=%.3f",
            manifest.epoch,
            manifest.version,
            seconds,
        )

    def _reject(self, reason: str, error: Exception) -> None:
        """Count a refusal; say it once, not at every retry."""
        is_news = str(error) != str(self._last_error)
        if reason == "missing" and self._slot.served is None:
            # Nothing is published yet, and `start` waits for it. Why nothing could be fetched is
            # a better reason than that nothing was.
            self._last_error = self._last_error or error
            return
        self._last_error = error
        failures = {**self._stats.failures, reason: self._stats.failures.get(reason, 0) + 1}
        self._stats = replace(self._stats, failures=failures)
        if is_news:
            logger.warning("teacher_rejected reason=%s error=%r", reason, str(error))
        _tell(self._on_reject, reason, error)

    def _require_served(self) -> ServedVersion:
        served = self._slot.served
        if served is None:
            raise RuntimeError("no teacher is served; use `with HotTeacher(...)` or call start()")
        return served


def _tell(callback: Callable[..., object] | None, *arguments: object) -> None:
    """Call the user's callback, if there is one; what it raises must not end the watching."""
    if callback is None:
        return
    try:
        callback(*arguments)
    except Exception:
        logger.exception("callback_failed")


def _read_keys(public_key: Path | str | bytes) -> TrustedKeys:
    try:
        pem = public_key if isinstance(public_key, bytes) else Path(public_key).read_bytes()
        return TrustedKeys.from_pem(pem)
    except (OSError, ValueError) as error:
        shown = "its content" if isinstance(public_key, bytes) else public_key
        raise ValueError(f"public_key: {shown}: {error}") from error


def _as_tensor(inputs: np.ndarray | Tensor) -> Tensor:
    if isinstance(inputs, Tensor):
        return inputs.detach()
    # Torch takes neither negative strides nor, without a warning, memory that it must not write.
    plain = np.ascontiguousarray(inputs)
    return torch.from_numpy(plain if plain.flags.writeable else plain.copy())
