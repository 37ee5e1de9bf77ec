"""The seconds of an optimizer step at any micro-batch and accumulation, by one monotone law."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np

from advisor.memory.data import Probe
from advisor.statistics import median
from advisor.throughput.data import ThroughputConclusion
from advisor.throughput.step_law import StepLaw, tabulate


class StepTimes(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the seconds of a step."""

    #: Of whole optimizer steps at each timed size, by the law where there is one.
    step_s: Mapping[int, float]
    #: For all sizes; None joins the timed ones.
    law: StepLaw | None = None
    #: That a step takes beyond forward and backward, whatever the size; and its standard error.
    optimizer_step_s: float = 0.0
    optimizer_step_error_s: float = 0.0

    @property
    def whole_law(self) -> StepLaw:
        """The law, or the table of the timed sizes."""
        return self.law or tabulate(*zip(*sorted(self.step_s.items()), strict=True))


def read_probes(probes: Iterable[Probe]) -> StepTimes:
    """Return the fastest step of each size that ran, in the search for memory or in a session."""
    times = defaultdict[int, list[float]](list)
    for probe in probes:
        times[probe.micro_batch_size] += probe.calm_step_times_s
    return StepTimes(step_s={size: min(each) for size, each in times.items() if each})


def estimate_batch_s(probes: Iterable[Probe], size: int) -> float:
    """Return the seconds in which one process takes a batch from the data; 0 where not known."""
    rates = [each.batch_s / each.micro_batch_size for each in probes if each.batch_s is not None]
    return size * min(rates, default=0.0)


def read_throughput(throughput: ThroughputConclusion | None) -> StepTimes:
    """Return the times of a concluded curve; none without one."""
    if throughput is None:
        return StepTimes(step_s={})
    law, points = throughput.step_law, throughput.points
    step_s = {p.micro_batch_size: p.step_s.point for p in points if p.step_s.point is not None}
    if law is not None:
        step_s = dict(zip(step_s, law.evaluate([*step_s]).tolist(), strict=True))
    return StepTimes(
        step_s=step_s,
        law=law,
        optimizer_step_s=throughput.optimizer_step_s or 0.0,
        optimizer_step_error_s=throughput.optimizer_step_error_s or 0.0,
    )


def estimate_step_s(
    times: StepTimes, batch_size: float, accumulation: int = 1, *, may_extrapolate: bool = True
) -> float | None:
    """Return the seconds of an optimizer step; None where nothing was timed, or beyond what was.

    An accumulated step is its forward and backward passes plus one optimizer step.
    """
    known = times.step_s
    if not known or not (may_extrapolate or min(known) <= batch_size <= max(known)):
        return None
    step_s = float(times.whole_law.evaluate(batch_size))
    saved_s = min(times.optimizer_step_s, step_s, *known.values())  # none is shorter than its end
    return accumulation * step_s - (accumulation - 1) * saved_s


def compare_step_s(
    times: StepTimes, pair: tuple[float, int], other: tuple[float, int]
) -> tuple[float, float] | None:
    """Return log t(pair) − log t(other) and its standard error; None where nothing was timed.

    A pair is micro-batch and accumulation. The error is that of the law's coefficients, by the
    delta method, and of what the law misses the timed sizes by.
    """
    seconds, other_s = estimate_step_s(times, *pair), estimate_step_s(times, *other)
    if seconds is None or other_s is None:
        return None
    if pair == other:
        return 0.0, 0.0
    law = times.whole_law
    # The gradients of log t in the law's coefficients.
    slopes = pair[1] * law.expand(pair[0]) / seconds - other[1] * law.expand(other[0]) / other_s
    optimizer = -(pair[1] - 1) / seconds + (other[1] - 1) / other_s
    variance = float(slopes @ np.asarray(law.covariance) @ slopes)
    variance += (optimizer * times.optimizer_step_error_s) ** 2
    variance += 2.0 * law.misfit_fraction**2 * (pair[0] != other[0])
    return math.log(seconds / other_s), math.sqrt(max(variance, 0.0))


def estimate_compile_s(probes: Sequence[Probe]) -> float:
    """Return by how much a probe's first step, which compiles, outlasts its fastest; else 0."""
    steps_s = [p.step_times_s for p in probes if p.stage == "memory" and len(p.step_times_s) > 1]
    return median([each[0] - min(each) for each in steps_s] or [0.0])
