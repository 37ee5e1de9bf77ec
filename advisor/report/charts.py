"""Charts on a fixed canvas, for a template to draw: an axis says where a value lies on it."""

import math
from typing import NamedTuple

from advisor.telling import Chart, Line

#: Canvas of one chart and its margins, in SVG user units.
WIDTH, HEIGHT = 640.0, 280.0
LEFT, RIGHT, TOP, BOTTOM = 76.0, 16.0, 12.0, 44.0

#: Labels that fit along one axis.
MAX_TICKS = 7
#: The axis ends at this multiple of the highest point, however long its error bar is.
MOST_BAR_RATIO = 1.5


class Axis(NamedTuple):
    """The range of one axis and where its ends lie; a logarithmic one has both above zero."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool

    def place(self, value: float) -> float:
        """Return where a value lies on the canvas, at an end where it is beyond it."""
        low, high, at = (
            math.log(max(each, self.low)) if self.is_log else each
            for each in (self.low, self.high, value)
        )
        share = min(max((at - low) / (high - low), 0.0), 1.0) if high > low else 0.5
        return round(self.start + share * (self.end - self.start), 1)

    @property
    def ticks(self) -> list[float]:
        """Round numbers within the axis: 1, 2 or 5 times a power of ten."""
        if self.high <= self.low:
            return [self.low]
        if self.is_log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            round_numbers = [m * 10.0**k for k in decades for m in (1, 2, 5)]
            inside = [value for value in round_numbers if self.low <= value <= self.high]
            return (
                inside[:: math.ceil(len(inside) / MAX_TICKS)] if inside else [self.low, self.high]
            )
        coarse = (self.high - self.low) / (MAX_TICKS - 1)
        decade = 10.0 ** math.floor(math.log10(coarse))
        step = next(m * decade for m in (1, 2, 5, 10) if m * decade >= coarse)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [count * step for count in range(first, last + 1)]


class Drawing(NamedTuple):
    """A chart with its axes, and its lines that have a point."""

    chart: Chart
    lines: tuple[Line, ...]
    x: Axis
    y: Axis
    #: Where the recommended size lies; None draws no line.
    marked_x: float | None


def draw_chart(chart: Chart) -> Drawing | None:
    """Return the chart on the canvas, None where there are fewer than two points to draw."""
    lines = tuple(line for line in chart.lines if line.data)
    data = [datum for line in lines for datum in line.data]
    if len(data) < 2:
        return None
    xs = [datum.x for datum in data]
    # One very uncertain point must not flatten the curve: its error bar runs off the canvas.
    most = MOST_BAR_RATIO * max(d.y for d in data)
    ends = [min(end, most) for d in data for end in (d.y, d.low, d.high) if end is not None]
    floor = min(end for end in ends if end > 0 or not chart.log_y) if chart.log_y else 0.0
    room = 1.3 if chart.log_y else 1.05  # so that the topmost point stays clear of the edge
    x_axis = Axis(min(xs), max(xs), LEFT, WIDTH - RIGHT, chart.log_x and min(xs) > 0)
    y_axis = Axis(floor, max(ends) * room, HEIGHT - BOTTOM, TOP, chart.log_y)
    marked = chart.marked
    is_inside = marked is not None and min(xs) <= marked <= max(xs)
    marked_x = x_axis.place(marked) if marked is not None and is_inside else None
    return Drawing(chart, lines, x_axis, y_axis, marked_x)
