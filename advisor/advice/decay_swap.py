"""A batch that grows where the user's schedule lowers the rate, and what that saves.

The noise of training follows η/B for SGD and η/sqrt(B) for Adam. Where a schedule divides η by c, a
batch c times as large does the same to it, for SGD without any cut and for Adam with one by sqrt(c)
alone; the samples stay the same, and the steps become fewer. Where the largest batch allows a
factor f < c only, the rate takes the rest, c/f for SGD and c/sqrt(f) for Adam.

The time of a sample is t(B)/B, so that what a swap saves needs no noise scale.

Source: Smith et al. 2018, arXiv:1711.00489, for SGD; Malladi et al. 2022, arXiv:2205.10287, for the
square root of Adam.
"""

import math
from collections.abc import Sequence
from typing import Literal

import msgspec

from advisor.advice.candidates import LEAST_STEPS_PER_EPOCH, Candidate
from advisor.advice.data import Moment, Scenario, Schedule, ScheduleItem
from advisor.advice.frontier import count_samples
from advisor.advice.schedule import LEAST_GAIN_FRACTION, Pair
from advisor.advice.step_sizes import find_split, interpolate_step_s
from advisor.rate.rules import Family, name_family
from advisor.training.data import WorkloadFacts

#: A cosine falls in halves up to here: what is left of the rate is then a thousandth.
_MOST_HALVINGS = 10
_NO_PLACES = (
    "the places of the rate schedule are not known in samples: steps need the base batch, epochs "
    "the dataset's size"
)


class _Cut(msgspec.Struct, frozen=True, kw_only=True):
    """A place where the user's schedule has come down.

    Attributes:
        samples: Of the run before.
        divisor: What η is divided by from there on, all cuts before included.
    """

    samples: float
    divisor: float


def conclude_decay_swap(
    candidates: Sequence[Candidate],
    advised: Pair,
    *,
    scenario: Scenario,
    facts: WorkloadFacts,
    largest_noise_scale: float | None = None,
) -> Schedule | None:
    """Return the swap of the user's own rate schedule for a growing batch; None without one.

    Steps of the user's schedule count at the base batch; the swap keeps its places in samples. The
    batch grows in multiples of the advised one, not beyond the largest candidate, nor to where an
    epoch has too few steps.

    Args:
        candidates: Batches with their step times, at least one.
        advised: Where the run begins; its rate, if any, is that of the schedule's start.
        scenario: The rate schedule and the length of the run.
        facts: The optimizer, the dataset and the base batch.
        largest_noise_scale: The largest φ that was measured, in samples; None where there is none.

    Source: Smith et al. 2018, arXiv:1711.00489.
    """
    kind = _name_kind(scenario)
    if kind is None:
        return None
    family = None if facts.optimizer is None else name_family(facts.optimizer)
    if family is None:
        return Schedule(
            kind=kind, reason="no rule is known for how this optimizer's rate follows the batch"
        )
    cuts, end = _place_cuts(scenario, facts)
    if not cuts:
        return Schedule(kind=kind, reason=_NO_PLACES)
    ordered = sorted(candidates, key=lambda each: each.global_batch_size)
    sizes = [_grow(ordered, advised, cut.divisor, facts.dataset_size) for cut in cuts]
    gain = _predict_gain(ordered, cuts, sizes, end)
    items: tuple[ScheduleItem, ...] = ()
    if gain is not None and gain >= LEAST_GAIN_FRACTION:
        items = _write_items(ordered, advised, family, cuts, sizes)
    return Schedule(
        kind=kind,
        items=_drop_unchanged(items) if kind == "cosine" else items,
        gain_fraction=gain,
        reason=_explain(gain, sizes, largest_noise_scale),
        rate_note=_describe_rates(kind, family) if advised.learning_rate is not None else "",
    )


def _name_kind(scenario: Scenario) -> Literal["milestones", "cosine"] | None:
    if scenario.cosine is not None:
        return "cosine"
    return "milestones" if scenario.milestones else None


def _place_cuts(scenario: Scenario, facts: WorkloadFacts) -> tuple[tuple[_Cut, ...], float | None]:
    """Return the cuts in samples, the start among them, and the run's end; none if not known."""
    start = _Cut(samples=0.0, divisor=1.0)
    if scenario.cosine is not None:
        end = _count_to(scenario.cosine, facts)
        if end is None:
            return (), None
        halvings = [
            _Cut(samples=end / math.pi * math.acos(2.0 ** (1 - k) - 1.0), divisor=2.0**k)
            for k in range(1, _MOST_HALVINGS + 1)
        ]
        return (start, *halvings), end
    places = [_count_to(each, facts) for each in scenario.milestones]
    end = count_samples(scenario, facts)
    if any(place is None for place in places):
        return (), end
    cuts = [
        _Cut(samples=place, divisor=scenario.gamma ** -(index + 1))
        for index, place in enumerate(places)
        if place is not None and (end is None or place < end)
    ]
    return (start, *cuts), end


def _count_to(moment: Moment, facts: WorkloadFacts) -> float | None:
    """Return the samples up to a moment of the user's own run; None where they are not known."""
    unit = facts.dataset_size if moment.unit == "epoch" else facts.base_batch_size
    return None if unit is None else moment.at * unit


def _grow(
    candidates: Sequence[Candidate], advised: Pair, divisor: float, dataset_size: int | None
) -> int:
    """Return the batch in place of a rate divided so often: a multiple of the advised one."""
    size = advised.global_batch_size
    most = candidates[-1].global_batch_size
    if dataset_size is not None:
        most = min(most, dataset_size // LEAST_STEPS_PER_EPOCH)
    # Cuts by 0.1 give divisors such as 9.999999999999998.
    return size * max(1, math.floor(min(divisor * (1.0 + 1e-9), most / size)))


def _predict_gain(
    candidates: Sequence[Candidate],
    cuts: Sequence[_Cut],
    sizes: Sequence[int],
    end: float | None,
) -> float | None:
    """Return the share of time saved over the constant batch; None without the run's end."""
    if end is None:
        return None
    ends = [*(cut.samples for cut in cuts[1:]), end]
    samples = [after - cut.samples for cut, after in zip(cuts, ends, strict=True)]
    spent = sum(
        count * _measure_sample_s(candidates, size)
        for count, size in zip(samples, sizes, strict=True)
    )
    return 1.0 - spent / (end * _measure_sample_s(candidates, sizes[0]))


def _measure_sample_s(candidates: Sequence[Candidate], size: int) -> float:
    step_s = interpolate_step_s(candidates, size)
    assert step_s is not None, f"batch {size} is outside of what was measured"
    return step_s / size


def _write_items(
    candidates: Sequence[Candidate],
    advised: Pair,
    family: Family,
    cuts: Sequence[_Cut],
    sizes: Sequence[int],
) -> tuple[ScheduleItem, ...]:
    items: list[ScheduleItem] = []
    steps = before = 0.0
    for cut, size in zip(cuts, sizes, strict=True):
        if items:
            steps += (cut.samples - before) / items[-1].global_batch_size
        before = cut.samples
        micro, passes = find_split(candidates, size)
        items.append(
            ScheduleItem(
                from_step=round(steps),
                from_samples=round(cut.samples),
                global_batch_size=size,
                micro_batch_size=micro,
                gradient_accumulation_steps=passes,
                learning_rate=_scale(advised, family, size, cut.divisor),
            )
        )
    return tuple(items)


def _scale(advised: Pair, family: Family, size: int, divisor: float) -> float | None:
    """Return the rate: what of the cut the batch does not do."""
    if advised.learning_rate is None:
        return None
    factor = size / advised.global_batch_size
    if family != "gradient":
        factor = math.sqrt(factor)
    elif advised.loss_is_sum:
        factor = 1.0  # a gradient that is summed grows with the batch by itself
    return advised.learning_rate * factor / divisor


def _drop_unchanged(items: Sequence[ScheduleItem]) -> tuple[ScheduleItem, ...]:
    """Return the items that change the batch: in between the rate follows its own curve."""
    return tuple(
        item
        for index, item in enumerate(items)
        if index == 0 or item.global_batch_size != items[index - 1].global_batch_size
    )


def _explain(gain: float | None, sizes: Sequence[int], largest_noise_scale: float | None) -> str:
    if gain is None:
        return "what it saves depends on how long the run is: give --epochs or --samples"
    if max(sizes) == sizes[0]:
        return "no batch twice the advised one was measured that leaves an epoch enough steps"
    if gain < LEAST_GAIN_FRACTION:
        return f"larger batches save less than {100 * LEAST_GAIN_FRACTION:.0f} % of the time"
    reason = "larger batches make faster samples, and as many samples are trained"
    if largest_noise_scale is not None and max(sizes) > largest_noise_scale:
        reason += (
            f"; batches above {largest_noise_scale:.3g}, the largest noise scale measured, may "
            "need more of them: compare the loss"
        )
    return reason


def _describe_rates(kind: Literal["milestones", "cosine"], family: Family) -> str:
    root = "B/B_start" if family == "gradient" else "sqrt(B/B_start)"
    if kind == "cosine":
        return f"rates by rule, not run; between these the cosine goes on, times {root}"
    return f"rates by rule, not run: the cut one times {root}"
