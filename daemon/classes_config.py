"""What becomes of labels that are none of the head's classes."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassesConfig:
    """When a label that the model has never seen becomes a class of it (docs/new-classes.md)."""

    unknown: Literal["reject", "grow"] = "reject"
    """reject: a record with such a label is none, and a dead letter; grow: it waits, deferred,
    until its label has been seen often enough to be learned as a new class."""
    min_instances: int = 100
    """Records of a label, deferred ones counted, from which on it is a class; fewer are hardly
    enough to learn it, and labels that are typing errors never come so often."""
    max_new_per_task: int = 10
    """Classes that one task may bring, those with the most records first; the others wait."""
    max_total: int = 1000
    """Classes that the head may have: labels beyond that wait until they are dropped."""
    max_deferred_bytes: int = 64 << 20
    """What deferred records may take, on the disk; the oldest are dropped for newer ones, with a
    dead letter each."""
    max_deferred_tasks: int = 50
    """A record waits for so many tasks, and is then dropped, too: with min_instances it says how
    rare a class may be."""

    def __post_init__(self) -> None:
        """Check what the types cannot say."""
        for name, usual in (
            ("min_instances", 100),
            ("max_new_per_task", 10),
            ("max_total", 1000),
            ("max_deferred_bytes", 64 << 20),
            ("max_deferred_tasks", 50),
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)}: must be above 0; take {usual}")
