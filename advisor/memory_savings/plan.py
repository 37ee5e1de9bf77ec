"""What a change to the code would save under the limit of a run; by traces, not run."""

from collections.abc import Iterable

from advisor.engine.conclusions import Conclusions, Topic
from advisor.memory.plan import MEMORY
from advisor.predict.changes import compare_changes
from advisor.predict.data import (
    PEAK,
    PREDICTED_MEMORY,
    WHAT_IFS,
    MemorySavings,
    PredictedMemory,
    PredictedWhatIf,
)


def compare_pieces(
    memory: PredictedMemory,
    what_ifs: Iterable[PredictedWhatIf],
    *,
    micro_batch_size: int,
    capacity_bytes: int,
    at_most: int | None,
    batch_multiple: int,
) -> MemorySavings:
    """Return what each what-if would change under a limit.

    Args:
        memory: Of the training as it is.
        what_ifs: The same with one change each.
        micro_batch_size: The size that the peaks are for.
        capacity_bytes: The most that may be allocated, corrected by `fit_capacity`.
        at_most: No larger size is looked for; None means no such cap.
        batch_multiple: Only multiples of this size are named.
    """

    def measure(pieces: PredictedMemory) -> tuple[int, int]:
        largest = pieces.predict_largest(capacity_bytes - pieces.unusable_bytes)
        largest = largest if at_most is None else min(largest, at_most)
        return largest - largest % batch_multiple, int(pieces.predict_bytes(micro_batch_size))

    changed = ((one.change, one.memory, one.how_to, one.more_flops_fraction) for one in what_ifs)
    return compare_changes(micro_batch_size, measure, memory, changed)


def fit_capacity(
    memory: PredictedMemory, *, capacity_bytes: int, largest: int, next_size: int
) -> int:
    """Return the capacity nearest to the real one by which the prediction ends where the run did.

    What the trace does not see takes or leaves some of the limit. With the same correction for a
    training with a change, its answer is compared like with like.

    Args:
        memory: Of the training as it is.
        capacity_bytes: The real one.
        largest: The largest size that was seen to fit.
        next_size: The next one that could have fitted.
    """
    least = int(memory.predict_bytes(largest)) + memory.unusable_bytes
    most = int(memory.predict_bytes(next_size)) + memory.unusable_bytes - 1
    return max(least, min(most, capacity_bytes))


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
    caps = [cap for cap in (facts.dataset_size, limits.max_micro_batch_size) if cap is not None]
    fitted_bytes = fit_capacity(
        prediction,
        capacity_bytes=capacity_bytes,
        largest=largest,
        next_size=memory.smallest_failed or largest + limits.batch_multiple,
    )
    return compare_pieces(
        prediction,
        record.all(WHAT_IFS),
        micro_batch_size=peak.micro_batch_size,
        capacity_bytes=fitted_bytes,
        at_most=min(caps, default=None),
        batch_multiple=limits.batch_multiple,
    )


MEMORY_SAVINGS = Topic("what_would_change", MemorySavings, _conclude)
