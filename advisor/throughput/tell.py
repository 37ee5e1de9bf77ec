"""What holds the speed of training, with figures and what to do; and the energy it takes."""

from advisor.statistics import Estimate
from advisor.throughput.data import SpeedLimit, ThroughputConclusion
from advisor.units import format_count, format_interval

_PEAKS = {
    "data sheet": "of the data sheet's peak (MFU)",
    "matrix product": "of what a plain matrix product reached on this machine",
}


def describe_speed_limit(limit: SpeedLimit) -> str | None:
    """Return what binds at the decisive size; None where no figure is known."""
    figures = _describe_figures(limit)
    if limit.kind is None:
        return f"at {figures}" if figures else None
    share = "" if limit.fixed_fraction is None else f" {100 * limit.fixed_fraction:.0f} %"
    text = {
        "host": "the host: it cannot issue work as fast as the device does it; fewer and larger "
        "operations would help, as --compile or CUDA graphs make them",
        "heap": "the C heap, which returns memory to the kernel after a step and takes it again in "
        "the next; MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=1000000000000 in the environment "
        "keeps it (glibc), another allocator such as jemalloc does as well",
        "fixed": f"fixed costs: the fitted law puts{share} of a step down to no sample; fewer and "
        "larger operations would help, as --compile makes them",
        "arithmetic": "arithmetic: only a lower precision or less work per sample makes it faster",
        "bandwidth": "memory bandwidth: fused operations and a lower precision move fewer bytes",
        "neither": "neither arithmetic nor bandwidth is near its peak: small or unfused "
        "operations, a memory layout or a precision that this device is slow at",
    }[limit.kind]
    return f"{text}; at {figures}" if figures else text


def _describe_figures(limit: SpeedLimit) -> str:
    parts = []
    if limit.flops_fraction is not None and limit.peak is not None:
        parts.append(f"{_percent(limit.flops_fraction)} {_PEAKS[limit.peak]}")
    if limit.bandwidth_fraction is not None:
        parts.append(f"at least {_percent(limit.bandwidth_fraction)} of the memory's bandwidth")
    if limit.enqueue_fraction is not None:
        parts.append(f"the host issued work for {_percent(limit.enqueue_fraction)} of a step")
    if limit.kind == "heap" and limit.kernel_time_fraction is not None:
        parts.append(
            f"{_percent(limit.kernel_time_fraction)} of the processors' time went to the kernel, "
            f"for {format_count(round(limit.page_faults_per_step or 0))} page faults a step"
        )
    if not parts:
        return ""
    return f"batch {format_count(limit.micro_batch_size)}: {', '.join(parts)}"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2g} %" if fraction < 0.1 else f"{100 * fraction:.0f} %"


def describe_energy(throughput: ThroughputConclusion) -> str | None:
    """Return the cheapest batch in energy beside the fastest; None without an energy counter."""
    known = {
        point.micro_batch_size: point.energy_per_sample_j
        for point in throughput.points
        if point.energy_per_sample_j is not None and point.energy_per_sample_j.point is not None
    }
    cheapest = throughput.cheapest_micro_batch_size
    if cheapest is None or cheapest not in known:
        return None
    speeds = {
        point.micro_batch_size: point.samples_per_s.point
        for point in throughput.points
        if point.micro_batch_size in known and point.samples_per_s.point is not None
    }
    text = f"batch {format_count(cheapest)} is the cheapest, {_format_joules(known[cheapest])}"
    fastest = max(speeds, key=lambda size: speeds[size], default=cheapest)
    if fastest != cheapest:
        text += f"; the fastest, {format_count(fastest)}, takes {_format_joules(known[fastest])}"
    return text


def _format_joules(energy: Estimate) -> str:
    return f"{format_interval(energy)} J for each sample"
