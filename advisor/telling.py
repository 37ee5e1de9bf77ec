"""What a question tells: sentences, tables and charts as data; `report` draws them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from advisor.errors import AdvisorError
from advisor.statistics import Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """The answer of a command."""

    #: One line.
    answer: str
    #: What bears on it, a line each.
    remarks: tuple[str, ...] = ()
    #: Why there is no answer, as an error where that is not by the measurements; empty where the
    #: line above says so; None where there is one.
    missing: str | AdvisorError | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One finding; a label that repeats is shown once."""

    label: str
    text: str


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    header: str = ""
    justify: Literal["left", "right"] = "right"
    folds: bool = False
    #: In characters; None is as wide as what stands in it.
    width: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table; a row in bold is the one to look at."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""
    legend: str = ""
    #: Sentences below the legend, a line each; one that begins with `- ` is an item.
    notes: tuple[str, ...] = ()
    bold_rows: frozenset[int] = frozenset()
    is_narrow: bool = False


def draw_up(
    columns: Sequence[tuple[str, Sequence[str]]], *, marks: Sequence[str], **rest: Any
) -> Table:
    """Return a table of columns under their headers, beside the marks of its rows: `>` is bold."""
    return Table(
        columns=(Column(justify="left"), *(Column(header) for header, _ in columns)),
        rows=tuple(zip(marks, *(cells for _, cells in columns), strict=True)),
        bold_rows=frozenset(number for number, mark in enumerate(marks) if ">" in mark),
        **rest,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A titled list, or code to paste."""

    title: str
    items: tuple[str, ...] = ()
    code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Datum:
    """One point in the data's own units; an unknown end of its interval is None."""

    #: A name where the axis has names.
    x: float | str
    y: float
    low: float | None = None
    high: float | None = None
    #: What else is known of it.
    note: str = ""


def place_estimates(pairs: Iterable[tuple[float | str, Estimate]]) -> tuple[Datum, ...]:
    """Return a point with its interval for each estimate that has one."""
    return tuple(
        Datum(x=x, y=each.point, low=each.low, high=each.high)
        for x, each in pairs
        if each.point is not None
    )


#: How a line is drawn: as seen or as a law says, both joined; each point by itself, as a cross
#: where something failed; or as bars, those of several lines upon each other.
Style = Literal["measured", "predicted", "points", "failures", "bars"]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart."""

    label: str
    data: tuple[Datum, ...]
    style: Style = "measured"


@dataclass(frozen=True, slots=True)
class Mark:
    """A place on an axis, or all from there to another."""

    label: str
    at: float
    to: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A chart; with fewer than two points it is not drawn."""

    title: str
    #: What it shows, in a sentence.
    caption: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    log_x: bool = True
    log_y: bool = False
    x_marks: tuple[Mark, ...] = ()
    y_marks: tuple[Mark, ...] = ()


#: How a stage ended: what it says was seen, follows from a law, is open, or was not looked at.
State = Literal["measured", "predicted", "inconclusive", "skipped"]


@dataclass(frozen=True, slots=True)
class Status:
    """How one stage ended, in a few words."""

    label: str
    text: str
    state: State = "measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """What decides, on one screen; all else is in the full report."""

    #: One line.
    answer: str
    #: What to type for it.
    settings: tuple[str, ...] = ()
    #: What it gains and what limits it, a line each.
    lines: tuple[str, ...] = ()
    #: Of all warnings, those that would change what a reader does.
    cautions: tuple[str, ...] = ()
    #: The rows around the answer.
    table: Table | None = None
    #: The command to type now.
    next_step: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """All that a question tells; empty parts are left out."""

    rows: tuple[Row, ...] = ()
    #: Shown above all rows.
    tables: tuple[Table, ...] = ()
    #: Shown below them.
    details: tuple[Table, ...] = ()
    #: Reasons, warnings and code, after the details.
    passages: tuple[Passage, ...] = ()
    charts: tuple[Chart, ...] = ()
