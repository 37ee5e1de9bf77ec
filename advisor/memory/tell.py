"""What the memory search found, in one paragraph."""

from collections.abc import Mapping
from operator import attrgetter

from advisor.engine.record import Conclusions, Record
from advisor.memory.data import PROBES, MemoryConclusion, Outcome, list_sizes
from advisor.memory.law import find_peaks
from advisor.memory.plan import MEMORY
from advisor.predict.data import LimitedBy
from advisor.telling import Chart, Datum, Line, Mark, Row, Status, Told
from advisor.units import NOT_MEASURED, choose_size_unit, count_of, format_bytes, format_count

_ENDS: dict[LimitedBy, str] = {
    "memory": "memory ends the search",
    "kernel": "a kernel takes no larger batch, whatever the memory",
    "dataset": "the dataset has no more samples",
    "script": "the script ends before enough steps of a larger one",
    "cap": "the largest size allowed ends the search",
    "model": "the model runs none of the larger sizes tried",
    "budget": "the run ended before the search did",
}

_FAILURES: dict[Outcome, str] = {
    "oom": "out of memory",
    "kernel": "a kernel takes no such batch",
    "refused": "the model does not run it",
    "error": "ended by an error",
    "timeout": "took too long",
    "spill": "went beyond the device's own memory",
}
#: A limit is drawn where the highest peak is at least this share of it.
_LEAST_SHARE_OF_LIMIT = 0.2


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
    if record.environment is None or record.environment.device.kind != "mps":
        return ""
    ran = [each for each in record.all(PROBES) if (each.stage, each.outcome) == ("memory", "fit")]
    has_peaks = any(probe.peak_bytes is not None for probe in ran)
    return "; peaks not measured: MPS has no peak counter" if ran and not has_peaks else ""


def chart_memory(conclusions: Conclusions, x_marks: tuple[Mark, ...] = ()) -> Chart:
    """Return the peak of every size that was probed, the failures, the law and a near limit."""
    memory, probes = conclusions.of(MEMORY), conclusions.record.all(PROBES)
    peaks, counted = find_peaks(probes), find_peaks(probes, attrgetter("limit_peak_bytes"))
    highest = top = max(peaks.values(), default=0)
    limit = None if memory is None else memory.capacity_bytes
    parts = ["Peaks of training steps, the most that each size was seen to take"]
    if limit is not None and max(counted.values(), default=highest) < _LEAST_SHARE_OF_LIMIT * limit:
        parts.append(f"all are far below the limit of {format_bytes(limit)}")
        counted = {}
    elif limit is not None:
        top = limit
    factor, unit = choose_size_unit(max(highest, top))
    law: dict[int, float] = {}
    if (
        memory is not None
        and memory.fixed_bytes is not None
        and memory.bytes_per_sample is not None
    ):
        law = {size: memory.fixed_bytes + memory.bytes_per_sample * size for size in peaks}
    failures = [
        Line(name, _draw(dict.fromkeys(sorted(sizes), top), factor), "failures")
        for outcome, name in _FAILURES.items()
        if (sizes := list_sizes(probes, outcome)) and top
    ]
    if failures:
        parts.append("a cross is a size that did not run, whatever it would have taken")
    return Chart(
        title="Memory against batch",
        caption=f"{'; '.join(parts)}.",
        x_label="micro-batch, samples",
        y_label=f"peak, {unit}",
        lines=(
            Line("measured peak", _draw(peaks, factor)),
            Line("of it, what the limit counts", _draw(counted, factor)),
            Line("by the fitted law", _draw(law, factor), "predicted"),
            *failures,
        ),
        x_marks=x_marks,
        y_marks=(Mark("limit", limit / factor),) if limit is not None and top == limit else (),
    )


def _draw(sizes: Mapping[int, float], factor: float) -> tuple[Datum, ...]:
    return tuple(Datum(x=size, y=each / factor) for size, each in sizes.items())
