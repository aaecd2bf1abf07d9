"""Feeds bad inputs to a reader and notes how it took them: in time, in memory, in words."""

import resource
import time
from collections import Counter
from dataclasses import dataclass, field

from fuzz_targets import Target
from mutations import mutated

_NUM_WARM = 200
"""Inputs after which caches, imports and pools are there, and memory is measured from."""
_MOST_FAILURES = 20


@dataclass(slots=True)
class FuzzResult:
    """What came of it."""

    num_inputs: int = 0
    seconds: float = 0.0
    """Of processor time, inside the reader."""
    slowest_seconds: float = 0.0
    grown_bytes: int = 0
    """By how much the most memory that the process ever had has grown."""
    words: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    """What was raised that is not foreseen, with the input's number; the first ones."""
    num_failures: int = 0


def fuzz(target: Target, num_inputs: int, *, seed: int, first: int = 0) -> FuzzResult:
    """Feed so many inputs, from a number on."""
    result = FuzzResult()
    peak = _peak_bytes()
    for number in range(first, first + num_inputs):
        data = mutated(target.seeds, seed=seed, number=number)
        # Of this process alone: what others do meanwhile is no fault of the reader.
        started = time.process_time()
        try:
            result.words[target.read(data)] += 1
        except Exception as error:  # noqa: BLE001 (that is what is looked for)
            result.num_failures += 1
            if len(result.failures) < _MOST_FAILURES:
                result.failures.append(f"{target.name} {seed}/{number}: {error!r}")
        seconds = time.process_time() - started
        result.seconds += seconds
        result.slowest_seconds = max(result.slowest_seconds, seconds)
        result.num_inputs += 1
        if result.num_inputs == _NUM_WARM:
            peak = _peak_bytes()
    result.grown_bytes = _peak_bytes() - peak
    return result


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
