"""The effect of each what-if on one card, or under one limit."""

from collections.abc import Iterator

from advisor.device.catalogue import Gpu
from advisor.predict.breakdown import break_down
from advisor.predict.data import Breakdown, Comparison, Prediction
from advisor.predict.footprint import Footprint, find_general
from advisor.predict.how_to import write_how_to
from advisor.predict.memory_trace import (
    Change,
    MemoryTrace,
    PredictedMemory,
    PredictedWhatIf,
    WhatIf,
)
from advisor.predict.pieces import predict_bytes
from advisor.predict.prediction import choose_settings, find_ceiling, to_multiple
from advisor.predict.record import PredictRecord
from advisor.predict.savings import (
    Effect,
    choose_remedies,
    count_more_flops,
    find_largest,
    with_8bit_state,
)

#: The first architecture that computes in bf16.
_BF16_CAPABILITY = 8


def compare_on(gpu: Gpu, record: PredictRecord, prediction: Prediction) -> Comparison | None:
    """Return what each what-if of the record would change on a card; None without what-ifs.

    The peaks are at the size of the prediction, or at the smallest that runs where none fits.

    Args:
        gpu: The card.
        record: Facts, traces and what-ifs.
        prediction: For the same card, without what-ifs.

    Source: derived.
    """
    base = find_general(record.traces)
    if base is None or not record.what_ifs:
        return None
    facts = record.workload
    smallest = facts.min_micro_batch_size if facts is not None else 1
    size = prediction.micro_batch_size or smallest
    settings, at_most = choose_settings(gpu, record.command), find_ceiling(record)

    def measure(trace: MemoryTrace, how_to: str = "") -> Effect:
        footprint = Footprint((trace,), settings)
        capacity = prediction.capacity_bytes
        largest = footprint.largest(capacity_bytes=capacity, at_most=at_most)
        return Effect(
            max_micro_batch_size=to_multiple(largest, record),
            peak_bytes=footprint.peak(size, capacity_bytes=capacity).allocated_bytes,
            more_flops_fraction=count_more_flops(base, trace, size),
            how_to=how_to,
        )

    as_it_is = measure(base)
    effects = []
    for what_if in add_8bit_state(record.what_ifs, base):
        how_to = write_how_to(
            what_if.change,
            device_type="cuda",
            optimizer=None if facts is None else facts.optimizer,
            blocks=what_if.trace.checkpointed,
            modules=what_if.trace.modules,
        )
        if how_to is not None and _can_run(what_if.change, gpu):
            effects.append((what_if.change, measure(what_if.trace, how_to)))
    return Comparison(
        micro_batch_size=size,
        max_micro_batch_size=as_it_is.max_micro_batch_size,
        peak_bytes=as_it_is.peak_bytes,
        remedies=choose_remedies(as_it_is, effects),
    )


def break_down_on(record: PredictRecord, prediction: Prediction) -> Breakdown | None:
    """Return what holds the memory at the prediction's size; None where no trace holds for it."""
    size = prediction.micro_batch_size
    if size is None:
        return None
    fitting = (trace for trace in record.traces if trace.traced_sizes == (size,))
    trace = find_general(record.traces) or next(fitting, None)
    return None if trace is None else break_down(trace, size)


def compare_pieces(
    memory: PredictedMemory,
    what_ifs: tuple[PredictedWhatIf, ...],
    *,
    micro_batch_size: int,
    capacity_bytes: int,
    at_most: int | None,
    batch_multiple: int,
) -> Comparison:
    """Return what each what-if would change under a limit.

    Args:
        memory: Of the training as it is.
        what_ifs: The same with one change each.
        micro_batch_size: The size that the peaks are for.
        capacity_bytes: The most that may be allocated, corrected by `fit_capacity`.
        at_most: No larger size is looked for; None means no such cap.
        batch_multiple: Only multiples of this size are named.

    Source: derived.
    """

    def measure(pieces: PredictedMemory) -> tuple[int, int]:
        largest = find_largest(pieces, capacity_bytes=capacity_bytes, at_most=at_most)
        largest -= largest % batch_multiple
        return largest, max(predict_bytes(pieces, micro_batch_size))

    largest, peak_bytes = measure(memory)
    as_it_is = Effect(max_micro_batch_size=largest, peak_bytes=peak_bytes)
    effects = []
    for what_if in what_ifs:
        changed_largest, changed_peak_bytes = measure(what_if.memory)
        effect = Effect(
            max_micro_batch_size=changed_largest,
            peak_bytes=changed_peak_bytes,
            more_flops_fraction=what_if.more_flops_fraction,
            how_to=what_if.how_to,
        )
        effects.append((what_if.change, effect))
    return Comparison(
        micro_batch_size=micro_batch_size,
        max_micro_batch_size=largest,
        peak_bytes=peak_bytes,
        remedies=choose_remedies(as_it_is, effects),
    )


def add_8bit_state(what_ifs: tuple[WhatIf, ...], base: MemoryTrace) -> Iterator[WhatIf]:
    """Yield the what-ifs, and the optimizer's state in 8 bits.

    Such optimizers take one tensor at a time, so the trace that does is the one to change, where
    there is one.
    """
    yield from what_ifs
    single = next((one.trace for one in what_ifs if one.change == "foreach_off"), base)
    yield WhatIf(change="state_8bit", trace=with_8bit_state(single))


def _can_run(change: Change, gpu: Gpu) -> bool:
    if change != "bf16" or gpu.compute_capability is None:
        return True
    return int(gpu.compute_capability.partition(".")[0]) >= _BF16_CAPABILITY
