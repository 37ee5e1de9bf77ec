"""What disturbed the timing: drift, neighbours, clocks, restless blocks; each named with a figure.

Nothing is corrected here, and blocks are discarded for an external cause alone (blocks.py).
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from advisor.device.counters import find_power_cap
from advisor.device.data import Environment, Telemetry
from advisor.memory.data import Probe
from advisor.statistics import median
from advisor.throughput.blocks import measure_held_fraction, select_in_blocks
from advisor.units import render_bytes

#: Change of the canary from which on it is named: smaller than a usual step of a clock.
CANARY_FRACTION = 0.1
#: The same for the clock of a GPU between sessions.
CLOCK_FRACTION = 0.02
#: Share of all processors' time that others may take unnamed.
FOREIGN_CPU_FRACTION = 0.1
#: Memory of others that goes unnamed: what an idle process takes, or a desktop.
FOREIGN_MEMORY_BYTES = 256 * 2**20
#: Times its session's median that a block must take to be named.
OUTLIER_RATIO = 2.0
#: Share of the timed blocks' time under a power cap from which on it is named.
POWER_CAP_FRACTION = 0.05
#: Share of the power limit that counts as being at it: NVML's reading is an average.
AT_POWER_LIMIT_FRACTION = 0.97
#: How much longer a slow group's steps must take, as a share; published cases are 11 to 14 %.
GROUP_GAP_FRACTION = 0.05
#: Fewest sessions of a group: one that is slow on its own is no second speed.
LEAST_GROUP_SESSIONS = 2
#: Scatter between the groups over that within them that chance exceeds in 2 % of cases, from 4
#: sessions to 20 of one normal speed; simulated with 200,000 draws each.
_CHANCE_RATIOS = (
    75.7, 35.0, 20.9, 14.6, 11.5, 9.5, 8.2, 7.3, 6.6, 6.2, 5.7, 5.4, 5.1, 4.9, 4.7, 4.6, 4.4,
)  # fmt: skip
#: Rounds of the median polish: the last ones move no level by as much as 0.1 %.
_POLISH_ROUNDS = 10
_HOLDERS = {"thermal": "heat", "brake": "the power brake"}


class _Seen(NamedTuple):
    probes: Sequence[Probe]
    telemetry: Sequence[Telemetry]
    environment: Environment | None
    discarded: Mapping[str, int]

    def sample(self, column: str) -> list[list[float]]:
        """Return what each session's counter showed during its blocks, where it has one."""
        series = ((each, getattr(each, column)) for each in self.telemetry)
        seen = (select_in_blocks(self.probes, each, values) for each, values in series if values)
        return [values for values in seen if values]

    def measure_held(self, cause: str) -> float:
        """Return the share of the blocks' time that a cause held the clock down."""
        return measure_held_fraction(self.probes, self.telemetry, cause) or 0.0


def name_disturbances(
    probes: Sequence[Probe],
    telemetry: Sequence[Telemetry],
    *,
    discarded: Mapping[str, int],
    environment: Environment | None = None,
) -> tuple[str, ...]:
    """Return what disturbed the sessions that these probes timed, one sentence each."""
    seen = _Seen(probes, telemetry, environment, discarded)
    names = (_name_held, _name_power_limit, _name_machine, _name_others, _name_restless)
    return tuple(text for name in names for text in name(seen))


def _name_held(seen: _Seen) -> Iterator[str]:
    """Yield what blocks were discarded for, or held most of them down, so that all count."""
    for cause, count in seen.discarded.items():
        blocks = "1 timed block was" if count == 1 else f"{count} timed blocks were"
        yield f"{blocks} discarded: {_HOLDERS[cause]} held the clock down"
    for cause, holder in _HOLDERS.items():
        held = seen.measure_held(cause)
        if held > POWER_CAP_FRACTION:
            yield (
                f"{holder} held the clock down for {100 * held:.0f} % of the timed blocks, and so "
                "their speed is what this card keeps up"
            )


def _name_power_limit(seen: _Seen) -> Iterator[str]:
    """Yield in one sentence all that is known of a limit that holds the card down or may do so."""
    counters = () if seen.environment is None else seen.environment.counters
    limit_w = next((each.value for each in counters if each.name == "power_limit"), None)
    held = seen.measure_held("power_cap")
    drawn_w = [power_w for values in seen.sample("power_w") for power_w in values]
    parts = []
    if held > POWER_CAP_FRACTION:
        parts.append(
            f"the power cap held the clock down for {100 * held:.0f} % of the timed blocks"
        )
    if limit_w and drawn_w and median(drawn_w) >= AT_POWER_LIMIT_FRACTION * limit_w:
        power = f"{median(drawn_w):.0f} W, at its power limit of {limit_w:.0f} W"
        parts.append(f"the card drew {power}")
    if (cap := find_power_cap(counters)) is not None:
        parts.append(
            f"a power cap is set: {cap.limit_w:.0f} W, where the card's default is "
            f"{cap.default_w:.0f} W"
        )
    if parts:
        yield "; ".join(parts)


def _name_machine(seen: _Seen) -> Iterator[str]:
    """Yield what its clock and the fixed product showed within and between sessions."""
    clocks = [median(values) for values in seen.sample("sm_clock_mhz")]
    if clocks and max(clocks) - min(clocks) > CLOCK_FRACTION * median(clocks):
        yield (
            f"the clock differed between sessions: {min(clocks):.0f} to {max(clocks):.0f} MHz; "
            "lock it for repeatable figures"
        )
    by_session = defaultdict[int, list[float]](list)
    ran = {
        p.canary_times_s: p for p in seen.probes if len(p.canary_times_s) == 2
    }  # once for a process
    for probe in sorted(ran.values(), key=lambda probe: probe.block_spans_s[:1]):
        by_session[probe.session].extend(probe.canary_times_s)
    drifts = [times[-1] / times[0] - 1.0 for times in by_session.values()]
    drifted = [drift for drift in drifts if abs(drift) > CANARY_FRACTION]
    if drifted:
        worst = max(drifted, key=abs)
        direction, change = ("slower", "more") if worst > 0 else ("faster", "less")
        yield (
            f"the machine grew {direction} within {len(drifted)} of {len(drifts)} sessions: a "
            f"fixed matrix product took {100 * abs(worst):.0f} % {change} time after one than "
            "before it"
        )
    levels = [median(times) for times in by_session.values()]
    if levels and max(levels) > (1.0 + CANARY_FRACTION) * min(levels):
        yield (
            "the machine's speed differed between sessions: a fixed matrix product took up to "
            f"{100 * (max(levels) / min(levels) - 1.0):.0f} % longer in one than in another"
        )


def _name_others(seen: _Seen) -> Iterator[str]:
    """Yield that others took processors, or memory of the device, while sessions were timed.

    Where the driver does not list our own processes, the counter is what was in use before the
    worker started, perhaps left behind by an earlier one: then only what every session found
    counts.
    """
    shares = seen.sample("foreign_cpu_fraction")
    most = max((sum(values) / len(values) for values in shares), default=0.0)
    if most > FOREIGN_CPU_FRACTION:
        yield (
            f"other processes took up to {100 * most:.0f} % of the processors' time during "
            "a session: leave the machine idle meanwhile"
        )
    held = [median(values) for values in seen.sample("foreign_memory_bytes")]
    is_listed = all(
        counter.name != "own_memory" for each in seen.telemetry for counter in each.counters
    )
    most_bytes = (max if is_listed else min)(held, default=0.0)
    if most_bytes <= FOREIGN_MEMORY_BYTES:
        return
    share = ""
    if seen.environment is not None and (own := seen.environment.device.memory_bytes):
        share = f" ({100 * most_bytes / own:.0f} %)"
    when = "during a session" if is_listed else "before each session, and more later is not seen"
    yield (
        f"other processes held {'up to' if is_listed else 'at least'} {render_bytes(most_bytes)}"
        f"{share} of the device's memory {when}: they may compute too, so leave the device to "
        "the probe alone"
    )


def _name_restless(seen: _Seen) -> Iterator[str]:
    """Yield that sessions fall into two groups, which no interval describes well; odd blocks."""
    groups = find_two_groups(measure_session_levels(seen.probes))
    if groups is not None:
        yield (
            f"the sessions fall into two groups {100 * groups.gap_fraction:.0f} % apart "
            f"({groups.fast} fast, {groups.slow} slow): the machine has two speeds"
        )
    is_odd = [
        seconds > OUTLIER_RATIO * median(probe.step_times_s)
        for probe in seen.probes
        for seconds in probe.step_times_s
    ]
    if any(is_odd):
        yield (
            f"{sum(is_odd)} of {len(is_odd)} timed blocks took over twice their session's median; "
            "they count, and the median hardly feels them"
        )
    unsteady = sorted({p.micro_batch_size for p in seen.probes if p.is_steady is False})
    if unsteady:
        sizes = ", ".join(map(str, unsteady))
        yield f"warming up did not settle in some sessions, at batch {sizes}"


def measure_session_levels(probes: Sequence[Probe]) -> tuple[float, ...]:
    """Return how much longer each session's fastest blocks took than usual, on the log scale.

    Source: median polish, Tukey 1977.
    """
    timed = [probe for probe in probes if probe.step_times_s]
    sessions = sorted({probe.session for probe in timed})
    sizes = sorted({probe.micro_batch_size for probe in timed})
    logs = np.full((len(sessions), len(sizes)), np.nan)
    for probe in timed:
        place = sessions.index(probe.session), sizes.index(probe.micro_batch_size)
        logs[place] = np.fmin(logs[place], math.log(min(probe.step_times_s)))
    effects = np.zeros(len(sessions))
    for _ in range(_POLISH_ROUNDS if timed else 0):
        usual = np.nanmedian(logs - effects[:, None], axis=0)
        effects = np.nanmedian(logs - usual, axis=1)
    return tuple((effects - np.median(effects)).tolist()) if timed else ()


class TwoGroups(NamedTuple):
    """Sessions in two groups, and how much longer the slow group's steps take."""

    fast: int
    slow: int
    gap_fraction: float


def find_two_groups(levels: Sequence[float]) -> TwoGroups | None:
    """Return the two groups that the sessions fall into, None where one speed explains them.

    Source: Engelman and Hartigan 1969, for the scatter between the groups over that within them.
    """
    ordered, count = np.sort(np.asarray(levels, np.float64)), len(levels)
    splits = [
        np.split(ordered, [end])
        for end in range(LEAST_GROUP_SESSIONS, count - LEAST_GROUP_SESSIONS + 1)
    ]
    if not splits:
        return None
    scatters = [sum(len(part) * float(part.var()) for part in split) for split in splits]
    (fast, slow), within = splits[int(np.argmin(scatters))], min(scatters)
    gap_fraction = math.expm1(slow.mean() - fast.mean())
    chance = _CHANCE_RATIOS[min(count - 4, len(_CHANCE_RATIOS) - 1)]
    is_chance = count * float(ordered.var()) - within <= chance * within
    if gap_fraction <= GROUP_GAP_FRACTION or is_chance:
        return None
    return TwoGroups(len(fast), len(slow), gap_fraction)
