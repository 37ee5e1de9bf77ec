"""Every variant of a record concluded as the run itself is, and put beside it."""

from collections.abc import Callable

import msgspec

from advisor.advice.data import Recommendation
from advisor.engine.run_record import RunRecord
from advisor.memory.data import MemoryConclusion
from advisor.throughput.data import ThroughputConclusion
from advisor.variants.data import VariantConclusion, VariantRecord
from advisor.variants.plan import MeasuredVariant, compare_variants

Stages = tuple[MemoryConclusion | None, ThroughputConclusion | None]


def derive_variants(
    record: RunRecord,
    advice: Recommendation | None,
    conclude_stages: Callable[[RunRecord], Stages],
) -> tuple[VariantConclusion, ...]:
    """Return the variants side by side, the run's own first; none where none was asked for.

    Args:
        record: Of the run.
        advice: The advised micro-batch is the size at which speeds are compared.
        conclude_stages: Memory and throughput of a record.
    """
    runs = [
        record if index == 0 else _as_run(record, variant)
        for index, variant in enumerate(record.variants)
    ]
    measured = []
    for variant, run in zip(record.variants, runs, strict=True):
        memory, throughput = conclude_stages(run)
        measured.append(
            MeasuredVariant(
                record=variant,
                probes=run.probes,
                telemetry=run.telemetry,
                memory=memory,
                throughput=throughput,
            )
        )
    return compare_variants(
        measured, micro_batch_size=None if advice is None else advice.micro_batch_size
    )


def _as_run(record: RunRecord, variant: VariantRecord) -> RunRecord:
    """Return the record as if the variant's stages had been the run's own."""
    command = msgspec.structs.replace(
        record.command, precision=variant.precision, compile=variant.compile
    )
    return msgspec.structs.replace(
        record,
        command=command,
        probes=variant.probes,
        telemetry=variant.telemetry,
        predicted_memory=variant.predicted_memory,
        step_cost=variant.step_cost,
    )
