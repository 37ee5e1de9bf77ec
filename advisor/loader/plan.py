"""Is the loader the limit, and how many workers would suffice?

With 0 workers loading and stepping alternate and their times add; background workers load while the
model trains, so that training is as fast as the slower of the two:

    t(0) = loading + step        t(w) = max(loading / w, step)
"""

import math
from collections.abc import Sequence

import msgspec

from advisor.engine.conclusions import Conclusions, Topic
from advisor.engine.spec import Limits
from advisor.loader.data import (
    LOADER_TIMINGS,
    LoaderConclusion,
    LoaderPoint,
    LoaderStatus,
    LoaderTiming,
)
from advisor.loader.law import combine, fit_law, interpolate
from advisor.statistics import Estimate, compare_rates, estimate_median_over_sessions, median
from advisor.training.data import WorkloadFacts

#: Share of the training speed below which a loss to loading is not worth a change, and which a gain
#: must exceed; the tolerance of the saturation batch.
LEAST_LOSS_FRACTION = 0.05
#: Workers that load with less than this share of the gain in proportion do not scale.
_LEAST_SCALING_FRACTION = 0.5
#: Share of the training process's own rate below which a background worker is no help: it waits for
#: a processor, or its batches wait to be handed over.
_LEAST_SHARE_FRACTION = 0.25
#: Numbers of workers that are timed: its own, two that should suffice, and that of the processors.
_MOST_COUNTS = 4
#: The base batch where there is none.
_USUAL_BATCH = 32
#: Times the base batch that a second size is to be, best first.
_FACTORS = (8, 4, 2)
_KEPT = {"keeps_up": True, "limits": False}
_NO_LOADER = LoaderConclusion(
    micro_batch_size=1,
    status="none",
    own_workers=0,
    training_samples_per_s=Estimate(None, None, None),
    points=(),
)


def conclude_loader(timings: Sequence[LoaderTiming]) -> LoaderConclusion | None:
    """Return whether training waits for its data and how many workers suffice; None untimed.

    The number of workers is the smallest w with

        w · rate of one background worker ≥ rate of training alone

    and counts as verified where training with it was measured to keep up.

    Args:
        timings: In the order they ran, the loader as it is first.
    """
    if not timings:
        return None
    own = timings[0]
    law = fit_law([timing for timing in timings if timing.is_own])
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
        training_samples_per_s=_estimate(training),
        points=points,
        samples_per_s_per_worker=per_worker,
        workers_needed=needed,
        is_verified=_KEPT.get(next((p.status for p in points if p.workers == needed), "none")),
        advised_workers=_choose_workers(measured, points, status),
        does_scale=does_scale,
        cores=own.cores,
        is_iterable=own.is_iterable,
        message=next((timing.message for timing in timings if timing.message), None),
        **law._asdict(),
    )


def choose_next_workers(timings: Sequence[LoaderTiming], *, most_workers: int) -> int | None:
    """Return the number of workers to time next, None where the answer is there or out of reach.

    First as many as would suffice if each loaded as fast as the training process does; then as many
    as the rate of those asks for. Where more of them load no faster, the processors' number is the
    last one.
    """
    timings = [each for each in timings if each.micro_batch_size == timings[0].micro_batch_size]
    conclusion = conclude_loader(timings)
    if conclusion is None or conclusion.status != "limits" or timings[-1].message is not None:
        return None
    if len(timings) >= _MOST_COUNTS:
        return None
    wanted = conclusion.workers_needed
    if not any(point.workers for point in conclusion.points):
        wanted = math.ceil(median(_list_training(timings)) / _rate(timings[0]))
    elif wanted is None:
        wanted = min(timings[0].cores or 1, max(timing.workers for timing in timings))
    wanted = max(1, min(wanted, most_workers))
    return wanted if conclusion.find_point(wanted) is None else None


def _summarise(timing: LoaderTiming) -> LoaderPoint:
    ratio = compare_rates(timing.together_samples_per_s, timing.training_samples_per_s)
    point, low, high = (
        None if end is None else 1.0 - end for end in (ratio.point, ratio.high, ratio.low)
    )
    loss = Estimate(point, low, high)
    return LoaderPoint(
        workers=timing.workers,
        status=_judge(loss, timing.waiting_fractions),
        samples_per_s=_estimate(timing.alone_samples_per_s),
        together_samples_per_s=_estimate(timing.together_samples_per_s),
        loss_fraction=loss,
        waiting_fraction=median(timing.waiting_fractions) if timing.waiting_fractions else None,
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


def _judge_scaling(measured: Sequence[LoaderTiming]) -> bool | None:
    """Return whether more workers load faster, None where too few numbers were timed.

    The last step to more of them must bring its share; beside 0 workers, each must load at a share
    of the rate of the training process, and all of them faster than it.
    """
    fewer, more = (None, None, *sorted(measured, key=lambda timing: timing.workers))[-2:]
    if fewer is None or more is None or more.workers < 2:
        return None
    if fewer.workers == 0:
        least = max(1.0, _LEAST_SHARE_FRACTION * more.workers) * _rate(fewer)
        return False if _rate(more) <= least else None
    gain = _rate(more) / _rate(fewer) - 1.0
    return gain >= _LEAST_SCALING_FRACTION * (more.workers / fewer.workers - 1.0)


def _choose_workers(
    measured: Sequence[LoaderTiming], points: Sequence[LoaderPoint], status: LoaderStatus
) -> int | None:
    """Return the smallest number that is about as fast as the fastest, if clearly above its own."""
    if status != "limits":
        return points[0].workers or None if status == "keeps_up" else None
    fastest = max(median(timing.together_samples_per_s) for timing in measured)
    near = (1.0 - LEAST_LOSS_FRACTION) * fastest
    chosen = min(
        (timing for timing in measured if median(timing.together_samples_per_s) >= near),
        key=lambda timing: timing.workers,
    )
    gain = compare_rates(chosen.together_samples_per_s, measured[0].together_samples_per_s)
    is_worth_it = gain.low is not None and gain.low > 1.0 + LEAST_LOSS_FRACTION
    return chosen.workers if is_worth_it else None


def _list_training(timings: Sequence[LoaderTiming]) -> list[float]:
    return [rate for timing in timings for rate in timing.training_samples_per_s]


def _rate(timing: LoaderTiming) -> float:
    return median(timing.alone_samples_per_s)


def _estimate(rates: Sequence[float]) -> Estimate:
    """Return the median with its interval over windows."""
    return estimate_median_over_sessions([(rate,) for rate in rates])


def list_sizes(
    facts: WorkloadFacts, largest: int | None, *, batch_multiple: int
) -> tuple[int, ...]:
    """Return the micro-batch at which workers are judged, then other sizes, best first.

    The first is the base batch, or the largest that ran. Nothing runs with `largest` None.
    """
    if largest is None:
        return ()
    largest = min(largest, facts.dataset_size or largest) // batch_multiple * batch_multiple
    if largest == 0:
        return ()
    base = min(facts.base_batch_size or _USUAL_BATCH, largest)
    base = max(batch_multiple, base // batch_multiple * batch_multiple)
    sizes = [base * factor for factor in _FACTORS] + [largest]
    larger = [size for size in sizes if _FACTORS[-1] * base <= size <= largest]
    least = max(facts.min_micro_batch_size, batch_multiple)
    parts = (base // factor // batch_multiple * batch_multiple for factor in _FACTORS)
    return tuple(dict.fromkeys((base, *larger, *(size for size in parts if least <= size < base))))


def estimate_loop_step_s(
    step_s: float,
    global_batch_size: int,
    micro_batch_size: int,
    loader: LoaderConclusion | None,
) -> float:
    """Return the seconds of an optimizer step in the user's loop, which loads its micro-batches.

    Args:
        step_s: Of the step on batches that are on the device already.
        global_batch_size: Samples of the step.
        micro_batch_size: Samples of each batch that the loader gives.
        loader: None costs nothing.
    """
    if loader is None:
        return step_s
    batches = math.ceil(global_batch_size / micro_batch_size)
    load_s = batches * loader.fixed_s + global_batch_size * loader.per_sample_s
    hidden = 0.0
    if loader.law_sizes:
        hidden = interpolate(micro_batch_size, loader.law_sizes, loader.hidden_fractions)
    epoch_s = global_batch_size * loader.epoch_per_sample_s
    return combine(step_s, load_s, hidden) + epoch_s


def add_epoch(
    loader: LoaderConclusion | None,
    timings: Sequence[LoaderTiming],
    facts: WorkloadFacts | None,
    limits: Limits,
) -> LoaderConclusion | None:
    """Return the conclusion with what each pass over the dataset costs; None where nothing does."""
    if limits.no_loader or (loader is None and limits.epoch_overhead_s):
        loader, timings = _NO_LOADER, ()
    if loader is None or facts is None or not facts.dataset_size:
        return loader
    restarts_s = [timing.restart_s for timing in timings if timing.is_own] or [0.0]
    epoch_s = (median(restarts_s) + limits.epoch_overhead_s) / facts.dataset_size
    return msgspec.structs.replace(loader, epoch_per_sample_s=epoch_s)


def _conclude(conclusions: Conclusions) -> LoaderConclusion | None:
    record, timings = conclusions.record, conclusions.record.all(LOADER_TIMINGS)
    return add_epoch(conclude_loader(timings), timings, record.workload, record.command.limits)


LOADER = Topic("loader", LoaderConclusion, _conclude)
