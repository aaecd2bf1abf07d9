"""How far a network's confidence is from how often it is right."""

import numpy as np
import numpy.typing as npt

NUM_BINS = 15
"""As in Guo et al., "On Calibration of Modern Neural Networks", 2017, section 4."""


def expected_calibration_error(
    confidence_N: npt.NDArray[np.float32], correct_N: npt.NDArray[np.bool_]
) -> float:
    """Return the mean distance of accuracy from confidence over bins of equal width, 0 to 1.

    Guo et al. 2017, equation 3: each bin weighs as many instances as it holds.

    Args:
        confidence_N: Probability of the class that the network chose.
        correct_N: Whether it was the right one.
    """
    bins = np.minimum((confidence_N * NUM_BINS).astype(np.int64), NUM_BINS - 1)
    gaps = np.bincount(
        bins, weights=correct_N.astype(np.float64) - confidence_N, minlength=NUM_BINS
    )
    return float(np.abs(gaps).sum() / len(correct_N))
