"""Charts as coordinates on a fixed canvas, for a template to draw."""

import math

import msgspec

from advisor.telling import Chart, Line
from advisor.units import format_number

#: Canvas of one chart and its margins, in SVG user units.
WIDTH, HEIGHT = 640.0, 280.0
LEFT, RIGHT, TOP, BOTTOM = 76.0, 16.0, 12.0, 44.0

#: Labels that fit along one axis.
MAX_TICKS = 7
#: The axis ends at this multiple of the highest point, however long its error bar is.
MOST_BAR_RATIO = 1.5


class Axis(msgspec.Struct, frozen=True, kw_only=True):
    """The range of one axis.

    Attributes:
        is_log: Logarithmic; its ends are above zero then.
    """

    low: float
    high: float
    is_log: bool

    def place(self, value: float) -> float:
        """Return where `value` lies on the axis, 0 at its low end and 1 at its high end."""
        low, high, at = (
            (math.log(end) if self.is_log else end) for end in (self.low, self.high, value)
        )
        return min(max((at - low) / (high - low), 0.0), 1.0) if high > low else 0.5


class Tick(msgspec.Struct, frozen=True, kw_only=True):
    """A label on an axis."""

    at: float
    label: str


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """A point on the canvas with its error bar; `low` and `high` are y coordinates."""

    x: float
    y: float
    low: float | None
    high: float | None
    title: str


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """A series on the canvas."""

    label: str
    path: str
    marks: tuple[Mark, ...]


class Drawing(msgspec.Struct, frozen=True, kw_only=True):
    """A chart on the canvas.

    Attributes:
        marked_x: Where the recommended size lies; None draws no line.
    """

    title: str
    x_label: str
    y_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Curve, ...]
    marked_x: float | None


def draw_chart(chart: Chart) -> Drawing | None:
    """Return the chart on the canvas, None where there are fewer than two points to draw."""
    series = tuple(line for line in chart.lines if line.data)
    data = [datum for line in series for datum in line.data]
    if len(data) < 2:
        return None
    xs = [datum.x for datum in data]
    # One very uncertain point must not flatten the curve: its error bar runs off the canvas.
    most = MOST_BAR_RATIO * max(d.y for d in data)
    ends = [min(end, most) for d in data for end in (d.y, d.low, d.high) if end is not None]
    floor = min(end for end in ends if end > 0 or not chart.log_y) if chart.log_y else 0.0
    x_axis = Axis(low=min(xs), high=max(xs), is_log=chart.log_x and min(xs) > 0)
    room = 1.3 if chart.log_y else 1.05  # so that the topmost point stays clear of the edge
    y_axis = Axis(low=floor, high=max(ends) * room, is_log=chart.log_y)
    marked = chart.marked
    is_inside = marked is not None and min(xs) <= marked <= max(xs)
    return Drawing(
        title=chart.title,
        x_label=chart.x_label,
        y_label=chart.y_label,
        x_ticks=tuple(Tick(at=_x(x_axis, v), label=f"{v:,.6g}") for v in _ticks(x_axis)),
        y_ticks=tuple(Tick(at=_y(y_axis, v), label=f"{v:,.6g}") for v in _ticks(y_axis)),
        lines=tuple(_line(one, x_axis, y_axis) for one in series),
        marked_x=_x(x_axis, marked) if marked is not None and is_inside else None,
    )


def _line(line: Line, x_axis: Axis, y_axis: Axis) -> Curve:
    marks = tuple(
        Mark(
            x=_x(x_axis, datum.x),
            y=_y(y_axis, datum.y),
            low=None if datum.low is None else _y(y_axis, datum.low),
            high=None if datum.high is None else _y(y_axis, datum.high),
            title=f"{format_number(datum.x)}: {format_number(datum.y)}",
        )
        for datum in line.data
    )
    path = " ".join(f"{mark.x},{mark.y}" for mark in marks)
    return Curve(label=line.label, path=path, marks=marks)


def _x(axis: Axis, value: float) -> float:
    return round(LEFT + axis.place(value) * (WIDTH - LEFT - RIGHT), 1)


def _y(axis: Axis, value: float) -> float:
    at = axis.place(value) if value > 0 or not axis.is_log else 0.0
    return round(HEIGHT - BOTTOM - at * (HEIGHT - TOP - BOTTOM), 1)


def _ticks(axis: Axis) -> list[float]:
    """Return round numbers within the axis: 1, 2 or 5 times a power of ten."""
    if axis.high <= axis.low:
        return [axis.low]
    if axis.is_log:
        decades = range(math.floor(math.log10(axis.low)), math.ceil(math.log10(axis.high)) + 1)
        round_numbers = [m * 10.0**k for k in decades for m in (1, 2, 5)]
        inside = [value for value in round_numbers if axis.low <= value <= axis.high]
        return inside[:: math.ceil(len(inside) / MAX_TICKS)] if inside else [axis.low, axis.high]
    coarse = (axis.high - axis.low) / (MAX_TICKS - 1)
    decade = 10.0 ** math.floor(math.log10(coarse))
    step = next(m * decade for m in (1, 2, 5, 10) if m * decade >= coarse)
    first, last = math.ceil(axis.low / step), math.floor(axis.high / step)
    return [count * step for count in range(first, last + 1)]
