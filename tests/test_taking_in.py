"""Deferred records that are read again are the ones that were planned, or are refused."""

from collections.abc import Iterator, Sequence
from contextlib import closing

import pytest
from decoded import decoder
from growing_bench import records
from records import INSTANCES, at_offsets

from teacherd.consumers.range_digest import RangeDigest
from teacherd.consumers.record import Partition
from teacherd.consumers.record_batch import RecordBatch
from teacherd.daemon.deferred_offsets import DeferredIdentity, DeferredLostError, grouped
from teacherd.daemon.entries import Deferred
from teacherd.daemon.taking_in import ReadDeferred, digesting, take_in

CLASSES = ("cat", "dog")


def batch(*, seed: int = 0) -> RecordBatch:
    """Return two records that were deferred, at offsets 3 and 4."""
    return at_offsets(records(["cat", "dog"], seed=seed), first=3)


def planned(*, digest: str | None = None) -> tuple[Deferred, ...]:
    """Return how the plan names them."""
    names = [DeferredIdentity(1, INSTANCES, offset) for offset in (3, 4)]
    return grouped(names, digests=None if digest is None else {(1, INSTANCES): digest})


def digest_of(*batches: RecordBatch) -> str:
    """Return the digest of what passes."""
    found: dict[Partition, RangeDigest] = {}
    assert list(batches) == list(digesting(batches, found))
    return found[INSTANCES].hexdigest()


def reading(*batches: RecordBatch) -> ReadDeferred:
    """Return what reads these, whatever is wanted."""

    def read(_wanted: Sequence[DeferredIdentity]) -> Iterator[RecordBatch]:
        yield from batches

    return read


def taken(entries: tuple[Deferred, ...], *batches: RecordBatch) -> list[int]:
    """Return how many instances each part has that is taken in."""
    with closing(decoder(input_shape=(4,), classes=CLASSES, num_threads=1)) as made:
        return [len(list(part.identities())) for part in take_in(entries, reading(*batches), made)]


def test_the_records_that_were_planned_are_taken_in() -> None:
    """One by one from their file, or together from the stream: the digest is the same."""
    whole = batch()
    single = (whole.part(0, 1), whole.part(1, 2))
    digest = digest_of(whole)

    assert digest == digest_of(*single)
    assert [2] == taken(planned(digest=digest), whole) == taken(planned(digest=digest), *single)


def test_other_records_at_the_same_offsets_are_refused() -> None:
    """As of a topic that was made anew: good instances, but not those that were planned."""
    entries = planned(digest=digest_of(batch()))

    with pytest.raises(DeferredLostError, match=r"task 1 deferred, offsets 3 to 4, are others now"):
        taken(entries, batch(seed=1))


def test_records_of_a_plan_without_their_digest_are_taken_as_they_come() -> None:
    """Plans were written without it, and must be learned as they always were."""
    assert [2] == taken(planned(), batch(seed=1))


def test_records_that_are_gone_are_told_as_gone() -> None:
    """Not as changed: what there is is too few to compare."""
    with pytest.raises(DeferredLostError, match="offset 4, deferred by task 1, is gone"):
        taken(planned(digest=digest_of(batch())), batch().part(0, 1))
