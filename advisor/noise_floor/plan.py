"""A model against itself: how much sessions differ, and the smallest change that would show."""

import math
import statistics
from collections.abc import Sequence

from advisor.device.data import Environment, Telemetry
from advisor.loader.plan import compare_rates
from advisor.memory.data import Probe
from advisor.noise_floor.data import SelfComparison
from advisor.statistics import median, student_t_quantile, two_sided_t
from advisor.throughput.blocks import discard_held_blocks
from advisor.throughput.disturbances import name_disturbances
from advisor.throughput.session_groups import measure_session_levels

#: Sessions on each side for which the smallest effect is told.
SIDES = (3, 5, 10, 20)
#: Confidence of the comparison, and how often it is to find an effect that is there.
CONFIDENCE, POWER = 0.95, 0.8


def compare_with_itself(
    probes: Sequence[Probe],
    telemetry: Sequence[Telemetry] = (),
    environment: Environment | None = None,
) -> SelfComparison | None:
    """Return how far sessions of the same training differ; None where none was timed.

    Sessions are taken in turns for the two sides, so that a slow drift falls on both.

    Args:
        probes: One for each session, all at one size.
        telemetry: Counters over the sessions, where there are any.
        environment: Of the run, which knows the card's limits and memory.

    Source: derived.
    """
    valid = discard_held_blocks(probes, telemetry)
    timed = [probe for probe in valid.probes if probe.outcome == "fit" and probe.step_times_s]
    if not timed:
        return None
    speeds = [
        probe.micro_batch_size / median(list(probe.step_times_s))
        for probe in sorted(timed, key=lambda probe: probe.session)
    ]
    logs = [-math.log(speed) for speed in speeds]
    spread = statistics.stdev(logs) if len(logs) > 1 else None
    return SelfComparison(
        micro_batch_size=timed[0].micro_batch_size,
        sessions=len(timed),
        spread_fraction=spread,
        ratio=compare_rates(speeds[1::2], speeds[::2]),
        smallest_effects={}
        if spread is None
        else {count: predict_smallest_effect(spread, count) for count in SIDES},
        disturbances=name_disturbances(
            timed,
            telemetry,
            discarded=valid.discarded,
            session_levels=measure_session_levels(timed),
            environment=environment,
        ),
    )


def predict_smallest_effect(spread_fraction: float, sessions: int) -> float:
    """Return the relative change that a t-test finds in four of five cases.

    Args:
        spread_fraction: Standard deviation of sessions on the log scale.
        sessions: On each side, at least 2.

    Source: derived; power of the two-sample t-test (Student 1908), its noncentral distribution
    approximated by a shifted t.
    """
    degrees = 2 * sessions - 2
    quantiles = two_sided_t(CONFIDENCE, degrees) + student_t_quantile(POWER, degrees)
    return math.expm1(quantiles * spread_fraction * math.sqrt(2.0 / sessions))
