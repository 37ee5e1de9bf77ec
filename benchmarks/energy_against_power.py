"""The figures of the tool beside those of a loop and of the power meter: pure arithmetic.

On many cards NVML's power is the mean of the last second, so what it says of the first second of a
block is of the time before. Energy and power are therefore compared on blocks of some seconds.
"""

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from advisor.device.data import Telemetry
from advisor.memory.data import Probe
from advisor.throughput.blocks import measure_rise
from advisor.throughput.efficiency import estimate_energy_per_sample

#: Over which time power is a mean, on cards that do not give it at once.
POWER_MEAN_S = 1.0
#: Fewer samples of the power within a block say little of its mean.
LEAST_POWER_SAMPLES = 3


class EnergyComparison(msgspec.Struct, frozen=True, kw_only=True):
    """Joules for each sample, found in two ways; None with the reason where there is no counter.

    Attributes:
        energy_per_sample_j: By the tool, from the energy counter.
        power_times_time_j: Mean power by the time, over the samples of the same block.
        ratio: The first over the second.
        missing_because: Why the ratio is not known.
    """

    energy_per_sample_j: float | None = None
    power_times_time_j: float | None = None
    ratio: float | None = None
    missing_because: str | None = None


def compare_neighbours(tool: Sequence[float], loop: Sequence[float]) -> tuple[float, ...]:
    """Return the ratio of each figure of the tool to the loop's that was measured next to it.

    Raises:
        ValueError: There are not as many of one as of the other.
    """
    return tuple(mine / theirs for mine, theirs in zip(tool, loop, strict=True))


def compare_energy(probe: Probe, telemetry: Telemetry) -> EnergyComparison:
    """Return the tool's energy of a sample beside mean power × time over the same blocks.

    Args:
        probe: Of one session at one size; its blocks last some seconds.
        telemetry: Over the same session.
    """
    estimate = estimate_energy_per_sample([probe], [telemetry]).get(probe.micro_batch_size)
    spent_j = None if estimate is None else estimate.point
    drawn_j = measure_power_times_time_j(probe, telemetry)
    missing_because = None
    if spent_j is None:
        missing_because = f"energy: {_explain_lack(telemetry, 'energy')}"
    elif drawn_j is None:
        missing_because = f"power: {_explain_lack(telemetry, 'power')}"
    return EnergyComparison(
        energy_per_sample_j=spent_j,
        power_times_time_j=drawn_j,
        ratio=spent_j / drawn_j if spent_j is not None and drawn_j else None,
        missing_because=missing_because,
    )


def measure_power_times_time_j(probe: Probe, telemetry: Telemetry) -> float | None:
    """Return mean power × time over the samples of a block, the median of the blocks.

    Only blocks that the energy counter covers count, and of the power only what was read once its
    mean holds nothing from before the block. None where no block has enough of it.
    """
    per_sample_j = []
    for (began_s, ended_s), steps in zip(probe.block_spans_s, probe.block_steps, strict=True):
        power_w = [
            watts
            for at_s, watts in zip(telemetry.at_s, telemetry.power_w, strict=False)
            if began_s + POWER_MEAN_S <= at_s <= ended_s
        ]
        is_covered = measure_rise(telemetry, telemetry.energy_j, (began_s, ended_s)) is not None
        if is_covered and len(power_w) >= LEAST_POWER_SAMPLES:
            energy_j = statistics.fmean(power_w) * (ended_s - began_s)
            per_sample_j.append(energy_j / (steps * probe.micro_batch_size))
    return statistics.median(per_sample_j) if per_sample_j else None


def _explain_lack(telemetry: Telemetry, name: str) -> str:
    reasons = [each.missing_because for each in telemetry.counters if each.name == name]
    return next(filter(None, reasons), "too few samples of it around the block")
