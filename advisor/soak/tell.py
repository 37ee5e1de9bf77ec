"""What a longer training run showed, in one paragraph."""

from advisor.soak.data import SoakConclusion
from advisor.units import count_of, format_bytes, format_count, format_number


def describe_soak(soak: SoakConclusion) -> str:
    """Return whether the size held, its peaks by phase, and whether memory grows."""
    size = format_count(soak.micro_batch_size)
    ran = f"over {count_of(soak.steps, 'step')}"
    if soak.holds is None:
        head = f"micro-batch {size} ran {ran}, too few to tell whether it holds"
    elif soak.holds:
        head = f"micro-batch {size} holds {ran}"
    elif soak.growth_bytes_per_step is not None:
        head = f"micro-batch {size} ran {ran}, but memory grows"
    else:
        head = f"micro-batch {size} ran out of memory after {count_of(soak.steps, 'step')}"
    parts = [head, *_describe_peaks(soak), *_describe_growth(soak)]
    earlier = [each for each in soak.failed if each != soak.micro_batch_size]
    if earlier:
        sizes = ", ".join(format_count(each) for each in earlier)
        parts.append(f"out of memory before: {sizes}")
    if soak.message is not None:
        parts.append(soak.message)
    return "; ".join(parts)


def _describe_peaks(soak: SoakConclusion) -> list[str]:
    peaks = (
        ("training", soak.training_peak_bytes),
        ("evaluation", soak.evaluation_peak_bytes),
        ("with a copy of the state", soak.reserve_peak_bytes),
    )
    known = [f"{name} {format_bytes(peak)}" for name, peak in peaks if peak is not None]
    return [f"peaks: {', '.join(known)}"] if known else []


def _describe_growth(soak: SoakConclusion) -> list[str]:
    growth = soak.growth_bytes_per_step
    if growth is None:
        return ["memory does not grow"] if soak.is_growth_tested and soak.holds else []
    assert growth.point is not None
    assert growth.low is not None
    assert growth.high is not None
    span = f"{format_bytes(growth.low)} to {format_bytes(growth.high)}"
    text = f"memory grows by {format_bytes(growth.point)} ({span}) with each step"
    if soak.steps_until_full is not None:
        text += f", full after about {format_number(soak.steps_until_full)} steps"
    return [text]
