"""What the decoder made of a batch of records, as columns."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat

from teacherd.consumers.instance import Array, Instance, Rejected

Result = Instance | Rejected

Rows = Array | Sequence[Array]
"""A block where arrays were decoded together, else one by one: new memory for a block of images
would cost more than the copy into it."""


@dataclass(frozen=True, slots=True)
class DecodedBatch:
    """Instances in a block, the others by their place; together as many as the records.

    Iterating makes an object of each, in the order of the records.
    """

    places: Sequence[int]
    """[M], places of the instances among the records, ascending."""
    rows: Rows
    """[M, ...], perhaps read-only."""
    labels: Sequence[int]
    """[M]"""
    ids: Sequence[bytes | None]
    """[M]"""
    event_times_ms: Sequence[int]
    """[M]"""
    rejected: Mapping[int, Rejected]
    """By place among the records, ascending."""
    named: Mapping[int, str] = field(default_factory=dict)
    """By place among the records: classes of instances whose label is NAMED."""

    def __len__(self) -> int:
        return len(self.places) + len(self.rejected)

    def __iter__(self) -> Iterator[Result]:
        names = map(self.named.get, self.places) if self.named else repeat(None)
        instances = map(Instance, self.rows, self.labels, self.ids, self.event_times_ms, names)
        for place in range(len(self)):
            rejected = self.rejected.get(place)
            yield next(instances) if rejected is None else rejected

    @property
    def num_bytes(self) -> int:
        """Return how much memory the arrays and ids take."""
        num_row_bytes = len(self.rows) * self.rows[0].nbytes if self.places else 0
        return num_row_bytes + sum(map(len, filter(None, self.ids)))

    def part(self, start: int, end: int) -> "DecodedBatch":
        """Return what the records at the places from start to before end are."""
        low, high = bisect_left(self.places, start), bisect_left(self.places, end)
        return DecodedBatch(
            [place - start for place in self.places[low:high]],
            self.rows[low:high],
            self.labels[low:high],
            self.ids[low:high],
            self.event_times_ms[low:high],
            {
                place - start: rejected
                for place, rejected in self.rejected.items()
                if start <= place < end
            },
            {place - start: name for place, name in self.named.items() if start <= place < end},
        )

    @classmethod
    def joined(cls, batches: Sequence["DecodedBatch"]) -> "DecodedBatch":
        """Return consecutive batches, at least one, as one."""
        starts = [sum(map(len, batches[:number])) for number in range(len(batches))]
        numbered = list(zip(starts, batches, strict=True))
        return cls(
            places=[start + place for start, batch in numbered for place in batch.places],
            rows=[row for batch in batches for row in batch.rows],
            labels=[label for batch in batches for label in batch.labels],
            ids=[each for batch in batches for each in batch.ids],
            event_times_ms=[time for batch in batches for time in batch.event_times_ms],
            rejected={
                start + place: rejected
                for start, batch in numbered
                for place, rejected in batch.rejected.items()
            },
            named={
                start + place: name
                for start, batch in numbered
                for place, name in batch.named.items()
            },
        )
