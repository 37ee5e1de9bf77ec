"""What the probes so far say of the seconds that a step, or a compilation, will take."""

from collections.abc import Iterable, Sequence

from advisor.memory.data import Probe
from advisor.statistics import median


def tabulate_step_s(probes: Iterable[Probe]) -> dict[int, float]:
    """Return the seconds of a step at each size that ran, the fastest seen."""
    times: dict[int, float] = {}
    for probe in probes:
        if probe.step_times_s:
            step_s = min(probe.step_times_s)
            size = probe.micro_batch_size
            times[size] = min(times.get(size, step_s), step_s)
    return times


def estimate_step_s(probes: Iterable[Probe], size: int) -> float | None:
    """Return the seconds of a step at a size: those of the next larger size that ran.

    Beyond the largest they are taken to grow in proportion. None where nothing ran.
    """
    times = tabulate_step_s(probes)
    if not times:
        return None
    nearest = min((known for known in times if known >= size), default=max(times))
    return times[nearest] * max(1.0, size / nearest)


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
