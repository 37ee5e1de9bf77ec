"""Every variant of a record concluded as the run itself is, and put beside it."""

import msgspec

from advisor.advice.plan import ADVICE
from advisor.engine.conclusions import Conclusions, Topic
from advisor.engine.record import Record
from advisor.memory.data import PROBES
from advisor.memory.plan import MEMORY
from advisor.predict.data import PREDICTED_MEMORY, STEP_COST
from advisor.throughput.conclude import THROUGHPUT
from advisor.throughput.data import TELEMETRY
from advisor.variants.data import VARIANTS, VariantConclusion, VariantRecord
from advisor.variants.plan import MeasuredVariant, compare_variants


def _conclude(conclusions: Conclusions) -> tuple[VariantConclusion, ...]:
    """Return the variants side by side, the run's own first; none where none was asked for."""
    record, advice = conclusions.record, conclusions.of(ADVICE)
    measured = []
    for index, variant in enumerate(record.all(VARIANTS)):
        own = conclusions if index == 0 else Conclusions(_as_run(record, variant))
        measured.append(
            MeasuredVariant(
                record=variant,
                probes=own.record.all(PROBES),
                telemetry=own.record.all(TELEMETRY),
                memory=own.of(MEMORY),
                throughput=own.of(THROUGHPUT),
            )
        )
    return compare_variants(
        measured, micro_batch_size=None if advice is None else advice.micro_batch_size
    )


def _as_run(record: Record, variant: VariantRecord) -> Record:
    """Return the record as if the variant's stages had been the run's own."""
    command = msgspec.structs.replace(
        record.command, precision=variant.precision, compile=variant.compile
    )
    return (
        msgspec.structs.replace(record, command=command)
        .replacing(PROBES, variant.probes)
        .replacing(TELEMETRY, variant.telemetry)
        .setting(PREDICTED_MEMORY, variant.predicted_memory)
        .setting(STEP_COST, variant.step_cost)
    )


VARIANTS_TOPIC = Topic("variants", tuple[VariantConclusion, ...], _conclude)
