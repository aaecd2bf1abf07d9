"""How the versions do on what each task held out: forgetting and backward transfer (method.md, 1).

A fold over the lineage's outcomes, so that it survives a restart; of the holdouts in use only, so
that it is bounded. It decides nothing.
"""

from collections.abc import Mapping

from teacherd.daemon.entries import Outcome


class TaskMatrix:
    """R[i, j], the accuracy on the holdout of task j after task i, as far as it is still needed."""

    def __init__(self) -> None:
        self._task = 0
        self._at_first: dict[int, float] = {}
        """R[j, j]."""
        self._best: dict[int, float] = {}
        """The largest R[i, j] over i."""
        self._newest: dict[int, float] = {}
        """R[i, j] of the newest i."""

    def apply(self, outcome: Outcome) -> None:
        """Take an outcome in; only an accepted version makes a row."""
        newest = _accuracies(outcome.figures)
        if outcome.result != "accepted" or not newest:
            return
        self._task, self._newest = outcome.task, newest
        if outcome.task in newest:
            self._at_first.setdefault(outcome.task, newest[outcome.task])
        self._at_first = {task: at for task, at in self._at_first.items() if task in newest}
        self._best = {task: max(at, self._best.get(task, at)) for task, at in newest.items()}

    @property
    def forgetting(self) -> Mapping[int, float]:
        """By earlier task, how far the newest version is below the best on its holdout."""
        return {
            task: self._best[task] - at for task, at in self._newest.items() if task != self._task
        }

    @property
    def mean_forgetting(self) -> float | None:
        """Over the earlier tasks; chance alone makes it a little more than 0."""
        lost = self.forgetting.values()
        return sum(lost) / len(lost) if lost else None

    @property
    def backward_transfer(self) -> float | None:
        """Mean of R[T, j] - R[j, j] over the earlier tasks j; below 0 they were forgotten."""
        changes = [
            self._newest[task] - at for task, at in self._at_first.items() if task != self._task
        ]
        return sum(changes) / len(changes) if changes else None


def _accuracies(figures: Mapping[str, float]) -> dict[int, float]:
    start = "holdout."
    names = {name.removeprefix(start): at for name, at in figures.items() if name.startswith(start)}
    return {int(name): at for name, at in names.items() if name.isdecimal()}
