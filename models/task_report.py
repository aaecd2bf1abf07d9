"""What a learned task came to."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskReport:
    """What learning a task came to."""

    task: int
    """Number of the task."""
    num_instances: int
    """Instances in the task."""
    num_steps: int
    """Optimizer steps made."""
    num_epochs: int
    """Passes over the task."""
    outer_share: float
    """Share of the task that the old teacher got wrong before it was learned (method.md 2.1)."""
    losses: dict[str, float]
    """Mean of each loss term over the last epoch: total, fused and, where there is dust, dust."""
    num_consolidations: int
    """Times that the student was consolidated into the teacher."""
    retain: float
    """Share of the old teacher left in the parameters of the candidate."""
    sigma: float | None
    """Standard deviation of the dust; None where none was needed yet."""
