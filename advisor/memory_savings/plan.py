"""What a change to the code would save under the limit of a run; by traces, not run."""

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


def compare_pieces(conclusions: Conclusions) -> MemorySavings | None:
    """Return what the changes would bring at the size whose peak the record broke down."""
    record, memory = conclusions.record, conclusions.of(MEMORY)
    prediction, peak, facts = record.get(PREDICTED_MEMORY), record.get(PEAK), record.workload
    if memory is None or prediction is None or peak is None or facts is None:
        return None
    if memory.max_micro_batch_size is None or memory.capacity_bytes is None:
        return None
    limits, size = record.command.limits, peak.micro_batch_size
    caps = (facts.dataset_size, limits.max_micro_batch_size, MOST_SAMPLES)
    at_most, multiple = min(cap for cap in caps if cap is not None), limits.batch_multiple
    capacity_bytes = fit_capacity(
        prediction,
        capacity_bytes=memory.capacity_bytes,
        largest=memory.max_micro_batch_size,
        next_size=memory.smallest_failed or memory.max_micro_batch_size + multiple,
    )

    def measure(pieces: PredictedMemory) -> tuple[int, int]:
        largest = min(pieces.predict_largest(capacity_bytes - pieces.unusable_bytes), at_most)
        return largest - largest % multiple, int(pieces.law.predict_bytes(size))

    changed = (
        (one.change, one.memory, one.how_to, one.more_flops_fraction)
        for one in record.all(WHAT_IFS)
    )
    return compare_changes(size, measure, prediction, changed)


MEMORY_SAVINGS = Topic("what_would_change", MemorySavings, compare_pieces)
