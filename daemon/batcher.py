"""Computing the instances of several requests in one pass: dynamic batching.

While one batch is computed the next requests gather; so a busy server computes large batches and
an idle one answers at once. Lives in one event loop; the passes run in a thread of their own.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from teacherd.daemon.open_inference import Answer
from teacherd.daemon.serving_metrics import ServingMetrics
from teacherd.models.prediction import Prediction


class QueueFullError(Exception):
    """Too many instances wait already; the client may try again."""


@dataclass(slots=True)
class _Waiting:
    """A request that waits for its answer."""

    inputs: np.ndarray
    answer: asyncio.Future[Answer]
    since: float


class Batcher:
    """Answers each request from exactly one pass, hence from one version.

    Args:
        predict: Called in a thread with a batch, one call at a time.
        max_batch: Instances of a pass; a request that has more is a pass of its own.
        max_delay_seconds: How long a pass waits for more requests when nothing is computed.
        max_queue: Instances that may wait.
    """

    def __init__(
        self,
        predict: Callable[[np.ndarray], Prediction],
        *,
        max_batch: int,
        max_delay_seconds: float,
        max_queue: int,
        metrics: ServingMetrics,
    ) -> None:
        self._predict = predict
        self._max_batch = max_batch
        self._max_delay_seconds = max_delay_seconds
        self._max_queue = max_queue
        self._metrics = metrics
        self._queue: deque[_Waiting] = deque()
        self._num_queued = 0
        self._has_arrived = asyncio.Event()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self._pass = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to compute; called in the event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Finish the running pass; who waits still is told that it is over."""
        for waiting in self._queue:
            waiting.answer.cancel()
        self._queue.clear()
        if self._task is not None:
            async with self._pass:
                self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.to_thread(self._executor.shutdown)

    async def answer(self, inputs: np.ndarray) -> Answer:
        """Return what the served version says.

        Raises:
            QueueFullError: Too much waits already.
            Exception: Whatever the prediction raised.
        """
        if self._num_queued + len(inputs) > self._max_queue and self._queue:
            raise QueueFullError(
                f"{self._num_queued} instances wait, at most {self._max_queue} may"
            )
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(inputs, future, time.perf_counter()))
        self._count(len(inputs))
        self._has_arrived.set()
        return await future

    async def _run(self) -> None:
        while True:
            await self._has_arrived.wait()
            await self._wait_for_more()
            batch = self._take()
            if self._queue:
                self._has_arrived.set()
            else:
                self._has_arrived.clear()
            if batch:
                async with self._pass:
                    await self._compute(batch)

    async def _wait_for_more(self) -> None:
        """Let a batch fill up, at most for as long as its oldest request may wait."""
        if not self._max_delay_seconds:
            return
        deadline = self._queue[0].since + self._max_delay_seconds
        while self._num_queued < self._max_batch and (left := deadline - time.perf_counter()) > 0:
            self._has_arrived.clear()
            try:
                await asyncio.wait_for(self._has_arrived.wait(), left)
            except TimeoutError:
                return

    def _take(self) -> list[_Waiting]:
        """Return the oldest requests that fit into one pass: of one type, not too many."""
        batch: list[_Waiting] = []
        count = 0
        while self._queue:
            waiting = self._queue[0]
            is_of_one_kind = not batch or waiting.inputs.dtype == batch[0].inputs.dtype
            if not is_of_one_kind or (batch and count + len(waiting.inputs) > self._max_batch):
                break
            self._queue.popleft()
            self._count(-len(waiting.inputs))
            if not waiting.answer.cancelled():
                batch.append(waiting)
                count += len(waiting.inputs)
        return batch

    async def _compute(self, batch: list[_Waiting]) -> None:
        started = time.perf_counter()
        for waiting in batch:
            self._metrics.queue_duration.observe(started - waiting.since)
        try:
            prediction = await self._predict_together(batch)
        except Exception as error:  # noqa: BLE001 - for those who asked; others are served
            for waiting in batch:
                _settle(waiting.answer, error)
            return
        self._metrics.compute_duration.observe(time.perf_counter() - started)
        self._metrics.batch_instances.observe(len(prediction.labels))
        start = 0
        probabilities = prediction.probabilities.numpy()
        for waiting in batch:
            stop = start + len(waiting.inputs)
            answer = Answer(
                version=prediction.version,
                epoch=prediction.epoch,
                classes=prediction.classes,
                probabilities=probabilities[start:stop],
                labels=prediction.labels[start:stop],
            )
            _settle(waiting.answer, answer)
            start = stop

    async def _predict_together(self, batch: list[_Waiting]) -> Prediction:
        arrays = [waiting.inputs for waiting in batch]
        inputs = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, self._predict, inputs)

    def _count(self, change: int) -> None:
        self._num_queued += change
        self._metrics.queue_instances.set(self._num_queued)


def _settle(future: asyncio.Future[Answer], outcome: Answer | Exception) -> None:
    if future.done():
        return  # its client has gone
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
