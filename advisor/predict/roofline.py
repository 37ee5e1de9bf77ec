"""The speed that no implementation of the traced step can exceed on a card."""

from collections.abc import Mapping

from advisor.device.catalogue import Gpu
from advisor.predict.data import StepCost, ThroughputBound
from advisor.predict.memory_trace import MemoryTrace
from advisor.training.data import Precision

#: How often what a step makes is moved at the least; temporaries may never leave the caches.
_MOVES = {"activation": 2, "gradient": 1}


def find_peak(peaks: Mapping[str, float], precision: Precision, *, uses_tf32: bool) -> float | None:
    """Return the highest peak that a precision can reach; None where it is not known."""
    with_tf32 = precision == "tf32" or (precision == "fp32" and uses_tf32)
    reachable = ("fp32", "tf32") if with_tf32 else (precision,)
    return max((peaks[name] for name in reachable if name in peaks), default=None)


def bound_throughput(
    cost: StepCost, micro_batch_size: int, *, gpu: Gpu, precision: Precision
) -> ThroughputBound | None:
    """Return the bound in samples each second at this size; None where nothing is known.

    Every operation is taken to run at the data sheet's dense peak, at its clock.

    Source: Williams, Waterman and Patterson 2009, Roofline, CACM 52(4):65.
    """
    flops = cost.count_flops(micro_batch_size)
    moved_bytes = cost.count_moved_bytes(micro_batch_size)
    peak = find_peak(gpu.peak_flops, precision, uses_tf32=cost.uses_tf32)
    arithmetic = micro_batch_size * peak / flops if peak and flops else None
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
    """Return what the last step must compute and move at the least, at each size of the trace.

    Repeated reads and the optimizer are left out.
    """
    last = max((mark.step for mark in trace.phases), default=0)
    first_event = min((mark.first_event for mark in trace.phases if mark.step == last), default=0)
    made = [trace.blocks[event] for event in trace.events[first_event:] if event >= 0]
    moved = [(_MOVES.get(block.category, 0), block) for block in made]
    moved += [(1, block) for block in trace.blocks if block.category == "parameter"]
    return StepCost(
        flops_fixed=trace.flops_fixed,
        flops_per_sample=trace.flops_per_sample,
        moved_fixed_bytes=sum(times * block.fixed_bytes for times, block in moved),
        moved_bytes_per_sample=sum(times * block.bytes_per_sample for times, block in moved),
        uses_tf32=trace.uses_tf32,
    )
