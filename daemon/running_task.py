"""The task that the learning thread has in hand."""

from dataclasses import dataclass

from teacherd.consumers.buffered_task import BufferedTask
from teacherd.daemon.entries import Plan


@dataclass(slots=True)
class RunningTask:
    """A plan that has no outcome yet."""

    plan: Plan
    """Of the newest attempt."""
    task: BufferedTask | None
    """None where its records are lost."""
    started: float
    """On the monotonic clock, in seconds."""
    is_whole: bool = True
    """Whether all of it is learned in this process, so that its duration says what it costs."""
