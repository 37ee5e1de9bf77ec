"""The range test of a learning rate: where training begins to learn, and where it breaks."""

import math
import statistics
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from advisor.rate.range_data import LrRangeConclusion, LrRangeCurve, LrRangeSeed

#: A run stops this many times the larger of its fall so far and of its lowest level above that.
STOP_RATIO = 3.0
#: Losses whose mean is the level that stops a run: one odd batch must not.
_STOP_WINDOW = 5
#: Standard deviation of the smoothing weights, as a share of the steps of the whole range.
BANDWIDTH_FRACTION = 0.025
#: The same, in steps, at least.
_LEAST_BANDWIDTH_STEPS = 2.0
#: Steps, as a share of the range and at least, whose mean loss is the first level.
_PLATEAU_FRACTION, _LEAST_PLATEAU_STEPS = 0.1, 5
#: Standard errors of a clear change: one in a thousand curves of pure noise shows such a fall.
CLEAR_ERRORS = 4.0
#: And this share of the curve's whole fall.
CLEAR_FRACTION = 0.1
#: A rise counts only after this share of the whole fall: a bump on the way down is no divergence.
LEAST_FALL_FRACTION = 0.5
#: Fewest seeds whose agreement means something.
LEAST_SEEDS = 2
#: Curves whose lowest points are further apart, as a ratio of rates, do not agree.
MOST_DISAGREEMENT = 10.0
#: Where a seed's loss clearly rises, over the highest rate called good: the loss lags behind the
#: rate. On the 11 tasks of benchmarks/lr_range.py half of that rate always trains, all of it on 7.
LAG_RATIO = 2.0
#: The rate where one-cycle training starts, below its maximum.
ONE_CYCLE_RATIO = 25.0

Floats = npt.NDArray[np.float64]


class LossGuard:
    """Tells when a training run whose rate rises is beyond saving."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=_STOP_WINDOW)
        self._first: float | None = None
        self._lowest = math.inf

    def is_beyond(self, loss: float) -> bool:
        """Return whether the run is over with this loss: not finite, or its level far too high."""
        if not math.isfinite(loss):
            return True
        self._recent.append(loss)
        level = statistics.fmean(self._recent)
        if len(self._recent) < _STOP_WINDOW:
            return False
        self._first = level if self._first is None else self._first
        self._lowest = min(self._lowest, level)
        room = max(abs(self._lowest), self._first - self._lowest)
        return level > self._lowest + STOP_RATIO * room


class SmoothedCurve(NamedTuple):
    """Level, slope by the logarithm of the rate, and the level's standard error at each step."""

    rates: Floats
    levels: Floats
    slopes: Floats
    errors: Floats
    first: float
    first_error: float


def smooth_curve(curve: LrRangeCurve) -> SmoothedCurve | None:
    """Return the curve smoothed by local lines in the logarithm of the rate; None if too short.

    The blow-up at the end is cut off: it would pull the lowest point down.
    """
    pairs = [(r, x) for r, x in zip(curve.rates, curve.losses, strict=True) if x is not None]
    rates, losses = np.array([r for r, _ in pairs]), np.array([x for _, x in pairs])
    plateau = max(_LEAST_PLATEAU_STEPS, round(_PLATEAU_FRACTION * len(pairs)))
    if len(pairs) < 2 * plateau:
        return None
    first = float(losses[:plateau].mean())
    spread = float(losses[:plateau].std(ddof=1))
    levels, slopes, errors = fit_local_lines(
        np.log(rates), np.minimum(losses, first + spread), _choose_bandwidth(curve)
    )
    return SmoothedCurve(rates, levels, slopes, errors, first, spread / math.sqrt(plateau))


def fit_local_lines(places: Floats, values: Floats, bandwidth: float) -> tuple[Floats, ...]:
    """Return level, slope and the level's standard error at each of evenly spaced places.

    Source: Cleveland 1979, JASA 74:829, with normal weights.
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


def conclude_seed(curve: LrRangeCurve) -> LrRangeSeed | None:
    """Return where a curve begins to fall, falls fastest, is lowest, rises; None if too short.

    Source: Smith 2017, arXiv:1506.01186, for the two ends.
    """
    smoothed = smooth_curve(curve)
    if smoothed is None:
        return None
    overall = int(np.argmin(smoothed.levels))
    fall = smoothed.first - float(smoothed.levels[overall])
    errors = np.hypot(smoothed.first_error, smoothed.errors)
    lowest_loss = float(smoothed.levels[overall])
    flat = LrRangeSeed(seed=curve.seed, first_loss=smoothed.first, lowest_loss=lowest_loss)
    if not fall > CLEAR_ERRORS * errors[overall]:
        return flat
    # The loss may come back after it broke away; only what lies before counts.
    risen = _find_rise(smoothed, fall)
    lowest = _find_lowest(smoothed, risen)
    margins = np.maximum(CLEAR_FRACTION * fall, CLEAR_ERRORS * errors)
    is_below = (smoothed.levels < smoothed.first - margins)[: lowest + 1]
    # The step after the last one that is not clearly below, or the lowest itself.
    onset = next((k for k in range(lowest) if is_below[k:].all()), lowest)
    end = curve.rates[-1] if curve.stopped_by == "divergence" else None
    return replace(
        flat,
        lowest_loss=float(smoothed.levels[lowest]),
        learns_from=float(smoothed.rates[onset]),
        steepest_at=float(smoothed.rates[int(np.argmin(smoothed.slopes[: lowest + 1]))]),
        lowest_at=float(smoothed.rates[lowest]),
        diverges_at=end if risen is None else float(smoothed.rates[risen]),
    )


def _find_lowest(smoothed: SmoothedCurve, risen: int | None) -> int:
    """Return the first step before the rise that is as low as the lowest, to its standard error.

    In a flat valley noise alone decides where the lowest point is; its near edge is the safe one.
    """
    levels = smoothed.levels[:risen]
    lowest = int(np.argmin(levels))
    return int(np.argmax(levels <= levels[lowest] + smoothed.errors[lowest]))


def _find_rise(smoothed: SmoothedCurve, fall: float) -> int | None:
    """Return the first step whose level is clearly above the lowest before it, once that is low."""
    levels, errors, steps = smoothed.levels, smoothed.errors, np.arange(len(smoothed.levels))
    lowest = np.maximum.accumulate(np.where(levels <= np.minimum.accumulate(levels), steps, 0))
    low, low_errors = levels[lowest], errors[lowest]
    fallen = CLEAR_ERRORS * np.hypot(smoothed.first_error, low_errors)
    risen = CLEAR_ERRORS * np.hypot(errors, low_errors)
    has_fallen = smoothed.first - low > np.maximum(LEAST_FALL_FRACTION * fall, fallen)
    has_risen = levels - low > np.maximum(CLEAR_FRACTION * fall, risen)
    return next(iter(np.flatnonzero(has_fallen & has_risen).tolist()), None)


def conclude_lr_range(curves: Sequence[LrRangeCurve]) -> LrRangeConclusion | None:
    """Return the interval of good rates and one of them (docs/method.md, 7); None without a curve.

    Source: Smith 2017, arXiv:1506.01186; Smith 2018, arXiv:1803.09820, for one cycle.
    """
    if not curves:
        return None
    size = curves[-1].global_batch_size
    mine = [(each, conclude_seed(each)) for each in curves if each.global_batch_size == size]
    seeds = tuple(seed for _, seed in mine if seed is not None)
    obstacle = next(_list_obstacles(mine), None)
    if obstacle is not None:
        return LrRangeConclusion(
            status="inconclusive", reason=obstacle, global_batch_size=size, seeds=seeds
        )
    lowest = [each.lowest_at for each in seeds if each.lowest_at is not None]
    risen = [each.diverges_at for each in seeds if each.diverges_at is not None]
    high = max(min(risen) / LAG_RATIO, min(lowest)) if risen else None
    suggested = statistics.median_low(lowest)
    suggested = suggested if high is None else min(suggested, high)
    maximum = suggested if high is None else high
    return LrRangeConclusion(
        status="found",
        reason=f"all {len(seeds)} seeds learn there, and none diverges",
        global_batch_size=size,
        low=min(suggested, max(each.learns_from or 0.0 for each in seeds)),
        high=high,
        suggested=suggested,
        one_cycle_maximum=maximum,
        one_cycle_base=maximum / ONE_CYCLE_RATIO,
        seeds=seeds,
    )


def _list_obstacles(mine: Sequence[tuple[LrRangeCurve, LrRangeSeed | None]]) -> Iterator[str]:
    """Yield why the curves give no rate, without a full stop: what no more time helps first."""
    short = [curve.stopped_by for curve, seed in mine if seed is None]
    concluded = [(curve, seed) for curve, seed in mine if seed is not None]
    count, diverged = len(concluded), short.count("divergence")
    if count < LEAST_SEEDS:
        if diverged:
            yield (
                f"in {diverged} of {len(mine)} seeds training diverged within the first steps; "
                "give a lower --from"
            )
        if "range" in short:
            yield "the curves have too few losses to be read; give more --steps"
        yield f"fewer than {LEAST_SEEDS} curves are long enough; raise --budget"
    if any(curve.stopped_by == "budget" for curve, _ in concluded):
        yield "the time ended before the range did; raise --budget or lower --steps"
    lowest = [seed.lowest_at for _, seed in concluded if seed.lowest_at is not None]
    if len(lowest) < count:
        yield (
            f"in {count - len(lowest)} of {count} seeds the loss never fell beyond its noise; give "
            "another range with --from and --to, or a larger --global-batch-size"
        )
    if max(lowest) > MOST_DISAGREEMENT * min(lowest):
        yield (
            f"the seeds disagree: their loss is lowest at rates from {min(lowest):.3g} to "
            f"{max(lowest):.3g}; give more --steps or a larger --global-batch-size"
        )
    if any(_falls_at_its_end(curve, seed) for curve, seed in concluded):
        yield "at the highest rate the loss still falls; give a higher --to"


def _falls_at_its_end(curve: LrRangeCurve, seed: LrRangeSeed) -> bool:
    """Return whether the lowest point is about as near to the end as smoothing can tell."""
    step = math.log(curve.rates[-1] / curve.rates[0]) / (len(curve.rates) - 1)
    left = math.log(curve.rates[-1] / (seed.lowest_at or curve.rates[0]))
    return seed.diverges_at is None and left <= 2.0 * step * _choose_bandwidth(curve)


def _choose_bandwidth(curve: LrRangeCurve) -> float:
    """Return the standard deviation of the weights in steps."""
    return max(_LEAST_BANDWIDTH_STEPS, BANDWIDTH_FRACTION * curve.steps)
