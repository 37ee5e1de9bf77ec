"""What the memory search found, in one paragraph."""

from advisor.engine.run_record import RunRecord
from advisor.memory.data import MemoryConclusion
from advisor.memory.law import find_peak_bytes
from advisor.predict.data import LimitedBy
from advisor.units import count_of, format_bytes, format_count

_ENDS: dict[LimitedBy, str] = {
    "memory": "memory ends the search",
    "dataset": "the dataset has no more samples",
    "cap": "the largest size allowed ends the search",
    "budget": "the time budget ended the search",
}


def describe_memory(memory: MemoryConclusion) -> str:
    """Return the largest micro-batch, what ends it, and the law behind it."""
    if memory.max_micro_batch_size is None:
        largest = "no micro-batch was seen to fit"
    else:
        verified = "verified" if memory.verified else "not verified as the largest"
        largest = f"largest micro-batch {format_count(memory.max_micro_batch_size)}, {verified}"
    parts = [largest, _ENDS[memory.limited_by]]
    if memory.smallest_failed is not None:
        parts.append(f"{format_count(memory.smallest_failed)} did not fit")
    if memory.capacity_bytes is not None:
        headroom = format_bytes(memory.headroom_bytes)
        parts.append(f"limit {format_bytes(memory.capacity_bytes)} after {headroom} headroom")
    if memory.headroom_at_max_bytes is not None:
        parts.append(f"{format_bytes(memory.headroom_at_max_bytes)} of it left at the largest")
    if memory.fixed_bytes is not None and memory.bytes_per_sample is not None:
        slope = format_bytes(memory.bytes_per_sample)
        parts.append(f"about {format_bytes(memory.fixed_bytes)} + {slope} per sample")
    if memory.largest_without_retries not in {None, memory.max_micro_batch_size}:
        size = format_count(memory.largest_without_retries)
        parts.append(f"{size} without the allocator flushing its cache")
    guided = ", guided by a trace" if memory.method == "guided" else ""
    parts.append(f"{count_of(memory.probes, 'probe')}, {memory.ooms} out of memory{guided}")
    return "; ".join(parts)


def explain_peaks(record: RunRecord) -> str:
    """Return why no peak is told, where sizes ran on a device that counts none."""
    environment = record.environment
    if environment is None or environment.device.kind != "mps":
        return ""
    ran = [probe for probe in record.probes if (probe.stage, probe.outcome) == ("memory", "fit")]
    if not ran or any(find_peak_bytes(probe) is not None for probe in ran):
        return ""
    return "; peaks not measured: MPS has no peak counter"
