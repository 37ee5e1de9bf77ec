"""Which size to try next where the peaks were predicted: measure, correct the prediction, verify.

    smallest          calibration            answer            certificate
    what is constant  share of the limit     corrected         one granule more
                      that surely fits       largest runs      does not

What a trace leaves out (workspaces of libraries, the heap's slack, rounding) is added to it:
measured = offset + factor · predicted in each phase, through the largest size that ran.
"""

from collections.abc import Sequence
from math import inf

from advisor.memory.data import Probe
from advisor.memory.search import (
    TOO_BIG,
    Evidence,
    SearchBounds,
    SearchLimits,
    find_longest_step,
)
from advisor.predict.data import PredictedMemory
from advisor.predict.law import MemoryLaw

#: Half a per cent is one sample below a size of 400. An error costs a process that is thrown away
#: anyway, an answer that is too small costs all of training.
GUIDED_LIMITS = SearchLimits(probes=9, ooms=5, resolution_fraction=0.005)
#: Share of what the smallest size leaves of the limit that the calibration probe may take by the
#: prediction: what that leaves out may be a third of it, and the probe still fits.
CALIBRATION_FRACTION = 0.75
#: Below this share of the calibration's size the largest that ran is too small to extrapolate from.
NEAR_FRACTION = 0.6
#: Memory that libraries take once, whatever the model: up to this much, what the smallest probe
#: measures beyond the prediction says nothing about larger ones.
CONSTANT_BYTES = 64 << 20
#: Error of a corrected peak, in bytes: page granularity and the heap's slack.
NOISE_BYTES = 1 << 18
#: Doubt of more granules is worth a probe in between; less may cost an error, but no more probes.
CAREFUL_GRANULES = 2
#: Share of the limit that an allocator may leave unused although the peaks do not show it.
HIDDEN_FRACTION = 0.02
#: Share of it by which a peak may differ from that of a simulation that is taken at its word.
AGREEMENT_FRACTION = 0.01
#: Each step down from a failure is longer than the one before by this factor.
DROP_GROWTH = 3.0
#: A prediction is refuted where the measured peaks grow this much faster, or slower, than it says.
MOST_FACTOR = 10.0
#: Shares of the predicted growth to try after calibrations that did not fit, before it is refuted.
RETRY_FRACTIONS = (1 / 2, 1 / 4)

#: A predicted phase with its measured (size, peak), by size.
_Phase = tuple[MemoryLaw, list[tuple[int, int]]]


def choose_guided_size(
    evidence: Evidence, bounds: SearchBounds, prediction: PredictedMemory
) -> float:
    """Return the size to try, before rounding and the ceiling; the capacity must be known."""
    assert bounds.capacity_bytes is not None
    capacity = bounds.capacity_bytes - prediction.unusable_bytes
    phases = [_correct(*phase, capacity) for phase in _pair(evidence.fits, prediction)]
    calibration = _choose_calibration(evidence, phases, capacity)
    if calibration is not None:
        return calibration
    granule = bounds.find_granule(evidence.ran, GUIDED_LIMITS.resolution_fraction)
    doubt_bytes = max(NOISE_BYTES, HIDDEN_FRACTION * capacity)
    if evidence.largest.limit_peak_bytes is not None:  # in the currency of the limit
        doubt_bytes = NOISE_BYTES
    largest = min(law.predict_largest(capacity) for law in phases)
    doubt = largest - min(law.predict_largest(capacity - doubt_bytes) for law in phases)
    if prediction.largest is not None and _agrees(evidence.largest, prediction, bounds):
        # How blocks fall into their segments no sum of bytes tells.
        largest, doubt = prediction.largest, 0.0
    estimate = largest // bounds.batch_multiple * bounds.batch_multiple
    if evidence.failed is None or estimate < evidence.failed:
        return _rise(evidence, estimate, doubt, granule)
    return _narrow(evidence, doubt, granule)


def is_refuted(probes: Sequence[Probe], prediction: PredictedMemory) -> bool:
    """Return whether no correction of the prediction can explain the memory probes."""
    phases = _pair(probes, prediction)
    if not any(line.bytes_per_sample > 0 for law, _ in phases for line in law.pieces):
        return any(probe.outcome == "fit" for probe in probes)
    law, points = max(phases, key=lambda phase: phase[1][-1][1])
    (smallest, first), (largest, last) = points[0], points[-1]
    if largest == smallest:
        return sum(probe.outcome in TOO_BIG for probe in probes) > len(RETRY_FRACTIONS)
    predicted, measured = law.predict_bytes(largest) - law.predict_bytes(smallest), last - first
    is_too_much = measured > CONSTANT_BYTES + MOST_FACTOR * predicted
    return is_too_much or MOST_FACTOR * (measured + NOISE_BYTES) < predicted


def _choose_calibration(
    evidence: Evidence, phases: Sequence[MemoryLaw], capacity: float
) -> float | None:
    """Return a size that surely fits, or far below one that did not; None near the limit."""
    least = min(probe.micro_batch_size for probe in evidence.fits)
    size = inf
    for law in phases:
        start = law.predict_bytes(least)
        share_bytes = CALIBRATION_FRACTION * (capacity - start)
        if evidence.failed is not None:
            failed_bytes = law.predict_bytes(evidence.failed) - start
            retry = RETRY_FRACTIONS[min(evidence.ooms, len(RETRY_FRACTIONS)) - 1]
            share_bytes = min(share_bytes, failed_bytes * retry)
        size = min(size, law.predict_largest(start + share_bytes))
    return size if evidence.ran < NEAR_FRACTION * size else None


def _agrees(probe: Probe, prediction: PredictedMemory, bounds: SearchBounds) -> bool:
    """Return whether the peak was that of the simulation."""
    peak, simulated = probe.peak_bytes, dict(prediction.simulated).get(probe.micro_batch_size)
    if peak is None or simulated is None or bounds.capacity_bytes is None:
        return False
    return abs(simulated - peak) <= AGREEMENT_FRACTION * bounds.capacity_bytes


def _rise(evidence: Evidence, estimate: float, doubt: float, granule: int) -> float:
    """Return a larger size than any that ran, where no failure contradicts the estimate."""
    ran = evidence.ran
    if estimate < ran + granule:
        # It ran although the corrected prediction says it should not: ever longer steps.
        beyond = sum(probe.micro_batch_size >= estimate for probe in evidence.fits)
        near = 2 if doubt == 0.0 and granule == 1 else 1  # it is off by a sample or two
        size = ran + granule * 2.0 ** max(0, beyond - near)
    else:
        is_careful = doubt > CAREFUL_GRANULES * granule and estimate - doubt >= ran + granule
        size = estimate - doubt if is_careful else estimate
    return size if evidence.failed is None else min(size, evidence.failed - granule)


def _narrow(evidence: Evidence, doubt: float, granule: int) -> float:
    """Return a size between the largest that ran and one that did not, but should have."""
    assert evidence.failed is not None
    ran, failed = evidence.ran, evidence.failed
    # Ever longer steps down from the failure, until one runs; then halves.
    # Where the doubt exceeds a granule, a careful step took it off before the failure.
    drop = max(granule, DROP_GROWTH * doubt) * DROP_GROWTH ** (evidence.ooms - 1)
    size = (ran + failed) / 2 if failed - ran <= 2 * drop else failed - drop
    errors = GUIDED_LIMITS.ooms - evidence.ooms
    if errors > 1:
        return size
    # Before the error that ends the search, no step up is longer than can be searched from below.
    return min(size, ran + find_longest_step(ran, failed, granule, evidence.left, errors))


def _pair(probes: Sequence[Probe], prediction: PredictedMemory) -> list[_Phase]:
    """Return each phase that was predicted and measured, in the currency of the limit if known."""
    pairs: list[_Phase] = []
    for pieces, phase in (
        (prediction.forward_backward, "forward_backward_peak_bytes"),
        (prediction.optimizer, "optimizer_peak_bytes"),
    ):
        points = sorted(
            (probe.micro_batch_size, peak + (probe.peak_bytes or 0) - (probe.step_peak_bytes or 0))
            for probe in probes
            if probe.outcome == "fit" and (peak := getattr(probe, phase)) is not None
        )
        if pieces and points:
            pairs.append((MemoryLaw(pieces), points))
    return pairs


def _correct(law: MemoryLaw, points: Sequence[tuple[int, int]], capacity: float) -> MemoryLaw:
    """Return the phase with the correction through its largest point and a smaller one."""
    size, measured = points[-1]
    predicted = law.predict_bytes(size)
    # One point alone leaves open what grows: up to a constant, all beyond the prediction does.
    factor = 1.0 + max(0.0, measured - predicted - CONSTANT_BYTES) / max(1.0, predicted)
    # Near sizes run the same kernels, but their difference must not drown in the noise.
    least = max(NOISE_BYTES, capacity - measured)
    apart = [point for point in points[:-1] if measured - point[1] >= least]
    earlier_size, earlier = (apart or points[:1])[-1]
    distance = predicted - law.predict_bytes(earlier_size)
    if distance > 0.0:
        factor = max(1 / MOST_FACTOR, min(MOST_FACTOR, (measured - earlier) / distance))
    return MemoryLaw(law.pieces, measured - factor * predicted, factor)
