r"""Two pairs' loss curves -> how many samples one takes over the other, with its error.

    loss |\ base            level: the lowest loss that both reached; nothing is extrapolated
         | \  \ other
    level|--x---x------      ratio: samples of the other at the level over those of the base
         +------------ samples

Curves are compared while the rate is constant, as it is in the user's loop where no schedule is
known, and by where branches of several lengths end once it has fallen: that ratio stands beside the
first, and alone where the user's own schedule was followed.
"""

import math
import statistics
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from scipy.optimize import isotonic_regression

from advisor.rate.data import TrialBranch
from advisor.statistics import Estimate, exponentiate

#: Fewest evaluations of a running curve.
_LEAST_POINTS = 4
#: Shares of the way to the level at whose losses the ratio is read: their mean has less noise.
_READ_AT = (0.9, 0.95, 1.0)
#: Degrees of freedom that the spread over starts of all pairs lends to each: three starts alone say
#: little of their own spread.
_LENT_DEGREES = 4.0
#: Least standard deviation of a log ratio over starts: curves are read between evaluations.
_LEAST_DEVIATION = 0.02
#: The same where all pairs were trained from one start: those that lost at once.
_GUESSED_DEVIATION = 0.3


K = TypeVar("K", bound=Hashable)
Curve = Sequence[tuple[float, float]]
#: Short training runs of one side, each from its `seed`.
_Side = Sequence[Any]


class Comparison(NamedTuple):
    """Log of the ratio of samples, its standard error, and the degrees of freedom of that."""

    log_ratio: float
    error: float
    degrees: float
    starts: int
    #: The same by where branches end, beside one at a constant rate.
    end_log_ratio: float | None = None


def compare_all(
    base: Sequence[TrialBranch],
    others: Mapping[K, Sequence[TrialBranch]],
    *,
    picking: Collection[K] = (),
) -> dict[K, Comparison]:
    """Return each of the others beside the base pair; those not comparable are left out.

    Those in `picking` are compared as `compare_picks` does: it ranks them, and is never printed.

    The branches of one start see the same samples, so both sides are averaged over the same starts;
    the error is the jackknife's, its spread pooled over the pairs as in an empirical Bayes test.

    Source: Smyth 2004, Stat. Appl. Genet. Mol. Biol. 3:3, for the pooled variance; Tukey 1958 for
    the pseudo-values.
    """
    found: dict[K, Comparison] = {}
    for read in (read_running, read_ends):
        ratios = {}
        for key, other in others.items():
            extends = key in picking and read is read_ends
            values = _list_ratios(base, other, read, compare_picks if extends else compare_curves)
            if values:
                ratios[key] = values
        squares = {key: _sum_squares(values) for key, values in ratios.items()}
        for key, values in ratios.items():
            one = _summarise(values, [squares[each] for each in ratios if each != key])
            if key in found:
                one = found[key]._replace(end_log_ratio=one.log_ratio)
            found[key] = one
    return found


def compare_sides(base: _Side, other: _Side, read: Callable[[_Side], Curve]) -> Comparison | None:
    """Return one side beside another, by curves that `read` makes; None if not comparable."""
    ratios = _list_ratios(base, other, read, compare_curves)
    return _summarise(ratios, []) if ratios else None


def _list_ratios(
    base: _Side,
    other: _Side,
    read: Callable[[_Side], Curve],
    compare: Callable[[Curve, Curve], float | None],
) -> list[float]:
    """Return one log ratio for each start: their mean and spread are those of the mean curves."""
    starts = sorted({branch.seed for branch in base} & {branch.seed for branch in other})
    count = len(starts)

    def compare_over(seeds: Sequence[int]) -> list[float]:
        sides = ([branch for branch in side if branch.seed in seeds] for side in (other, base))
        ratio = compare(*map(read, sides)) if seeds else None
        return [] if ratio is None else [ratio]

    without = [one for left in starts for one in compare_over([n for n in starts if n != left])]
    whole = compare_over(starts)
    if whole and 1 < count == len(without):
        # Not the pseudo-values' own mean: it takes off a bias that steps in the curves make up.
        middle = statistics.fmean(without)
        return [whole[0] - (count - 1) * (each - middle) for each in without]
    return [ratio for start in starts for ratio in compare_over([start])]


def read_running(branches: Sequence[TrialBranch]) -> list[tuple[float, float]]:
    """Return samples and level of the loss while the rate was constant; empty of too few points.

    The branches of a start go one way until their rates fall, so their evaluations make one curve;
    isotonic regression makes the mean of the starts one that falls, neither dips nor spikes in it.
    """
    points = [
        (branch.seed, each.samples, each.loss)
        for branch in branches
        for each in branch.evaluations
        if each.samples <= (branch.samples if branch.decays_from is None else branch.decays_from)
    ]
    curve = average_curve(points)
    if len(curve) < _LEAST_POINTS:
        return []
    levels = isotonic_regression([level for _, level in curve], increasing=False).x
    return [(samples, level) for (samples, _), level in zip(curve, levels.tolist(), strict=True)]


def read_ends(branches: Sequence[TrialBranch]) -> list[tuple[float, float]]:
    """Return samples and level of the last loss of branches whose rate had fallen, by length."""
    fallen = [each for each in branches if each.decays_from is not None and each.evaluations]
    ends = [(branch.seed, branch.evaluations[-1]) for branch in fallen]
    return average_curve([(seed, end.samples, end.loss) for seed, end in ends])


def average_curve(points: Iterable[tuple[int, float, float]]) -> list[tuple[float, float]]:
    """Return samples, or seconds, and the mean over starts of the log loss, where all have one.

    Losses that may be 0 or less are averaged as they are.
    """
    found: dict[float, dict[int, float]] = {}
    for seed, samples, loss in points:
        found.setdefault(samples, {})[seed] = loss
    count = max(map(len, found.values()), default=0)
    whole = {at: each.values() for at, each in sorted(found.items()) if len(each) == count}
    is_positive = all(loss > 0.0 for losses in whole.values() for loss in losses)
    scale = math.log if is_positive else float
    return [(float(at), statistics.fmean([*map(scale, losses)])) for at, losses in whole.items()]


def compare_curves(own: Curve, base: Curve) -> float | None:
    """Return the log of own samples over the base's at the lowest loss that both reached.

    None where the curves share no loss: then more has to be trained.
    """
    if not own or not base:
        return None
    level = max(min(loss for _, loss in own), min(loss for _, loss in base))
    end, own_end = find_samples(base, level), find_samples(own, level)
    if not end or not own_end:
        return None
    if base[0][1] < level and own_end < end:
        return None  # the base pair got there sooner than its shortest branch: by how much is open
    logs = []
    for share in _READ_AT if base[0][0] == 0.0 else (1.0,):
        wanted = max(level, _find_level(base, share * end))
        one, two = find_samples(own, wanted), find_samples(base, wanted)
        if one and two:
            logs.append(math.log(one / two))
    return statistics.fmean(logs) if logs else None


def is_only_bound(own: Sequence[TrialBranch], base: Sequence[TrialBranch]) -> bool:
    """Return whether even the shortest branches end below all of the base pair's, with no curve.

    They were as low sooner: by how much only shorter ones tell.
    """
    starts = {branch.seed for branch in base} & {branch.seed for branch in own}
    mine, other = ([each for each in side if each.seed in starts] for side in (own, base))
    if read_running(mine):
        return False
    ends, others = read_ends(mine), read_ends(other)
    return bool(ends and others) and ends[0][1] < min(level for _, level in others)


def compare_picks(own: Curve, base: Curve) -> float | None:
    """Return `compare_curves`, or where all own ends are lower, when the base pair would be there.

    Its ends, each lower than all before, are joined by lines over the logarithm of the samples, the
    last of them extended.
    """
    falling: list[tuple[float, float]] = []
    for samples, loss in base:
        if not falling or loss < falling[-1][1]:
            falling.append((samples, loss))
    if not own or len(falling) < 2 or own[0][1] >= falling[-1][1]:
        return compare_curves(own, base)
    (first, first_loss), (second, second_loss) = falling[-2:]
    samples, loss = own[0]
    share = (first_loss - loss) / (first_loss - second_loss)
    return math.log(samples / first) - share * math.log(second / first)


def _find_level(curve: Curve, samples: float) -> float:
    """Return the loss at that place, on the lines of `find_samples`."""
    first = curve[0][0] or curve[1][0]
    # Even from the start to the first place beyond it, and logarithmic from there.
    at, *places = (
        min(each / first, 1.0) + math.log(max(each / first, 1.0))
        for each in (samples, *(place for place, _ in curve))
    )
    return float(np.interp(at, places, [level for _, level in curve]))


def find_samples(curve: Curve, loss: float) -> float | None:
    """Return the samples at which a curve is first at or below a loss; None where never.

    Between two points on a line over the logarithm of the samples, but for the start.
    """
    at = next((place for place, (_, level) in enumerate(curve) if level <= loss), None)
    if not at:
        return None if at is None else curve[0][0]
    (before, above), (after, below) = curve[at - 1 : at + 1]
    share = (above - loss) / (above - below)
    return float(before * (after / before) ** share) if before else share * after


def spread(log: float, half: float) -> Estimate:
    """Return a ratio with its interval, of its log and half the width of that one's."""
    return exponentiate(Estimate(log, log - half, log + half))


def _sum_squares(values: Sequence[float]) -> tuple[float, float]:
    """Return the degrees of freedom, and the squares of what each value is off the mean."""
    degrees = float(len(values) - 1)
    return degrees, degrees * statistics.variance(values) if degrees else 0.0


def _summarise(values: Sequence[float], others: Sequence[tuple[float, float]]) -> Comparison:
    """Return the mean over starts, with the error that all pairs' spread makes likely.

    `others` have each its degrees of freedom and squares.
    """
    (own, squares), lent = _sum_squares(values), sum(degrees for degrees, _ in others)
    degrees = min(_LENT_DEGREES, lent)
    if lent:
        pooled = sum(each for _, each in others) / lent
        squares, own = squares + degrees * pooled, own + degrees
    variance = max(squares / own if own else _GUESSED_DEVIATION**2, _LEAST_DEVIATION**2)
    return Comparison(
        statistics.fmean(values), math.sqrt(variance / len(values)), max(own, 1), len(values)
    )
