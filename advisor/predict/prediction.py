"""What a model would take on cards that are not here, with the interval the method has earned.

    memory of the card = what its driver keeps + usable
    usable             = headroom + context + capacity
    device used        = context + reserved, reserved >= allocated

The traces say what the tensors take, the allocator's simulation what it reserves for them. Two
things are not in the traces: the context, for which the catalogue has a range, and the workspaces
that libraries choose on the card. The second is why every figure has an interval.
"""

import functools
from typing import Any

import msgspec

from advisor.device.catalogue import CONTEXT_BYTES, Gpu, describe_stated_gpu, find_gpu
from advisor.engine.record import Record, Topic
from advisor.errors import UsageError
from advisor.predict.breakdown import break_down, compose_peak
from advisor.predict.changes import add_8bit_state, compare_changes, count_more_flops, write_how_to
from advisor.predict.data import (
    CARDS,
    MOST_SAMPLES,
    TRACED_CHANGES,
    TRACES,
    CardsAsked,
    LimitedBy,
    MemorySavings,
    Prediction,
    WhatIf,
)
from advisor.predict.footprint import Footprint, find_general
from advisor.predict.memory_trace import MemoryTrace
from advisor.predict.replay import AllocatorSettings
from advisor.predict.roofline import bound_throughput, cost_step
from advisor.statistics import Estimate
from advisor.training.data import OptimizerFacts, Precision

#: Share of the prediction by which the truth lies above it, or below it, at most, in nine runs of
#: ten. Source: the 90th percentile of the absolute error over 80 runs of 16 vision models on an
#: A100. Perceptrons (1.3 %) and transformers (4.5 %) have no convolutions, and are far below it.
ERROR_FRACTION = 0.13
_MOST, _LEAST = 1.0 + ERROR_FRACTION, 1.0 - ERROR_FRACTION
#: Of every interval: the share of those runs within it.
CONFIDENCE = 0.9

#: Kept free on a card of the catalogue, as `probe` does on a GPU; of a stated memory nothing is.
GPU_HEADROOM_BYTES = 512 << 20

#: The first architecture that computes in bf16.
_BF16_CAPABILITY = 8


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """All that predictions follow from."""

    traces: tuple[MemoryTrace, ...]
    what_ifs: tuple[WhatIf, ...] = ()
    asked: CardsAsked = CardsAsked()
    precision: Precision = "fp32"
    optimizer: OptimizerFacts | None = None
    #: The smallest size that runs, the largest that is looked for, and what sets that.
    smallest: int = 1
    ceiling: int = MOST_SAMPLES
    ceiling_by: LimitedBy = "cap"
    #: Only multiples of this size are named.
    batch_multiple: int = 1


def read_case(record: Record) -> Case:
    """Return what predictions follow from, as far as the record has it."""
    limits, facts = record.command.limits, record.workload
    dataset_size = None if facts is None else facts.dataset_size
    ceiling = limits.cap(MOST_SAMPLES, dataset_size)
    return Case(
        traces=record.all(TRACES),
        what_ifs=record.all(TRACED_CHANGES),
        asked=record.get(CARDS) or CardsAsked(),
        precision=record.command.precision,
        optimizer=None if facts is None else facts.optimizer,
        smallest=1 if facts is None else facts.min_micro_batch_size,
        ceiling=ceiling,
        ceiling_by="dataset" if ceiling == dataset_size else "cap",
        batch_multiple=limits.batch_multiple,
    )


def list_cards(asked: CardsAsked) -> tuple[Gpu, ...]:
    """Return the cards that are asked for, each once; UsageError for none, or an unknown one."""
    named = [find_gpu(name) for name in asked.gpus]
    stated = [describe_stated_gpu(size) for size in asked.gpu_memory_bytes]
    if not named and not stated:
        raise UsageError(
            "predict needs a GPU to predict for",
            next_step="Give --gpu NAME (--list-gpus prints the names) or --gpu-memory 24GiB.",
        )
    return tuple({gpu.name: gpu for gpu in [*named, *stated]}.values())


@functools.lru_cache(maxsize=1)  # a record is saved several times with the same traces
def predict_cards(case: Case) -> tuple[Prediction, ...]:
    """Return the prediction for each card; none where nothing was traced."""
    if not case.traces:
        return ()
    return tuple(predict_on(gpu, case) for gpu in list_cards(case.asked))


PREDICTIONS = Topic(
    "predictions", tuple[Prediction, ...], lambda found: predict_cards(read_case(found.record))
)


def predict_on(gpu: Gpu, case: Case) -> Prediction:
    """Return the prediction for one card; the case holds at least one trace.

    With allocated A, reserved R, context c (least to most) and error e:

        allocated      A           A(1 − e)             to   A(1 + e)
        reserved       R           A(1 − e)             to   R(1 + e)
        device used    R + c_mid   A(1 − e) + c_least   to   R(1 + e) + c_most

    The lower ends start from A, because under pressure the allocator gives back what it holds
    beyond it. The largest size is the largest whose device used fits usable less headroom; its ends
    are the same for the ends of device used, so the intervals agree with each other.
    """
    settings = AllocatorSettings.of(gpu, expandable_segments=case.asked.expandable_segments)
    footprint, headroom = Footprint(case.traces, settings), case.asked.headroom_bytes
    if headroom is None:
        headroom = 0 if gpu.memory_source == "stated" else GPU_HEADROOM_BYTES
    room, (least, most) = gpu.usable_bytes - headroom, CONTEXT_BYTES
    capacity = room - (least + most) // 2
    spaces = int((room - most) / _MOST), capacity, int((room - least) / _LEAST)
    low, point, high = (_find_largest(footprint, space, case) for space in spaces)
    largest = Estimate(point, min(low, point), max(point, high), CONFIDENCE)
    last = case.ceiling - case.ceiling % case.batch_multiple
    size, capacity = case.asked.micro_batch_size or point, max(0, capacity)
    return Prediction(
        gpu=gpu.name,
        memory_bytes=gpu.memory_bytes,
        memory_source=gpu.memory_source,
        usable_bytes=gpu.usable_bytes,
        headroom_bytes=headroom,
        capacity_bytes=capacity,
        max_micro_batch_size=largest,
        limited_by="memory" if point < last else case.ceiling_by,
        what_would_change=_compare_changes(gpu, case, settings, size, capacity),
        fits=_fits(size, largest) if size else None,
        **(_predict_figures(footprint, gpu, case, size, capacity) if size else {}),
    )


def _predict_figures(
    footprint: Footprint, gpu: Gpu, case: Case, size: int, capacity_bytes: int
) -> dict[str, Any]:
    """Return the fields of a prediction that are for one size."""
    peaks = footprint.predict_peaks(size, capacity_bytes=capacity_bytes)
    allocated, reserved = peaks.allocated_bytes, peaks.reserved_bytes
    least, most = CONTEXT_BYTES
    context = (least + most) // 2
    low, high = round(allocated * _LEAST), round(reserved * _MOST)
    figures = {
        "micro_batch_size": size,
        "allocated_bytes": Estimate(allocated, low, round(allocated * _MOST), CONFIDENCE),
        "reserved_bytes": Estimate(reserved, low, high, CONFIDENCE),
        "device_used_bytes": Estimate(reserved + context, low + least, high + most, CONFIDENCE),
    }
    alone = (trace for trace in case.traces if trace.traced_sizes == (size,))
    trace = find_general(case.traces) or next(alone, None)
    if trace is None:
        return figures
    peak = break_down(trace, size)
    breakdown = compose_peak(
        peak,
        reserved_bytes=reserved,
        workspace_bytes=footprint.settings.sum_workspaces(trace),
        context_bytes=context,
    )
    bound = bound_throughput(cost_step(trace), size, gpu=gpu, precision=case.precision)
    return {**figures, "breakdown": breakdown, "bound": bound, "at_peak": peak}


def _compare_changes(
    gpu: Gpu, case: Case, settings: AllocatorSettings, size: int, capacity_bytes: int
) -> MemorySavings | None:
    """Return what each what-if of the case would change on a card; None without what-ifs.

    The peaks are at the size, or at the smallest that runs where none fits.
    """
    base, size = find_general(case.traces), size or case.smallest
    if base is None or not case.what_ifs:
        return None

    def measure(trace: MemoryTrace) -> tuple[int, int]:
        footprint = Footprint((trace,), settings)
        peaks = footprint.predict_peaks(size, capacity_bytes=capacity_bytes)
        return _find_largest(footprint, capacity_bytes, case), peaks.allocated_bytes

    is_old = gpu.capability is not None and gpu.capability < _BF16_CAPABILITY
    changed = (
        (each.change, measure(each.trace), how_to, count_more_flops(base, each.trace, size))
        for each in add_8bit_state(case.what_ifs, base)
        if not (each.change == "bf16" and is_old)
        if (how_to := write_how_to(each, device_type="cuda", optimizer=case.optimizer)) is not None
    )
    return compare_changes(size, measure(base), changed)


def _find_largest(footprint: Footprint, capacity_bytes: int, case: Case) -> int:
    """Return the largest size that may be named; 0 where it is below the smallest that runs."""
    size = footprint.predict_largest(capacity_bytes=capacity_bytes, at_most=case.ceiling)
    size -= size % case.batch_multiple
    return size if size >= case.smallest else 0


def _fits(size: int, largest: Estimate) -> bool | None:
    if largest.low is not None and size <= largest.low:
        return True
    return False if largest.high is not None and size > largest.high else None


def choose_next_size(case: Case) -> int | None:
    """Return the size to trace next where no trace serves all; None where nothing is missing.

    Twice the first gives the slope; then the size asked for and each card's largest. A real run on
    the CPU is only doubled: the largest size of a GPU may take it hours.
    """
    if find_general(case.traces) is not None:
        return None
    traced = sorted(trace.traced_sizes[0] for trace in case.traces)
    if len(traced) == 1:
        doubled = min(2 * traced[0], case.ceiling)
        return doubled if doubled > traced[0] else None
    if any(trace.method == "measured" for trace in case.traces):
        return None
    wanted = [case.asked.micro_batch_size or 0]
    wanted += [int(one.max_micro_batch_size.point or 0) for one in predict_cards(case)]
    return next((size for size in wanted if size and size not in traced), None)
