"""Local linear regression: a line through the neighbours of each point."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def fit_local_lines(places: Floats, values: Floats, bandwidth: float) -> tuple[Floats, ...]:
    """Return level, slope and the level's standard error at each of evenly spaced places.

    The noise may differ from place to place: it is taken from the residuals near each.

    Args:
        places: Ascending, evenly spaced, in any unit.
        values: One for each place.
        bandwidth: Standard deviation of the weights, in steps from place to place.

    Source: Cleveland 1979, JASA 74:829, with normal weights; the standard error is derived.
    """
    steps = np.arange(len(places))
    weights = np.exp(-0.5 * np.square((steps[:, None] - steps[None, :]) / bandwidth))
    weights /= weights.sum(axis=1, keepdims=True)
    offsets = places[None, :] - (weights @ places)[:, None]
    spreads = (weights * np.square(offsets)).sum(axis=1)
    slopes = (weights * offsets) @ values / spreads
    own = np.diagonal(offsets)  # from the weighted mean place to the step's own
    # Each level is a weighted sum of the values; these are its weights.
    rows = weights * (1.0 + own[:, None] * offsets / spreads[:, None])
    levels = rows @ values
    sums = np.square(rows).sum(axis=1)
    # Residuals are smaller than the noise by what the line has fitted of each point itself.
    residuals = np.square(values - levels) / np.maximum(1.0 - 2.0 * np.diagonal(rows) + sums, 0.1)
    return levels, slopes, np.sqrt((weights @ residuals) * sums)
