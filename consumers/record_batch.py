"""Records of one partition as columns: what a source delivers and the hot path works on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from teacherd.consumers.headers import pack_headers, readable_headers
from teacherd.consumers.record import Partition, Record


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Consecutive records of one partition, in offset order.

    Columns, because to make an object of each record costs more than to decode a small image;
    iterating makes the objects, for whoever needs few of them.
    """

    partition: Partition
    offsets: Sequence[int]
    keys: Sequence[bytes | None]
    headers: Sequence[bytes]
    """Packed."""
    values: Sequence[bytes]
    timestamps_ms: Sequence[int]

    @classmethod
    def of(cls, records: Sequence[Record]) -> "RecordBatch":
        """Return the columns of records, at least one, all of one partition."""
        partitions, offsets, keys, headers, values, timestamps_ms = zip(*records, strict=True)
        assert len(set(partitions)) == 1, "a batch is of one partition"
        packed = [pack_headers(each) for each in headers]
        return cls(partitions[0], offsets, keys, packed, values, timestamps_ms)

    def __len__(self) -> int:
        return len(self.offsets)

    def __iter__(self) -> Iterator[Record]:
        return map(self.record, range(len(self)))

    def record(self, place: int) -> Record:
        """Return one record."""
        return Record(
            self.partition,
            self.offsets[place],
            self.keys[place],
            readable_headers(self.headers[place]),
            self.values[place],
            self.timestamps_ms[place],
        )

    def part(self, start: int, end: int) -> "RecordBatch":
        """Return the records at the places from start to before end."""
        return RecordBatch(
            self.partition,
            self.offsets[start:end],
            self.keys[start:end],
            self.headers[start:end],
            self.values[start:end],
            self.timestamps_ms[start:end],
        )

    def select(self, places: Sequence[int]) -> "RecordBatch":
        """Return the records at these places, ascending."""
        return RecordBatch(
            self.partition,
            [self.offsets[place] for place in places],
            [self.keys[place] for place in places],
            [self.headers[place] for place in places],
            [self.values[place] for place in places],
            [self.timestamps_ms[place] for place in places],
        )

    def record_bytes(self, place: int) -> int:
        """Return how long key, headers and value of one record are together."""
        return len(self.keys[place] or b"") + len(self.headers[place]) + len(self.values[place])

    @property
    def num_bytes(self) -> int:
        """Return how long the values are together."""
        return sum(map(len, self.values))
