"""Variants of one training side by side: memory, speed over the first one's, and loss.

The variants run one after the other, each in sessions of its own, so that their speeds are not
paired: the interval of a ratio is Welch's over sessions. Their loss runs are paired by seed.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from advisor.advice.plan import ADVICE
from advisor.device.data import Environment
from advisor.engine.record import Conclusions, Record, Topic
from advisor.memory.data import PROBES, Probe
from advisor.memory.plan import MEMORY
from advisor.rate.data import TrialBranch
from advisor.statistics import Estimate, compare_rates, estimate_mean, median
from advisor.throughput.blocks import discard_held_blocks
from advisor.throughput.conclude import THROUGHPUT
from advisor.throughput.data import TELEMETRY, ThroughputPoint
from advisor.training.data import Variant, WorkloadFacts
from advisor.variants.data import VARIANTS, LossAtEnd, VariantConclusion, VariantRecord, copy_stages


class _Measured(NamedTuple):
    """A variant, what follows from its own stages, and the points of its speed to compare by."""

    record: VariantRecord
    own: Conclusions
    at_size: ThroughputPoint | None
    #: The fastest, the smallest of equals.
    best: ThroughputPoint | None


def conclude_variants(conclusions: Conclusions) -> tuple[VariantConclusion, ...]:
    """Return the variants side by side, the run's own first; none where none was asked for."""
    record, advice = conclusions.record, conclusions.of(ADVICE)
    size = None if advice is None else advice.micro_batch_size
    measured = []
    for index, variant in enumerate(record.all(VARIANTS)):
        own = Conclusions(_as_run(record, variant)) if index else conclusions
        throughput = own.of(THROUGHPUT)
        points = throughput.points if throughput else ()
        at_size = next((point for point in points if point.micro_batch_size == size), None)
        best = max(points, key=lambda point: point.samples_per_s.point or 0.0, default=None)
        measured.append(_Measured(variant, own, at_size, best))
    return tuple(_conclude(each, measured[0], size) for each in measured)


def _as_run(record: Record, variant: VariantRecord) -> Record:
    """Return the record as if the variant's stages had been the run's own."""
    command = msgspec.structs.replace(
        record.command, precision=variant.precision, compile=variant.compile
    )
    return msgspec.structs.replace(record, command=command, **copy_stages(variant))


VARIANTS_TOPIC = Topic("variants", tuple[VariantConclusion, ...], conclude_variants)


def find_unavailable(
    variant: Variant, environment: Environment, facts: WorkloadFacts
) -> str | None:
    """Return why the variant would be another one under its name; None where it is what it says.

    What torch cannot run at all is left to fail where it runs, with torch's own words.
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


def _conclude(variant: _Measured, first: _Measured, size: int | None) -> VariantConclusion:
    record, own, at_size, best = variant
    memory, throughput, is_first = own.of(MEMORY), own.of(THROUGHPUT), variant is first

    def compare(point: ThroughputPoint | None, other: ThroughputPoint | None) -> Estimate | None:
        if is_first or point is None or other is None:
            return None
        sides = ((variant, point), (first, other))
        return compare_rates(*(_list_session_rates(v, p.micro_batch_size) for v, p in sides))

    return VariantConclusion(
        precision=record.precision,
        compile=record.compile,
        max_micro_batch_size=None if memory is None else memory.max_micro_batch_size,
        verified=memory is not None and memory.verified,
        saturation_batch_size=None if throughput is None else throughput.saturation.batch_size,
        micro_batch_size=size,
        samples_per_s=None if at_size is None else at_size.samples_per_s,
        speed_ratio=compare(at_size, first.at_size),
        best_micro_batch_size=None if best is None else best.micro_batch_size,
        best_samples_per_s=None if best is None else best.samples_per_s,
        best_speed_ratio=compare(best, first.best),
        machine_speed_ratio=None if is_first else _compare_machine(variant, first),
        graphs=count_graphs(own.record.all(PROBES)) if record.compile and best else None,
        loss=_conclude_loss(record.losses, () if is_first else first.record.losses),
        missing_because=record.missing_because,
        loss_missing_because=record.loss_missing_because,
    )


def _list_session_rates(variant: _Measured, size: int) -> list[float]:
    """Return the samples each second of each session, by its median block."""
    record, sessions = variant.own.record, dict[int, list[float]]()
    for probe in discard_held_blocks(record.all(PROBES), record.all(TELEMETRY)).probes:
        is_timed = probe.stage == "throughput" and probe.outcome == "fit"
        if is_timed and probe.micro_batch_size == size and probe.step_times_s:
            sessions.setdefault(probe.session, []).extend(probe.step_times_s)
    return [size / median(times) for times in sessions.values()]


def _compare_machine(variant: _Measured, first: _Measured) -> float | None:
    """Return how much faster the calibration was, None where tf32 makes it another product."""
    if "tf32" in {variant.record.precision, first.record.precision}:
        return None
    own, other = (
        [seconds for probe in each.own.record.all(PROBES) for seconds in probe.canary_times_s]
        for each in (variant, first)
    )
    return median(other) / median(own) if own and other else None


def count_graphs(probes: Sequence[Probe]) -> int:
    """Return the graphs that torch.compile made in the timed sessions."""
    return sum(probe.recompiles or 0 for probe in probes if probe.stage == "throughput")


def _conclude_loss(
    branches: Sequence[TrialBranch], reference: Sequence[TrialBranch]
) -> LossAtEnd | None:
    if not branches:
        return None
    ends, first = (
        {each.seed: each.end.loss for each in some if not each.diverged}
        for some in (branches, reference)
    )
    differences = [loss - first[seed] for seed, loss in ends.items() if seed in first]
    batch_size = branches[0].global_batch_size
    return LossAtEnd(
        loss=estimate_mean(list(ends.values())),
        difference=estimate_mean(differences) if differences else None,
        seeds=len(branches),
        diverged=sum(branch.diverged for branch in branches),
        steps=branches[0].samples // batch_size,
        batch_size=batch_size,
    )
