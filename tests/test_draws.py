"""Tests of draws: functions of their key and of nothing else."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from teacherd.models.draws import Draws

CPU = torch.device("cpu")
DRAWS = Draws(seed=7, task=3)


def numbers(draws: Draws, purpose: str = "dust", place: int = 0) -> list[float]:
    """Draw a few numbers for a key."""
    return torch.rand(4, generator=draws.generator(purpose, place)).tolist()  # type: ignore[arg-type] # purposes are parametrised


def test_a_draw_is_the_same_in_every_process() -> None:
    """The exact numbers of one key, so that no change of ours moves old lineages unnoticed."""
    drawn = torch.randint(1000, (5,), generator=DRAWS.generator("shuffle", 2)).tolist()

    assert [827, 108, 801, 684, 916] == drawn


def test_global_draws_change_nothing() -> None:
    """A draw neither reads nor moves torch's global generator."""
    torch.manual_seed(1)
    first, global_first = numbers(DRAWS), torch.rand(2).tolist()
    torch.manual_seed(1)
    global_second, second = torch.rand(2).tolist(), numbers(DRAWS)

    assert first == second
    assert global_first == global_second


def test_every_part_of_the_key_counts() -> None:
    """Seed, task, purpose and place each give other numbers."""
    variants = [
        numbers(DRAWS),
        numbers(Draws(seed=8, task=3)),
        numbers(Draws(seed=7, task=4)),
        numbers(DRAWS, "augmentation"),
        numbers(DRAWS, "dust", 1),
    ]

    assert all(one != other for one, other in itertools.combinations(variants, 2))


def test_the_parts_of_a_key_do_not_run_together() -> None:
    """Seed 1 with task 23 is not seed 12 with task 3."""
    assert numbers(Draws(seed=1, task=23)) != numbers(Draws(seed=12, task=3))


@given(epoch=st.integers(0, 10**6), num_instances=st.integers(1, 200))
def test_a_permutation_visits_everyone_once(epoch: int, num_instances: int) -> None:
    """Whatever the epoch, the order holds each place exactly once."""
    order = DRAWS.permutation(epoch, num_instances).tolist()

    assert list(range(num_instances)) == sorted(order)


def test_epochs_have_orders_of_their_own() -> None:
    """Two epochs visit the instances in different orders."""
    assert DRAWS.permutation(0, 50).tolist() != DRAWS.permutation(1, 50).tolist()


def test_a_network_draws_by_key_inside_and_leaves_no_trace() -> None:
    """Dropout and its like are keyed by step; the global generator goes on as if nothing was."""
    torch.manual_seed(5)
    expected_outside = torch.rand(3).tolist()

    torch.manual_seed(5)
    with DRAWS.inside_network(4, CPU):
        first = torch.rand(3).tolist()
    outside = torch.rand(3).tolist()
    with DRAWS.inside_network(4, CPU):
        again = torch.rand(3).tolist()
    with DRAWS.inside_network(5, CPU):
        other = torch.rand(3).tolist()

    assert expected_outside == outside
    assert first == again
    assert first != other


def test_a_failing_network_leaves_no_trace_either() -> None:
    """The global generator is put back when the forward pass raises."""
    torch.manual_seed(5)
    expected = torch.rand(3).tolist()
    torch.manual_seed(5)

    with pytest.raises(RuntimeError), DRAWS.inside_network(0, CPU):
        raise RuntimeError

    assert expected == torch.rand(3).tolist()
