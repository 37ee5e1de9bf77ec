"""Which micro-batch size to try next for the largest one that fits: pure, history in, size out.

guided.py     a predicted peak, corrected by what was measured: where the model could be traced
affine.py     a law fitted to the probes alone: without a prediction, or where it is refuted
evidence.py   which sizes may be tried, and what the probes say
"""

from collections.abc import Sequence
from math import floor

from advisor.memory.affine import choose_affine_size
from advisor.memory.data import MemoryMethod, Probe
from advisor.memory.evidence import SearchBounds, SearchLimits, choose_bounds, read_evidence
from advisor.memory.guided import GUIDED_LIMITS, choose_guided_size, is_refuted
from advisor.memory.law import RESOLUTION_FRACTION
from advisor.predict.data import PredictedMemory

__all__ = [
    "MAX_OOMS",
    "MAX_PROBES",
    "SearchBounds",
    "choose_bounds",
    "choose_method",
    "choose_next_micro_batch_size",
]

#: Probes of one search: each costs a process and three steps. Without a prediction most searches
#: end with 6 to 10; with one the limit is lower, see `GUIDED_LIMITS`.
MAX_PROBES = 12
#: Out-of-memory errors of one search without a prediction: one certifies the answer, one is for a
#: law that was wrong.
MAX_OOMS = 2
_AFFINE_LIMITS = SearchLimits(
    probes=MAX_PROBES, ooms=MAX_OOMS, resolution_fraction=RESOLUTION_FRACTION
)
#: A refuted prediction has cost errors of its own.
_REFUTED_LIMITS = _AFFINE_LIMITS._replace(ooms=GUIDED_LIMITS.ooms)


def choose_next_micro_batch_size(
    history: Sequence[Probe], bounds: SearchBounds, prediction: PredictedMemory | None = None
) -> int | None:
    """Return the size to probe next, or None where the search is over.

    It is over when the largest allowed size ran; when a size ran and one at most the resolution
    above did not; when the smallest did not fit; after an outcome that is not about memory; after
    the most out-of-memory errors or the most probes. Sizes at or above one that did not fit are not
    tried: near the limit, fitting is not strictly monotone.

    Args:
        history: Memory probes in the order they ran; those of other stages do not count.
        bounds: Which sizes may be tried.
        prediction: The peaks by the model's trace; None where it could not be traced.
    """
    probes = [probe for probe in history if probe.stage == "memory"]
    if not probes:
        smallest = bounds.min_micro_batch_size
        return smallest if smallest <= bounds.largest_allowed else None
    is_guided = choose_method(probes, bounds, prediction) == "guided"
    limits = _AFFINE_LIMITS if prediction is None else _REFUTED_LIMITS
    evidence = read_evidence(probes, bounds, GUIDED_LIMITS if is_guided else limits)
    if evidence is None:
        return None
    if is_guided and prediction is not None:
        size = choose_guided_size(evidence, bounds, prediction)
    else:
        size = choose_affine_size(evidence, bounds)
    multiple = bounds.batch_multiple
    return max(floor(min(size, evidence.ceiling) / multiple) * multiple, evidence.ran + multiple)


def choose_method(
    history: Sequence[Probe], bounds: SearchBounds, prediction: PredictedMemory | None
) -> MemoryMethod:
    """Return whether the prediction guides the search, or the probes alone do.

    Args:
        history: Memory probes in the order they ran; those of other stages do not count.
        bounds: Which sizes may be tried.
        prediction: The peaks by the model's trace; None where it could not be traced.
    """
    if prediction is None or bounds.capacity_bytes is None:
        return "affine"
    probes = [probe for probe in history if probe.stage == "memory"]
    return "affine" if is_refuted(probes, prediction) else "guided"
