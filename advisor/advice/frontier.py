"""Time against cost: the fastest, the balanced and the cheapest way to train to the same loss.

One GPU is measured; several are on paper, between bounds (docs/method.md, section 8).
"""

import math
import operator
from collections.abc import Iterator, Sequence
from functools import partial

from msgspec.structs import replace

from advisor.advice.data import Bounds, Frontier, FrontierPoint, Scenario
from advisor.noise.data import predict_relative_samples
from advisor.rate.data import Candidate
from advisor.training.data import WorkloadFacts
from advisor.units import count_of, format_figure

#: Optimizer steps an epoch below which the batch is large for the dataset: epochs, schedules and
#: warm-ups are then counted in very few steps.
LEAST_STEPS_PER_EPOCH = 20
#: Ratio of a batch to the noise scale, up or down, beyond which it does not stand for it.
NEAR_NOISE_RATIO = math.sqrt(2.0)
_SECONDS_PER_HOUR = 3600.0


def conclude_frontier(
    candidates: Sequence[Candidate],
    noise_scale: float | None,
    *,
    scenario: Scenario,
    facts: WorkloadFacts,
) -> Frontier:
    """Return all ways to train that were asked for, with the three to choose from.

    A point counts with the most that its time can be; without an interconnect, with the least.

    Source: McCandlish et al. 2018, arXiv:1812.06162, for steps and samples.
    """
    if noise_scale is None:
        return Frontier(
            reason="the noise scale is not known, so nothing tells how many more samples a larger "
            "batch needs"
        )
    counts = sorted(set(scenario.gpus)) or [1]
    is_on_paper = counts[-1] > 1
    gradient_bytes = estimate_gradient_bytes(facts) if is_on_paper else None
    make = partial(_make, gradient_bytes, noise_scale, scenario, facts)
    points = [
        make(gpus, each)
        for gpus in counts
        for each in candidates
        if facts.dataset_size is None or gpus * each.global_batch_size <= facts.dataset_size
    ]
    if not points:
        takers = f"{count_of(counts[0], 'GPU')} take{'s' * (counts[0] == 1)}"
        return Frontier(reason=f"the dataset has fewer samples than {takers} at once")
    ranks = [_rank(point) for point in points]
    least_time, least_cost = map(min, zip(*ranks, strict=True))
    near = [
        (abs(math.log(point.global_batch_size / noise_scale)), point.global_batch_size, point.gpus)
        for point in points
    ]
    # Of each number of GPUs the nearest comes last, and stays.
    nearest = {
        gpus: size
        for distance, size, gpus in sorted(near, reverse=True)
        if distance <= math.log(NEAR_NOISE_RATIO)
    }
    points = [
        replace(
            point,
            relative_time=point.relative_time.scale(1.0 / least_time),
            relative_cost=point.relative_cost.scale(1.0 / least_cost),
            # None is no worse in time and in cost, and better in either.
            is_efficient=not any(
                other != rank and all(map(operator.le, other, rank)) for other in ranks
            ),
            is_at_noise_scale=point.global_batch_size == nearest.get(point.gpus),
        )
        for point, rank in zip(points, ranks, strict=True)
    ]
    return Frontier(
        points=tuple(points),
        fastest=min(points, key=_rank),
        balanced=min(points, key=lambda point: (max(_rank(point)), min(_rank(point)))),
        cheapest=min(points, key=lambda point: _rank(point)[::-1]),
        noise_scale=noise_scale,
        gradient_bytes=gradient_bytes,
        interconnect=scenario.interconnect if is_on_paper else None,
        notes=tuple(_write_notes(scenario, facts, gradient_bytes, is_on_paper=is_on_paper)),
    )


def _rank(point: FrontierPoint) -> tuple[float, float]:
    return point.relative_time.ranked, point.relative_cost.ranked


def _make(
    gradient_bytes: int | None,
    noise_scale: float,
    scenario: Scenario,
    facts: WorkloadFacts,
    gpus: int,
    way: Candidate,
) -> FrontierPoint:
    """Return a point with its time over the fewest steps': as measured, or between bounds."""
    size, link, step_s = gpus * way.global_batch_size, scenario.interconnect, way.step_s
    bounds = Bounds(low=step_s, high=step_s if gpus == 1 else None)
    if gpus > 1 and gradient_bytes is not None and link is not None:
        reduce_s = predict_all_reduce_s(gpus, gradient_bytes, link.bytes_per_s)
        bounds = Bounds(low=max(step_s, reduce_s), high=step_s + reduce_s)
    time = bounds.scale(1.0 + noise_scale / size)  # in units of S_min
    samples, base, price = count_samples(scenario, facts), facts.base_batch_size, None
    training_s = None
    if samples is not None and base is not None:
        # E_min is the stated run's samples over 1 + B0/φ, and S_min = E_min/φ.
        least_steps = samples / predict_relative_samples(base, noise_scale) / noise_scale
        training_s = time.scale(least_steps)
    if training_s is not None and scenario.price_per_gpu_hour is not None:
        price = training_s.scale(gpus * scenario.price_per_gpu_hour / _SECONDS_PER_HOUR)
    limit = facts.dataset_size
    return FrontierPoint(
        gpus=gpus,
        micro_batch_size=way.micro_batch_size,
        gradient_accumulation_steps=way.gradient_accumulation_steps,
        global_batch_size=size,
        step_s=bounds,
        relative_time=time,
        relative_cost=time.scale(gpus),
        relative_steps=1.0 + noise_scale / size,
        relative_samples=predict_relative_samples(size, noise_scale),
        has_short_epochs=limit is not None and size * LEAST_STEPS_PER_EPOCH > limit,
        training_s=training_s,
        training_price=price,
    )


def estimate_gradient_bytes(facts: WorkloadFacts) -> int | None:
    """Return the bytes of all gradients; None where the parameters are not known.

    Those that are trained are assumed to have the average size of all.
    """
    count, trained = facts.parameter_count, facts.trainable_parameter_count
    if facts.parameter_bytes is None or not count:
        return None
    return round(facts.parameter_bytes * (count if trained is None else trained) / count)


def predict_all_reduce_s(gpus: int, gradient_bytes: float, bytes_per_s: float) -> float:
    """Return the seconds that a ring all-reduce takes at the least: the latency is left out.

    Source: Patarasu and Yuan 2009, J. Parallel Distrib. Comput. 69:117.
    """
    return 2.0 * (gpus - 1) / gpus * gradient_bytes / bytes_per_s


def count_samples(scenario: Scenario, facts: WorkloadFacts) -> float | None:
    """Return the samples of the run that the user stated; None where it was not, or not in full."""
    if scenario.samples is not None:
        return float(scenario.samples)
    if scenario.epochs is None or facts.dataset_size is None:
        return None
    return scenario.epochs * facts.dataset_size


def _write_notes(
    scenario: Scenario, facts: WorkloadFacts, gradient_bytes: int | None, *, is_on_paper: bool
) -> Iterator[str]:
    """Yield what the figures rest on, and what was asked for and cannot be told."""
    if is_on_paper:
        yield (
            "More than one GPU is on paper, not measured: each is taken to be as fast as this "
            "device."
        )
        link = scenario.interconnect
        if gradient_bytes is None:
            yield (
                "Their times are lower bounds: what the GPUs exchange is not known, since the "
                "model file keeps its parameters to itself."
            )
        elif link is None:
            yield (
                "Their times are lower bounds: the exchange of gradients is left out; give "
                "--interconnect."
            )
        else:
            yield (
                f"The gradients, {format_figure(gradient_bytes / 1e6)} MB, travel over "
                f"{link.name} at {format_figure(link.bytes_per_s / 1e9, 4)} GB/s for each GPU and "
                f"direction ({link.source}), at best hidden behind the step, at worst after it; "
                "the latter decides."
            )
    has_length = scenario.samples is not None or scenario.epochs is not None
    if has_length and facts.base_batch_size is None:
        yield (
            "Hours and money are not given: the batch that the stated length is for is not known; "
            "set BASE_BATCH_SIZE in the model file, or give --base-batch-size to probe."
        )
    elif has_length and count_samples(scenario, facts) is None:
        yield "Hours and money are not given: the dataset's size is not known; give --samples."
    elif scenario.price_per_gpu_hour is not None and not has_length:
        yield (
            "Money is not given: that needs the length of the run at the base batch, --epochs or "
            "--samples."
        )
