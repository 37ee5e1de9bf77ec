"""Is the loader the limit, and how many workers would suffice?

With 0 workers loading and stepping alternate and their times add; background workers load while the
model trains, so that training is as fast as the slower of the two:

    t(0) = loading + step        t(w) = max(loading / w, step)
"""

import math
import statistics
from collections.abc import Sequence
from itertools import pairwise

from advisor.engine.conclusions import Conclusions, Topic
from advisor.loader.data import (
    LOADER_TIMINGS,
    LoaderConclusion,
    LoaderPoint,
    LoaderStatus,
    LoaderTiming,
)
from advisor.statistics import Estimate, estimate_median_over_sessions, median, two_sided_t

#: Share of the training speed below which a loss to loading is not worth a change, and which a gain
#: must exceed; the tolerance of the saturation batch.
LEAST_LOSS_FRACTION = 0.05
#: Workers that load with less than this share of the gain in proportion do not scale.
_LEAST_SCALING_FRACTION = 0.5
#: Share of the training process's own rate below which a background worker is no help: it waits for
#: a processor, or its batches wait to be handed over.
_LEAST_SHARE_FRACTION = 0.25
#: Numbers of workers that are timed: the loader's own, two that should suffice, and that of the
#: processors.
_MOST_COUNTS = 4
_CONFIDENCE = 0.95


def conclude_loader(timings: Sequence[LoaderTiming]) -> LoaderConclusion | None:
    """Return whether training waits for its data and how many workers suffice; None untimed.

    Training alone was timed in the same process just before and after the loader, so that a
    disturbance meets both. The number of workers is the smallest w with

        w · rate of one background worker ≥ rate of training alone

    and counts as verified where training with it was measured to keep up.

    Args:
        timings: In the order they ran, the loader as it is first.

    Source: derived.
    """
    if not timings:
        return None
    own = timings[0]
    measured = [t for t in timings if t.alone_samples_per_s and t.together_samples_per_s]
    points = tuple(_summarise(timing) for timing in measured)
    training = [rate for timing in timings for rate in timing.training_samples_per_s]
    status = points[0].status if points and measured[0] is own else "inconclusive"
    background = sorted((t for t in measured if t.workers), key=lambda timing: timing.workers)
    per_worker = _rate(background[-1]) / background[-1].workers if background else None
    does_scale = _judge_scaling(measured)
    needed = None
    if status == "limits" and per_worker and training:
        needed = _count_needed(points, per_worker, median(training))
        if does_scale is False and needed > background[-1].workers:
            needed = None
    return LoaderConclusion(
        micro_batch_size=own.micro_batch_size,
        status=status,
        own_workers=own.workers,
        training_samples_per_s=_estimate(training),
        points=points,
        samples_per_s_per_worker=per_worker,
        workers_needed=needed,
        is_verified=_verify(points, needed),
        advised_workers=_choose_workers(measured, points, status, needed),
        does_scale=does_scale,
        cores=own.cores,
        is_iterable=own.is_iterable,
        message=next((timing.message for timing in timings if timing.message), None),
    )


def choose_next_workers(timings: Sequence[LoaderTiming], *, most_workers: int) -> int | None:
    """Return the number of workers to time next, None where the answer is there or out of reach.

    First as many as would suffice if each loaded as fast as the training process does; then as many
    as the rate of those asks for. Where more of them load no faster, the processors' number is the
    last one.

    Args:
        timings: So far, the loader as it is first.
        most_workers: No more than these are started.

    Source: derived.
    """
    conclusion = conclude_loader(timings)
    if conclusion is None or conclusion.status != "limits" or timings[-1].message is not None:
        return None
    if len(timings) >= _MOST_COUNTS:
        return None
    wanted = conclusion.workers_needed
    if not any(point.workers for point in conclusion.points):
        training = [rate for timing in timings for rate in timing.training_samples_per_s]
        wanted = math.ceil(median(training) / _rate(timings[0]))
    elif wanted is None:
        wanted = _fall_back_to_cores(timings)
    if wanted is None:
        return None
    wanted = max(1, min(wanted, most_workers))
    return wanted if conclusion.find_point(wanted) is None else None


def compare_rates(rates: Sequence[float], reference: Sequence[float]) -> Estimate:
    """Return the ratio of the medians, with Welch's interval on the log scale.

    Args:
        rates: One for each window, in any unit.
        reference: Likewise.

    Returns:
        The ratio; its interval is unknown with fewer than two windows on either side.

    Source: Welch 1947.
    """
    if not rates or not reference:
        return Estimate(None, None, None, _CONFIDENCE)
    point = median(rates) / median(reference)
    if len(rates) < 2 or len(reference) < 2:
        return Estimate(point, None, None, _CONFIDENCE)
    sides = [[math.log(rate) for rate in side] for side in (rates, reference)]
    center = statistics.fmean(sides[0]) - statistics.fmean(sides[1])
    shares = [statistics.variance(side) / len(side) for side in sides]
    variance = math.fsum(shares)
    if variance == 0.0:
        return Estimate(point, point, point, _CONFIDENCE)
    degrees = 1.0 / math.fsum(
        (share / variance) ** 2 / (len(side) - 1) for share, side in zip(shares, sides, strict=True)
    )
    half_width = two_sided_t(_CONFIDENCE, degrees) * math.sqrt(variance)
    low, high = math.exp(center - half_width), math.exp(center + half_width)
    return Estimate(point, min(point, low), max(point, high), _CONFIDENCE)


def _summarise(timing: LoaderTiming) -> LoaderPoint:
    ratio = compare_rates(timing.together_samples_per_s, timing.training_samples_per_s)
    loss = Estimate(
        None if ratio.point is None else 1.0 - ratio.point,
        None if ratio.high is None else 1.0 - ratio.high,
        None if ratio.low is None else 1.0 - ratio.low,
        _CONFIDENCE,
    )
    waiting = median(timing.waiting_fractions) if timing.waiting_fractions else None
    return LoaderPoint(
        workers=timing.workers,
        status=_judge(loss, timing.waiting_fractions),
        samples_per_s=_estimate(timing.alone_samples_per_s),
        together_samples_per_s=_estimate(timing.together_samples_per_s),
        loss_fraction=loss,
        waiting_fraction=waiting,
    )


def _judge(loss: Estimate, waiting_fractions: Sequence[float]) -> LoaderStatus:
    """Return the status: a loss that is due to the loader shows in the time that training waits.

    What training loses by waiting is at most the time that it waited; whatever else it lost, as to
    other processes or to workers on the same processors, the loader's speed does not give back.
    """
    if len(waiting_fractions) < 2:
        return "inconclusive"
    is_lost = loss.low is not None and loss.low > LEAST_LOSS_FRACTION
    is_kept = loss.high is not None and loss.high <= LEAST_LOSS_FRACTION
    if is_kept or max(waiting_fractions) <= LEAST_LOSS_FRACTION:
        return "keeps_up"
    return "limits" if is_lost and min(waiting_fractions) > LEAST_LOSS_FRACTION else "inconclusive"


def _count_needed(
    points: Sequence[LoaderPoint], per_worker_per_s: float, training_per_s: float
) -> int:
    """Return the workers by the rule, or the number beside it that was seen to keep up.

    The rule rounds up, so that noise moves it by one near a whole number; a measurement decides.
    """
    needed = math.ceil(training_per_s / per_worker_per_s)
    kept = [each.workers for each in points if each.workers and each.status == "keeps_up"]
    return min((workers for workers in kept if abs(workers - needed) <= 1), default=needed)


def _fall_back_to_cores(timings: Sequence[LoaderTiming]) -> int | None:
    """Return the number of processors where fewer workers than were timed may load as fast."""
    cores, most = timings[0].cores, max(timings, key=lambda timing: timing.workers)
    is_of_use = timings[0].workers > 0 or _rate(most) > _rate(timings[0])
    return cores if cores is not None and cores < most.workers and is_of_use else None


def _judge_scaling(measured: Sequence[LoaderTiming]) -> bool | None:
    """Return whether more workers load faster, None where too few numbers were timed.

    The last step to more of them must bring its share; beside 0 workers, each must load at a share
    of the rate of the training process, and all of them faster than it.
    """
    counts = sorted(measured, key=lambda timing: timing.workers)
    steps = list(pairwise(counts))
    if not steps or counts[-1].workers < 2:
        return None
    fewer, more = steps[-1]
    if fewer.workers == 0:
        least = max(1.0, _LEAST_SHARE_FRACTION * more.workers) * _rate(fewer)
        return False if _rate(more) <= least else None
    gain = _rate(more) / _rate(fewer) - 1.0
    return gain >= _LEAST_SCALING_FRACTION * (more.workers / fewer.workers - 1.0)


def _verify(points: Sequence[LoaderPoint], needed: int | None) -> bool | None:
    point = next((each for each in points if each.workers == needed), None)
    if point is None or point.status == "inconclusive":
        return None
    return point.status == "keeps_up"


def _choose_workers(
    measured: Sequence[LoaderTiming],
    points: Sequence[LoaderPoint],
    status: LoaderStatus,
    needed: int | None,
) -> int | None:
    """Return a measured number of workers that is clearly faster, the sufficient one if it is."""
    if status == "keeps_up":
        return points[0].workers or None
    if status == "inconclusive":
        return None
    best = max(median(timing.together_samples_per_s) for timing in measured)
    near = [
        timing
        for timing in measured
        if median(timing.together_samples_per_s) >= (1.0 - LEAST_LOSS_FRACTION) * best
    ]
    if _verify(points, needed):
        near = [timing for timing in measured if timing.workers == needed]
    chosen = min(near, key=lambda timing: timing.workers)
    gain = compare_rates(chosen.together_samples_per_s, measured[0].together_samples_per_s)
    is_worth_it = gain.low is not None and gain.low > 1.0 + LEAST_LOSS_FRACTION
    return chosen.workers if is_worth_it else None


def _rate(timing: LoaderTiming) -> float:
    return median(timing.alone_samples_per_s)


def _estimate(rates: Sequence[float]) -> Estimate:
    """Return the median with its interval over windows."""
    return estimate_median_over_sessions([(rate,) for rate in rates], _CONFIDENCE)


def _conclude(conclusions: Conclusions) -> LoaderConclusion | None:
    return conclude_loader(conclusions.record.all(LOADER_TIMINGS))


LOADER = Topic("loader", LoaderConclusion, _conclude)
