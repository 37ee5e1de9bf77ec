"""What a change to the code would save under the limit of a run; by traces, not run."""

from collections.abc import Iterable

from advisor.engine.conclusions import Conclusions, Topic
from advisor.memory.plan import MEMORY
from advisor.predict.changes import compare_changes
from advisor.predict.data import (
    MOST_SAMPLES,
    PEAK,
    PREDICTED_MEMORY,
    WHAT_IFS,
    MemorySavings,
    PredictedMemory,
    PredictedWhatIf,
)


def fit_capacity(
    memory: PredictedMemory, *, capacity_bytes: int, largest: int, next_size: int
) -> int:
    """Return the capacity nearest to the real one by which the prediction ends where the run did.

    The run saw `largest` fit; `next_size` is the next one that could have. What the trace does not
    see takes or leaves some of the limit. With the same correction for a training with a change,
    its answer is compared like with like.
    """
    least = int(memory.law.predict_bytes(largest)) + memory.unusable_bytes
    most = int(memory.law.predict_bytes(next_size)) + memory.unusable_bytes - 1
    return max(least, min(most, capacity_bytes))


def compare_pieces(
    memory: PredictedMemory,
    what_ifs: Iterable[PredictedWhatIf],
    *,
    micro_batch_size: int,
    capacity_bytes: int,
    at_most: int,
    batch_multiple: int,
) -> MemorySavings:
    """Return what each what-if would change under a limit, at a size that the peaks are for."""

    def measure(pieces: PredictedMemory) -> tuple[int, int]:
        largest = min(pieces.predict_largest(capacity_bytes - pieces.unusable_bytes), at_most)
        return largest - largest % batch_multiple, int(pieces.law.predict_bytes(micro_batch_size))

    changed = ((one.change, one.memory, one.how_to, one.more_flops_fraction) for one in what_ifs)
    return compare_changes(micro_batch_size, measure, memory, changed)


def _conclude(conclusions: Conclusions) -> MemorySavings | None:
    """Return what the changes would bring at the size whose peak the record broke down."""
    record, memory = conclusions.record, conclusions.of(MEMORY)
    prediction, peak, facts = record.get(PREDICTED_MEMORY), record.get(PEAK), record.workload
    if memory is None or prediction is None or peak is None or facts is None:
        return None
    largest, capacity_bytes = memory.max_micro_batch_size, memory.capacity_bytes
    if largest is None or capacity_bytes is None:
        return None
    limits = record.command.limits
    caps = (facts.dataset_size, limits.max_micro_batch_size, MOST_SAMPLES)
    return compare_pieces(
        prediction,
        record.all(WHAT_IFS),
        micro_batch_size=peak.micro_batch_size,
        capacity_bytes=fit_capacity(
            prediction,
            capacity_bytes=capacity_bytes,
            largest=largest,
            next_size=memory.smallest_failed or largest + limits.batch_multiple,
        ),
        at_most=min(cap for cap in caps if cap is not None),
        batch_multiple=limits.batch_multiple,
    )


MEMORY_SAVINGS = Topic("what_would_change", MemorySavings, _conclude)
