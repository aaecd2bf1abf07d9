"""Fills a rehearsal memory as the accepted tasks of a lineage log did: from their records."""

from collections.abc import Callable, Sequence

import structlog

from teacherd.consumers.buffered_task import BufferedTask
from teacherd.daemon.config import DecidingConfig
from teacherd.daemon.entries import Config, Outcome, Plan, Retry
from teacherd.daemon.errors import UnavailableError
from teacherd.daemon.holdout_split import split
from teacherd.daemon.learner_building import num_common
from teacherd.daemon.lineage import Lineage
from teacherd.daemon.lineage_log import LoggedEntry, read_lineage_log
from teacherd.daemon.memory_file import StoredMemory
from teacherd.daemon.standing import where_held_out
from teacherd.daemon.state_directory import StateDirectory
from teacherd.models.draws import Draws
from teacherd.models.memory import Memory, MemoryConfig

Reread = Callable[[Plan, DecidingConfig], BufferedTask]
"""Makes a planned task of its records once more, decoded as those settings say."""


class MemoryLostError(UnavailableError):
    """Records that the memory has to be filled with again are gone."""


def remember(
    memory: Memory, entries: Sequence[LoggedEntry], *, num_known: int, reread: Reread
) -> list[int]:
    """Bring a memory to the end of a log; return the tasks whose records were read for it.

    Args:
        memory: Has seen the first entries.
        entries: Of the log, all of them from its beginning.
        num_known: How many the memory has seen.
        reread: Called for each accepted task behind them that was learned with a memory.

    Raises:
        MemoryLostError: The records of one are gone or changed.
    """
    if not any(_memory_of(each.entry) for each in entries if isinstance(each.entry, Config)):
        return []
    lineage, plans, read = Lineage(), dict[int, Plan](), list[int]()
    for place, logged in enumerate(entries):
        entry = logged.entry
        before = lineage.classes if lineage.versions else ()
        lineage.apply(entry)
        if isinstance(entry, Plan | Retry) and lineage.unfinished is not None:
            plans[lineage.unfinished.task] = lineage.unfinished
        if place < num_known:
            continue
        if isinstance(entry, Outcome) and entry.result == "accepted":
            if _offer(memory, lineage, plans[entry.task], entry, reread):
                read.append(entry.task)
        elif before:
            memory.keep_classes(num_common(before, lineage.classes))
    return read


def recall(
    memory: Memory, state: StateDirectory, *, reread: Reread, configured: MemoryConfig
) -> None:
    """Fill a memory at a start: from the newest checkpoint, and from the records of tasks since.

    Args:
        memory: Is filled.
        state: Has checkpoints and log.
        reread: As for `remember`.
        configured: Who wants no memory any more goes on without one that is lost.

    Raises:
        MemoryLostError: Records that it needs are gone or changed.
    """
    stored = state.newest.memory if state.newest else StoredMemory()
    memory.load_state_dict(stored.state)
    log = structlog.get_logger()
    try:
        tasks = remember(
            memory,
            read_lineage_log(state.log_path),
            num_known=stored.num_entries,
            reread=reread,
        )
    except MemoryLostError as error:
        if configured.instances_per_class:
            raise
        log.warning("memory_lost", error=str(error))
        memory.forget()
    else:
        if tasks:
            log.info("memory_gathered", tasks=tasks, instances=len(memory))


def _offer(memory: Memory, lineage: Lineage, plan: Plan, outcome: Outcome, reread: Reread) -> bool:
    """Let a memory see an accepted task; return whether its records were needed."""
    assert lineage.settings is not None, "every plan comes after a config entry"
    settings = DecidingConfig.from_entry(lineage.settings.settings)
    if settings.learning.memory.instances_per_class == 0:
        memory.forget()
        return False
    try:
        task = reread(plan, settings)
    except UnavailableError as error:
        raise MemoryLostError(
            f"the rehearsal memory needs the records of task {plan.task} again: {error}; restore "
            "the stream or the checkpoints, or set learning.memory.instances_per_class: 0"
        ) from error
    learned, _ = split(task, where_held_out(plan), lineage.first_classes)
    classes = lineage.versions[outcome.version or 0].classes
    memory.offer(
        settings.learning.memory,
        learned.inputs,
        learned.labels_for(classes),
        num_classes=len(classes),
        draws=Draws(seed=plan.seed, task=plan.task),
    )
    return True


def _memory_of(entry: Config) -> int:
    """Return how many instances of a class are kept, by a log that may know of no memory."""
    memory = entry.settings.get("learning", {}).get("memory", {})
    number: int = memory.get("instances_per_class", MemoryConfig().instances_per_class)
    return number
