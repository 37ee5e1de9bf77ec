"""Variants of one training side by side: memory, speed over the first one's, and loss.

The variants run one after the other, each in sessions of its own, so that their speeds are not
paired: the interval of a ratio is Welch's over sessions. Their loss runs are paired by seed.
"""

import math
import statistics
from collections.abc import Sequence

import msgspec

from advisor.device.data import Environment, Telemetry
from advisor.loader.plan import compare_rates
from advisor.memory.data import MemoryConclusion, Probe
from advisor.rate.curves import TAIL_EVALUATIONS
from advisor.rate.data import TrialBranch
from advisor.statistics import Estimate, median, two_sided_t
from advisor.throughput.blocks import discard_held_blocks
from advisor.throughput.data import ThroughputConclusion, ThroughputPoint
from advisor.training.data import Variant, WorkloadFacts
from advisor.variants.data import LossAtEnd, VariantConclusion, VariantRecord

_CONFIDENCE = 0.95


class MeasuredVariant(msgspec.Struct, frozen=True, kw_only=True):
    """A variant with the conclusions of its own stages.

    Attributes:
        record: Its losses, and why something is missing.
        probes: The run's own for the first variant.
        telemetry: Likewise.
        memory: None where no memory probe ran.
        throughput: None where no size was timed.
    """

    record: VariantRecord
    probes: tuple[Probe, ...]
    telemetry: tuple[Telemetry, ...] = ()
    memory: MemoryConclusion | None = None
    throughput: ThroughputConclusion | None = None


def compare_variants(
    variants: Sequence[MeasuredVariant], *, micro_batch_size: int | None
) -> tuple[VariantConclusion, ...]:
    """Return each variant beside the first.

    Args:
        variants: The first is the one that the others are compared with.
        micro_batch_size: The size at which speeds are compared; None where none is advised.

    Source: derived; Welch 1947 for the ratios, Student 1908 for paired differences.
    """
    return tuple(
        _conclude(variant, None if variant is variants[0] else variants[0], micro_batch_size)
        for variant in variants
    )


def find_unavailable(
    variant: Variant, environment: Environment, facts: WorkloadFacts
) -> str | None:
    """Return why the variant would be another one under its name; None where it is what it says.

    What torch cannot run at all is left to fail where it runs, with torch's own words.

    Source: derived.
    """
    device, changes_flags = environment.device, variant.precision == "tf32" and not variant.compile
    if facts.is_step_only and not changes_flags:
        return "make_step is run as it is, whatever the precision and --compile"
    if variant.precision != "tf32":
        return None
    if device.kind != "cuda":
        return f"{device.name} has no tf32; it would run as fp32"
    if environment.peak_flops and "tf32" not in environment.peak_flops:
        return f"the data sheet of {device.name} has no tf32; it would run as fp32"
    return None


def _conclude(
    variant: MeasuredVariant, first: MeasuredVariant | None, size: int | None
) -> VariantConclusion:
    record, memory, throughput = variant.record, variant.memory, variant.throughput
    at_size = _find_point(variant, size)
    best = _find_best(variant)
    first_best = None if first is None else _find_best(first)
    is_timed = throughput is not None and bool(throughput.points)
    return VariantConclusion(
        precision=record.precision,
        compile=record.compile,
        max_micro_batch_size=None if memory is None else memory.max_micro_batch_size,
        verified=memory is not None and memory.verified,
        saturation_batch_size=None if throughput is None else throughput.saturation.batch_size,
        micro_batch_size=size,
        samples_per_s=None if at_size is None else at_size.samples_per_s,
        speed_ratio=_compare_speed(variant, at_size, first, _find_point(first, size)),
        best_micro_batch_size=None if best is None else best.micro_batch_size,
        best_samples_per_s=None if best is None else best.samples_per_s,
        best_speed_ratio=_compare_speed(variant, best, first, first_best),
        machine_speed_ratio=None if first is None else _compare_machine(variant, first),
        graphs=_count_graphs(variant.probes) if record.compile and is_timed else None,
        loss=_conclude_loss(record.losses, None if first is None else first.record.losses),
        missing_because=record.missing_because,
        loss_missing_because=record.loss_missing_because,
    )


def _find_point(variant: MeasuredVariant | None, size: int | None) -> ThroughputPoint | None:
    points = () if variant is None or variant.throughput is None else variant.throughput.points
    return next((point for point in points if point.micro_batch_size == size), None)


def _find_best(variant: MeasuredVariant) -> ThroughputPoint | None:
    """Return the fastest point, the smallest of equals."""
    points = () if variant.throughput is None else variant.throughput.points
    return max(points, key=lambda point: point.samples_per_s.point or 0.0, default=None)


def _compare_speed(
    variant: MeasuredVariant,
    point: ThroughputPoint | None,
    first: MeasuredVariant | None,
    reference: ThroughputPoint | None,
) -> Estimate | None:
    if first is None or point is None or reference is None:
        return None
    return compare_rates(
        _list_session_rates(variant, point.micro_batch_size),
        _list_session_rates(first, reference.micro_batch_size),
    )


def _list_session_rates(variant: MeasuredVariant, size: int) -> list[float]:
    """Return the samples each second of each session, by its median block."""
    sessions: dict[int, list[float]] = {}
    for probe in discard_held_blocks(variant.probes, variant.telemetry).probes:
        is_timed = probe.stage == "throughput" and probe.outcome == "fit"
        if is_timed and probe.micro_batch_size == size and probe.step_times_s:
            sessions.setdefault(probe.session, []).extend(probe.step_times_s)
    return [size / median(times) for times in sessions.values()]


def _compare_machine(variant: MeasuredVariant, first: MeasuredVariant) -> float | None:
    """Return how much faster the canary was, None where tf32 makes it another product."""
    if "tf32" in (variant.record.precision, first.record.precision):
        return None
    times = [
        [seconds for probe in each.probes for seconds in probe.canary_times_s]
        for each in (variant, first)
    ]
    return median(times[1]) / median(times[0]) if all(times) else None


def _count_graphs(probes: Sequence[Probe]) -> int:
    return sum(probe.recompiles or 0 for probe in probes if probe.stage == "throughput")


def _conclude_loss(
    branches: Sequence[TrialBranch], reference: Sequence[TrialBranch] | None
) -> LossAtEnd | None:
    if not branches:
        return None
    ends = _tabulate_ends(branches)
    first = _tabulate_ends(reference or ())
    differences = [loss - first[seed] for seed, loss in ends.items() if seed in first]
    batch_size = branches[0].global_batch_size
    return LossAtEnd(
        loss=_estimate_mean(list(ends.values())),
        difference=_estimate_mean(differences) if differences else None,
        seeds=len(branches),
        diverged=sum(branch.diverged for branch in branches),
        steps=branches[0].samples // batch_size,
        batch_size=batch_size,
    )


def _tabulate_ends(branches: Sequence[TrialBranch]) -> dict[int, float]:
    """Return the mean of the last evaluations by seed, of the runs that did not diverge."""
    return {
        branch.seed: statistics.fmean(each.loss for each in branch.evaluations[-TAIL_EVALUATIONS:])
        for branch in branches
        if branch.evaluations and not branch.diverged
    }


def _estimate_mean(values: Sequence[float]) -> Estimate:
    """Return the mean with Student's interval, which one value alone does not have."""
    if not values:
        return Estimate(None, None, None, _CONFIDENCE)
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Estimate(mean, None, None, _CONFIDENCE)
    standard_error = statistics.stdev(values) / math.sqrt(len(values))
    half_width = two_sided_t(_CONFIDENCE, len(values) - 1) * standard_error
    return Estimate(mean, mean - half_width, mean + half_width, _CONFIDENCE)
