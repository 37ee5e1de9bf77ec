"""The seconds of an optimizer step: as timed, on a line between sizes, and beyond them."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np

from advisor.memory.data import Probe
from advisor.statistics import median
from advisor.throughput.data import ThroughputConclusion, ThroughputPoint


class StepTimes(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the seconds of a step, by batch size.

    Attributes:
        step_s: Of whole optimizer steps.
        micro_step_s: Of forward and backward alone, where that was timed.
        optimizer_step_s: That a step takes beyond them.
        line: Fixed seconds and those of each sample, for sizes beyond the timed ones; None takes
            larger ones in proportion to the largest, and smaller ones like the smallest.
    """

    step_s: Mapping[int, float]
    micro_step_s: Mapping[int, float] = {}
    optimizer_step_s: float = 0.0
    line: tuple[float, float] | None = None


def read_probes(probes: Iterable[Probe]) -> StepTimes:
    """Return the fastest step of each size that ran, in the search for memory or in a session."""
    times: dict[int, float] = {}
    for probe in probes:
        for step_s in probe.step_times_s:
            size = probe.micro_batch_size
            times[size] = min(times.get(size, step_s), step_s)
    return StepTimes(step_s=times)


def read_throughput(
    throughput: ThroughputConclusion | None, points: Sequence[ThroughputPoint] | None = None
) -> StepTimes:
    """Return the times of a concluded curve, or of some of its points; none without a curve."""
    if throughput is None:
        return StepTimes(step_s={})
    points = throughput.points if points is None else points
    line = None
    if throughput.fixed_s is not None and throughput.per_sample_s is not None:
        line = (throughput.fixed_s, throughput.per_sample_s)
    micro_step_s = {p.micro_batch_size: p.micro_step_s for p in points if p.micro_step_s}
    return StepTimes(
        step_s={p.micro_batch_size: p.step_s.point for p in points if p.step_s.point is not None},
        micro_step_s=micro_step_s,
        optimizer_step_s=(throughput.optimizer_step_s or 0.0) if micro_step_s else 0.0,
        line=line,
    )


def estimate_step_s(
    times: StepTimes, batch_size: float, accumulation: int = 1, *, may_extrapolate: bool = True
) -> float | None:
    """Return the seconds of an optimizer step; None where nothing was timed.

    An accumulated step is its forward and backward passes plus one optimizer step.

    Args:
        times: What is known.
        batch_size: Micro-batch, in samples.
        accumulation: Micro-batches of the step.
        may_extrapolate: Whether a size beyond the timed ones has an answer as well.
    """
    known = times.step_s
    if not known or not (may_extrapolate or _holds(known, batch_size)):
        return None
    step_s = _interpolate(known, batch_size)
    edge = max(known) if batch_size > max(known) else min(known)
    if not _holds(known, batch_size):
        step_s *= _compare(times.line, batch_size, edge)
    if accumulation == 1:
        return step_s
    optimizer_s = min(times.optimizer_step_s, step_s)
    micro_s = step_s - optimizer_s
    if _holds(times.micro_step_s, batch_size):
        micro_s = _interpolate(times.micro_step_s, batch_size)
    return accumulation * micro_s + optimizer_s


def estimate_compile_s(probes: Sequence[Probe]) -> float:
    """Return the seconds that compiling one size takes a worker, 0 where nothing is known.

    A memory probe's first step compiles; what it takes beyond the fastest is put down to that.
    """
    first = [
        probe.step_times_s[0] - min(probe.step_times_s)
        for probe in probes
        if probe.stage == "memory" and len(probe.step_times_s) > 1
    ]
    return median(first) if first else 0.0


def _holds(known: Mapping[int, float], batch_size: float) -> bool:
    return bool(known) and min(known) <= batch_size <= max(known)


def _interpolate(known: Mapping[int, float], batch_size: float) -> float:
    sizes = sorted(known)
    return float(np.interp(batch_size, sizes, [known[size] for size in sizes]))


def _compare(line: tuple[float, float] | None, batch_size: float, edge: int) -> float:
    """Return the time of a size beyond the timed ones over that of the nearest of them."""
    if line is None:
        return max(1.0, batch_size / edge)
    fixed_s, per_sample_s = line
    return (fixed_s + per_sample_s * batch_size) / (fixed_s + per_sample_s * edge)
