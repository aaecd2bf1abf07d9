"""How many tasks that were set aside can still be tried again."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class SetAsideConfig:
    """What becomes of tasks that were held, quarantined or lost."""

    keep_tasks: int = 100
    """Newest of them that can be tried again; older ones are forgotten, with what quarantine holds
    of them: each takes a plan in memory, and a quarantined one all its records on the disk."""

    def __post_init__(self) -> None:
        """Check what the types cannot say."""
        if self.keep_tasks < 1:
            raise ValueError(f"keep_tasks: {self.keep_tasks}: must be above 0; take 100")
