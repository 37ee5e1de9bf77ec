"""What holds the memory at the peak, and what would change it; by traces, none of it was run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain

from advisor.predict.breakdown import CATEGORY_NAMES
from advisor.predict.data import Breakdown, MemorySaving, MemorySavings, ModuleShare
from advisor.predict.memory_trace import Phase
from advisor.telling import Chart, Column, Datum, Line, Table
from advisor.units import choose_size_unit, format_bytes, format_count

#: Modules shown by name; the JSON document has them all.
_MOST_MODULES = 6
#: Parts shown of a group of repeated blocks.
_MOST_PARTS = 4
#: A module or a part is shown from this share of the peak on.
_LEAST_FRACTION = 0.01
#: Cards side by side: what 80 columns hold beside the names.
CARDS_ABREAST = 3
#: Longer names of modules lose their start.
_NAME_WIDTH = 36

_PHASES: dict[Phase, str] = {
    "setup": "before the first step",
    "forward": "in the forward pass",
    "backward": "in the backward pass",
    "optimizer": "in the optimizer step",
}
_SAVINGS_LEGEND = (
    "the largest micro-batch, and the allocated peak at the batch named above; predicted from "
    "another trace with that change, not run"
)


def tell_peak(peak: Breakdown, *, where: str = "") -> Table:
    """Return the table 'At the peak': modules by what they hold, and the timeline."""
    title = f"At the peak, batch {format_count(peak.micro_batch_size)}{where}"

    def draw(label: str, size_bytes: int, mostly: str) -> tuple[str, ...]:
        share = f"{100 * size_bytes / peak.peak_bytes:.0f} %"
        return label, format_bytes(size_bytes), share, mostly

    shares = list(_choose_shares(peak))
    rows = [draw(label, share.size_bytes, _describe_mostly(share)) for share, label in shares]
    shown = sum(share.size_bytes for share, label in shares if not label.startswith(" "))
    if shown < peak.peak_bytes:
        rows.append(draw("all others", peak.peak_bytes - shown, ""))
    return Table(
        columns=(Column(title, "left"), Column(""), Column("share"), Column("mostly", "left")),
        rows=tuple(rows),
        legend=_describe_timeline(peak),
    )


def chart_parts(parts: Sequence[tuple[str, Mapping[str, int]]], *, caption: str) -> Chart:
    """Return what holds the memory, a bar for each name: bytes by part."""
    names = dict.fromkeys(part for _, sizes in parts for part in sizes)
    highest = max((sum(sizes.values()) for _, sizes in parts), default=0)
    factor, unit = choose_size_unit(highest)
    return Chart(
        title="What holds the memory at the peak",
        caption=caption,
        x_label="",
        y_label=unit,
        lines=tuple(
            Line(
                part,
                tuple(Datum(x=name, y=sizes.get(part, 0) / factor) for name, sizes in parts),
                "bars",
            )
            for part in names
        ),
    )


def chart_peak(peak: Breakdown) -> Chart:
    """Return the tensors at the peak of one size, by module and category."""
    parts = [
        (label, {CATEGORY_NAMES[one]: size for one, size in share.bytes_by_category.items()})
        for share, label in _choose_shares(peak)
        if not label.startswith(" ")
    ]
    size = format_count(peak.micro_batch_size)
    return chart_parts(
        parts, caption=f"Tensors at batch {size}, by module and kind; by a trace, not run."
    )


def tell_savings(savings: Sequence[tuple[str, MemorySavings]]) -> tuple[Table, ...]:
    """Return the tables 'What would change it' under their titles, below the last one how."""
    helped = [(title, one) for title, one in savings if one.savings]
    starts = range(0, len(helped), CARDS_ABREAST)
    tables = [_compare(helped[start : start + CARDS_ABREAST]) for start in starts]
    if not tables:
        return ()
    notes = ("", *_list_how_to([one for _, one in helped]))
    return (*tables[:-1], replace(tables[-1], legend=_SAVINGS_LEGEND, notes=notes))


def _choose_shares(peak: Breakdown) -> Iterator[tuple[ModuleShare, str]]:
    """Yield the modules worth a row, each followed by its parts, with their labels."""
    least_bytes = _LEAST_FRACTION * peak.peak_bytes
    large = [share for share in peak.modules if share.size_bytes >= least_bytes]
    for share in large[:_MOST_MODULES]:
        yield share, _label(share)
        parts = [part for part in share.parts if part.size_bytes >= least_bytes]
        for part in parts[:_MOST_PARTS]:
            inner = (part.name or "").removeprefix(share.name or "").removeprefix(".")
            yield part, f"  {_cut(f'.{inner}') if inner else 'operations of its own'}"


def _label(share: ModuleShare) -> str:
    if share.name is None:
        return "outside of the modules"
    if not share.name:
        return "the model's own operations"
    return _cut(share.name) + (f" (× {share.count})" if share.count > 1 else "")


def _cut(name: str) -> str:
    return name if len(name) <= _NAME_WIDTH else f"…{name[1 - _NAME_WIDTH :]}"


def _describe_mostly(share: ModuleShare) -> str:
    """Return the largest category, with its share where it is not nearly all."""
    category, size_bytes = next(iter(share.bytes_by_category.items()))
    percent = round(100 * size_bytes / share.size_bytes)
    return CATEGORY_NAMES[category] + (f", {percent} %" if percent < 95 else "")


def _describe_timeline(peak: Breakdown) -> str:
    """Return when the peak is reached, and the levels of the step that it is in."""
    step = f" of step {peak.step}" if peak.step else ""
    text = f"{format_bytes(peak.peak_bytes)} of tensors {_PHASES[peak.phase]}{step}"
    levels = [level for level in peak.timeline if level.step == peak.step and peak.step]
    if levels:
        peaks = ", ".join(f"{one.phase} {format_bytes(one.peak_bytes)}" for one in levels)
        begins = format_bytes(levels[0].start_bytes)
        text += f"; that step begins with {begins}, its peaks: {peaks}"
    return f"{text}; unrounded sizes by a trace, not run"


def _compare(savings: Sequence[tuple[str, MemorySavings]]) -> Table:
    headers, columns = [], []
    for title, one in savings:
        headers.append(f"{title}\nat batch {format_count(one.micro_batch_size)}".lstrip("\n"))
        effects = {each.name: _format_effect(each) for each in one.savings}
        columns.append({"as it is": _format_effect(one)} | effects)
    names = dict.fromkeys(name for each in columns for name in each)
    return Table(
        columns=(Column("What would change it", "left"), *map(Column, headers)),
        rows=tuple((name, *(each.get(name, "no gain") for each in columns)) for name in names),
    )


def _list_how_to(savings: Sequence[MemorySavings]) -> Iterator[str]:
    """Yield every change with its cost and the code to paste."""
    first: dict[str, MemorySaving] = {}
    for one in chain.from_iterable(each.savings for each in savings):
        first.setdefault(one.name, one)
    for one in first.values():
        code = one.how_to
        if code.startswith("for "):  # where else a terminal broke it, it could not be pasted
            code = code.replace(": ", ":\n    ", 1)
        yield f"- {one.name}: {one.note}\n{code}"


def _format_effect(one: MemorySaving | MemorySavings) -> str:
    largest = format_count(one.max_micro_batch_size) if one.max_micro_batch_size else "none"
    return f"{largest}; {format_bytes(one.peak_bytes)}"
