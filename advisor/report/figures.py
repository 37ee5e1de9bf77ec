"""Charts as figures of plotly."""

import html
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from plotly import graph_objects

from advisor.telling import Chart, Column, Datum, Line, Style, Table
from advisor.units import format_number

#: The axis ends at this multiple of the highest point, however long its error bar is.
MOST_BAR_RATIO = 1.5
#: An interval that reaches 0 ends at this share of the lowest point of a logarithmic axis.
_LEAST_BAR_RATIO = 0.1
#: So that the topmost point stays clear of the edge.
_ROOM = 1.08
#: Decades for each label from which on plotly labels 1, 2 and 5, and only 1, of each; and from how
#: many on it is the latter.
_DECADES_OF_LABEL, _DECADES_OF_DECADE, _MANY_DECADES = 0.35, 0.75, 4.0
#: Points of a line up to which each is drawn.
_MOST_MARKERS = 40
#: Of marks, which must show on both papers.
_GREY, _SHADE = "#808890", "rgba(128, 136, 144, 0.18)"
_MODES: dict[Style, str] = {
    "measured": "lines+markers",
    "predicted": "lines",
    "points": "markers",
    "failures": "markers",
}
#: In turn, so that lines differ by more than their colour.
_SYMBOLS = (
    "circle",
    "square",
    "diamond",
    "triangle-up",
    "pentagon",
    "star",
    "hexagon",
    "hourglass",
)


def prepare(chart: Chart) -> Chart | None:
    """Return the chart with the points that its axes can show; None with fewer than two."""
    xs = [datum.x for line in chart.lines for datum in line.data]
    least = 0.0 if chart.log_y else -math.inf
    lines = [
        replace(line, data=tuple(d for d in line.data if least < d.y < math.inf))
        for line in chart.lines
    ]
    if sum(len(line.data) for line in lines) < 2:
        return None
    log_x = chart.log_x and all(not isinstance(x, str) and x > 0.0 for x in xs)
    return replace(chart, lines=tuple(line for line in lines if line.data), log_x=log_x)


def draw_figure(chart: Chart) -> dict[str, Any]:
    """Return the traces and the layout of a prepared chart as plotly's script takes them."""
    ys = [datum.y for line in chart.lines for datum in line.data]
    floor = _LEAST_BAR_RATIO * min(ys) if chart.log_y else None
    figure = graph_objects.Figure(
        [_draw_line(chart, line, number, floor) for number, line in enumerate(chart.lines)],
        _lay_out(chart),
    )
    plain: dict[str, Any] = figure.to_plotly_json()
    plain["layout"].pop("template", None)  # the page's script sets the one of its theme
    return plain


def tabulate(chart: Chart) -> Table:
    """Return the values of a chart; a column that no value could fill is left out."""
    rows = [
        (line.label, *map(_format, (datum.x, datum.y, datum.low, datum.high, datum.note)))
        for line in chart.lines
        for datum in line.data
    ]
    headings = (
        Column("line", "left", folds=True),
        Column(chart.x_label, "left" if _has_names(chart) else "right"),
        Column(chart.y_label),
        Column("from"),
        Column("to"),
        Column("note", "left", folds=True),
    )
    used = [n for n in range(len(headings)) if n == 1 or any(row[n] for row in rows)]
    return Table(
        columns=tuple(headings[n] for n in used),
        rows=tuple(tuple(row[n] for n in used) for row in rows),
    )


def _format(value: float | str | None) -> str:
    if isinstance(value, str):
        return value
    if value is None or not math.isfinite(value):
        return ""
    return f"{value:,.0f}" if value == int(value) and value < 1e9 else format_number(value)


def _escape(text: str) -> str:
    """Return the text as such for plotly, which reads some HTML in it."""
    return html.escape(text, quote=False)


def _has_names(chart: Chart) -> bool:
    return any(isinstance(datum.x, str) for line in chart.lines for datum in line.data)


def _draw_line(chart: Chart, line: Line, number: int, floor: float | None) -> Any:
    xs = [_escape(d.x) if isinstance(d.x, str) else d.x for d in line.data]
    ys = [datum.y for datum in line.data]
    shared = {
        "name": _escape(line.label),
        "text": [_hover(chart, datum) for datum in line.data],
        "hovertemplate": "%{text}<extra>%{fullData.name}</extra>",
    }
    if line.style == "bars":
        return graph_objects.Bar(x=xs, y=ys, textposition="none", **shared)
    is_failure = line.style == "failures"
    return graph_objects.Scatter(
        x=xs,
        y=ys,
        mode="lines" if len(line.data) > _MOST_MARKERS else _MODES[line.style],
        marker={
            "symbol": "x" if is_failure else _SYMBOLS[number % len(_SYMBOLS)],
            "size": 10 if is_failure else 8,
        },
        line={"dash": "dash" if line.style == "predicted" else "solid", "width": 2},
        error_y=_draw_bars(line, floor),
        **shared,
    )


def _draw_bars(line: Line, floor: float | None) -> dict[str, Any] | None:
    """Return the intervals as error bars; an end that is not known has none."""
    if all(datum.low is None and datum.high is None for datum in line.data):
        return None
    lows = [datum.y if datum.low is None else datum.low for datum in line.data]
    if floor is not None:
        lows = [max(low, floor) for low in lows]
    return {
        "type": "data",
        "symmetric": False,
        "array": [0.0 if d.high in {None, math.inf} else d.high - d.y for d in line.data],
        "arrayminus": [d.y - low for d, low in zip(line.data, lows, strict=True)],
        "thickness": 1.5,
        "width": 4,
    }


def _hover(chart: Chart, datum: Datum) -> str:
    ends = "" if datum.low is None else f" ({_format(datum.low)} to {_format(datum.high) or '?'})"
    lines = [f"{chart.x_label}: {_format(datum.x)}", f"{chart.y_label}: {_format(datum.y)}{ends}"]
    lines += [datum.note] if datum.note else []
    return "<br>".join(_escape(line) for line in lines)


def _lay_out(chart: Chart) -> dict[str, Any]:
    has_names, data = _has_names(chart), [datum for line in chart.lines for datum in line.data]
    names = {"range": [-0.5, len({datum.x for datum in data}) - 0.5]}  # which count from 0
    return {
        "xaxis": {
            "title": {"text": _escape(chart.x_label)},
            "type": "category" if has_names else "log" if chart.log_x else "linear",
            **(names if has_names else _tick([d.x for d in data], is_log=chart.log_x)),
        },
        "yaxis": {
            "title": {"text": _escape(chart.y_label)},
            "type": "log" if chart.log_y else "linear",
            "rangemode": "normal" if chart.log_y else "tozero",
            **_tick([d.y for d in data], is_log=chart.log_y),
            **({} if chart.log_y else _cap(chart)),
        },
        "barmode": "stack",
        "showlegend": len(chart.lines) > 1,
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "margin": {"l": 10, "r": 15, "t": 20, "b": 10},
        "shapes": [shape for shape, _ in _draw_marks(chart)],
        "annotations": [label for _, label in _draw_marks(chart)],
    }


def _tick(values: Sequence[Any], *, is_log: bool) -> dict[str, Any]:
    """Return how an axis is labelled; a logarithmic one by 1, 2 and 5, over many decades by 1."""
    if not is_log:
        return {"tickformat": ",~r"}
    decades = math.log10(max(values)) - math.log10(min(values))
    of_label = _DECADES_OF_LABEL if decades <= _MANY_DECADES else _DECADES_OF_DECADE
    return {"tickformat": ",~r", "nticks": max(4, int(decades / of_label))}


def _cap(chart: Chart) -> dict[str, Any]:
    """Return the range of the axis where one very uncertain point would flatten the curve."""
    data = [datum for line in chart.lines for datum in line.data]
    highest = max(datum.y for datum in data)
    longest = max(datum.high or datum.y for datum in data)
    if longest <= MOST_BAR_RATIO * highest or highest <= 0.0:
        return {}
    top = max([highest * MOST_BAR_RATIO, *(mark.at for mark in chart.y_marks)])
    return {"range": [min(0.0, *(datum.y for datum in data)), top * _ROOM]}


def _draw_marks(chart: Chart) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield a line for each mark, a shade where it is a span, and its label.

    That of a place on the x axis stands at the top, of a span at the foot.
    """
    foot = {"y": 0, "yref": "paper", "yanchor": "bottom", "xanchor": "center"}
    top = {"y": 1, "yref": "paper", "yanchor": "top", "xanchor": "left"}
    left = {"x": 0, "xref": "paper", "xanchor": "left", "yanchor": "bottom"}
    for axis, other, marks, is_log in (
        ("x", "y", chart.x_marks, chart.log_x),
        ("y", "x", chart.y_marks, chart.log_y),
    ):
        for mark in marks:
            ends = [mark.at, mark.at if mark.to is None else mark.to]
            place = {"layer": "below", f"{axis}0": ends[0], f"{axis}1": ends[1]}
            across = {f"{other}0": 0, f"{other}1": 1, f"{other}ref": "paper"}
            line = {"type": "line", "line": {"color": _GREY, "dash": "dot", "width": 1.5}}
            shade = {"type": "rect", "fillcolor": _SHADE, "line": {"width": 0}}
            middle = fmean(math.log10(end) if is_log else end for end in ends)
            label = {
                "text": _escape(mark.label),
                "font": {"size": 11, "color": _GREY},
                "showarrow": False,
                axis: middle,
                **(left if axis == "y" else top if mark.to is None else foot),
            }
            yield {**place, **across, **(line if mark.to is None else shade)}, label
