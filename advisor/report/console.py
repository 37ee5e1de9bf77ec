"""What the questions tell, arranged on a terminal: the answer first, then what it rests on."""

from collections.abc import Iterable

from rich.console import Console, ConsoleRenderable, Group
from rich.table import Table as RichTable
from rich.text import Text

from advisor.engine.conclusions import Conclusions
from advisor.engine.question import Kind
from advisor.report.encoding import write_encodable
from advisor.report.sources import list_sources
from advisor.report.tables import draw_item, draw_tables
from advisor.telling import Headline, Passage, Row, Told

#: Columns of the labels, wide enough for "Learning rate".
LABEL_WIDTH = 13


def write_report(
    console: Console, kind: Kind, conclusions: Conclusions, *, headline_only: bool = False
) -> None:
    """Print the report, or its headline alone, in characters that the console can show."""
    headline = kind.headline(conclusions)
    answer = Text(headline.answer, style="bold")
    write_encodable(console, answer if headline_only else _draw_report(kind, conclusions))


def write_part(
    console: Console, headline: Headline, told: Told, *, headline_only: bool = False
) -> None:
    """Print what one question of a record tells, or its headline alone."""
    answer = Text(headline.answer, style="bold")
    write_encodable(console, answer if headline_only else Group(*_draw(headline, told)))


def collect(kind: Kind, conclusions: Conclusions) -> Told:
    """Return what all questions of the kind tell, in the order of the report."""
    told = kind.told or kind.questions
    parts = [each.tell(conclusions) for each in told if each.tell is not None]
    return Told(
        rows=tuple(row for part in parts for row in part.rows),
        tables=tuple(table for part in parts for table in part.tables),
        details=tuple(table for part in parts for table in part.details),
        passages=tuple(passage for part in parts for passage in part.passages),
        charts=tuple(chart for part in parts for chart in part.charts),
    )


def _draw_report(kind: Kind, conclusions: Conclusions) -> ConsoleRenderable:
    parts = _draw(kind.headline(conclusions), collect(kind, conclusions))
    return Group(*parts, Text(), draw_rows(list_sources(kind, conclusions.record)))


def _draw(headline: Headline, told: Told) -> list[ConsoleRenderable]:
    parts: list[ConsoleRenderable] = [Text(headline.answer, style="bold")]
    parts += [Text(remark) for remark in headline.remarks]
    parts += draw_tables(told.tables)
    parts += [Text(), draw_rows(told.rows)] if told.rows else []
    parts += draw_tables(told.details)
    for passage in told.passages:
        parts += draw_passage(passage)
    return parts


def write_facts(console: Console, rows: Iterable[Row]) -> None:
    """Print rows of label and text, the labels as wide as they are."""
    grid = RichTable.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for row in rows:
        grid.add_row(Text(row.label, style="bold"), Text(row.text))
    write_encodable(console, grid)


def draw_rows(rows: Iterable[Row]) -> RichTable:
    """Return rows of label and text; a label that repeats is shown once."""
    grid = RichTable.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=LABEL_WIDTH, no_wrap=True)
    grid.add_column(overflow="fold")
    previous = None
    for row in rows:
        label = "" if row.label == previous else row.label
        grid.add_row(Text(label, style="bold"), Text(row.text))
        previous = row.label
    return grid


def draw_passage(passage: Passage) -> list[ConsoleRenderable]:
    """Return the passage under its title, a blank line before it."""
    title = [Text(passage.title, style="bold")] if passage.title else []
    return [Text(), *title, _draw_body(passage)]


def _draw_body(passage: Passage) -> ConsoleRenderable:
    if passage.code:
        return Text(passage.code.rstrip("\n"), no_wrap=True, overflow="ignore")
    return Group(*map(draw_item, passage.items))
