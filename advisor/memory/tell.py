"""What the memory search found, in one paragraph."""

from advisor.engine.conclusions import Conclusions
from advisor.engine.record import Record
from advisor.memory.data import PROBES, MemoryConclusion
from advisor.memory.law import find_peak_bytes
from advisor.memory.plan import MEMORY
from advisor.predict.data import LimitedBy
from advisor.telling import Row, Status, Told
from advisor.units import NOT_MEASURED, count_of, format_bytes, format_count

_ENDS: dict[LimitedBy, str] = {
    "memory": "memory ends the search",
    "kernel": "a kernel takes no larger batch, whatever the memory",
    "dataset": "the dataset has no more samples",
    "cap": "the largest size allowed ends the search",
    "model": "the model runs none of the larger sizes tried",
    "budget": "the time budget ended the search",
}


def tell_memory(conclusions: Conclusions) -> Told:
    """Return the row of the search; one that was not made says why."""
    memory, record = conclusions.of(MEMORY), conclusions.record
    if memory is None:
        text = f"{NOT_MEASURED}: {record.why_missing}"
    else:
        text = describe_memory(memory) + _explain_peaks(record)
    return Told(rows=(Row("Memory", text),))


def brief_memory(conclusions: Conclusions) -> Status | None:
    """Return the largest micro-batch in a few words."""
    memory = conclusions.of(MEMORY)
    if memory is None:
        return Status("Memory", conclusions.record.why_missing, "skipped")
    if memory.max_micro_batch_size is None:
        return Status("Memory", "no micro-batch was seen to fit", "inconclusive")
    size = f"micro-batch {format_count(memory.max_micro_batch_size)}"
    if not memory.verified:
        return Status("Memory", f"{size} fits; {_ENDS[memory.limited_by]}", "inconclusive")
    return Status("Memory", f"{size} is the largest: {_ENDS[memory.limited_by]}")


def describe_memory(memory: MemoryConclusion) -> str:
    """Return the largest micro-batch, what ends it, and the law behind it."""
    if memory.max_micro_batch_size is None:
        largest = "no micro-batch was seen to fit"
    else:
        verified = "verified" if memory.verified else "not verified as the largest"
        largest = f"largest micro-batch {format_count(memory.max_micro_batch_size)}, {verified}"
    parts = [largest, _ENDS[memory.limited_by]]
    if memory.refused:
        sizes = ", ".join(map(format_count, memory.refused))
        parts.append(f"not run by the model, whatever the memory: {sizes} ({memory.refusal})")
    if memory.smallest_failed is not None:
        did_not = "did not run" if memory.limited_by == "kernel" else "did not fit"
        parts.append(f"{format_count(memory.smallest_failed)} {did_not}")
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


def _explain_peaks(record: Record) -> str:
    """Return why no peak is told, where sizes ran on a device that counts none."""
    environment, probes = record.environment, record.all(PROBES)
    if environment is None or environment.device.kind != "mps":
        return ""
    ran = [probe for probe in probes if (probe.stage, probe.outcome) == ("memory", "fit")]
    if not ran or any(find_peak_bytes(probe) is not None for probe in ran):
        return ""
    return "; peaks not measured: MPS has no peak counter"
