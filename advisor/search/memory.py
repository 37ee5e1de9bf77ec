"""Which micro-batch size to try next for the largest one that fits: pure, history in, size out.

    grow                        approach                        certify
    the smallest, then what     the share of the capacity       the predicted largest runs,
    the law supports            that is safe, then steps        half a per cent more does not

Two rules hold the search to 12 probes and 2 out-of-memory errors although the law may be some per
cent off. Before the first error no step near the limit is longer than what the probes left could
search again from below. After it, sizes that should fit come first, then even steps up to the one
that failed: the second error ends the search.
"""

from collections.abc import Sequence
from math import ceil, floor, inf
from typing import NamedTuple

import msgspec

from advisor.analysis.memory import RESOLUTION_FRACTION, MemoryLaw, fit_memory, is_gap_closed
from advisor.measurements import Probe, WorkloadFacts
from advisor.spec import Limits

#: Probes of one search: each costs a process and three steps, and most searches end with 6 to 10.
MAX_PROBES = 12
#: Out-of-memory errors of one search: one certifies the answer, one is for a law that was wrong.
MAX_OOMS = 2
#: Step from the predicted largest size to the one that should fail, as a share of the size.
CERTIFICATE_FRACTION = RESOLUTION_FRACTION / 2
#: Share of the capacity that a predicted peak may reach without risk: fragmentation and workspaces
#: that the peak does not count take up to 10 % on top, and the law is a little off.
SAFE_FRACTION = 0.89
#: Share of the predicted largest size to go to at once; beyond, the law must have been seen nearer,
#: since a steeper piece may take over.
DOUBT_FRACTION = 0.45
#: Growth from one size to the next while evidence is thin, from one size and from several: real
#: models have kinks at sizes of 3 to 30, and below them a flat law would allow any size.
FIRST_GROWTH, GROWTH = 4, 8
#: Share of the line's value at size zero that any other piece of the peak takes there as well: what
#: stays (parameters, optimizer state) beside gradients and the optimizer's temporaries. Plain SGD
#: is the extreme: the parameters alone, beside two more tensors of their size.
FLOOR_FRACTION = 1 / 3
#: Error of one measured peak, in bytes: page granularity and the allocator's rounding.
NOISE_BYTES = 1 << 20


class SearchBounds(msgspec.Struct, frozen=True, kw_only=True):
    """Which sizes may be tried.

    Attributes:
        min_micro_batch_size: The smallest, a multiple of `batch_multiple`.
        max_micro_batch_size: The largest; None where memory alone limits.
        batch_multiple: Only multiples of this size are tried.
        capacity_bytes: The enforced limit; None where it is unknown.
    """

    min_micro_batch_size: int
    max_micro_batch_size: int | None = None
    batch_multiple: int = 1
    capacity_bytes: int | None = None


def choose_bounds(facts: WorkloadFacts, limits: Limits, capacity_bytes: int | None) -> SearchBounds:
    """Return which sizes may be tried for this workload under these limits."""
    caps = [cap for cap in (facts.dataset_size, limits.max_micro_batch_size) if cap is not None]
    multiple = limits.batch_multiple
    return SearchBounds(
        min_micro_batch_size=ceil(facts.min_micro_batch_size / multiple) * multiple,
        max_micro_batch_size=min(caps, default=None),
        batch_multiple=multiple,
        capacity_bytes=capacity_bytes,
    )


class _Evidence(NamedTuple):
    """What the probes say.

    Attributes:
        fits: The probes that ran.
        largest: The one of them with the largest size.
        failed: The smallest size that did not fit; None if all did.
        left: Probes that may still be run.
        ceiling: The largest size that may be tried next.
    """

    fits: tuple[Probe, ...]
    largest: Probe
    failed: int | None
    left: int
    ceiling: float

    @property
    def ran(self) -> int:
        return self.largest.micro_batch_size


def choose_next_micro_batch_size(history: Sequence[Probe], bounds: SearchBounds) -> int | None:
    """Return the size to probe next, or None where the search is over.

    It is over when the largest allowed size ran; when a size ran and one at most the resolution
    above did not; when the smallest did not fit; after an outcome that is not about memory; after
    two out-of-memory errors; after 12 probes. Sizes at or above one that did not fit are not tried:
    near the limit, fitting is not strictly monotone.

    Args:
        history: Memory probes in the order they ran; those of other stages do not count.
        bounds: Which sizes may be tried.
    """
    probes = [probe for probe in history if probe.stage == "memory"]
    if not probes:
        smallest = bounds.min_micro_batch_size
        return smallest if smallest <= _find_largest_allowed(bounds) else None
    evidence = _read(probes, bounds)
    if evidence is None:
        return None
    size = min(_choose_size(evidence, bounds), evidence.ceiling)
    multiple = bounds.batch_multiple
    return max(floor(size / multiple) * multiple, evidence.ran + multiple)


def _find_largest_allowed(bounds: SearchBounds) -> float:
    """Return the largest multiple within the bounds."""
    if bounds.max_micro_batch_size is None:
        return inf
    return bounds.max_micro_batch_size // bounds.batch_multiple * bounds.batch_multiple


def _read(probes: Sequence[Probe], bounds: SearchBounds) -> _Evidence | None:
    """Return what the probes say, None where they end the search."""
    fits = tuple(probe for probe in probes if probe.outcome == "fit")
    too_big = [p.micro_batch_size for p in probes if p.outcome in {"oom", "spill"}]
    if not fits or len(fits) + len(too_big) < len(probes):
        return None
    if len(probes) >= MAX_PROBES or len(too_big) >= MAX_OOMS:
        return None
    largest = max(fits, key=lambda probe: probe.micro_batch_size)
    ran, failed = largest.micro_batch_size, min(too_big, default=None)
    ceiling = _find_largest_allowed(bounds)
    if failed is not None:
        if is_gap_closed(ran, failed, bounds.batch_multiple):
            return None
        ceiling = min(ceiling, failed - bounds.batch_multiple)
    if ran >= ceiling:
        return None
    return _Evidence(
        fits=fits, largest=largest, failed=failed, left=MAX_PROBES - len(probes), ceiling=ceiling
    )


def _choose_size(evidence: _Evidence, bounds: SearchBounds) -> float:
    """Return the size to try, before rounding and before the ceiling."""
    law = fit_memory(evidence.fits)
    predicted = _predict_largest(law, bounds.capacity_bytes)
    safe = _find_safe_size(evidence, bounds.capacity_bytes)
    if evidence.failed is not None:
        return _climb(evidence, bounds, safe, predicted)
    if law is None or bounds.capacity_bytes is None:
        return max(safe, FIRST_GROWTH * evidence.ran)
    if evidence.ran < DOUBT_FRACTION * predicted:
        return max(safe, min(DOUBT_FRACTION * predicted, GROWTH * evidence.ran))
    return _approach(evidence, bounds, safe, predicted)


def _predict_largest(law: MemoryLaw | None, capacity_bytes: float | None) -> float:
    """Return the largest size that the law allows, infinity where it allows any or says nothing."""
    if law is None or capacity_bytes is None:
        return inf
    largest = law.predict_largest(capacity_bytes)
    return inf if largest is None else largest


def _find_safe_size(evidence: _Evidence, capacity_bytes: int | None) -> float:
    """Return a size that should fit even if the law is off; zero where nothing is known.

    Far from the limit a piece of the peak that was not seen yet may take over. It lies below the
    peak at the size that ran, and at size zero it holds a share of what was seen, so the line
    through these two points is above it. Near the limit the law's own line, raised by the noise,
    says more, unless it allows a size that did not fit.
    """
    peak = _find_peak_bytes(evidence.largest)
    if capacity_bytes is None or peak is None:
        return 0.0
    allowed, ran = SAFE_FRACTION * capacity_bytes, evidence.ran
    law = fit_memory(evidence.fits, noise_bytes=NOISE_BYTES)
    if law is None:
        return ran * allowed / (peak + NOISE_BYTES)
    is_refuted = evidence.failed is not None and law.predict_bytes(evidence.failed) < allowed
    is_near = ran >= DOUBT_FRACTION * _predict_largest(law, capacity_bytes)
    if is_near and not is_refuted:
        return _predict_largest(law, allowed)
    floor_bytes = FLOOR_FRACTION * max(0.0, law.binding_phase(ran).fixed_bytes)
    return ran * (allowed - floor_bytes) / (peak + NOISE_BYTES - floor_bytes)


def _find_peak_bytes(probe: Probe) -> int | None:
    peaks = (probe.forward_backward_peak_bytes, probe.optimizer_peak_bytes)
    return max((peak for peak in peaks if peak is not None), default=None)


def _find_granule(size: int, fraction: float, bounds: SearchBounds) -> int:
    """Return a share of the size in whole multiples, at least one."""
    return max(1, floor(fraction * size / bounds.batch_multiple)) * bounds.batch_multiple


def _approach(evidence: _Evidence, bounds: SearchBounds, safe: float, predicted: float) -> float:
    """Return a size between the one that ran and the predicted largest; past that, the certificate.

    If a step of as many granules as probes are left fails, those probes can still search it from
    below, one granule each. Where such steps would not reach the end, all are stretched alike.
    """
    granule = _find_granule(evidence.ran, RESOLUTION_FRACTION, bounds)
    certificate = _find_granule(evidence.ran, CERTIFICATE_FRACTION, bounds)
    if predicted < evidence.ran + bounds.batch_multiple:
        return evidence.ran + certificate
    start, left = float(evidence.ran), evidence.left
    if safe > start + granule and left > 1:
        # The step starts from the safe size; should it fail, that size costs one probe more.
        start, left = safe, left - 1
    distance = min(predicted, evidence.ceiling) + certificate - start
    step = left * max(granule, distance / (left * (left + 1) / 2))
    return min(predicted, start + step)


def _climb(evidence: _Evidence, bounds: SearchBounds, safe: float, predicted: float) -> float:
    """Return the safe size, or else the next of even steps up to the size that did not fit.

    The steps are as short as the probes left allow, but not below the resolution: the first one
    that fails is the last probe, and what ran before it is the answer.
    """
    assert evidence.failed is not None
    ran = evidence.ran
    granule = _find_granule(ran, RESOLUTION_FRACTION, bounds)
    if ran + granule < safe < evidence.failed:
        return safe
    end = min(evidence.failed, max(predicted, ran) + granule)
    granules = ceil((end - ran) / granule)
    return ran + ceil(granules / (evidence.left + 1)) * granule
