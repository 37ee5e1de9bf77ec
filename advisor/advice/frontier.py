"""Time against cost: the fastest, the balanced and the cheapest way to train to the same loss.

One GPU is measured; several are on paper, between bounds (docs/method.md, section 8).
"""

import math
import operator
from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from advisor.advice.data import Bounds, Frontier, FrontierPoint, Scenario
from advisor.device.data import Interconnect
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
    ways = [
        (count, each)
        for count in counts
        for each in candidates
        if facts.dataset_size is None or count * each.global_batch_size <= facts.dataset_size
    ]
    if not ways:
        takers = f"{count_of(counts[0], 'GPU')} take{'s' * (counts[0] == 1)}"
        return Frontier(reason=f"the dataset has fewer samples than {takers} at once")
    points = _compare(ways, gradient_bytes, noise_scale, scenario, facts)
    return Frontier(
        points=points,
        fastest=min(points, key=_rank),
        balanced=min(points, key=lambda point: (max(_rank(point)), min(_rank(point)))),
        cheapest=min(points, key=lambda point: _rank(point)[::-1]),
        noise_scale=noise_scale,
        gradient_bytes=gradient_bytes,
        interconnect=scenario.interconnect if is_on_paper else None,
        notes=tuple(_write_notes(scenario, facts, gradient_bytes, is_on_paper=is_on_paper)),
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


def _predict_step_s(
    candidate: Candidate,
    gpus: int,
    gradient_bytes: int | None,
    interconnect: Interconnect | None,
) -> Bounds:
    """Return the seconds of a step: as measured on one GPU, within bounds on several."""
    step_s = candidate.step_s
    if gpus == 1:
        return Bounds(low=step_s, high=step_s)
    if gradient_bytes is None or interconnect is None:
        return Bounds(low=step_s, high=None)
    reduce_s = predict_all_reduce_s(gpus, gradient_bytes, interconnect.bytes_per_s)
    return Bounds(low=max(step_s, reduce_s), high=step_s + reduce_s)


def _compare(
    ways: Sequence[tuple[int, Candidate]],
    gradient_bytes: int | None,
    noise_scale: float,
    scenario: Scenario,
    facts: WorkloadFacts,
) -> tuple[FrontierPoint, ...]:
    """Return a point for each way, with time and cost over the least of all."""
    least_steps = _count_least_steps(scenario, facts, noise_scale)
    price, points = scenario.price_per_gpu_hour, []
    for gpus, each in ways:
        size = gpus * each.global_batch_size
        step_s = _predict_step_s(each, gpus, gradient_bytes, scenario.interconnect)
        time = step_s.scale(1.0 + noise_scale / size)  # in units of S_min
        training_s = None if least_steps is None else time.scale(least_steps)
        point = FrontierPoint(
            gpus=gpus,
            micro_batch_size=each.micro_batch_size,
            gradient_accumulation_steps=each.gradient_accumulation_steps,
            global_batch_size=size,
            step_s=step_s,
            relative_time=time,
            relative_cost=time.scale(gpus),
            relative_steps=1.0 + noise_scale / size,
            relative_samples=predict_relative_samples(size, noise_scale),
            has_short_epochs=facts.dataset_size is not None
            and size * LEAST_STEPS_PER_EPOCH > facts.dataset_size,
            training_s=training_s,
            training_price=None
            if training_s is None or price is None
            else training_s.scale(gpus * price / _SECONDS_PER_HOUR),
        )
        points.append(point)
    ranks, nearest = list(map(_rank, points)), _find_nearest(points, noise_scale)
    least_time, least_cost = map(min, zip(*ranks, strict=True))
    return tuple(
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
    )


def _rank(point: FrontierPoint) -> tuple[float, float]:
    return point.relative_time.ranked, point.relative_cost.ranked


def _find_nearest(points: Sequence[FrontierPoint], noise_scale: float) -> dict[int, int]:
    """Return the batch nearest to the noise scale by the numbers of GPUs that have one."""

    def measure(point: FrontierPoint) -> tuple[float, int]:
        size = point.global_batch_size
        return abs(math.log(size / noise_scale)), size

    near = [point for point in points if measure(point)[0] <= math.log(NEAR_NOISE_RATIO)]
    # The nearest comes last, and stays.
    return {p.gpus: p.global_batch_size for p in sorted(near, key=measure, reverse=True)}


def _count_least_steps(
    scenario: Scenario, facts: WorkloadFacts, noise_scale: float
) -> float | None:
    """Return S_min of the run that the user stated: its samples at the base batch, over 1 + B0/φ.

    That gives E_min, and E_min = φ·S_min.
    """
    samples = count_samples(scenario, facts)
    if samples is None or facts.base_batch_size is None:
        return None
    return samples / predict_relative_samples(facts.base_batch_size, noise_scale) / noise_scale


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
