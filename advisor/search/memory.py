"""Which micro-batch size to try next for the largest one that fits: pure, history in, size out.

    grow                          approach                   certify
    1, 2, ... up to half of       a safe share of the        the predicted largest runs,
    the predicted largest         capacity, then steps       half a per cent more does not

Two rules keep the search at 12 probes and 2 out-of-memory errors while the law may be a few per cent
off. Before the first error no step is longer than the probes left could search again from below; after
it the gap is closed from below in even steps, so that only the last one can fail.
"""

from collections.abc import Sequence
from math import ceil, floor, inf
from typing import NamedTuple

import msgspec

from advisor.analysis.memory import (
    RESOLUTION_FRACTION,
    MemoryLaw,
    fit_memory,
    is_gap_closed,
)
from advisor.measurements import Probe

#: Probes of one search; each costs seconds, and the answer is within the resolution long before.
MAX_PROBES = 12
#: Out-of-memory errors of one search: one certifies the answer, one is for a law that was wrong.
MAX_OOMS = 2
#: Step from the predicted largest size to the one that should fail, as a share of the size.
CERTIFICATE_FRACTION = RESOLUTION_FRACTION / 2
#: Share of the capacity that a measured peak may predict without risk: fragmentation and libraries'
#: workspaces, which the peak does not count, took up to 10 % on top.
SAFE_FRACTION = 0.88
#: Share of the predicted largest size to go to while the law may still have a kink ahead.
DOUBT_FRACTION = 0.5
#: Above this share of the predicted largest size the law has been seen where it will be used.
NEAR_FRACTION = 0.4
#: Growth from one size to the next while evidence is thin: from one size, and from two or more.
FIRST_GROWTH, GROWTH = 4, 8
FLOOR_FRACTION = 1 / 3
#: Growth where no capacity is known, so that nothing can be predicted.
BLIND_GROWTH = 4
#: Error of one measured peak: page granularity, allocator rounding.
NOISE_BYTES = 1 << 20


class SearchBounds(msgspec.Struct, frozen=True, kw_only=True):
    """Which sizes may be tried.

    Attributes:
        min_micro_batch_size: The smallest, a multiple of `batch_multiple`.
        max_micro_batch_size: The largest; None without a limit other than memory.
        batch_multiple: Only multiples of this size are tried.
        capacity_bytes: The enforced limit; None where it is unknown.
    """

    min_micro_batch_size: int
    max_micro_batch_size: int | None = None
    batch_multiple: int = 1
    capacity_bytes: int | None = None


class _Evidence(NamedTuple):
    """What the probes say: `ran` fits, `failed` does not, `left` probes may still be run."""

    fits: tuple[Probe, ...]
    ran: int
    failed: int | None
    ooms: int
    left: int


def choose_next_micro_batch_size(history: Sequence[Probe], bounds: SearchBounds) -> int | None:
    """Return the size to probe next, or None where the search is over.

    It is over when the largest allowed size ran, when a size ran and one not more than the
    resolution above did not, when the smallest did not, when a probe ended in an error, or after 12
    probes. After two out-of-memory errors only a size that every law allows is still tried. No size is
    tried at or above one that did not fit: near the limit, fitting is not strictly monotone.

    Args:
        history: Memory probes in the order they ran; those of other stages do not count.
        bounds: Which sizes may be tried.
    """
    probes = [probe for probe in history if probe.stage == "memory"]
    ceiling = _find_ceiling(bounds)
    if not probes:
        return bounds.min_micro_batch_size if bounds.min_micro_batch_size <= ceiling else None
    evidence = _read(probes)
    if evidence is None or evidence.ran >= ceiling:
        return None
    if evidence.failed is not None:
        if is_gap_closed(evidence.ran, evidence.failed, bounds.batch_multiple):
            return None
        ceiling = evidence.failed - bounds.batch_multiple
    size = _choose(evidence, bounds, min(ceiling, _find_ceiling(bounds)))
    if size is None:
        return None
    if size >= ceiling and evidence.failed is None:
        return int(ceiling)
    rounded = floor(size / bounds.batch_multiple) * bounds.batch_multiple
    return int(min(max(rounded, evidence.ran + bounds.batch_multiple), ceiling))


def _find_ceiling(bounds: SearchBounds) -> float:
    """Return the largest multiple allowed."""
    if bounds.max_micro_batch_size is None:
        return inf
    return bounds.max_micro_batch_size // bounds.batch_multiple * bounds.batch_multiple


def _read(probes: Sequence[Probe]) -> _Evidence | None:
    """Return what the probes say, None where they end the search."""
    fits = tuple(probe for probe in probes if probe.outcome == "fit")
    failed = [p.micro_batch_size for p in probes if p.outcome in {"oom", "spill"}]
    if (
        not fits
        or len(fits) + len(failed) < len(probes)
        or len(probes) >= MAX_PROBES
        or len(failed) >= MAX_OOMS
    ):
        return None
    return _Evidence(
        fits=fits,
        ran=max(probe.micro_batch_size for probe in fits),
        failed=min(failed, default=None),
        ooms=len(failed),
        left=MAX_PROBES - len(probes),
    )


def _choose(evidence: _Evidence, bounds: SearchBounds, ceiling: float) -> float | None:
    """Return the size to try before rounding, None where every one left is a risk not worth it."""
    law = fit_memory(evidence.fits)
    capacity = bounds.capacity_bytes
    if capacity is None:
        safe, predicted = 0.0, inf
    else:
        safe = _find_safe_size(evidence, capacity)
        predicted = _predict_largest(law, capacity)
    if evidence.failed is not None:
        return _climb(evidence, bounds, safe, predicted)
    if capacity is None:
        return BLIND_GROWTH * evidence.ran
    if law is None:
        return max(FIRST_GROWTH * evidence.ran, safe)
    if evidence.ran < NEAR_FRACTION * min(predicted, ceiling / DOUBT_FRACTION):
        return max(safe, min(DOUBT_FRACTION * predicted, GROWTH * evidence.ran))
    return _approach(evidence, bounds, safe, predicted)


def _find_safe_size(evidence: _Evidence, capacity_bytes: int) -> float:
    """Return a size that fits whatever piece of the law binds there; may be below the one that ran.

    Pieces hold nothing negative at size zero, so the peak grows at most in proportion to the size.
    Where the law was measured near the end, its own line is the better bound.
    """
    allowed = SAFE_FRACTION * capacity_bytes
    top = max(evidence.fits, key=lambda probe: probe.micro_batch_size)
    steep = fit_memory(evidence.fits, noise_bytes=NOISE_BYTES)
    floor_bytes = 0.0
    if steep is not None:
        floor_bytes = FLOOR_FRACTION * max(0.0, steep.binding_phase(evidence.ran).fixed_bytes)
    peak = _peak_bytes(top) + NOISE_BYTES
    proportional = evidence.ran * (allowed - floor_bytes) / (peak - floor_bytes)
    if steep is None or evidence.ran < NEAR_FRACTION * _predict_largest(steep, capacity_bytes):
        return proportional
    if evidence.failed is not None and steep.predict_bytes(evidence.failed) < allowed:
        return proportional
    return max(proportional, _predict_largest(steep, allowed))


def _find_granule(size: int, fraction: float, bounds: SearchBounds) -> int:
    return max(1, floor(fraction * size / bounds.batch_multiple)) * bounds.batch_multiple


def _peak_bytes(probe: Probe) -> float:
    peaks = (probe.forward_backward_peak_bytes, probe.optimizer_peak_bytes)
    return max(peak for peak in peaks if peak is not None)


def _predict_largest(law: MemoryLaw | None, capacity_bytes: float) -> float:
    largest = None if law is None else law.predict_largest(capacity_bytes)
    return inf if largest is None else largest


def _approach(evidence: _Evidence, bounds: SearchBounds, safe: float, predicted: float) -> float:
    """Return a size between the one that ran and the predicted largest; past that, the certificate.

    A step of as many granules as probes are left can still be searched again from below, one granule
    at a time, if it fails. Where such steps would not reach the end, all are stretched alike.
    """
    granule = _find_granule(evidence.ran, RESOLUTION_FRACTION, bounds)
    certificate = _find_granule(evidence.ran, CERTIFICATE_FRACTION, bounds)
    target = (
        predicted
        if predicted >= evidence.ran + bounds.batch_multiple
        else evidence.ran + certificate
    )
    start, left = evidence.ran, evidence.left
    if safe > start + granule:
        start, left = safe, left - 1
    stretched = (target + certificate - start) / max(1, left * (left + 1) // 2)
    return min(target, start + left * max(granule, stretched))


def _climb(evidence: _Evidence, bounds: SearchBounds, safe: float, predicted: float) -> float:
    """Return the next of even steps from the size that ran up to the one that did not."""
    assert evidence.failed is not None
    granule = _find_granule(evidence.ran, RESOLUTION_FRACTION, bounds)
    if evidence.ran + granule < safe < evidence.failed:
        return safe
    end = min(evidence.failed, max(predicted, evidence.ran) + granule)
    granules = ceil((end - evidence.ran) / granule)
    return evidence.ran + ceil(granules / (evidence.left + 1)) * granule
