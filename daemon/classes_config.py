"""What becomes of labels that are none of the head's classes."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassesConfig:
    """When a label that the model has never seen becomes a class of it (docs/new-classes.md)."""

    unknown: Literal["reject", "grow"] = "reject"
    """reject: a record with such a label is none, and a dead letter; grow: it waits, deferred,
    until its label has been seen often enough to be learned as a new class."""
    allow: tuple[str, ...] = ("*",)
    """Patterns (*, ?, [abc]) of the labels that may become classes; one with ! before it takes
    labels out again, and the last that fits decides. Others are rejected, however often they
    come: name them where you know what may come."""
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
        if all(pattern.startswith("!") for pattern in self.allow):
            raise ValueError(
                f'allow: {list(self.allow)}: lets no label become a class; begin with "*" for any, '
                "or take unknown: reject"
            )

    def allows(self, name: str) -> bool:
        """Tell whether a label may become a class, if it comes often enough."""
        is_allowed = False
        for pattern in self.allow:
            if fnmatchcase(name, pattern.removeprefix("!")):
                is_allowed = not pattern.startswith("!")
        return is_allowed
