"""A model against itself: how much sessions differ, and the smallest change that would show."""

import math
import statistics
from typing import Any

import msgspec

from advisor.engine.conclusions import Conclusions, Topic
from advisor.memory.data import PROBES
from advisor.noise_floor.data import NoiseFloor
from advisor.statistics import compare_rates, median, student_t_quantile, two_sided_t
from advisor.throughput.blocks import discard_held_blocks
from advisor.throughput.data import TELEMETRY
from advisor.throughput.disturbances import name_disturbances
from advisor.throughput.session_groups import measure_session_levels

#: Sessions on each side for which the smallest effect is told.
SIDES = (3, 5, 10, 20)
#: Confidence of the comparison, and how often it is to find an effect that is there.
CONFIDENCE, POWER = 0.95, 0.8


def conclude_noise_floor(conclusions: Conclusions) -> NoiseFloor | None:
    """Return how far sessions of the same training differ; None where none was timed.

    Sessions are taken in turns for the two sides, so that a slow drift falls on both.
    """
    telemetry = conclusions.record.all(TELEMETRY)
    valid = discard_held_blocks(conclusions.record.all(PROBES), telemetry)
    timed = [probe for probe in valid.probes if probe.outcome == "fit" and probe.step_times_s]
    if not timed:
        return None
    speeds = [
        probe.micro_batch_size / median(list(probe.step_times_s))
        for probe in sorted(timed, key=lambda probe: probe.session)
    ]
    spread = statistics.stdev(map(math.log, speeds)) if len(speeds) > 1 else None
    effects = {} if spread is None else {n: predict_smallest_effect(spread, n) for n in SIDES}
    return NoiseFloor(
        micro_batch_size=timed[0].micro_batch_size,
        sessions=len(timed),
        spread_fraction=spread,
        ratio=compare_rates(speeds[1::2], speeds[::2]),
        smallest_effects=effects,
        disturbances=name_disturbances(
            timed,
            telemetry,
            discarded=valid.discarded,
            session_levels=measure_session_levels(timed),
            environment=conclusions.record.environment,
        ),
    )


def predict_smallest_effect(spread_fraction: float, sessions: int) -> float:
    """Return the relative change that a t-test finds in four of five cases.

    Args:
        spread_fraction: Standard deviation of sessions on the log scale.
        sessions: On each side, at least 2.

    Source: power of the two-sample t-test (Student 1908), its noncentral distribution approximated
    by a shifted t.
    """
    degrees = 2 * sessions - 2
    quantiles = two_sided_t(CONFIDENCE, degrees) + student_t_quantile(POWER, degrees)
    return math.expm1(quantiles * spread_fraction * math.sqrt(2.0 / sessions))


NOISE_FLOOR = Topic("noise_floor", NoiseFloor, conclude_noise_floor)


def _name_topic(name: str, kind: Any) -> Topic[Any]:
    return Topic(name, kind, lambda conclusions: getattr(conclusions.of(NOISE_FLOOR), name, None))


#: The parts of the one conclusion, each under its own name in the document.
PARTS = tuple(_name_topic(field.name, field.type) for field in msgspec.structs.fields(NoiseFloor))
