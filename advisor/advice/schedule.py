"""A batch that grows with the noise scale φ during training, and what that saves.

Progress is counted in the steps that an endless batch would need, of which a step at batch B makes
1/(1 + φ/B) (docs/method.md, section 9). A phase lies between two neighbouring points at which φ was
measured; nothing is said of what comes after the last of them.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import pairwise
from operator import itemgetter

import msgspec
import numpy as np

from advisor.advice.data import Schedule, ScheduleItem
from advisor.memory.split import split_batch
from advisor.noise.data import NoiseConclusion, get_working_noise_scale
from advisor.rate.data import Candidate
from advisor.rate.rules import Rule
from advisor.statistics import Estimate
from advisor.units import format_percent

#: Share of the time that a schedule must save to be advised: below, it is not worth the trouble,
#: and the noise scale and the laws behind the prediction are not known that well.
LEAST_GAIN_FRACTION = 0.03


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a run between two measured points."""

    progress_steps: float
    #: φ and its lower end, averaged over the progress, in samples.
    noise_scale: float
    low_noise_scale: float


def conclude_schedule(
    candidates: Sequence[Candidate],
    noise: NoiseConclusion | None,
    advised_size: int,
    rule: Rule | None,
) -> Schedule:
    """Return whether and how to double the batch as the measured noise scale grows.

    From every candidate to begin with (`plan_doublings`); of these courses and the constant batches
    the one of least time is taken, so that none loses against the best constant batch.

    Source: McCandlish et al. 2018, arXiv:1812.06162, appendix D, for batches that follow φ.
    """
    course = () if noise is None else noise.course
    known = {step: scale for step, scale in course if get_working_noise_scale(scale) is not None}
    points = sorted(known.items(), key=itemgetter(0))
    if noise is None or len(points) < 2 or noise.batch_size is None:
        return Schedule(
            kind="noise",
            reason="the noise scale was not measured at two points of training or more",
        )
    phases = cut_phases(points, batch_size=noise.batch_size)
    take_s = partial(predict_time, candidates, phases)
    sizes = [each.global_batch_size for each in candidates]
    courses = [plan_doublings(candidates, phases, size) for size in sizes]
    constants = [(size,) * len(phases) for size in sizes]
    best = min([*constants, *courses], key=take_s)
    gain = 1.0 - take_s(best) / min(map(take_s, constants))
    parts = [
        (phase.progress_steps * (size + phase.noise_scale), size, phase.noise_scale)
        for phase, size in zip(phases, best, strict=True)
    ]
    # Before the first point φ is taken to be as there: it only places the items.
    step, first = points[0][0], get_working_noise_scale(points[0][1]) or 0.0
    lead_steps = step / (1.0 + first / noise.batch_size)
    lead = (lead_steps * (best[0] + phases[0].noise_scale), *parts[0][1:])
    segments = [
        (count, size, None if rule is None else rule.scale(size, scale))
        for count, size, scale in (lead, *parts)
    ]
    constant = take_s((advised_size,) * len(phases))
    reason = "the noise scale grows enough for a growing batch to pay"
    if best[0] == best[-1]:
        reason = "no batch that grows is faster than a constant one over what was measured"
    elif gain < LEAST_GAIN_FRACTION:
        least = format_percent(LEAST_GAIN_FRACTION)
        reason = f"a growing batch saves less than {least} of the time"
    return Schedule(
        kind="noise",
        items=write_items(candidates, segments) if gain >= LEAST_GAIN_FRACTION else (),
        samples=round(sum(count for count, _, _ in segments)),
        gain_fraction=gain,
        gain_over_advised_fraction=1.0 - take_s(best) / constant,
        measured_from_step=step,
        measured_to_step=points[-1][0],
        reason=reason,
        rate_note="" if rule is None else "rates by the scaling rule from the advised pair",
    )


def interpolate_step_s(candidates: Sequence[Candidate], global_batch_size: float) -> float:
    """Return the seconds of a step between the candidates; beyond them, those of the nearest."""
    sizes = [each.global_batch_size for each in candidates]
    return float(np.interp(global_batch_size, sizes, [each.step_s for each in candidates]))


def find_split(candidates: Sequence[Candidate], global_batch_size: int) -> tuple[int, int]:
    """Return micro-batch and accumulation that make up the batch: the candidate's own, or few."""
    for each in candidates:
        if each.global_batch_size == global_batch_size:
            return each.split
    largest = max(each.micro_batch_size for each in candidates)
    split = split_batch(global_batch_size, largest=largest)
    assert split is not None  # micro-batches of one sample make any batch
    return split


def cut_phases(points: Sequence[tuple[int, Estimate]], *, batch_size: int) -> tuple[Phase, ...]:
    """Return the phases between the points of a run at that batch, by the trapezoid rule.

    Source: McCandlish et al. 2018, arXiv:1812.06162, appendix D.
    """
    phases = []
    for (first, before), (last, after) in pairwise(points):
        values = [get_working_noise_scale(each) or 0.0 for each in (before, after)]
        paces = [1.0 / (1.0 + value / batch_size) for value in values]
        lows = [max(each.low or 0.0, 0.0) for each in (before, after)]
        phases.append(
            Phase(
                progress_steps=(last - first) * sum(paces) / 2.0,
                noise_scale=float(np.average(values, weights=paces)),
                low_noise_scale=float(np.average(lows, weights=paces)),
            )
        )
    return tuple(phases)


def plan_doublings(
    candidates: Sequence[Candidate], phases: Sequence[Phase], start: int
) -> tuple[int, ...]:
    """Return the batch of each phase, doubled while that is faster even at the lower end of φ."""
    size, most, course = start, candidates[-1].global_batch_size, []
    for phase in phases:
        low = phase.low_noise_scale
        while (
            low > 2 * size
            and 2 * size <= most
            and _measure_pace(candidates, low, 2 * size) < _measure_pace(candidates, low, size)
        ):
            size *= 2
        course.append(size)
    return tuple(course)


def predict_time(
    candidates: Sequence[Candidate], phases: Sequence[Phase], course: Sequence[int]
) -> float:
    """Return the seconds of all phases at the batches of the course, within the candidates."""
    return sum(
        phase.progress_steps * _measure_pace(candidates, phase.noise_scale, size)
        for phase, size in zip(phases, course, strict=True)
    )


def write_items(
    candidates: Sequence[Candidate],
    segments: Iterable[tuple[float, int, float | None]],
    *,
    keeps_all: bool = False,
) -> tuple[ScheduleItem, ...]:
    """Return an item for each change of the batch, counted in the scheduled run's own steps.

    A segment is samples, batch and rate of a part of the run; with `keeps_all` one whose batch is
    that of the part before has an item as well.
    """
    items: list[ScheduleItem] = []
    steps = samples = 0.0
    for count, size, rate in segments:
        if keeps_all or not items or items[-1].global_batch_size != size:
            micro_batch_size, accumulation = find_split(candidates, size)
            items.append(
                ScheduleItem(
                    from_step=round(steps),
                    from_samples=round(samples),
                    global_batch_size=size,
                    micro_batch_size=micro_batch_size,
                    gradient_accumulation_steps=accumulation,
                    learning_rate=rate,
                )
            )
        steps += count / size
        samples += count
    return tuple(items)


def _measure_pace(candidates: Sequence[Candidate], noise_scale: float, size: int) -> float:
    """Return the seconds for each unit of progress."""
    return (1.0 + noise_scale / size) * interpolate_step_s(candidates, size)
