"""Time against cost: the fastest, the balanced and the cheapest way to train to the same loss.

With B the batch over all N GPUs, φ the noise scale and τ the seconds of a step on them, training
takes S_min·(1 + φ/B) steps, hence

    time = S_min·(1 + φ/B)·τ        GPU time = N·time        steps/S_min = 1 + φ/B
                                                             samples/E_min = 1 + B/φ

At B = φ both of the last are 2: twice the fewest steps, and twice the fewest samples. On one GPU τ
is measured. On N it is on paper: each GPU makes the measured step of B/N samples, and an
all-reduce of the gradients follows it, hidden behind it at best:

    max(t(B/N), r) ≤ τ ≤ t(B/N) + r        r = 2·(N−1)/N · gradient bytes / bandwidth

On one GPU the cost is the time, so that one batch is the fastest and the cheapest; the two part
where several numbers of GPUs are compared.
"""

import math
from collections.abc import Iterable, Sequence

import msgspec

from advisor.advice.candidates import LEAST_STEPS_PER_EPOCH, Candidate
from advisor.advice.data import Bounds, Frontier, FrontierPoint, Interconnect, Scenario
from advisor.noise.data import predict_relative_samples
from advisor.training.data import WorkloadFacts

#: Ratio of a batch to the noise scale, up or down, beyond which it does not stand for it.
NEAR_NOISE_RATIO = math.sqrt(2.0)
_SECONDS_PER_HOUR = 3600.0

_NO_NOISE = (
    "the noise scale is not known, so nothing tells how many more samples a larger batch needs"
)


class _Unit(msgspec.Struct, frozen=True, kw_only=True):
    """What relative figures are multiplied with; None where it is not known.

    Attributes:
        least_steps: S_min.
    """

    least_steps: float | None
    price_per_gpu_hour: float | None


def conclude_frontier(
    candidates: Sequence[Candidate],
    noise_scale: float | None,
    *,
    scenario: Scenario,
    facts: WorkloadFacts,
) -> Frontier:
    """Return all ways to train that were asked for, with the three to choose from.

    A point counts with the most that its time can be, so that no gain rests on an overlap that was
    not measured; where no interconnect was stated, with the least of all points alike.

    `balanced` is the point whose worse ratio, of time over the least and of cost over the least, is
    smallest. On the curve of steps against samples that rule gives B = φ, where both are twice
    their least.

    Args:
        candidates: Batches of one GPU with their step times, at least one.
        noise_scale: φ in samples; None where it is not known.
        scenario: GPUs, price, interconnect and the length of the run.
        facts: The dataset, the gradient's size and the base batch.

    Source: McCandlish et al. 2018, arXiv:1812.06162, for steps and samples; Patarasu and Yuan 2009
    (J. Parallel Distrib. Comput. 69:117) for the all-reduce; the rest is derived.
    """
    if noise_scale is None:
        return Frontier(reason=_NO_NOISE)
    counts = tuple(sorted(set(scenario.gpus))) or (1,)
    gradient_bytes = estimate_gradient_bytes(facts) if counts[-1] > 1 else None
    unit = _Unit(
        least_steps=_count_least_steps(scenario, facts, noise_scale),
        price_per_gpu_hour=scenario.price_per_gpu_hour,
    )
    points = [
        _place(each, count, _predict_step_s(each, count, gradient_bytes, scenario.interconnect))
        for count in counts
        for each in candidates
        if facts.dataset_size is None or count * each.global_batch_size <= facts.dataset_size
    ]
    if not points:
        return Frontier(reason=f"the dataset has fewer samples than {counts[0]} GPUs take at once")
    compared = _compare(points, noise_scale, unit, dataset_size=facts.dataset_size)
    chosen = _mark_efficient(_mark_noise_scale(compared, noise_scale))
    return Frontier(
        points=chosen,
        fastest=min(chosen, key=lambda p: (p.relative_time.ranked, p.relative_cost.ranked)),
        balanced=min(chosen, key=_weigh_worse_ratio),
        cheapest=min(chosen, key=lambda p: (p.relative_cost.ranked, p.relative_time.ranked)),
        noise_scale=noise_scale,
        gradient_bytes=gradient_bytes,
        interconnect=scenario.interconnect if counts[-1] > 1 else None,
    )


def estimate_gradient_bytes(facts: WorkloadFacts) -> int | None:
    """Return the bytes of all gradients; None where the parameters are not known.

    A gradient has the type of its parameter, and those that are trained are assumed to have the
    average size of all.

    Source: derived.
    """
    count, trained = facts.parameter_count, facts.trainable_parameter_count
    if facts.parameter_bytes is None or not count:
        return None
    return round(facts.parameter_bytes * (count if trained is None else trained) / count)


def predict_all_reduce_s(gpus: int, gradient_bytes: float, bytes_per_s: float) -> float:
    """Return the seconds that a ring all-reduce takes at the least: the latency is left out.

    Args:
        gpus: N, at least 1.
        gradient_bytes: Exchanged by each GPU.
        bytes_per_s: For each GPU and direction.

    Source: Patarasu and Yuan 2009, J. Parallel Distrib. Comput. 69:117.
    """
    return 2.0 * (gpus - 1) / gpus * gradient_bytes / bytes_per_s


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


def _place(candidate: Candidate, gpus: int, step_s: Bounds) -> FrontierPoint:
    """Return the point without its ratios, which need all of the others."""
    unknown = Bounds(low=1.0, high=None)
    return FrontierPoint(
        gpus=gpus,
        micro_batch_size=candidate.micro_batch_size,
        gradient_accumulation_steps=candidate.gradient_accumulation_steps,
        global_batch_size=gpus * candidate.global_batch_size,
        step_s=step_s,
        relative_time=unknown,
        relative_cost=unknown,
        relative_steps=1.0,
        relative_samples=1.0,
    )


def _compare(
    points: Iterable[FrontierPoint],
    noise_scale: float,
    unit: _Unit,
    *,
    dataset_size: int | None,
) -> list[FrontierPoint]:
    """Return the points with steps and samples, and time and cost over the least of all."""
    points = _order(points)
    times = [_scale(point.step_s, 1.0 + noise_scale / point.global_batch_size) for point in points]
    costs = [_scale(time, point.gpus) for time, point in zip(times, points, strict=True)]
    least_time = min(time.ranked for time in times)
    least_cost = min(cost.ranked for cost in costs)
    return [
        msgspec.structs.replace(
            point,
            relative_time=_scale(time, 1.0 / least_time),
            relative_cost=_scale(cost, 1.0 / least_cost),
            relative_steps=1.0 + noise_scale / point.global_batch_size,
            relative_samples=predict_relative_samples(point.global_batch_size, noise_scale),
            has_short_epochs=dataset_size is not None
            and point.global_batch_size * LEAST_STEPS_PER_EPOCH > dataset_size,
            training_s=_multiply(time, unit.least_steps),
            training_price=_multiply(_price(cost, unit), unit.least_steps),
        )
        for point, time, cost in zip(points, times, costs, strict=True)
    ]


def _order(points: Iterable[FrontierPoint]) -> list[FrontierPoint]:
    """Return the points by GPUs and batch."""
    return sorted(points, key=lambda point: (point.gpus, point.global_batch_size))


def _weigh_worse_ratio(point: FrontierPoint) -> tuple[float, float]:
    """Return the worse of the two ratios, then the better one to break ties."""
    ratios = (point.relative_time.ranked, point.relative_cost.ranked)
    return max(ratios), min(ratios)


def _mark_efficient(points: Sequence[FrontierPoint]) -> tuple[FrontierPoint, ...]:
    """Return the points, those on the frontier of time and cost marked."""
    return tuple(
        msgspec.structs.replace(point, is_efficient=not any(_beats(it, point) for it in points))
        for point in points
    )


def _beats(one: FrontierPoint, other: FrontierPoint) -> bool:
    """Return whether `one` is no worse in time and in cost, and better in either."""
    mine = (one.relative_time.ranked, one.relative_cost.ranked)
    its = (other.relative_time.ranked, other.relative_cost.ranked)
    return mine != its and mine[0] <= its[0] and mine[1] <= its[1]


def _mark_noise_scale(points: Sequence[FrontierPoint], noise_scale: float) -> list[FrontierPoint]:
    """Return the points, for each number of GPUs the one nearest to the noise scale marked."""
    nearest: dict[int, tuple[float, int]] = {}
    for index, point in enumerate(points):
        distance = abs(math.log(point.global_batch_size / noise_scale))
        if distance <= math.log(NEAR_NOISE_RATIO):
            nearest[point.gpus] = min(nearest.get(point.gpus, (math.inf, 0)), (distance, index))
    marked = {index for _, index in nearest.values()}
    return [
        msgspec.structs.replace(point, is_at_noise_scale=index in marked)
        for index, point in enumerate(points)
    ]


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


def count_samples(scenario: Scenario, facts: WorkloadFacts) -> float | None:
    """Return the samples of the run that the user stated; None where it was not, or not in full.

    Source: derived.
    """
    if scenario.samples is not None:
        return float(scenario.samples)
    if scenario.epochs is None or facts.dataset_size is None:
        return None
    return scenario.epochs * facts.dataset_size


def _price(cost_s: Bounds, unit: _Unit) -> Bounds | None:
    return _multiply(
        cost_s,
        None if unit.price_per_gpu_hour is None else unit.price_per_gpu_hour / _SECONDS_PER_HOUR,
    )


def _scale(bounds: Bounds, factor: float) -> Bounds:
    return Bounds(
        low=bounds.low * factor, high=None if bounds.high is None else bounds.high * factor
    )


def _multiply(bounds: Bounds | None, factor: float | None) -> Bounds | None:
    return None if bounds is None or factor is None else _scale(bounds, factor)
