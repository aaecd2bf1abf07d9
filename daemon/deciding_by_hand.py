"""Promote, roll back and retry from the command line: by the running daemon, else on the files."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from teacherd.daemon.commands import Answer, Command
from teacherd.daemon.config import Config
from teacherd.daemon.control_socket import NoDaemonError, ask_daemon
from teacherd.daemon.errors import UsageError
from teacherd.daemon.lineage_reading import read_lineage
from teacherd.daemon.publisher import Publisher
from teacherd.daemon.retrying import ask_next_start
from teacherd.daemon.state_directory import RETRIES, StateDirectory

_POLL_SECONDS = 0.2


def carry_out(config: Config, command: Command) -> Answer:
    """Have the daemon carry a command out; without one do it under the lock.

    Raises:
        UsageError: It cannot be done, or there is no lineage.
        TemporaryError: The directory is held by a process that takes no commands yet.
        TeacherdError: As the daemon answered.
    """
    directory = Path(config.process.state_directory)
    read_lineage(directory)  # a word of what is wrong, before anything is made
    try:
        return {**ask_daemon(directory, command), "by": "the running daemon"}
    except NoDaemonError:
        if command.verb == "drain":
            raise UsageError(
                f"drain: no daemon is running in {directory}: start it, then ask again"
            ) from None
        return {**_carry_out_offline(config, command), "by": "this command: no daemon is running"}


def wait_for_end(process: int) -> None:
    """Wait until a daemon of this machine has ended, however long it learns."""
    while _is_running(process):
        time.sleep(_POLL_SECONDS)


def list_tasks(config: Config) -> list[dict[str, Any]]:
    """Return one row for each task that was set aside, in their order."""
    _, lineage = read_lineage(Path(config.process.state_directory))
    return [
        {
            "task": task,
            "result": aside.result,
            "attempts": aside.attempt,
            "instances": aside.plan.num_instances,
            "head": aside.plan.head,
            "new_classes": list(aside.plan.new_classes),
            "ranges": [
                f"{closed.topic}/{closed.partition} [{closed.start}, {closed.end})"
                for closed in aside.plan.ranges
            ],
        }
        for task, aside in sorted(lineage.set_aside.items())
    ]


def _carry_out_offline(config: Config, command: Command) -> Answer:
    state = StateDirectory(
        Path(config.process.state_directory),
        config.publication,
        keep_checkpoints=config.checkpoints.keep,
        now=_now,
    )
    try:
        publisher = Publisher(state.journal, state.versions, mode=config.publication.mode, now=_now)
        publisher.mend()
        if command.verb == "retry":
            return _retry(config, state, command.number)
        if command.verb == "promote":
            return _promote(config, publisher, command.number)
        to = publisher.choose_target(command.number)
        publisher.close_unfinished()
        rollback = publisher.roll_back(to, cause="request", reason="asked for")
        publisher.serve_current()
        return {"version": rollback.version, "to": to}
    finally:
        state.close()


def _promote(config: Config, publisher: Publisher, version: int | None) -> Answer:
    if version is None:
        raise UsageError("promote needs the number of a version")
    publisher.promote(version, probation_tasks=config.gate.probation_tasks)
    return {"version": version}


def _retry(config: Config, state: StateDirectory, number: int | None) -> Answer:
    """Write the request down: the next start reads the task, and learns it."""
    lineage = state.journal.lineage
    if number is None:
        raise UsageError("retry needs the number of a task")
    ask_next_start(Path(config.process.state_directory) / RETRIES, number, lineage)
    return {"task": number, "after": lineage.unfinished.task if lineage.unfinished else None}


def _is_running(process: int) -> bool:
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    # Behind the name, which may hold anything; a zombie has ended and is not yet noticed.
    return status.rpartition(")")[2].split()[0] not in ("Z", "X")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
