"""Is the loader the limit, and how many workers would suffice?

With 0 workers loading and stepping alternate and their times add; background workers load while the
model trains, so that training is as fast as the slower of the two:

    t(0) = loading + step        t(w) = max(loading / w, step)
"""

import math
from collections.abc import Sequence

from advisor.engine.record import Topic
from advisor.loader.data import (
    LOADER_TIMINGS,
    LoaderConclusion,
    LoaderPoint,
    LoaderStatus,
    LoaderTiming,
)
from advisor.statistics import Estimate, compare_rates, estimate_median_rate, median
from advisor.training.data import WorkloadFacts

#: Share of the training speed that is worth a change; the tolerance of the saturation batch.
LEAST_LOSS_FRACTION = 0.05
#: Workers that load with less than this share of the gain in proportion do not scale.
_LEAST_SCALING_FRACTION = 0.5
#: Share of the training process's own rate below which a background worker is no help.
_LEAST_SHARE_FRACTION = 0.25
#: Numbers of workers that are timed: its own, two that should suffice, and that of the processors.
_MOST_COUNTS = 4
#: Sizes at which the loop is timed, as parts of the base batch, those that matter most first.
_LOOP_FACTORS = (1.0, 4.0, 16.0, 0.25)
#: Nearer ones say the same.
_LEAST_RATIO = 1.5
_KEPT = {"keeps_up": True, "limits": False}


def conclude_loader(timings: Sequence[LoaderTiming]) -> LoaderConclusion | None:
    """Return whether training waits for its data and how many workers suffice; None untimed.

    The loader as it is was timed first. Those that suffice are the smallest w with

        w · rate of one background worker ≥ rate of training alone
    """
    if not timings:
        return None
    own = timings[0]
    timings = [each for each in timings if each.micro_batch_size == own.micro_batch_size]
    measured = [t for t in timings if t.alone_samples_per_s and t.together_samples_per_s]
    points = tuple(_summarise(timing) for timing in measured)
    training = _list_training(timings)
    status = points[0].status if points and measured[0] is own else "inconclusive"
    most = max((t for t in measured if t.workers), key=lambda each: each.workers, default=None)
    per_worker = None if most is None else _rate(most) / most.workers
    does_scale = _judge_scaling(measured)
    needed = None
    if status == "limits" and most and per_worker and training:
        needed = math.ceil(median(training) / per_worker)
        if does_scale is False and needed > most.workers:
            needed = None
    return LoaderConclusion(
        micro_batch_size=own.micro_batch_size,
        status=status,
        own_workers=own.workers,
        training_samples_per_s=estimate_median_rate(training),
        points=points,
        samples_per_s_per_worker=per_worker,
        workers_needed=needed,
        is_verified=next((_KEPT.get(p.status) for p in points if p.workers == needed), None),
        advised_workers=_choose_workers(measured, points, status),
        does_scale=does_scale,
        cores=own.cores,
        is_iterable=own.is_iterable,
        message=next((timing.message for timing in timings if timing.message), None),
    )


def choose_next_workers(timings: Sequence[LoaderTiming], *, most_workers: int) -> int | None:
    """Return the number of workers to time next, None where the answer is there or out of reach.

    First as many as would suffice if each loaded as fast as the training process does; then as many
    as their rate asks for, or the processors' number where more of them load no faster.
    """
    found = conclude_loader(timings)
    if found is None or found.status != "limits" or timings[-1].message is not None:
        return None
    wanted = found.workers_needed
    if not any(point.workers for point in found.points):
        wanted = math.ceil(median(_list_training(timings)) / _rate(timings[0]))
    elif wanted is None:
        wanted = min(timings[0].cores or 1, max(timing.workers for timing in timings))
    wanted = max(1, min(wanted, most_workers))
    is_new = len(timings) < _MOST_COUNTS and found.find_point(wanted) is None
    return wanted if is_new else None


def _summarise(timing: LoaderTiming) -> LoaderPoint:
    ratio = compare_rates(timing.together_samples_per_s, timing.training_samples_per_s)
    loss, waiting = ratio.map(lambda share: 1.0 - share, falls=True), timing.waiting_fractions
    return LoaderPoint(
        workers=timing.workers,
        status=_judge(loss, waiting),
        samples_per_s=estimate_median_rate(timing.alone_samples_per_s),
        together_samples_per_s=estimate_median_rate(timing.together_samples_per_s),
        loss_fraction=loss,
        waiting_fraction=median(waiting) if waiting else None,
    )


def _judge(loss: Estimate, waiting_fractions: Sequence[float]) -> LoaderStatus:
    """Return the status: what the loader costs shows in the time that training waits, at most.

    What else it lost, as to workers on the same processors, no faster loader gives back.
    """
    if len(waiting_fractions) < 2:
        return "inconclusive"
    low, high = (end if end is not None else math.nan for end in (loss.low, loss.high))
    if high <= LEAST_LOSS_FRACTION or max(waiting_fractions) <= LEAST_LOSS_FRACTION:
        return "keeps_up"
    is_limit = low > LEAST_LOSS_FRACTION and min(waiting_fractions) > LEAST_LOSS_FRACTION
    return "limits" if is_limit else "inconclusive"


def _judge_scaling(measured: Sequence[LoaderTiming]) -> bool | None:
    """Return whether more workers load faster, None where too few numbers were timed.

    The last step to more must bring its share; beside 0 workers, all of them must load faster.
    """
    ordered = sorted(measured, key=lambda timing: timing.workers)
    if len(ordered) < 2 or ordered[-1].workers < 2:
        return None
    fewer, more = ordered[-2:]
    gain = _rate(more) / _rate(fewer)
    if fewer.workers == 0:
        return False if gain <= max(1.0, _LEAST_SHARE_FRACTION * more.workers) else None
    return gain - 1.0 >= _LEAST_SCALING_FRACTION * (more.workers / fewer.workers - 1.0)


def _choose_workers(
    measured: Sequence[LoaderTiming], points: Sequence[LoaderPoint], status: LoaderStatus
) -> int | None:
    """Return the smallest number that is about as fast as the fastest, if clearly above its own."""
    if status != "limits":
        return points[0].workers or None if status == "keeps_up" else None
    speeds = [median(timing.together_samples_per_s) for timing in measured]
    near = [
        timing
        for timing, speed in zip(measured, speeds, strict=True)
        if speed >= (1.0 - LEAST_LOSS_FRACTION) * max(speeds)
    ]
    chosen = min(near, key=lambda timing: timing.workers)
    gain = compare_rates(chosen.together_samples_per_s, measured[0].together_samples_per_s)
    return chosen.workers if (gain.low or 0.0) > 1.0 + LEAST_LOSS_FRACTION else None


def _list_training(timings: Sequence[LoaderTiming]) -> list[float]:
    return [rate for timing in timings for rate in timing.training_samples_per_s]


def _rate(timing: LoaderTiming) -> float:
    return median(timing.alone_samples_per_s)


def choose_micro_batch(
    facts: WorkloadFacts, largest: int | None, *, batch_multiple: int
) -> int | None:
    """Return the base batch, or the largest part of it that ran; None where `largest` is None."""
    if largest is None:
        return None
    largest = min(largest, facts.dataset_size or largest) // batch_multiple * batch_multiple
    if largest == 0:
        return None
    base = min(facts.usual_batch_size, largest)
    return max(batch_multiple, base // batch_multiple * batch_multiple)


def choose_loop_sizes(base: int, timed: Sequence[int], *, batch_multiple: int) -> tuple[int, ...]:
    """Return the micro-batches at which the loop is timed: the base first, in the range timed."""
    chosen: list[int] = []
    for factor in _LOOP_FACTORS:
        size = min(max(round(base * factor), min(timed)), max(timed))
        size = max(batch_multiple, size // batch_multiple * batch_multiple)
        if all(max(size, other) >= _LEAST_RATIO * min(size, other) for other in chosen):
            chosen.append(size)
    return tuple(chosen)


LOADER = Topic(
    "loader",
    LoaderConclusion,
    lambda conclusions: conclude_loader(conclusions.record.all(LOADER_TIMINGS)),
)
