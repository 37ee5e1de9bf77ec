"""Time against cost: a table of the choices, a paragraph, and a chart."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence

from advisor.advice.data import Bounds, Frontier, FrontierPoint, Recommendation
from advisor.telling import Chart, Datum, Line, Table, draw_up
from advisor.units import NOT_MEASURED, count_of, format_count, format_duration, format_number

#: Rows that fit on a screen beside the rest of the report; the JSON document has them all.
MAX_ROWS = 12
#: Lines of one chart that can be told apart.
_MAX_LINES = 4
RECOMMENDED, NOISE, SHORT = ">", "φ", "!"


def describe_frontier(frontier: Frontier) -> str:
    """Return the fastest, the balanced and the cheapest choice, or why there is none."""
    fastest, balanced, cheapest = frontier.fastest, frontier.balanced, frontier.cheapest
    if fastest is None or balanced is None or cheapest is None:
        return f"{NOT_MEASURED}: {frontier.reason}"
    if fastest == cheapest:
        choice = f"by noise and speed alone {_name_batch(fastest)} is the fastest and the cheapest"
        if frontier.points[-1].gpus == 1:
            choice += ", since on one device the cost is the time"
    else:
        choice = "; ".join(
            f"{' and '.join(_list_names(frontier, point))}: {_name_batch(point)}, "
            f"{format_bounds(point.relative_time)} × the time and "
            f"{format_bounds(point.relative_cost)} × the GPU time"
            for point in dict.fromkeys((fastest, balanced, cheapest))
        )
    sizes = [format_count(p.global_batch_size) for p in frontier.points if p.is_at_noise_scale]
    near = ", ".join(dict.fromkeys(sizes))
    near = f" (nearest batch {near})" if near else "; no batch near it was measured"
    scale = format_number(frontier.noise_scale or 0.0)
    where = f"at the noise scale, {scale}, steps and samples are both twice their fewest"
    return f"{choice}; {where}{near}"


def draw_up_frontier(frontier: Frontier, advice: Recommendation | None) -> Table:
    """Return the table; price, which is in proportion to it, takes the place of the GPU time."""
    rows = _choose_rows(frontier, advice)
    splits = [(row.micro_batch_size, row.gradient_accumulation_steps, row.gpus) for row in rows]
    columns = [
        ("Time and cost", [", ".join(_list_names(frontier, row)) for row in rows]),
        ("batch", [format_count(row.global_batch_size) for row in rows]),
        ("as", [" × ".join(map(format_count, split)) for split in splits]),
        ("time", [f"{_write_ranked(row.relative_time)} ×" for row in rows]),
        ("GPU time", [f"{_write_ranked(row.relative_cost)} ×" for row in rows]),
    ]
    prices = [row.training_price for row in rows if row.training_price is not None]
    if len(prices) == len(rows):
        columns[-1] = "price", [_write_ranked(each) for each in prices]
    times = [row.training_s for row in rows if row.training_s is not None]
    if len(times) == len(rows):
        columns.append(("training", [_write_ranked(each, format_duration) for each in times]))
    marks = [
        RECOMMENDED * _is_advised(row, advice)
        + NOISE * row.is_at_noise_scale
        + SHORT * row.has_short_epochs
        for row in rows
    ]
    legend = "; ".join(_list_legend(frontier, rows, "".join(marks), advice))
    table = draw_up(columns, marks=marks, legend=legend, notes=frontier.notes)
    mark, names, *rest = table.columns
    return dataclasses.replace(
        table, columns=(mark, dataclasses.replace(names, justify="left", folds=True), *rest)
    )


def chart_frontier(frontier: Frontier) -> Chart:
    """Return time against cost for several GPUs, steps against samples for one."""
    counts = _list_counts(frontier)
    if len(counts) > 1:
        marked = [point for point in frontier.points if point.is_at_noise_scale]
        return Chart(
            title="Time against cost",
            caption="Each point is a batch: the lower it lies, the sooner training ends, and the "
            "further left, the less it costs; of several devices all is on paper.",
            x_label="GPU time to train, over the least",
            y_label="time, over the least",
            lines=(
                *(
                    Line(
                        f"{count_of(count, 'GPU')}, {'measured' if count == 1 else 'on paper'}",
                        _place([point for point in frontier.points if point.gpus == count]),
                    )
                    for count in counts[: _MAX_LINES - 1]
                ),
                Line("batch near the noise scale", _place(marked), "points"),
            ),
            log_y=True,
        )
    law = tuple(Datum(x=each.relative_samples, y=each.relative_steps) for each in frontier.points)
    return Chart(
        title="Steps against samples",
        caption="Larger batches take fewer steps and more samples, by the law of the noise; at the "
        "noise scale both are twice their fewest.",
        x_label="samples to train, over the fewest",
        y_label="steps, over the fewest",
        lines=(
            Line("batches, the smallest at the left", law),
            Line("batch = noise scale", (Datum(x=2.0, y=2.0),) if law else (), "points"),
        ),
        log_y=True,
    )


def format_bounds(bounds: Bounds) -> str:
    """Return `1.24`, `1.24 to 1.31`, or `≥ 1.24`."""
    low = format_number(bounds.low)
    if bounds.high is None:
        return f"≥ {low}"
    high = format_number(bounds.high)
    return low if low == high else f"{low} to {high}"


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
    points = frontier.points
    named = [
        *(each for each in (frontier.fastest, frontier.balanced, frontier.cheapest) if each),
        *(point for point in points if _is_advised(point, advice)),
        *(
            min(group, key=lambda point: point.relative_time.ranked)
            for _, group in itertools.groupby(points, key=lambda point: point.gpus)
        ),
        *(point for point in points if point.is_at_noise_scale),
        *(point for point in points if point.is_efficient),
    ]
    rows = [*dict.fromkeys(named)][:MAX_ROWS]
    return tuple(sorted(rows, key=lambda one: (one.gpus, one.global_batch_size)))


def _write_ranked(bounds: Bounds, write: Callable[[float], str] = format_number) -> str:
    """Return the value that decides: `≤` where it is the most, `≥` where it is the least."""
    if bounds.high is None:
        return f"≥ {write(bounds.low)}"
    low, high = write(bounds.low), write(bounds.high)
    return high if low == high else f"≤ {high}"


def _list_names(frontier: Frontier, row: FrontierPoint) -> list[str]:
    choices = {
        "fastest": frontier.fastest,
        "balanced": frontier.balanced,
        "cheapest": frontier.cheapest,
    }
    return [name for name, point in choices.items() if point == row]


def _list_legend(
    frontier: Frontier, rows: Sequence[FrontierPoint], marks: str, advice: Recommendation | None
) -> Iterator[str]:
    yield "predicted, to the same training loss; × over the least of all"
    if len(_list_counts(frontier)) > 1:
        yield "as: micro-batch × accumulation × GPUs"
        yield "balanced: the worse ratio of time and GPU time is least"
    if any(row.gpus > 1 and row.step_s.high is not None for row in rows):
        yield "≤ where no exchange hides behind the step"
    if RECOMMENDED in marks:
        is_tried = advice is not None and advice.learning_rate.value is not None
        yield f"> recommended{', the only batch whose learning rate was tried' * is_tried}"
    if NOISE in marks:
        yield "φ nearest to the noise scale: about twice the fewest steps and samples"
    if SHORT in marks:
        yield "! fewer than 20 steps an epoch"


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
