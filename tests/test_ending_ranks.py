"""Tests of how ranks end: which of them torchrun is to start again, and which not."""

import functools
from pathlib import Path

import pytest
from joined_following import end
from joined_learning import learn_joined

from teacherd.daemon.errors import ExitCode

OVER, AGAIN = ExitCode.OK, ExitCode.TEMPORARY


@pytest.mark.parametrize(
    ("told", "expected"),
    [(None, (OVER, OVER, OVER)), (0, (OVER, AGAIN, AGAIN)), (1, (AGAIN, OVER, AGAIN))],
)
def test_ranks_that_were_not_told_to_end_are_to_be_started_again(
    told: int | None, expected: tuple[ExitCode, ...], tmp_path: Path
) -> None:
    """On a host that goes on, torchrun would take 0 for the end of all and wait for nobody."""
    found = learn_joined(functools.partial(end, told=told), num_ranks=3, directory=tmp_path)

    assert expected == tuple(code for code, _ in found)
    assert (told == 1) == found[0][1]


def test_where_rank_0_has_failed_the_others_are_to_be_started_again_with_it(tmp_path: Path) -> None:
    """Say, its intake: learning itself ends in order then, and must not be taken for the end."""
    follow = functools.partial(end, told=None, has_failed=True)
    found = learn_joined(follow, num_ranks=2, directory=tmp_path)

    # Rank 0's own code is that of what has failed.
    assert [OVER, AGAIN] == [code for code, _ in found]
