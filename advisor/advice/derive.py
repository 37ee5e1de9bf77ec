"""Every conclusion that a record supports; pure, so that any stored run can be redone."""

import msgspec

from advisor.advice.proposal import choose_schedule, plan_frontier, plan_schedules, propose
from advisor.derived import Derived
from advisor.engine.run_record import RunRecord
from advisor.loader.plan import conclude_loader
from advisor.memory.data import MemoryConclusion
from advisor.memory.law import MemoryLaw, fit_memory
from advisor.memory.plan import (
    choose_bounds,
    choose_method,
    choose_next_micro_batch_size,
    conclude_memory,
)
from advisor.memory_savings.plan import compare_pieces, fit_capacity
from advisor.noise.plan import conclude_noise
from advisor.predict.data import MemorySavings
from advisor.sharpness.plan import conclude_sharpness
from advisor.soak.plan import conclude_soak
from advisor.throughput.conclude import conclude_throughput
from advisor.throughput.data import ThroughputConclusion
from advisor.throughput.efficiency import add_efficiency
from advisor.training.data import WorkloadFacts
from advisor.variants.conclude import derive_variants
from advisor.verify.plan import conclude_verification


def derive(record: RunRecord) -> Derived:
    """Return every conclusion that the record supports so far; a part without data is None."""
    facts = record.workload
    if facts is None:
        return Derived()
    memory, throughput = _derive_stages(record, facts)
    noise = conclude_noise(
        facts,
        record.noise_batches,
        record.noise_log,
        sample_unit=record.command.limits.sample_unit,
    )
    advice = propose(record, memory, throughput, noise)
    schedules = plan_schedules(record, noise, advice)
    return Derived(
        memory=memory,
        throughput=throughput,
        noise=noise,
        loader=conclude_loader(record.loader_timings),
        soak=conclude_soak(record.soaks),
        sharpness=conclude_sharpness(
            facts,
            record.sharpness,
            rate=None if advice is None else advice.learning_rate,
            global_batch_size=None if advice is None else advice.global_batch_size,
            is_asked=record.command.limits.sharpness,
        ),
        recommendation=advice,
        what_would_change=None if memory is None else _compare(record, facts, memory),
        variants=derive_variants(record, advice, lambda run: _derive_stages(run, facts)),
        verification=conclude_verification(record.verification, throughput),
        frontier=plan_frontier(record, noise, advice),
        schedule=choose_schedule(schedules),
        schedules=schedules,
    )


def _derive_stages(
    record: RunRecord, facts: WorkloadFacts
) -> tuple[MemoryConclusion | None, ThroughputConclusion | None]:
    memory = _derive_memory(record, facts)
    return memory, None if memory is None else _derive_throughput(record, memory)


def _compare(
    record: RunRecord, facts: WorkloadFacts, memory: MemoryConclusion
) -> MemorySavings | None:
    """Return what the record's what-ifs would change at the size whose peak it broke down."""
    prediction, peak = record.predicted_memory, record.peak
    largest, capacity_bytes = memory.max_micro_batch_size, memory.capacity_bytes
    if prediction is None or peak is None or largest is None or capacity_bytes is None:
        return None
    limits = record.command.limits
    caps = [cap for cap in (facts.dataset_size, limits.max_micro_batch_size) if cap is not None]
    fitted_bytes = fit_capacity(
        prediction,
        capacity_bytes=capacity_bytes,
        largest=largest,
        next_size=memory.smallest_failed or largest + limits.batch_multiple,
    )
    return compare_pieces(
        prediction,
        record.what_ifs,
        micro_batch_size=peak.micro_batch_size,
        capacity_bytes=fitted_bytes,
        at_most=min(caps, default=None),
        batch_multiple=limits.batch_multiple,
    )


def _derive_memory(record: RunRecord, facts: WorkloadFacts) -> MemoryConclusion | None:
    if not any(probe.stage == "memory" for probe in record.probes):
        return None
    command = record.command
    capacity_bytes = None
    if command.memory_limit_bytes is not None:
        capacity_bytes = command.memory_limit_bytes - command.headroom_bytes
    bounds = choose_bounds(facts, command.limits, capacity_bytes)
    prediction = record.predicted_memory
    return conclude_memory(
        record.probes,
        bounds,
        headroom_bytes=command.headroom_bytes,
        dataset_size=facts.dataset_size,
        complete=choose_next_micro_batch_size(record.probes, bounds, prediction) is None,
        method=choose_method(record.probes, bounds, prediction),
    )


def _derive_throughput(record: RunRecord, memory: MemoryConclusion) -> ThroughputConclusion | None:
    probes = record.probes
    if not any(probe.stage == "throughput" for probe in probes):
        return None
    peaks: dict[int, int] = {}
    for probe in probes:
        phases = (
            probe.forward_backward_peak_bytes,
            probe.optimizer_peak_bytes,
            probe.peak_allocated_bytes,
        )
        known = [phase for phase in phases if phase is not None]
        if probe.outcome == "fit" and known:
            size = probe.micro_batch_size
            peaks[size] = max(peaks.get(size, 0), *known)
    throughput = conclude_throughput(
        probes,
        largest_micro_batch_size=memory.max_micro_batch_size,
        memory_limited=memory.limited_by == "memory",
        peak_bytes=peaks,
        telemetry=record.telemetry,
        environment=record.environment,
    )
    throughput = add_efficiency(
        throughput,
        [probe for probe in probes if probe.stage == "throughput"],
        cost=record.step_cost,
        environment=record.environment,
        precision=record.command.precision,
    )
    return _predict_peaks(throughput, fit_memory(probes))


def _predict_peaks(throughput: ThroughputConclusion, law: MemoryLaw | None) -> ThroughputConclusion:
    """Return the conclusion with the law's memory at the sizes where it was not measured."""
    if law is None:
        return throughput
    points = tuple(
        point
        if point.peak_bytes is not None
        else msgspec.structs.replace(
            point, predicted_peak_bytes=law.predict_bytes(point.micro_batch_size)
        )
        for point in throughput.points
    )
    return msgspec.structs.replace(throughput, points=points)
