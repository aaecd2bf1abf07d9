"""Whether one network is better than another on the same instances, and how surely.

Both answer the same instances, so only those count on which exactly one of them is right (the
discordant pairs). The bounds are those of Tango's score test for the difference of two paired
proportions: T. Tango, "Equivalence test and confidence interval for the difference in proportions
for the paired-sample design", Statistics in Medicine 17 (1998), 891-908. Unlike Wald's they are
honest where there are few discordant pairs, or none (Fagerland, Lydersen, Laake, "Recommended tests
and confidence intervals for paired binomial proportions", Statistics in Medicine 33 (2014)).
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Answers = npt.NDArray[np.bool_]
"""Whether a network is right about each of some instances, [N]."""

_NUM_HALVINGS = 30
"""Halvings of the range of 2 in which a bound is sought: to 2e-9."""


@dataclass(frozen=True, slots=True)
class PairedCounts:
    """What comparing two networks on the same instances comes to."""

    num: int = 0
    """Instances."""
    won: int = 0
    """Those about which only the first network is right."""
    lost: int = 0
    """Those about which only the second is."""

    @classmethod
    def of(cls, first: Answers, second: Answers) -> "PairedCounts":
        """Count for two networks that answered the same instances."""
        return cls(len(first), int((first & ~second).sum()), int((second & ~first).sum()))

    def __add__(self, other: "PairedCounts") -> "PairedCounts":
        return PairedCounts(self.num + other.num, self.won + other.won, self.lost + other.lost)

    @property
    def difference(self) -> float:
        """Accuracy of the first network less that of the second; 0 without instances."""
        return (self.won - self.lost) / self.num if self.num else 0.0

    def lower_bound(self, confidence: float) -> float:
        """Return what the true difference lies above, with one-sided confidence."""
        z = NormalDist().inv_cdf(confidence)
        low, high = -1.0, self.difference
        if self.num in {0, self.lost}:
            return low
        for _ in range(_NUM_HALVINGS):
            middle = (low + high) / 2
            if self._score(middle) > z:
                low = middle
            else:
                high = middle
        return low

    def upper_bound(self, confidence: float) -> float:
        """Return what the true difference lies below, with one-sided confidence."""
        return -PairedCounts(self.num, self.lost, self.won).lower_bound(confidence)

    def _score(self, difference: float) -> float:
        """Return how many standard deviations lie between what was counted and this difference.

        Tango (1998), formulas (4) to (7): the variance is that under the hypothesis, with the
        probability of losing a pair at its maximum likelihood given the difference.
        """
        num, won, lost = self.num, self.won, self.lost
        b = (2 * num - won + lost) * difference - won - lost
        c = -lost * difference * (1 - difference)
        losing = (math.sqrt(max(b * b - 8 * num * c, 0.0)) - b) / (4 * num)
        variance = num * (2 * losing + difference * (1 - difference))
        gap = won - lost - num * difference
        return gap / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, gap)
