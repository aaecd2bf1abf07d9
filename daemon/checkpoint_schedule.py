"""When a checkpoint inside a task is due: by steps, or by time as far as writing it is cheap."""

from teacherd.daemon.checkpoint import CheckpointConfig

LARGEST_SHARE = 0.02
"""Of the time that checkpoints by the clock may take: on a slow disk they come less often."""


class CheckpointSchedule:
    """Knows when the last one was written and what it cost; times are seconds of one clock."""

    def __init__(self, config: CheckpointConfig) -> None:
        self.config = config
        self._cost = 0.0
        self._last = 0.0
        self._last_step = 0

    def begin(self, now: float, step: int) -> None:
        """A task begins, or goes on, at this step."""
        self._last, self._last_step = now, step

    def is_due(self, now: float, step: int) -> bool:
        """Tell whether to write one after this step."""
        every = self.config.interval_steps
        if every is not None and step - self._last_step >= every:
            return True
        return now - self._last >= max(self.config.interval_seconds, self._cost / LARGEST_SHARE)

    def tried(self, started: float, now: float, step: int) -> None:
        """One was written, or failed, in this time."""
        self._cost = now - started
        self.begin(now, step)
