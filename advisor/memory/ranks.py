"""What several ranks saw of memory, made one: the rank that takes most decides."""

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from advisor.memory.data import Probe

_PEAKS = (
    "forward_backward_peak_bytes",
    "optimizer_peak_bytes",
    "peak_allocated_bytes",
    "peak_reserved_bytes",
    "peak_device_used_bytes",
    "limit_peak_bytes",
    "alloc_retries",
    "swapped_bytes",
)


def merge_probes(results: Mapping[int, Sequence[Probe]]) -> list[Probe]:
    """Return one probe: out of memory where a rank was, else with the largest of each peak."""
    probes = {rank: each[0] for rank, each in sorted(results.items()) if each}
    failed = {rank: probe for rank, probe in probes.items() if probe.outcome != "fit"}
    if failed:
        rank, probe = min(failed.items(), key=lambda pair: (pair[1].outcome != "oom", pair[0]))
        return [replace(probe, message=f"rank {rank}: {probe.message}")]
    most = {
        name: max(values)
        for name in _PEAKS
        if (values := [v for each in probes.values() if (v := getattr(each, name)) is not None])
    }
    return [replace(next(iter(probes.values())), **most)]
