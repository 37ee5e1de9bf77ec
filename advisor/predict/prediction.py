"""What a model would take on cards that are not here, with the interval the method has earned.

    memory of the card = what its driver keeps + usable
    usable             = headroom + context + capacity
    device used        = context + reserved, reserved >= allocated

The traces say what the tensors take, the allocator's simulation what it reserves for them. Two
things are not in the traces: the context, for which the catalogue has a range, and the workspaces
that libraries choose on the card. The second is why every figure has an interval.
"""

from collections.abc import Sequence

import msgspec

from advisor.device.catalogue import Gpu
from advisor.memory.data import LimitedBy
from advisor.predict.composition import compose_peak
from advisor.predict.data import Prediction
from advisor.predict.footprint import Footprint
from advisor.predict.memory_trace import MemoryTrace
from advisor.predict.record import PredictCommand, PredictRecord
from advisor.predict.replay import AllocatorSettings
from advisor.predict.roofline import bound_throughput
from advisor.statistics import Estimate

#: Share of the prediction by which the truth lies above it, or below it, at most, in nine runs of
#: ten. Source: the 90th percentile of the absolute error over 80 runs of 16 vision models on an
#: A100. Perceptrons (1.3 %) and transformers (4.5 %) are far below it: it is the convolution
#: library that chooses its workspace on the card.
SHORTFALL_FRACTION = 0.13
EXCESS_FRACTION = 0.13
#: Of every interval: the share of those runs within it.
CONFIDENCE = 0.9

#: cuBLAS handles with a workspace each: that of the forward pass and that of autograd's thread.
_WORKSPACES = 2

#: Kept free on a card of the catalogue, as `probe` does on a GPU: the driver's own growth and a
#: neighbour's small allocations. Where the user states the memory, it is theirs to keep some free.
GPU_HEADROOM_BYTES = 512 << 20

#: Sizes above this are not looked for: kernels index with 32 bits long before.
MOST_SAMPLES = 1 << 20


def derive_predictions(record: PredictRecord, gpus: Sequence[Gpu]) -> tuple[Prediction, ...]:
    """Return the prediction for each card; none where nothing was traced.

    Args:
        record: Facts and traces.
        gpus: The cards, in the order wanted.

    Source: derived; the rule is that of `predict_on`.
    """
    return tuple(predict_on(gpu, record) for gpu in gpus) if record.traces else ()


def predict_on(gpu: Gpu, record: PredictRecord) -> Prediction:
    """Return the prediction for one card; the record holds at least one trace.

    With allocated A, reserved R, context c (least to most), shortfall s and excess e:

        allocated      A           A(1 − e)             to   A(1 + s)
        reserved       R           A(1 − e)             to   R(1 + s)
        device used    R + c_mid   A(1 − e) + c_least   to   R(1 + s) + c_most

    The lower ends start from A, because under pressure the allocator gives back what it holds
    beyond it. The largest size is the largest whose device used fits usable less headroom; its ends
    are the same for the ends of device used, so the intervals agree with each other.

    Source: derived.
    """
    footprint = Footprint(record.traces, choose_settings(gpu, record.command))
    headroom = _headroom(gpu, record.command)
    room, (least, most) = gpu.usable_bytes - headroom, gpu.context_bytes
    capacity = room - (least + most) // 2
    spaces = (
        (room - most) / (1.0 + SHORTFALL_FRACTION),
        capacity,
        (room - least) / (1.0 - EXCESS_FRACTION),
    )
    low, point, high = (
        to_multiple(
            footprint.largest(capacity_bytes=int(space), at_most=find_ceiling(record)), record
        )
        for space in spaces
    )
    prediction = Prediction(
        gpu=gpu.name,
        memory_bytes=gpu.memory_bytes,
        memory_source=gpu.memory_source,
        usable_bytes=gpu.usable_bytes,
        headroom_bytes=headroom,
        capacity_bytes=max(0, capacity),
        max_micro_batch_size=Estimate(point, min(low, point), max(point, high), CONFIDENCE),
        limited_by=_limited_by(point, record),
    )
    size = record.command.micro_batch_size or point
    return _with_figures(prediction, footprint, gpu, record, size) if size else prediction


def _with_figures(
    prediction: Prediction, footprint: Footprint, gpu: Gpu, record: PredictRecord, size: int
) -> Prediction:
    peak = footprint.peak(size, capacity_bytes=prediction.capacity_bytes)
    allocated, reserved = peak.allocated_bytes, peak.reserved_bytes
    least, most = gpu.context_bytes
    low, high = (
        round(allocated * (1.0 - EXCESS_FRACTION)),
        round(reserved * (1.0 + SHORTFALL_FRACTION)),
    )
    trace = footprint.trace_at(size)
    return msgspec.structs.replace(
        prediction,
        micro_batch_size=size,
        fits=_fits(size, prediction.max_micro_batch_size),
        allocated_bytes=Estimate(
            allocated, low, round(allocated * (1.0 + SHORTFALL_FRACTION)), CONFIDENCE
        ),
        reserved_bytes=Estimate(reserved, low, high, CONFIDENCE),
        device_used_bytes=Estimate(
            reserved + (least + most) // 2, low + least, high + most, CONFIDENCE
        ),
        breakdown=()
        if trace is None
        else compose_peak(
            trace,
            size,
            reserved_bytes=reserved,
            workspace_bytes=choose_settings(gpu, record.command).extra_bytes,
            context_bytes=(least + most) // 2,
        ),
        bound=None
        if trace is None
        else bound_throughput(trace, size, gpu=gpu, precision=record.command.precision),
    )


def choose_settings(gpu: Gpu, command: PredictCommand) -> AllocatorSettings:
    """Return the allocator of a card, its libraries' workspaces included."""
    return AllocatorSettings(
        expandable_segments=command.expandable_segments,
        extra_bytes=_WORKSPACES * gpu.workspace_bytes,
    )


def _headroom(gpu: Gpu, command: PredictCommand) -> int:
    if command.headroom_bytes is not None:
        return command.headroom_bytes
    return 0 if gpu.memory_source == "stated" else GPU_HEADROOM_BYTES


def find_ceiling(record: PredictRecord) -> int:
    """Return the largest size that is looked for."""
    dataset_size = record.workload.dataset_size if record.workload is not None else None
    caps = (record.command.max_micro_batch_size, dataset_size, MOST_SAMPLES)
    return min(cap for cap in caps if cap is not None)


def to_multiple(size: int, record: PredictRecord) -> int:
    """Return the largest size that may be named; 0 where it is below the smallest that runs."""
    multiple = record.command.batch_multiple
    smallest = record.workload.min_micro_batch_size if record.workload is not None else 1
    named = size // multiple * multiple
    return named if named >= smallest else 0


def _limited_by(point: int, record: PredictRecord) -> LimitedBy:
    ceiling = find_ceiling(record)
    if point < ceiling // record.command.batch_multiple * record.command.batch_multiple:
        return "memory"
    is_dataset = record.workload is not None and record.workload.dataset_size == ceiling
    return "dataset" if is_dataset else "cap"


def _fits(size: int, largest: Estimate) -> bool | None:
    if largest.low is not None and size <= largest.low:
        return True
    return False if largest.high is not None and size > largest.high else None


def choose_next_size(record: PredictRecord, gpus: Sequence[Gpu]) -> int | None:
    """Return the size to trace next where no trace serves all; None where nothing is missing.

    The second trace is at twice the size of the first, and gives the slope. Further ones are at the
    size asked for and at each card's largest, so that their figures are read off a trace. A real
    run on the CPU is only doubled: the largest size of a GPU may take it hours.

    Args:
        record: The traces so far, at least one.
        gpus: The cards.

    Source: derived.
    """
    traces: tuple[MemoryTrace, ...] = record.traces
    if any(trace.serves_every_size for trace in traces):
        return None
    traced, ceiling = sorted(trace.traced_sizes[0] for trace in traces), find_ceiling(record)
    doubled = min(2 * traced[-1], ceiling)
    if len(traced) == 1:
        return doubled if doubled > traced[0] else None
    if any(trace.method == "measured" for trace in traces):
        return None
    wanted = [record.command.micro_batch_size or 0]
    wanted += [int(predict_on(gpu, record).max_micro_batch_size.point or 0) for gpu in gpus]
    return next((size for size in wanted if size and size not in traced), None)
