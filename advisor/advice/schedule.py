"""A batch that grows with the noise scale during training, and what that saves.

Legend: φ is the noise scale, B the batch, t(B) the seconds of its step; ds is progress in the steps
that an endless batch would need, of which a step at batch B makes 1/(1 + φ/B). The time of a run
is ∫(1 + φ/B)·t(B) ds, so that each phase has its own best batch, sqrt(φ·B_h) on the affine law.

A phase lies between two neighbouring points at which φ was measured. Nothing is said of what comes
after the last of them.
"""

import itertools
from collections.abc import Sequence

import msgspec

from advisor.advice.candidates import Candidate
from advisor.advice.data import Schedule, ScheduleItem
from advisor.advice.step_sizes import find_split, interpolate_step_s
from advisor.noise.data import NoiseConclusion, get_working_noise_scale
from advisor.rate.rules import name_family, scale_rate
from advisor.statistics import Estimate
from advisor.training.data import OptimizerFacts

#: Share of the time that a schedule must save to be advised: below, it is not worth the trouble,
#: and the noise scale and the laws behind the prediction are not known that well.
LEAST_GAIN_FRACTION = 0.03

_RATE_NOTE = "rates by the scaling rule from the advised pair, not run"


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a run between two measured points.

    Attributes:
        progress_steps: ∫ds over it.
        noise_scale: φ, its average over the progress, in samples.
        low_noise_scale: The same of the lower ends of φ.
    """

    progress_steps: float
    noise_scale: float
    low_noise_scale: float


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """The batch and rate that a schedule's rates are scaled from.

    Attributes:
        learning_rate: That was run; None where none was, and then no rate is given.
    """

    global_batch_size: int
    learning_rate: float | None
    optimizer: OptimizerFacts | None
    loss_is_sum: bool = False


def conclude_schedule(
    candidates: Sequence[Candidate], noise: NoiseConclusion | None, advised: Pair
) -> Schedule:
    """Return whether and how to double the batch as the measured noise scale grows.

    From every candidate to begin with, the batch is doubled at the start of a phase while the lower
    end of φ is above twice the batch, the doubled batch is faster there, and it is not beyond the
    largest candidate. Of these courses and the constant batches the one of least time is taken, so
    that none loses against the best constant batch.

    Args:
        candidates: Batches with their step times, by size, at least one.
        noise: The trajectory.
        advised: The constant batch and rate.

    Source: McCandlish et al. 2018, arXiv:1812.06162, appendix D, for batches that follow φ; the
    rule of doubling is derived.
    """
    points = _get_points(noise)
    if noise is None or len(points) < 2 or noise.micro_batch_size is None:
        return Schedule(
            kind="noise",
            reason="the noise scale was not measured at two points of training or more",
        )
    phases = cut_phases(points, batch_size=noise.micro_batch_size)
    ordered = sorted(candidates, key=lambda each: each.global_batch_size)
    courses = [plan_doublings(ordered, phases, each.global_batch_size) for each in ordered]
    constants = [(each.global_batch_size,) * len(phases) for each in ordered]
    best = min([*constants, *courses], key=lambda course: predict_time(ordered, phases, course))
    best_s = predict_time(ordered, phases, best)
    constant_s = min(predict_time(ordered, phases, each) for each in constants)
    advised_course = (advised.global_batch_size,) * len(phases)
    gain = 1.0 - best_s / constant_s
    schedule = Schedule(
        kind="noise",
        gain_fraction=gain,
        gain_over_advised_fraction=1.0 - best_s / predict_time(ordered, phases, advised_course),
        measured_from_step=points[0][0],
        measured_to_step=points[-1][0],
        reason=_explain(gain, grows=best[0] != best[-1]),
        rate_note=_RATE_NOTE if advised.learning_rate is not None else "",
    )
    if gain < LEAST_GAIN_FRACTION:
        return schedule
    lead_steps = _count_lead(points, noise.micro_batch_size)
    items = _write_items(ordered, phases, best, advised, lead_steps=lead_steps)
    return msgspec.structs.replace(schedule, items=items)


def cut_phases(points: Sequence[tuple[int, Estimate]], *, batch_size: int) -> tuple[Phase, ...]:
    """Return the phases between measured points, with their progress.

    Args:
        points: Step and φ, by step; each φ with a working value.
        batch_size: Samples of each step of the measured run.

    Source: McCandlish et al. 2018, appendix D, with the trapezoid rule as in
    `average_over_progress`.
    """
    phases = []
    for (first, before), (last, after) in itertools.pairwise(points):
        values = [get_working_noise_scale(each) or 0.0 for each in (before, after)]
        paces = [1.0 / (1.0 + value / batch_size) for value in values]
        lows = [max(each.low or 0.0, 0.0) for each in (before, after)]
        total = sum(paces)
        phases.append(
            Phase(
                progress_steps=(last - first) * total / 2.0,
                noise_scale=_average(paces, values),
                low_noise_scale=_average(paces, lows),
            )
        )
    return tuple(phases)


def plan_doublings(
    candidates: Sequence[Candidate], phases: Sequence[Phase], start: int
) -> tuple[int, ...]:
    """Return the batch of each phase: never smaller than before, each a doubling of the start.

    Args:
        candidates: By size.
        phases: In order.
        start: The batch to begin with, a candidate's.

    Source: derived.
    """
    size, course = start, []
    for phase in phases:
        while phase.low_noise_scale > 2 * size and _is_faster(candidates, phase, size):
            size *= 2
        course.append(size)
    return tuple(course)


def predict_time(
    candidates: Sequence[Candidate], phases: Sequence[Phase], course: Sequence[int]
) -> float:
    """Return the seconds of all phases at the batches of the course.

    Args:
        candidates: By size.
        phases: In order.
        course: The batch of each phase, within the candidates.

    Source: McCandlish et al. 2018, arXiv:1812.06162, for the steps.
    """
    return sum(
        phase.progress_steps * _measure_pace(candidates, phase.noise_scale, size)
        for phase, size in zip(phases, course, strict=True)
    )


def scale_to(advised: Pair, global_batch_size: int, noise_scale: float) -> float | None:
    """Return the rule's rate for another batch than the advised one; None where there is no rule.

    Args:
        advised: The pair to scale from.
        global_batch_size: In samples.
        noise_scale: φ of the phase, in samples.

    Source: the table of `analysis.learning_rate`.
    """
    family = None if advised.optimizer is None else name_family(advised.optimizer)
    if family is None or advised.learning_rate is None:
        return None
    rate = scale_rate(
        family,
        advised.learning_rate,
        base_batch_size=advised.global_batch_size,
        global_batch_size=global_batch_size,
        noise_scale=noise_scale,
    )
    if advised.loss_is_sum and family == "gradient":
        # A gradient that is summed grows with the batch by itself.
        rate *= advised.global_batch_size / global_batch_size
    return rate


def _get_points(noise: NoiseConclusion | None) -> list[tuple[int, Estimate]]:
    """Return step and φ where it is known, in the metric that the advice follows, by step."""
    if noise is None:
        return []
    known = {
        step: scale for step, scale in noise.course if get_working_noise_scale(scale) is not None
    }
    return sorted(known.items(), key=lambda pair: pair[0])


def _average(weights: Sequence[float], values: Sequence[float]) -> float:
    pairs = zip(weights, values, strict=True)
    return sum(weight * value for weight, value in pairs) / sum(weights)


def _measure_pace(candidates: Sequence[Candidate], noise_scale: float, size: int) -> float:
    """Return the seconds for each unit of progress."""
    step_s = interpolate_step_s(candidates, size)
    assert step_s is not None, f"batch {size} is outside of what was measured"
    return (1.0 + noise_scale / size) * step_s


def _is_faster(candidates: Sequence[Candidate], phase: Phase, size: int) -> bool:
    """Return whether twice the batch is feasible, and faster even at the lower end of φ."""
    if 2 * size > candidates[-1].global_batch_size:
        return False
    before, after = (
        _measure_pace(candidates, phase.low_noise_scale, each) for each in (size, 2 * size)
    )
    return after < before


def _count_lead(points: Sequence[tuple[int, Estimate]], batch_size: int) -> float:
    """Return the progress before the first point, taken to be at its φ: it only places the items.

    Adam's metric exists from its first steps on, not from the start.
    """
    step, scale = points[0]
    return step / (1.0 + (get_working_noise_scale(scale) or 0.0) / batch_size)


def _explain(gain: float, *, grows: bool) -> str:
    if not grows:
        return "no batch that grows is faster than a constant one over what was measured"
    if gain < LEAST_GAIN_FRACTION:
        return f"a growing batch saves less than {100 * LEAST_GAIN_FRACTION:.0f} % of the time"
    return "the noise scale grows enough for a growing batch to pay"


def _write_items(
    candidates: Sequence[Candidate],
    phases: Sequence[Phase],
    course: Sequence[int],
    advised: Pair,
    *,
    lead_steps: float,
) -> tuple[ScheduleItem, ...]:
    """Return one item for each change of the batch, counted in the scheduled run's own steps."""
    items: list[ScheduleItem] = []
    steps = lead_steps * (1.0 + phases[0].noise_scale / course[0])
    samples = steps * course[0]
    for index, (phase, size) in enumerate(zip(phases, course, strict=True)):
        if not items or items[-1].global_batch_size != size:
            micro, passes = find_split(candidates, size)
            items.append(
                ScheduleItem(
                    from_step=round(steps) if index else 0,
                    from_samples=round(samples) if index else 0,
                    global_batch_size=size,
                    micro_batch_size=micro,
                    gradient_accumulation_steps=passes,
                    learning_rate=scale_to(advised, size, phase.noise_scale),
                )
            )
        taken = phase.progress_steps * (1.0 + phase.noise_scale / size)
        steps += taken
        samples += taken * size
    return tuple(items)
