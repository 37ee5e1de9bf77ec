"""Time against cost: a table of the choices, a paragraph, and a chart."""

import itertools
from collections.abc import Callable, Sequence

from rich import box
from rich.console import ConsoleRenderable
from rich.table import Table
from rich.text import Text

from advisor.advice.data import Bounds, Frontier, FrontierPoint, Recommendation, Scenario
from advisor.derived import Derived
from advisor.engine.run_record import RunRecord
from advisor.report.charts import Chart, Datum, Series, render_chart
from advisor.units import NOT_MEASURED, count_of, format_count, format_duration, format_number

#: Rows that fit on a screen beside the rest of the report; the JSON document has them all.
MAX_ROWS = 12
#: Lines of one chart that can be told apart.
_MAX_LINES = 4
RECOMMENDED, NOISE, SHORT = ">", "φ", "!"

_Column = tuple[str, Callable[[FrontierPoint], str]]


def render_frontier(record: RunRecord, derived: Derived) -> list[ConsoleRenderable]:
    """Return the table with its legend and notes; nothing where no option asked for it."""
    frontier = derived.frontier
    if frontier is None or not (record.scenario or Scenario()).asks_for_frontier:
        return []
    if not frontier.points:
        return []
    rows = _choose_rows(frontier, derived.recommendation)
    return [
        Text(),
        _render_table(frontier, rows, derived.recommendation),
        Text(_render_legend(frontier, rows, derived.recommendation), style="dim"),
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
        points = dict.fromkeys((fastest, balanced, cheapest))
        choice = "; ".join(
            f"{' and '.join(_list_names(frontier, point))}: {_name_batch(point)}, "
            f"{_describe_ratios(point)}"
            for point in points
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
    """Return the table; price, which is in proportion to it, takes the place of the GPU time."""
    columns: list[_Column] = [
        ("batch", lambda row: format_count(row.global_batch_size)),
        ("as", _write_split),
        ("time", lambda row: f"{_write_ranked(row.relative_time)} ×"),
    ]
    if all(row.training_price is not None for row in rows):
        columns.append(("price", lambda row: _write_ranked(row.training_price)))
    else:
        columns.append(("GPU time", lambda row: f"{_write_ranked(row.relative_cost)} ×"))
    if all(row.training_s is not None for row in rows):
        columns.append(("training", lambda row: _write_ranked(row.training_s, format_duration)))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("Time and cost", overflow="fold")
    for name, _ in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        cells = [_mark(row, advice), ", ".join(_list_names(frontier, row))]
        cells += [write(row) for _, write in columns]
        table.add_row(*cells, style="bold" if _is_advised(row, advice) else None)
    return table


def _write_split(row: FrontierPoint) -> str:
    """Return micro-batch × accumulation × GPUs, as in the headline."""
    factors = (row.micro_batch_size, row.gradient_accumulation_steps, row.gpus)
    return " × ".join(format_count(factor) for factor in factors)


def _write_ranked(bounds: Bounds | None, write: Callable[[float], str] = format_number) -> str:
    """Return the value that decides: `≤` where it is the most, `≥` where it is the least."""
    if bounds is None:
        return NOT_MEASURED
    if bounds.high is None:
        return f"≥ {write(bounds.low)}"
    low, high = write(bounds.low), write(bounds.high)
    return high if low == high else f"≤ {high}"


def _mark(row: FrontierPoint, advice: Recommendation | None) -> str:
    marks = RECOMMENDED * _is_advised(row, advice)
    return marks + NOISE * row.is_at_noise_scale + SHORT * row.has_short_epochs


def _list_names(frontier: Frontier, row: FrontierPoint) -> list[str]:
    choices = (
        ("fastest", frontier.fastest),
        ("balanced", frontier.balanced),
        ("cheapest", frontier.cheapest),
    )
    return [name for name, point in choices if point == row]


def _render_legend(
    frontier: Frontier, rows: Sequence[FrontierPoint], advice: Recommendation | None
) -> str:
    parts = ["predicted, to the same training loss; × over the least of all"]
    if len(_list_counts(frontier)) > 1:
        parts.append("as: micro-batch × accumulation × GPUs")
        parts.append("balanced: the worse ratio of time and GPU time is least")
    if any(row.gpus > 1 and row.step_s.high is not None for row in rows):
        parts.append("≤ where no exchange hides behind the step")
    if advice is not None and any(_is_advised(row, advice) for row in rows):
        tried = ", the only batch whose learning rate was tried"
        parts.append(f"> recommended{tried if advice.learning_rate.value is not None else ''}")
    if any(row.is_at_noise_scale for row in rows):
        parts.append("φ nearest to the noise scale: about twice the fewest steps and samples")
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
