"""What holds the memory at the peak, and what would change it; by traces, none of it was run."""

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import ConsoleRenderable
from rich.table import Table
from rich.text import Text

from advisor.predict.data import Breakdown, MemorySaving, MemorySavings, ModuleShare
from advisor.predict.memory_trace import Category, Phase
from advisor.units import format_bytes, format_count

#: Modules shown by name; the JSON document has them all.
_MOST_MODULES = 6
#: Parts shown of a group of repeated blocks.
_MOST_PARTS = 4
#: A module or a part is shown from this share of the peak on.
_LEAST_FRACTION = 0.01
#: Cards side by side: what 80 columns hold beside the names.
_CARDS_ABREAST = 3
#: Longer names of modules lose their start.
_NAME_WIDTH = 36

_CATEGORIES: dict[Category, str] = {
    "parameter": "parameters",
    "gradient": "gradients",
    "optimizer_state": "optimizer state",
    "activation": "activations",
    "input": "batch",
    "temporary": "temporaries",
}
_PHASES: dict[Phase, str] = {
    "setup": "before the first step",
    "forward": "in the forward pass",
    "backward": "in the backward pass",
    "optimizer": "in the optimizer step",
}


def render_peak(peak: Breakdown, *, where: str = "") -> list[ConsoleRenderable]:
    """Return the table 'At the peak': modules by what they hold, largest first, and the timeline.

    Args:
        peak: Of one size.
        where: Added to the title, such as ` on RTX 4090`.
    """
    batch = f"At the peak, batch {format_count(peak.micro_batch_size)}{where}"
    table = _table()
    table.add_column(batch, no_wrap=True)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("share", justify="right", no_wrap=True)
    table.add_column("mostly", no_wrap=True)
    rows = list(_choose_rows(peak))
    for share, label in rows:
        table.add_row(label, *_cells(share.size_bytes, peak), _describe_mostly(share))
    shown = sum(share.size_bytes for share, label in rows if not label.startswith(" "))
    if shown < peak.peak_bytes:
        table.add_row("all others", *_cells(peak.peak_bytes - shown, peak), "")
    return [Text(), table, Text(_describe_timeline(peak), style="dim")]


def render_comparisons(comparisons: Sequence[tuple[str, MemorySavings]]) -> list[ConsoleRenderable]:
    """Return the table 'What would change it' and under it how; nothing where nothing helps.

    Args:
        comparisons: A title for each, such as the card's name; empty for no title.
    """
    helped = [(title, one) for title, one in comparisons if one.savings]
    parts: list[ConsoleRenderable] = []
    for start in range(0, len(helped), _CARDS_ABREAST):
        parts += [Text(), _render_effects(helped[start : start + _CARDS_ABREAST])]
    if not parts:
        return []
    legend = (
        "the largest micro-batch, and the allocated peak at the batch named above; predicted from "
        "another trace with that change, not run"
    )
    return [*parts, Text(legend, style="dim"), Text(), _render_how_to(helped)]


def _choose_rows(peak: Breakdown) -> Iterator[tuple[ModuleShare, str]]:
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


def _cells(size_bytes: int, peak: Breakdown) -> tuple[str, str]:
    return format_bytes(size_bytes), f"{100 * size_bytes / peak.peak_bytes:.0f} %"


def _describe_mostly(share: ModuleShare) -> str:
    """Return the largest category, with its share where it is not nearly all."""
    category, size_bytes = next(iter(share.bytes_by_category.items()))
    percent = round(100 * size_bytes / share.size_bytes)
    return _CATEGORIES[category] + (f", {percent} %" if percent < 95 else "")


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


def _render_effects(comparisons: Sequence[tuple[str, MemorySavings]]) -> Table:
    table = _table()
    table.add_column("What would change it", no_wrap=True)
    for title, one in comparisons:
        batch = f"at batch {format_count(one.micro_batch_size)}"
        table.add_column(f"{title}\n{batch}" if title else batch, justify="right", no_wrap=True)
    table.add_row(
        "as it is",
        *(_format_effect(one.max_micro_batch_size, one.peak_bytes) for _, one in comparisons),
    )
    for name in _list_names(comparisons):
        table.add_row(name, *(_format_remedy(one.savings, name) for _, one in comparisons))
    return table


def _render_how_to(comparisons: Sequence[tuple[str, MemorySavings]]) -> Table:
    remedies = {one.name: one for _, each in reversed(comparisons) for one in each.savings}
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=1)
    grid.add_column(overflow="fold")
    for name in _list_names(comparisons):
        remedy = remedies[name]
        grid.add_row("-", Text(f"{name}: {remedy.note}"))
        grid.add_row("", Text(_break_loop(remedy.how_to), style="bold"))
    return grid


def _break_loop(code: str) -> str:
    """Return a loop on two lines: where else a terminal would break it, it could not be pasted."""
    return code.replace(": ", ":\n    ", 1) if code.startswith("for ") else code


def _list_names(comparisons: Sequence[tuple[str, MemorySavings]]) -> list[str]:
    return list(dict.fromkeys(one.name for _, each in comparisons for one in each.savings))


def _format_remedy(remedies: Sequence[MemorySaving], name: str) -> str:
    found = next((one for one in remedies if one.name == name), None)
    if found is None:
        return "no gain"
    return _format_effect(found.max_micro_batch_size, found.peak_bytes)


def _format_effect(largest: int | None, peak_bytes: int) -> str:
    size = "-" if largest is None else format_count(largest) if largest else "none"
    return f"{size}; {format_bytes(peak_bytes)}"


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
