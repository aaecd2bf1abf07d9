"""Whatever strangers send, each reader says one of the few things that it may say.

A few thousand inputs for each reader here; `benchmarks/fuzzing.py` feeds 100,000.
"""

import pytest
from fuzz_targets import Target, targets
from fuzzing import fuzz
from mutations import mutated

NUM_INPUTS = 1500
MOST_SECONDS = 10.0
"""Of processor time for one input of at most 64 KiB; measured: under 0.5."""
MOST_BYTES = 256 << 20
TARGETS = list(targets())


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_bad_inputs_are_refused_in_words_in_time_and_in_bounds(target: Target) -> None:
    """Nothing unforeseen is raised, no input takes long, and memory stays as it is."""
    result = fuzz(target, NUM_INPUTS, seed=0)

    assert [] == result.failures
    assert result.slowest_seconds < MOST_SECONDS
    assert result.grown_bytes < MOST_BYTES
    assert {"read"} < set(result.words)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_the_inputs_begin_as_good_ones(target: Target) -> None:
    """Else nothing behind the first check would ever be reached; some are bad on purpose."""
    words = [target.read(seed) for seed in target.seeds]

    assert "read" in words


def test_an_input_can_be_made_again() -> None:
    """From seed and number, which a failure names; and one is not as the other."""
    seeds = [b'{"a": 1}', b"\x89PNG\r\n\x1a\n" + bytes(30)]
    inputs = [mutated(seeds, seed=3, number=number) for number in range(500)]

    assert inputs == [mutated(seeds, seed=3, number=number) for number in range(500)]
    assert len(set(inputs)) > 400


def test_what_is_not_foreseen_is_found() -> None:
    """A reader that fails for one byte in some place is caught at it."""

    def read(data: bytes) -> str:
        if data[:1] == b"[":
            raise KeyError("[")
        return "read"

    result = fuzz(Target("broken", (b'{"a": 1}',), read), 2000, seed=0)

    assert result.num_failures > 0
    assert result.failures[0].endswith("KeyError('[')")
