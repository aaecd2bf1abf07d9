"""Quarantine: the records of tasks that could not be learned, as they came, for people to look at.

A folder for each task, `000003/`, appears at once before the outcome that says so, and goes when
a later attempt is accepted, or the task is forgotten.
"""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import structlog

from teacherd.consumers.record_batch import RecordBatch
from teacherd.consumers.task_rebuilding import RangeMismatchError
from teacherd.daemon.durable import (
    make_directory,
    remove_folder,
    remove_temporaries,
    write_folder,
)
from teacherd.daemon.entries import Plan
from teacherd.daemon.errors import StateError
from teacherd.daemon.lineage import Lineage
from teacherd.daemon.record_lines import read_record, write_line

T = TypeVar("T")

TASK = "task.json"
RECORDS = "records.jsonl"


class Quarantine:
    """Owns `quarantine/` of a state directory, which is made with the first task in it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def keep(self, plan: Plan, reason: str, batches: Iterator[RecordBatch]) -> Path:
        """Write a task's records durably; what an earlier attempt has written stays.

        Raises:
            StateError: The disk refused; nothing has appeared.
            SourceError: The records cannot be read for now; nothing has appeared.
        """
        folder = self._folder(plan.task)
        if folder.exists():
            return folder

        def fill(draft: Path) -> None:
            with (draft / RECORDS).open("w", encoding="utf-8") as file:
                count = 0
                for batch in batches:
                    file.writelines(write_line(batch, place) for place in range(len(batch)))
                    count += len(batch)
            facts = {"task": plan.task, "reason": reason, "records": count, "plan": asdict(plan)}
            (draft / TASK).write_text(json.dumps(facts, indent=1), encoding="utf-8")

        try:
            make_directory(self._directory)
        except OSError as error:
            raise StateError(self._directory, f"cannot be made: {error.strerror}") from error
        write_folder(folder, fill, name="quarantine")
        return folder

    def mend(self, lineage: Lineage) -> None:
        """Remove what is no longer set aside, and what a crash left.

        Raises:
            StateError: The disk refused.
        """
        if not self._directory.is_dir():
            return
        unfinished = lineage.unfinished.task if lineage.unfinished is not None else None
        # One that was tried again and held may be the last to know its records.
        kept = {self._folder(task) for task in (*lineage.set_aside, unfinished) if task}
        try:
            remove_temporaries(self._directory)
            for folder in set(self._directory.iterdir()) - kept:
                remove_folder(folder)
                structlog.get_logger().info("quarantine_removed", folder=str(folder))
        except OSError as error:
            raise StateError(self._directory, f"cannot be tidied up: {error.strerror}") from error

    def make_good(
        self, task: int, batches: Iterator[RecordBatch], make: Callable[[Iterator[RecordBatch]], T]
    ) -> T:
        """Make something of a task's records; of those kept here where the stream's do not do.

        Raises:
            RangeMismatchError: `make` will have neither.
        """
        try:
            return make(batches)
        except RangeMismatchError as mismatch:
            try:
                if not (self._folder(task) / RECORDS).is_file():
                    raise
                return make(self._read(task))
            except OSError as error:
                folder = str(self._folder(task))
                structlog.get_logger().warning(
                    "quarantine_unreadable", folder=folder, error=str(error)
                )
                raise mismatch from error

    def _read(self, task: int) -> Iterator[RecordBatch]:
        """Yield the records of a task; what is damaged is left out, which their digest tells."""
        with (
            (self._folder(task) / RECORDS).open("rb") as file,
            contextlib.suppress(ValueError, KeyError, TypeError),
        ):
            for line in file:
                yield read_record(json.loads(line))

    def _folder(self, task: int) -> Path:
        return self._directory / f"{task:06d}"


def quarantined(lineage: Lineage) -> list[int]:
    """Return the tasks that are in quarantine now."""
    return [task for task, aside in lineage.set_aside.items() if aside.result == "quarantined"]
