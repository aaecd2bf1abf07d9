"""Tests of ranks that meet in a store in which others have met before."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from torch.distributed import HashStore

from teacherd.daemon.meeting import meet
from teacherd.models.ranks import RankLostError


def test_every_meeting_has_a_part_of_the_store_of_its_own() -> None:
    """What the processes before have left is not found by those that come after a restart."""
    store = HashStore()
    parts = []
    for _ in range(3):
        with ThreadPoolExecutor(3) as pool:
            parts.append(list(pool.map(lambda rank: meet(store, rank, 3, seconds=300), range(3))))
        for part in parts[-1][1:]:
            assert not part.check(["address"])
        parts[-1][0].set("address", "of this meeting")

        assert all(part.check(["address"]) for part in parts[-1])


def test_a_rank_that_does_not_come_is_told_by_the_others() -> None:
    """In the end, and by none of them for ever; one from before does not stand in for it."""
    store = HashStore()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda rank: meet(store, rank, 2, seconds=300), range(2)))

    for rank in (0, 1):
        with pytest.raises(RankLostError, match=r"not all of 2 ranks have come within 0\.3 s"):
            meet(store, rank, 2, seconds=0.3)
