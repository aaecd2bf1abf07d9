"""What a rank says of itself at each tick: what waits in its buffer, and what it has read."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from teacherd.consumers.buffer_standing import BufferStanding
from teacherd.consumers.record import OffsetRange, Partition
from teacherd.consumers.task_buffer import LostRange
from teacherd.daemon.rank_message import RankMessage


@dataclass(frozen=True, kw_only=True, slots=True)
class RankReport:
    """One rank at one moment."""

    standing: BufferStanding
    skips: tuple[LostRange, ...] = ()
    """Handed over with it: what is gone, to be noted before its next part is taken."""
    is_at_end: bool = False
    """Whether it has read all there is, if that was asked for."""
    wants_stop: bool = False
    """Whether it was told to end."""
    taken_in: tuple[int, int] = (0, 0)
    """Records that it has read since its start, and how many of them were rejected."""
    intake: Mapping[str, Any] = field(default_factory=dict)
    """Its section of the status."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """Its metrics of the stream."""

    def to_message(self) -> RankMessage:
        """Return it as it is sent."""
        facts = {
            "standing": asdict(self.standing),
            "skips": [[*each] for each in self.skips],
            "is_at_end": self.is_at_end,
            "wants_stop": self.wants_stop,
            "taken_in": [*self.taken_in],
            "intake": self.intake,
            "figures": self.figures,
        }
        return RankMessage("report", facts)

    @classmethod
    def from_message(cls, message: RankMessage) -> Self:
        """Read what `to_message` has written."""
        facts = message.facts
        standing, skips = BufferStanding(**facts["standing"]), map(_lost, facts["skips"])
        taken_in = tuple(facts["taken_in"])
        return cls(**{**facts, "standing": standing, "skips": tuple(skips), "taken_in": taken_in})


def _lost(skip: list[Any]) -> LostRange:
    (partition, start, end), reason, topic_id = skip
    return LostRange(OffsetRange(Partition(*partition), start, end), reason, topic_id)
