"""A model against itself: how much sessions differ, and the smallest change that would show."""

import math
import statistics
from typing import Any

import msgspec

from advisor.engine.record import Conclusions, Topic
from advisor.gate.reading import make_session
from advisor.gate.verdict import BASELINE_SESSIONS, LOOKS, find_smallest_change
from advisor.memory.data import PROBES
from advisor.noise_floor.data import NoiseFloor
from advisor.statistics import compare_rates, median
from advisor.throughput.blocks import discard_held_blocks
from advisor.throughput.data import TELEMETRY
from advisor.throughput.disturbances import name_disturbances


def conclude_noise_floor(conclusions: Conclusions) -> NoiseFloor | None:
    """Return how far sessions of the same training differ; None where none was timed.

    Sessions are taken in turns for the two sides, so that a slow drift falls on both.
    """
    telemetry = conclusions.record.all(TELEMETRY)
    valid = discard_held_blocks(conclusions.record.all(PROBES), telemetry)
    probes = sorted(valid.probes, key=lambda probe: probe.session)
    sessions = {probe.session: make_session(probe, None) for probe in probes}
    timed = [probe for probe in probes if sessions[probe.session] is not None]
    steps_s = [median(each.step_s) for each in sessions.values() if each is not None]
    if not timed:
        return None
    speeds, spread, effects = [timed[0].micro_batch_size / each for each in steps_s], None, {}
    if len(speeds) > 1:
        spread = statistics.stdev(map(math.log, speeds))
        # The sessions of a new side, for which the change is told.
        effects = {n: find_smallest_change(spread, BASELINE_SESSIONS, n) for n in LOOKS}
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
            environment=conclusions.record.environment,
        ),
    )


NOISE_FLOOR = Topic("noise_floor", NoiseFloor, conclude_noise_floor)


def _name_topic(name: str, kind: Any) -> Topic[Any]:
    return Topic(name, kind, lambda conclusions: getattr(conclusions.of(NOISE_FLOOR), name, None))


#: The parts of the one conclusion, each under its own name in the document.
PARTS = tuple(_name_topic(field.name, field.type) for field in msgspec.structs.fields(NoiseFloor))
