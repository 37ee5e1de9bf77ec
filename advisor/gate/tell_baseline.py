"""What a baseline holds: its figures, their spread, and the setting that it stands for."""

from collections.abc import Sequence

from advisor.engine.record import Conclusions
from advisor.gate.data import OCCASIONS, Occasion, merge
from advisor.gate.setting import identify, list_stack
from advisor.gate.tell import describe_side, write_value
from advisor.gate.verdict import LOOKS, estimate_level, find_smallest_change, measure_spread
from advisor.telling import Headline, Row, Told
from advisor.units import count_of, format_bytes, format_number, format_percent


def head_baseline(conclusions: Conclusions) -> Headline:
    """Return what was recorded."""
    occasions = conclusions.record.all(OCCASIONS)
    if not occasions:
        return Headline(answer="No baseline", missing=conclusions.record.why_missing)
    setting, sessions = occasions[0].setting, len(merge(occasions).sessions)
    return Headline(
        answer=f"Baseline of {setting.target} at batch {setting.micro_batch_size:,}: "
        f"{count_of(sessions, 'session')} on {count_of(len(occasions), 'occasion')}"
    )


def tell_baseline(conclusions: Conclusions) -> Told:
    """Return what a baseline holds."""
    return describe_baseline(conclusions.record.all(OCCASIONS))


def describe_baseline(occasions: Sequence[Occasion]) -> Told:
    """Return its figures, its spread, and the setting that it stands for."""
    if not any(each.sessions for each in occasions):
        return Told()
    last, side = occasions[-1], merge(occasions)
    level, spread = estimate_level("throughput", side), measure_spread(side)
    speed = write_value("throughput", None if level is None else level.point)
    said = "not known" if spread is None else f"{format_number(100.0 * spread)} %"
    rows = [Row("Throughput", f"{speed}, spread {said} between sessions")]
    if spread is not None:
        least = format_percent(find_smallest_change(spread, len(side.sessions), LOOKS[0]))
        rows.append(Row("Would show", f"a change of {least} at the first look"))
    rows += [
        Row("Memory", f"{format_bytes(peak.peak_bytes)} at batch {peak.micro_batch_size:,}")
        for peak in last.peaks
        if peak.peak_bytes is not None
    ]
    if last.operators is not None:
        rows.append(Row("Operators", f"{last.operators:,} of a step"))
    known = {**identify(last.setting), **list_stack(last.setting)}
    rows.append(Row("Setting", ", ".join(f"{name} {it}" for name, it in known.items() if it)))
    rows += [
        Row("Recorded", f"{describe_side(each)}, bsadvisor {each.tool_version}")
        for each in occasions
    ]
    return Told(rows=tuple(rows))
