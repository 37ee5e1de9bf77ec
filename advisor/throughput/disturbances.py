"""What disturbed the timing: drift, neighbours, clocks, restless blocks; each named with a figure.

Nothing is corrected here. Blocks are discarded for an external cause alone (blocks.py); everything
else stays in the figures, whose intervals are the wider for it.
"""

from collections.abc import Iterator, Mapping, Sequence

from advisor.device.data import Environment, Telemetry
from advisor.memory.data import Probe
from advisor.statistics import median
from advisor.throughput.blocks import select_in_blocks
from advisor.throughput.card_disturbances import name_memory_of_others, name_power_limit
from advisor.throughput.session_groups import find_two_groups

#: Change of the canary within a session, or between sessions, from which on it is named: larger
#: than the tolerance of the answer, smaller than a usual step of a clock.
CANARY_FRACTION = 0.1
#: The same for the clock of a GPU between sessions.
CLOCK_FRACTION = 0.02
#: Share of all processors' time that others may take unnamed.
FOREIGN_CPU_FRACTION = 0.1
#: Times its session's median that a block must take to be named.
OUTLIER_RATIO = 2.0


def name_disturbances(
    probes: Sequence[Probe],
    telemetry: Sequence[Telemetry],
    *,
    discarded: Mapping[str, int],
    session_levels: Sequence[float] = (),
    environment: Environment | None = None,
) -> tuple[str, ...]:
    """Return what disturbed the sessions, one sentence each.

    Args:
        probes: Of throughput, those that count.
        telemetry: One for each session, where there is any.
        discarded: Blocks that do not count, by cause.
        session_levels: How fast each session was as a whole, in log seconds.
        environment: Of the run, which knows the card's limits and memory.

    Source: derived.
    """
    timed = [probe for probe in probes if probe.stage == "throughput" and probe.step_times_s]
    return (
        *_name_discarded(discarded),
        *name_power_limit(timed, telemetry, environment),
        *_name_clock(timed, telemetry),
        *_name_canary(timed),
        *_name_neighbours(timed, telemetry),
        *name_memory_of_others(timed, telemetry, environment),
        *_name_groups(session_levels),
        *_name_outliers(timed),
        *_name_unsteady(timed),
    )


def _name_discarded(discarded: Mapping[str, int]) -> Iterator[str]:
    words = {"thermal": "heat", "brake": "the power brake"}
    for cause, count in discarded.items():
        blocks = "1 timed block was" if count == 1 else f"{count} timed blocks were"
        yield f"{blocks} discarded: {words[cause]} held the clock down"


def _name_clock(probes: Sequence[Probe], telemetry: Sequence[Telemetry]) -> Iterator[str]:
    clocks = [
        median(values)
        for each in telemetry
        if each.sm_clock_mhz and (values := select_in_blocks(probes, each, each.sm_clock_mhz))
    ]
    if len(clocks) >= 2 and max(clocks) - min(clocks) > CLOCK_FRACTION * median(clocks):
        yield (
            f"the clock differed between sessions: {min(clocks):.0f} to {max(clocks):.0f} MHz; "
            "lock it for repeatable figures"
        )


def _name_canary(probes: Sequence[Probe]) -> Iterator[str]:
    """Yield what the fixed product showed within and between sessions."""
    by_session = _order_canaries(probes)
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
    if len(levels) >= 2 and max(levels) > (1.0 + CANARY_FRACTION) * min(levels):
        yield (
            "the machine's speed differed between sessions: a fixed matrix product took up to "
            f"{100 * (max(levels) / min(levels) - 1.0):.0f} % longer in one than in another"
        )


def _order_canaries(probes: Sequence[Probe]) -> dict[int, list[float]]:
    """Return what the canary took in each session, in the order it ran."""
    canaries: dict[int, list[float]] = {}
    ran = {p.canary_times_s: p for p in probes if len(p.canary_times_s) == 2}  # once for a process
    for probe in sorted(ran.values(), key=lambda probe: probe.block_spans_s[:1]):
        canaries.setdefault(probe.session, []).extend(probe.canary_times_s)
    return canaries


def _name_neighbours(probes: Sequence[Probe], telemetry: Sequence[Telemetry]) -> Iterator[str]:
    taken = [
        sum(values) / len(values)
        for each in telemetry
        if each.foreign_cpu_fraction
        and (values := select_in_blocks(probes, each, each.foreign_cpu_fraction))
    ]
    if taken and max(taken) > FOREIGN_CPU_FRACTION:
        yield (
            f"other processes took up to {100 * max(taken):.0f} % of the processors' time during "
            "a session: leave the machine idle meanwhile"
        )


def _name_groups(session_levels: Sequence[float]) -> Iterator[str]:
    """Yield that the sessions fall into two groups, which no interval describes well."""
    groups = find_two_groups(session_levels)
    if groups is not None:
        yield (
            f"the sessions fall into two groups {100 * groups.gap_fraction:.0f} % apart "
            f"({groups.fast} fast, {groups.slow} slow): the machine has two speeds"
        )


def _name_outliers(probes: Sequence[Probe]) -> Iterator[str]:
    outliers = sum(
        seconds > OUTLIER_RATIO * median(list(probe.step_times_s))
        for probe in probes
        for seconds in probe.step_times_s
    )
    blocks = sum(len(probe.step_times_s) for probe in probes)
    if outliers:
        yield (
            f"{outliers} of {blocks} timed blocks took over twice their session's median; they "
            "count, and the median hardly feels them"
        )


def _name_unsteady(probes: Sequence[Probe]) -> Iterator[str]:
    unsteady = sorted({p.micro_batch_size for p in probes if p.is_steady is False})
    if unsteady:
        sizes = ", ".join(map(str, unsteady))
        yield f"warming up did not settle in some sessions, at batch {sizes}"
