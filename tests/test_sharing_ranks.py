"""Tests of what is decided over all ranks: what may wait, what is too bad, what is taken up."""

import functools
from pathlib import Path

import pytest
import torch
from base_models import untrained_base
from joined_following import Rank, fill, fill_with, reject, restore_unfit
from joined_learning import learn_joined

from teacherd.consumers.buffer_standing import BufferStanding
from teacherd.consumers.task_buffer import TaskBuffer, TaskBufferConfig
from teacherd.daemon.draining import Draining
from teacherd.models.ranks import Ranks


def test_rank_0_takes_no_more_where_others_have_all_that_may_wait(tmp_path: Path) -> None:
    """And cuts: else nobody could ever take anything again."""
    found = learn_joined(fill, num_ranks=2, directory=tmp_path)

    assert (False, "capacity", 4, True) == found[0]


def test_the_others_take_no_more_where_rank_0_has_all_that_may_wait(tmp_path: Path) -> None:
    """They hear of it once a second."""
    assert [False] * 3 == learn_joined(fill_with, num_ranks=3, directory=tmp_path)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (((10, 0), (10, 9)), ""),
        (((2, 0), (1, 1)), ""),
        (((10, 3), (20, 13)), "16 of the last 30 records were rejected"),
    ],
)
def test_too_many_bad_records_are_so_of_all_that_ranks_have_read(
    counts: tuple[tuple[int, int], ...], expected: str, tmp_path: Path
) -> None:
    """One rank whose partitions are bad is no reason where those of the others make up for it."""
    found = learn_joined(functools.partial(reject, counts=counts), num_ranks=2, directory=tmp_path)

    assert found[0].startswith(expected)
    assert bool(expected) == bool(found[0])


def test_a_checkpoint_that_does_not_fit_is_begun_anew_by_all(tmp_path: Path) -> None:
    """As after an upgrade; the others are not even told of it, and would end by it for ever."""
    base = untrained_base(tmp_path)
    weights = []
    for num_ranks in (2, 3):
        directory = tmp_path / str(num_ranks)
        directory.mkdir()
        follow = functools.partial(restore_unfit, base=base)
        weights.append(learn_joined(follow, num_ranks=num_ranks, directory=directory)[0])

    torch.testing.assert_close(*weights, rtol=0, atol=1e-3)


def test_a_rank_at_its_end_reports_what_it_read_last() -> None:
    """Its intake may come to the end while it reports: then what waits must not be missing."""

    class Reading(TaskBuffer):
        """Takes its last record while others ask how much it has."""

        def standing(self) -> BufferStanding:
            """Let the intake come to the end at once afterwards."""
            found = super().standing()
            draining.reach_end()
            return found

    draining = Draining()
    one = Rank(Ranks(1, 2), draining=draining)
    buffer = Reading(TaskBufferConfig(), now=lambda: 0.0)

    assert not one.following(buffer=buffer)._state().is_at_end
    buffer.close()
