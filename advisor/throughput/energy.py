"""Joules for each sample, from the energy counter read around the timed blocks."""

import math
from collections.abc import Mapping, Sequence

from advisor.device.data import Telemetry
from advisor.memory.data import Probe
from advisor.statistics import Estimate, estimate_median_over_sessions, exponentiate
from advisor.throughput.blocks import measure_block_energy_j

CONFIDENCE = 0.95


def estimate_energy_per_sample(
    probes: Sequence[Probe], telemetry: Sequence[Telemetry]
) -> dict[int, Estimate]:
    """Return the joules that training takes for each sample, by micro-batch size.

    The replicate is the session. The interval is made on the log scale, for no energy is negative.
    Everything that the counter covers is in the figure: on a GPU the whole board, on a CPU the
    whole package with whatever else runs on it.

    Args:
        probes: Of throughput, those that count.
        telemetry: One for each session; those without an energy counter say nothing.

    Source: derived; energy of the timed blocks over the samples that they trained on.
    """
    counters = {each.session: each for each in telemetry if each.energy_j}
    logs: dict[int, dict[int, list[float]]] = {}
    for probe in probes:
        if probe.stage != "throughput" or probe.session not in counters:
            continue
        for span, steps in zip(probe.block_spans_s, probe.block_steps, strict=True):
            energy_j = measure_block_energy_j(counters[probe.session], span)
            if energy_j is not None and energy_j > 0.0:
                sessions = logs.setdefault(probe.micro_batch_size, {})
                per_sample_j = energy_j / (steps * probe.micro_batch_size)
                sessions.setdefault(probe.session, []).append(math.log(per_sample_j))
    return {size: _estimate(sessions) for size, sessions in sorted(logs.items())}


def find_cheapest_size(energy: Mapping[int, Estimate]) -> int | None:
    """Return the size that takes the least energy for each sample; None where none is known.

    Source: derived.
    """
    points = {size: each.point for size, each in energy.items() if each.point is not None}
    return min(points, key=points.__getitem__, default=None)


def _estimate(sessions: Mapping[int, list[float]]) -> Estimate:
    return exponentiate(estimate_median_over_sessions(list(sessions.values()), CONFIDENCE))
