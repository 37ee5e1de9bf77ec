"""Kneedle, which others use for the batch size at which throughput saturates, for comparison."""

from collections.abc import Sequence

import numpy as np

#: Kneedle's sensitivity, as its authors and its packages set it.
KNEEDLE_SENSITIVITY = 1.0


def find_knee(sizes: Sequence[int], speeds: Sequence[float]) -> int | None:
    """Return Kneedle's first knee of a concave, rising curve; None where it finds none.

    Source: Satopää et al. 2011, "Finding a 'Kneedle' in a Haystack", without the smoothing spline,
    which a dozen of points cannot feed.
    """
    x, y = (np.asarray(values, dtype=np.float64) for values in (sizes, speeds))
    if len(x) < 3 or np.ptp(y) <= 0.0:
        return None
    x, y = (x - x.min()) / np.ptp(x), (y - y.min()) / np.ptp(y)
    difference = y - x
    drop = KNEEDLE_SENSITIVITY * float(np.mean(np.diff(x)))
    peaks = [
        index
        for index in range(1, len(x) - 1)
        if difference[index - 1] < difference[index] >= difference[index + 1]
    ]
    for index, peak in enumerate(peaks):
        end = peaks[index + 1] if index + 1 < len(peaks) else len(x)
        if np.any(difference[peak + 1 : end] < difference[peak] - drop):
            return int(sizes[peak])
    return None
