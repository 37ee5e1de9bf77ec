"""The speed that no implementation of the traced step can exceed on a card.

Legend: P peak in operations each second, F operations of a step, W bandwidth in bytes each second,
D bytes that a step must move, B micro-batch size.
"""

from advisor.device.catalogue import Gpu
from advisor.predict.data import ThroughputBound
from advisor.predict.memory_trace import MemoryTrace, PhaseMark, StepCost, TraceBlock
from advisor.throughput.efficiency import REACHABLE_PEAKS
from advisor.training.data import Precision


def bound_throughput(
    trace: MemoryTrace, micro_batch_size: int, *, gpu: Gpu, precision: Precision
) -> ThroughputBound | None:
    """Return the bound in samples each second at this size; None where nothing is known.

    A step takes at least F/P and at least D/W seconds, so it runs at most B / max(F/P, D/W) samples
    each second. It is a bound and not an estimate: it stands for every operation at the data
    sheet's dense peak, at the data sheet's clock.

    Args:
        trace: Of three steps; the last one counts.
        micro_batch_size: Samples of one forward/backward.
        gpu: The card.
        precision: Arithmetic of the step.

    Source: Williams, Waterman and Patterson 2009, Roofline, CACM 52(4):65.
    """
    flops, moved_bytes = (
        count_flops(trace, micro_batch_size),
        count_moved_bytes(trace, micro_batch_size),
    )
    peaks = [gpu.peak_flops[name] for name in REACHABLE_PEAKS[precision] if name in gpu.peak_flops]
    arithmetic = micro_batch_size * max(peaks) / flops if peaks and flops else None
    bandwidth = None
    if gpu.bandwidth_bytes_per_s is not None and moved_bytes:
        bandwidth = micro_batch_size * gpu.bandwidth_bytes_per_s / moved_bytes
    known = [value for value in (arithmetic, bandwidth) if value is not None]
    if not known:
        return None
    return ThroughputBound(
        samples_per_s=min(known),
        limited_by="arithmetic" if min(known) == arithmetic else "bandwidth",
        arithmetic_per_s=arithmetic,
        bandwidth_per_s=bandwidth,
    )


def cost_step(trace: MemoryTrace) -> StepCost:
    """Return what a step must compute and move at the least, affine in the batch size.

    Args:
        trace: One that serves every size.

    Source: derived from the trace.
    """
    fixed_bytes = count_moved_bytes(trace, 0)
    return StepCost(
        flops_fixed=trace.flops_fixed,
        flops_per_sample=trace.flops_per_sample,
        moved_fixed_bytes=fixed_bytes,
        moved_bytes_per_sample=count_moved_bytes(trace, 1) - fixed_bytes,
    )


def count_flops(trace: MemoryTrace, micro_batch_size: int) -> int | None:
    """Return the floating-point operations of the last step; None where they were not counted.

    Source: derived from the trace.
    """
    if trace.flops_fixed is None or trace.flops_per_sample is None:
        return None
    return trace.flops_fixed + trace.flops_per_sample * micro_batch_size


def count_moved_bytes(trace: MemoryTrace, micro_batch_size: int) -> int:
    """Return the bytes that the last step moves at the least.

    Each activation is written once and read once, since it is kept to be read by the backward pass;
    each gradient is written once; each parameter is read once. Temporaries are left out, because
    one that is read at once may never leave the caches. So are repeated reads and the optimizer.

    Source: derived.
    """
    last = max((mark.step for mark in trace.phases), default=0)
    first_event = _first_event(trace.phases, last)
    made = [trace.blocks[event] for event in trace.events[first_event:] if event >= 0]
    written = {"activation": 2, "gradient": 1}
    moved = sum(written.get(block.category, 0) * _size(block, micro_batch_size) for block in made)
    parameters = (block for block in trace.blocks if block.category == "parameter")
    return moved + sum(_size(block, micro_batch_size) for block in parameters)


def _first_event(phases: tuple[PhaseMark, ...], step: int) -> int:
    return min((mark.first_event for mark in phases if mark.step == step), default=0)


def _size(block: TraceBlock, micro_batch_size: int) -> int:
    return block.fixed_bytes + block.bytes_per_sample * micro_batch_size
