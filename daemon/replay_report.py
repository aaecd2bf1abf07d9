"""What a replay found: each version held against the lineage log, and what that comes to."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Result = Literal["equal", "unequal", "other_runtime"]
"""other_runtime: bits differ, and so does something that bits depend on."""


Facts = Mapping[str, tuple[str, str]]
"""What bits depend on that differs: by name, as it was then and as it is now."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionComparison:
    """A version that was made again."""

    version: int
    task: int | None
    """None for what a rollback made."""
    sha256: str
    """Of the weights that the replay came to."""
    logged_sha256: str
    differing_facts: Facts
    largest_difference: float | None = None
    """Of a weight, where bits differ and the version is still there to compare."""
    agreement: float | None = None
    """Share of the task's instances that both networks give the same class, where bits differ."""

    @property
    def result(self) -> Result:
        """What this comes to."""
        if self.sha256 == self.logged_sha256:
            return "equal"
        return "other_runtime" if self.differing_facts else "unequal"


@dataclass(frozen=True, kw_only=True, slots=True)
class VerdictComparison:
    """A decision that was made again and came out otherwise."""

    task: int
    differing_facts: Facts
    differences: Mapping[str, tuple[Any, Any]]
    """By name: as logged, and as decided now."""

    @property
    def result(self) -> Result:
        """What this comes to."""
        return "other_runtime" if self.differing_facts else "unequal"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplayReport:
    """Everything that a replay came to."""

    lineage: str
    start: int
    """The version that it began with."""
    target: int
    versions: tuple[VersionComparison, ...]
    num_verdicts: int
    """Decisions that were made again."""
    verdicts: tuple[VerdictComparison, ...]
    """Those that came out otherwise."""
    not_judged: tuple[int, ...]
    """Tasks whose decision cannot be made again, because records, holdouts or versions that it was
    made with are gone; what became of them is taken from the log."""

    @property
    def result(self) -> Result:
        """The worst of its parts; equal means every version and every decision."""
        results = {each.result for each in self.versions}
        results |= {each.result for each in self.verdicts}
        if "unequal" in results:
            return "unequal"
        return "other_runtime" if "other_runtime" in results else "equal"

    @property
    def differing_facts(self) -> dict[str, tuple[str, str]]:
        """All that differs between the runtimes of then and now."""
        return {
            name: facts for each in self.versions for name, facts in each.differing_facts.items()
        }

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            **asdict(self),
            "result": self.result,
            "differing_facts": self.differing_facts,
            "versions": [{**asdict(each), "result": each.result} for each in self.versions],
        }
