"""What a longer training run showed, in one paragraph."""

from advisor.engine.record import Conclusions
from advisor.soak.data import SoakConclusion
from advisor.soak.plan import SOAK
from advisor.telling import Row, Status, Told
from advisor.units import count_of, format_bytes, format_count, format_number


def tell_soak(conclusions: Conclusions) -> Told:
    """Return the row of the soak, none where nothing was soaked."""
    soak = conclusions.of(SOAK)
    return Told() if soak is None else Told(rows=(Row("Soak", describe_soak(soak)),))


def brief_soak(conclusions: Conclusions) -> Status | None:
    """Return whether the size held, in a few words."""
    soak = conclusions.of(SOAK)
    if soak is None:
        return None
    return Status("Soak", _head(soak), "inconclusive" if soak.holds is None else "measured")


def describe_soak(soak: SoakConclusion) -> str:
    """Return whether the size held, its peaks by phase, and whether memory grows."""
    peaks = (
        ("training", soak.training_peak_bytes),
        ("evaluation", soak.evaluation_peak_bytes),
        ("with a copy of the state", soak.reserve_peak_bytes),
    )
    known = ", ".join(f"{name} {format_bytes(peak)}" for name, peak in peaks if peak is not None)
    others = (format_count(each) for each in soak.failed if each != soak.micro_batch_size)
    earlier = ", ".join(others)
    parts = (
        _head(soak),
        f"peaks: {known}" if known else "",
        _describe_growth(soak),
        f"out of memory before: {earlier}" if earlier else "",
        soak.message or "",
    )
    return "; ".join(filter(None, parts))


def _head(soak: SoakConclusion) -> str:
    steps = count_of(soak.steps, "step")
    end = f"ran out of memory after {steps}"
    if soak.holds is None:
        end = f"ran over {steps}, too few to tell whether it holds"
    elif soak.holds:
        end = f"holds over {steps}"
    elif soak.growth_bytes_per_step is not None:
        end = f"ran over {steps}, but memory grows"
    return f"micro-batch {format_count(soak.micro_batch_size)} {end}"


def _describe_growth(soak: SoakConclusion) -> str:
    growth, full = soak.growth_bytes_per_step, ""
    if growth is None:
        return "memory does not grow" if soak.is_growth_tested and soak.holds else ""
    point, low, high = (format_bytes(end or 0.0) for end in (growth.point, growth.low, growth.high))
    if soak.steps_until_full is not None:
        full = f", full after about {format_number(soak.steps_until_full)} steps"
    return f"memory grows by {point} ({low} to {high}) with each step{full}"
