"""The next size where nothing was predicted: a law for each phase is fitted to the probes.

    grow                        approach                        certify
    the smallest, then what     the share of the capacity       the predicted largest runs,
    the law supports            that is safe, then steps        half a per cent more does not

Two rules hold the search to 12 probes and 2 out-of-memory errors although the law may be some per
cent off. Before the first error no step near the limit is longer than what the probes left could
search again from below. After it, sizes that should fit come first, then even steps up to the one
that failed: the second error ends the search.
"""

from math import ceil, inf

from advisor.memory.evidence import Evidence, SearchBounds, find_granule
from advisor.memory.law import RESOLUTION_FRACTION, MemoryLaw, find_peak_bytes, fit_memory

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


def choose_affine_size(evidence: Evidence, bounds: SearchBounds) -> float:
    """Return the size to try by the law of the probes alone, before rounding and the ceiling."""
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


def _find_safe_size(evidence: Evidence, capacity_bytes: int | None) -> float:
    """Return a size that should fit even if the law is off; zero where nothing is known.

    Far from the limit a piece of the peak that was not seen yet may take over. It lies below the
    peak at the size that ran, and at size zero it holds a share of what was seen, so the line
    through these two points is above it. Near the limit the law's own line, raised by the noise,
    says more, unless it allows a size that did not fit.
    """
    peak = find_peak_bytes(evidence.largest)
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


def _approach(evidence: Evidence, bounds: SearchBounds, safe: float, predicted: float) -> float:
    """Return a size between the one that ran and the predicted largest; past that, the certificate.

    If a step of as many granules as probes are left fails, those probes can still search it from
    below, one granule each. Where such steps would not reach the end, all are stretched alike.
    """
    granule = find_granule(evidence.ran, RESOLUTION_FRACTION, bounds)
    certificate = find_granule(evidence.ran, CERTIFICATE_FRACTION, bounds)
    if predicted < evidence.ran + bounds.batch_multiple:
        return evidence.ran + certificate
    start, left = float(evidence.ran), evidence.left
    if safe > start + granule and left > 1:
        # The step starts from the safe size; should it fail, that size costs one probe more.
        start, left = safe, left - 1
    distance = min(predicted, evidence.ceiling) + certificate - start
    step = left * max(granule, distance / (left * (left + 1) / 2))
    return min(predicted, start + step)


def _climb(evidence: Evidence, bounds: SearchBounds, safe: float, predicted: float) -> float:
    """Return the safe size, or else the next of even steps up to the size that did not fit.

    The steps are as short as the probes left allow, but not below the resolution: the first one
    that fails is the last probe, and what ran before it is the answer.
    """
    assert evidence.failed is not None
    ran = evidence.ran
    granule = find_granule(ran, RESOLUTION_FRACTION, bounds)
    if ran + granule < safe < evidence.failed:
        return safe
    end = min(evidence.failed, max(predicted, ran) + granule)
    granules = ceil((end - ran) / granule)
    return ran + ceil(granules / (evidence.left + 1)) * granule
