"""Time against cost: a table of the choices, a paragraph, and a chart."""

import itertools
from collections.abc import Sequence

from rich import box
from rich.console import ConsoleRenderable
from rich.table import Table
from rich.text import Text

from advisor.conclusions import Bounds, Derived, Frontier, FrontierPoint, Recommendation
from advisor.record import RunRecord
from advisor.report.charts import Chart, Datum, Series, render_chart
from advisor.report.units import NOT_MEASURED, count_of, format_count, format_number

#: Rows that fit on a screen beside the rest of the report; the JSON document has them all.
MAX_ROWS = 12
#: Lines of one chart that can be told apart.
_MAX_LINES = 4
RECOMMENDED, NOISE, SHORT = ">", "φ", "!"


def render_frontier(record: RunRecord, derived: Derived) -> list[ConsoleRenderable]:
    """Return the table with its legend and notes; nothing where no option asked for it."""
    frontier = derived.frontier
    if frontier is None or not record.command.scenario.asks_for_frontier:
        return []
    if not frontier.points:
        return []
    rows = _choose_rows(frontier, derived.recommendation)
    return [
        Text(),
        _render_table(frontier, rows, derived.recommendation),
        Text(_render_legend(frontier, rows), style="dim"),
        *(Text(note) for note in frontier.notes),
    ]


def describe_frontier(frontier: Frontier) -> str:
    """Return the fastest, the balanced and the cheapest choice, or why there is none."""
    fastest, balanced, cheapest = frontier.fastest, frontier.balanced, frontier.cheapest
    if fastest is None or balanced is None or cheapest is None:
        return f"{NOT_MEASURED}: {frontier.reason}"
    if fastest == cheapest:
        choice = f"{_name_batch(fastest)} is the fastest and the cheapest"
        if frontier.points[-1].gpus == 1:
            choice += ", since on one device the cost is the time"
    else:
        choice = "; ".join(
            f"{name}: {_name_batch(point)}, {_describe_ratios(point)}"
            for name, point in (
                ("fastest", fastest),
                ("balanced", balanced),
                ("cheapest", cheapest),
            )
        )
    return f"{choice}; {_describe_noise_scale(frontier)}"


def render_frontier_chart(frontier: Frontier | None) -> Chart | None:
    """Return time against cost for several GPUs, steps against samples for one."""
    if frontier is None or not frontier.points:
        return None
    if len(_list_counts(frontier)) > 1:
        return _chart_time(frontier)
    law = tuple(
        Datum(x=point.relative_samples, y=point.relative_steps) for point in frontier.points
    )
    return render_chart(
        title="Steps against samples",
        x_label="samples to train, over the fewest",
        y_label="steps, over the fewest",
        series=(
            Series(label="batches, the smallest at the left", data=law),
            Series(label="batch = noise scale", data=(Datum(x=2.0, y=2.0),)),
        ),
        log_y=True,
    )


def _chart_time(frontier: Frontier) -> Chart | None:
    counts = _list_counts(frontier)[: _MAX_LINES - 1]
    lines = tuple(
        Series(
            label=f"{count_of(count, 'GPU')}, {'measured' if count == 1 else 'on paper'}",
            data=_place([point for point in frontier.points if point.gpus == count]),
        )
        for count in counts
    )
    marked = _place([point for point in frontier.points if point.is_at_noise_scale])
    return render_chart(
        title="Time against cost",
        x_label="GPU time to train, over the least",
        y_label="time, over the least",
        series=(*lines, Series(label="batch near the noise scale", data=marked)),
        log_y=True,
    )


def _place(points: Sequence[FrontierPoint]) -> tuple[Datum, ...]:
    return tuple(
        Datum(
            x=point.relative_cost.ranked,
            y=point.relative_time.ranked,
            low=point.relative_time.low if point.gpus > 1 else None,
            high=point.relative_time.high if point.gpus > 1 else None,
        )
        for point in points
    )


def _choose_rows(frontier: Frontier, advice: Recommendation | None) -> tuple[FrontierPoint, ...]:
    """Return the named points first, then the fastest of each number of GPUs, then the frontier."""
    named = [frontier.fastest, frontier.balanced, frontier.cheapest]
    named += [point for point in frontier.points if _is_advised(point, advice)]
    named += [
        min(group, key=lambda point: point.relative_time.ranked)
        for _, group in itertools.groupby(frontier.points, key=lambda point: point.gpus)
    ]
    named += [point for point in frontier.points if point.is_at_noise_scale]
    named += [point for point in frontier.points if point.is_efficient]
    rows: list[FrontierPoint] = []
    for point in named:
        if point is not None and point not in rows:
            rows.append(point)
    return tuple(sorted(rows[:MAX_ROWS], key=lambda one: (one.gpus, one.global_batch_size)))


def _render_table(
    frontier: Frontier, rows: Sequence[FrontierPoint], advice: Recommendation | None
) -> Table:
    has_length = any(row.training_s is not None for row in rows)
    has_price = any(row.training_price is not None for row in rows)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("Time and cost", no_wrap=True)
    for name in ("GPUs", "batch", "on each", "time", "GPU time"):
        table.add_column(name, justify="right", no_wrap=True)
    if has_length:
        table.add_column("hours", justify="right", no_wrap=True)
    if has_price:
        table.add_column("price", justify="right", no_wrap=True)
    for row in rows:
        split = f"{format_count(row.micro_batch_size)} × {row.gradient_accumulation_steps}"
        cells = [_name_row(frontier, row, advice), str(row.gpus)]
        cells += [format_count(row.global_batch_size), split]
        cells += [f"{format_bounds(each)} ×" for each in (row.relative_time, row.relative_cost)]
        if has_length:
            cells.append(NOT_MEASURED if row.training_s is None else _hours(row.training_s))
        if has_price:
            price = row.training_price
            cells.append(NOT_MEASURED if price is None else format_bounds(price))
        table.add_row(*cells, style="bold" if _is_advised(row, advice) else None)
    return table


def _name_row(frontier: Frontier, row: FrontierPoint, advice: Recommendation | None) -> str:
    names = [
        name
        for name, point in (
            ("fastest", frontier.fastest),
            ("balanced", frontier.balanced),
            ("cheapest", frontier.cheapest),
        )
        if point == row
    ]
    names = ["best in both"] if len(names) == 3 else names
    marks = RECOMMENDED * _is_advised(row, advice)
    marks += NOISE * row.is_at_noise_scale + SHORT * row.has_short_epochs
    return " ".join([*([marks] if marks else []), ", ".join(names)]).rstrip()


def _render_legend(frontier: Frontier, rows: Sequence[FrontierPoint]) -> str:
    parts = ["time and GPU time: predicted, over the least, to the same training loss"]
    if len(_list_counts(frontier)) > 1:
        parts.append("balanced: the worse of the two is least")
    parts.append("> recommended, the only batch whose learning rate was run")
    if any(row.is_at_noise_scale for row in rows):
        parts.append(
            "φ batch nearest to the noise scale: about twice the fewest steps and twice the fewest "
            "samples"
        )
    if any(row.has_short_epochs for row in rows):
        parts.append("! fewer than 20 steps an epoch")
    return "; ".join(parts)


def format_bounds(bounds: Bounds) -> str:
    """Return `1.24`, `1.24 to 1.31`, or `≥ 1.24`."""
    low = format_number(bounds.low)
    if bounds.high is None:
        return f"≥ {low}"
    high = format_number(bounds.high)
    return low if low == high else f"{low} to {high}"


def _hours(time_s: Bounds) -> str:
    return format_bounds(
        Bounds(low=time_s.low / 3600.0, high=None if time_s.high is None else time_s.high / 3600.0)
    )


def _describe_noise_scale(frontier: Frontier) -> str:
    assert frontier.noise_scale is not None
    scale = format_number(frontier.noise_scale)
    sizes = [format_count(p.global_batch_size) for p in frontier.points if p.is_at_noise_scale]
    text = f"at the noise scale, {scale}, steps and samples are both twice their fewest"
    near = ", ".join(dict.fromkeys(sizes))
    return f"{text} (nearest batch {near})" if near else f"{text}; no batch near it was measured"


def _describe_ratios(point: FrontierPoint) -> str:
    time, cost = format_bounds(point.relative_time), format_bounds(point.relative_cost)
    return f"{time} × the time and {cost} × the GPU time"


def _name_batch(point: FrontierPoint) -> str:
    batch = f"batch {format_count(point.global_batch_size)}"
    return batch if point.gpus == 1 else f"{batch} on {point.gpus} GPUs"


def _is_advised(point: FrontierPoint, advice: Recommendation | None) -> bool:
    return (
        advice is not None
        and point.gpus == advice.data_parallel_size
        and point.global_batch_size == advice.global_batch_size
    )


def _list_counts(frontier: Frontier) -> list[int]:
    return sorted({point.gpus for point in frontier.points})
