"""The payloads of deferred records: durable, found again, gone when nobody needs them."""

import json
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
from records import INSTANCES, at_offsets

from teacherd.consumers.producing import NPY, build_record
from teacherd.daemon.deferred_offsets import (
    DeferredIdentity,
    DeferredLostError,
    DeferredOffsets,
    grouped,
    identities,
)
from teacherd.daemon.deferred_store import DeferredRecord, DeferredStore, new_record
from teacherd.daemon.durable import failpoints
from teacherd.daemon.entries import ClosedRange, Deferred, Plan
from teacherd.daemon.errors import StateError
from teacherd.daemon.lineage import Lineage


@dataclass
class Waiting:
    """As much of a lineage as the store asks for."""

    deferred: Iterable[DeferredIdentity]
    set_aside: dict[int, object] = field(default_factory=dict)
    unfinished: None = None


def needing(*offsets: int, task: int = 1) -> Lineage:
    """Return a lineage in which these records wait."""
    names = [DeferredIdentity(task, INSTANCES, offset) for offset in offsets]
    return cast("Lineage", Waiting(names))


def record(offset: int, *, task: int = 1, size: int = 100) -> DeferredRecord:
    """Return a record to be deferred."""
    value = bytes([offset]) * size
    batch = at_offsets([build_record(value, content_type=NPY, label="fox")], first=offset)
    return new_record(task, "fox", b"id-%d" % offset, batch)


def test_what_was_put_is_found_again(tmp_path: Path) -> None:
    """By another process: label, id, and the record as it came."""
    DeferredStore(tmp_path).put(1, [record(3), record(5)])
    store = DeferredStore(tmp_path)
    missing = store.open(needing(3, 5, 9))
    (found,) = store.batches([DeferredIdentity(1, INSTANCES, 5)])

    assert [9] == [each.offset for each in missing]
    assert [("fox", b"id-3"), ("fox", b"id-5")] == [
        (each.name, each.id) for each in store.records.values()
    ]
    assert (bytes([5]) * 100, 5) == (found.values[0], found.offsets[0])
    assert b"fox" == dict(found.record(0).headers)["label"]


def test_the_bytes_are_those_on_the_disk(tmp_path: Path) -> None:
    """So that a bound on them is one on the disk."""
    store = DeferredStore(tmp_path)
    store.put(1, [record(3), record(5)])

    size = (tmp_path / "000001.jsonl").stat().st_size
    assert size == sum(each.num_bytes for each in store.records.values())


def test_a_file_goes_with_its_last_record_and_shrinks_before(tmp_path: Path) -> None:
    """Written anew when more than half of it is gone."""
    store = DeferredStore(tmp_path)
    store.put(1, [record(offset) for offset in range(4)])
    before = (tmp_path / "000001.jsonl").stat().st_size
    store.keep(needing(0, 1, 2))
    same = (tmp_path / "000001.jsonl").stat().st_size
    store.keep(needing(2))
    shrunk = (tmp_path / "000001.jsonl").stat().st_size
    (batch,) = store.batches([DeferredIdentity(1, INSTANCES, 2)])
    store.keep(needing())

    assert before == same
    assert before == pytest.approx(4 * shrunk, rel=0.05)
    assert bytes([2]) * 100 == batch.values[0]
    assert [] == list(tmp_path.iterdir())


def test_what_is_not_there_is_told_as_lost(tmp_path: Path) -> None:
    """So that a task that would take it in is given up, not the daemon."""
    store = DeferredStore(tmp_path)
    store.put(1, [record(3)])
    with pytest.raises(
        DeferredLostError, match="instances/0 offset 4, deferred by task 1, is gone"
    ):
        list(store.batches([DeferredIdentity(1, INSTANCES, offset) for offset in (3, 4)]))


def test_records_can_be_read_while_their_file_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the thread that reads a task once more; the learning thread does not know when."""
    store = DeferredStore(tmp_path)
    store.put(1, [record(offset) for offset in range(4)])
    found: list[bytes] = []

    def read() -> None:
        found.extend(
            batch.values[0] for batch in store.batches([DeferredIdentity(1, INSTANCES, 3)])
        )

    reader = threading.Thread(target=read, daemon=True)

    def begin_reading(name: str) -> None:
        if name == "000001.jsonl.renamed":
            reader.start()
            reader.join(0.1)

    monkeypatch.setattr(failpoints, "_tell", begin_reading)
    store.keep(needing(3))
    reader.join()

    assert [bytes([3]) * 100] == found


@pytest.mark.parametrize("damage", ["value", "label", "cut"])
def test_a_damaged_line_is_missing_and_the_others_are_not(tmp_path: Path, damage: str) -> None:
    """Each line has a digest of its own."""
    DeferredStore(tmp_path).put(1, [record(3), record(5)])
    path = tmp_path / "000001.jsonl"
    first, second = path.read_text().splitlines(keepends=True)
    fields = json.loads(second)
    changed = {
        "value": second.replace(fields["value"], "A" * len(fields["value"])),
        "label": second.replace('"label":"fox"', '"label":"elk"'),
        "cut": second[: len(second) // 2],
    }[damage]
    path.write_text(first + changed)
    store = DeferredStore(tmp_path)

    assert [5] == [each.offset for each in store.open(needing(3, 5))]
    assert [3] == [each.offset for each in store.records]


def test_damage_while_it_runs_is_told_and_not_learned(tmp_path: Path) -> None:
    """The process ends with 74; the next start reads the stream again."""
    store = DeferredStore(tmp_path)
    store.put(1, [record(3)])
    path = tmp_path / "000001.jsonl"
    path.write_bytes(path.read_bytes().replace(b"fox", b"elk"))

    with pytest.raises(StateError, match="is not what was written"):
        list(store.batches([DeferredIdentity(1, INSTANCES, 3)]))


def plan(task: int, *deferred: int, **changes: tuple[Deferred, ...]) -> Plan:
    """Return a plan that defers these offsets."""
    closed = ClosedRange(
        topic="instances", partition=0, start=0, end=9, count=9, digest="", deferred=deferred
    )
    return Plan(
        task=task,
        cause="count",
        head=0,
        seed=0,
        epochs=1,
        learning_rate=1.0,
        num_instances=1,
        ranges=(closed,),
        **changes,
    )


def named(*offsets: int, task: int = 1) -> tuple[Deferred, ...]:
    """Return these records of a task as a plan names them."""
    return grouped(DeferredIdentity(task, INSTANCES, offset) for offset in offsets)


def test_the_fold_follows_what_plans_say() -> None:
    """Deferred by one, taken in or dropped by a later one, or dropped at once."""
    offsets = DeferredOffsets()
    offsets.apply(plan(1, 3, 4, 5))
    offsets.apply(plan(2, 3, 7, taken=named(4), dropped=(*named(3), *named(7, task=2))))

    assert [(1, 5), (2, 3)] == [(each.task, each.offset) for each in offsets]


@pytest.mark.parametrize(
    "changes",
    [
        {"taken": named(4)},
        {"dropped": named(4)},
        {"taken": named(3), "dropped": named(3)},
        {"taken": named(3, task=2)},
    ],
)
def test_what_is_not_deferred_cannot_be_taken_in(changes: dict[str, tuple[Deferred, ...]]) -> None:
    """Nor twice: the log would have a record in two places."""
    offsets = DeferredOffsets()
    offsets.apply(plan(1, 3))

    assert offsets.contradiction(plan(2, **changes)) is not None
    assert offsets.contradiction(plan(2, taken=named(3))) is None


def test_records_are_named_in_order() -> None:
    """By task, partition and offset, however they were found."""
    names = [
        DeferredIdentity(2, INSTANCES, 1),
        *(DeferredIdentity(1, INSTANCES, n) for n in (9, 4)),
    ]
    entries = grouped(names, frozenset(names[:1]))

    assert [(1, (4, 9), ()), (2, (1,), (1,))] == [
        (each.task, each.offsets, each.held_out) for each in entries
    ]
    assert sorted(names) == list(identities(entries))
