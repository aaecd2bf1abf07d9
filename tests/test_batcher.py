"""Dynamic batching: every request gets its own rows, from one pass, and the queue is bounded."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from teacherd.daemon.batcher import Batcher, QueueFullError
from teacherd.daemon.open_inference import Answer
from teacherd.daemon.serving_metrics import ServingMetrics
from teacherd.models.prediction import Prediction


class Network:
    """Computes passes whose rows can be told apart; each pass is another version."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.types: list[str] = []
        self.may_go = threading.Event()
        self.may_go.set()

    def predict(self, inputs: np.ndarray) -> Prediction:
        """Return each row's first value as its first probability."""
        assert self.may_go.wait(300)
        self.sizes.append(len(inputs))
        self.types.append(inputs.dtype.name)
        if inputs.min() < 0:
            raise ValueError("below 0")
        values = inputs[:, 0].astype(np.float32)
        return Prediction(
            version=len(self.sizes),
            epoch=1,
            classes=("a", "b"),
            probabilities=torch.from_numpy(np.stack([values, -values], axis=1)),
            labels=tuple(f"{value:g}" for value in values),
        )


def run(
    network: Network, questions: Callable[[Batcher], Awaitable[object]], **settings: float
) -> Any:  # noqa: ANN401 (what the questions give)
    """Run questions against a batcher in an event loop."""

    async def main() -> object:
        values = {"max_batch": 8, "max_delay_seconds": 0.0, "max_queue": 1000, **settings}
        batcher = Batcher(network.predict, metrics=ServingMetrics(), **values)  # type: ignore[arg-type]  # by name
        batcher.start()
        try:
            return await questions(batcher)
        finally:
            await batcher.close()

    return asyncio.run(main())


def rows(*values: float, kind: type = np.float32) -> np.ndarray:
    """One row for each value."""
    return np.array(values, dtype=kind).reshape(-1, 1)


async def slow_pass(batcher: Batcher, network: Network) -> "asyncio.Task[Answer]":
    """Ask a question whose pass is begun and goes on until the network may go."""
    network.may_go.clear()
    first = asyncio.create_task(batcher.answer(rows(0)))
    while not batcher._pass.locked():  # noqa: ASYNC110 (it is the batcher's own)
        await asyncio.sleep(0.001)
    return first


async def held(batcher: Batcher, network: Network, questions: list[np.ndarray]) -> list[object]:
    """Ask one question that takes its time, then the others, which gather meanwhile."""
    first = await slow_pass(batcher, network)
    others = [asyncio.create_task(batcher.answer(each)) for each in questions]
    await asyncio.sleep(0)
    network.may_go.set()
    await first
    return await asyncio.gather(*others, return_exceptions=True)


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=30),
    delay=st.sampled_from([0.0, 0.002]),
)
def test_every_request_gets_its_own_rows(sizes: list[int], delay: float) -> None:
    """However they are put together; each answer is of one pass, none larger than it may be."""
    network = Network()
    starts = np.cumsum([0, *sizes])
    questions = [
        rows(*range(start, start + size)) for start, size in zip(starts, sizes, strict=False)
    ]

    async def ask(batcher: Batcher) -> list[object]:
        return await asyncio.gather(*(batcher.answer(each) for each in questions))

    answers = run(network, ask, max_delay_seconds=delay)

    for question, answer in zip(questions, answers, strict=True):
        np.testing.assert_array_equal(question[:, 0], answer.probabilities[:, 0])
        assert tuple(f"{value:g}" for value in question[:, 0]) == answer.labels
    assert sum(sizes) == sum(network.sizes)
    assert all(size <= 8 or size in sizes for size in network.sizes)


def test_requests_gather_while_a_pass_is_computed() -> None:
    """They go together in the next one."""
    network = Network()

    run(network, lambda batcher: held(batcher, network, [rows(k) for k in range(1, 6)]))

    assert [1, 5] == network.sizes


def test_a_pass_waits_for_more_where_it_is_told_to() -> None:
    """Requests that come one after the other share a pass."""
    network = Network()

    async def ask(batcher: Batcher) -> None:
        first = asyncio.create_task(batcher.answer(rows(1)))
        await asyncio.sleep(0.01)
        await asyncio.gather(first, batcher.answer(rows(2, 3)))

    run(network, ask, max_delay_seconds=300, max_batch=3)

    assert [3] == network.sizes


def test_what_cannot_be_put_together_fails_alone() -> None:
    """As for want of memory: who asked is told, and the server answers whoever comes next."""
    network = Network()
    wide = np.ones((1, 2), dtype=np.float32)

    async def ask(batcher: Batcher) -> tuple[list[object], Answer]:
        async with asyncio.timeout(300):
            failed = await held(batcher, network, [rows(1), wide])
            return failed, await batcher.answer(rows(2))

    failed, answer = run(network, ask)

    assert [ValueError, ValueError] == [type(each) for each in failed]
    assert ("2",) == answer.labels


def test_bytes_and_floats_are_not_put_together() -> None:
    """They would become one of them."""
    network = Network()
    questions = [rows(1, kind=np.uint8), rows(2, kind=np.uint8), rows(3), rows(4, kind=np.uint8)]

    run(network, lambda batcher: held(batcher, network, questions))

    assert ["float32", "uint8", "float32", "uint8"] == network.types
    assert [1, 2, 1, 1] == network.sizes


def test_too_many_waiting_are_refused_at_once() -> None:
    """The rest is answered."""
    network = Network()
    questions = [rows(*range(4)), rows(*range(6)), rows(*range(4)), rows(7)]

    answers = run(network, lambda batcher: held(batcher, network, questions), max_queue=8)

    assert [False, True, False, True] == [isinstance(each, QueueFullError) for each in answers]


def test_a_failed_pass_fails_who_asked_and_nobody_else() -> None:
    """The next request is answered."""
    network = Network()

    async def ask(batcher: Batcher) -> object:
        with pytest.raises(ValueError, match="below 0"):
            await batcher.answer(rows(-1))
        return await batcher.answer(rows(5))

    assert ("5",) == run(network, ask).labels


def test_who_has_gone_is_not_computed() -> None:
    """A cancelled request takes no room in a pass."""
    network = Network()

    async def ask(batcher: Batcher) -> None:
        first = await slow_pass(batcher, network)
        gone = asyncio.create_task(batcher.answer(rows(1)))
        stays = asyncio.create_task(batcher.answer(rows(2)))
        await asyncio.sleep(0)
        gone.cancel()
        network.may_go.set()
        await asyncio.gather(first, stays)

    run(network, ask)

    assert [1, 1] == network.sizes


def test_who_waits_at_the_end_is_told() -> None:
    """Nobody waits for ever."""
    network = Network()

    async def ask(batcher: Batcher) -> object:
        first = await slow_pass(batcher, network)
        others = [asyncio.create_task(batcher.answer(rows(k))) for k in range(2)]
        await asyncio.sleep(0)
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0)
        network.may_go.set()
        await closing
        return await asyncio.gather(first, *others, return_exceptions=True)

    first, *others = run(network, ask)
    assert ("0",) == first.labels
    assert all(isinstance(each, asyncio.CancelledError) for each in others)
