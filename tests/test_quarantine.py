"""Quarantine: what could not be learned lies there as it came, until it is."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from lineages import next_plan, open_state
from structlog.testing import capture_logs

from teacherd.consumers.buffered_task import PlannedRange
from teacherd.consumers.record import Partition, Record
from teacherd.consumers.record_batch import RecordBatch
from teacherd.consumers.task_rebuilding import RangeMismatchError
from teacherd.daemon.entries import Open, Outcome, Plan
from teacherd.daemon.errors import StateError
from teacherd.daemon.quarantine import Quarantine
from teacherd.daemon.state_directory import StateDirectory

RECORDS = [
    Record(Partition("t", 0), 3, b"\x00key", (("label", b"cat"),), b"\xff\x00value", 7),
    Record(Partition("t", 0), 4, None, (), b"", 8),
]


def open_lineage(directory: Path) -> tuple[StateDirectory, Plan]:
    """Return a state directory with one plan."""
    state = open_state(directory)
    state.journal.record(Open(lineage="a1", seed=7, sha256="00", classes=("cat",)))
    plan = next_plan(state)
    state.journal.record(plan)
    return state, plan


def test_records_lie_there_as_they_came(tmp_path: Path) -> None:
    """Every byte of them, and why they are there."""
    state, plan = open_lineage(tmp_path / "state")
    folder = state.quarantine.keep(plan, "loss is nan", iter([RecordBatch.of(RECORDS)]))
    state.close()
    facts = json.loads((folder / "task.json").read_bytes())
    first, second = map(json.loads, (folder / "records.jsonl").read_text().splitlines())

    assert ("000001", 1, "loss is nan", 2) == (
        folder.name,
        facts["task"],
        facts["reason"],
        facts["records"],
    )
    assert ("t", 0, 3, 7) == tuple(
        first[key] for key in ("topic", "partition", "offset", "timestamp_ms")
    )
    assert [["label", "cat"]] == first["headers"]
    assert b"\x00key" == base64.b64decode(first["key"])
    assert b"\xff\x00value" == base64.b64decode(first["value"])
    assert (None, "") == (second["key"], second["value"])


def test_they_come_back_as_they_were_where_the_stream_has_others(tmp_path: Path) -> None:
    """Every byte; what is there and does is preferred, and what is damaged is left out."""
    state, plan = open_lineage(tmp_path / "state")
    folder = state.quarantine.keep(plan, "nan", iter([RecordBatch.of(RECORDS)]))
    state.close()
    planned = PlannedRange(
        partition=Partition("t", 0), start=3, end=5, count=2, digest="d", rejected=()
    )

    def take(batches: Iterator[RecordBatch]) -> list[Record]:
        found = [record for batch in batches for record in batch]
        if len(found) != planned.count:
            raise RangeMismatchError(planned, "count", planned.count, len(found))
        return found

    assert RECORDS == state.quarantine.make_good(1, iter([]), take)

    path = folder / "records.jsonl"
    path.write_bytes(path.read_bytes()[:-20])

    assert RECORDS == state.quarantine.make_good(1, iter([RecordBatch.of(RECORDS)]), take)
    for task in (1, 2):
        with pytest.raises(RangeMismatchError):
            state.quarantine.make_good(task, iter([]), take)


def test_kept_records_that_the_disk_does_not_give_are_none(tmp_path: Path) -> None:
    """The stream's mismatch is the answer, which retries and starts know; the error is told."""
    state, plan = open_lineage(tmp_path / "state")
    folder = state.quarantine.keep(plan, "nan", iter([RecordBatch.of(RECORDS)]))
    state.close()
    (folder / "records.jsonl").unlink()
    (folder / "records.jsonl").symlink_to(
        "/proc/self/mem"
    )  # reading its first page is an I/O error
    planned = PlannedRange(
        partition=Partition("t", 0), start=3, end=5, count=2, digest="d", rejected=()
    )

    def refuse(batches: Iterator[RecordBatch]) -> None:
        raise RangeMismatchError(planned, "count", planned.count, len(list(batches)))

    with capture_logs() as logs, pytest.raises(RangeMismatchError):
        state.quarantine.make_good(1, iter([]), refuse)

    assert ["quarantine_unreadable"] == [each["event"] for each in logs]
    assert "Input/output error" in logs[0]["error"]


def test_what_is_there_is_not_written_again(tmp_path: Path) -> None:
    """A crash came before the outcome: the second start finds the records there."""
    state, plan = open_lineage(tmp_path / "state")
    folder = state.quarantine.keep(plan, "first", iter([RecordBatch.of(RECORDS)]))
    state.quarantine.keep(plan, "second", iter([]))
    state.close()

    assert "first" == json.loads((folder / "task.json").read_bytes())["reason"]


def test_a_start_keeps_what_is_set_aside_and_removes_the_rest(tmp_path: Path) -> None:
    """A task that a later attempt has learned is no longer in quarantine; nor is half a folder."""
    state, plan = open_lineage(tmp_path / "state")
    folder = state.quarantine.keep(plan, "nan", iter([]))
    state.close()
    (folder.parent / ".tmp-000002-77").mkdir()
    state = open_state(tmp_path / "state")

    assert [folder] == list(folder.parent.iterdir())

    state.journal.record(Outcome(task=1, result="quarantined"))
    state.quarantine.mend(state.journal.lineage)
    assert folder.is_dir()

    state.journal.record(next_plan(state))
    state.journal.record(Outcome(task=2, result="held"))
    state.quarantine.keep(next_plan(state), "nan", iter([]))
    state.quarantine.mend(state.journal.lineage)
    state.close()

    assert [folder] == list(folder.parent.iterdir())


def test_a_disk_that_refuses_is_named(tmp_path: Path) -> None:
    """The daemon ends with 74, and the next start tries again."""
    state, plan = open_lineage(tmp_path / "state")
    state.close()
    (tmp_path / "file").write_text("")

    with pytest.raises(StateError, match="file/quarantine: cannot be made"):
        Quarantine(tmp_path / "file" / "quarantine").keep(plan, "nan", iter([]))
