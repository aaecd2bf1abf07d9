"""The settings of the drift detectors."""

from dataclasses import dataclass, field
from typing import Literal

DetectorKind = Literal["adwin", "page_hinkley", "kswin", "none"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorDetectorConfig:
    """Drift in the teacher's error on the stream, instance by instance before it learns them."""

    kind: DetectorKind = "adwin"
    """adwin, page_hinkley, kswin (slow, and on blocks of 50 instances), or none; docs/drift.md
    compares them."""
    adwin_delta: float = 0.002
    """Of adwin: chance of a false alarm by one of its tests; smaller alarms later."""
    page_hinkley_delta: float = 0.01
    """Of page_hinkley: rise of the error that is no drift yet."""
    page_hinkley_threshold: float = 50.0
    """Of page_hinkley: errors above that rise, added up, that are drift."""
    kswin_alpha: float = 0.0001
    """Of kswin: chance of a false alarm by one of its tests."""

    def __post_init__(self) -> None:
        for name, usual in (("adwin_delta", 0.002), ("kswin_alpha", 0.0001)):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(
                    f"{name}: {getattr(self, name)}: must be above 0 and below 1; take {usual}"
                )
        if self.page_hinkley_delta < 0:
            raise ValueError(
                f"page_hinkley_delta: {self.page_hinkley_delta}: must not be negative; take 0.01"
            )
        if self.page_hinkley_threshold <= 0:
            raise ValueError(
                f"page_hinkley_threshold: {self.page_hinkley_threshold}: must be above 0; raise it"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class OuterDetectorConfig(ErrorDetectorConfig):
    """Drift in the outer ratio, task by task: what is too slow to be seen within a task."""

    kind: DetectorKind = "page_hinkley"
    """adwin, page_hinkley, kswin or none; one value comes per task, so few is all there is."""
    page_hinkley_threshold: float = 0.05
    """Of page_hinkley: rises of the outer ratio, added up over tasks, that are drift."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DriftConfig:
    """How drift is told, and what follows from it."""

    error: ErrorDetectorConfig = field(default_factory=ErrorDetectorConfig)
    """Drift in the teacher's error on the stream, instance by instance before it learns them."""
    outer: OuterDetectorConfig = field(default_factory=OuterDetectorConfig)
    """Drift in the outer ratio, task by task: what is too slow to be seen within a task."""
    watch_inputs: bool = True
    """Whether inputs are held against a reference, as version 0's network embeds them; costs one
    forward pass per instance, against several hundred that learn it."""
    watch_labels: bool = True
    """Whether the shares of the classes are held against a reference."""
    min_instances: int = 1000
    """Instances seen since the start, or since the last alarm, before the error can raise one."""
    false_alarm_rate: float = 0.001
    """Chance per task of a false alarm by inputs or labels where instances are independent."""
    smallest_input_shift: float = 0.1
    """Shift of the inputs (0 to about 1.4) below which it is no alarm, however sure."""
    smallest_label_shift: float = 0.1
    """Share of instances whose class would have to change, below which it is no alarm."""
    cut_early: bool = False
    """Whether a drift that the error shows while records arrive cuts the task at once."""
    learning_rate_factor: float = 1.0
    """Times the learning rate, for a task cut by drift and for the one after an alarm of error or
    outer ratio; 1 changes nothing."""

    def __post_init__(self) -> None:
        if self.min_instances < 1:
            raise ValueError(f"min_instances: {self.min_instances}: must be at least 1; take 1000")
        if not 0 < self.false_alarm_rate < 1:
            raise ValueError(
                f"false_alarm_rate: {self.false_alarm_rate}: must be above 0 and below 1; "
                "take 0.001"
            )
        for name in ("smallest_input_shift", "smallest_label_shift"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: {getattr(self, name)}: must not be negative; take 0.1")
        if self.learning_rate_factor <= 0:
            raise ValueError(
                f"learning_rate_factor: {self.learning_rate_factor}: must be above 0; "
                "1 changes nothing"
            )

    @property
    def is_on(self) -> bool:
        """Whether anything is watched."""
        return self != DriftConfig.off()

    @classmethod
    def off(cls) -> "DriftConfig":
        """Return settings with which nothing is watched."""
        return cls(
            error=ErrorDetectorConfig(kind="none"),
            outer=OuterDetectorConfig(kind="none"),
            watch_inputs=False,
            watch_labels=False,
        )
