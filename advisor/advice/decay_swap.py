"""A batch that grows where the user's schedule lowers the rate, and what that saves.

Where a schedule divides the rate by c, a batch c times as large does the same to the noise, for
Adam with a cut by sqrt(c) besides (docs/method.md, section 9). It needs no noise scale.

Source: Smith et al. 2018, arXiv:1711.00489, for SGD; Malladi et al. 2022, arXiv:2205.10287, for the
square root of Adam.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from advisor.advice.data import Moment, Scenario, Schedule
from advisor.advice.frontier import LEAST_STEPS_PER_EPOCH, count_samples
from advisor.advice.schedule import (
    LEAST_GAIN_FRACTION,
    interpolate_step_s,
    write_items,
)
from advisor.rate.data import Candidate
from advisor.rate.rules import Rule, name_family
from advisor.training.data import WorkloadFacts
from advisor.units import format_figure, format_percent

#: A cosine falls in halves up to here: what is left of the rate is then a thousandth.
_MOST_HALVINGS = 10

#: Samples of the run before a place, and what the schedule has divided η by from there on.
_Cut = tuple[float, float]


def conclude_decay_swap(
    candidates: Sequence[Candidate],
    size: int,
    rule: Rule | None,
    *,
    scenario: Scenario,
    facts: WorkloadFacts,
    largest_noise_scale: float | None = None,
) -> Schedule | None:
    """Return the swap of the user's own rate schedule for a growing batch; None without one.

    Steps of the user's schedule count at the base batch; the swap keeps its places in samples. From
    the advised batch on it grows in multiples of that, not beyond the largest of the candidates,
    which are by size, nor to where an epoch has too few steps.
    """
    if scenario.cosine is None and not scenario.milestones:
        return None
    kind: Literal["cosine", "milestones"] = "cosine" if scenario.cosine else "milestones"
    family = None if facts.optimizer is None else name_family(facts.optimizer)
    if family is None:
        return Schedule(
            kind=kind, reason="no rule is known for how this optimizer's rate follows the batch"
        )
    cuts, end = place_cuts(scenario, facts)
    if not cuts:
        return Schedule(
            kind=kind,
            reason="the places of the rate schedule are not known in samples: steps need the base "
            "batch, epochs the dataset's size",
        )
    most = candidates[-1].global_batch_size
    if facts.dataset_size is not None:
        most = min(most, facts.dataset_size // LEAST_STEPS_PER_EPOCH)
    # In place of a rate divided so often; cuts by 0.1 give divisors such as 9.999999999999998.
    factors = [min(divisor * (1.0 + 1e-9), most / size) for _, divisor in cuts]
    sizes = [size * max(1, math.floor(factor)) for factor in factors]
    rates = [None if rule is None else rule.scale(each) for each in sizes]
    places, gain = [place for place, _ in cuts], None

    def take_s(samples: float, size: int) -> float:
        return samples * interpolate_step_s(candidates, size) / size

    if end is not None:
        spans = [after - before for before, after in pairwise((*places, end))]
        gain = 1.0 - sum(map(take_s, spans, sizes)) / take_s(end, sizes[0])
    is_advised = gain is not None and gain >= LEAST_GAIN_FRACTION
    segments = [
        (after - before, each, None if rate is None else rate / divisor)
        for (before, after), (_, divisor), each, rate in zip(
            pairwise((*places, places[-1])), cuts, sizes, rates, strict=True
        )
    ]
    # Between two batches a cosine follows its own curve.
    items = write_items(candidates, segments, keeps_all=kind == "milestones")
    root = "B/B_start" if family == "gradient" else "sqrt(B/B_start)"
    note = f"rates by rule: the cut one times {root}"
    if kind == "cosine":
        note = f"rates by rule; between these the cosine goes on, times {root}"
    return Schedule(
        kind=kind,
        items=items if is_advised else (),
        samples=None if end is None else round(end),
        gain_fraction=gain,
        reason=_explain(gain, sizes, largest_noise_scale),
        rate_note="" if rule is None else note,
    )


def place_cuts(scenario: Scenario, facts: WorkloadFacts) -> tuple[list[_Cut], float | None]:
    """Return the cuts, the start among them, and the run's end in samples; none if not known."""
    if scenario.cosine is not None:
        end = _count_to(scenario.cosine, facts)
        if end is None:
            return [], None
        halvings = range(_MOST_HALVINGS + 1)
        return [(end / math.pi * math.acos(2.0 ** (1 - k) - 1.0), 2.0**k) for k in halvings], end
    end = count_samples(scenario, facts)
    cuts = [(0.0, 1.0)]
    for index, moment in enumerate(scenario.milestones, start=1):
        place = _count_to(moment, facts)
        if place is None:
            return [], end
        if end is None or place < end:
            cuts.append((place, scenario.gamma**-index))
    return cuts, end


def _count_to(moment: Moment, facts: WorkloadFacts) -> float | None:
    """Return the samples up to a moment of the user's own run; None where they are not known."""
    unit = facts.dataset_size if moment.unit == "epoch" else facts.base_batch_size
    return None if unit is None else moment.at * unit


def _explain(gain: float | None, sizes: Sequence[int], largest_noise_scale: float | None) -> str:
    if gain is None:
        return "what it saves depends on how long the run is: give --epochs or --samples"
    if max(sizes) == sizes[0]:
        return "no batch twice the advised one was measured that leaves an epoch enough steps"
    if gain < LEAST_GAIN_FRACTION:
        return f"larger batches save less than {format_percent(LEAST_GAIN_FRACTION)} of the time"
    reason = "larger batches make faster samples, and as many samples are trained"
    if largest_noise_scale is not None and max(sizes) > largest_noise_scale:
        reason += (
            f"; batches above {format_figure(largest_noise_scale)}, the largest noise scale "
            "measured, may need more of them: compare the loss"
        )
    return reason
