"""Whether another throughput session is worth its time."""

import math

from advisor.statistics import two_sided_t
from advisor.throughput.data import ThroughputConclusion
from advisor.throughput.saturation import SATURATION_TOLERANCE_FRACTION

#: Half-width of the decisive throughput's interval, as a share of it, at which it is known well
#: enough: a tenth of the differences that decide between two batches.
WANTED_HALF_WIDTH_FRACTION = 0.01
#: The same at which sizes can be told apart that differ by the tolerance of the saturation batch.
TELLING_HALF_WIDTH_FRACTION = SATURATION_TOLERANCE_FRACTION / 2.0
#: Sessions that settle where the curve ends, or never will on a machine this restless.
_MOST_UNSETTLED_SESSIONS = 6
#: No interval needs more.
_MOST_SESSIONS = 1000


def is_settled(throughput: ThroughputConclusion) -> bool:
    """Return whether it is known where larger batches stop being faster."""
    saturation = throughput.saturation
    return saturation.status != "inconclusive" or saturation.needed_batch_size is not None


def is_precise(throughput: ThroughputConclusion) -> bool:
    """Return whether the decisive throughput is known as well as wanted."""
    half_width = throughput.half_width_fraction
    return half_width is not None and half_width <= WANTED_HALF_WIDTH_FRACTION


def wants_session(throughput: ThroughputConclusion, *, sessions: int, affordable: int) -> bool:
    """Return whether one more session promises anything.

    It does while it is open where the curve ends, or the sessions differ so much that sizes cannot
    be told apart which differ by the tolerance, up to six sessions; and while the decisive
    throughput is not known to 1 %, if the sessions that the time allows can be expected to get it
    there. Where they cannot, they would take the user's time for nothing.

    Args:
        throughput: What the sessions so far say.
        sessions: Those that ran.
        affordable: Further ones that the time allows.
    """
    if affordable < 1:
        return False
    if sessions < _MOST_UNSETTLED_SESSIONS and not (
        is_settled(throughput) and _can_tell(throughput)
    ):
        return True
    if is_precise(throughput):
        return False
    needed = predict_sessions_needed(throughput.half_width_fraction, sessions)
    return needed is not None and needed <= sessions + affordable


def _can_tell(throughput: ThroughputConclusion) -> bool:
    half_width = throughput.half_width_fraction
    return half_width is not None and half_width <= TELLING_HALF_WIDTH_FRACTION


def predict_sessions_needed(half_width_fraction: float | None, sessions: int) -> int | None:
    """Return how many sessions in all bring the half-width to 1 %; None where that is unknown.

    The sessions' spread is taken to stay as it is: the half-width is t·spread/√n.

    Args:
        half_width_fraction: Over the sessions so far.
        sessions: How many those are.
    """
    if half_width_fraction is None or sessions < 2:
        return None
    spread = half_width_fraction * math.sqrt(sessions) / two_sided_t(0.95, sessions - 1)
    for count in range(sessions, _MOST_SESSIONS):
        if two_sided_t(0.95, count - 1) * spread / math.sqrt(count) <= WANTED_HALF_WIDTH_FRACTION:
            return count
    return None
